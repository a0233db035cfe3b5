"""Finds the few entries of a partition that hold some bytes, without making an entry of each.

Topics have no index by device. To make an entry of a record costs about 4 µs (librdkafka, its
binding, ours), and nearly all records are of other devices. But a device's id stands in the bytes
of its records as it is; so what a broker sends is searched as bytes, a megabyte in a tenth of a
millisecond, and only a batch in which they were found is taken apart::

    fetch ─▶ |head|records…|head|records…|head|records…|      bytes.find(device id)
                             taken apart ───▶ entries that hold it

Heads (61 bytes a batch) are read all the same: they say whether a batch counts (``fetch.py``). A
compressed batch is taken apart in any case. What cannot be fetched so (an old format, a cluster
that wants a password, a leader that moves) is read by the log's own ``read``, as are logs that are
no clusters.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple, Self, cast

from infra.kafka.topics import topic_name
from schemas.encoders import varint
from streams.replay.fetch import Batches, FetchError
from streams.replay.log import Entry, KafkaLog, entries_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from streams.replay.fetch import Batch, Fetched
    from streams.replay.log import Log

FEW: Final = 10_000
"""Offsets below which a range is read as others are."""
FETCH_BYTES: Final = 8 << 20


class Looked(NamedTuple):
    """What one piece of a range has."""

    records: int
    """How many were looked at."""
    found: list[Entry]


class Scanner:
    """Searches the partitions of one log. Close it."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self.by_bytes = isinstance(log, KafkaLog)
        """Whether long ranges are searched as bytes; no more, once that has failed."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the log's connections; what is read later opens new ones."""
        if isinstance(self._log, KafkaLog):
            self._log.close()

    def holding(
        self, topic: str, partition: int, first: int, end: int, wanted: bytes
    ) -> Iterator[Looked]:
        """Yield the entries of ``first`` <= offset < ``end`` with these bytes in key or value.

        In pieces and in their order, as :meth:`Log.read`, which it raises as.
        """
        yield from self._looked(topic, partition, first, end, _Holding(wanted))

    def besides(
        self, topic: str, partition: int, first: int, end: int, usual: bytes
    ) -> Iterator[Looked]:
        """Yield the entries of ``first`` <= offset < ``end`` whose values begin otherwise.

        As ``holding``. A batch in which these bytes stand as often as it has records is passed: so
        they should be as long and odd as the five before a record.
        """
        yield from self._looked(topic, partition, first, end, _Besides(usual))

    def _looked(
        self, topic: str, partition: int, first: int, end: int, wanted: _Holding | _Besides
    ) -> Iterator[Looked]:
        at = first
        if self.by_bytes and end - first > FEW:
            try:
                for after, looked in self._fetched(topic, partition, first, end, wanted):
                    at = after
                    yield looked
            except FetchError:
                self.by_bytes = False
        if at < end:
            yield from self._plain(topic, partition, at, end, wanted)

    def _plain(
        self, topic: str, partition: int, first: int, end: int, wanted: _Holding | _Besides
    ) -> Iterator[Looked]:
        for batch in self._log.read(topic, partition, first, end):
            yield Looked(len(batch), [one for one in batch if wanted.is_one(one)])

    # -- a cluster -------------------------------------------------------------------------------

    def _fetched(
        self, topic: str, partition: int, first: int, end: int, wanted: _Holding | _Besides
    ) -> Iterator[tuple[int, Looked]]:
        """Yield what was looked at, and up to where; it ends where nothing more is decided."""
        log = cast("KafkaLog", self._log)
        leader, connection = log.connection(topic, partition)
        name, batches = topic_name(log.namespace, topic), Batches(first)
        try:
            while batches.after < end:
                before = batches.after
                connection.ask(name, partition, before, FETCH_BYTES)
                fetched = connection.answer()
                looked = _search(fetched, batches, wanted, first, end)
                if batches.after == before:
                    return
                yield batches.after, looked
        finally:
            log.give_back(leader, connection)


def _search(
    fetched: Fetched, batches: Batches, wanted: _Holding | _Besides, first: int, end: int
) -> Looked:
    """Return what the bytes of one fetch have."""
    records = 0
    found: list[Entry] = []
    has_any = wanted.of(fetched.data)
    for batch in batches.of(fetched, end):
        records += batch.size
        if batch.compressed or has_any(batch):
            found += [
                entry
                for entry in entries_of(batch.records())
                if first <= entry.offset < end and wanted.is_one(entry)
            ]
    return Looked(records, found)


class _Holding(NamedTuple):
    """Entries that hold some bytes."""

    wanted: bytes

    def is_one(self, entry: Entry) -> bool:
        return self.wanted in (entry.key or b"") or self.wanted in (entry.value or b"")

    def of(self, data: bytes) -> Callable[[Batch], bool]:
        """Return what says whether batches of these bytes, in their order, may have one."""
        wanted = self.wanted
        hit = data.find(wanted)

        def has_any(batch: Batch) -> bool:
            nonlocal hit
            if -1 < hit < batch.start:
                hit = data.find(wanted, batch.start)
            return batch.start <= hit < batch.start + len(batch.data)

        return has_any


class _Besides(NamedTuple):
    """Entries whose values do not begin with some bytes."""

    usual: bytes

    def is_one(self, entry: Entry) -> bool:
        return not (entry.value or b"").startswith(self.usual)

    def of(self, _data: bytes) -> Callable[[Batch], bool]:
        """Return what says whether batches may have one."""
        return lambda batch: batch.data.count(self.usual) < batch.size


def needle(text: str) -> bytes:
    """Return what a record that holds this text has among its bytes: length and UTF-8."""
    data = text.encode()
    return varint(len(data)) + data
