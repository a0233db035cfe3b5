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


def state_hash(rows: Iterable[tuple[str, bytes, bytes]]) -> bytes:
    """Return the 32 bytes for rows of (table, key, value), given in the order of (table, key).

    ValueError for rows that are out of order or double.
    """
    digest = hashlib.sha256()
    before = ("", b"")
    for table, key, value in rows:
        if (table, key) <= before:
            raise ValueError(f"row {key!r} of {table} is out of order or double")
        before = (table, key)
        for part in (table.encode(), key, value[WIRE_HEADER_BYTES:]):
            digest.update(len(part).to_bytes(4, "big"))
            digest.update(part)
    return digest.digest()
