"""Why there is a photo, or none: every reason by a story of its own (SPEC 1.3; issue 7, 'explain').

Each story is written by the real fold and the real state machine; then it is asked for.
"""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from explain_scenarios import SCENARIOS
from explain_world import CODEC, DEVICE, PARTITION, T0, Shot, World

from infra.kafka.topics import MAX_PARTITIONS
from schemas.records import DeviceOffline, ScheduleSpec
from streams.agents.timing_wheel import IDLE_TICK_MS, IDLE_TICK_MS_A_PARTITION
from streams.replay.explain import UnknownCommandError, explain, explain_command
from streams.replay.explain_due import IDLE_MS
from streams.replay.explain_reasons import REASONS, Code
from streams.replay.explain_types import Ask, show_utc
from streams.replay.explain_words import lines


def ask(world: World, ms: int, **options: Any):
    question = Ask(device_id=DEVICE, at_ms=T0 + ms, now_ms=T0 + world.now, **options)
    return explain(world.log, CODEC, question)


@pytest.mark.parametrize("code", list(Code))
def test_each_reason_is_told(code: Code):
    """Issue 7: 'answers why no photo at 14:05 for every reason the system can have'."""
    assert code in SCENARIOS, f"{code} has no scenario"
    for scenario in SCENARIOS[code]:
        world = World(**scenario.settings)
        at_ms, options = scenario.play(world)
        device_id = options.pop("device_id", DEVICE)
        question = Ask(device_id=device_id, at_ms=T0 + at_ms, now_ms=T0 + world.now, **options)
        found = explain(world.log, CODEC, question)
        assert found.code == code, (scenario.play.__name__, found.answer)
        for word in scenario.words:
            assert word in found.answer, (scenario.play.__name__, found.answer)
        assert found.photo == REASONS[code].photo
        assert found.answer.endswith(".")
        assert "{" not in found.advice
        assert found.advice or found.code == Code.PHOTO_THERE


def test_every_reason_has_words_and_advice():
    assert set(REASONS) == set(Code)
    for code, reason in REASONS.items():
        assert reason.words.endswith("."), code
        assert reason.advice.endswith((".", "?")) or code is Code.PHOTO_THERE, code


# --- the facts beside the reason ------------------------------------------------------------------


def test_who_changed_it_and_the_tick_that_decided():
    """Issue 7: the schedule as it stood, who changed it and when, the tick, command and outcome."""
    world = World()
    world.publish(world.upsert())
    world.run(100_000)
    world.publish(world.upsert(ScheduleSpec("interval", every_ms=30_000), priority=3))
    world.run(240_000)
    found = ask(world, 180_000)
    (story,) = found.stories
    assert story.in_words == "every 30 seconds"
    assert "priority 3" in story.policy
    (change,) = story.changes
    assert (change.change, change.request_id, change.epoch) == ("ScheduleUpserted", "r2", 2)
    assert (change.published_at_ms, change.decided_at_ms) == (T0 + 100_000, T0 + 101_000)
    assert (change.event_offset, change.starts_at_ms) == (1, T0 + 101_001)
    tick = _record(world, "schedule.ticks", change.tick_offset)
    assert [one.event.request_id for one in tick.changes] == ["r2"]
    command = _record(world, "capture.commands", story.command.offset)
    assert (command.command_id, command.scheduled_ms) == (story.command.command_id, T0 + 180_000)
    assert _record(world, "schedule.ticks", story.tick.offset).time_ms == command.issued_at_ms
    result = _record(world, "capture.results", story.outcome.offset)
    assert result.command_id == command.command_id
    assert (story.outcome.image, story.outcome.lateness_ms) == (result.image, 0)


def test_it_is_told_as_it_stood_not_as_it_is():
    world = World()
    world.publish(world.upsert())
    world.run(100_000)
    world.publish(world.upsert(ScheduleSpec("interval", every_ms=7_000)))
    world.run(200_000)
    world.publish(world.cancel())
    world.run(300_000)
    assert ask(world, 60_000).stories[0].in_words == "every minute"
    assert ask(world, 60_000).photo
    assert ask(world, 147_000).stories[0].in_words == "every 7 seconds"
    assert ask(world, 280_000).code == Code.CANCELLED


def test_a_time_just_after_a_change_is_that_of_the_version_before():
    """A change starts at its own tick and a millisecond; a time in between is the old one's."""
    world = World()
    world.publish(world.upsert())
    world.run(59_000)
    world.publish(world.upsert(priority=2))
    world.run(60_000)  # the change's tick is the due time itself
    world.run(120_000)
    found = ask(world, 60_000)
    assert (found.code, found.stories[0].epoch) == (Code.PHOTO_THERE, 1)


def test_a_command_is_explained_by_its_id():
    world = World()
    world.publish(world.upsert(), world.upsert(schedule="gate"))
    world.run(200_000)
    wanted = [c for c in world.commands if c.scheduled_ms == T0 + 120_000]
    assert len(wanted) == 2
    for command in wanted:
        question = Ask(device_id="", at_ms=0, now_ms=T0 + world.now)
        found = explain_command(world.log, CODEC, command.command_id, question)
        (story,) = found.stories
        assert (found.device_id, found.code) == (DEVICE, Code.PHOTO_THERE)
        assert story.command.command_id == command.command_id
        assert story.schedule_id == command.schedule_id
    with pytest.raises(UnknownCommandError, match=r"No command 121218971731900000"):
        explain_command(world.log, CODEC, 121218971731900000, question)


