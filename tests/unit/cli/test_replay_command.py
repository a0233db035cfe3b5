"""``shutterwheel replay`` without a broker: options, what is poured, what is said; issue 7."""

from __future__ import annotations

import io
import json

import pytest
from recorded import CODEC, START_MS, Recording, upserts
from typer.testing import CliRunner

from schemas.errors import UsageError
from schemas.records import (
    CaptureCommand,
    CapturePolicy,
    CaptureRequested,
    DeviceFact,
    DeviceOnline,
    DeviceProfile,
    ScheduleCancelled,
    ScheduleState,
    ScheduleUpserted,
)
from shutterwheel import replay_report, what_if_file, what_if_report
from shutterwheel.cli import app
from shutterwheel.commands import replay
from shutterwheel.replay_pour import make_plan
from shutterwheel.replay_run import (
    Source,
    make_source,
    read_profiles,
    run_again,
    run_what_if,
)
from shutterwheel.replay_sandbox import sandbox_name
from streams.core import ids
from streams.runtime.sandbox_clock import check_sandbox

CAMERAS = [f"cam-{n}" for n in range(8)]


def nobody(*_: object) -> None:
    """Tell nobody."""


def recorded() -> Recording:
    recording = Recording(2)
    for topic in ("device.profiles", "device.events"):
        recording.log.append(topic, 0, None, None, 0)
        recording.log.entries(topic, 0).clear()
    for n, name in enumerate(CAMERAS):
        profile = DeviceProfile(
            name, f"http://10.0.0.{n}/x", "onvif", credentials_ref="env:CAMERA_X", site="north"
        )
        put(recording, "device.profiles", name, profile, 0)
    recording.tick(0, upserts(CAMERAS))
    recording.run(1, 27)
    recording.tick(27_000, [ScheduleCancelled("c", CAMERAS[0], "s", 0)])
    recording.tick(28_000, facts=[DeviceFact(CAMERAS[1], "place", 48.0, 2.0)])
    recording.run(29, 60)
    return recording


def put(recording, topic, name, record, at_ms):
    number = ids.partition_of(name, recording.partitions)
    recording.log.append(topic, number, name.encode(), CODEC.encode(record), START_MS + at_ms)


def source_of(recording, from_ms=None, to_ms=None, last_ms=None, device=None) -> Source:
    begin = None if from_ms is None else START_MS + from_ms
    end = None if to_ms is None else START_MS + to_ms
    return make_source(recording.log, CODEC, "memory", begin, end, last_ms, device)


# --- ranges ---------------------------------------------------------------------------------------


def test_what_is_not_given_of_a_range_is_the_logs_own():
    recording = recorded()
    whole = source_of(recording)
    assert (whole.from_ms, whole.to_ms) == (START_MS, START_MS + 59_001)
    assert whole.partitions == (0, 1)
    late = source_of(recording, last_ms=10_000)
    assert (late.from_ms, late.to_ms) == (START_MS + 49_001, START_MS + 59_001)
    assert source_of(recording, to_ms=10**9).to_ms == START_MS + 59_001
    assert source_of(recording, device="cam-1").partitions == (ids.partition_of("cam-1", 2),)
    with pytest.raises(UsageError, match="nothing to replay"):
        source_of(recording, from_ms=10**9)
    with pytest.raises(UsageError, match="no tick"):
        source_of(Recording())


# --- pouring --------------------------------------------------------------------------------------


def test_a_plan_holds_the_state_as_it_stood_and_what_came_from_outside():
    """State goes in as rows, events byte for byte at their times; nothing before, nothing after."""
    recording = recorded()
    put(recording, "device.events", CAMERAS[2], DeviceOnline(CAMERAS[2], 1), 10_000)
    put(recording, "device.events", CAMERAS[2], DeviceOnline(CAMERAS[2], 2), 41_000)
    late = CaptureRequested("q", CAMERAS[3], None, CapturePolicy(), 0)
    recording.tick(60_000, [late])
    put(recording, "schedule.events", CAMERAS[4], late, 45_000)  # no tick has it yet
    source = source_of(recording, 35_000, 60_000)
    plan = make_plan(source, lambda name: f"http://127.0.0.1:1/cam/{name}")
    assert plan.schedules == 7
    assert plan.devices == sorted(CAMERAS)
    rows = [
        CODEC.decode(one.value) for one in plan.first if one.topic == "wheel.schedules.changelog"
    ]
    assert sorted(row.device_id for row in rows if isinstance(row, ScheduleState)) == CAMERAS[1:]
    out = [CODEC.decode(one.value) for one in plan.first if one.topic == "capture.commands"]
    assert all(isinstance(one, CaptureCommand) for one in out)
    assert {one.scheduled_ms for one in out} == set()  # 40 s is issued at 35 s
    early = make_plan(source_of(recording, 36_000, 60_000), None)
    out = [CODEC.decode(one.value) for one in early.first if one.topic == "capture.commands"]
    assert {one.scheduled_ms - START_MS for one in out} == {40_000}
    assert len(out) == 7
    topics = [(one.topic, one.at_ms - START_MS) for one in plan.timed]
    assert topics == [("device.events", 41_000), ("schedule.events", 45_000)]
    for one in plan.first:
        assert ids.partition_of(one.key.decode().split("\0")[0], 2) == one.partition or (
            not one.topic.startswith(("device", "capture", "wheel.schedules"))
        )


