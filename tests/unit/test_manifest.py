"""Manifests: each finding names file, line and what was expected (issue 3, point 7)."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import UsageError
from schemas.records import CapturePolicy, Exclusion, ScheduleSpec, Term
from shutterwheel import manifest
from shutterwheel.manifest import ManifestError, ScheduleEntry
from shutterwheel.yaml_nodes import MAX_FINDINGS
from streams.core.schedule import validate

GOOD = """\
version: 1
defaults: {lead: 2s, timeout: 1s}
devices:
  - id: cam-1
    address: http://127.0.0.1:8080/cam-1.jpg
    labels: {line: 3}
  - {id: cam-2, address: "http://127.0.0.1:8080/cam-2.jpg", protocol: http-json}
schedules:
  - id: every-5s
    devices: "*"
    every: 5s
    spread: 4s
  - id: once
    device: cam-9
    at: 2026-12-01T08:00:00+01:00
    lead: 0s
    catch_up: 10m
    priority: 5
"""


def parse(text: str) -> manifest.Manifest:
    return manifest.parse(text.encode(), "m.yaml")


def findings(text: str) -> tuple[str, ...]:
    with pytest.raises(ManifestError) as caught:
        parse(text)
    return caught.value.lines


def test_a_good_one_says_what_is_to_be():
    found = parse(GOOD)
    assert [(one.device_id, one.protocol) for one in found.devices] == [
        ("cam-1", "http-snapshot"),
        ("cam-2", "http-json"),
    ]
    assert found.devices[0].labels == {"line": "3"}
    assert found.schedules == (
        ScheduleEntry(
            "every-5s",
            ("cam-1", "cam-2"),
            ScheduleSpec("interval", every_ms=5_000),
            CapturePolicy(lead_ms=2_000, capture_timeout_ms=1_000, spread_ms=4_000),
        ),
        ScheduleEntry(
            "once",
            ("cam-9",),
            ScheduleSpec("once", at_ms=1_796_108_400_000),
            CapturePolicy(0, 600_000, 1_000, 0, 5),
        ),
    )


LANGUAGE = """\
version: 1
calendars:
  holidays: [2026-12-25, 2026-12-31..2027-01-02]
defaults: {zone: Europe/Paris, misfire: skip}
schedules:
  - id: a
    device: c
    cron: "30 8 * * mon-fri"
    also: [{at: 2026-12-01T08:00:00Z}, {sun: noon}, {every: 1h, phase: 5m}]
    exclude:
      - 2026-11-01
      - holidays
      - {calendar: holidays, dates: [2026-11-02], weekdays: "sat,sun", hours: "22:00-06:00"}
    from: 2026-01-01T00:00:00Z
    until: 2028-01-01T00:00:00Z
    count: 100
    daylight: sunrise-30m..sunset
    jitter: 1s
    tolerance: 2s
    deadline: 1m
    overlap: buffer_one
    pause_after_failures: 5
  - {id: b, device: c, every: 5s, misfire: all}
  - {id: d, device: c, rrule: FREQ=DAILY;BYHOUR=8, from: 2026-01-01T00:00:00Z, zone: UTC}
