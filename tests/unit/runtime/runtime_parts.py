"""A committer with a real store and a transactor that the test holds back, fails or lets go."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from streams.observability.metrics import Metrics
from streams.runtime.committer import Committer
from streams.runtime.group import Group
from streams.runtime.overlay import Overlay
from streams.runtime.partition import Partition
from streams.runtime.settings import RuntimeSettings
from streams.runtime.store import Store
from streams.runtime.transaction import Committed
from streams.runtime.unwritten import MISSING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from streams.runtime.batch import Batch, StateKey
    from streams.runtime.row_cache import RowCache
    from streams.runtime.unwritten import Unwritten

IN, OUT, LOG, TABLE = "in", "out", "log", "rows"
MEMBER = (3, "member")


@dataclass(frozen=True)
class Record:
    """As much of a consumed record as the runtime looks at."""

    offset: int
    key: bytes = b"k"
    value: bytes = b"v"


@dataclass
class HeldTransactor:
    """Keeps what it was given; each ``perform`` waits for ``let_go`` and may fail."""

    performed: list[Batch] = field(default_factory=list)
    begun: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    let_go: threading.Event = field(default_factory=threading.Event)
    error: BaseException | None = None
    before: Callable[[], None] | None = None
    touched: int = 1
    _next: int = 0

    def start(self) -> None:
        """Nobody to fence."""

    def close(self) -> None:
        """Nothing to close."""

    def perform(self, batch: Batch, marks: frozenset[str]) -> Committed:
        self.begun.release()
        assert self.let_go.wait(20)
        if self.error is not None:
            raise self.error
        self.performed.append(batch)
        offsets = {}
        for topic, messages in batch.outputs.items():
            if topic in marks:
                for _, _, partition in messages:
                    self._next += 1
                    offsets[topic, partition] = self._next
        return Committed(offsets, 1.0, partitions=self.touched)


class Bench:
    """All parts of a worker but Kafka."""

    def __init__(self, path: Path, **settings: int) -> None:
        self.settings = RuntimeSettings(
            app="captures", slot="0", bootstrap="-", data_dir=path, **settings
        )
        self.group = Group(6_000, 1_000)
        self.group.joined(*MEMBER)
        self.store = Store(path / "state", (TABLE,), block_cache_bytes=1 << 20)
        self.overlay = Overlay(self.store)
        self.transactor = HeldTransactor()
        self.failures: list[BaseException] = []
        self.committer = Committer(
            self.settings,
            self.group,
            self.transactor,  # type: ignore[arg-type]
            self.store,
            self.overlay,
            {TABLE: LOG},
            Metrics("captures", "0"),
            self.fail,
        )

    def fail(self, error: BaseException) -> None:
        self.committer.stop_committing()
        self.failures.append(error)

    def partition(self, number: int = 0, position: int = 0) -> Partition:
        membership = self.group.membership
        assert membership is not None
        return Partition(number, {IN: position}, {TABLE: LOG}, self.store, self.overlay, membership)

    def close(self) -> None:
        self.transactor.let_go.set()
        self.committer.close()
        self.store.close()


def known(rows: Unwritten | RowCache, key: StateKey) -> object:
    """Return what a store would find in these rows; ``MISSING``: nothing."""
    for generation in rows.generations:
        if key in generation:
            return generation[key]
    return MISSING
