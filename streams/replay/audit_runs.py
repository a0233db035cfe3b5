"""Quiet ticks wait until there are some, and are folded together (``audit_quiet.py``)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from streams.core.step import SINCE_RULES
from streams.replay.audit_quiet import QuietFold

if TYPE_CHECKING:
    from schemas.codec import Codec
    from schemas.records import ScheduleTick
    from streams.core.partition import PartitionState
    from streams.core.step import Outputs
    from streams.replay.audit_quiet import Fires

MOST_TICKS: Final = 256
"""Ticks that are folded together at most."""
FEWEST_TICKS: Final = 4
MOST_WAITS: Final = 63
"""Ticks that go by themselves, at most, after a try that was in vain."""
UNFOLDABLE: Final = (ValueError, LookupError, ArithmeticError, TypeError, AssertionError)
"""What a tick may raise that was tampered with."""


class Pace:
    """How many ticks are tried together: fewer where many are not plain, as a try costs."""

    def __init__(self) -> None:
        self.most = MOST_TICKS
        self._wait = self._waits = 0

    def ready(self) -> bool:
        """Say whether to try; else one tick goes by itself."""
        if self._wait:
            self._wait -= 1
            return False
        return True

    def went(self, count: int, tried: int) -> None:
        """Take in how many of those that were tried could be folded together."""
        if count == tried:
            self.most, self._waits = min(2 * self.most, MOST_TICKS), 0
        elif count:
            self.most, self._wait, self._waits = max(2 * count, FEWEST_TICKS), 1, 0
        else:
            self.most = FEWEST_TICKS
            self._wait = self._waits = min(2 * self._waits + 1, MOST_WAITS)


class QuietRun:
    """Ticks that wait to be folded together, with their offsets."""

    def __init__(self, codec: Codec) -> None:
        """Take the codec that has the tables."""
        self.waiting: list[tuple[int, ScheduleTick]] = []
        self._codec = codec
        self._pace = Pace()
        self._state: PartitionState | None = None
        self._fold: QuietFold | None = None
        """What folds them; of the present state."""

    def fits(self, tick: ScheduleTick, state: PartitionState | None) -> bool:
        """Say whether a tick, which is of known rules, can be folded with those that wait."""
        if state is None or tick.changes or tick.facts or state.behind is not None:
            return False
        if tick.rules_version >= SINCE_RULES and tick.tz_version != state.tz_version:
            return False  # an upgrade of the tz data is the fold's
        before = self.waiting[-1][1] if self.waiting else None
        return (
            (tick.partition, tick.partitions) == (state.partition, state.partitions)
            and tick.time_ms > (state.time_ms if before is None else before.time_ms)
            and (before is None or tick.settings == before.settings)
        )

    @property
    def is_full(self) -> bool:
        """Say whether no more should wait."""
        return len(self.waiting) >= MOST_TICKS

    def take(self) -> list[tuple[int, ScheduleTick]]:
        """Return the ticks that wait; none wait any more."""
        run, self.waiting = self.waiting, []
        return run

    def forget(self) -> None:
        """Note that recurrences of the state may have become others."""
        self._fold = None

    def changed(self, outputs: Outputs) -> None:
        """Take in what a tick has done to the state that was folded by itself."""
        if self._fold is not None:
            self._fold.changed(outputs)

    def fold(
        self, run: list[tuple[int, ScheduleTick]], at: int, state: PartitionState
    ) -> tuple[int, Fires | None]:
        """Fold ticks of a run, from one on, into the state; return how many, and what they made."""
        if not self._pace.ready():
            return 0, None
        if self._fold is None or self._state is not state:
            self._fold, self._state = QuietFold(state, self._codec), state
        ticks = [tick for _, tick in run[at : at + self._pace.most]]
        try:
            count, fires = self._fold.fold(ticks)
        except UNFOLDABLE:
            count, fires = 0, None  # told of the one that it is
        self._pace.went(count, len(ticks))
        return count, fires
