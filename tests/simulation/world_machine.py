"""What stands below a worker: a machine with its clock, disk and cable, and what a thread waits for.

A machine outlives its processes. Its wall clock is wrong by an offset, drifts and is stepped; its
boot time goes on while processes are stopped. Its disk holds each app's rows with the changelog
offsets they stand at, and may be lost or be that of yesterday. Its cable to the broker may be cut.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from schemas.errors import BrokerError, ClockError
from streams.runtime.clock import Clock
from streams.runtime.group import Group
from streams.runtime.handover import Handover
from streams.runtime.recovery import Recovered
from streams.runtime.transaction import Committed

if TYPE_CHECKING:
    import asyncio
    import random
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from world_log import Broker, Place
    from world_loop import Schedule

    from streams.runtime.batch import Batch, StateKey

EPOCH_S = 1_795_000_000.0
"""UTC seconds at the world's beginning."""
PATIENCE_S = 30.0


class KilledError(BaseException):
    """The process ends at this very point."""


@dataclass
class Machine:
    """One machine."""

    name: str
    schedule: Schedule
    random: random.Random
    offset_s: float = 0.0
    """What the wall clock is ahead of true time."""
    drift: float = 0.0
    booted_s: float = 0.0
    oscillator: float = 0.0
    """By how many seconds a second the boot time runs fast."""
    cut: bool = False
    """No packet passes between it and the broker."""
    slow: float = 1.0
    """By how much commits take longer than usual."""
    disk_slow: float = 1.0
    """By how much that takes longer which a thread does after the broker's part: to write rows."""
    deaf: bool = False
    """What it sends arrives; no answer of the broker comes back."""
    disks: dict[str, Disk] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    """The member id of each app's last process (``MemberNote``)."""

    def wall_s(self) -> float:
        now_s = self.schedule.now_s
        return EPOCH_S + now_s + self.offset_s + self.drift * now_s

    def boot_s(self) -> float:
        return self.booted_s + self.schedule.now_s * (1.0 + self.oscillator)

    def clock(self) -> Clock:
        """Return the clock of a process that starts now."""
        return Clock(self.wall_s, self.boot_s)

    def disk(self, app: str) -> Disk:
        return self.disks.setdefault(app, Disk())


GATHERED_MOST = 20
"""Commits whose rows are written together: two seconds or three."""


