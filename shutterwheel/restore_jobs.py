"""Restores by several processes that share the partitions (``streams/replay/restore/crew.py``).

Each opens its own source and has its own producers. What a process is handed says where those are;
what it hands back is small: hashes, counts, and of a compacted partition the offsets of its rows.
"""

from __future__ import annotations

import atexit
import gc
import multiprocessing
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from streams.replay.archive.manifest import Place
    from streams.replay.log import Log
    from streams.replay.restore.crew import Hand, Poured, TableReport, TableTask, Told

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Site:
    """Where a hand reads and writes."""

    to: str
    """Kafka that is restored into."""
    to_namespace: str
    archive: str = ""
    kafka: str = ""
    """Kafka that is read where there is no archive."""
    namespace: str = ""
    registry: str = ""

    def hand(self, slot: int = 0) -> Hand:
        """Open both ends."""
        from shutterwheel.logs_at import codec_of, open_log
        from streams.replay.log import KafkaLog
        from streams.replay.restore.crew import Hand

        if self.archive:
            log: Log = open_log(self.kafka, self.namespace, self.archive)
        else:
            log = KafkaLog(self.kafka, self.namespace)
            atexit.register(log.close)
        return Hand(log, codec_of(log, self.registry), self.to, self.to_namespace, slot)


class Processes:
    """A crew of processes; ``with`` starts and ends them."""

    def __init__(self, site: Site, jobs: int) -> None:
        """Take where they work, and how many there are."""
        self._site = site
        self._jobs = jobs
        self._pool: ProcessPoolExecutor | None = None

    @contextmanager
    def at_work(self) -> Iterator[Processes]:
        """Have the processes; they end with the block, at once if it fails."""
        context = multiprocessing.get_context("spawn")
        pool = ProcessPoolExecutor(self._jobs, context, initializer=_start, initargs=(self._site,))
        self._pool = pool
        try:
            yield self
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        pool.shutdown()

    def _each(self, work: Callable[..., T], arguments: Iterable[tuple[object, ...]]) -> Iterator[T]:
        assert self._pool is not None
        asked: list[Future[T]] = [self._pool.submit(work, *one) for one in arguments]
        for done in as_completed(asked):
            yield done.result()

    def tables(self, tasks: list[TableTask]) -> Iterator[TableReport]:
        """See :class:`streams.replay.restore.crew.Crew`."""
        return self._each(_table, ((task,) for task in tasks))

    def newest(self, ends: Mapping[Place, int]) -> Iterator[tuple[Place, list[int]]]:
        """See :class:`streams.replay.restore.crew.Crew`."""
        return self._each(_newest, ends.items())

    def pour(self, ends: dict[Place, int], told: Told) -> Iterator[Poured]:
        """See :class:`streams.replay.restore.crew.Crew`."""
        shares: list[dict[Place, int]] = [{} for _ in range(self._jobs)]
        for place, end in ends.items():
            shares[place[1] % self._jobs][place] = end
        given = [(slot, share) for slot, share in enumerate(shares) if share]
        told(0, len(given))
        for done, poured in enumerate(self._each(_pour, given), 1):
            told(done, len(given))
            yield poured


# --- in a process ---------------------------------------------------------------------------------

_site: Site | None = None
_hands: dict[int, Hand] = {}


def _start(site: Site) -> None:
    global _site  # noqa: PLW0603  # a process has one, and its work is handed nothing else
    _site = site
    gc.freeze()
    gc.set_threshold(50_000, 50, 100)  # what is read dies young, and rows are no garbage


def _hand(slot: int = 0) -> Hand:
    assert _site is not None
    if slot not in _hands:
        hand = _hands[slot] = _site.hand(slot)
        atexit.register(hand.close)
    return _hands[slot]


def _table(task: TableTask) -> TableReport:
    return _hand().table(task)


def _newest(place: Place, end: int) -> tuple[Place, list[int]]:
    return place, _hand().newest(place, end)


def _pour(slot: int, ends: dict[Place, int]) -> Poured:
    return _hand(slot).pour(ends)
