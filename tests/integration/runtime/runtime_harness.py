"""What the runtime's tests share: topics, a feed, readers, and worker processes to be hurt."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import runtime_checker
from confluent_kafka import (
    Consumer,
    IsolationLevel,
    KafkaError,
    Message,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, NewTopic, OffsetSpec

from infra.kafka.offsets import stable_offsets
from infra.kafka.topics import topic_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

PROGRAM = Path(__file__).with_name("counter_program.py")
ROOT = PROGRAM.parents[3]
IN, OUT, LOG, DEAD = "probe.in", "probe.out", "probe.log", "dead.letters"
SESSION_MS = 1_500
PATIENCE_S = 40.0
FLUSH_S = 120.0
"""How long the feed waits for the broker, which a test may have stopped for a minute."""
QUICK: dict[str, Any] = {
    "session_timeout_ms": SESSION_MS,
    "heartbeat_ms": 300,
    "lease_margin_ms": 500,
    "commit_interval_ms": 50,
    "rebalance_timeout_ms": 10_000,
    "drain_ms": 1_000,
}
"""Runtime settings for tests; the broker's least session timeout is one second."""


def make_topics(
    kafka: str,
    namespace: str,
    partitions: int,
    replication: int = 1,
    changelog: Mapping[str, str] | None = None,
) -> None:
    """Make the topics of the counter program; ``changelog``: more settings of that topic."""
    admin = AdminClient({"bootstrap.servers": kafka})
    config = {LOG: {"cleanup.policy": "compact", **(changelog or {})}}
    made = admin.create_topics(
        [
            NewTopic(
                topic_name(namespace, name), partitions, replication, config=config.get(name, {})
            )
            for name in (IN, OUT, LOG, DEAD)
        ]
    )
    for future in made.values():
        future.result()


def drop_topics(kafka: str, namespace: str) -> None:
    """Drop them again, and what a recovery may have left of groups."""
    admin = AdminClient({"bootstrap.servers": kafka})
    gone = admin.delete_topics([topic_name(namespace, n) for n in (IN, OUT, LOG, DEAD)])
    for future in gone.values():
        future.exception()


def wait_until(what: str, ready: Callable[[], Any], patience_s: float = PATIENCE_S) -> Any:
    """Return the first true answer; fail with ``what`` when there is none in time."""
    deadline = time.monotonic() + patience_s
    while True:
        found = ready()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"Not in {patience_s:.0f} s: {what}")
        time.sleep(0.02)


