"""Where partitions begin and end and how far a group is, asked for again while brokers change.

Right after a topic was made, or a broker came back, a partition may have no leader that answers,
or one whose epoch a client's metadata does not know yet. That passes within a second or two, so
those errors are asked about again until ``timeout_s`` is over.

What only a group's coordinator knows is never asked of an AdminClient: librdkafka 2.16 ends the
process where the coordinator moves or its connection is lost meanwhile (librdkafka #4605, #5397).
"""

from __future__ import annotations

import secrets
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

from confluent_kafka import (
    Consumer,
    IsolationLevel,
    KafkaError,
    KafkaException,
    TopicPartition,
)
from confluent_kafka.admin import OffsetSpec  # type: ignore[attr-defined]

from schemas.errors import BrokerError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from concurrent.futures import Future

    from confluent_kafka.admin import AdminClient

TopicAndPartition = tuple[str, int]

PAUSE_S: Final = 0.1
REQUEST_S: Final = 10.0
PASSING: Final = frozenset(
    {
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.UNKNOWN_LEADER_EPOCH,
        KafkaError.FENCED_LEADER_EPOCH,
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError.OFFSET_NOT_AVAILABLE,
        KafkaError.REQUEST_TIMED_OUT,
        KafkaError._TRANSPORT,  # noqa: SLF001
        KafkaError._TIMED_OUT,  # noqa: SLF001
    }
)


_COORDINATING: Final = frozenset(
    {
        KafkaError.UNSTABLE_OFFSET_COMMIT,
        # While a coordinator moves or starts; librdkafka does not call them retriable here.
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.NOT_COORDINATOR,
        KafkaError._TIMED_OUT,  # noqa: SLF001
        KafkaError._TRANSPORT,  # noqa: SLF001
        KafkaError._WAIT_COORD,  # noqa: SLF001
    }
)
"""Answers to the question for stable offsets that pass by themselves."""


@dataclass(frozen=True, slots=True)
class OffsetsMark:
    """A number that a member of a group has committed as one of its offsets, to be read back."""

    topic: str
    partition: int
    """Of a topic that the group does not read."""
    offset: int = field(default_factory=lambda: secrets.randbits(62))


def stable_offsets(
    bootstrap: str,
    group: str,
    asked: list[TopicPartition],
    timeout_s: float,
    mark: OffsetsMark | None = None,
) -> list[TopicPartition]:
    """Return a group's committed offsets, with their metadata, once no transaction can change them.

    A coordinator that was stopped and wakes may answer as it was then. Where a ``mark`` was
    committed before, an answer without it is not believed.

    A consumer that reads committed requires them stable (KIP-447). It is one that never joins, and
    a new one each time: an old one may wait for a coordinator that has gone (librdkafka #5511).

    Raises:
        BrokerError: an error that does not pass, or did not within ``timeout_s``.

    """
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": group,
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
            "log_level": 2,
        }
    )
    deadline = time.monotonic() + timeout_s
    marked = [TopicPartition(mark.topic, mark.partition)] if mark else []
    try:
        while True:
            try:
                found = consumer.committed(asked + marked, timeout=min(REQUEST_S, timeout_s))
                for part in found:
                    if part.error is not None:
                        raise KafkaException(part.error)
                if mark and found.pop().offset != mark.offset:
                    raise KafkaException(KafkaError(KafkaError.NOT_COORDINATOR))
            except KafkaException as error:
                code: KafkaError = error.args[0]
                passing = code.code() in _COORDINATING or code.retriable()
                if passing and time.monotonic() < deadline:
                    time.sleep(PAUSE_S / 2)
                    continue
                raise BrokerError(f"Cannot read stable offsets: {code.str()}") from error
            return found
    finally:
        consumer.close()


def list_offsets(
    admin: AdminClient,
    partitions: Iterable[TopicAndPartition],
    which: Literal["earliest", "latest"],
    timeout_s: float,
    *,
    committed: bool = False,
) -> dict[TopicAndPartition, int]:
    """Return the first offset of each partition, or the one after its last, uncommitted included.

    ``committed``: instead of the latter the last stable offset, at which the first transaction that
    is still open begins.

    Raises:
        BrokerError: an error that does not pass, or did not within ``timeout_s``.

    """
    isolation = IsolationLevel.READ_COMMITTED if committed else IsolationLevel.READ_UNCOMMITTED
    spec: Any = OffsetSpec.latest() if which == "latest" else OffsetSpec.earliest()  # type: ignore[no-untyped-call]
    deadline = time.monotonic() + timeout_s
    left = set(partitions)
    found: dict[TopicAndPartition, int] = {}
    while left:
        futures: Mapping[TopicPartition, Future[Any]] = admin.list_offsets(
            {TopicPartition(*at): spec for at in left},
            isolation_level=isolation,
            request_timeout=REQUEST_S,
        )
        for at, future in futures.items():
            try:
                found[at.topic, at.partition] = int(future.result().offset)
                left.discard((at.topic, at.partition))
            except KafkaException as error:
                code: KafkaError = error.args[0]
                if code.code() not in PASSING or time.monotonic() > deadline:
                    raise BrokerError(
                        f"Cannot read where {at.topic}-{at.partition} begins or ends: {code.str()}"
                    ) from error
        if left:
            time.sleep(PAUSE_S)
            # A client asks on by the leader's epoch that it knows, however often that is refused.
            with suppress(KafkaException):
                admin.list_topics(timeout=REQUEST_S)
    return found
