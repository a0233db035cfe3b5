"""An audit in columns finds what one record by record finds, whatever was done to the log."""

from __future__ import annotations

import random

import pytest
from audit_world import CODEC, START_MS, World, upserted

from schemas.records import CaptureRequested, ScheduleCancelled
from streams.replay import audit_columns, audit_findings, audit_results
from streams.replay.audit_runs import QuietRun

TOPICS = ("capture.commands", "capture.results", "schedule.ticks", "schedule.decisions")


def made(seed):
    """A few minutes of a dozen cameras, with changes now and then."""
    chance, world = random.Random(seed), World()
    world.publish(*(upserted(n, f"cam-{n}", chance.choice((5_000, 7_000))) for n in range(12)))
    for number in range(12):
        world.run(chance.randrange(2, 16))
        device = f"cam-{chance.randrange(12)}"
        event = chance.choice(
            [
                ScheduleCancelled(f"c-{number}", device, "s", START_MS),
                upserted(f"u-{number}", device, 6_000, spread_ms=3_000),
                CaptureRequested(
                    f"q-{number}", device, None, upserted(0).policy, world.now_ms
                ),
            ]
        )  # fmt: skip
        world.publish(event)
        if number == 5:
            world.snapshot()
    return world.run(30), chance


def damage(world, chance):
    """Remove, double, swap or change some of the records."""
    for _ in range(chance.randrange(1, 9)):
        topic = chance.choice(TOPICS)
        entries = world.entries(topic)
        at = chance.randrange(len(entries) - 1)
        match chance.randrange(5):
            case 0:
                world.remove(topic, at)
            case 1:
                world.double(topic, at)
            case 2:
                here, there = entries[at], entries[at + 1]
                entries[at] = here._replace(value=there.value)
                entries[at + 1] = there._replace(value=here.value)
            case 3 if topic != "schedule.ticks":
                other = chance.choice(entries)
                entries[at] = entries[at]._replace(value=other.value)
            case _:
                value = bytearray(entries[at].value)
                value[chance.randrange(5, len(value))] ^= 1 << chance.randrange(8)
                entries[at] = entries[at]._replace(value=bytes(value))


@pytest.mark.parametrize("seed", range(40))
def test_both_ways_find_the_same(seed, monkeypatch):
    monkeypatch.setattr(audit_findings, "FIRST", 10_000)
    monkeypatch.setattr(audit_results, "FEW", 0)
    if seed % 2:  # of many results most are seen to be sound by their shape, of few by a walk
        monkeypatch.setattr(audit_columns, "FEWEST", 1)
    world, chance = made(seed)
    if seed:
        damage(world, chance)
    quick = world.audit(settle_ms=0)
    monkeypatch.setattr(audit_results, "FEW", 1 << 40)
    monkeypatch.setattr(QuietRun, "fits", lambda *_: False)
    slow = world.audit(settle_ms=0)
    assert told(quick) == told(slow)
    assert quick.folded > 0
    assert bool(quick.counts) == bool(seed) or quick.counts == slow.counts


def told(report):
    """All that a report says, in an order of its own."""
    findings = sorted(
        (one.kind, one.topic, one.offset, one.text, one.device_id) for one in report.findings
    )
    numbers = {
        name: getattr(report, name)
        for name in report.__struct_fields__
        if name not in {"findings", "unchecked"}
    }
    return findings, sorted(report.unchecked), numbers


def test_the_quick_way_is_taken(monkeypatch):
    """Else the comparison above would compare nothing."""
    folded, looked, walked = [], [], []
    fold, look = QuietRun.fold, audit_results.ResultCheck._look_together

    def noted(*arguments):
        found = fold(*arguments)
        folded.append(found[0])
        return found

    def seen(self, entries):
        rest = look(self, entries)
        looked.append(len(entries) - len(rest))
        return rest

    def by_foot(work, left, seen):
        walked.append(len(left))
        return walk(work, left, seen)

    walk = audit_columns._walk
    monkeypatch.setattr(audit_columns, "_walk", by_foot)
    monkeypatch.setattr(audit_columns, "FEWEST", 1)
    monkeypatch.setattr(QuietRun, "fold", noted)
    monkeypatch.setattr(audit_results.ResultCheck, "_look_together", seen)
    world, _ = made(0)
    report = world.audit(store=False)
    assert report.counts == {}
    assert sum(folded) > report.ticks // 2
    assert sum(looked) > report.results * 9 // 10
    assert sum(walked) < report.results // 10
    assert CODEC.decode(world.entries("capture.results")[0].value).command_id
