"""The current group of pictures of one stream, from its key frame to now. No I/O.

An H.26x picture can be shown only together with all pictures since the last key frame, which a
camera sends once in one to ten seconds. Who keeps these encoded (some hundred kilobytes a second)
can show any picture that comes, at once, at the price of decoding from the key frame on:

    key frame  p  p  p  p  p  | shutter |  p̂   →  decode all eight, keep the last
    kept in memory ───────────────────────┘

A lost picture breaks the chain: what follows cannot be shown until the next key frame. The same
where the group grows past its bounds. With JPEG each picture is a key frame, and the group is one.

:class:`Stream` is the whole receiving side: packets in, the group and its clock kept, and
:meth:`Stream.choose` to find the first picture that was taken after a shutter.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from connectors.cameras.rtp import AccessUnit, Lost, Sequencer, parse_packet
from connectors.cameras.rtp_clock import FrameClock, is_fresh, sender_reports
from connectors.cameras.rtp_h26x import NalDepacketizer
from connectors.cameras.rtp_jpeg import JpegDepacketizer

if TYPE_CHECKING:
    from connectors.cameras.rtp_clock import Shutter
    from connectors.cameras.rtsp_sdp import Video

MAX_GOP_PICTURES: Final = 2_000
"""A minute at 30 pictures a second."""
UDP_WINDOW: Final = 32
"""Packets that wait for one that is late: 45 kB, some milliseconds of a stream."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What to decode for one photo."""

    units: tuple[AccessUnit, ...]
    """From a key frame through to the picture that is wanted, the last."""
    camera_ms: int | None
    """When that was taken, by the camera's own clock; UTC milliseconds."""


class Gop:
    """The pictures since the last key frame, in the order in which they are decoded."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self.units: list[AccessUnit] = []
        self.size = 0
        """Bytes held."""

    def add(self, event: AccessUnit | Lost) -> None:
        """Take what came."""
        if isinstance(event, Lost):
            self._clear()
            return
        if event.key:
            self._clear()
        elif not self.units:
            return
        self.units.append(event)
        self.size += len(event.data)
        if self.size > self._max_bytes or len(self.units) > MAX_GOP_PICTURES:
            self._clear()

    def _clear(self) -> None:
        self.units = []
        self.size = 0


class Stream:
    """One video stream as it comes in: ``video`` says what it is, ``udp`` how it comes."""

    def __init__(self, video: Video, *, udp: bool, max_bytes: int, latency_s: float) -> None:
        self.video = video
        self.clock = FrameClock(video.clock_hz)
        self.gop = Gop(max_bytes)
        self.packets = 0
        """Packets of this stream so far."""
        self.lost = 0
        """Times that pictures were lost."""
        self.last_lost = ""
        self.ssrc: int | None = None
        self.last_at_s: float | None = None
        """When the last packet came."""
        self._latency_s = latency_s
        self._sequencer = Sequencer(UDP_WINDOW if udp else 0)
        self._depacketizer: NalDepacketizer | JpegDepacketizer
        if video.codec == "jpeg":
            self._depacketizer = JpegDepacketizer(max_bytes=max_bytes, size_px=video.size_px)
        else:
            self._depacketizer = NalDepacketizer(video.codec, video.sets, max_bytes=max_bytes)

    def receive_rtp(self, data: bytes, at_s: float) -> bool:
        """Take an RTP packet; say whether a picture is complete now, or known to be lost."""
        packet = parse_packet(data, at_s)
        if packet is None or packet.payload_type != self.video.payload_type:
            return False
        self.packets += 1
        self.ssrc = packet.ssrc
        self.last_at_s = at_s
        news = False
        for ordered in self._sequencer.push(packet):
            for event in self._depacketizer.push(ordered):
                news = True
                self.gop.add(event)
                if isinstance(event, Lost):
                    self.lost += 1
                    self.last_lost = event.why
                else:
                    self.clock.seen(event.ticks, event.at_s)
        return news

    def receive_rtcp(self, data: bytes) -> bool:
        """Take an RTCP packet; say whether it told the camera's time."""
        news = False
        for report in sender_reports(data):
            if report.ssrc == self.ssrc:
                self.clock.report(report)
                news = True
        return news

    @property
    def wants_key(self) -> bool:
        """Packets come, but nothing that can be shown before the next key frame."""
        return self.packets > 0 and not self.gop.units

    def choose(self, shutter: Shutter) -> Choice | None:
        """Return what to decode for the first picture taken after the shutter, if it has come."""
        units = self.gop.units
        first = len(units)
        while first and units[first - 1].at_s >= shutter.at_s:
            first -= 1
        for number in range(first, len(units)):
            unit = units[number]
            if is_fresh(unit, self.clock, shutter, self._latency_s):
                taken_ms = self.clock.camera_ms(unit.ticks)
                camera_ms = None if taken_ms is None else round(taken_ms)
                return Choice(tuple(units[: number + 1]), camera_ms)
        return None
