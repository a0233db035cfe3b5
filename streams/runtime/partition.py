"""A partition this worker owns, and a step of work on it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from aiokafka import ConsumerRecord

    from streams.runtime.batch import Batch, Point
    from streams.runtime.group import Membership
    from streams.runtime.handover import Handover
    from streams.runtime.overlay import Overlay
    from streams.runtime.store import Store


@dataclass(slots=True, eq=False)
class Partition:
    """One partition of an app: all inputs of that number, and the state that goes with them."""

    number: int
    positions: dict[str, int]
    """Next offset to work on, by input topic."""
    changelogs: dict[str, str]
    """Changelog topic by table."""
    store: Store
    overlay: Overlay
    membership: Membership
    """What it was opened under; no step is made on it under any other."""
    handover: Handover | None = None
    """What its last owner left with it."""
    leaving: Handover | None = None
    """What we leave with it: committed with every step from now on, as each replaces the last."""
    open: bool = True
    """False once it is being given up: nothing new starts."""
    paused: bool = False
    """The group is being joined again: no step can be made, but the partition may come back."""
    gone: bool = False
    """It is ours no more."""
    shutters_until_ms: int = 0
    """While it is not open, shutters may open until then (``handover.py``)."""
    sought: int = -1
    """The interruption of the flow since which its records have come without a hole (see
    ``transport.py``); -1: the consumer must be sent back to ``positions`` first."""
    state: Any = field(default=None)
    """What the agents keep of it in memory; theirs to type."""
    _waiting: list[Callable[[], None]] = field(default_factory=list)

    def when_writable(self, call: Callable[[], None]) -> None:
        """Call at once, or as soon as steps can be made again; never if the partition goes."""
        if self.gone:
            return
        if self.paused:
            self._waiting.append(call)
        else:
            call()

    def pause(self) -> None:
        """Let no step be made: the group is being joined again."""
        self.open, self.paused, self.sought = False, True, -1

    def resume(self, membership: Membership) -> None:
        """Go on under the next membership; what waited is called."""
        self.membership, self.leaving = membership, None
        self.open, self.paused, self.shutters_until_ms = True, False, 0
        waiting, self._waiting = self._waiting, []
        for call in waiting:
            call()

    def lose(self) -> None:
        """Note that it is ours no more; what waited is dropped."""
        self.open, self.paused, self.gone = False, True, True
        self._waiting.clear()

    def rows(self, table: str) -> Iterator[tuple[bytes, bytes]]:
        """Yield the committed rows of a table. Only right before the first step."""
        return self.store.scan(table, self.number)

    def get(self, table: str, key: bytes) -> bytes | None:
        """Return a row as the steps so far have left it."""
        return self.overlay.get((table, self.number, key))

    def takes(self, interruptions: int) -> bool:
        """Tell whether records fetched since this interruption may be worked on.

        If not they are dropped, and so is what follows them, until they have been sought again.
        """
        if self.open and self.sought == interruptions:
            return True
        self.sought = -1
        return False

    def trimmed(self, topic: str, records: list[ConsumerRecord]) -> list[ConsumerRecord]:
        """Return the records not worked on yet: a poll may begin before the position."""
        position = self.positions[topic]
        if not records or records[0].offset >= position:
            return records
        return [record for record in records if record.offset >= position]


class Step:
    """One atomic piece of work on a partition: outputs, state writes and the input offset.

    It gathers into the open batch and must be made and finished without awaiting. An exception
    inside it fails the worker, so half a step is never committed.
    """

    __slots__ = ("_batch", "_fail", "_partition")

    def __init__(
        self, batch: Batch, partition: Partition, fail: Callable[[BaseException], None]
    ) -> None:
        self._batch = batch
        self._partition = partition
        self._fail = fail

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _type: object, error: BaseException | None, _traceback: object) -> None:
        if error is not None:
            self._fail(error)
            return
        partition, batch = self._partition, self._batch
        batch.partitions.add(partition.number)
        for topic, offset in partition.positions.items():
            batch.offsets[topic, partition.number] = offset
        if partition.leaving is not None:
            batch.handovers[partition.number] = partition.leaving.text()

    def produce(self, topic: str, key: bytes | None, value: bytes | None) -> None:
        """Add a record for this partition of an output topic."""
        batch = self._batch
        message = (key, value, self._partition.number)
        outputs = batch.outputs.get(topic)
        if outputs is None:
            batch.outputs[topic] = [message]
        else:
            outputs.append(message)
        batch.records += 1

    def clocked(self, topic: str) -> None:
        """Have the broker's append time of this topic compared with our clock (LogAppendTime)."""
        self._batch.clocked.add(topic)

    def put(self, table: str, key: bytes, value: bytes | None) -> None:
        """Write a row; ``None`` deletes it."""
        self._batch.writes[table, self._partition.number, key] = value
        self._batch.records += 1

    def consumed(self, topic: str, next_offset: int) -> None:
        """Move the position of an input; it never moves back."""
        positions = self._partition.positions
        if next_offset < positions[topic]:
            raise ValueError(f"{topic}: position {positions[topic]} cannot move to {next_offset}")
        positions[topic] = next_offset

    def after_commit(self, call: Callable[[], None]) -> None:
        """Have something called on the event loop once this step is committed."""
        self._batch.committed.append(call)

    def at_commit(self, topic: str, call: Callable[[Point], None]) -> None:
        """Have the event loop told where this partition stands once this step is committed.

        The step, or one after it in the same batch, must produce to ``topic``. When ``call`` runs
        no further commit has begun, so the store holds what this one has left, and nothing newer.
        """
        self._batch.points.setdefault((topic, self._partition.number), []).append(call)
