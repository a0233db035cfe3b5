"""Wall time that is slewed, not stepped.

Wall time is the monotonic clock plus an *offset*. What the offset should be is told every 30 s
(SPEC 1.5), by NTP servers where some are configured (``ntp.py``), else by the machine's own wall
clock, which its NTP service keeps; once servers have answered, the machine's wall clock is never
asked again. Small differences are slewed, at most 0.5 ms a second, so that no timer is early or
doubled; a difference over ``JUMP_MS`` is a **jump**: it is logged, counted and adopted at once, and
what it skipped is the misfire policy's business. Servers that want a jump must want it twice.

The offset is a *course*: a value at a moment, the drift of the machine's oscillator as far as the
servers have shown it, and what is still to be slewed. Reading the clock changes nothing, so any
thread may; only the one that made the clock compares and corrects. Example: course (since 100 s,
offset 900 s, drift +20 ppm, slew +6 ms); at 110 s the offset is 900 + 0.0002 + min(6, 10 x 0.48) ms
= 900.005 s, and 1.2 ms are left to slew.

The **error bound** is the servers' own at their last agreement, and what is left to slew, and the
wandering of the oscillator since: 15 ppm where its drift is known, 100 ppm where it is not. While
no server answers the clock runs on by its course, and the bound grows. Nothing decides by it.

Comparing the clock with the broker's is the transaction's business (``transaction.py``).
"""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from streams.core.ntp_select import DRIFT, FREE_DRIFT

if TYPE_CHECKING:
    from collections.abc import Callable

    from streams.core.ntp_select import Agreement

SLEW_PER_S = 0.0005
"""Seconds of correction a second, drift included: 500 ppm, as ntpd does."""
COMPARE_EVERY_S = 30.0
JUMP_MS = 1_000
TELLING_S = 1e-5
"""A correction of less than 10 microseconds is made, but not told: it is noise."""
KEPT = 64
"""How many corrections are remembered for the ticks; ticks come every second."""
_TRIES = 3
_CLOSE_S = 2e-6

Kind = Literal["start", "slew", "step"]
Answer = Literal["start", "slew", "step", "doubt"]


@dataclass(frozen=True, slots=True)
class Correction:
    """One correction of the clock."""

    number: int
    """1, 2, 3… since the worker's start."""
    kind: Kind
    """``slew``: spread over time; ``step``: at once; ``start``: at once, before anything ran."""
    amount_s: float
    """What is added to the clock."""
    at_ms: int
    """The clock's own time when it was corrected, before a step."""


@dataclass(frozen=True, slots=True)
class _Course:
    """The offset as a function of monotonic time."""

    since_s: float
    offset_s: float
    slew_s: float = 0.0
    drift: float = 0.0

    def offset_at(self, now_s: float) -> float:
        passed_s = max(now_s - self.since_s, 0.0)
        return self.offset_s + self.drift * passed_s + self._slewed(passed_s)

    def left_at(self, now_s: float) -> float:
        return self.slew_s - self._slewed(max(now_s - self.since_s, 0.0))

    def _slewed(self, passed_s: float) -> float:
        if not self.slew_s:
            return 0.0
        most_s = passed_s * (SLEW_PER_S - abs(self.drift))
        return max(-most_s, min(most_s, self.slew_s))


@dataclass(frozen=True, slots=True)
class _Bound:
    """The error bound as it was told."""

    at_s: float
    error_s: float
    growth: float


