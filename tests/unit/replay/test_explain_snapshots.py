"""Explanations with snapshots on the way: the same words, and more where the log was trimmed.

Issue 7 ('explain'), ADR 0022 and 0023. Each reason's story is played with a snapshot every few
ticks, so that one lies before the time asked, and mostly between a change and its consequence.
"""

from __future__ import annotations

from typing import Any

import pytest
from explain_scenarios import SCENARIOS
from explain_world import CODEC, DEVICE, PARTITION, T0, World

from schemas.errors import StoreError
from schemas.records import (
    Accepted,
    DeviceFact,
    PartitionSnapshot,
    ScheduleSpec,
    ScheduleUpserted,
)
from streams.replay.explain import explain
from streams.replay.explain_reasons import Code
from streams.replay.explain_types import Ask, Explanation, show_utc
from streams.replay.explain_words import lines
from streams.replay.start import NO_STORE

EVERY = 9
"""Ticks from one snapshot to the next; where there are thousands of rows, fewer."""


def gone(snapshot: PartitionSnapshot) -> list[Any]:
    raise StoreError(f"{snapshot.uri} is not there.")


def words(found: Explanation) -> list[str]:
    return list(lines(found, show_utc))


@pytest.mark.parametrize("code", list(Code))
def test_the_words_are_the_same_with_a_snapshot_in_between_and_without(
    code: Code, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(World, "snapshot_every", 90 if code is Code.OVERFLOW else EVERY)
    for scenario in SCENARIOS[code]:
        world = World(**scenario.settings)
        at_ms, options = scenario.play(world)
        question = Ask(
            device_id=options.pop("device_id", DEVICE),
            at_ms=T0 + at_ms,
            now_ms=T0 + world.now,
            **options,
        )
        without = explain(world.log, CODEC, question)
        found = explain(world.log, CODEC, question, world.rows)
        unread = explain(world.log, CODEC, question, gone)
        assert without.code == code, (scenario.play.__name__, without.answer)
        assert words(without) == words(unread), scenario.play.__name__
        if code is not Code.LOG_TOO_SHORT:  # of which a snapshot may know more
            assert words(found) == words(without), scenario.play.__name__
            assert found.stories == without.stories


def sunny() -> World:
    """A schedule by the sun, whose device's place came hours of ticks before."""
    world = World()
    world.snapshot_every = 50
    world.profile(latitude=48.85, longitude=2.35)
    world.facts.append(DeviceFact(DEVICE, "place", latitude=48.85, longitude=2.35))
    world.publish(world.upsert(ScheduleSpec("sun", expression="sunset")))
    world.run(120_000)
    world.now += 1  # the profile has gone since, so only ticks and snapshots tell where it stood
    world.append("device.profiles", CODEC.decode(_profile(world)))
    return world


def _profile(world: World) -> bytes:
    (entry,) = world.log.entries("device.profiles", PARTITION)
    return entry.value or b""


def ask(world: World, ms: int, read_rows: Any = None, **options: Any) -> Explanation:
    question = Ask(device_id=DEVICE, at_ms=T0 + ms, now_ms=T0 + world.now, **options)
    return explain(world.log, CODEC, question, read_rows)


def test_the_place_is_taken_from_the_last_snapshot_before_and_which_is_said():
    world = sunny()
    found = ask(world, 110_000, world.rows)
    assert found.began is not None
    assert found.began.snapshot_ms == T0 + 100_000
    assert found.began.passed_over == ()
    without = ask(world, 110_000)
    assert without.began is not None
    assert without.began.snapshot_ms is None
    assert without.began.passed_over == (NO_STORE,)
    assert words(found) == words(without)
    assert "sunset" in found.stories[0].in_words
    assert found.code == Code.NOT_DUE


def test_a_snapshot_whose_rows_are_not_those_of_its_hash_is_passed_over():
    world = sunny()
    right = words(ask(world, 110_000))
    newest = max(world.files, key=lambda uri: int(uri.rpartition("/")[2]))
    older = min(world.files, key=lambda uri: int(uri.rpartition("/")[2]))
    world.files[newest] = world.files[newest][1:]
    found = ask(world, 110_000, world.rows)
    assert found.began is not None
    assert (found.began.snapshot_ms, found.began.uri) == (T0 + 50_000, older)
    assert "are not those of its hash" in found.began.passed_over[0]
    assert words(found) == right


def _accepted(event: ScheduleUpserted) -> Accepted:
    at_ms = event.published_at_ms
    return Accepted(event.request_id, "other", "door", 9, at_ms, at_ms, "ScheduleUpserted")


def trimmed(world: World, ms: int) -> None:
    """Let the topics forget what is older."""
    for topic in ("schedule.events", "schedule.ticks", "schedule.decisions"):
        entries = world.log.entries(topic, PARTITION)
        entries[:] = [one for one in entries if one.timestamp_ms >= T0 + ms]


def test_of_a_log_that_was_trimmed_the_snapshot_knows_what_stood_then():
    """The wheel's own table knows only what stands now: another spec, since."""
    world = World()
    world.publish(world.upsert(priority=4), world.upsert(schedule="gate"))
    world.run(72_000)
    other = world.upsert()
    world.append("schedule.decisions", _accepted(other), key="other")
    world.run(100_000)
    world.snapshot()
    world.run(200_000)
    world.publish(world.pause("rain", schedule="gate"))
    world.run(300_000)
    world.publish(world.upsert(ScheduleSpec("interval", every_ms=7_000)), world.cancel("gate"))
    world.run(400_000)
    whole = [ask(world, ms) for ms in (180_000, 270_000)]
    trimmed(world, 70_000)
    assert world.log.firsts("schedule.decisions")[PARTITION] > 0
    found = [ask(world, ms, world.rows) for ms in (180_000, 270_000)]
    assert [one.began.snapshot_ms for one in found if one.began] == [T0 + 100_000] * 2
    for before, after in zip(whole, found, strict=True):
        assert {(s.schedule_id, s.code, s.in_words) for s in before.stories} == {
            (s.schedule_id, s.code, s.in_words) for s in after.stories
        }
    story = {one.schedule_id: one for one in found[1].stories}
    assert [one.change for one in story["door"].changes] == ["row"]
    assert [one.change for one in story["gate"].changes] == ["row", "SchedulePaused"]
    assert story["gate"].changes[0].decided_at_ms < T0 + 100_000
    assert "priority 4" in story["door"].policy
    without = ask(world, 180_000)
    assert without.code != Code.PHOTO_THERE or "every minute" not in without.stories[0].in_words
