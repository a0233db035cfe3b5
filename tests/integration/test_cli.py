"""Commands against a real broker (issue 3, point 7)."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from threading import Event, Thread

import msgspec
import pytest
from confluent_kafka import Producer
from stand_in_wheel import StandInWheel
from typer.testing import CliRunner

from schemas.codec import Codec
from schemas.ids import FingerprintIds
from schemas.records import CaptureCommand, CaptureResult, OpenCapture
from shutterwheel.cli import app
from shutterwheel.context import RunFile, WorkerEntry
from streams.core import ids
from streams.core.transition import PENDING, RUNNING, SUCCESS, TERMINAL, step
from streams.observability.http import Condition, OperatorServer, Reply
from streams.observability.metrics import Metrics

PARTITIONS = 4
CODEC = Codec(FingerprintIds())
NUMBERS = itertools.count()
"""Two captures of one millisecond have different ids."""

MANIFEST = """\
version: 1
devices:
  - {id: cam-1, address: "http://127.0.0.1:8080/1.jpg"}
schedules:
  - {id: every, devices: [cam-1, cam-2], every: 5s}
  - {id: late, device: cam-1, at: 2026-01-01T00:00:00Z}
"""


@pytest.fixture
def run(kafka_topics, namespace, tmp_path, monkeypatch):
    """Run a command on the test's cluster; return its exit code, lines of JSON, and standard error."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SHUTTERWHEEL_KAFKA", kafka_topics)
    monkeypatch.setenv("SHUTTERWHEEL_NAMESPACE", namespace)
    monkeypatch.delenv("SHUTTERWHEEL_DATA", raising=False)

    def command(*words: str):
        result = CliRunner().invoke(app, [*words])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return command


@pytest.fixture
def wheel(kafka_topics, namespace):
    with StandInWheel(kafka_topics, namespace, PARTITIONS) as running:
        yield running


def lines(result) -> list[dict]:
    return [json.loads(line) for line in result.stdout.splitlines()]


# --- schedules ----------------------------------------------------------------------------------


def test_a_manifest_is_applied_listed_and_applied_again(run, wheel, tmp_path):
    (tmp_path / "m.yaml").write_text(MANIFEST.replace("2026", "2031"))
    applied = run("schedule", "apply", "m.yaml", "--wait", "--json")
    assert (applied.exit_code, lines(applied)) == (
        0,
        [
            {
                "devices": 1,
                "schedules": 3,
                "published": True,
                "changes": {
                    "devices": {"add": 1, "change": 0, "leave": 0},
                    "schedules": {"add": 3, "change": 0, "leave": 0, "over": 0, "unasked": 0},
                },
                "accepted": 3,
                "refused": 0,
                "undecided": 0,
                "refusals": [],
            }
        ],
    )
    before = lines(run("schedule", "list", "--json"))
    assert [(row["device_id"], row["schedule_id"]) for row in before] == [
        ("cam-1", "every"),
        ("cam-1", "late"),
        ("cam-2", "every"),
    ]
    assert all(row["next_ms"] > time.time() * 1_000 for row in before)
    again = run("schedule", "apply", "m.yaml", "--wait")
    assert again.exit_code == 0
    assert "published 0 of 1 devices, 0 changes (0 added, 0 changed, 0 removed; 3 the same)" in (
        again.stdout
    )
    forced = run("schedule", "apply", "m.yaml", "--wait", "--force")
    assert (forced.exit_code, "accepted 3" in forced.stdout) == (0, True)
    after = lines(run("schedule", "list", "--json"))
    assert [row["epoch"] for row in after] == [row["epoch"] for row in before], "nothing changed"


def test_what_is_refused_is_said_and_ends_with_1(run, wheel, tmp_path):
    (tmp_path / "m.yaml").write_text(MANIFEST)
    result = run("schedule", "apply", "m.yaml", "--wait", "--force")
    assert result.exit_code == 1
    assert "refused: cam-1 late: the time" in result.stderr
    assert "accepted 2, refused 1" in result.stdout
    again = run("schedule", "apply", "m.yaml", "--wait")
    assert (again.exit_code, "0 changes" in again.stdout) == (0, True), "what is over is left"
    assert "over: cam-1 late" in again.stderr