def _boottime_s() -> float:
    """Return monotonic seconds that go on while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Clock:
    """The worker's wall clock, in UTC milliseconds."""

    def __init__(
        self,
        wall_s: Callable[[], float] = time.time,
        monotonic_s: Callable[[], float] = _boottime_s,
        on_jump: Callable[[float], None] | None = None,
        on_correction: Callable[[Correction], None] | None = None,
    ) -> None:
        """Take the sources.

        ``on_jump`` is told the milliseconds of each jump, ``on_correction`` of each correction,
        jumps included; both in the thread that makes the clock.
        """
        self._wall_s = wall_s
        self._monotonic_s = monotonic_s
        self._on_jump = on_jump
        self._on_correction = on_correction
        self._thread = threading.get_ident()
        start_s, wall = self._both()
        self._course = _Course(start_s, wall - start_s)
        self._bound: _Bound | None = None
        self._doubt_s: float | None = None
        self._compared_at_s = start_s
        self._corrections: deque[Correction] = deque(maxlen=KEPT)
        self._number = 0

    # -- reading -------------------------------------------------------------------------------

    def now_s(self) -> float:
        """Return UTC seconds."""
        now_s = self._monotonic_s()
        if (
            now_s - self._compared_at_s >= COMPARE_EVERY_S
            and self._bound is None
            and threading.get_ident() == self._thread
        ):
            self._compare()
        return now_s + self._course.offset_at(now_s)

    def now_ms(self) -> int:
        """Return UTC milliseconds, rounded down: a time that has been reached."""
        return int(self.now_s() * 1000.0)

    def wait_s(self, span_s: float) -> float:
        """Return how long to wait, in real seconds, until so many have passed on this clock."""
        return span_s

    def monotonic_s(self) -> float:
        """Return the monotonic seconds that this clock stands on."""
        return self._monotonic_s()

    @property
    def disciplined(self) -> bool:
        """Whether NTP servers have ever set this clock; if not, it is the machine's own."""
        return self._bound is not None

    def offset_s(self) -> float:
        """Return how far the reference is ahead of this clock: what is still to be slewed."""
        if self._bound is None:
            return self.behind_wall_ms() / 1000.0
        return self._course.left_at(self._monotonic_s())

    def error_s(self) -> float | None:
        """Return the bound of this clock's error; ``None``: not known, as no server ever set it."""
        bound = self._bound
        if bound is None:
            return None
        now_s = self._monotonic_s()
        return (
            bound.error_s
            + abs(self._course.left_at(now_s))
            + bound.growth * max(now_s - bound.at_s, 0.0)
        )

    @property
    def drift(self) -> float:
        """By how many seconds a second the machine's oscillator is slow, as far as is known."""
        return self._course.drift

    def behind_wall_ms(self) -> float:
        """Return how far the system's wall clock is ahead of this one."""
        now_s, wall_s = self._both()
        return (wall_s - now_s - self._course.offset_at(now_s)) * 1000.0

    def corrections(self, after: int) -> tuple[Correction, ...]:
        """Return the corrections with a number above ``after``, the last ``KEPT`` at most."""
        if self._number <= after:
            return ()
        return tuple(one for one in self._corrections if one.number > after)

    # -- correcting ----------------------------------------------------------------------------

    def start_at(self, agreement: Agreement) -> None:
        """Adopt what the servers agree on, whatever it is; only before anything has used it."""
        now_s = self._monotonic_s()
        was_s = self._course.offset_at(now_s)
        self._course = _Course(now_s, agreement.offset_s)  # of now: the vote was just held
        self._bound = _Bound(agreement.at_s, agreement.error_s, FREE_DRIFT)
        self._tell("start", agreement.offset_s - was_s, now_s + was_s)

    def measured(self, agreement: Agreement, drift: float | None = None) -> Answer:
        """Follow what the servers agree on; ``drift``: that of the oscillator, where it is known.

        ``doubt``: they want a jump for the first time; ask them again soon.
        """
        now_s = self._monotonic_s()
        kept = self._course.drift if drift is None else drift
        offset_s = agreement.offset_s + kept * (now_s - agreement.at_s)
        amount_s = offset_s - self._course.offset_at(now_s)
        jump_s = JUMP_MS / 1000.0
        if abs(amount_s) > jump_s and (
            self._doubt_s is None or abs(amount_s - self._doubt_s) > jump_s / 2.0
        ):
            self._doubt_s = amount_s
            return "doubt"
        self._doubt_s = None
        # The line through the rounds before a jump tells nothing of those after it.
        growth = FREE_DRIFT if drift is None else DRIFT
        self._bound = _Bound(agreement.at_s, agreement.error_s, growth)
        return self._correct(amount_s, now_s, 0.0 if abs(amount_s) > jump_s else kept)

    def _compare(self) -> None:
        now_s, wall_s = self._both()
        self._compared_at_s = now_s
        self._correct(wall_s - now_s - self._course.offset_at(now_s), now_s, 0.0)

    def _correct(self, amount_s: float, now_s: float, drift: float) -> Kind:
        offset_s = self._course.offset_at(now_s)
        if abs(amount_s) * 1000.0 > JUMP_MS:
            self._course = _Course(now_s, offset_s + amount_s, 0.0, drift)
            self._tell("step", amount_s, now_s + offset_s)
            if self._on_jump is not None:
                self._on_jump(amount_s * 1000.0)
            return "step"
        self._course = _Course(now_s, offset_s, amount_s, drift)
        if abs(amount_s) >= TELLING_S:
            self._tell("slew", amount_s, now_s + offset_s)
        return "slew"

    def _tell(self, kind: Kind, amount_s: float, was_s: float) -> None:
        """Remember a correction and tell of it; ``was_s``: the clock's time before it."""
        self._number += 1
        correction = Correction(self._number, kind, amount_s, int(was_s * 1000.0))
        self._corrections.append(correction)
        if self._on_correction is not None:
            self._on_correction(correction)

    def _both(self) -> tuple[float, float]:
        """Return the monotonic and the wall clock as of one moment.

        Another thread may run between the two readings; of a few tries the closest pair counts.
        """
        best: tuple[float, float, float] | None = None
        for _ in range(_TRIES):
            before_s = self._monotonic_s()
            wall_s = self._wall_s()
            gap_s = self._monotonic_s() - before_s
            if best is None or gap_s < best[0]:
                best = (gap_s, before_s + gap_s / 2.0, wall_s)
            if gap_s < _CLOSE_S:
                break
        assert best is not None
        return best[1], best[2]
