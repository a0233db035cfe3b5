"""When was this picture taken? What RTP timestamps, arrivals and sender reports say. No I/O.

A timestamp counts ticks of the camera's clock from a random beginning. Three things are made of it:

* **The line.** ``arrival - ticks / hz`` is smallest for the picture that waited least on its way.
  That smallest value, kept over some seconds, gives each picture the time at which it would have
  come if it had not been held up. A camera that begins with pictures of the last ten seconds from
  its store, or a network that stood still, cannot pass old pictures off as new ones.
* **The camera's own time.** An RTCP sender report (RFC 3550, 6.4.1) says which wall time, by the
  camera's clock, belongs to a timestamp. That is a frame's ``frame_at_ms``, right or wrong.
* **Whether to believe it.** If the camera's time and the line differ by what a way may take, the
  camera's clock is right, and says exactly when the picture was taken.

:func:`is_fresh` then decides what a shutter means for a stream that runs all the time. Worked
example, shutter at 10.000, the camera's clock right, pictures each 0.1 s which take 0.15 s:

    taken 9.92, came 10.07: came after the shutter, taken before it → no
    taken 10.02, came 10.17 → yes

Where the camera's clock is not believed, the least time from exposure to arrival is a setting
(``latency_s``), and the picture must come that much after the shutter.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from connectors.cameras.rtp import unwrap

if TYPE_CHECKING:
    from collections.abc import Iterator

    from connectors.cameras.rtp import AccessUnit

NTP_EPOCH_S: Final = 2_208_988_800
"""From 1900 to 1970."""
EARLIEST_MS: Final = 1_577_836_800_000
"""2020-01-01: a camera that says less counts from when it was switched on."""
MAX_WAY_MS: Final = 2_000
"""A picture that is on its way for longer shows a wrong clock, not a long way."""
CLOCK_ERROR_MS: Final = 50
"""How far ahead of ours a camera's clock may be and still be believed."""
LINE_S: Final = 10.0
"""The line is the smallest value of the last one to two such spans: clocks drift apart."""
JUMP_S: Final = 10.0
"""A picture so far off the line shows that the camera's clock was set, and the line begins anew."""
SENDER_REPORT: Final = 200


class SenderReport(NamedTuple):
    """What a camera says about its clock."""

    ssrc: int
    ntp_ms: float
    """UTC milliseconds since 1970, by the camera's clock."""
    timestamp: int


@dataclass(frozen=True, slots=True)
class Shutter:
    """The moment a capture is asked for, on both clocks."""

    at_s: float
    """On the clock that arrivals are told in."""
    at_ms: float
    """UTC milliseconds."""


def sender_reports(data: bytes) -> Iterator[SenderReport]:
    """Yield the sender reports in a compound RTCP packet; ends where it is damaged."""
    at = 0
    while at + 8 <= len(data) and data[at] >> 6 == 2:
        size = 4 + 4 * int.from_bytes(data[at + 2 : at + 4], "big")
        if data[at + 1] == SENDER_REPORT and size >= 28 and at + size <= len(data):
            ssrc, seconds, fraction, timestamp = (
                int.from_bytes(data[at + n : at + n + 4], "big") for n in (4, 8, 12, 16)
            )
            ntp_ms = (seconds - NTP_EPOCH_S) * 1000 + fraction * 1000 / 2**32
            yield SenderReport(ssrc, ntp_ms, timestamp)
        at += size


def picture_loss(sender: int, media: int) -> bytes:
    """Return an RTCP packet that asks for a key frame (RFC 4585, 6.3.1), behind an empty report."""
    ours, theirs = sender.to_bytes(4, "big"), media.to_bytes(4, "big")
    return b"\x80\xc9\x00\x01" + ours + b"\x81\xce\x00\x02" + ours + theirs


def receiver_report(sender: int) -> bytes:
    """Return an empty RTCP receiver report."""
    return b"\x80\xc9\x00\x01" + sender.to_bytes(4, "big")


class FrameClock:
    """What is known about the clock of one stream; ``hz``: its ticks a second."""

    def __init__(self, hz: int) -> None:
        self._hz = hz
        self._line_s: float | None = None
        self._before_s: float | None = None
        self._span_at_s = 0.0
        self._last: tuple[int, float] | None = None
        self._report: tuple[float, int] | None = None
        self.settled = False
        """Pictures come at the pace at which they are taken, so the newest is not an old one."""
        self.interval_s = 0.0
        """From the picture before to the last one, by the camera's ticks."""

    def seen(self, ticks: int, at_s: float) -> None:
        """A picture came."""
        offset_s = at_s - ticks / self._hz
        line_s = self._smallest()
        if line_s is None or abs(offset_s - line_s) > JUMP_S:
            self._line_s, self._before_s, self._span_at_s = offset_s, None, at_s
            self.settled = False
        elif at_s - self._span_at_s > LINE_S:
            self._before_s, self._line_s, self._span_at_s = self._line_s, offset_s, at_s
        else:
            self._line_s = min(self._line_s or offset_s, offset_s)
        if self._last is not None and ticks > self._last[0]:
            self.interval_s = (ticks - self._last[0]) / self._hz
            if at_s - self._last[1] >= self.interval_s / 2:
                self.settled = True
        self._last = ticks, at_s

    def report(self, report: SenderReport) -> None:
        """A sender report came."""
        if self._last is not None and report.ntp_ms >= EARLIEST_MS:
            self._report = report.ntp_ms, unwrap(report.timestamp, self._last[0])

    def arrival_s(self, ticks: int) -> float:
        """Return when a picture would have come if nothing had held it up."""
        return ticks / self._hz + (self._smallest() or 0.0)

    def camera_ms(self, ticks: int) -> float | None:
        """Return when a picture was taken by the camera's clock, where it has said so."""
        if self._report is None:
            return None
        ntp_ms, at_ticks = self._report
        return ntp_ms + (ticks - at_ticks) * 1000 / self._hz

    def _smallest(self) -> float | None:
        if self._line_s is None or self._before_s is None:
            return self._line_s
        return min(self._line_s, self._before_s)


def is_fresh(unit: AccessUnit, clock: FrameClock, shutter: Shutter, latency_s: float) -> bool:
    """Say whether a picture was taken after the shutter; see the module's text."""
    if unit.at_s < shutter.at_s:
        return False
    arrival_s = clock.arrival_s(unit.ticks)
    taken_ms = clock.camera_ms(unit.ticks)
    if taken_ms is not None:
        arrival_ms = shutter.at_ms + (arrival_s - shutter.at_s) * 1000
        if -CLOCK_ERROR_MS <= arrival_ms - taken_ms <= MAX_WAY_MS:
            return taken_ms >= shutter.at_ms
    return arrival_s >= shutter.at_s + latency_s