def test_no_profile_leads_to_a_real_camera_unless_it_is_asked_for():
    recording = recorded()
    put(
        recording,
        "device.profiles",
        CAMERAS[5],
        DeviceProfile(CAMERAS[5], "http://10.9.9.9/", "onvif", credentials_ref="env:X"),
        40_000,
    )
    source = source_of(recording, 35_000, 50_000)

    def profiles(plan):
        both = [*plan.first, *plan.timed]
        return [CODEC.decode(one.value) for one in both if one.topic == "device.profiles"]

    simulated = profiles(make_plan(source, lambda _name: "http://127.0.0.1:9/cam/x/snapshot.jpg"))
    assert len(simulated) == 9
    for one in simulated:
        assert one.address.startswith("http://127.0.0.1:9/")
        assert one.protocol == "http-snapshot"
        assert not one.credentials_ref
    placed = {one.device_id: one.latitude for one in simulated}
    assert placed[CAMERAS[1]] == 48.0  # as the fold knew it, so that nothing is learnt anew
    real = profiles(make_plan(source, None))
    assert {one.protocol for one in real} == {"onvif"}


def test_a_policy_goes_in_as_events():
    recording = recorded()
    policy = what_if_file.parse(b"version: 1\nspread: 5s\n", "p").resolved()
    plan = make_plan(source_of(recording, 35_000, 60_000), None, policy)
    events = [CODEC.decode(one.value) for one in plan.timed if one.topic == "schedule.events"]
    assert len(events) == 7
    assert all(isinstance(one, ScheduleUpserted) for one in events)
    assert {one.policy.spread_ms for one in events} == {5_000}


def test_profiles_are_the_newest_before_the_range_and_removed_ones_are_none():
    recording = recorded()
    gone = DeviceProfile(CAMERAS[0], "http://h/", "onvif", removed=True)
    put(recording, "device.profiles", CAMERAS[0], gone, 30_000)
    source = source_of(recording)
    assert len(read_profiles(source)) == 7
    assert len(read_profiles(source, before_ms=START_MS + 20_000)) == 8


def test_a_sandbox_has_a_name_that_workers_know():
    for namespace in ("", "t1"):
        assert check_sandbox(sandbox_name(namespace)).startswith(namespace or "main")


# --- what is said ---------------------------------------------------------------------------------


def test_folding_again_says_count_and_hash(capsys):
    source = source_of(recorded(), 10_000, 50_000)
    found = run_again(source, nobody)
    replay_report.show_again(source, found)
    said = capsys.readouterr().out
    answer = replay_report.again_json(source, found)
    assert answer["ok"]
    assert f"commands   {answer['commands']:,}, byte for byte those of capture.commands" in said
    assert answer["sha256"] == answer["sha256_found"]
    assert answer["sha256"] in said


def test_a_difference_is_said_with_its_place(capsys):
    recording = recorded()
    entries = recording.log.entries("capture.commands", 0)
    entries[5] = entries[5]._replace(value=entries[6].value)
    source = source_of(recording)
    found = run_again(source, nobody)
    replay_report.show_again(source, found)
    said = capsys.readouterr().out
    assert not found.ok
    assert "DIFFERENT  capture.commands, partition 0, tick at offset " in said
    json.dumps(replay_report.again_json(source, found))


def test_what_if_says_the_answer_first(capsys, tmp_path):
    source = source_of(recorded(), 31_000, 60_000)
    asked = what_if_file.parse(b"version: 1\nspread: 10s\n", "p")
    found = run_what_if(source, asked, nobody, always=False)
    what_if_report.show_what_if(source, asked.words, found, always=False)
    said = capsys.readouterr().out
    assert said.startswith("with spread 10s: peak 7/s → ")
    assert "no capture lost or added" in said.splitlines()[0]
    answer = what_if_report.what_if_json(source, asked.words, found, always=False)
    assert answer["before"]["peak_per_second"] == 7
    assert answer["schedules_changed"] == 7
    assert sum(answer["load"]["after"]) == answer["after"]["captures"]
    json.dumps(answer)
    what_if_report.draw(tmp_path / "o.png", source, asked.words, found)
    assert (tmp_path / "o.png").read_bytes().startswith(b"\x89PNG")


def test_a_policy_that_changes_nothing_says_so():
    source = source_of(recorded(), 31_000, 60_000)
    asked = what_if_file.parse(b"version: 1\nlead: 5s\n", "p")
    found = run_what_if(source, asked, nobody, always=True)
    assert found.difference.empty
    assert what_if_report.headline(asked.words, found).endswith("nothing would have been otherwise")


# --- the command ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--speed", "0.5"], "expected 1 to 1000"),
        (["--speed", "1001"], "expected 1 to 1000"),
        (["--speed", "fast"], "expected 1 to 1000"),
        (["--keep"], "add --speed 1"),
        (["--real-cameras", "--yes"], "add --speed 1"),
        (["--speed", "1", "--allow", "10.0.0.0/8"], "add --real-cameras"),
        (["--always"], "add --with-policy FILE"),
        (["--png", "o.png"], "add --with-policy FILE"),
        (["--speed", "2", "--always", "--with-policy", "x"], "need --speed max"),
        (["--data", "none-here"], "No cluster is known here"),
    ],
)
def test_what_makes_no_sense_is_refused(words, expected, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SHUTTERWHEEL_KAFKA", raising=False)
    answer = CliRunner().invoke(app, ["replay", *words])
    assert answer.exit_code == 2
    assert expected in answer.output


def test_speeds():
    assert replay._speed("max") is None
    assert replay._speed("x10") == replay._speed("10") == 10.0
    assert replay._speed("1000") == 1_000.0


def test_real_cameras_are_never_photographed_without_a_yes(monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    with pytest.raises(UsageError, match="add --yes"):
        replay._ask(3)
