"""The language of schedules and its policies, from the event to the photo (issue 5; SPEC 1.10)."""

from __future__ import annotations

import json
from datetime import UTC, datetime

from chain_harness import SCHEDULE, assert_kept
from msgspec.structs import replace
from typer.testing import CliRunner

from connectors.cameras.faults import Fault
from connectors.clients import events
from schemas.records import AutoPaused, CaptureCommand, Ended, Term
from shutterwheel.cli import app


def noon_meridian():
    """Return a longitude at which the sun stands high now."""
    now = datetime.now(UTC)
    return (12 - now.hour - now.minute / 60) * 15


def place(longitude):
    return {"latitude": 0.0, "longitude": (longitude + 180) % 360 - 180}


def publish(chain, device, **options):
    wanted = {"lead": "1s", "catch_up": "30s", **options}
    chain.all_accepted([events.upserted(device, SCHEDULE, **wanted)])


def taken(chain, device):
    return [r for r in chain.results() if r.device_id == device and r.state == "SUCCESS"]


def wait_for_photos(chain, device, count):
    return chain.wait_until(
        f"{count} photos of {device}",
        lambda: (found := taken(chain, device))[count - 1 :] and found,
    )


def test_photos_by_cron_by_union_by_count_and_by_the_sun(make_chain):
    """Each photo is where its rule puts it; the checker, which asks no wheel, agrees."""
    chain = make_chain(devices=6)
    cron, union, counted, day, night, jittered = chain.devices
    chain.introduce([cron, union, counted, jittered])
    for device, longitude in ((day, noon_meridian()), (night, noon_meridian() + 180)):
        chain.publisher.device(device, chain.cameras.url(device), **place(longitude))
    chain.publisher.flush()
    publish(chain, cron, cron="*/2 * * * * *", zone="Asia/Kathmandu")
    publish(chain, counted, every="1s", count=3)
    publish(chain, day, every="1s", daylight="sunrise..sunset")
    publish(chain, night, every="1s", daylight="sunrise..sunset")
    publish(chain, jittered, every="2s", spread="500ms", jitter="900ms", misfire="all")
    soon_ms = events.now_ms() + 8_000  # well after the notice that a new schedule is given
    event = events.upserted(union, SCHEDULE, every="3s", lead="1s", catch_up="30s")
    both = replace(event.spec, also=(Term("once", at_ms=soon_ms),))
    chain.all_accepted([replace(event, spec=both)])

    wait_for_photos(chain, cron, 3)
    wait_for_photos(chain, day, 3)
    wait_for_photos(chain, jittered, 3)
    wait_for_photos(chain, counted, 3)
    chain.wait_until(
        "the one moment of the union",
        lambda: soon_ms in {r.scheduled_ms for r in taken(chain, union)},
    )
    assert all(r.scheduled_ms % 2_000 == 0 for r in taken(chain, cron))
    shifts = [r.scheduled_ms - r.nominal_ms for r in taken(chain, jittered)]
    assert len(set(shifts)) > 1, "jitter moves each time by its own"
    assert all(0 <= shift < 1_400 for shift in shifts)
    assert not taken(chain, night), "no photo in the night"
    chain.wait_until("it has ended", lambda: list(chain.records("schedule.decisions", Ended)))
    assert len(taken(chain, counted)) == 3
    report = chain.finish([cron, union, day, night, jittered])
    assert report.due >= 9, "what depends on the sun is not among them"


def test_a_camera_that_fails_is_paused_and_one_that_is_slow_is_skipped(make_chain):
    """The fold pauses by a fact of its ticks; an overlap is decided where the device is known."""
    chain = make_chain(devices=2)
    broken, slow = chain.devices
    chain.introduce()
    chain.cameras.faults({broken: Fault("status", status=404), slow: Fault("slow", delay_ms=1_500)})
    publish(chain, broken, every="1s", pause_after_failures=4, catch_up="900ms")
    publish(chain, slow, every="1s", overlap="skip")
    (paused,) = chain.wait_until(
        "the schedule is paused", lambda: list(chain.records("schedule.decisions", AutoPaused))
    )
    assert (paused.device_id, paused.schedule_id) == (broken, SCHEDULE)
    assert "404" in paused.reason
    wait_for_photos(chain, slow, 2)
    given_up = chain.wait_until(
        "a photo is skipped",
        lambda: [r for r in chain.results() if r.cause.startswith("overlap: skip")],
    )
    assert {r.state for r in given_up} == {"REVOKED"}
    count = len([c for c in chain.records("capture.commands", CaptureCommand)
                 if c.device_id == broken])  # fmt: skip
    chain.cameras.faults({broken: None, slow: None})
    done = CliRunner().invoke(
        app, ["schedule", "trigger", broken, SCHEDULE, "--json", "--data", str(chain.cluster.data)]
    )
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)
    assert taken(chain, broken), "triggered by hand, though the schedule is paused"
    commands = [c for c in chain.records("capture.commands", CaptureCommand)
                if c.device_id == broken]  # fmt: skip
    assert len(commands) == count + 1, "nothing else was issued while it was paused"
    chain.cancel()
    chain.drain()
    assert_kept(chain.check())


def test_a_herd_is_moved_forward_within_what_each_schedule_tolerates(make_chain):
    """One capture a second a shard: four of one moment take four seconds, and say so."""
    chain = make_chain(devices=1, capacity=1)
    chain.introduce()
    (device,) = chain.devices
    chain.all_accepted(
        events.upserted(device, f"s{n}", every="6s", lead="1s", tolerance="4s", catch_up="30s")
        for n in range(4)
    )
    wait_for_photos(chain, device, 8)
    chain.all_accepted(events.cancelled(device, f"s{n}") for n in range(4))
    chain.drain()
    commands = list(chain.records("capture.commands", CaptureCommand))
    by_nominal: dict[int, list[int]] = {}
    for command in commands:
        by_nominal.setdefault(command.nominal_ms, []).append(command.moved_ms)
    herds = [sorted(moves) for moves in by_nominal.values() if len(moves) == 4]
    assert herds
    assert all(moves == [0, 1_000, 2_000, 3_000] for moves in herds)
    assert_kept(chain.check())