"""


def test_the_whole_language():
    holidays = (20261225, 20261231, 20270101, 20270102)
    one, two, three = parse(LANGUAGE).schedules
    assert one.spec == ScheduleSpec(
        "cron",
        expression="30 8 * * mon-fri",
        zone="Europe/Paris",
        also=(
            Term("once", at_ms=1_796_112_000_000),
            Term("sun", expression="noon"),
            Term("interval", every_ms=3_600_000, phase_ms=300_000),
        ),
        exclude=(
            Exclusion(dates=(20261101,)),
            Exclusion(name="holidays", dates=holidays),
            Exclusion("holidays", (20261102, *holidays), "sat,sun", "22:00-06:00"),
        ),
        from_ms=1_767_225_600_000,
        until_ms=1_830_297_600_000,
        max_count=100,
        daylight="sunrise-30m..sunset",
    )
    assert one.policy == CapturePolicy(
        misfire="skip",
        overlap="buffer_one",
        jitter_ms=1_000,
        tolerance_ms=2_000,
        deadline_ms=60_000,
        pause_after_failures=5,
    )
    # A zone says nothing of a plain interval, and what a schedule says itself comes first.
    assert (two.spec.zone, two.policy.misfire) == ("", "all")
    assert (three.spec.kind, three.spec.zone) == ("calendar", "UTC")
    assert (one.place, one.when) == ("m.yaml:7:13", "m.yaml:8:11")


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("30 8 * * mon-fri", "61 8 * * *", "m.yaml:8:11: .*minute"),
        ("30 8 * * mon-fri", "30 8 * *", "m.yaml:8:11: cron line .* has 4 fields"),
        ("{sun: noon}", "{sun: teatime}", "m.yaml:9:46: sun event 'teatime'"),
        ("{sun: noon}", "{sun: noon, phase: 1s}", "m.yaml:9:59: 'phase' belongs to 'every'"),
        ("{sun: noon}", "{zone: UTC}", "m.yaml:9:41: a time has no key 'zone'"),
        ("2026-11-01", "Nov 1", "m.yaml:11:9: 'Nov 1' is no day; expected a day"),
        ("2026-11-01", "2026-11-31", "m.yaml:11:9: '2026-11-31' is no day"),
        ("2026-11-01", "2026-11-02..2026-11-01", "m.yaml:11:9: .* are 0 days"),
        ("2026-11-01", "1000-01-01..2026-11-01", "m.yaml:11:9: .* expected 1 to 4000"),
        ("calendar: holidays,", "calendar: holiday,", "m.yaml:13:20: there is no calendar"),
        ("sat,sun", "sat,caturday", "m.yaml:13:61: weekdays 'caturday'"),
        ("22:00-06:00", "22-6", "m.yaml:13:79: hours '22-6'"),
        (
            "2028-01-01",
            "2025-01-01",
            "m.yaml:15:12: until '2025-01-01T00:00:00Z' is not after from",
        ),
        ("count: 100", "count: 0", "m.yaml:16:12: max_count 0 is below 1"),
        ("sunrise-30m..sunset", "sunrise-30m", "m.yaml:17:15: "),
        ("overlap: buffer_one", "overlap: bufer_one", "m.yaml:21:14: .* mean 'buffer_one'?"),
        ("zone: Europe/Paris", "zone: Europe/Pari", "m.yaml:4:18: "),
        ("from: 2026-01-01T00:00:00Z\n", "from: today\n", "m.yaml:14:11: from is 'today'"),
        ("holidays: [2026-12-25,", "holidays: [christmas,", "m.yaml:3:14: .* is no day"),
    ],
)
def test_each_finding_in_the_language_stands_where_it_is(old, new, expected):
    assert old in LANGUAGE
    found = findings(LANGUAGE.replace(old, new, 1))
    assert re.match(expected.replace("?", r"\?"), found[0]), found
    assert len(found) == 1, found


def test_its_events_are_good_ones_with_request_ids_of_their_own():
    found = parse(GOOD)
    made = list(found.events())
    assert found.schedule_count == len(made) == 3
    assert [validate(event) for event in made] == [None] * 3
    # Applied again, the ids are new: what it does follows from what there is (ADR 0007).
    assert len({event.request_id for event in (*made, *found.events())}) == 6


SCHEDULE = "version: 1\nschedules:\n  - {id: a, device: c, every: 5s"
"""Line 3 of a manifest, up to where a test goes on."""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "m.yaml:1:1: the file is empty"),
        ("- 1", "m.yaml:1:1: the manifest is a list; expected a mapping"),
        ("version: 1", "m.yaml:1:1: there is nothing to apply"),
        ("version: 2\nschedules: []", "m.yaml:1:10: version '2' is not known; expected 1"),
        ("schedules: []", "m.yaml:1:1: 'version' is missing"),
        ("version: 1\nschedules: x", "m.yaml:2:12: 'schedules' is 'x'; expected a list"),
        ("version: 1\nschedule: []", "m.yaml:2:1: .* no key 'schedule'; did you mean 'schedules'?"),
        ("version: 1\nversion: 1\nschedules: []", "m.yaml:2:1: 'version' is given twice"),
        ("a: [", "m.yaml:1:5: this is not YAML"),
        ("a: 1\n---\nb: 1", "m.yaml:2:1: this is not YAML: expected a single document"),
        ("a: *b", "m.yaml:1:4: this is not YAML: found undefined alias"),
        ("[" * 2_000, "m.yaml: lists are nested too deeply"),
        ("a: \0", "m.yaml: this is not YAML: unacceptable character"),
        (SCHEDULE + ", evry: 5s}", "m.yaml:3:35: .* no key 'evry'; did you mean 'every'?"),
        (SCHEDULE.replace("5s", "5") + "}", "m.yaml:3:31: 'every' is '5'; .* number with a unit"),
        (SCHEDULE.replace("5s", "0s") + "}", "m.yaml:3:31: every_ms 0 is below 100"),
        (SCHEDULE.replace("5s", "3653d") + "}", "m.yaml:3:31: every_ms .* is above"),
        (SCHEDULE.replace("5s", "[5s]") + "}", "m.yaml:3:31: 'every' is a list; expected text"),
        (SCHEDULE.replace("c,", ",") + "}", "m.yaml:3:20: 'device' is empty"),
        (SCHEDULE.replace("c,", f"{'c' * 10_000},") + "}", "m.yaml:3:21: .* 10000 bytes"),
        (SCHEDULE.replace("device: c, ", "") + "}", "m.yaml:3:5: expected one of 'device: ID'"),
        (SCHEDULE + ", devices: [d]}", "m.yaml:3:5: expected one of 'device: ID'"),
        (SCHEDULE.replace("id: a, ", "") + "}", "m.yaml:3:5: a schedule has no 'id'"),
        (SCHEDULE.replace(", every: 5s", "}"), "m.yaml:3:5: expected one of 'every: 5s'.*, 'sun"),
        (
            SCHEDULE + ", at: 2026-12-01T08:00:00Z}",
            "m.yaml:3:5: expected one of 'every: 5s'.*, not every and at.",
        ),
        (SCHEDULE + ", lead: 3h}", "m.yaml:3:41: lead_ms 10800000 is above"),
        (SCHEDULE + ", spread: 6s}", "m.yaml:3:43: spread_ms 6000 is above 5000"),
        (SCHEDULE + ", priority: high}", "m.yaml:3:45: 'priority' is 'high'; .* whole number"),
        (SCHEDULE + ", phase: 5s}", "m.yaml:3:42: phase_ms 5000 is above 4999"),
        (
            SCHEDULE.replace("every: 5s", "at: 2026-12-01T08:00:00}"),
            "m.yaml:3:28: at is .*, which has no time zone",
        ),
        (SCHEDULE.replace("every: 5s", "at: noon}"), "m.yaml:3:28: at is 'noon'; expected an ISO"),
        (
            SCHEDULE.replace("device: c", "devices: '*'") + "}",
            "m.yaml:3:22: '\\*' means every device of this file, but it has none",
        ),
        (
            f"{SCHEDULE}}}\n  - {{id: a, devices: [b, c], every: 1s}}",
            "m.yaml:4:26: device 'c' has a schedule 'a' already, in line 3",
        ),
        (
            SCHEDULE.replace("device: c", "devices: [c, c]") + "}",
            "m.yaml:3:26: device 'c' has a schedule 'a' already, in line 3",
        ),
        (
            SCHEDULE.replace("device: c", "devices: everyone") + "}",
            "m.yaml:3:22: 'devices' is 'everyone'; expected a list",
        ),
        (
            SCHEDULE.replace("device: c", "devices: {lables: {a: b}}") + "}",
            "m.yaml:3:23: a group has no key 'lables'; did you mean 'labels'?",
        ),
        (
            SCHEDULE.replace("device: c", "devices: {}") + "}",
            "m.yaml:3:22: the group names nothing",
        ),
        (
            SCHEDULE.replace("device: c", "devices: {labels: [a]}") + "}",
            "m.yaml:3:31: labels is a list; expected a mapping",
        ),
        ("version: 1\ndefaults: {timeut: 3s}\ndevices: []", "m.yaml:2:12: .* mean 'timeout'"),
        ("version: 1\ndevices: [{id: a}]", "m.yaml:2:11: a device has no 'address'"),
        ("version: 1\ndevices: [{id: a, address: 'x'}]", "m.yaml:2:28: .* begin with http"),
        (
            "version: 1\ndevices: [{id: a, address: 'http://h', protocol: p}]",
            "m.yaml:2:50: protocol 'p' is not known",
        ),
        (
            "version: 1\ndevices: [{id: a, address: 'http://h', latitude: 91, longitude: 0}]",
            "m.yaml:2:50: latitude is 91; expected degrees from -90 to 90",
        ),
        (
            "version: 1\ndevices: [{id: a, address: 'http://h', latitude: north}]",
            "m.yaml:2:50: 'latitude' is 'north'; expected degrees",
        ),
        (
            "version: 1\ndevices: [{id: a, address: 'http://h', longitude: -1.5}]",
            "m.yaml:2:51: longitude is given and latitude is not",
        ),
        (
            "version: 1\ndevices:\n- {id: a, address: 'http://h'}\n- {id: a, address: 'http://g'}",
            "m.yaml:4:8: device 'a' stands in line 3 already",
        ),
    ],
)
def test_what_is_wrong_is_said_where_it_stands(text, expected):
    found = findings(text)
    assert len(found) == 1
    assert re.match(expected.replace("?", r"\?"), found[0]), found


def test_all_findings_are_said_at_once_in_the_order_of_the_file():
    text = "version: 3\nschedules:\n" + "  - {id: a, device: c, every: 5}\n" * 3
    assert [line.split(": ")[0] for line in findings(text)] == [
        "m.yaml:1:10",
        "m.yaml:3:31",
        "m.yaml:4:31",
        "m.yaml:5:31",
    ]


def test_findings_are_bounded():
    text = "version: 1\nschedules:\n" + "  - {id: a, device: c, every: 5}\n" * 1_000
    found = findings(text)
    assert len(found) == MAX_FINDINGS + 1
    assert "the rest is not shown" in found[-1]


def test_text_that_is_not_utf_8():
    with pytest.raises(ManifestError, match=r"m\.yaml:2: this is not UTF-8 text"):
        manifest.parse(b"version: 1\n\xff", "m.yaml")


def test_tags_do_nothing():
    """A manifest of somebody else must not run anything."""
    found = findings("version: 1\nschedules:\n  - !!python/object/apply:os.system [ls]\n")
    assert found == ("m.yaml:3:5: a schedule is a list; expected a mapping ('key: value').",)


def test_a_few_lines_of_aliases_do_not_fill_the_memory():
    """The 'billion laughs': aliases are looked at, not copied."""
    lines = ["version: 1", "x0: &x0 [a, a]"]
    lines += [f"x{n}: &x{n} [{', '.join([f'*x{n - 1}'] * 10)}]" for n in range(1, 12)]
    found = findings("\n".join([*lines, "schedules: *x11"]))
    assert "no key 'x0'" in found[0]


@given(st.text(max_size=200))
def test_whatever_the_text_it_is_a_manifest_or_a_finding(text):
    lines: tuple[str, ...] = ("m.yaml",)
    try:
        parse(text)
    except ManifestError as error:
        lines = error.lines
    assert lines
    assert all(line.startswith("m.yaml") for line in lines)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(UsageError, match="cannot be read: No such file"):
        manifest.load(tmp_path / "none.yaml")


def test_the_example_is_a_good_one():
    example = Path(__file__).parents[2] / "examples" / "schedules.yaml"
    expanded, warnings = manifest.load(example).expand()
    assert (expanded.schedule_count, warnings) == (8, ())
    assert {entry.spec.kind for entry in expanded.schedules} == {
        *("interval", "once", "cron", "calendar"),
    }
