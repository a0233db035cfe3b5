"""An app without Kafka: steps gather into a batch that a test looks into."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from schemas.codec import Codec
from schemas.ids import FingerprintIds
from schemas.records import Record
from streams.observability.metrics import Metrics
from streams.runtime.batch import Batch
from streams.runtime.clock import Clock
from streams.runtime.group import Group, Membership
from streams.runtime.partition import Partition, Step
from streams.runtime.settings import RuntimeSettings

if TYPE_CHECKING:
    from streams.runtime.handover import Handover

MEMBERSHIP = Membership(1, "member")
CODEC = Codec(FingerprintIds())


class HandClock(Clock):
    """A wall clock that a test moves."""

    def __init__(self) -> None:
        super().__init__()
        self.ms = 1_800_000_000_000

    def now_s(self) -> float:
        return self.ms / 1000.0


class Rows(dict[tuple[str, int, bytes], bytes]):
    """Committed rows; also the overlay, as a test commits by hand."""

    def scan(self, table: str, partition: int) -> Any:
        return [(k[2], v) for k, v in sorted(self.items()) if k[:2] == (table, partition)]

    def scan_values(self, table: str, partition: int) -> Any:
        return [value for _, value in self.scan(table, partition)]


class FakeApp:
    """What an agent sees of a ``ShardApp``: partitions, steps, commits when the test says so."""

    def __init__(self, inputs: tuple[str, ...], changelogs: dict[str, str]) -> None:
        self.rows = Rows()
        self.clock = HandClock()
        self.metrics = Metrics("test", "0")
        self.settings = RuntimeSettings(
            app="test", slot="0", bootstrap="-", data_dir=Path("unused"), drain_ms=500
        )
        self.group = Group(6_000, 1_000)
        self.group.joined(1, "member")
        self.partitions: dict[int, Partition] = {}
        self.failures: list[BaseException] = []
        self.committer = SimpleNamespace(room=self.room)
        self.while_waiting: list[Any] = []
        self._inputs, self._changelogs = inputs, changelogs
        self.batch = Batch(MEMBERSHIP)

    def open(self, number: int, program: Any, handover: Handover | None = None) -> Partition:
        rows: Any = self.rows
        partition = Partition(
            number,
            dict.fromkeys(self._inputs, 0),
            self._changelogs,
            rows,
            rows,
            MEMBERSHIP,
            handover,
        )
        program.opened(partition)
        self.partitions[number] = partition
        return partition

    async def room(self) -> None:
        for call in self.while_waiting:
            call()
        self.while_waiting.clear()

    def step(self, partition: Partition) -> Step:
        return Step(self.batch, partition, self.fail)

    def fail(self, error: BaseException) -> None:
        self.failures.append(error)

    def commit(self) -> list[tuple[str, Record]]:
        """Commit by hand; return the outputs, decoded, in order of topics."""
        batch, self.batch = self.batch, Batch(MEMBERSHIP)
        for key, value in batch.writes.items():
            if value is None:
                self.rows.pop(key, None)
            else:
                self.rows[key] = value
        for call in batch.committed:
            call()
        return [
            (topic, CODEC.decode(value or b""))
            for topic, messages in batch.outputs.items()
            for _, value, _ in messages
        ]


def kafka_record(record: Record | bytes | None, offset: int, key: bytes = b"") -> Any:
    """A consumed record, as aiokafka gives it."""
    value = CODEC.encode(record) if isinstance(record, Record) else record
    device_id = getattr(record, "device_id", "")
    return SimpleNamespace(
        value=value, offset=offset, key=key or device_id.encode(), partition=0, timestamp=1
    )
