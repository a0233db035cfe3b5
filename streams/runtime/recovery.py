"""Bringing a partition to where its last committed transaction left it.

The order matters, and each step has its reason:

1. **Stable input offsets.** ``OffsetFetch`` with ``require_stable`` answers only once no
   transaction has offsets of the partition pending. From then on no earlier owner can commit:
   one that has not sent its offsets will be refused, because the generation has passed. The answer
   counts only if it holds a number that we have committed before (``marks.py``).
2. **The target**: a mark that we write to the changelog now (``marks.py``). The end offset that a
   broker tells could be of the past, and the last stable one can lie before the marker of a
   transaction that is decided but not yet written (KAFKA-10167).
3. **Read committed until the position reaches the target.** The position, not the last record's
   offset: markers and aborted records take offsets too, so the last record may never reach it
   (``changelog_reader.py``).

Local state shortens step 3: it starts at the offset stored with it. State that claims more than
the changelog has, or starts before what the changelog still has, is thrown away.

Cost: what several fetches brought of a partition is one dictionary, so that of a row that was
changed often only the last value is written, in key order, which is what RocksDB takes fastest.
Half of a record's CPU is reading it, half writing it: a quarter to a third less, together, than by
librdkafka's message objects and in the order in which they come.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from infra.kafka.offsets import OffsetsMark, list_offsets, stable_offsets
from schemas.errors import BrokerError
from streams.runtime.changelog_reader import ChangelogReader
from streams.runtime.handover import Handover
from streams.runtime.marks import KEY, mark_changelogs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from streams.runtime.fetched import WholeBatch
    from streams.runtime.settings import RuntimeSettings
    from streams.runtime.store import Store

POLL_S = 0.2
"""How long an answer is waited for before it is asked whether the recovery is still wanted."""
WAITING_ROWS = 50_000
"""Most rows, about, that are read and not yet written: together they are written in key order."""

TopicAndPartition = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Recovered:
    """What a recovery found and did."""

    positions: Mapping[TopicAndPartition, int]
    """Next offset to read of every input, by (topic, partition)."""
    records: int
    """Changelog records read."""
    took_ms: float
    handovers: Mapping[int, Handover] = field(default_factory=dict)
    """What the last owner left, by partition."""


@dataclass(slots=True)
class _Changelog:
    """Where the reading of one changelog partition stands."""

    table: str
    partition: int
    position: int
    target: int
    written: int
    """Up to where the store has it."""
    rows: dict[bytes | None, bytes | None] = field(default_factory=dict)
    """What was read behind that."""


class Recovery:
    """Recovers partitions of one app. Blocking: call it in a thread."""

    def __init__(
        self,
        settings: RuntimeSettings,
        store: Store,
        topic: Callable[[str], str],
        changelogs: Mapping[str, str],
        inputs: Iterable[str],
    ) -> None:
        """Take the store, the naming of topics, the changelog of each table, and the inputs."""
        self._settings = settings
        self._store = store
        self._topic = topic
        self._changelogs = dict(changelogs)
        self._inputs = tuple(inputs)
        self._patience_s = settings.broker_patience_ms / 1000.0
        self._admin = self._new_admin()

    def _new_admin(self) -> AdminClient:
        return AdminClient({"bootstrap.servers": self._settings.bootstrap, "log_level": 2})

    def recover(
        self,
        partitions: Iterable[int],
        still_wanted: Callable[[], bool],
        mark: OffsetsMark | None = None,
    ) -> Recovered:
        """Bring the partitions' state up to date and tell where each input goes on.

        Args:
            partitions: the partitions newly given to this worker.
            still_wanted: asked between chunks; false ends the recovery early (a rebalance).
            mark: was committed among the group's offsets; they must hold it.

        Raises:
            BrokerError: Kafka did not answer, or the changelog did not settle in time.

        """
        started = time.monotonic()
        # Anew: an old one may know leaders and coordinators that have gone.
        self._admin = self._new_admin()
        self._store.flush()  # of partitions that were ours: what is read now counts
        wanted = sorted(partitions)
        positions, handovers = self._stable(wanted, mark)
        records = self._read_changelogs(wanted, still_wanted)
        return Recovered(positions, records, (time.monotonic() - started) * 1000.0, handovers)

    def positions(self, partitions: Iterable[int]) -> dict[TopicAndPartition, int]:
        """Return the stable next offset of every input of these partitions.

        Raises:
            BrokerError: Kafka did not answer in time.

        """
        return self._stable(sorted(partitions))[0]

    # -- step 1: stable offsets ----------------------------------------------------------------

    def _stable(
        self, partitions: list[int], mark: OffsetsMark | None = None
    ) -> tuple[dict[TopicAndPartition, int], dict[int, Handover]]:
        if not partitions:
            return {}, {}  # a worker too many for the partitions; the client refuses this
        names = {self._topic(name): name for name in self._inputs}
        asked = [TopicPartition(topic, p) for topic in names for p in partitions]
        found = stable_offsets(
            self._settings.bootstrap, self._settings.group, asked, self._patience_s, mark
        )
        positions: dict[TopicAndPartition, int] = {}
        handovers: dict[int, Handover] = {}
        fresh: list[TopicAndPartition] = []
        for part in found:
            if part.offset >= 0:
                positions[names[part.topic], part.partition] = part.offset
                handover = Handover.parse(_metadata(part))
                if handover is not None:
                    handovers[part.partition] = handover
            else:
                fresh.append((part.topic, part.partition))
        for tp, offset in list_offsets(self._admin, fresh, "earliest", self._patience_s).items():
            positions[names[tp[0]], tp[1]] = offset
        return positions, handovers

    # -- steps 2 and 3: the changelogs ---------------------------------------------------------

    def _read_changelogs(self, partitions: list[int], still_wanted: Callable[[], bool]) -> int:
        pending = self._plan(partitions)
        if not pending:
            return 0
        settings = self._settings
        begin = {place: log.position for place, log in pending.items()}
        client_id = f"shutterwheel-{settings.app}-{settings.slot}-recovery"
        with ChangelogReader(settings.bootstrap, client_id, begin) as reader:
            return self._consume(reader, pending, still_wanted)

    def _plan(self, partitions: list[int]) -> dict[TopicAndPartition, _Changelog]:
        tables = {self._topic(log): table for table, log in self._changelogs.items()}
        wanted = [(topic, p) for topic in tables for p in partitions]
        ends = mark_changelogs(self._settings.bootstrap, wanted, self._settings.broker_patience_ms)
        begins = list_offsets(self._admin, wanted, "earliest", self._patience_s)
        pending: dict[TopicAndPartition, _Changelog] = {}
        for (topic, partition), end in ends.items():
            table = tables[topic]
            begin = begins[topic, partition]
            local = self._store.offset(table, partition)
            if local is None or not begin <= local < end:
                self._store.wipe(table, partition)
                local = begin
            pending[topic, partition] = _Changelog(table, partition, local, end, local)
            if local == begin:
                # Else the time noted with the offset must stay that of the last reading.
                self._store.fill(table, partition, {}, local)
        return pending

    def _consume(
        self,
        reader: ChangelogReader,
        pending: dict[TopicAndPartition, _Changelog],
        still_wanted: Callable[[], bool],
    ) -> int:
        records, waiting = 0, 0
        deadline = time.monotonic() + self._patience_s
        while pending and still_wanted():
            found = reader.poll(POLL_S)
            if found:
                deadline = time.monotonic() + self._patience_s
            for place, batches in found.items():
                log = pending.get(place)
                if log is None:
                    continue
                before = len(log.rows)
                records += _merge(log.rows, batches)
                waiting += len(log.rows) - before
                log.position = batches[-1].next_offset
                if log.position >= log.target:
                    waiting -= self._write(log)
                    del pending[place]
            if not found or waiting > WAITING_ROWS:
                for log in pending.values():
                    self._write(log)
                waiting = 0
            if pending and time.monotonic() > deadline:
                raise BrokerError(
                    "Recovery made no progress: "
                    + ", ".join(
                        f"{topic}-{p} stands at {log.position} of {log.target}"
                        for (topic, p), log in list(pending.items())[:4]
                    )
                )
        for log in pending.values():
            self._write(log)
        return records

    def _write(self, log: _Changelog) -> int:
        """Bring the store to where a changelog was read; return how many rows that wrote."""
        rows, log.rows = log.rows, {}
        if log.position > log.written:
            self._store.fill(
                log.table, log.partition, cast("dict[bytes, bytes | None]", rows), log.position
            )
            log.written = log.position
        return len(rows)


def _merge(rows: dict[bytes | None, bytes | None], batches: list[WholeBatch]) -> int:
    """Keep the last value of each key of a table; return how many records there were of it."""
    records = 0
    for batch in batches:
        records += len(batch.pairs)
        rows.update(batch.pairs)
        for strange in (KEY, None):  # a mark, and what has no key: neither is a row
            if strange in rows:
                del rows[strange]
                records -= sum(key == strange for key, _ in batch.pairs)
    return records


def _metadata(part: TopicPartition) -> str | None:
    """Return the metadata of an offset; ``None`` where what follows it in memory is no text."""
    try:
        return part.metadata
    except UnicodeDecodeError:
        return None
