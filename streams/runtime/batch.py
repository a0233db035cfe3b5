"""A batch: everything that the next transaction will hold.

Steps gather into it on the event loop; a commit takes it whole and performs it in a thread. As a
step is one synchronous piece of code, a batch holds whole steps only, and a commit falls between
them. Nothing has been sent when a batch is dropped, so an abort costs nothing.

A batch is stamped with the membership in force at its first step. If the membership changes
before the commit, it is never sent.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from streams.runtime.group import Membership

StateKey = tuple[str, int, bytes]
"""(table, partition, key)"""

Message = tuple[bytes | None, bytes | None, int]
"""(key, value, partition) of an output."""


@dataclass(frozen=True, slots=True)
class Point:
    """Where a partition stands with a commit; the local store is at this very point."""

    next_offset: int
    """Of the output topic that was asked about."""
    positions: dict[str, int]
    """Next offset of every input."""


@dataclass(slots=True)
class Batch:
    """Outputs, state writes and offsets of whole steps, under one membership."""

    membership: Membership
    outputs: dict[str, list[Message]] = field(default_factory=dict)
    """Messages by topic, in the order they were made."""
    writes: dict[StateKey, bytes | None] = field(default_factory=dict)
    """The last value written for each key; ``None`` deletes."""
    partitions: set[int] = field(default_factory=set)
    """Every partition that a step touched: each one's offsets go into the transaction."""
    offsets: dict[tuple[str, int], int] = field(default_factory=dict)
    """Next offset of every input of every touched partition."""
    committed: list[Callable[[], None]] = field(default_factory=list)
    """To be called on the event loop once the commit is known to have happened."""
    points: dict[tuple[str, int], list[Callable[[Point], None]]] = field(default_factory=dict)
    """To be told, by output topic and partition, where the partition stands with the commit."""
    clocked: set[str] = field(default_factory=set)
    """Topics whose append time at the broker is compared with our clock before the commit."""
    handovers: dict[int, str] = field(default_factory=dict)
    """Metadata of the offsets of a partition; see ``handover.py``."""
    records: int = 0
    """Outputs and writes so far."""
