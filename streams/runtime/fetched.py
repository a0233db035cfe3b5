"""What a fetch has brought, made into what we work with: replaces aiokafka's reader of partitions.

aiokafka's own record is a frozen class that takes over a microsecond to make. Agents get a plain
tuple instead, and whoever rebuilds a table (``changelog_reader.py``) gets whole record batches:
keys and values and nothing else, 0.5 us a record. A consumer asks for these by giving
``key_deserializer=whole_batches``; nothing is deserialised.

The fetcher finds the class by its name in the module, so it is replaced there, for every consumer
of the process.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from aiokafka.consumer import fetcher

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aiokafka import TopicPartition

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


# aiokafka's fetcher finds the class by this name; nothing else in a worker reads with aiokafka.
fetcher.PartitionRecords = PlainRecords