class Feed:
    """Writes inputs, round the partitions, keys repeating."""

    def __init__(self, kafka: str, namespace: str, partitions: int, keys: int = 7) -> None:
        self._producer = Producer({"bootstrap.servers": kafka, "linger.ms": 2, "log_level": 0})
        self._topic = topic_name(namespace, IN)
        self._partitions = partitions
        self._keys = keys
        self.sent = 0
        self.ends = dict.fromkeys(range(partitions), 0)
        """Where each partition ends, as far as the broker has acknowledged it."""

    def _acknowledged(self, error: KafkaError | None, message: Message) -> None:
        assert error is None, error
        partition, offset = message.partition(), message.offset()
        assert partition is not None
        assert offset is not None
        self.ends[partition] = max(self.ends[partition], offset + 1)

    def send(self, count: int, *, later_every: int = 10, value: bytes = b"x") -> None:
        """Write so many records and wait until the broker has them."""
        for _ in range(count):
            n = self.sent
            self.sent += 1
            later = later_every and value == b"x" and n % later_every == 0
            while len(self._producer) > 50_000:
                self._producer.poll(0.05)
            self._producer.produce(
                self._topic,
                b"later" if later else value,
                b"k%d" % (n // self._partitions % self._keys),
                n % self._partitions,
                self._acknowledged,
            )
            self._producer.poll(0)
        assert self._producer.flush(FLUSH_S) == 0

    def steadily(
        self, rate: int, stop: threading.Event, *, later_every: int = 10
    ) -> threading.Thread:
        """Write ``rate`` records a second until told to stop."""

        def run() -> None:
            while not stop.wait(0.05):
                self.send(max(1, rate // 20), later_every=later_every)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        return thread


class Reader:
    """Reads whole topics as a read-committed reader sees them."""

    def __init__(self, kafka: str, namespace: str, partitions: int) -> None:
        self._kafka, self._namespace, self._partitions = kafka, namespace, partitions

    def _consumer(self, isolation: str) -> Consumer:
        return Consumer(
            {
                "bootstrap.servers": self._kafka,
                "group.id": f"{self._namespace}-reader",
                "isolation.level": isolation,
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "auto.offset.reset": "error",
                "fetch.wait.max.ms": 20,
            }
        )

    def read(self, name: str, isolation: str = "read_committed") -> dict[int, runtime_checker.Rows]:
        """Return (offset, key, value) of everything visible, by partition.

        It reads up to the end as it is now *uncommitted*: what a killed worker has left open hides
        everything behind it until the broker has aborted it.
        """
        topic = topic_name(self._namespace, name)
        rows: dict[int, runtime_checker.Rows] = {p: [] for p in range(self._partitions)}
        waiting = {p: end for p, end in self.ends(name).items() if end}
        consumer = self._consumer(isolation)
        try:
            consumer.assign([TopicPartition(topic, p, 0) for p in waiting])
            deadline = time.monotonic() + PATIENCE_S
            while waiting:
                assert time.monotonic() < deadline, f"{topic} does not get to {waiting}"
                for message in consumer.consume(5_000, 0.1):
                    partition, offset = message.partition(), message.offset()
                    error = message.error()
                    if error is None:
                        rows[partition].append((offset, message.key(), message.value()))
                    elif error.code() == KafkaError._PARTITION_EOF:
                        if offset >= waiting.get(partition, 0):
                            waiting.pop(partition, None)
                    else:
                        raise AssertionError(f"{topic}: {error.str()}")
        finally:
            consumer.close()
        return rows

    def written(self, name: str) -> int:
        """Return how far the partitions have been written, markers and aborted records included."""
        return sum(self.ends(name).values())

    def findings(self) -> runtime_checker.Findings:
        """Check everything that is visible."""
        return runtime_checker.check(self.read(IN), self.read(OUT), self.read(LOG))

    def committed(self, group: str) -> dict[int, int]:
        """Return the stable committed offsets of the input."""
        topic = topic_name(self._namespace, IN)
        asked = [TopicPartition(topic, p) for p in range(self._partitions)]
        found = stable_offsets(self._kafka, f"{self._namespace}.{group}", asked, 30.0)
        return {p.partition: p.offset for p in found}

    def ends(self, name: str, *, committed: bool = False) -> dict[int, int]:
        """Return the end offsets, read uncommitted; ``committed``: where committed reading ends."""
        admin = AdminClient({"bootstrap.servers": self._kafka})
        topic = topic_name(self._namespace, name)
        asked = {TopicPartition(topic, p): OffsetSpec.latest() for p in range(self._partitions)}
        isolation = IsolationLevel.READ_COMMITTED if committed else IsolationLevel.READ_UNCOMMITTED
        found = admin.list_offsets(asked, isolation_level=isolation)
        return {tp.partition: future.result().offset for tp, future in found.items()}


class Worker:
    """One process of the counter program."""

    def __init__(
        self,
        kafka: str,
        namespace: str,
        data_dir: Path,
        slot: str = "0",
        partitions: int = 2,
        runtime: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        self.slot = slot
        arguments = {
            "bootstrap": kafka,
            "namespace": namespace,
            "slot": slot,
            "data_dir": str(data_dir),
            "partitions": partitions,
            "runtime": {**QUICK, **(runtime or {})},
            **options,
        }
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        self.process = subprocess.Popen(
            [sys.executable, str(PROGRAM), json.dumps(arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        self.events: list[dict[str, Any]] = []
        self.errors: list[str] = []
        self._threads = [
            threading.Thread(target=self._read_events, daemon=True),
            threading.Thread(target=self._read_errors, daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def _read_events(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.events.append(json.loads(line))

    def _read_errors(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.errors.append(line.rstrip())

    def all(self, event: str) -> list[dict[str, Any]]:
        return [e for e in list(self.events) if e["event"] == event]

    def owns(self) -> set[int]:
        """Return the partitions opened and not closed since."""
        owned: set[int] = set()
        for event in list(self.events):
            if event["event"] == "opened":
                owned.add(event["partition"])
            elif event["event"] == "closed":
                owned.discard(event["partition"])
        return owned

    def until_owns(self, count: int, patience_s: float = PATIENCE_S) -> Worker:
        """Wait until it has opened so many partitions."""
        try:
            wait_until(
                f"worker {self.slot} owns {count} partitions",
                lambda: len(self.owns()) == count or self._ended(),
                patience_s,
            )
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.report()}") from None
        assert len(self.owns()) == count, self.report()
        return self

    def until(self, event: str, **fields: Any) -> dict[str, Any]:
        """Wait for an event with these fields."""

        def found() -> Any:
            for e in self.all(event):
                if all(e.get(k) == v for k, v in fields.items()):
                    return e
            return self._ended()

        answer = wait_until(f"{event} {fields} of worker {self.slot}", found)
        assert answer is not True, f"worker {self.slot} ended: {self.report()}"
        return dict(answer)

    def _ended(self) -> bool:
        if self.process.poll() is None:
            return False
        for thread in self._threads:
            thread.join(5)
        return True

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def stop(self, patience_s: float = 25.0) -> int:
        """Stop it cleanly and return the exit code."""
        self.until("started")  # only from then on SIGTERM is its own business
        self.signal(signal.SIGTERM)
        return self.exit_code(patience_s)

    def exit_code(self, patience_s: float = PATIENCE_S) -> int:
        """Wait for the end of the process."""
        try:
            code = self.process.wait(patience_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"worker {self.slot} does not end: {self.report()}") from None
        for thread in self._threads:
            thread.join(5)
        return code

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(10)
        for thread in self._threads:
            thread.join(5)
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()

    def report(self) -> str:
        lines = [json.dumps(e) for e in self.events[-8:]]
        return "\n".join([f"worker {self.slot}:", *lines, *self.errors[-60:]])


class Site:
    """The topics of one test and the workers it starts."""

    def __init__(
        self, kafka: str, namespace: str, data_dir: Path, partitions: int = 2, **topics: Any
    ) -> None:
        self.kafka, self.namespace, self.data_dir = kafka, namespace, data_dir
        self.partitions = partitions
        make_topics(kafka, namespace, partitions, **topics)
        self.feed = Feed(kafka, namespace, partitions)
        self.reader = Reader(kafka, namespace, partitions)
        self.workers: list[Worker] = []

    def worker(self, slot: str = "0", **options: Any) -> Worker:
        options.setdefault("partitions", self.partitions)
        data_dir = options.pop("data_dir", self.data_dir)
        worker = Worker(self.kafka, self.namespace, data_dir, slot, **options)
        self.workers.append(worker)
        return worker

    def until_worked_off(self, alive: Iterable[Worker] = ()) -> None:
        """Wait until every input so far is committed and every completion has ended."""
        workers = list(alive)

        def done() -> bool:
            for worker in workers:
                assert worker.process.poll() is None, worker.report()
            committed = self.reader.committed("captures")
            # Not the end a broker tells: one that was away may tell where it was then.
            if any(committed[p] < end for p, end in self.feed.ends.items()):
                return False
            rows = self.reader.read(LOG)
            state = [runtime_checker.folded(rows[p]) for p in rows]
            return not any(key.startswith(b"@") for s in state for key in s)

        wait_until(f"all inputs worked off: {[w.report() for w in workers]}", done)

    def close(self) -> None:
        for worker in self.workers:
            worker.kill()
        drop_topics(self.kafka, self.namespace)
