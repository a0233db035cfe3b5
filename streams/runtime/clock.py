"""Wall time that is slewed, not stepped.

Wall time is the monotonic clock plus an offset. The offset is compared with the system's wall
clock every 30 s (SPEC 1.5): small differences are slewed, at most 0.5 ms a second, so that no
timer is early or doubled; a difference over ``jump_ms`` is a **jump**: it is logged, counted and
adopted at once, and what it skipped is the misfire policy's business.

The system's wall clock is kept by the machine's own NTP service; comparing it with the broker's
is the transaction's business (``transaction.py``).
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

SLEW_PER_S = 0.0005
"""Seconds of correction a second: 500 ppm, as ntpd does."""
COMPARE_EVERY_S = 30.0
JUMP_MS = 1_000


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
    ) -> None:
        """Take the sources; ``on_jump`` is told the milliseconds of each jump."""
        self._wall_s = wall_s
        self._monotonic_s = monotonic_s
        self._on_jump = on_jump
        start = monotonic_s()
        self._offset_s = wall_s() - start
        self._slew_left_s = 0.0
        self._compared_at_s = start
        self._advanced_at_s = start

    def now_s(self) -> float:
        """Return UTC seconds."""
        now = self._monotonic_s()
        if self._slew_left_s:
            self._slew(now)
        if now - self._compared_at_s >= COMPARE_EVERY_S:
            self._compare(now)
        return now + self._offset_s

    def now_ms(self) -> int:
        """Return UTC milliseconds, rounded down: a time that has been reached."""
        return int(self.now_s() * 1000.0)

    def behind_wall_ms(self) -> float:
        """Return how far the system's wall clock is ahead of this one."""
        return (self._wall_s() - self._monotonic_s() - self._offset_s) * 1000.0

    def _slew(self, now: float) -> None:
        allowed = (now - self._advanced_at_s) * SLEW_PER_S
        part = max(-allowed, min(allowed, self._slew_left_s))
        self._offset_s += part
        self._slew_left_s -= part
        self._advanced_at_s = now

    def _compare(self, now: float) -> None:
        self._compared_at_s = now
        error_s = self._wall_s() - now - self._offset_s
        if abs(error_s) * 1000.0 > JUMP_MS:
            self._offset_s += error_s
            self._slew_left_s = 0.0
            if self._on_jump is not None:
                self._on_jump(error_s * 1000.0)
            return
        self._slew_left_s = error_s
        self._advanced_at_s = now
