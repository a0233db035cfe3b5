"""What an apply would do: added, changed, left, removed (issue 5, 'For people')."""

from __future__ import annotations

from typing import get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.records import (
    CapturePolicy,
    DeviceProfile,
    ScheduleCancelled,
    ScheduleSpec,
    ScheduleState,
    ScheduleUpserted,
)
from shutterwheel import manifest
from shutterwheel.manifest import ManifestError
from shutterwheel.plan import SIGNS, Change, Kind, Ownership, Plan, make_plan
from streams.core.schedule import validate

NOW_MS = 1_800_000_000_000
FILE = """\
version: 1
schedules:
  - {id: a, devices: [c1, c2], every: 5s}
  - {id: b, device: c1, every: 1m, spread: 10s}
"""


def parse(text: str, known=()) -> manifest.Manifest:
    return manifest.parse(text.encode(), "m.yaml").expand(known)[0]


def row(device_id: str, schedule_id: str, every_ms: int = 5_000, **policy) -> ScheduleState:
    spec = ScheduleSpec("interval", every_ms=every_ms)
    return ScheduleState(device_id, schedule_id, 1, spec, CapturePolicy(**policy), 0, paused=False)


def told(plan: Plan, *, prune: bool = False) -> list[str]:
    """Return a plan as short lines."""
    return [
        f"{SIGNS[one.kind]}{one.device_id}/{one.schedule_id}"
        for one in plan.all_changes(prune=prune)
    ]


def applied(plan: Plan, rows: list[ScheduleState], *, prune: bool) -> list[ScheduleState]:
    """Return the table after a plan was carried out, as the wheel would."""
    table = {(one.device_id, one.schedule_id): one for one in rows}
    for change in plan.all_changes(prune=prune):
        event = change.event()
        key = (event.device_id, event.schedule_id)
        if isinstance(event, ScheduleCancelled):
            del table[key]
        else:
            assert isinstance(event, ScheduleUpserted)
            table[key] = ScheduleState(*key, 2, event.spec, event.policy, 0, paused=False)
    return list(table.values())


def test_what_is_new_changed_and_so_already():
    rows = [row("c1", "a"), row("c2", "a", every_ms=9_000), row("c9", "a")]
    plan = make_plan(parse(FILE), [], rows, NOW_MS)
    assert told(plan, prune=True) == ["~c2/a", "+c1/b"]
    assert (plan.added, plan.changed, plan.left, plan.unasked) == (1, 1, 1, [])
    assert plan.changes[0].fields() == {"every": ("9s", "5s")}
    assert all(validate(change.event()) is None for change in plan.changes)


def test_what_changes_is_said_as_the_manifest_calls_it():
    before = row("c1", "b", lead_ms=1_000, catch_up_ms=2_000, capture_timeout_ms=1_500, priority=3)
    plan = make_plan(parse(FILE), [], [before], NOW_MS)
    (change,) = [one for one in plan.changes if one.kind == "change"]
    assert change.fields() == {
        "every": ("5s", "1m"),
        "lead": ("1s", "5s"),
        "catch_up": ("2s", "-"),
        "timeout": ("1s500ms", "3s"),
        "spread": ("0s", "10s"),
        "priority": ("3", "0"),
    }


def test_a_paused_one_is_left_as_it_is():
    paused = msgspec.structs.replace(row("c1", "a"), paused=True, pause_reason="dirty")
    assert told(make_plan(parse(FILE), [], [paused], NOW_MS)) == ["+c2/a", "+c1/b"]


def test_force_publishes_all():
    rows = [row("c1", "a"), row("c2", "a"), row("c1", "b", 60_000, spread_ms=10_000)]
    assert not make_plan(parse(FILE), [], rows, NOW_MS).differs(prune=True)
    plan = make_plan(parse(FILE), [], rows, NOW_MS, force=True)
    assert told(plan) == ["~c1/a", "~c2/a", "~c1/b"]
    assert plan.changes[0].fields() == {}


def test_a_single_time_that_is_past_is_over_and_not_published_again():
    text = "version: 1\nschedules: [{id: o, device: c, at: 2026-01-01T00:00:00Z}]"
    plan = make_plan(parse(text), [], [], NOW_MS)
    assert (plan.over, plan.changes, plan.differs(prune=True)) == ([("c", "o")], [], False)
    assert told(make_plan(parse(text), [], [], 0)) == ["+c/o"]
    assert told(make_plan(parse(text), [], [], NOW_MS, force=True)) == ["+c/o"]


# --- what is owned --------------------------------------------------------------------------------


def test_without_an_owner_only_named_schedules_on_named_devices_are_removed():
    rows = [
        row("c2", "b"),  # both are named, but not together
        row("c1", "night"),  # a name that the file does not have
        row("c3", "a"),  # a device that the file does not have: perhaps another file's
        row("c1", "request/b"),
    ]
    plan = make_plan(parse(FILE), [], rows, NOW_MS)
    assert told(plan) == ["+c1/a", "+c2/a", "+c1/b"]
    assert told(plan, prune=True)[3:] == ["-c2/b"]


def test_an_owner_has_all_that_bears_its_name():
    text = FILE.replace("schedules:", "owner: north\nschedules:", 1)
    rows = [
        row("c1", "north/a"),
        row("c2", "north/a"),
        row("c1", "north/night"),
        row("c7", "north/a"),
        row("c1", "northern/a"),
        row("c1", "a"),
    ]
    plan = make_plan(parse(text), [], rows, NOW_MS)
    assert told(plan, prune=True) == ["+c1/north/b", "-c1/north/night", "-c7/north/a"]


