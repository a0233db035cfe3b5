"""Policy files: what they may say, and how they are refused; issue 7 ('--with-policy FILE')."""

from __future__ import annotations

import pytest

from schemas.errors import UsageError
from schemas.records import CapturePolicy, DeviceProfile, TickSettings
from shutterwheel import what_if_file
from shutterwheel.yaml_nodes import ManifestError

PROFILES = [
    DeviceProfile("cam-1", "http://h/1", "http-json", site="north", labels={"line": "3"}),
    DeviceProfile("cam-2", "http://h/2", "http-json", site="north"),
    DeviceProfile("cam-3", "http://h/3", "http-json", site="south"),
]


def read(text: str) -> what_if_file.WhatIfFile:
    return what_if_file.parse(text.encode(), "p.yaml")


def findings(text: str) -> tuple[str, ...]:
    with pytest.raises(ManifestError) as caught:
        read(text)
    return caught.value.lines


def test_keys_at_the_top_are_for_every_schedule_and_request():
    found = read(
        "version: 1\nspread: 60s\nmisfire: skip\nlead: 10s\ncapacity_per_shard: 4\nnotice: 1s\n"
    )
    assert found.words == "lead 10s, spread 60s, misfire skip, capacity_per_shard 4, notice 1s"
    policy = found.resolved()
    was = CapturePolicy(priority=7)
    now = policy.policy("any", "s", was)
    assert (now.spread_ms, now.misfire, now.lead_ms) == (60_000, "skip", 10_000)
    assert now.priority == 7
    assert policy.policy("any", "", was) == now
    settings = policy.tick_settings(TickSettings())
    assert (settings.capacity_per_shard, settings.notice_ms) == (4, 1_000)
    assert not found.needs_profiles


def test_rules_are_for_those_they_name_and_the_later_ones_have_the_last_word():
    found = read(
        """
version: 1
spread: 10s
schedules:
  - {id: "line-*", spread: 20s}
  - {id: [line-1, other], devices: {site: north, labels: {line: "3"}}, spread: 30s}
  - {devices: [cam-3], priority: 5}
"""
    )
    assert found.needs_profiles
    policy = found.resolved(PROFILES)
    was = CapturePolicy()

    def spread(device: str, schedule: str) -> int:
        return policy.policy(device, schedule, was).spread_ms

    assert spread("cam-2", "x") == 10_000
    assert spread("cam-2", "line-1") == 20_000
    assert spread("cam-1", "line-1") == 30_000
    assert spread("cam-1", "line-2") == 20_000
    assert spread("cam-1", "") == 10_000
    assert policy.policy("cam-3", "x", was).priority == 5
    assert policy.policy("cam-2", "x", was).priority == 0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "p.yaml:1:1: the file is empty"),
        ("spread: 5s", "p.yaml:1:1: 'version' is missing"),
        ("version: 2\nspread: 5s", "p.yaml:1:10: version '2' is not known"),
        ("version: 1", "p.yaml:1:1: the file changes nothing"),
        ("version: 1\nspred: 5s", "p.yaml:2:1: a policy file has no key 'spred'; did you mean"),
        ("version: 1\nspread: 5", "p.yaml:2:9: 'spread' is '5'; expected a number with a unit"),
        ("version: 1\nmisfire: later", "p.yaml:2:10: 'misfire' is 'later'"),
        ("version: 1\nlead: 2h", "p.yaml:2:7: lead_ms"),
        ("version: 1\njitter: 2h", "p.yaml:2:9: jitter_ms"),
        ("version: 1\ncapacity_per_shard: 200000", "p.yaml:2:21: 'capacity_per_shard' is 200000"),
        ("version: 1\nnotice: 5m", "p.yaml:2:9: 'notice' is over 60 s"),
        ("version: 1\nschedules: [{spread: 5s}]", "p.yaml:2:13: a rule is for some"),
        ("version: 1\nschedules: [{id: a}]", "p.yaml:2:13: the rule changes nothing"),
        ("version: 1\nschedules: [{id: a, every: 5s}]", "p.yaml:2:21: a rule has no key 'every'"),
        ("version: 1\nschedules: [{devices: {}, lead: 1s}]", "p.yaml:2:23: the group names"),
        ("version: 1\nschedules: [{devices: [''], lead: 1s}]", "p.yaml:2:24: device_id"),
        ("version: 1\n- x", "p.yaml:2:1: this is not YAML"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(text, expected):
    [first, *_] = findings(text)
    assert first.startswith(expected)


def test_every_key_of_a_manifests_policy_is_a_field():
    assert set(what_if_file.FIELDS.values()) <= set(CapturePolicy.__struct_fields__)


def test_all_that_is_wrong_is_said_at_once():
    assert len(findings("version: 1\nspread: x\nlead: y\nmisfire: z\n")) == 3


def test_files_that_cannot_be_read_are_one_line(tmp_path):
    with pytest.raises(UsageError, match="cannot be read"):
        what_if_file.load(tmp_path / "none.yaml")
    long = tmp_path / "long.yaml"
    long.write_bytes(b"#" * (what_if_file.MAX_FILE_BYTES + 1))
    with pytest.raises(UsageError, match="longer"):
        what_if_file.load(long)
