"""What the clients share: settings of librdkafka, its errors in words, a topic's partitions.

Every wait on a broker here is bounded, and what goes wrong is one line that says what to do.
"""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any, Final, TypeVar

from infra.kafka.topics import check_partitions
from schemas.errors import BrokerError, ShutterwheelError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from confluent_kafka import Consumer, KafkaError, Message, Producer

    from schemas.codec import Codec

T = TypeVar("T")

DEFAULT_KAFKA: Final = "127.0.0.1:9092"
CONNECT_TIMEOUT_S: Final = 5.0
"""How long it may take until a broker answers for the first time."""
ANSWER_TIMEOUT_S: Final = 10.0
"""How long a broker may take to answer a request."""
SPREAD_S: Final = 1.0
"""How long a topic that was just made may take until every broker knows of it."""
BATCH: Final = 500
"""Most records taken from librdkafka at once."""
POLL_S: Final = 0.1
"""Longest single wait in librdkafka, so that Ctrl-C is heard."""

_SERVER: Final = re.compile(r"(?:[\w.-]+|\[[0-9A-Fa-f:.%]+\])(?::([0-9]{1,5}))?")


class NoAnswerError(ShutterwheelError):
    """What was waited for did not come in time; it may come later."""

    retryable = True


def check_bootstrap(kafka: str) -> str:
    """Return ``host:port[,host:port]`` as it is, or raise UsageError for what cannot be one."""
    for server in kafka.split(","):
        found = _SERVER.fullmatch(server.strip())
        if found is None or not 1 <= int(found[1] or 9092) <= 65_535:
            raise UsageError(f"{kafka!r} is not the address of a Kafka; expected HOST:PORT.")
    return kafka


def common_settings(kafka: str, client: Mapping[str, str] | None) -> dict[str, Any]:
    """Return the settings of every client; ``client`` adds librdkafka's own (TLS, SASL)."""
    return {
        "bootstrap.servers": check_bootstrap(kafka),
        "client.id": "shutterwheel",
        "reconnect.backoff.ms": 50,
        "reconnect.backoff.max.ms": 1_000,
        "socket.timeout.ms": int(ANSWER_TIMEOUT_S * 1_000),
        # What goes wrong comes back as an error; librdkafka's own lines would only repeat it.
        "log_level": 0,
        "error_cb": lambda _error: None,
        **(client or {}),
    }


def reader(
    kafka: str,
    client: Mapping[str, str] | None,
    group: str | None = None,
    settings: Mapping[str, object] | None = None,
) -> Consumer:
    """Return a consumer of committed records that commits nothing by itself."""
    import uuid

    from confluent_kafka import Consumer

    config = {
        **common_settings(kafka, client),
        # librdkafka wants a name even from a reader that joins no group.
        "group.id": group or f"shutterwheel-reader-{uuid.uuid4()}",
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "isolation.level": "read_committed",
        "enable.partition.eof": True,
        "auto.offset.reset": "earliest",
        "fetch.wait.max.ms": 100,
        "queued.max.messages.kbytes": 16 * 1_024,
        **(settings or {}),
    }
    try:
        return Consumer(config)
    except Exception as error:
        raise setting_error(error) from error


def take(consumer: Consumer, timeout_s: float) -> list[Message]:
    """Return what has come, or wait for the first of it for at most ``timeout_s``.

    ``consume`` alone would wait for a full batch. Messages may be errors: the caller looks.
    """
    first = consumer.poll(timeout_s)
    return [] if first is None else [first, *consumer.consume(BATCH - 1, timeout=0)]


def setting_error(error: Exception) -> ShutterwheelError:
    """Return the error for a client that librdkafka would not make."""
    from confluent_kafka import KafkaError

    reason = error.args[0] if error.args else error
    words = reason.str() if isinstance(reason, KafkaError) else str(reason)
    return UsageError(f"These Kafka settings cannot be used: {words}")


