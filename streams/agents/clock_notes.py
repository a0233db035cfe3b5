"""What a tick tells of the clock that gave its time (SPEC 1.5): for audit, deciding nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from schemas.records import ClockCorrection, ClockState

if TYPE_CHECKING:
    from streams.runtime.clock import Clock


class ClockNotes:
    """Tells each partition's ticks of each correction once."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._told: dict[int, int] = {}

    def take(self, partition: int) -> ClockState:
        """Return the state of the clock, with the corrections since the last call."""
        clock = self._clock
        error_s = clock.error_s()
        new = clock.corrections(self._told.get(partition, 0))
        if new:
            self._told[partition] = new[-1].number
        return ClockState(
            source="ntp" if clock.disciplined else "machine",
            offset_ms=_ms(clock.offset_s()),
            error_ms=None if error_s is None else _ms(error_s),
            corrections=tuple(
                ClockCorrection(one.kind, _ms(one.amount_s), one.at_ms) for one in new
            ),
        )


def _ms(seconds: float) -> float:
    """Return milliseconds to the microsecond, which is all that a clock of today's seconds has."""
    return round(seconds * 1000.0, 3)
