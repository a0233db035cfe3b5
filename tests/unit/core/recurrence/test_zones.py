"""Every zone of the tz database, against the files themselves and against the standard library."""

from __future__ import annotations

import struct
from datetime import UTC, datetime
from importlib import resources
from zoneinfo import ZoneInfo

import pytest
import tzdata

from streams.core.recurrence import TZ_VERSION
from streams.core.recurrence.civil import DAY_MS, HOUR_MS, day_of
from streams.core.recurrence.cron import read_line
from streams.core.recurrence.wall import DayTimes
from streams.core.recurrence.zones import zone, zone_names

NAMES = sorted(zone_names())
FIRST_MS, END_MS = day_of(2026, 1, 1) * DAY_MS, day_of(2036, 1, 1) * DAY_MS


def file_of(name: str):
    return resources.files(tzdata).joinpath("zoneinfo", *name.split("/"))


def changes_in_file(name: str) -> list[tuple[int, int]]:
    """The changes of offset that stand in a zone's file (RFC 9636), as (second, offset)."""
    data = file_of(name).read_bytes()
    utc_count, std_count, leap_count, time_count, type_count, char_count = struct.unpack(">6l", data[20:44])  # fmt: skip
    skip = time_count * 5 + type_count * 6 + char_count + leap_count * 8 + std_count + utc_count
    data = data[44 + skip :]
    assert data[:4] == b"TZif"
    time_count, type_count = struct.unpack(">2l", data[32:40])
    times = struct.unpack(f">{time_count}q", data[44 : 44 + 8 * time_count])
    kinds = data[44 + 8 * time_count : 44 + 9 * time_count]
    types = data[44 + 9 * time_count :]
    offsets = [struct.unpack(">l", types[6 * kind : 6 * kind + 4])[0] for kind in kinds]
    before, found = None, []
    for second, offset in zip(times, offsets, strict=True):
        if second < 0:
            before = offset
        elif offset != before:
            found.append((second, offset))
            before = offset
    return found


def test_the_tz_data_is_the_pinned_package():
    assert TZ_VERSION == tzdata.IANA_VERSION
    assert len(NAMES) > 590


def test_every_change_in_the_files_is_known_to_the_second():
    """Asking every seven days misses none, in any zone, from 1970 to the end of each file."""
    wrong = []
    for name in NAMES:
        expected = changes_in_file(name)
        table = zone(name)
        found = [
            (start // 1000, offset // 1000)
            for start, offset in zip(table.starts[1:], table.offsets[1:], strict=True)
        ]
        if expected and expected[0] not in found[:1]:
            expected = expected[1:]  # the first entry of a file may repeat what was before
        if found[: len(expected)] != expected:
            wrong.append(name)
    assert wrong == []


def local_of(info: ZoneInfo, time_ms: int) -> int:
    offset = datetime.fromtimestamp(time_ms // 1000, info).utcoffset()
    assert offset is not None
    return time_ms + int(offset.total_seconds() * 1000)


def changes_from_library(info: ZoneInfo) -> list[int]:
    """The days from 2026 to 2035 within which the offset changes."""
    found = []
    for time_ms in range(FIRST_MS, END_MS, DAY_MS):
        before, after = local_of(info, time_ms), local_of(info, time_ms + DAY_MS)
        if after - before != DAY_MS:
            found.append(time_ms)
    return found


STEP_MS = 15 * 60_000
HALVES = read_line("0,30 0-10,12-23 * * *")
"""Names its hours: all but one."""
QUARTERS = read_line("*/15 * * * *")
"""Goes on in real time."""


def test_the_stated_rule_holds_in_every_zone_for_ten_years():
    """Issue 5: DST over every zone for 10 years, around each change, read off the clock itself.

    Named times: once each, at the first moment at which the clock shows them or later ones.
    Lines with every hour: whenever the clock shows them, also twice.
    """
    looked_at, wrong = 0, []
    for name in NAMES:
        with file_of(name).open("rb") as file:
            info = ZoneInfo.from_file(file, key=name)
        named = DayTimes(HALVES.days, HALVES.times, zone(name))
        real = DayTimes(QUARTERS.days, QUARTERS.times, zone(name))
        for day_ms in changes_from_library(info):
            looked_at += 1
            first_ms, end_ms = day_ms - 3 * HOUR_MS, day_ms + DAY_MS + 3 * HOUR_MS
            expected_named, expected_real = [], []
            high = local_of(info, first_ms - STEP_MS)
            for time_ms in range(first_ms, end_ms, STEP_MS):
                local = local_of(info, time_ms)
                if local % STEP_MS == 0:
                    expected_real.append(time_ms)
                shown = range(high + STEP_MS, local + STEP_MS, STEP_MS)
                if any(t % (2 * STEP_MS) == 0 and t // HOUR_MS % 24 != 11 for t in shown):
                    expected_named.append(time_ms)
                high = max(high, local)
            for wall, expected in ((named, expected_named), (real, expected_real)):
                if fires(wall, first_ms, end_ms) != expected:
                    wrong.append((name, datetime.fromtimestamp(day_ms / 1000, UTC)))
    assert wrong == []
    assert looked_at > 3_000


def fires(wall: DayTimes, first_ms: int, end_ms: int) -> list[int]:
    found, time_ms = [], wall.at_or_after(first_ms)
    while time_ms is not None and time_ms < end_ms:
        found.append(time_ms)
        time_ms = wall.at_or_after(time_ms + 1)
    return found


def test_a_name_that_is_no_zone_is_not_looked_for_among_files():
    for name in ("../../etc/passwd", "Mars/Olympus", "europe/paris", "zone.tab", "Europe"):
        with pytest.raises(KeyError):
            zone(name)


def test_an_empty_name_is_utc():
    assert zone("").local_ms(17) == zone("UTC").local_ms(17) == 17
