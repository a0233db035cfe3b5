"""Writing partitions so that every entry has the offset, key, value and time it had.

Several partitions at a time, one piece of each in turn: a transaction costs some 10 ms, and takes
pieces of as many partitions as are being written. What is written is checked: the broker tells the
offset of each piece's first record, and of the end.
"""

from __future__ import annotations

import time
from itertools import islice
from typing import TYPE_CHECKING, Final, TypeAlias

from confluent_kafka import KafkaException, Producer

from infra.kafka.admin import admin_client, delete_records
from infra.kafka.offsets import list_offsets
from infra.kafka.topics import topic_name
from schemas.errors import BrokerError
from streams.replay.log import SILENCE_S, Entry
from streams.replay.restore.pieces import Piece, pieces

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from confluent_kafka import KafkaError, Message

    from streams.replay.archive.manifest import Place
    from streams.replay.log import Log
    from streams.replay.restore.pieces import Kind

AT_ONCE: Final = 32
"""Partitions that are written at a time; each has a piece in memory."""
BATCH_RECORDS: Final = 5_000
PAUSE_S: Final = 0.005
FILLER: Final = b""

DeliveryCall: TypeAlias = "Callable[[KafkaError | None, Message], None]"


class Pour:
    """One partition that is being written."""

    def __init__(self, name: str, partition: int, parts: Iterator[Piece]) -> None:
        self.name = name
        self.partition = partition
        self.at = 0
        """Offset that the next record will have."""
        self.delete_to = 0
        self.marked = False
        """A marker was written last, which may not be there yet."""
        self._parts = parts
        self.piece: Piece | None = next(parts, None)

    def done(self, piece: Piece) -> None:
        """Go on to the next piece."""
        if piece.kind == "deleted":
            self.delete_to = piece.filler
        self.at += piece.offsets
        self.marked = piece.kind in {"committed", "aborted"}
        self.piece = next(self._parts, None)


