"""Reads capture.results: the way out, for downstream programs.

    with results("127.0.0.1:9092", group="archive") as photos:
        for photo in photos:
            print(photo.device_id, photo.state, photo.image)

**Delivery is at least once.** A result counts as done when the next one is taken, or at
``commit()``; a second later at most that is written to the group. A program that dies goes on with
the first result that was not done. The workers write one result a command; should one ever come
twice (this reader was moved, or the log was copied), it is dropped and counted in ``repeats``.

What cannot be decoded is skipped, counted in ``skipped`` and warned of. Results are in order per
device, as a device lives on one partition.
"""

from __future__ import annotations

import logging
import time
from collections import OrderedDict, deque
from typing import TYPE_CHECKING, Literal, Self

from connectors.clients.kafka import (
    CONNECT_TIMEOUT_S,
    DEFAULT_KAFKA,
    POLL_S,
    NoAnswerError,
    end_of,
    in_words,
    make_codec,
    partitions_of,
    reader,
    take,
    unreachable,
)
from infra.kafka.topics import topic_name
from schemas.errors import BrokerError, DecodeError, UsageError
from schemas.records import CaptureResult
from streams.core.ids import partition_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from types import TracebackType

    from confluent_kafka import Consumer, Message, TopicPartition

    from schemas.codec import Codec

Start = Literal["now", "earliest"]

RESULTS = "capture.results"
RESERVED_GROUPS = frozenset({"wheel", "captures", "devices"})
"""Groups of the workers: a reader that joined one would take their partitions away."""
REMEMBERED = 200_000
"""Command ids remembered to notice repeats; about 150 bytes each."""
COMMIT_EVERY_MS = 1_000
PATIENCE_S = 60.0
"""How long a broker that was there may be away until the reader gives up."""
WARNINGS = 10
"""Undecodable records that are warned of one by one."""

log = logging.getLogger(__name__)


