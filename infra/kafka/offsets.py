"""Where partitions begin and end, asked for again while leaders are changing.

Right after a topic was made, or a broker came back, a partition may have no leader that answers,
or one whose epoch a client's metadata does not know yet. That passes within a second or two, so
those errors are asked about again until ``timeout_s`` is over.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final, Literal

from confluent_kafka import IsolationLevel, KafkaError, KafkaException, TopicPartition
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


def list_offsets(
    admin: AdminClient,
    partitions: Iterable[TopicAndPartition],
    which: Literal["earliest", "latest"],
    timeout_s: float,
) -> dict[TopicAndPartition, int]:
    """Return the first offset of each partition, or the one after its last, uncommitted included.

    Raises:
        BrokerError: an error that does not pass, or did not within ``timeout_s``.

    """
    spec: Any = OffsetSpec.latest() if which == "latest" else OffsetSpec.earliest()  # type: ignore[no-untyped-call]
    deadline = time.monotonic() + timeout_s
    left = set(partitions)
    found: dict[TopicAndPartition, int] = {}
    while left:
        futures: Mapping[TopicPartition, Future[Any]] = admin.list_offsets(
            {TopicPartition(*at): spec for at in left},
            isolation_level=IsolationLevel.READ_UNCOMMITTED,
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
    return found