def test_a_file_is_compared_applied_and_pruned(run, wheel, tmp_path):
    """Issue 5, 'Group targets': diff and --dry-run before apply, which prunes only when told."""
    file = tmp_path / "m.yaml"
    north = '{id: north, devices: {labels: {line: "3"}, site: north}, every: 5s}'
    file.write_text(f"version: 1\nowner: o\nschedules:\n  - {north}\n")
    nobody = run("schedule", "diff", "m.yaml")
    assert nobody.exit_code == 0
    assert "m.yaml:4:26: no known device is in this group" in nobody.stderr
    for device, site in (("cam-1", "north"), ("cam-2", "north"), ("cam-3", "south")):
        words = ("--site", site, "--label", "line=3")
        assert run("device", "add", device, "http://127.0.0.1/x", *words).exit_code == 0
    dry = run("schedule", "apply", "m.yaml", "--dry-run", "--json")
    assert dry.exit_code == 0
    assert [one.get("device_id") for one in lines(dry)] == ["cam-1", "cam-2", None]
    differs = run("schedule", "diff", "m.yaml")
    assert (differs.exit_code, "2 to add, 0 to change, 0 the same" in differs.stdout) == (1, True)
    assert run("schedule", "apply", "m.yaml", "--wait").exit_code == 0
    assert run("schedule", "diff", "m.yaml").exit_code == 0

    # Of another's hand: it has no part in what the file owns.
    other = "version: 1\nschedules: [{id: every, devices: [cam-1, cam-2], every: 5s}]\n"
    (tmp_path / "other.yaml").write_text(other)
    assert run("schedule", "apply", "other.yaml", "--wait").exit_code == 0
    file.write_text(file.read_text().replace("north, devices", "all, devices").replace("5s", "9s"))
    result = run("schedule", "diff", "m.yaml", "--prune", "--json")
    assert result.exit_code == 1
    assert [(one["change"], one.get("schedule_id")) for one in lines(result)] == [
        ("add", "o/all"),
        ("add", "o/all"),
        ("remove", "o/north"),
        ("remove", "o/north"),
        (None, None),
    ]
    kept = run("schedule", "apply", "m.yaml", "--wait")
    assert "2 schedules are not asked for any more; --prune cancels them" in kept.stderr
    pruned = run("schedule", "apply", "m.yaml", "--wait", "--prune")
    assert (pruned.exit_code, "accepted 2, refused 0" in pruned.stdout) == (0, True)
    left = {
        (row["device_id"], row["schedule_id"]) for row in lines(run("schedule", "list", "--json"))
    }
    assert left == {
        *(("cam-1", "every"), ("cam-2", "every")),
        *(("cam-1", "o/all"), ("cam-2", "o/all")),
    }


def test_many_are_removed_only_after_a_yes(run, wheel, tmp_path):
    many = ", ".join(f"cam-{n}" for n in range(11))
    text = f"version: 1\nowner: o\nschedules: [{{id: a, devices: [{many}], every: 5s}}]\n"
    (tmp_path / "m.yaml").write_text(text)
    assert run("schedule", "apply", "m.yaml", "--wait").exit_code == 0
    (tmp_path / "m.yaml").write_text("version: 1\nowner: o\nschedules: []\n")
    asked = run("schedule", "apply", "m.yaml", "--wait", "--prune")
    assert (asked.exit_code, "11 schedules would be removed" in asked.stderr) == (2, True)
    assert len(lines(run("schedule", "list", "--json"))) == 11
    assert run("schedule", "apply", "m.yaml", "--wait", "--prune", "--yes").exit_code == 0
    assert lines(run("schedule", "list", "--json")) == []


