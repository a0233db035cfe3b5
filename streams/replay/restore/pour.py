"""Writing partitions so that every entry has the offset, key, value and time it had.

Several partitions at a time, one piece of each in turn, so that a request, or a transaction where
there must be one, takes pieces of as many partitions as are being written. What is written is
checked: the broker tells the offset of each batch, and of the end.
"""

from __future__ import annotations

import time
from itertools import islice
from typing import TYPE_CHECKING, Final

from infra.kafka.admin import admin_client, delete_records
from infra.kafka.offsets import list_offsets
from infra.kafka.topics import topic_name
from schemas.errors import BrokerError
from streams.replay.log import SILENCE_S, Entry
from streams.replay.restore.batches import batches
from streams.replay.restore.pieces import MARKERS, Piece, pieces
from streams.replay.restore.sink import Append, Sink
from streams.replay.restore.transactions import PAUSE_S, Transactions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from streams.replay.archive.manifest import Place
    from streams.replay.log import Log

AT_ONCE: Final = 32
"""Partitions that are written at a time; each has a piece in memory."""
BATCH_RECORDS: Final = 5_000
FILLER: Final = b""


class Pour:
    """One partition that is being written."""

    def __init__(self, name: str, partition: int, parts: Iterator[Piece]) -> None:
        self.name = name
        self.partition = partition
        self.at = 0
        """Offset that the next record will have."""
        self.delete_to = 0
        self._parts = parts
        self.piece: Piece | None = next(parts, None)

    def done(self, piece: Piece) -> None:
        """Go on to the next piece."""
        if piece.kind == "deleted":
            self.delete_to = piece.filler
        self.at += piece.offsets
        self.piece = next(self._parts, None)

    def appends(self, piece: Piece) -> Iterator[Append]:
        """Yield what makes a piece that is no transaction."""
        yield from appended(self.name, self.partition, self.at, rows_of(piece))
        if piece.kind == "outside" and piece.filler:
            at = self.at + len(piece.entries)
            yield Append(self.name, self.partition, at, piece.filler)


def rows_of(piece: Piece) -> list[Entry]:
    """Return the records of a piece, filler included."""
    return piece.entries or [Entry(0, 0, None, FILLER)] * piece.filler


def appended(name: str, partition: int, at: int, rows: list[Entry]) -> Iterator[Append]:
    """Yield what appends these records from an offset on."""
    for data, count in batches(rows):
        yield Append(name, partition, at, count, data)
        at += count


class Pourer:
    """Writes into the topics of a namespace that nobody else writes to. BrokerError. Close it."""

    def __init__(self, kafka: str, namespace: str, slot: int = 0, markers: int = MARKERS) -> None:
        """Take the target; of several that write there at a time each has a slot of its own.

        ``markers``: the longest gap to be made of markers; 0: none, as if the cluster took none.
        """
        self._namespace = namespace
        self._admin = admin_client(kafka)
        self._sink = Sink(kafka, self._admin)
        self._steps = Transactions(kafka, self._admin, f"{namespace}.restore-{slot}")
        self._markers = markers
        self.records = 0
        self.markers = 0
        """Written so far."""

    @property
    def transactions(self) -> int:
        """Transactions so far."""
        return self._steps.count

    def close(self) -> None:
        """Let go of the connections."""
        self._sink.close()

    # -- tables --------------------------------------------------------------------------------

    def write(self, topic: str, partition: int, rows: Iterable[Entry]) -> int:
        """Append records to a new partition as they come, with the time of now; return how many."""
        count, waiting, now_ms = 0, iter(rows), time.time_ns() // 1_000_000
        while batch := [Entry(0, now_ms, *one[2:]) for one in islice(waiting, BATCH_RECORDS)]:
            self._sink.put(appended(self._name(topic), partition, count, batch))
            count += len(batch)
        self._sink.settle()
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
        if waiting and self._markers and not self._sink.takes_markers(self._name(waiting[0][0][0])):
            self._markers = 0
        total, active = len(waiting), list[Pour]()
        waiting.reverse()
        while waiting or active:
            while waiting and len(active) < AT_ONCE:
                (topic, partition), end, first = waiting.pop()
                parts = pieces(log.read(topic, partition, first, end), end, self._markers)
                active.append(Pour(self._name(topic), partition, parts))
            self._round(active)
            ended = [pour for pour in active if pour.piece is None]
            self._delete(ended)
            active = [pour for pour in active if pour.piece is not None]
            progress(total - len(waiting) - len(active), total)
        self._sink.settle()
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
            if kinds[0] == "deleted":
                self._steps.await_markers()
                self._sink.put(one for pour, piece in turn for one in pour.appends(piece))
            else:
                self._sink.settle()
                self._steps.write(
                    ((pour.name, pour.partition, pour.at, rows_of(piece)) for pour, piece in turn),
                    commit=kinds[0] == "committed",
                )
            for pour, piece in turn:
                pour.done(piece)
                self.records += len(piece.entries)
                self.markers += piece.filler if piece.kind == "outside" else 0

    def _delete(self, pours: list[Pour]) -> None:
        """Delete the filler that stands where retention had left a gap."""
        for pour in pours:
            if pour.delete_to:
                self._sink.settle()
                place = pour.name, pour.partition
                delete_records(self._admin, {place: pour.delete_to}, SILENCE_S)

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
