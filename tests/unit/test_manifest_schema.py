"""The JSON Schema of manifests: it says what the parser does (issue 5, 'For people')."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft7Validator
from ruamel.yaml import YAML
from typer.testing import CliRunner

from shutterwheel import manifest
from shutterwheel.cli import app
from shutterwheel.manifest import ManifestError
from shutterwheel.manifest_schema import schema

ROOT = Path(__file__).parents[2]
FILE = ROOT / "shutterwheel" / "manifest.schema.json"
VALIDATOR = Draft7Validator(schema())


def loaded(text: str) -> object:
    """Return a file as an editor's language server sees it: YAML 1.2 has no dates."""
    yaml = YAML(typ="safe", pure=True)
    yaml.constructor.add_constructor("tag:yaml.org,2002:timestamp", lambda _, node: str(node.value))
    return yaml.load(text)


def takes(text: str) -> tuple[bool, bool]:
    """Say whether the parser and the schema take a text."""
    try:
        manifest.parse(text.encode(), "m.yaml")
        parsed = True
    except ManifestError:
        parsed = False
    return parsed, VALIDATOR.is_valid(loaded(text))


def one(schedule: str, top: str = "") -> str:
    return f"version: 1\n{top}schedules:\n  - {{id: a, {schedule}}}\n"


CALENDAR = "calendars: {holidays: [2026-12-25, 2026-12-31..2027-01-02]}\n"

GOOD = [
    one("device: c, every: 5s"),
    one("devices: [c, 7], every: 1h30m, phase: 10s, spread: 0.5s"),
    one("devices: all, every: 5s"),
    one("devices: {labels: {line: 3, on: true}, site: north, model: X}, every: 5s"),
    one("device: c, at: 2026-12-01T08:00:00+01:00, priority: '5', misfire: skip"),
    one("device: c, every: 5s, quality: retry, keep: 30d, image: label width=1280"),
    one("device: c, every: 5s, overlap: buffer_one, jitter: 1s, tolerance: 2s, deadline: 9s"),
    one("device: c, every: 5s, pause_after_failures: 3, catch_up: 0s"),
    one("device: c, cron: '*/5 6-20 * * MON-FRI', zone: Europe/Paris"),
    one("device: c, cron: '@hourly'", "defaults: {zone: Asia/Tokyo, lead: 1s}\n"),
    one("device: c, rrule: 'FREQ=DAILY;BYHOUR=8', from: 2026-01-01T00:00:00Z"),
    one("device: c, sun: sunrise+30m"),
    one("device: c, every: 5m, daylight: sunrise-30m..sunset"),
    one("device: c, every: 5s, also: [{cron: '0 6 * * *'}, {at: 2026-12-01T08:00:00Z}]"),
    one("device: c, every: 5s, exclude: [2026-12-25, 2026-12-24..2027-01-02, holidays]", CALENDAR),
    one("device: c, every: 5s, exclude: [{weekdays: 'sat,sun', hours: '22:00-06:00'}]"),
    one("device: c, every: 5s, exclude: [{calendar: holidays, hours: '12:00-13:00'}]", CALENDAR),
    one("device: c, every: 5s, until: 2027-01-01T00:00:00Z, count: 100"),
    one("device: c, every: 5s", "owner: north\n"),
    "version: '1'\ndevices: [{id: a, address: 'http://h/x', latitude: 48.8, longitude: -2}]\n",
    "version: 1\ndevices: [{id: 5, address: 'http://h/x', labels: {a: 1}, protocol: http-json}]\n",
    "version: 1\nschedules: []\n",
    (ROOT / "examples" / "schedules.yaml").read_text(),
]
BAD = [
    "[]",
    "version: 1",
    "schedules: []",
    "version: 2\nschedules: []",
    "version: 1\nschedules: {}",
    "version: 1\nschedule: []",
    one("device: c, every: 5"),
    one("device: c, every: 5 parsecs"),
    one("device: c, evry: 5s"),
    one("device: c"),
    one("every: 5s"),
    one("device: ~, every: 5s"),
    one("device: c, devices: [c], every: 5s"),
    one("device: c, every: 5s, cron: '* * * * *'"),
    one("devices: everyone, every: 5s"),
    one("devices: {}, every: 5s"),
    one("devices: {label: {a: b}}, every: 5s"),
    one("devices: {labels: [a]}, every: 5s"),
    one("device: c, cron: '0 6 * * *', phase: 5s"),
    one("device: c, at: 2026-12-01T08:00:00"),
    one("device: c, at: 2026-12-01"),
    one("device: c, every: 5s, priority: 10"),
    one("device: c, every: 5s, priority: high"),
    one("device: c, every: 5s, misfire: sometimes"),
    one("device: c, cron: '0 6 * * *', zone: Europe/Atlantis"),
    one("device: c, every: 5s, overlap: never"),
    one("device: c, every: 5s, quality: ugly"),
    one("device: c, every: 5s, count: 0"),
    one("device: c, every: 5s, daylight: sunrise"),
    one("device: c, sun: teatime"),
    one("device: c, rrule: daily"),
    one("device: c, every: 5s, also: {at: 2026-12-01T08:00:00Z}"),
    one("device: c, every: 5s, also: [{zone: UTC}]"),
    one("device: c, every: 5s, exclude: [{day: 2026-12-25}]"),
    one("device: c, every: 5s, exclude: [{dates: [christmas]}]"),
    one("device: c, every: 5s, from: tomorrow"),
    one("device: c, every: 5s", "calendars: {h: [25.12.2026]}\n"),
    one("device: c, every: 5s", "defaults: {every: 5s}\n"),
    "version: 1\ndevices: [{id: a}]",
    "version: 1\ndevices: [{id: a, address: 'http://h', protocol: p}]",
    "version: 1\ndevices: [{id: a, address: 'http://h', credentials: secret}]",
    "version: 1\ndevices: [{id: a, address: 'http://h', latitude: 91, longitude: 0}]",
]
BEYOND = [
    one("device: c, every: 5s, phase: 6s"),
    one("device: c, every: 5s, spread: 6s"),
    one("devices: [c, c], every: 5s"),
    one("devices: '*', every: 5s"),
    one("device: c, cron: '0 0 30 2 *'"),
    one("device: c, rrule: FREQ=HOURLY"),
    one("device: c, cron: '61 * * * *'"),
    one("device: c, every: 5s, exclude: [christmas]"),
    one("device: c, every: 1s, until: 2027-01-01T00:00:00Z, from: 2028-01-01T00:00:00Z"),
    one("device: c, every: 5s, daylight: sunrise..teatime"),
    one("device: c, every: 5s", "owner: request\n"),
    one("device: c, every: 5s, image: labels"),
    "version: 1\ndevices: [{id: a, address: 'http://h', latitude: 1}]",
    "version: 1\ndevices: [{id: a, address: 'ftp://h'}]",
]
"""What only the parser can see."""