def test_pause_resume_cancel(run, wheel, tmp_path):
    (tmp_path / "m.yaml").write_text(MANIFEST)
    run("schedule", "apply", "m.yaml", "--wait")
    assert run("schedule", "pause", "cam-2", "every", "--reason", "dirty").exit_code == 0
    (row,) = lines(run("schedule", "list", "--device", "cam-2", "--json"))
    assert (row["paused"], row["pause_reason"], row["next_ms"]) == (True, "dirty", None)
    assert "paused: dirty" in run("schedule", "list").stdout
    assert run("schedule", "resume", "cam-2", "every").exit_code == 0
    assert run("schedule", "cancel", "cam-2", "every").exit_code == 0
    assert lines(run("schedule", "list", "--device", "cam-2", "--json")) == []
    gone = run("schedule", "cancel", "cam-2", "every")
    assert (gone.exit_code, "has no schedule 'every'" in gone.stderr) == (1, True)
    assert run("schedule", "cancel", "cam-2", "every", "--json").exit_code == 1


def test_schedules_are_looked_at(run, wheel, write, tmp_path):
    """Issue 5, 'For people': list, preview, words, forecast and trigger, of what the wheel has."""
    paris = ("--latitude", "48.86", "--longitude", "2.35")
    assert run("device", "add", "cam-1", "http://127.0.0.1/x", *paris).exit_code == 0
    (tmp_path / "m.yaml").write_text(
        "version: 1\nschedules:\n"
        "  - {id: every, devices: [cam-1, cam-2], every: 1s, spread: 1s}\n"
        "  - {id: noon, devices: all, sun: noon-1h, zone: Europe/Paris}\n"
        '  - {id: day, device: cam-2, cron: "30 8 * * mon-fri", zone: Europe/Paris}\n'
    )
    assert run("schedule", "apply", "m.yaml", "--wait").exit_code == 0
    rows = {
        (one["device_id"], one["schedule_id"]): one
        for one in lines(run("schedule", "list", "--json"))
    }
    assert len(rows) == 4
    now_ms = time.time() * 1_000
    assert all(one["next_ms"] > now_ms - 5_000 for one in rows.values())
    assert "Europe/Paris" in rows["cam-2", "day"]["words"]

    # What the list says is what the preview says.
    found = lines(run("schedule", "preview", "cam-2", "day", "--next", "3", "--json"))
    assert found[0]["scheduled_ms"] == rows["cam-2", "day"]["next_ms"]
    assert {one["local"][-15:] for one in found} == {"08:30:00 +01:00"}
    assert "at 08:30 on weekdays" in run("schedule", "explain-schedule", "cam-2", "day").stdout
    unknown = run("schedule", "preview", "cam-2", "night")
    assert (unknown.exit_code, "has no schedule 'night'" in unknown.stderr) == (1, True)

    # How the last capture ended is looked up only when asked for.
    done = msgspec.structs.replace(result_of(capture("cam-1")), schedule_id="every")
    write("capture.results", done)
    listed = lines(run("schedule", "list", "--device", "cam-1", "--results", "1h", "--json"))
    assert [(one["schedule_id"], (one["result"] or {}).get("state")) for one in listed] == [
        ("every", "SUCCESS"),
        ("noon", None),
    ]
    wait_until(lambda: lines(run("schedule", "list", "--json"))[0]["last_ms"] is not None)

    # Before and after a file: two more devices, and one schedule less.
    (tmp_path / "more.yaml").write_text(
        "version: 1\nschedules: [{id: every, devices: [cam-1, cam-3, cam-4], every: 1s}]\n"
    )
    words = ("schedule", "forecast", "more.yaml", "--for", "1m", "--by", "10s")
    words += ("--from", "2027-01-01T00:00:00Z", "--json")
    (load,) = lines(run(*words))
    assert (load["now"]["captures"], load["after"]["captures"]) == (120, 240)
    assert run("schedule", "pause", "cam-2", "every").exit_code == 0
    (load,) = lines(run(*words))
    assert (load["now"]["captures"], load["now"]["paused"]) == (60, 1)

    asked = run("schedule", "trigger", "cam-2", "every", "--no-wait", "--json")
    assert (asked.exit_code, lines(asked)[0]["device_id"]) == (0, "cam-2")
    alone = run("schedule", "trigger", "cam-2", "every", "--timeout", "300ms")
    assert (alone.exit_code, "Check that workers run" in alone.stderr) == (1, True)
    nothing = run("schedule", "trigger", "cam-2", "none")
    assert (nothing.exit_code, "has no schedule 'none'" in nothing.stderr) == (1, True)


