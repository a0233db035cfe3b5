"""A timing wheel for tests of the clients: the real fold, none of the runtime around it.

It reads schedule.events, folds each batch as one tick by ``streams.core.shard.advance``, and writes
decisions, commands and rows of the schedules table in one Kafka transaction, so that readers meet
transaction markers as they do in life. It remembers nothing when it is gone.
"""

from __future__ import annotations

import time
from threading import Event, Thread
from typing import Self

from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition

from infra.kafka.topics import topic_name
from schemas.codec import Codec
from schemas.ids import FingerprintIds
from schemas.records import ScheduleTick, TickChange, TickSettings
from streams.core.shard import RULES_VERSION, PartitionState, advance


class StandInWheel:
    """Runs in a thread from ``with`` to its end."""

    def __init__(self, kafka: str, namespace: str, partitions: int) -> None:
        self._namespace = namespace
        self._codec = Codec(FingerprintIds())
        self._states = {n: PartitionState(n, partitions) for n in range(partitions)}
        self._consumer = Consumer(
            {"bootstrap.servers": kafka, "group.id": f"{namespace}-wheel", "log_level": 0}
        )
        self._consumer.assign(
            [
                TopicPartition(self._topic("schedule.events"), n, OFFSET_BEGINNING)
                for n in self._states
            ]
        )
        self._producer = Producer(
            {"bootstrap.servers": kafka, "transactional.id": namespace, "log_level": 0}
        )
        self._stop = Event()
        self._error: BaseException | None = None
        self._thread = Thread(target=self._run, daemon=True)

    def _topic(self, name: str) -> str:
        return topic_name(self._namespace, name)

    def __enter__(self) -> Self:
        self._producer.init_transactions(30)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(30)
        self._consumer.close()
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                messages = [m for m in self._consumer.consume(1_000, 0.05) if m.error() is None]
                if messages:
                    self._producer.begin_transaction()
                    for number, state in self._states.items():
                        mine = [m for m in messages if m.partition() == number]
                        if mine:
                            self._tick(state, mine)
                    self._producer.commit_transaction(30)
        except BaseException as error:  # noqa: BLE001 - raised where the test ends
            self._error = error

    def _tick(self, state: PartitionState, messages: list) -> None:
        tick = ScheduleTick(
            partition=state.partition,
            partitions=state.partitions,
            time_ms=max(state.clock_ms, time.time_ns() // 1_000_000),
            rules_version=RULES_VERSION,
            tz_version="none",
            settings=TickSettings(),
            changes=tuple(TickChange(m.offset(), self._codec.decode(m.value())) for m in messages),
        )
        outputs = advance(state, tick)
        for name, records in (
            ("schedule.decisions", outputs.decisions),
            ("capture.commands", outputs.commands),
        ):
            for record in records:
                self._write(name, record.device_id.encode(), record, state.partition)
        for (table, key), row in outputs.rows.items():
            if table == "schedules":
                self._write("wheel.schedules.changelog", key, row, state.partition)

    def _write(self, name: str, key: bytes, record, partition: int) -> None:
        value = None if record is None else self._codec.encode(record)
        self._producer.produce(self._topic(name), value, key, partition)
        self._producer.poll(0)
