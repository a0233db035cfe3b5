"""Versions of the tz database made for a test: files as the ``tzdata`` package has them (RFC 9636)."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from streams.core.recurrence.zones import TzData

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path


def tzif(first_s: int, changes: Sequence[tuple[int, int]]) -> bytes:
    """Return the file of a zone: its first offset, then (UTC second, offset) of each change."""
    offsets = sorted({first_s, *(offset for _, offset in changes)})
    types = b"".join(struct.pack(">lBB", offset, 0, 0) for offset in offsets)
    # A change long ago, so that the first offset is that of the first entry.
    rows = [(-(1 << 33), first_s), *changes]
    body = struct.pack(f">{len(rows)}q", *(second for second, _ in rows))
    body += bytes(offsets.index(offset) for _, offset in rows) + types + b"LMT\0"
    head = b"TZif2" + bytes(15)
    empty = head + struct.pack(">6l", 0, 0, 0, 0, 1, 1) + struct.pack(">lBB", 0, 0, 0) + b"\0"
    return empty + head + struct.pack(">6l", 0, 0, 0, len(rows), len(offsets), 4) + body + b"\n\n"


def tree(
    folder: Path, version: str, zones: Mapping[str, tuple[int, Sequence[tuple[int, int]]]]
) -> TzData:
    """Write a database with some zones, and return it."""
    root = folder / version
    for name, (first_s, changes) in zones.items():
        path = root / "zoneinfo" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(tzif(first_s, changes))
    (root / "zones").write_text("\n".join(zones))
    return TzData(version, root)