def partitions_of(handle: Producer | Consumer, kafka: str, topic: str, timeout_s: float) -> int:
    """Return how many partitions a topic has.

    Raises :class:`BrokerError`: no broker answers within ``timeout_s``, or it has no such topic.
    """
    from confluent_kafka import KafkaException

    deadline_s = time.monotonic() + min(SPREAD_S, timeout_s)
    while True:
        try:
            # All topics are asked for: asking for one by name could create it.
            found = handle.list_topics(timeout=timeout_s).topics.get(topic)
        except KafkaException as error:
            raise unreachable(kafka, timeout_s) from error
        if (found is not None and found.partitions) or time.monotonic() > deadline_s:
            break
        time.sleep(POLL_S)
    if found is None or not found.partitions:
        raise BrokerError(
            f"Kafka at {kafka} has no topic {topic}. `shutterwheel topics --create` makes the "
            "topics; with a namespace, give it by --namespace."
        )
    count = len(found.partitions)
    try:
        return check_partitions(count)
    except UsageError as error:
        raise BrokerError(
            f"Topic {topic} has {count} partitions; a power of two was expected."
        ) from error


def end_of(consumer: Consumer, kafka: str, topic: str, partition: int) -> int:
    """Return where a partition ends: the offset of the next record.

    Raises :class:`BrokerError` if that cannot be found out within ``ANSWER_TIMEOUT_S``.
    """
    from confluent_kafka import TopicPartition

    place = TopicPartition(topic, partition)
    return ask(kafka, lambda rest_s: consumer.get_watermark_offsets(place, timeout=rest_s))[1]


def ask(kafka: str, question: Callable[[float], T]) -> T:
    """Return the broker's answer; ``question`` gets the seconds that are left.

    Asked again while a partition moves to another broker, or a new one has no leader yet.
    Raises :class:`BrokerError` for what does not pass, or after ``ANSWER_TIMEOUT_S``.
    """
    from confluent_kafka import KafkaError, KafkaException

    passing = {
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError.UNKNOWN_LEADER_EPOCH,
        KafkaError.FENCED_LEADER_EPOCH,
        KafkaError.OFFSET_NOT_AVAILABLE,
        KafkaError.REQUEST_TIMED_OUT,
        KafkaError._TRANSPORT,  # noqa: SLF001
        KafkaError._UNKNOWN_PARTITION,  # noqa: SLF001
        KafkaError._WAIT_CACHE,  # noqa: SLF001
    }
    deadline_s = time.monotonic() + ANSWER_TIMEOUT_S
    while True:
        try:
            return question(max(0.1, deadline_s - time.monotonic()))
        except KafkaException as error:
            code = error.args[0].code()
            if code == KafkaError._TIMED_OUT:  # noqa: SLF001
                raise unreachable(kafka, ANSWER_TIMEOUT_S) from error
            if code not in passing or time.monotonic() > deadline_s:
                raise in_words(error.args[0], kafka) from error
        time.sleep(POLL_S / 2)


def unreachable(kafka: str, waited_s: float) -> BrokerError:
    """Return the error for a broker that does not answer."""
    return BrokerError(
        f"No Kafka broker answers at {kafka} (waited {waited_s:g} s). Check the address, and that "
        "the broker is running."
    )


def in_words(error: KafkaError, kafka: str) -> BrokerError:
    """Return the error for what librdkafka reports of a record or partition."""
    from confluent_kafka import KafkaError as Codes

    words = {
        Codes._MSG_TIMED_OUT: "the broker did not acknowledge in time; is it running?",  # noqa: SLF001
        Codes.UNKNOWN_TOPIC_OR_PART: "a topic is gone; `shutterwheel topics` shows what is there.",
        Codes._UNKNOWN_TOPIC: "a topic is gone; `shutterwheel topics` shows what is there.",  # noqa: SLF001
        Codes.TOPIC_AUTHORIZATION_FAILED: "this client may not use a topic; ask for access to it.",
        Codes._AUTHENTICATION: "the broker did not accept this client's credentials.",  # noqa: SLF001
    }.get(error.code())
    return BrokerError(f"Kafka at {kafka}: {words or error.str()}")


def make_codec(registry: str = "") -> Codec:
    """Return a codec whose schema ids come from a Schema Registry, or from fingerprints."""
    from schemas.codec import Codec
    from schemas.select import schema_ids

    return Codec(schema_ids(registry))
