"""Records that could not be worked on: kept as they were, with where they came from and why.

A poison record is policy, not an exception: it is written to ``dead.letters``, counted, and the
work goes on with the next one. The letter is part of the step that would have worked on the
record, so it is written exactly once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from schemas.records import DeadLetter

if TYPE_CHECKING:
    from aiokafka import ConsumerRecord

    from schemas.codec import Codec
    from streams.observability.metrics import Metrics
    from streams.runtime.clock import Clock
    from streams.runtime.partition import Step

TOPIC = "dead.letters"
MAX_VALUE_BYTES = 1_500_000
"""A letter must itself fit into a record of dead.letters (2 MiB, infra/kafka/topics.py); other
topics' records (1 MiB) do. What is longer is cut, and the reason says so."""


class DeadLetters:
    """Writes dead letters of one app."""

    def __init__(self, app: str, codec: Codec, clock: Clock, metrics: Metrics) -> None:
        self._app = app
        self._codec = codec
        self._clock = clock
        self._metrics = metrics

    def write(self, step: Step, record: ConsumerRecord, topic: str, code: str, reason: str) -> None:
        """Write one letter; ``topic`` is the record's topic without its namespace."""
        value = record.value
        if value is not None and len(value) > MAX_VALUE_BYTES:
            reason = f"{reason} (the value of {len(value):,} bytes is cut)"
            value = value[:MAX_VALUE_BYTES]
        letter = DeadLetter(
            topic=topic,
            partition=record.partition,
            offset=record.offset,
            timestamp_ms=record.timestamp,
            key=record.key,
            value=value,
            code=code,
            reason=reason,
            app=self._app,
            at_ms=self._clock.now_ms(),
        )
        step.produce(TOPIC, record.key, self._codec.encode(letter))
        self._metrics.dead_letters.inc(code)