def wait_until(true, timeout_s: float = 10.0) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < deadline_s
        time.sleep(0.1)


def test_a_decision_that_does_not_come_says_what_to_check(run):
    result = run("schedule", "cancel", "cam-1", "s", "--timeout", "300ms")
    assert result.exit_code == 1
    assert "shutterwheel doctor" in result.stderr


# --- devices ------------------------------------------------------------------------------------


def test_devices_are_added_listed_and_removed(run):
    words = ("--label", "line=3", "--model", "X", "--credentials", "env:CAMERA_1")
    assert run("device", "add", "cam-1", "http://10.0.0.7/x", *words).exit_code == 0
    outside = run("device", "add", "cam-2", "http://8.8.8.8/x")
    assert (outside.exit_code, "8.8.8.8 may not be contacted" in outside.stderr) == (0, True)
    one, two = lines(run("device", "list", "--json"))
    assert (one["device_id"], one["labels"], one["credentials_ref"], two["device_id"]) == (
        "cam-1",
        {"line": "3"},
        "env:CAMERA_1",
        "cam-2",
    )
    assert run("device", "remove", "cam-1").exit_code == 0
    assert [row["device_id"] for row in lines(run("device", "list", "--json"))] == ["cam-2"]
    again = run("device", "remove", "cam-1")
    assert (again.exit_code, "There is no device 'cam-1'" in again.stderr) == (1, True)


# --- captures and results -----------------------------------------------------------------------


def capture(device_id: str = "cam-1") -> OpenCapture:
    """Return a capture that was armed and has taken its photo, in three real transitions."""
    now_ms = time.time_ns() // 1_000_000
    command_id = ids.command_id(now_ms, ids.shard_of(device_id), next(NUMBERS))
    command = CaptureCommand(
        command_id, device_id, "s", "", 1, now_ms, now_ms, now_ms + 5_000, 3_000, 0, now_ms
    )
    found = OpenCapture(command, "", 0, now_ms, ())
    for before, after in (("", PENDING), (PENDING, RUNNING), (RUNNING, SUCCESS)):
        found = step(found, before, after, now_ms, "because [red]it is so")
    return found


def result_of(found: OpenCapture) -> CaptureResult:
    command, last = found.command, found.transitions[-1]
    assert last.to_state in TERMINAL
    return CaptureResult(
        command_id=command.command_id,
        device_id=command.device_id,
        schedule_id=command.schedule_id,
        request_id="",
        epoch=command.epoch,
        nominal_ms=command.nominal_ms,
        scheduled_ms=command.scheduled_ms,
        state=last.to_state,
        cause=last.cause,
        attempt=last.attempt,
        ended_at_ms=last.at_ms,
        shutter_at_ms=command.scheduled_ms,
        image=None,
        timings=None,
        transitions=found.transitions,
    )


@pytest.fixture
def write(kafka_topics, namespace):
    producer = Producer({"bootstrap.servers": kafka_topics, "log_level": 0})

    def records(topic: str, *found) -> None:
        for record in found:
            home = ids.partition_of(record.device_id, PARTITIONS)
            key = record.device_id.encode()
            producer.produce(f"{namespace}.{topic}", CODEC.encode(record), key, home)
        producer.flush(30)

    return records


def test_a_capture_that_has_ended_is_found_in_the_topics(run, write):
    """SPEC 2.4: each transition is shown, and its CRC64 checked."""
    found = capture()
    # A success without a photo is not sound, and 'show' says so.
    write("capture.results", result_of(capture("cam-2")), result_of(found))
    shown = run("capture", "show", str(found.command.command_id), "--json")
    (one,) = lines(shown)
    assert (one["record"], one["state"], len(one["transitions"])) == ("CaptureResult", "SUCCESS", 3)
    assert one["faults"] == ["an image belongs to SUCCESS, and only there"]
    assert shown.exit_code == 1
    text = run("capture", "show", str(found.command.command_id)).stdout
    assert "because [red]it is so" in text
    assert text.count(" ok ") == 3


