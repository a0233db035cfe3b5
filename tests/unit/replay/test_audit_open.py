"""Open commands in columns are as they would be in a dictionary (SPEC 2.4)."""

from __future__ import annotations

import random

import msgspec
import numpy as np
import pytest
from audit_world import CODEC, World, upserted

from schemas.records import CaptureCommand
from streams.replay import audit_open
from streams.replay.audit_open import GIVEN, EndedIds, OpenCommands

SETTLE_MS = 60_000


@pytest.fixture(scope="module")
def some():
    """A command that others are made of."""
    world = World()
    world.publish(upserted(1))
    world.run(20)
    record = CODEC.decode(world.entries("capture.commands")[0].value)
    assert isinstance(record, CaptureCommand)
    return record


def made(like, identity, pad=0):
    return msgspec.structs.replace(like, command_id=identity, device_id="cam-" + "x" * pad)


def together(waiting, commands, first):
    """Add commands as a run of ticks does."""
    values = [CODEC.encode(one) for one in commands]
    sizes = np.array([len(value) for value in values], np.int64)
    rows = np.zeros((GIVEN, len(values)), np.int64)
    rows[audit_open.START], rows[audit_open.SIZE] = np.cumsum(sizes) - sizes, sizes
    rows[audit_open.DEADLINE] = [waiting.deadline_ms(one) for one in commands]
    rows[audit_open.OFFSET] = range(first, first + len(values))
    ids = np.array([one.command_id for one in commands], np.int64)
    waiting.add_many(ids, np.frombuffer(b"".join(values), np.uint8), rows)


@pytest.mark.parametrize("seed", range(6))
def test_open_commands_are_as_in_a_dictionary(some, seed, monkeypatch):
    """Ids that grow, that do not, that come twice; ends one by one and together; room is made."""
    monkeypatch.setattr(audit_open, "ROOM", 16)
    chance = random.Random(seed)
    waiting, model = OpenCommands(CODEC, SETTLE_MS), {}
    number, top = 0, 1 << 60
    for _ in range(300):
        what = chance.random()
        if what < 0.5:
            count = chance.choice((1, 1, 5, 40))
            grows = chance.random() < 0.8
            ids = [
                (top := top + chance.randrange(1, 9)) if grows else top - chance.randrange(200)
                for _ in range(count)
            ]
            commands = [made(some, one, chance.randrange(9)) for one in ids]
            if count == 1:
                waiting.add(commands[0], CODEC.encode(commands[0]), number)
            else:
                together(waiting, commands, number)
            for at, one in enumerate(commands, number):
                model[one.command_id] = (one, at)
            number += count
        elif what < 0.7:
            identity = chance.choice([*model, top + 1, -5])
            found = waiting.pop(identity)
            assert (None if found is None else tuple(found)) == model.pop(identity, None)
        elif model:
            ids = chance.sample(sorted(model), chance.randrange(1, len(model) + 1))
            slots = waiting.find(np.array(ids, np.int64))
            assert waiting.firsts(np.concatenate((slots, slots))).sum() == len(ids)
            waiting.end(slots)
            for one in ids:
                del model[one]
        assert len(waiting) == len(model)
        asked = np.array([*model, top + 2, top - 250], np.int64)
        assert (waiting.find(asked) >= 0).tolist() == [int(one) in model for one in asked]
        assert sorted(waiting.ids) == sorted(model)
    latest = max((waiting.deadline_ms(one) for one, _ in model.values()), default=0)
    assert waiting.latest_deadline_ms() == latest
    left = {one.command.command_id: tuple(one) for one in waiting.overdue(latest + 1)}
    assert left == model
    assert len(waiting) == 0


def test_ids_that_ended_are_remembered_and_bounded(monkeypatch):
    monkeypatch.setattr(audit_open, "ENDED", 100)
    ended, kept = EndedIds(), []
    for first in range(0, 1_000, 10):
        ids = np.arange(first, first + 10)
        assert ended.has_none(ids)
        ended.note(ids)
        kept += ids.tolist()
        assert not ended.has_none(ids)
        assert all(one in ended for one in kept[-100:])
        assert first + 10 not in ended
    assert sum(one in ended for one in kept) <= 200
