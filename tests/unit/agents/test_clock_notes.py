"""What ticks tell of the clock (SPEC 1.5), and that nothing is decided by it."""

from __future__ import annotations

import msgspec
import pytest

from schemas.codec import Codec
from schemas.ids import FingerprintIds
from schemas.records import ClockCorrection, ClockState, ScheduleTick, TickSettings
from streams.agents.clock_notes import ClockNotes
from streams.core.ntp_select import Agreement
from streams.core.shard import RULES_VERSION, PartitionState, advance
from streams.runtime.clock import Clock


class Hands:
    """A clock whose sources a test turns."""

    def __init__(self):
        self.wall_s, self.monotonic_s = 1_800_000_000.0, 10.0
        self.clock = Clock(lambda: self.wall_s, lambda: self.monotonic_s)
        self.notes = ClockNotes(self.clock)

    def agree(self, ahead_s, error_s=0.002):
        at_s = self.monotonic_s
        return Agreement(self.wall_s + ahead_s - at_s, error_s, at_s, at_s, ("a",), ())


def test_the_machines_own_clock_has_no_bound():
    hands = Hands()
    hands.wall_s += 0.004
    assert hands.notes.take(0) == ClockState("machine", 4.0, None, ())


def test_offset_bound_and_each_correction_stand_in_the_ticks_once():
    hands = Hands()
    hands.clock.start_at(hands.agree(60.0))
    hands.clock.measured(hands.agree(60.1))
    first, second = hands.notes.take(3), hands.notes.take(3)
    assert first.source == "ntp"
    assert first.offset_ms == pytest.approx(100.0, abs=0.001)
    assert first.error_ms == pytest.approx(102.0, abs=0.001)
    assert [(one.kind, round(one.amount_ms)) for one in first.corrections] == [
        ("start", 60_000),
        ("slew", 100),
    ]
    assert first.corrections[0].at_ms == 1_800_000_000_000
    assert second == msgspec.structs.replace(first, corrections=())
    assert len(hands.notes.take(4).corrections) == 2, "each partition is told"


@pytest.mark.parametrize("clock", [None, ClockState("ntp", 999.0, 5_000.0, ())])
def test_the_fold_does_not_look_at_it(clock):
    def fold(clock):
        state = PartitionState(0, 1)
        state.load([], [], [])
        tick = ScheduleTick(
            partition=0,
            partitions=1,
            time_ms=1_800_000_000_000,
            rules_version=RULES_VERSION,
            tz_version="",
            settings=TickSettings(),
            changes=(),
            clock=clock,
        )
        outputs = advance(state, tick)
        return outputs.decisions, outputs.commands, outputs.rows

    assert fold(clock) == fold(None)


@pytest.mark.parametrize(
    "clock",
    [
        None,
        ClockState("machine", 0.25),
        ClockState("ntp", -1.5, 0.75, (ClockCorrection("slew", -1.5, 1_800_000_000_000),)),
    ],
)
def test_it_comes_back_from_the_log(clock):
    codec = Codec(FingerprintIds())
    tick = ScheduleTick(0, 1, 1_800_000_000_000, 1, "", TickSettings(), (), clock=clock)
    assert codec.decode(codec.encode(tick)) == tick
