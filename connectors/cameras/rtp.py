"""RTP (RFC 3550): from datagrams to packets in order, with the gaps marked. No I/O, no clock.

A packet is a header of twelve bytes and a payload:

    80 60 | 12 34 | 00 00 0E 10 | 5E ED 00 01 | payload
    V=2   M,type   timestamp      SSRC
          sequence number

The sequence number rises by one a packet and wraps at 65,536; all packets of one picture have the
same timestamp. Over TCP they come in order, so a missing number was lost at the sender. Over UDP
they may come late: :class:`Sequencer` holds what came too early until the missing packet comes, or
is given up. It is given up when as many wait as the window holds, or when the waiting ones belong
to more than one picture, so that one lost packet costs one picture and no time:

    got 7            → 7
    got 9 (held)     →
    got 8            → 8, 9
    got 11 (held)    →
    got 12, next picture → 11 (gap before it), 12

A number far from the expected one, or another SSRC, is believed when its successor comes
(RFC 3550, A.1): one stray packet changes nothing, a camera that began anew does.

:class:`AccessUnit` is what the depacketizers (``rtp_h26x.py``, ``rtp_jpeg.py``) make of it, one a
picture; :class:`Lost` says that one or more are missing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

HEADER_BYTES: Final = 12
MAX_MISORDER: Final = 100
"""Packets behind the expected one that are late or doubled, no new beginning (RFC 3550, A.1)."""
MAX_DROPOUT: Final = 3_000
"""Packets ahead of the expected one that may be missing (RFC 3550, A.1)."""


class Packet(NamedTuple):
    """One RTP packet."""

    sequence: int
    """0 to 65,535."""
    timestamp: int
    """0 to 2^32 - 1, in ticks of the stream's clock."""
    marker: bool
    """The last packet of a picture."""
    payload_type: int
    ssrc: int
    payload: bytes
    at_s: float
    """When it came, on the receiver's clock."""


class Ordered(NamedTuple):
    """A packet in its order; ``gap``: packets right before it are missing for good."""

    packet: Packet
    gap: bool


@dataclass(frozen=True, slots=True)
class AccessUnit:
    """One picture as it was sent, whole."""

    ticks: int
    """Its RTP timestamp, unwrapped: it does not return to 0 at 2^32."""
    at_s: float
    """When its first packet came."""
    key: bool
    """It can be decoded without the ones before it."""
    data: bytes
    """H.264 and H.265: NAL units behind start codes (Annex B); JPEG: the file."""


@dataclass(frozen=True, slots=True)
class Lost:
    """At least one picture is missing or damaged here."""

    why: str


def parse_packet(data: bytes, at_s: float) -> Packet | None:
    """Return the RTP packet in ``data``; None if it is none."""
    if len(data) < HEADER_BYTES or data[0] >> 6 != 2:
        return None
    start = HEADER_BYTES + 4 * (data[0] & 0x0F)
    end = len(data)
    if data[0] & 0x10:  # a header extension: 2 bytes of its own, 2 of its length in words
        if start + 4 > end:
            return None
        start += 4 + 4 * int.from_bytes(data[start + 2 : start + 4], "big")
    if data[0] & 0x20:  # padding: its length is the last byte
        end -= data[-1] or end
    if start >= end:
        return None
    return Packet(
        sequence=int.from_bytes(data[2:4], "big"),
        timestamp=int.from_bytes(data[4:8], "big"),
        marker=bool(data[1] & 0x80),
        payload_type=data[1] & 0x7F,
        ssrc=int.from_bytes(data[8:12], "big"),
        payload=data[start:end],
        at_s=at_s,
    )


def unwrap(timestamp: int, near: int) -> int:
    """Return the number that is ``timestamp`` modulo 2^32 and nearest to ``near``."""
    return near + ((timestamp - near + 0x8000_0000) & 0xFFFF_FFFF) - 0x8000_0000


class Sequencer:
    """Puts packets in order; holds at most ``window`` of them (0: over TCP, none)."""

    def __init__(self, window: int) -> None:
        self._window = window
        self._expected: int | None = None
        self._ssrc = 0
        self._strange: tuple[int, int] | None = None
        self._held: dict[int, Packet] = {}

    def __len__(self) -> int:
        return len(self._held)

    def push(self, packet: Packet) -> Iterator[Ordered]:
        """Take a packet; yield those that are next."""
        gap = False
        if self._expected is None:
            self._begin(packet)
        ahead = (packet.sequence - (self._expected or 0)) & 0xFFFF
        if packet.ssrc != self._ssrc or MAX_DROPOUT < ahead < 0x1_0000 - MAX_MISORDER:
            if self._strange != (packet.ssrc, packet.sequence):
                self._strange = (packet.ssrc, (packet.sequence + 1) & 0xFFFF)
                return
            self._begin(packet)
            gap = True
        elif ahead > MAX_DROPOUT:
            return  # late, or there already
        self._strange = None
        self._held[packet.sequence] = packet
        yield from self._release(gap)
        while self._held and self._given_up():
            base = self._expected or 0
            self._expected = min(self._held, key=lambda number: (number - base) & 0xFFFF)
            yield from self._release(gap=True)

    def _begin(self, packet: Packet) -> None:
        self._expected, self._ssrc = packet.sequence, packet.ssrc
        self._held.clear()

    def _release(self, gap: bool) -> Iterator[Ordered]:
        while (packet := self._held.pop(self._expected or 0, None)) is not None:
            self._expected = (packet.sequence + 1) & 0xFFFF
            yield Ordered(packet, gap)
            gap = False

    def _given_up(self) -> bool:
        if len(self._held) > self._window:
            return True
        timestamps = {packet.timestamp for packet in self._held.values()}
        return len(timestamps) > 1
