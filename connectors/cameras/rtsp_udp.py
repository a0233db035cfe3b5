"""The two UDP sockets of a stream: RTP on an even port, RTCP on the next one.

They listen on the address that the camera was connected from, and take packets only from the
address that it was connected at: what a header or an SDP names as a source counts for nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import TYPE_CHECKING, Final, cast

from schemas.errors import CameraError

if TYPE_CHECKING:
    from collections.abc import Callable

PAIR_TRIES: Final = 20
RECEIVE_BUFFER_BYTES: Final = 1024 * 1024
"""Asked of the kernel for a key frame that comes at once; it may give less."""


class UdpPair:
    """Two sockets; ``on_data`` takes (0 for RTP, 1 for RTCP; packet)."""

    def __init__(self, peer_ip: str, on_data: Callable[[int, bytes], None]) -> None:
        self._peer_ip = peer_ip
        self._on_data = on_data
        self._transports: list[asyncio.DatagramTransport] = []
        self.ports = (0, 0)
        self._peer_ports = (0, 0)

    async def open(self, local_ip: str) -> None:
        """Open both; raises CameraError ``unreachable`` if there is no free pair of ports."""
        loop = asyncio.get_running_loop()
        pair = _free_pair(local_ip)
        self.ports = cast("tuple[int, int]", tuple(one.getsockname()[1] for one in pair))
        for channel, sock in enumerate(pair):
            transport, _ = await loop.create_datagram_endpoint(
                lambda channel=channel: _Receiver(self._peer_ip, channel, self._on_data),  # type: ignore[misc]
                sock=sock,
            )
            self._transports.append(transport)

    def aim(self, ports: tuple[int, int]) -> None:
        """Learn the camera's ports (0: not said)."""
        self._peer_ports = ports

    def send(self, channel: int, data: bytes) -> None:
        """Send to the camera, where its port is known."""
        port = self._peer_ports[channel]
        if port and self._transports and not self._transports[channel].is_closing():
            self._transports[channel].sendto(data, (self._peer_ip, port))

    def close(self) -> None:
        """Close both."""
        for transport in self._transports:
            transport.abort()


class _Receiver(asyncio.DatagramProtocol):
    def __init__(self, peer_ip: str, channel: int, on_data: Callable[[int, bytes], None]) -> None:
        self._peer_ip = peer_ip
        self._channel = channel
        self._on_data = on_data

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """Hand on what the camera sent."""
        if addr[0] == self._peer_ip:
            self._on_data(self._channel, data)


def _free_pair(local_ip: str) -> tuple[socket.socket, socket.socket]:
    family = socket.AF_INET6 if ":" in local_ip else socket.AF_INET
    for _ in range(PAIR_TRIES):
        first = _bound(family, local_ip, 0)
        if first is None:
            break
        port = first.getsockname()[1]
        second = _bound(family, local_ip, port ^ 1)
        if second is not None:
            return (first, second) if port % 2 == 0 else (second, first)
        first.close()
    raise CameraError("unreachable", "no two UDP ports side by side are free on this machine")


def _bound(family: socket.AddressFamily, ip: str, port: int) -> socket.socket | None:
    sock = socket.socket(family, socket.SOCK_DGRAM)
    sock.setblocking(False)
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
        sock.bind((ip, port))
        return sock
    sock.close()
    return None
