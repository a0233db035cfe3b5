"""A fake NTP server on a real socket, whose clock and manners a test can turn.

It passes the contract tests of a real one (``test_ntp_server_contract.py``), where chronyd does.
"""

from __future__ import annotations

import socket
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from streams.core import ntp_packet
from streams.core.ntp_packet import ntp_timestamp

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass
class Manners:
    """How the server answers; a test may change it at any time."""

    offset_s: float = 0.0
    """What its clock is ahead of the machine's."""
    drift: float = 0.0
    """Seconds a second by which that grows."""
    stratum: int = 2
    leap: int = 0
    kiss: str = ""
    root_delay_s: float = 0.0
    root_dispersion_s: float = 0.0
    silent: bool = False
    wrong_origin: bool = False
    mode: int = ntp_packet.SERVER_MODE
    cut_to: int = ntp_packet.PACKET_BYTES
    backwards: bool = False
    """The answer is said to have left before the question came."""
    forged_first: bytes = b""
    """Sent before each answer, as by somebody else who has guessed port and address."""
    copies: int = 1
    after_receive: Callable[[], None] = field(default=lambda: None)


class FakeNtpServer:
    """Serves on 127.0.0.1 in a thread of its own, until it is closed."""

    def __init__(self, port: int = 0, **manners: object) -> None:
        self.manners = Manners(**manners)  # type: ignore[arg-type]
        self.asked = 0
        self.questions: list[bytes] = []
        self._started_s = time.monotonic()
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", port))
        self._socket.settimeout(0.05)
        self.port = self._socket.getsockname()[1]
        self.address = f"127.0.0.1:{self.port}"
        self._closing = False
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def now_s(self) -> float:
        passed_s = time.monotonic() - self._started_s
        return time.time() + self.manners.offset_s + self.manners.drift * passed_s

    def _serve(self) -> None:
        while not self._closing:
            try:
                question, client = self._socket.recvfrom(512)
            except TimeoutError:
                continue
            received_s = self.now_s()
            self.asked += 1
            self.questions.append(question)
            manners = self.manners
            manners.after_receive()
            if manners.silent or len(question) < ntp_packet.PACKET_BYTES:
                continue
            if manners.forged_first:
                self._socket.sendto(manners.forged_first, client)
            for _ in range(manners.copies):
                self._socket.sendto(self._answer(question, received_s), client)

    def _answer(self, question: bytes, received_s: float) -> bytes:
        manners = self.manners
        cookie = ntp_packet.PACKET.unpack(question)[-1]
        name = manners.kiss.encode() if manners.kiss else b"FAKE"
        packet = ntp_packet.PACKET.pack(
            manners.leap << 6 | ntp_packet.VERSION << 3 | manners.mode,
            0 if manners.kiss else manners.stratum,
            6,
            -20,
            round(manners.root_delay_s * 65_536),
            round(manners.root_dispersion_s * 65_536),
            int.from_bytes(name, "big"),
            ntp_timestamp(received_s - 10.0),
            cookie ^ manners.wrong_origin,
            ntp_timestamp(received_s),
            ntp_timestamp(received_s - 1.0 if manners.backwards else self.now_s()),
        )
        return packet[: manners.cut_to]

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            self._thread.join()
            self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()