class Results:
    """An iterator of :class:`CaptureResult`. Made by :func:`results`; used by one thread."""

    def __init__(
        self,
        kafka: str,
        topic: str,
        codec: Codec,
        client: Mapping[str, str] | None,
        *,
        group: str | None,
        start: Start,
        follow: bool,
        device: str | None,
        timeout_s: float,
    ) -> None:
        self.repeats = 0
        """Results that came again and were dropped."""
        self.skipped = 0
        """Records that could not be decoded."""
        self._kafka = kafka
        self._topic = topic
        self._codec = codec
        self._follow = follow
        self._device = device
        self._grouped = group is not None
        self._waiting: deque[Message] = deque()
        self._in_hand: Message | None = None
        self._seen: OrderedDict[int, None] = OrderedDict()
        self._assigned: set[int] | None = None
        self._ended: set[int] = set()
        self._closed = False
        self._down_since_s: float | None = None
        self._asked_s = 0.0
        self._consumer: Consumer = reader(
            kafka,
            client,
            group,
            {
                "error_cb": self._on_error,
                "enable.auto.commit": self._grouped,
                "auto.commit.interval.ms": COMMIT_EVERY_MS,
                "auto.offset.reset": "earliest" if start == "earliest" else "latest",
                "partition.assignment.strategy": "cooperative-sticky",
            },
        )
        try:
            count = partitions_of(self._consumer, kafka, topic, timeout_s)
            wanted = range(count) if device is None else [partition_of(device, count)]
            if self._grouped:
                self._consumer.subscribe(
                    [topic],
                    on_assign=self._on_assign,
                    on_revoke=self._on_revoke,
                    on_lost=self._on_revoke,
                )
            else:
                self._place(wanted, start)
        except BaseException:
            self._consumer.close()
            raise

    def _place(self, partitions: Iterable[int], start: Start) -> None:
        """Begin at the ends as they are now: what ends after this call is not missed."""
        from confluent_kafka import OFFSET_BEGINNING, TopicPartition

        places: list[TopicPartition] = []
        for number in partitions:
            offset = OFFSET_BEGINNING
            if start == "now":
                offset = end_of(self._consumer, self._kafka, self._topic, number)
            places.append(TopicPartition(self._topic, number, offset))
        self._consumer.assign(places)
        self._assigned = {place.partition for place in places}

    # --- taking ---------------------------------------------------------------------------------

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> CaptureResult:
        """Return the next result; StopIteration at the end if this does not follow, or closed.

        Raises :class:`BrokerError` if the broker is away for ``PATIENCE_S`` or the topic is gone.
        """
        while True:
            found = self._take(POLL_S)
            if found is not None:
                return found
            if self._closed or (not self._follow and self._at_end()):
                raise StopIteration

    def next(self, timeout: float) -> CaptureResult:
        """Return the next result; :class:`NoAnswerError` if none comes within ``timeout`` s."""
        deadline_s = time.monotonic() + timeout
        while True:
            rest_s = deadline_s - time.monotonic()
            found = self._take(max(0.0, min(POLL_S, rest_s)))
            if found is not None:
                return found
            if rest_s <= 0 or self._closed:
                raise NoAnswerError(
                    f"No result came on {self._topic} at {self._kafka} within {timeout:g} s. Check "
                    "that workers run (`shutterwheel doctor`), and that something is scheduled "
                    "(`shutterwheel schedule list`)."
                )

    def _take(self, timeout_s: float) -> CaptureResult | None:
        """Return a result that is at hand or comes within ``timeout_s``; None: none."""
        self._done()
        if self._closed:
            return None
        if not self._waiting:
            self._waiting.extend(take(self._consumer, timeout_s))
            if not self._waiting:
                self._check_broker()
        while self._waiting:
            message = self._waiting.popleft()
            result = self._result(message)
            if result is not None:
                self._in_hand = message
                return result
        return None

    def _result(self, message: Message) -> CaptureResult | None:
        """Return what a message holds, unless it is nothing for the caller."""
        from confluent_kafka import KafkaError

        error = message.error()
        if error is not None:
            if error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001
                self._ended.add(message.partition() or 0)
            elif not error.retriable():
                raise in_words(error, self._kafka)
            return None
        self._down_since_s = None
        self._ended.discard(message.partition() or 0)
        found: CaptureResult | None = None
        if self._device is None or message.key() == self._device.encode():
            found = self._decode(message)
        if found is not None and self._is_repeat(found.command_id):
            self.repeats += 1
            found = None
        if found is None:
            self._store(message)
        return found

    def _decode(self, message: Message) -> CaptureResult | None:
        try:
            return self._codec.decode_as(message.value() or b"", CaptureResult)
        except DecodeError as error:
            self.skipped += 1
            if self.skipped <= WARNINGS:
                place = f"partition {message.partition()}, offset {message.offset()}"
                log.warning("%s, %s was skipped: %s", self._topic, place, error.line())
            return None

    def _is_repeat(self, command_id: int) -> bool:
        if command_id in self._seen:
            return True
        self._seen[command_id] = None
        if len(self._seen) > REMEMBERED:
            self._seen.popitem(last=False)
        return False

    def _at_end(self) -> bool:
        return self._assigned is not None and self._assigned <= self._ended and not self._waiting

    # --- what is done ---------------------------------------------------------------------------

    def _done(self) -> None:
        """Count the result in hand as done."""
        message, self._in_hand = self._in_hand, None
        if message is not None:
            self._store(message)

    def _store(self, message: Message) -> None:
        from confluent_kafka import KafkaException

        if not self._grouped:
            return
        try:
            self._consumer.store_offsets(message)
        except KafkaException:
            # The partition was given to another reader meanwhile; it reads this one again.
            log.debug("partition %s is no longer ours", message.partition())

    def commit(self) -> None:
        """Count the result in hand as done, and write that to the group now.

        Raises :class:`UsageError` without a group, :class:`BrokerError` if it cannot be written.
        """
        from confluent_kafka import KafkaError, KafkaException

        if not self._grouped:
            raise UsageError("A reader without a group has nothing to commit; give it a group.")
        self._done()
        try:
            self._consumer.commit(asynchronous=False)
        except KafkaException as error:
            if error.args[0].code() != KafkaError._NO_OFFSET:  # noqa: SLF001
                raise in_words(error.args[0], self._kafka) from error

    # --- membership and the broker --------------------------------------------------------------

    def _on_assign(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._assigned = (self._assigned or set()) | {one.partition for one in partitions}

    def _on_revoke(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        gone = {one.partition for one in partitions}
        self._assigned = (self._assigned or set()) - gone
        self._ended -= gone
        # The next owner reads them: they must not be handed out here as well.
        self._waiting = deque(m for m in self._waiting if m.partition() not in gone)

    def _on_error(self, error: object) -> None:
        from confluent_kafka import KafkaError

        if isinstance(error, KafkaError) and error.code() == KafkaError._ALL_BROKERS_DOWN:  # noqa: SLF001
            self._down_since_s = self._down_since_s or time.monotonic()

    def _check_broker(self) -> None:
        """Where every broker went away, ask now and then whether one is back."""
        down_s, now_s = self._down_since_s, time.monotonic()
        if down_s is None or now_s - self._asked_s < 1.0:
            return
        self._asked_s = now_s
        try:
            partitions_of(self._consumer, self._kafka, self._topic, 1.0)
        except BrokerError:
            if now_s - down_s > PATIENCE_S:
                raise unreachable(self._kafka, PATIENCE_S) from None
        else:
            self._down_since_s = None

    def close(self) -> None:
        """Leave the group; what was done is written. The result in hand counts as not done."""
        if not self._closed:
            self._closed = True
            self._consumer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def results(
    kafka: str = DEFAULT_KAFKA,
    group: str | None = None,
    namespace: str = "",
    *,
    follow: bool = True,
    start: Start | None = None,
    device: str | None = None,
    registry: str = "",
    client: Mapping[str, str] | None = None,
    timeout: float = CONNECT_TIMEOUT_S,
) -> Results:
    """Return an iterator of the results of captures, read committed.

    Args:
        kafka: bootstrap servers, ``host:port[,host:port]``.
        group: consumer group that remembers what is done, and shares the partitions among its
            members; in a namespace it is ``NAMESPACE.group``. None: nothing is remembered.
        namespace: prefix of the topics; empty for production.
        follow: go on waiting at the end; False: stop where the topic ends.
        start: where to begin with nothing remembered, ``"now"`` or ``"earliest"``; default
            ``"earliest"`` for a group, so that nothing is missed, else ``"now"``.
        device: only results of this device.
        registry: URL of the Schema Registry; empty: ids from fingerprints.
        client: further settings of librdkafka (TLS, SASL).
        timeout: seconds to wait for the broker here.

    Raises :class:`BrokerError` if no broker answers or the topic is not there,
    :class:`UsageError` for a group of the workers.

    """
    if group is not None and (group in RESERVED_GROUPS or not group.strip()):
        names = ", ".join(sorted(RESERVED_GROUPS))
        raise UsageError(f"The group {group!r} cannot be used: {names} are the workers' own.")
    full_group = f"{namespace}.{group}" if group is not None and namespace else group
    return Results(
        kafka,
        topic_name(namespace, RESULTS),
        make_codec(registry),
        client,
        group=full_group,
        start=start or ("now" if group is None else "earliest"),
        follow=follow,
        device=device,
        timeout_s=timeout,
    )