class Disk:
    """The committed rows of an app on a machine: what ``runtime/store.py`` has in RocksDB."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, int], dict[bytes, bytes]] = {}
        self.offsets: dict[tuple[str, int], int] = {}
        self.counts: dict[tuple[str, int], int] = {}
        self.unwritten: list[tuple[StateKey, bytes | None]] = []
        """What stood there before each row that a kill would take back, oldest first."""
        self.written: dict[tuple[str, int], int] = {}
        """The offsets that a kill would go back to."""
        self.gathered = 0

    def copied(self) -> Disk:
        """Return a backup."""
        return copy.deepcopy(self)

    def crash(self) -> None:
        """A process begins: what the one before it had not written is lost (``unwritten.py``)."""
        for (table, partition, name), value in reversed(self.unwritten):
            self.put(table, partition, name, value)
        self.offsets = dict(self.written)
        self.flush()

    def lose(self) -> None:
        """A new disk."""
        self.rows, self.offsets = {}, {}
        self.counts = {at: count + 1 for at, count in self.counts.items()}
        self.flush()

    def restore(self, old: Disk) -> None:
        """Bring an old backup back."""
        self.rows, self.offsets = copy.deepcopy(old.rows), dict(old.offsets)
        self.counts = {at: count + 1 for at, count in self.counts.items()}
        self.flush()

    # -- as a Store ----------------------------------------------------------------------------

    cached_rows = unwritten_rows = 0

    def get(self, key: StateKey) -> bytes | None:
        table, partition, name = key
        return self.rows.get((table, partition), {}).get(name)

    def view(self, partition: int, tables: Iterable[str]) -> Iterator[tuple[str, bytes, bytes]]:
        return iter([(t, key, value) for t in tables for key, value in self.scan(t, partition)])

    def scan(self, table: str, partition: int) -> Iterator[tuple[bytes, bytes]]:
        yield from sorted(self.rows.get((table, partition), {}).items())

    def scan_values(self, table: str, partition: int) -> Iterator[bytes]:
        for _, value in self.scan(table, partition):
            yield value

    def offset(self, table: str, partition: int) -> int | None:
        return self.offsets.get((table, partition))

    def changes(self, table: str, partition: int) -> int:
        return self.counts.get((table, partition), 0)

    def apply(
        self,
        writes: Mapping[StateKey, bytes | None],
        offsets: Mapping[tuple[str, int], int],
    ) -> None:
        for (table, partition, name), value in writes.items():
            before = self.rows.get((table, partition), {}).get(name)
            self.unwritten.append(((table, partition, name), before))
            self.put(table, partition, name, value)
        self.offsets.update(offsets)
        self.gathered += 1
        if self.gathered >= GATHERED_MOST:
            self.flush()

    def flush(self) -> None:
        """All is written now."""
        self.unwritten.clear()
        self.written, self.gathered = dict(self.offsets), 0

    def put(self, table: str, partition: int, name: bytes, value: bytes | None) -> None:
        at = (table, partition)
        self.counts[at] = self.counts.get(at, 0) + 1
        rows = self.rows.setdefault(at, {})
        if value is None:
            rows.pop(name, None)
        else:
            rows[name] = value


class BootGroup(Group):
    """Membership and lease by the machine's boot time."""

    def __init__(self, machine: Machine, session_timeout_ms: int, lease_margin_ms: int) -> None:
        super().__init__(session_timeout_ms, lease_margin_ms)
        self._machine = machine

    def lease_age_ms(self) -> float:
        return self._machine.boot_s() * 1000.0 - self._renewed_at_ms


class Transactor:
    """A process's transactional producer."""

    def __init__(self, process: Any, broker: Broker, clock: Clock, max_skew_ms: int) -> None:
        self.process, self.broker, self.clock = process, broker, clock
        self.max_skew_ms = max_skew_ms
        self.began_ms = 0
        self.dies_after_commit = False
        self.last: list[Place] = []
        """What the transaction under way writes to."""

    def start(self) -> None:
        self.process.epoch = self.broker.begin_slot(self.process.settings.transactional_id)

    def perform(self, batch: Batch, marks: frozenset[str]) -> Committed:
        """Commit now, or raise: see ``streams.runtime.transaction``."""
        if batch.clocked:
            stamp_ms, now_ms = self.broker.now_ms(), self.clock.now_ms()
            skew_ms = self.began_ms - stamp_ms if stamp_ms < self.began_ms else 0
            skew_ms = skew_ms or min(now_ms - stamp_ms, 0)
            if abs(skew_ms) > self.max_skew_ms:
                raise ClockError(f"{skew_ms:+,} ms from the broker's clock")
        ends = self.broker.commit(self.process, batch)
        if self.dies_after_commit:
            raise KilledError
        return Committed({at: end for at, end in ends.items() if at[0] in marks})


class Recovery:
    """Reads positions and changelogs, as ``streams.runtime.recovery`` does."""

    def __init__(
        self,
        broker: Broker,
        disk: Disk,
        group: str,
        changelogs: Mapping[str, str],
        inputs: tuple[str, ...],
    ) -> None:
        self.broker, self.disk, self.group = broker, disk, group
        self.changelogs, self.inputs = dict(changelogs), inputs

    def places(self, numbers: Any) -> list[Place]:
        topics = (*self.inputs, *self.changelogs.values())
        return [(topic, number) for number in sorted(numbers) for topic in topics]

    def positions(self, numbers: Any) -> dict[Place, int]:
        return {
            (topic, number): self.broker.offsets.get((self.group, topic, number), 0)
            for number in sorted(numbers)
            for topic in self.inputs
        }

    def recover(self, numbers: Any, _wanted: Callable[[], bool], _mark: object) -> Recovered:
        positions, count = self.positions(numbers), 0
        handovers: dict[int, Handover] = {}
        self.disk.flush()
        for number in sorted(numbers):
            for topic in self.inputs:
                found = Handover.parse(
                    self.broker.metadata.get((self.group, topic, number), "") + "\0"
                )
                if found is not None:
                    handovers[number] = found
            for table, topic in self.changelogs.items():
                count += self._replay(table, topic, number)
        return Recovered(positions, count, 0.0, handovers)

    def _replay(self, table: str, topic: str, number: int) -> int:
        shelf, begin = self.broker.shelf(topic, number), self.disk.offset(table, number) or 0
        records = self.broker.read(topic, number, begin, len(shelf.records))
        for record in records:
            self.disk.put(table, number, record.key or b"", record.value)
        self.disk.offsets[table, number] = shelf.end
        return len(records)


