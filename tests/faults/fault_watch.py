"""Watches a topic as a read-committed reader does: when was each partition last heard of?"""

from __future__ import annotations

import threading
import time
from itertools import pairwise

from confluent_kafka import OFFSET_END, Consumer, TopicPartition


class Watch:
    """Notes when the visible records of each partition arrive, until it is closed."""

    def __init__(self, kafka: str, topic: str, partitions: int) -> None:
        self._partitions = range(partitions)
        self._heard: dict[int, list[float]] = {p: [] for p in self._partitions}
        self._stop = threading.Event()
        self._consumer = Consumer(
            {
                "bootstrap.servers": kafka,
                "group.id": "fault-watch",  # demanded; nothing is joined or committed
                "isolation.level": "read_committed",
                "enable.auto.commit": False,
                "fetch.wait.max.ms": 20,
                "reconnect.backoff.max.ms": 200,
                "topic.metadata.refresh.interval.ms": 1_000,
                "log_level": 0,
            }
        )
        self._consumer.assign([TopicPartition(topic, p, OFFSET_END) for p in self._partitions])
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.is_set():
            messages = self._consumer.consume(1_000, 0.05)
            now = time.monotonic()
            for partition in {m.partition() for m in messages if m.error() is None}:
                self._heard[partition].append(now)

    def silent_since(self, since: float) -> list[int]:
        """Return the partitions not heard of since then (``time.monotonic``)."""
        return [p for p in self._partitions if not self._heard[p] or self._heard[p][-1] <= since]

    def heard_since(self, since: float) -> bool:
        """Tell whether every partition has been heard of since then."""
        return not self.silent_since(since)

    def longest_silence_s(self, since: float, until: float) -> float:
        """Return the longest time in which some partition was not heard of."""
        return max(silence_s(list(self._heard[p]), since, until) for p in self._partitions)

    def close(self) -> None:
        """Stop reading."""
        self._stop.set()
        self._thread.join(10)
        self._consumer.close()


def silence_s(heard: list[float], since: float, until: float) -> float:
    """Return the longest gap between two of these times, or one of them and an end."""
    times = [since, *(at for at in heard if since < at < until), until]
    return max(b - a for a, b in pairwise(times))
