"""What a record is as JSON, in Python's words: what the other languages' words are compared with.

Field by field, with two rules for what JSON does not have: bytes are hexadecimal digits, and a union
of several records is an object with the one full name of the record that it holds.
"""

from __future__ import annotations

import typing
from types import NoneType, UnionType

from schemas.catalogue import full_name
from schemas.records import Record


def plain(record: Record) -> dict[str, object]:
    """Return a record as JSON has it."""
    hints = typing.get_type_hints(type(record))
    return {name: _value(getattr(record, name), hint) for name, hint in hints.items()}


def _value(value: object, hint: object) -> object:
    if isinstance(value, Record):
        branches = set(typing.get_args(hint)) - {NoneType} if isinstance(hint, UnionType) else set()
        return {full_name(type(value)): plain(value)} if len(branches) > 1 else plain(value)
    if isinstance(value, tuple):
        return [_value(item, typing.get_args(hint)[0]) for item in value]
    return value.hex() if isinstance(value, bytes) else value
