"""What a fetch has brought, made into what we work with: replaces aiokafka's reader of partitions.

aiokafka's own record is a frozen class that takes over a microsecond to make. Agents get a plain
tuple instead, and whoever rebuilds a table (``changelog_reader.py``) gets whole record batches:
keys and values and nothing else, 0.5 us a record. A consumer asks for these by giving
``key_deserializer=whole_batches``; nothing is deserialised.

A consumer of many partitions asks for them all each time (aiokafka keeps no fetch sessions), and
each costs its broker and itself some 10 us whether there is something or not. So its fetches
have a pace by their number (``fetch_pause_s``): what came meanwhile comes with the next one.

aiokafka finds both classes by their names in its modules, so they are replaced there, for every
consumer of the process.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from aiokafka.consumer import consumer, fetcher

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aiokafka import TopicPartition

FEW_PLACES: Final = 500
"""So many partitions of topics are asked for as soon as they can be."""
PLACE_S: Final = 0.000_25
"""Pause between two fetches for each that is more: some 5 % of a core at a broker, and here."""

Pairs = list[tuple[bytes | None, bytes | None]]
"""Keys and values in their order; a value of ``None`` deletes."""


class PlainRecord(NamedTuple):
    """What an agent may know of a record: ``ConsumerRecord`` without sizes and checksum.

    To type checkers it is a ``ConsumerRecord``, as it has the same names.
    """

    topic: str
    partition: int
    offset: int
    timestamp: int
    timestamp_type: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]


class WholeBatch(NamedTuple):
    """A record batch, read committed: one that was aborted, and a marker, have no pairs."""

    next_offset: int
    """Where reading goes on behind it."""
    pairs: Pairs


class PlainRecords(fetcher.PartitionRecords):  # type: ignore[misc]
    """aiokafka's reader of a fetched partition, which makes a ``PlainRecord`` of each."""

    def _unpack_records(self) -> Any:
        whole = self._key_deserializer is whole_batches
        return whole_batches(self) if whole else super()._unpack_records()

    def _consumer_record(self, tp: TopicPartition, record: Any) -> Any:
        return PlainRecord(
            tp.topic,
            tp.partition,
            record.offset,
            record.timestamp,
            record.timestamp_type,
            record.key,
            record.value,
            tuple(record.headers),
        )


def fetch_pause_s(places: int) -> float:
    """Return the seconds from one fetch of so many partitions of topics to the next."""
    return max(0, places - FEW_PLACES) * PLACE_S


class PacedFetcher(fetcher.Fetcher):  # type: ignore[misc]
    """aiokafka's fetcher, which does not ask brokers for many partitions again at once.

    Whoever rebuilds a table reads all there is, and is not held up; nor is a new assignment.
    """

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self._next_s = 0.0
        self._paced: Any = None
        """The assignment to which that applies."""

    def _get_actions_per_node(self, assignment: Any) -> Any:
        if self._key_deserializer is whole_batches:
            return super()._get_actions_per_node(assignment)
        now_s = asyncio.get_running_loop().time()
        if assignment is self._paced and now_s < self._next_s:
            return [], {}, self._next_s - now_s, False, []  # nothing to ask, look again then
        found = super()._get_actions_per_node(assignment)
        topics = (topic for _, request in found[0] for topic in request.topics)
        places = sum(len(partitions) for _, partitions in topics)
        self._paced, self._next_s = assignment, now_s + fetch_pause_s(places)
        return found


def whole_batches(reader: Any) -> Iterator[WholeBatch]:
    """Yield the batches that a reader of records was given, as it does their records.

    Raises:
        CorruptRecordException: the checksum of one is wrong.

    """
    batches = reader._records  # noqa: SLF001  # ours: see the class above
    aborted = reader._aborted_producers  # noqa: SLF001
    while batches.has_next():
        batch = batches.next_batch()
        if not batch.validate_crc():
            raise fetcher.Errors.CorruptRecordException(f"Invalid CRC - {reader._tp}")  # noqa: SLF001
        if batch.producer_id is not None:
            reader._consume_aborted_up_to(batch.base_offset)  # noqa: SLF001
        pairs: Pairs = []
        if batch.is_control_batch:
            if reader._contains_abort_marker(batch):  # noqa: SLF001
                aborted.discard(batch.producer_id)
        elif not (batch.is_transactional and batch.producer_id in aborted):
            at = reader.next_fetch_offset
            if batch.base_offset >= at:
                pairs = [(record.key, record.value) for record in batch]
            else:
                pairs = [(record.key, record.value) for record in batch if record.offset >= at]
        # Not the last record's: compaction and markers leave gaps.
        reader.next_fetch_offset = batch.next_offset
        yield WholeBatch(batch.next_offset, pairs)


# aiokafka finds the classes by these names; nothing else in a worker reads with aiokafka.
fetcher.PartitionRecords = PlainRecords
consumer.Fetcher = PacedFetcher