def test_the_file_is_the_generated_one():
    """`shutterwheel schedule schema > shutterwheel/manifest.schema.json` makes it anew."""
    assert json.loads(FILE.read_text()) == schema()
    printed = CliRunner().invoke(app, ["schedule", "schema"])
    assert (printed.exit_code, printed.stdout) == (0, FILE.read_text())


def test_it_is_a_schema():
    Draft7Validator.check_schema(schema())


def test_every_property_says_what_it_is():
    waiting: list[object] = [schema()]
    while waiting:
        part = waiting.pop()
        if isinstance(part, list):
            waiting += part
        elif isinstance(part, dict):
            waiting += part.values()
            for name, found in part.get("properties", {}).items():
                if isinstance(found, dict) and name != "version":
                    assert found.get("description"), name


@pytest.mark.parametrize("text", GOOD)
def test_what_the_parser_takes_it_takes(text):
    assert takes(text) == (True, True)


@pytest.mark.parametrize("text", BAD)
def test_what_has_no_shape_both_refuse(text):
    assert takes(text) == (False, False)


@pytest.mark.parametrize("text", BEYOND)
def test_what_hangs_on_other_values_only_the_parser_refuses(text):
    assert takes(text) == (False, True)


def test_every_key_is_in_the_corpus():
    known = {*manifest.TOP, *manifest.DEVICE, *manifest.GROUP, *manifest.SCHEDULE}
    whole = "\n".join(GOOD + BAD)
    assert [key for key in sorted(known) if f"{key}:" not in whole] == []


VALUES = st.sampled_from(
    [
        *("5s", "5", "'5'", "0", "true", "~", "''", "[]", "{}", "[a]", "a", "1.5", "-1", "0x10"),
        *("2026-12-25", "2026-12-01T08:00:00Z", "'* * * * *'", "FREQ=DAILY", "UTC", "skip"),
        *("sunrise", "sunrise..sunset", "{site: a}", "[{weekdays: sat}]"),
        "[{at: 2026-12-01T08:00:00Z}]",
    ]
)
PARTS = st.dictionaries(st.sampled_from(manifest.SCHEDULE[1:]), VALUES, min_size=1, max_size=5)
DEVICES = st.dictionaries(st.sampled_from(manifest.DEVICE[2:]), VALUES, max_size=4)


@given(PARTS, DEVICES, st.sampled_from(["device: c, every: 5s, ", "devices: all, ", ""]))
def test_it_never_refuses_what_the_parser_takes(part, device, begin):
    begin = ", ".join(
        piece for piece in begin.split(", ") if piece and piece.split(":")[0] not in part
    )
    words = ", ".join([*([begin] if begin else []), *(f"{k}: {v}" for k, v in part.items())])
    about = "".join(f", {key}: {value}" for key, value in device.items())
    text = one(words, f"devices: [{{id: d, address: 'http://h/'{about}}}]\n")
    parsed, valid = takes(text)
    assert valid or not parsed, (text, [e.message for e in VALIDATOR.iter_errors(loaded(text))])
