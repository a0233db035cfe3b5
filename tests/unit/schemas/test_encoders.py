"""The encoder's bytes are fastavro's bytes (Avro 1.12 specification, "Binary Encoding")."""

from __future__ import annotations

import io

import msgspec
import pytest
from fastavro import parse_schema, schemaless_writer
from hypothesis import given
from hypothesis import strategies as st
from record_strategies import LONGS, of_record

from schemas import encoders
from schemas.catalogue import current_schemas, full_name
from schemas.encoders import Encoders, varint
from schemas.records import RECORDS, ScheduleTick

SCHEMAS = current_schemas()
PARSED = {name: parse_schema(schema) for name, schema in SCHEMAS.items()}
ENCODERS = Encoders()
TABLES = {name: ENCODERS.of(schema) for name, schema in SCHEMAS.items()}


def plain(record):
    """What fastavro wants: dicts, and (name, dict) for a branch of a union of records."""
    made = msgspec.to_builtins(record, builtin_types=(bytes,))
    if isinstance(record, ScheduleTick):
        for change, dictionary in zip(record.changes, made["changes"], strict=True):
            dictionary["event"] = (full_name(type(change.event)), dictionary["event"])
    return made


def by_fastavro(schema, value):
    stream = io.BytesIO()
    schemaless_writer(stream, schema, value)
    return stream.getvalue()


@given(record=st.one_of([of_record(record) for record in RECORDS]))
def test_the_bytes_are_those_of_fastavro(record):
    name = full_name(type(record))
    assert TABLES[name][record] == by_fastavro(PARSED[name], plain(record))


@given(value=LONGS)
def test_a_varint_is_that_of_fastavro(value):
    assert varint(value) == by_fastavro("long", value)


@pytest.mark.parametrize("bits", range(64))
def test_varints_at_every_power_of_two(bits):
    for value in {2**bits - 1, -(2**bits), 2 ** max(bits - 1, 0), 1 - 2**bits}:
        assert varint(value) == by_fastavro("long", value)


@pytest.mark.parametrize("value", [2**63, -(2**63) - 1, 2**64, -(2**80), 10**30])
def test_numbers_over_64_bits_are_refused(value):
    with pytest.raises(OverflowError):
        varint(value)


def test_full_memories_are_emptied_and_go_on(monkeypatch):
    """CONVENTIONS 6: the memory is bounded, and a value has the same bytes before and after."""
    monkeypatch.setattr(encoders, "MEMO_ENTRIES", 8)
    made = Encoders()
    longs, strings = made.of("long"), made.of("string")
    for turn in range(50):
        assert longs[turn] == varint(turn)
        assert strings[f"text {turn}"] == by_fastavro("string", f"text {turn}")
        assert len(longs) <= 8
        assert len(strings) <= 8


def test_long_texts_are_not_remembered():
    strings = Encoders().of("string")
    assert strings["x" * 64] == by_fastavro("string", "x" * 64)
    assert len(strings) == 0


@pytest.mark.parametrize("schema", ["float", {"type": "enum", "symbols": []}, 7])
def test_types_that_no_schema_of_ours_uses_are_refused_when_tables_are_made(schema):
    with pytest.raises((NotImplementedError, KeyError)):
        Encoders().of(schema)