def test_an_owner_that_would_be_taken_for_a_request_is_refused():
    with pytest.raises(ManifestError, match=r"m\.yaml:4:10: .*kept for requests"):
        parse(FILE.replace("schedules:", "owner: request\nschedules:", 1))


def test_only_the_rows_that_matter_are_looked_at():
    owns = Ownership.of(parse(FILE))
    assert [owns.concerns(f"{d}\0{s}".encode()) for d, s in (("c9", "a"), ("c1", "n"))] == [
        True,
        False,
    ]
    owner = Ownership("north/", frozenset(), frozenset())
    assert owner.concerns(b"c9\0north/x")
    assert not owner.concerns(b"c9\0x")
    assert not owner.concerns(b"\xff")


IDS = st.sampled_from(["a", "b", "c"])
ROWS = st.lists(
    st.builds(row, st.sampled_from(["c1", "c2", "c3"]), IDS, st.sampled_from([5_000, 60_000])),
    unique_by=lambda one: (one.device_id, one.schedule_id),
)


@given(ROWS, st.booleans(), st.booleans())
def test_applied_twice_the_second_does_nothing_and_never_touches_what_is_not_its_own(
    rows, prune, owned
):
    text = FILE.replace("schedules:", "owner: o\nschedules:", 1) if owned else FILE
    asked = parse(text)
    plan = make_plan(asked, [], rows, NOW_MS)
    after = applied(plan, rows, prune=prune)
    again = make_plan(asked, [], after, NOW_MS)
    assert not again.differs(prune=prune)
    assert again.left == asked.schedule_count
    owns = Ownership.of(asked)
    named = {(d, e.schedule_id) for e in asked.schedules for d in e.device_ids}
    untouched = [r for r in rows if not owns.has(r.device_id, r.schedule_id)]
    untouched = [r for r in untouched if (r.device_id, r.schedule_id) not in named]
    assert all(one in after for one in untouched)
    if not prune:
        assert len(after) >= len(rows)


# --- devices and groups ---------------------------------------------------------------------------

GROUPED = """\
version: 1
devices:
  - {id: c1, address: "http://127.0.0.1:8080/1.jpg", site: north, labels: {line: 3}}
schedules:
  - id: a
    devices: {labels: {line: "3"}, site: north}
    every: 5s
  - {id: b, devices: all, every: 1m}
  - {id: c, devices: {site: west}, every: 1m}
"""


def profile(device_id: str, site: str, line: str) -> DeviceProfile:
    address = "http://127.0.0.1:8080/1.jpg"
    return DeviceProfile(device_id, address, "http-snapshot", site=site, labels={"line": line})


def test_groups_are_expanded_against_what_is_known_and_the_file_comes_first():
    known = [profile("c1", "south", "9"), profile("c2", "north", "3"), profile("c3", "north", "4")]
    asked = manifest.parse(GROUPED.encode(), "m.yaml")
    assert (asked.has_groups, asked.schedule_count) == (True, 0)
    expanded, warnings = asked.expand(known)
    assert [entry.device_ids for entry in expanded.schedules] == [
        ("c1", "c2"),
        ("c1", "c2", "c3"),
        (),
    ]
    assert (expanded.has_groups, expanded.schedule_count) == (False, 5)
    assert len(warnings) == 1
    assert warnings[0].startswith("m.yaml:9:22: no known device is in this group (site west)")


def test_a_device_that_joins_is_picked_up_by_the_next_apply():
    asked = manifest.parse(GROUPED.encode(), "m.yaml")
    first = make_plan(asked.expand()[0], [], [], NOW_MS)
    rows = applied(first, [], prune=False)
    joined = [profile("c1", "north", "3"), profile("c4", "north", "3")]
    plan = make_plan(asked.expand(joined)[0], joined, rows, NOW_MS)
    assert told(plan) == ["+c4/a", "+c4/b"]


def test_all_without_a_device_is_a_warning():
    text = "version: 1\nschedules:\n  - {id: b, devices: all, every: 1m}"
    _, warnings = manifest.parse(text.encode(), "m.yaml").expand()
    assert len(warnings) == 1
    assert warnings[0].startswith("m.yaml:3:22: no device is known; schedule 'b' is for nobody.")


def test_two_entries_that_share_a_device_after_expansion_are_refused():
    text = GROUPED.replace("{id: b, devices: all", "{id: a, devices: all")
    with pytest.raises(ManifestError, match=r"m\.yaml:8:22: device 'c1' and 1 more has a schedule"):
        parse(text, [profile("c2", "north", "3")])


def test_devices_are_compared_without_the_time_of_their_record():
    asked = parse(GROUPED.replace("labels: {line: 3}", "labels: {line: '3'}"))
    known = msgspec.structs.replace(asked.devices[0], updated_at_ms=1)
    same = make_plan(asked, [known], [], NOW_MS)
    assert (same.devices_added, same.devices_changed, same.devices_left) == ([], [], 1)
    moved = make_plan(asked, [msgspec.structs.replace(known, site="x")], [], NOW_MS)
    assert (moved.devices_added, len(moved.devices_changed)) == ([], 1)
    assert len(make_plan(asked, [], [], NOW_MS).devices_added) == 1


def test_every_kind_of_change_has_a_sign():
    assert set(SIGNS) == set(get_args(Kind))
    assert Change("remove", "c", "s", None, row("c", "s")).event().schedule_id == "s"
