"""Explanations of days that nobody thought of: seeded histories, each asked at every due time.

Checked is what must hold whatever happened (issue 7): a photo is told of where there is one and
only there; nothing is called lost; who is named did it.
"""

from __future__ import annotations

import random

import pytest
from explain_world import CODEC, DEVICE, PARTITION, T0, Shot, World

from schemas.records import CaptureResult, Exclusion, ScheduleSpec
from streams.replay.explain import explain
from streams.replay.explain_reasons import Code
from streams.replay.explain_types import Ask

MINUTES = 25
SPECS = (
    ScheduleSpec("interval", every_ms=60_000),
    ScheduleSpec("interval", every_ms=30_000, exclude=(Exclusion("tea", hours="12:05-12:09"),)),
    ScheduleSpec("cron", expression="*/2 * * * *", zone="Europe/Paris"),
    ScheduleSpec("interval", every_ms=60_000, max_count=6),
    ScheduleSpec("interval", every_ms=60_000, until_ms=T0 + 15 * 60_000),
    ScheduleSpec("once", at_ms=T0 + 12 * 60_000),
)


def live(seed: int) -> World:
    """Let a partition live through half an hour of changes, outages and bad cameras."""
    rng = random.Random(seed)
    world = World(notice_ms=rng.choice((0, 1_000, 5_000)), capacity_per_shard=rng.choice((0, 0, 1)))
    shots = [Shot(), Shot(), Shot(), Shot("timeout", "slow"), Shot("auth", "no", retry=False)]
    world.camera = lambda _command, _attempt: rng.choice(shots)
    for _ in range(MINUTES * 3):
        name = rng.choice(("a", "b"))
        policy = {
            "misfire": rng.choice(("latest", "skip", "earliest", "all")),
            "spread_ms": rng.choice((0, 20_000)),
            "tolerance_ms": rng.choice((0, 5_000)),
            "catch_up_ms": rng.choice((None, 10_000)),
            "overlap": rng.choice(("allow", "skip")),
            "pause_after_failures": rng.choice((0, 3)),
        }
        match rng.choices(
            ("upsert", "pause", "resume", "cancel", "request", "wheel", "captures", "bad", ""),
            (3, 1, 2, 1, 1, 1, 1, 1, 10),
        )[0]:
            case "upsert":
                world.publish(world.upsert(rng.choice(SPECS), schedule=name, **policy))
            case "pause":
                world.publish(world.pause(schedule=name))
            case "resume":
                world.publish(world.resume(schedule=name))
            case "cancel":
                world.publish(world.cancel(schedule=name))
            case "request":
                world.publish(world.request(rng.choice((None, world.now + 40_000))))
            case "wheel":
                world.wheel = not world.wheel
            case "captures":
                world.captures = not world.captures
            case "bad":
                world.publish(world.upsert(schedule=name, priority=99))
        world.run(world.now + rng.randrange(1_000, 40_000))
        if rng.random() < 0.3:
            world.wheel = world.captures = True
    world.wheel = world.captures = True
    world.run(world.now + 150_000)
    return world


@pytest.mark.parametrize("seed", range(6))
def test_whatever_happened_there_is_an_answer_and_it_is_true(seed: int):
    world = live(seed)
    results = [
        r
        for entry in world.log.entries("capture.results", PARTITION)
        if isinstance(r := CODEC.decode(entry.value or b""), CaptureResult)
    ]
    photos = {r.scheduled_ms for r in results if r.state == "SUCCESS"}
    told: set[Code] = set()
    for at_ms in range(T0, T0 + world.now - 150_000, 30_000):
        ask = Ask(device_id=DEVICE, at_ms=at_ms, now_ms=T0 + world.now, window_ms=14_000)
        found = explain(world.log, CODEC, ask)
        told.add(found.code)
        assert found.code not in {Code.LOST, Code.LOG_TOO_SHORT, Code.WHEEL_BEHIND}, found.answer
        if found.photo:
            story = found.stories[0]
            assert story.command.scheduled_ms in photos
            assert story.outcome.state == "SUCCESS"
        else:
            assert at_ms not in photos, (found.code, found.answer)
        for story in found.stories:
            for change in story.changes:
                assert change.decided_at_ms <= at_ms + 14_000 or story.command, found.answer
            if story.command is not None and story.outcome is not None:
                (result,) = [r for r in results if r.command_id == story.command.command_id]
                assert story.outcome.state == result.state
    assert len(told) > 2, "a day with some variety"