class Pourer:
    """Writes into the topics of a namespace that nobody else writes to. BrokerError."""

    def __init__(self, kafka: str, namespace: str, slot: int = 0) -> None:
        """Take the target; of several that write there at a time each has a slot of its own."""
        self._kafka = kafka
        self._namespace = namespace
        self._admin = admin_client(kafka)
        self._failed: list[str] = []
        common = {
            "bootstrap.servers": kafka,
            "acks": "all",
            "linger.ms": 5,
            "batch.size": 1_000_000,
            "message.max.bytes": 2_200_000,
            "compression.type": "zstd",
            "log_level": 2,
        }
        self._plain = Producer({**common, "enable.idempotence": True})
        # A transaction is sent as soon as it is whole.
        identity = f"{namespace}.restore-{slot}"
        self._settings = {**common, "linger.ms": 0, "transactional.id": identity}
        self._made: Producer | None = None
        self.records = 0
        self.transactions = 0

    # -- tables --------------------------------------------------------------------------------

    def write(self, topic: str, partition: int, rows: Iterable[Entry]) -> int:
        """Append records as they come; return how many."""
        count, waiting = 0, iter(rows)
        while batch := list(islice(waiting, BATCH_RECORDS)):
            self._produce(self._plain, self._name(topic), partition, batch)
            count += len(batch)
        self._flush(self._plain)
        self.records += count
        return count

    # -- topics --------------------------------------------------------------------------------

    def pour(
        self,
        log: Log,
        ends: dict[Place, int],
        progress: Callable[[int, int], None] = lambda _done, _total: None,
    ) -> None:
        """Write every entry of these partitions up to their ends at its own offset.

        The topics must be new: no record was ever in them.
        """
        waiting = [
            (place, end, log.firsts(place[0])[place[1]]) for place, end in sorted(ends.items())
        ]
        total, active = len(waiting), list[Pour]()
        waiting.reverse()
        while waiting or active:
            while waiting and len(active) < AT_ONCE:
                (topic, partition), end, first = waiting.pop()
                parts = pieces(log.read(topic, partition, first, end), end)
                active.append(Pour(self._name(topic), partition, parts))
            self._round(active)
            for pour in active:
                if pour.piece is None and pour.delete_to:
                    delete_records(
                        self._admin, {(pour.name, pour.partition): pour.delete_to}, SILENCE_S
                    )
            active = [pour for pour in active if pour.piece is not None]
            progress(total - len(waiting) - len(active), total)
        self._check_ends(ends)

    def _round(self, active: list[Pour]) -> None:
        """Write the next piece of each, or a few where they are of different kinds."""
        for kinds in (("deleted", "outside"), ("committed",), ("aborted",)):
            turn = [
                (pour, pour.piece)
                for pour in active
                if pour.piece is not None and pour.piece.kind in kinds
            ]
            if not turn:
                continue
            kind: Kind = turn[0][1].kind
            if kind in {"deleted", "outside"}:
                self._await_markers([pour for pour, _ in turn if pour.marked])
                self._put(self._plain, turn)
                self._flush(self._plain)
            else:
                self._transaction(turn, commit=kind == "committed")
            for pour, piece in turn:
                pour.done(piece)
                self.records += len(piece.entries)

    def _transaction(self, turn: list[tuple[Pour, Piece]], *, commit: bool) -> None:
        producer = self._transactional()
        self.transactions += 1
        try:
            producer.begin_transaction()
            self._put(producer, turn)
            self._flush(producer)
            if commit:
                producer.commit_transaction(SILENCE_S)
            else:
                producer.abort_transaction(SILENCE_S)
        except KafkaException as error:
            raise BrokerError(f"{self._kafka} ends no transaction: {error}.") from error

    def _transactional(self) -> Producer:
        """Return the producer of transactions, made when the first one is."""
        if self._made is None:
            self._made = Producer(self._settings)
            try:
                self._made.init_transactions(SILENCE_S)
            except KafkaException as error:
                raise BrokerError(f"{self._kafka} begins no transaction: {error}.") from error
        return self._made

    def _put(self, producer: Producer, turn: list[tuple[Pour, Piece]]) -> None:
        for pour, piece in turn:
            call = self._expect(pour.name, pour.partition, pour.at)
            rows = piece.entries or [Entry(0, 0, None, FILLER)] * piece.filler
            self._produce(producer, pour.name, pour.partition, rows, call)

    def _expect(self, name: str, partition: int, offset: int) -> DeliveryCall:
        """Return the delivery call of a first record: it must lie where it lay."""

        def delivered(error: KafkaError | None, message: Message) -> None:
            if error is not None:
                self._failed.append(f"{name}-{partition}: {error.str()}")
            elif message.offset() != offset:
                self._failed.append(
                    f"{name}-{partition}: offset {message.offset()} where {offset} was expected; "
                    "somebody else writes there"
                )

        return delivered

    def _produce(
        self,
        producer: Producer,
        name: str,
        partition: int,
        entries: list[Entry],
        call: DeliveryCall | None = None,
    ) -> None:
        """Hand entries to a producer in their order; ``call``: told of the first of them."""
        produce = producer.produce  # not produce_batch, which takes no timestamps
        try:
            for _, at_ms, key, value in entries:
                while True:
                    try:
                        if call is None:
                            produce(name, value, key, partition, timestamp=at_ms)
                        else:
                            produce(name, value, key, partition, call, timestamp=at_ms)
                        break
                    except BufferError:
                        self._await_room(producer)
                call = None
        except KafkaException as error:
            raise BrokerError(f"{name} cannot be written: {error}.") from error
        producer.poll(0)

    def _await_room(self, producer: Producer) -> None:
        waiting, deadline = len(producer), time.monotonic() + SILENCE_S
        while len(producer) >= waiting:
            producer.poll(0.05)
            if time.monotonic() > deadline:
                raise BrokerError(f"{self._kafka} takes no more records.")

    def _flush(self, producer: Producer) -> None:
        left = producer.flush(SILENCE_S)
        if left:
            raise BrokerError(f"{left} records were not acknowledged in {SILENCE_S:.0f} s.")
        if self._failed:
            raise BrokerError(f"A record did not come to its place: {self._failed[0]}.")

    def _await_markers(self, pours: list[Pour]) -> None:
        """Wait until markers are written: a transaction ends a moment before they are."""
        expected = {(pour.name, pour.partition): pour.at for pour in pours}
        deadline = time.monotonic() + SILENCE_S
        while expected:
            found = list_offsets(self._admin, expected, "latest", SILENCE_S)
            expected = {place: at for place, at in expected.items() if found[place] < at}
            if expected and time.monotonic() > deadline:
                name, partition = next(iter(expected))
                raise BrokerError(f"{name}-{partition} has no end of its transaction.")
            if expected:
                time.sleep(PAUSE_S)

    def _check_ends(self, ends: dict[Place, int]) -> None:
        wanted = {(self._name(topic), number): end for (topic, number), end in ends.items()}
        deadline = time.monotonic() + SILENCE_S
        while True:
            found = list_offsets(self._admin, wanted, "latest", SILENCE_S)
            wrong = {place: at for place, at in found.items() if at != wanted[place]}
            if not wrong:
                return
            if time.monotonic() > deadline or any(at > wanted[p] for p, at in wrong.items()):
                (name, partition), at = next(iter(wrong.items()))
                raise BrokerError(
                    f"{name}-{partition} ends at {at}, not at {wanted[name, partition]}: somebody "
                    "else writes there."
                )
            time.sleep(PAUSE_S)

    def _name(self, topic: str) -> str:
        return topic_name(self._namespace, topic)
