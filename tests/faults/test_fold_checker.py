"""The checker of the wheel's state finds a planted wrong row, and a command lost or doubled."""

from __future__ import annotations

import pytest
from fold_checker import differences, fold

from connectors.clients import events
from connectors.clients.kafka import make_codec
from schemas.records import ScheduleTick, TickChange, TickSettings
from streams.core.ids import partition_of
from streams.core.shard import RULES_VERSION

CODEC = make_codec()
DEVICE = "cam-00001"
NOW_MS = 1_800_000_000_000
PARTITIONS = 4
HOME = partition_of(DEVICE, PARTITIONS)


def ticks():
    upsert = events.upserted(DEVICE, "s", every="1s", lead="1s")
    for n in range(8):
        changes = (TickChange(0, upsert),) if n == 0 else ()
        yield ScheduleTick(
            HOME, PARTITIONS, NOW_MS + n * 1_000, RULES_VERSION, "none", TickSettings(), changes
        )


@pytest.fixture
def sound():
    """Return what the topics hold after a sound run."""
    journal = list(ticks())
    rows, commands = fold(HOME, PARTITIONS, journal)
    tables: dict[str, dict[bytes, bytes]] = {}
    for (table, key), row in rows.items():
        tables.setdefault(table, {})[key] = CODEC.encode(row)
    assert tables["schedules"]
    assert len(commands) > 2
    return [CODEC.encode(t) for t in journal], tables, [CODEC.encode(c) for c in commands]


def found(journal, tables, commands):
    return differences(HOME, PARTITIONS, CODEC, journal, tables, commands)


def test_a_sound_run_differs_in_nothing(sound):
    assert found(*sound) == []


def test_a_missing_and_a_wrong_row_are_found(sound):
    journal, tables, commands = sound
    key, value = next(iter(tables["shards"].items()))
    del tables["shards"][key]
    assert len(found(*sound)) == 1
    tables["shards"][key] = value
    tables["schedules"][b"other"] = next(iter(tables["schedules"].values()))
    assert len(found(journal, tables, commands)) == 1


def test_a_lost_and_a_doubled_command_are_found(sound):
    journal, tables, commands = sound
    assert len(found(journal, tables, commands[1:])) == 1
    assert len(found(journal, tables, [*commands, commands[-1]])) == 1
