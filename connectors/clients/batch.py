"""Many records at once: fast, in bounded memory, with a count of what became of them.

**Bounds.** Records wait in librdkafka's queue (``outbox.QUEUE_RECORDS``). Where decisions are
waited for, at most ``WINDOW`` requests are undecided at a time, and what is kept of each is its
name: about 200 bytes. Refusals are counted, the first ``EXAMPLES`` are kept.

**Cost**, one core shared with the broker: about 20 µs a schedule published, of which half is the
check and the encoding.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from connectors.clients.decisions import Request
from connectors.clients.kafka import POLL_S
from schemas.errors import BrokerError
from schemas.records import Accepted, DeviceProfile, Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from confluent_kafka import KafkaError, Message

    from connectors.clients.decisions import Answer, DecisionReader
    from schemas.records import ScheduleEvent

WINDOW = 20_000
"""Most requests that are published and not decided."""
EXAMPLES = 20
"""Refusals kept word for word."""
SERVE_EVERY = 500
"""Records between two looks at reports and decisions."""
PROGRESS_S = 0.2


@dataclass(slots=True)
class BatchReport:
    """How far a batch is. Counts of records."""

    published: int = 0
    acknowledged: int = 0
    failed: int = 0
    """Not taken by the broker."""
    accepted: int = 0
    already_known: int = 0
    refused: int = 0
    undecided: int = 0
    """Published, but the decision did not come; 0 where none was waited for."""
    refusals: list[Refused] = field(default_factory=list)
    """The first of the refused."""


class Sender(Protocol):
    """What a batch needs of its publisher."""

    @property
    def partitions(self) -> int:
        """Partitions of every topic."""
        ...

    def encode(self, record: ScheduleEvent | DeviceProfile) -> bytes:
        """Check and encode."""
        ...

    def send(
        self,
        record: ScheduleEvent | DeviceProfile,
        value: bytes,
        delivered: Callable[[KafkaError | None, Message], None],
    ) -> None:
        """Put a record into the queue; waits where it is full."""

    def serve(self, timeout_s: float) -> int:
        """Hand out delivery reports."""
        ...

    def delivery_error(self, error: KafkaError) -> BrokerError:
        """Put an error into words."""
        ...

    def decision_reader(self) -> DecisionReader:
        """Return a reader of decisions."""
        ...


def publish_batch(
    sender: Sender,
    records: Iterable[ScheduleEvent | DeviceProfile],
    *,
    wait: bool,
    progress: Callable[[BatchReport], None] | None,
    timeout_s: float,
) -> BatchReport:
    """See :meth:`connectors.clients.publisher.Publisher.publish_many`."""
    reader = sender.decision_reader() if wait else None
    try:
        return _Batch(sender, reader, progress, timeout_s).run(records)
    finally:
        if reader is not None:
            reader.close()


class _Batch:
    """One batch under way."""

    def __init__(
        self,
        sender: Sender,
        reader: DecisionReader | None,
        progress: Callable[[BatchReport], None] | None,
        timeout_s: float,
    ) -> None:
        self._sender = sender
        self._reader = reader
        self._progress = progress
        self._timeout_s = timeout_s
        self._report = BatchReport()
        self._undecided: set[Request] = set()
        self._error: BrokerError | None = None
        self._moved_s = time.monotonic()
        self._told_s = 0.0

    def run(self, records: Iterable[ScheduleEvent | DeviceProfile]) -> BatchReport:
        """Publish all, wait for all, return the counts."""
        report, reader = self._report, self._reader
        if reader is not None:
            reader.follow({n: reader.end(n) for n in range(self._sender.partitions)})
        for record in records:
            value = self._sender.encode(record)
            if reader is not None and not isinstance(record, DeviceProfile):
                self._undecided.add(Request(record.device_id, record.request_id))
            self._sender.send(record, value, self._delivered)
            report.published += 1
            self._moved_s = time.monotonic()
            if report.published % SERVE_EVERY == 0:
                self._look(0.0)
                while len(self._undecided) > WINDOW:
                    if not self._moving():
                        raise BrokerError(
                            f"No decision came for {self._timeout_s:g} s; {report.published} "
                            "records are published. Is a wheel worker running?"
                        )
                    self._look(POLL_S)
        while report.acknowledged + report.failed < report.published and self._moving():
            self._sender.serve(POLL_S)
            self._look(0.0)
        if report.acknowledged + report.failed < report.published:
            left = report.published - report.acknowledged - report.failed
            raise BrokerError(
                f"{left} of {report.published} records were not acknowledged in time."
            )
        while self._undecided and self._moving():
            self._look(POLL_S)
        report.undecided = len(self._undecided)
        if self._progress is not None:
            self._progress(report)
        return report

    def _moving(self) -> bool:
        """Say whether anything happened lately; raise what the broker reported."""
        if self._error is not None:
            raise self._error
        return time.monotonic() - self._moved_s < self._timeout_s

    def _look(self, timeout_s: float) -> None:
        """Take reports and decisions; tell how far it is."""
        self._sender.serve(0.0)
        if self._reader is not None:
            for request, answer in self._reader.take(timeout_s):
                if request in self._undecided:
                    self._undecided.remove(request)
                    self._count(answer)
        if self._error is not None:
            raise self._error
        now_s = time.monotonic()
        if self._progress is not None and now_s - self._told_s > PROGRESS_S:
            self._told_s = now_s
            self._progress(self._report)

    def _count(self, answer: Answer) -> None:
        report = self._report
        self._moved_s = time.monotonic()
        if isinstance(answer, Accepted):
            report.accepted += 1
        elif isinstance(answer, Refused):
            report.refused += 1
            if len(report.refusals) < EXAMPLES:
                report.refusals.append(answer)
        else:
            report.already_known += 1

    def _delivered(self, error: KafkaError | None, _message: Message) -> None:
        self._moved_s = time.monotonic()
        if error is None:
            self._report.acknowledged += 1
        else:
            self._report.failed += 1
            self._error = self._error or self._sender.delivery_error(error)
