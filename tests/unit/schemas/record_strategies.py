"""Hypothesis strategies for records, made from the classes' own annotations."""

from __future__ import annotations

import types
import typing
from functools import cache

from hypothesis import strategies as st

from schemas.records import Record

LONGS = st.integers(-(2**63), 2**63 - 1)
SIMPLE = {
    int: LONGS,
    str: st.text(max_size=40) | st.text(alphabet="aé漢😀", min_size=60, max_size=200),
    float: st.floats(allow_nan=False),
    bool: st.booleans(),
    bytes: st.binary(max_size=200),
    type(None): st.none(),
}


def of_type(hint) -> st.SearchStrategy:
    """Return a strategy for a type as the records use them."""
    if hint in SIMPLE:
        return SIMPLE[hint]
    if isinstance(hint, type) and issubclass(hint, Record):
        return of_record(hint)
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is types.UnionType:
        return st.one_of([of_type(argument) for argument in arguments])
    if origin is tuple:
        return st.lists(of_type(arguments[0]), max_size=4).map(tuple)
    assert origin is dict, hint
    return st.dictionaries(of_type(arguments[0]), of_type(arguments[1]), max_size=4)


@cache
def of_record(record: type[Record]) -> st.SearchStrategy:
    """Return a strategy for any value of a record class."""
    hints = typing.get_type_hints(record)
    return st.builds(record, **{name: of_type(hint) for name, hint in hints.items()})
