"""One number for the rows of a partition, so that two states can be compared without their bytes.

SHA-256 over the rows in the order of (table, key), each as

    length of table, table, length of key, key, length of value, value

with lengths as four bytes, big-endian. A value is taken without the five bytes of the wire format
before its Avro (a zero and the schema's id): the id is a registry's choice, not part of the state.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

WIRE_HEADER_BYTES: Final = 5


class StateHash:
    """The hash of rows that come one by one, in the order of (table, key)."""

    __slots__ = ("_before", "_digest")

    def __init__(self) -> None:
        self._digest = hashlib.sha256()
        self._before = ("", b"")

    def add(self, table: str, key: bytes, value: bytes) -> None:
        """Take in the next row. ValueError for one that is out of order or double."""
        if (table, key) <= self._before:
            raise ValueError(f"row {key!r} of {table} is out of order or double")
        self._before = (table, key)
        for part in (table.encode(), key, value[WIRE_HEADER_BYTES:]):
            self._digest.update(len(part).to_bytes(4, "big"))
            self._digest.update(part)

    def digest(self) -> bytes:
        """Return the 32 bytes."""
        return self._digest.digest()


def state_hash(rows: Iterable[tuple[str, bytes, bytes]]) -> bytes:
    """Return the 32 bytes for rows of (table, key, value), given in the order of (table, key).

    ValueError for rows that are out of order or double.
    """
    found = StateHash()
    for table, key, value in rows:
        found.add(table, key, value)
    return found.digest()
