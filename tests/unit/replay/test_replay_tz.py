"""Replay folds ticks of other tz data by them, if they are at hand (ADR 0032; ``replay --tz``)."""

from __future__ import annotations

import msgspec
import pytest

from schemas.records import CapturePolicy, ScheduleSpec, ScheduleTick, ScheduleUpserted
from streams.core.recurrence import zones
from streams.replay.again import fold_again
from tests.unit.core.tz_trees import tree
from tests.unit.replay.recorded import CODEC, START_MS, Recording

OTHER = "1999.1"
ZONE = "Europe/Paris"
HOUR_MS = 3_600_000


class Other(Recording):
    """A recording of wheels that have other tz data."""

    def write(self, state, tick: ScheduleTick) -> None:
        super().write(state, msgspec.structs.replace(tick, tz_version=OTHER))


@pytest.fixture
def data(tmp_path):
    """Data under which the clock of Paris is five and a half hours ahead."""
    found = tree(tmp_path, OTHER, {ZONE: (19_800, [])})
    zones.know(found)
    yield found
    zones._others.pop(OTHER, None)


@pytest.fixture
def recording(data):
    made = Other()
    spec = ScheduleSpec("cron", expression="*/20 * * * *", zone=ZONE)
    daily = ScheduleSpec("cron", expression="30 6 * * *", zone=ZONE)
    made.tick(
        0,
        [
            ScheduleUpserted(f"r-{number}", "cam-1", f"s-{number}", one, CapturePolicy(), 0)
            for number, one in enumerate((spec, daily))
        ],
    )
    for minute in range(1, 26 * 60):
        made.tick(minute * 60_000)
    return made


def again(recording):
    return fold_again(recording.log, 0, CODEC, START_MS, START_MS + 26 * HOUR_MS)


def test_ticks_of_data_that_are_at_hand_are_folded_by_them(recording):
    found = again(recording)
    assert (found.difference, found.other_tz) == (None, set())
    assert found.sha256 == found.sha256_found
    assert found.commands > 70


def test_without_them_it_is_said_and_differs(recording, data):
    del zones._others[data.version]
    found = again(recording)
    assert found.other_tz == {OTHER}
    assert found.difference is not None
