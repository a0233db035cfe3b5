"""What is happening, seen from the topics: open captures, results, lateness of the last moments.

A thread reads capture.commands and capture.results read-committed. It serves the live view and
tells when a run is drained; it is no proof of anything (``check.py`` is).
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from confluent_kafka import Consumer, TopicPartition

from infra.kafka.topics import topic_name
from schemas.errors import DecodeError
from schemas.records import CaptureCommand, CaptureResult

if TYPE_CHECKING:
    from collections.abc import Mapping

    from schemas.codec import Codec

COMMANDS, RESULTS = "capture.commands", "capture.results"
WINDOW_S: Final = 10.0
"""The last moments: rates and lateness are over these seconds."""
WINDOW_RESULTS: Final = 100_000
OPEN_MOST: Final = 2_000_000
"""Most open captures kept in mind; 64 bytes each."""


@dataclass(frozen=True, slots=True)
class View:
    """What the watch has seen so far."""

    states: Mapping[str, int]
    open: int
    per_s: float
    lateness_ms_p50: int
    lateness_ms_p99: int
    first_photo_at_s: float | None
    """``time.time()`` when the first photo was seen."""
    last: CaptureResult | None


class Watch:
    """Reads commands and results from given offsets on, until closed."""

    def __init__(
        self, kafka: str, namespace: str, since: Mapping[tuple[str, int], int], codec: Codec
    ) -> None:
        """Begin to read; ``since`` gives offsets by (topic, partition)."""
        self._codec = codec
        self._commands = topic_name(namespace, COMMANDS)
        self._consumer = Consumer(
            {
                "bootstrap.servers": kafka,
                "group.id": "shutterwheel-watch",
                "enable.auto.commit": False,
                "isolation.level": "read_committed",
                "fetch.wait.max.ms": 100,
                "log_level": 0,
                "error_cb": lambda _error: None,
            }
        )
        self._consumer.assign(
            [
                TopicPartition(topic, partition, offset)
                for (topic, partition), offset in since.items()
                if topic in {self._commands, topic_name(namespace, RESULTS)}
            ]
        )
        self._states: Counter[str] = Counter()
        self._open: set[int] = set()
        self._early_results: set[int] = set()
        self._recent: deque[tuple[float, int]] = deque(maxlen=WINDOW_RESULTS)
        self._first: float | None = None
        self._last: CaptureResult | None = None
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop reading."""
        self._stop.set()
        self._thread.join()
        self._consumer.close()

    def view(self) -> View:
        """Return what has been seen."""
        with self._lock:
            horizon = time.monotonic() - WINDOW_S
            while self._recent and self._recent[0][0] < horizon:
                self._recent.popleft()
            late = sorted(lateness for _, lateness in self._recent)
            return View(
                states=dict(self._states),
                open=len(self._open),
                per_s=len(late) / WINDOW_S,
                lateness_ms_p50=late[len(late) // 2] if late else 0,
                lateness_ms_p99=late[int(len(late) * 0.99)] if late else 0,
                first_photo_at_s=self._first,
                last=self._last,
            )

    def _run(self) -> None:
        while not self._stop.is_set():
            messages = self._consumer.consume(2_000, timeout=0.1)
            with self._lock:
                for message in messages:
                    value = message.value()
                    if message.error() is None and isinstance(value, bytes):
                        self._take(message.topic() == self._commands, value)

    def _take(self, is_command: bool, value: bytes) -> None:
        try:
            record = self._codec.decode(value)
        except DecodeError:
            return
        if is_command:
            if isinstance(record, CaptureCommand) and len(self._open) < OPEN_MOST:
                # Two topics are read in no common order: a result may come before its command.
                if record.command_id in self._early_results:
                    self._early_results.discard(record.command_id)
                else:
                    self._open.add(record.command_id)
        elif isinstance(record, CaptureResult):
            if record.command_id in self._open:
                self._open.discard(record.command_id)
            else:
                self._early_results.add(record.command_id)
            self._states[record.state] += 1
            self._last = record
            if record.shutter_at_ms is not None:
                lateness = record.shutter_at_ms - record.scheduled_ms
                self._recent.append((time.monotonic(), lateness))
            if self._first is None and record.state == "SUCCESS":
                self._first = time.time()