class Threads:
    """What a process's threads do: it takes a time, and waits for broker and cable.

    A thread's work begins and is answered in the process's own time (not while it is stopped). In
    between it is one moment: see ``world_log``. A process that is stopped or killed before that
    moment may leave its transaction open.
    """

    def __init__(self, process: Any, machine: Machine, loop: Any) -> None:
        self.process, self.machine, self.loop = process, machine, loop
        self.random = machine.random
        self.committing = False
        """A transaction is under way and its moment has not come."""

    def shutdown(self, **_: Any) -> None:
        """There is nothing to be shut down."""

    def run(self, executor: Any, func: Any, *args: Any) -> asyncio.Future[Any]:
        future = self.loop.create_future()
        name, is_commit = func.__name__, func.__name__ == "_perform"
        low, high = self.process.latency_s[name if name in self.process.latency_s else "other"]
        took_s = self.random.uniform(low, high) * (self.machine.slow if is_commit else 1.0)
        if is_commit and self.machine.slow > 1.0:
            self.process.met("slow")
        if is_commit:
            self.committing = True
            self.process.transactor.began_ms = self.process.clock.now_ms()
            self.process.transactor.last = self._places(args[0])
        began_s = self.loop.time()
        left_s = took_s * 0.4
        if self.machine.disk_slow > 1.0 and name in {"_perform", "recover", "_write"}:
            self.process.met("disk_slow")
            left_s *= self.machine.disk_slow
        self.loop.call_later(took_s * 0.6, self._moment, future, func, args, left_s, began_s)
        return future

    def _places(self, batch: Batch) -> list[Place]:
        return [(topic, m[2]) for topic, messages in batch.outputs.items() for m in messages[:1]]

    def _moment(
        self, future: Any, func: Any, args: tuple[Any, ...], left_s: float, began_s: float
    ) -> None:
        if self._must_wait(func):
            if self.loop.time() - began_s > PATIENCE_S:
                self.committing = False
                error = BrokerError("the broker does not answer")
                self.loop.call_soon(self._answer, future, None, error)
            else:
                self.loop.call_later(0.1, self._moment, future, func, args, left_s, began_s)
            return
        if func.__name__ == "_perform":
            self.committing = False
        result, error = None, None
        try:
            result = func(*args)
        except KilledError:
            self.process.met("crash_after_commit")
            self.process.die("kill after a commit")
            return
        except Exception as caught:  # noqa: BLE001 - the one who waits gets it
            error = caught
        self.loop.call_later(left_s, self._answer, future, result, error)

    def _must_wait(self, func: Any) -> bool:
        if self.machine.cut:
            self.process.met("cut")
            return True
        owner = getattr(func, "__self__", None)
        return (
            isinstance(owner, Recovery)
            and func.__name__ == "recover"
            and not (
                self.process.broker.is_stable(owner.places(range(self.process.layout.partitions)))
            )
        )

    def _answer(self, future: Any, result: Any, error: Exception | None) -> None:
        if self.machine.cut or self.machine.deaf:  # the answer waits on its way
            self.process.met("cut" if self.machine.cut else "deaf")
            self.loop.call_later(0.1, self._answer, future, result, error)
        elif not future.done():
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(error)