def test_a_request_is_explained_by_its_commands_id():
    world = World()
    world.run(10_000)
    world.publish(world.request())
    world.run(20_000)
    (command,) = world.commands
    question = Ask(device_id="", at_ms=0, now_ms=T0 + world.now)
    found = explain_command(world.log, CODEC, command.command_id, question)
    assert (found.code, found.stories[0].request_id) == (Code.PHOTO_THERE, "r1")
    assert found.stories[0].changes[0].change == "CaptureRequested"


def test_the_nearest_schedule_answers_and_the_others_stand_behind():
    world = World()
    world.publish(world.upsert(schedule="a"), world.upsert(schedule="b"))
    world.publish(world.upsert(ScheduleSpec("interval", every_ms=3_600_000), schedule="c"))
    world.run(30_000)
    world.publish(world.pause(schedule="b"))
    world.run(200_000)
    found = ask(world, 120_000)
    assert found.code == Code.PHOTO_THERE
    assert [(s.schedule_id, s.code) for s in found.stories] == [
        ("a", Code.PHOTO_THERE),
        ("b", Code.PAUSED),
        ("c", Code.NOT_DUE),
    ]
    only = ask(world, 120_000, schedule_id="b")
    assert (only.code, len(only.stories)) == (Code.PAUSED, 1)
    nobody = ask(world, 120_000, schedule_id="z")
    assert (nobody.code, nobody.stories) == (Code.NO_SCHEDULE, ())
    assert "no schedule 'z'" in nobody.answer


def test_what_is_older_than_the_log_is_taken_from_the_wheels_table():
    """The change itself is forgotten; the row says what it came to, and the command the rest."""
    world = World()
    world.publish(world.upsert(priority=4))
    world.run(300_000)
    for topic in ("schedule.events", "schedule.ticks", "schedule.decisions"):
        entries = world.log.entries(topic, PARTITION)
        last = entries[-1]
        entries[:] = [e for e in entries if e.timestamp_ms >= T0 + 100_000]
        if not entries:  # a topic whose records are all too old still counts its offsets
            entries.append(
                last._replace(offset=last.offset + 1, key=b"other", timestamp_ms=T0 + 100_000)
            )
    found = ask(world, 180_000)
    (story,) = found.stories
    assert (found.code, story.in_words, story.epoch) == (Code.PHOTO_THERE, "every minute", 1)
    assert "priority 4" in story.policy
    assert [one.change for one in story.changes] == ["row"]


def test_others_on_the_partition_do_not_matter():
    """Ids that begin alike, and devices of the same shard."""
    world = World()
    for name in ("cam-10", "cam-1x", "xcam-1"):
        event = msgspec.structs.replace(world.upsert(), device_id=name)
        world.append("schedule.events", event, key=name)
    world.run(200_000)
    assert ask(world, 120_000).code == Code.NO_SUCH_DEVICE


def test_what_was_told_of_the_devices_health_stands_beside():
    world = World()
    world.publish(world.upsert())
    world.run(50_000)
    world.append("device.events", DeviceOffline(DEVICE, T0 + 50_000, T0 + 20_000))
    world.run(130_000)
    assert ask(world, 120_000).notes == (
        "2026-12-01T12:00:50Z: the device went offline, last heard of 2026-12-01T12:00:20Z.",
    )


def test_the_words_begin_with_the_answer_and_show_what_it_rests_on():
    world = World()
    world.camera = lambda _command, _attempt: Shot("auth", "401", retry=False)
    world.publish(world.upsert(spread_ms=20_000))
    world.run(100_000)
    found = ask(world, 60_000)
    text = list(lines(found, show_utc))
    assert text[0] == found.answer
    assert text[1].startswith("What to do: Check the account on the camera")
    for name in (
        "schedule",
        "policy",
        "published",
        "due",
        "tick",
        "command",
        "attempt 1",
        "outcome",
    ):
        assert sum(line.startswith(f"{name} ") for line in text) == 1, name
    assert "this device is" in "\n".join(text)


def test_an_explanation_is_json():
    world = World()
    world.publish(world.upsert())
    world.run(100_000)
    found = msgspec.json.decode(msgspec.json.encode(ask(world, 60_000)))
    assert (found["code"], found["photo"]) == ("photo_there", True)
    assert found["stories"][0]["outcome"]["image"]["sha256"] == "ab" * 32
    assert found["records_read"] > 0


def _record(world: World, topic: str, offset: int | None) -> Any:
    (found,) = [e for e in world.log.entries(topic, PARTITION) if e.offset == offset]
    return CODEC.decode(found.value)


def test_a_wheel_that_idles_does_not_look_like_none():
    """It ticks the more seldom the more partitions there are, and is never taken for stopped."""
    assert max(IDLE_TICK_MS, IDLE_TICK_MS_A_PARTITION * MAX_PARTITIONS) < IDLE_MS