def test_a_damaged_transition_is_shown(run, write):
    found = capture()
    bad = msgspec.structs.replace(found.transitions[1], at_ms=found.transitions[1].at_ms + 1)
    good = result_of(found)
    transitions = (good.transitions[0], bad, good.transitions[2])
    write("capture.results", msgspec.structs.replace(good, transitions=transitions))
    shown = run("capture", "show", str(found.command.command_id))
    assert shown.exit_code == 1
    assert "damaged: transition 1: the CRC does not match" in shown.stderr
    assert shown.stdout.count(" fail ") == 1


def test_a_command_without_a_result_is_found(run, write):
    found = capture()
    write("capture.commands", found.command)
    shown = run("capture", "show", str(found.command.command_id))
    assert (shown.exit_code, "issued; no worker has told of it yet" in shown.stdout) == (0, True)


def test_a_capture_that_never_was(run):
    shown = run("capture", "show", str(ids.command_id(time.time_ns() // 1_000_000, 3, 7)))
    assert (shown.exit_code, "No capture" in shown.stderr) == (1, True)


@pytest.fixture
def worker():
    """An operators' server that knows one open capture, as a captures worker does."""
    found = capture()
    ready, stop = Event(), Event()
    url = ""

    async def answer(query) -> Reply:
        if query["id"] != str(found.command.command_id):
            return Reply(404, {"error": "not open here"})
        return Reply(200, {"device_id": "cam-1", **msgspec.to_builtins(found)})

    async def main() -> None:
        nonlocal url
        server = OperatorServer(Metrics("captures", "1"), ready=lambda: Condition(ok=True))
        server.add_get("/captures/{id}", answer)
        url = f"http://127.0.0.1:{await server.start()}"
        ready.set()
        await asyncio.to_thread(stop.wait)
        await server.stop()

    thread = Thread(target=asyncio.run, args=(main(),))
    thread.start()
    assert ready.wait(30)
    yield url, found
    stop.set()
    thread.join(30)


def test_an_open_capture_is_asked_of_its_worker(run, worker, kafka_topics, namespace, tmp_path):
    url, found = worker
    workers = (
        WorkerEntry("wheel", "0", "http://127.0.0.1:1"),
        WorkerEntry("captures", "0", "http://127.0.0.1:1"),  # gone
        WorkerEntry("captures", "1", url),
    )
    RunFile(kafka_topics, namespace, PARTITIONS, workers, "").save(tmp_path / ".shutterwheel")
    (one,) = lines(run("capture", "show", str(found.command.command_id), "--json"))
    assert (one["record"], one["source"], len(one["transitions"])) == (
        "OpenCapture",
        f"worker {url}",
        3,
    )
    text = run("capture", "show", str(found.command.command_id)).stdout
    assert "cam-1" in text
    assert text.count(" ok ") == 3
    checks = json.loads(run("doctor", "--json").stdout)["checks"]
    by_name = {check["name"]: check["status"] for check in checks}
    assert (by_name["captures 0"], by_name["captures 1"]) == ("fail", "ok")


def test_a_request_for_one_photo(run, wheel, write):
    asked = run("capture", "request", "cam-1", "--at", "+1h", "--json")
    (one,) = lines(asked)
    assert (asked.exit_code, one["device_id"]) == (0, "cam-1")
    past = run("capture", "request", "cam-1", "--at", "2026-01-01T00:00:00Z", "--wait")
    assert (past.exit_code, "publish a time in the future" in past.stderr) == (1, True)
    alone = run("capture", "request", "cam-1", "--wait", "--timeout", "300ms")
    assert (alone.exit_code, "Check that workers run" in alone.stderr) == (1, True)


def test_results_are_tailed(run, write):
    found = [result_of(capture(f"cam-{n % 3}")) for n in range(9)]
    write("capture.results", *found)
    beginning = ("results", "tail", "--from-beginning", "--no-follow")
    shown = lines(run(*beginning, "--json"))
    assert {one["command_id"] for one in shown} == {one.command_id for one in found}
    assert len(lines(run(*beginning, "--json", "--limit", "2"))) == 2
    assert {one["device_id"] for one in lines(run(*beginning, "--json", "--device", "cam-1"))} == {
        "cam-1"
    }
    assert "because [red]it is so" in run(*beginning).stdout
    first = lines(run(*beginning, "--json", "--group", "g", "--limit", "4"))
    rest = lines(run(*beginning, "--json", "--group", "g"))
    assert {one["command_id"] for one in first + rest} == {one.command_id for one in found}
    assert len(first + rest) == len({one.command_id for one in found})


def test_ctrl_c_ends_a_tail_quietly_with_130(run, write, kafka_topics, namespace, tmp_path):
    write("capture.results", result_of(capture()))
    tail = subprocess.Popen(
        [sys.executable, "-m", "shutterwheel", "results", "tail", "--from-beginning", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=dict(os.environ),
        cwd=os.path.dirname(os.path.dirname(os.path.dirname(__file__))),  # noqa: PTH120
    )
    assert tail.stdout is not None
    assert json.loads(tail.stdout.readline())["record"] == "CaptureResult"
    tail.send_signal(signal.SIGINT)
    rest, complaint = tail.communicate(timeout=30)
    assert (tail.returncode, rest, complaint) == (130, b"", b"")


# --- devices ------------------------------------------------------------------------------------


def test_a_known_device_is_checked(run):
    """Issue 6: protocol, way and clock of a device, by its profile in the topic."""
    words = ("-m", "connectors.cameras.simulated_onvif", "--skew-s", "7200")
    with subprocess.Popen([sys.executable, *words], stdout=subprocess.PIPE) as camera:
        assert camera.stdout is not None
        port = json.loads(camera.stdout.readline())["port"]
        address = f"http://127.0.0.1:{port}/onvif/cam-00001/device_service"
        assert run("device", "add", "gate", address, "--protocol", "auto").exit_code == 0
        (found,) = lines(run("device", "check", "gate", "--json"))
        assert (found["device"], found["protocol"], found["way"]) == ("gate", "onvif", "snapshot")
        assert found["clock_ahead_ms"] == pytest.approx(7_200_000, abs=60_000)
        unknown = run("device", "check", "nobody")
        assert (unknown.exit_code, "There is no device" in unknown.stderr) == (1, True)
        camera.terminate()
        assert camera.wait(20) == 0


# --- topics and doctor --------------------------------------------------------------------------


def test_topics(run, namespace):
    shown = run("topics", "--json")
    assert shown.exit_code == 0
    (one,) = lines(shown)
    assert {topic["partitions"] for topic in one["topics"]} == {PARTITIONS}
    missing = run("topics", "--namespace", f"{namespace}x")
    assert (missing.exit_code, "--create makes them" in missing.stderr) == (1, True)
    other = run("topics", "--partitions", "8")
    assert (other.exit_code, "has 4 partitions, 8 were expected" in other.stderr) == (1, True)


def test_topics_are_created_once(run, kafka, namespace):
    from infra.kafka.admin import drop_topics

    sandbox = f"{namespace}y"
    try:
        first = run("topics", "--create", "--namespace", sandbox, "--partitions", "2")
        again = run("topics", "--create", "--namespace", sandbox)
        assert (first.exit_code, again.exit_code) == (0, 0)
        assert "created 0 topics" in again.stderr
    finally:
        drop_topics(kafka, sandbox)


def test_doctor_on_a_cluster(run, namespace):
    checks = {one["name"]: one for one in json.loads(run("doctor", "--json").stdout)["checks"]}
    assert (checks["kafka"]["status"], checks["topics"]["status"]) == ("ok", "ok")
    assert "no wheel runs" in checks["wheel"]["found"]
    assert "no wheel has noted any yet" in checks["tz data"]["found"]
    missing = run("doctor", "--namespace", f"{namespace}x")
    assert missing.exit_code == 1
    assert "`shutterwheel topics --create` makes them" in missing.stdout
