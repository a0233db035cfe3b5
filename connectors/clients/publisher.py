"""Publishes schedules, requests and device profiles: the way in for upstream programs.

    with Publisher("127.0.0.1:9092") as publisher:
        receipt = publisher.schedule("cam-1", "every-minute", every="1m")
        print(receipt.decision())

Records go out idempotently with ``acks=all``, to the partition where the device lives
(``streams.core.ids``): librdkafka's own choice of a partition is not asked. A method returns when
its record waits in memory; ``receipt.acknowledged()`` waits for the broker, ``receipt.decision()``
for the timing wheel. What the wheel would refuse whatever its state is an error at once.

A publisher may be shared between threads. Leaving the ``with`` block waits until the broker has
everything, and raises if something could not be written.
"""

from __future__ import annotations

import time
from collections import deque
from threading import Lock
from typing import TYPE_CHECKING, Self, Unpack

from connectors.clients import events
from connectors.clients.batch import BatchReport, publish_batch
from connectors.clients.decisions import DecisionReader, Request
from connectors.clients.kafka import (
    CONNECT_TIMEOUT_S,
    DEFAULT_KAFKA,
    POLL_S,
    NoAnswerError,
    in_words,
    make_codec,
)
from connectors.clients.outbox import Outbox
from connectors.clients.receipt import Receipt
from infra.kafka.topics import topic_name
from schemas.errors import BrokerError, UsageError
from schemas.records import DeviceProfile
from streams.core.ids import partition_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from types import TracebackType

    from confluent_kafka import KafkaError, Message

    from connectors.clients.decisions import Answer
    from connectors.clients.events import PolicyOptions, ScheduleOptions
    from connectors.clients.outbox import Delivered
    from connectors.clients.values import Moment
    from schemas.records import ScheduleEvent

EVENTS, DECISIONS, PROFILES = "schedule.events", "schedule.decisions", "device.profiles"
FAILURES_KEPT = 100


class Publisher:
    """A client of schedule.events and device.profiles; see the module's text."""

    def __init__(
        self,
        kafka: str = DEFAULT_KAFKA,
        namespace: str = "",
        partitions: int | None = None,
        *,
        registry: str = "",
        client: Mapping[str, str] | None = None,
        check: bool = True,
        timeout: float = CONNECT_TIMEOUT_S,
    ) -> None:
        """Connect.

        Args:
            kafka: bootstrap servers, ``host:port[,host:port]``.
            namespace: prefix of the topics; empty for production.
            partitions: what the topics must have; None: what they have.
            registry: URL of the Schema Registry; empty: ids from fingerprints.
            client: further settings of librdkafka (TLS, SASL).
            check: raise UsageError for what the wheel would refuse anyway. False lets it refuse.
            timeout: seconds to wait for the broker here, and for room in a full queue.

        Raises :class:`BrokerError` if no broker answers or the topics are not there.

        """
        self.kafka = kafka
        self._events = topic_name(namespace, EVENTS)
        self._decisions = topic_name(namespace, DECISIONS)
        self._profiles = topic_name(namespace, PROFILES)
        self._client = client
        self._check = check
        self._outbox = Outbox(kafka, client, timeout)
        self.partitions = self._outbox.partitions(self._events)
        if partitions is not None and partitions != self.partitions:
            raise UsageError(
                f"Topic {self._events} has {self.partitions} partitions, not {partitions}."
            )
        self.codec = make_codec(registry)
        self._lock = Lock()
        self._reader: DecisionReader | None = None
        self._failed: deque[Receipt] = deque(maxlen=FAILURES_KEPT)

    # --- what can be published ------------------------------------------------------------------

    def schedule(
        self,
        device_id: str,
        schedule_id: str,
        *,
        every_ms: int | None = None,
        request_id: str | None = None,
        **options: Unpack[ScheduleOptions],
    ) -> Receipt:
        """Create or change a schedule: ``every`` so often, once ``at`` a time, or by a rule.

        The rules are ``cron``, ``rrule`` and ``sun``, in a ``zone``; ``lead``, ``spread`` and more
        say how photos are made: see :class:`connectors.clients.events.ScheduleOptions`. Durations
        are ``"5s"``, a timedelta, or an int of milliseconds.
        The same ``request_id`` again within 30 minutes is answered AlreadyKnown.
        """
        if every_ms is not None:
            if "every" in options:
                raise UsageError("Give 'every' or 'every_ms', not both.")
            options["every"] = every_ms
        event = events.upserted(device_id, schedule_id, request_id=request_id, **options)
        return self.publish(event, repeated=request_id is not None)

    def cancel(self, device_id: str, schedule_id: str, *, request_id: str | None = None) -> Receipt:
        """End a schedule; commands of it that are not armed yet are revoked."""
        return self.publish(
            events.cancelled(device_id, schedule_id, request_id=request_id),
            repeated=request_id is not None,
        )

    def pause(
        self, device_id: str, schedule_id: str, reason: str = "", *, request_id: str | None = None
    ) -> Receipt:
        """Let a schedule rest until it is resumed; the reason is kept with it."""
        return self.publish(
            events.paused(device_id, schedule_id, reason, request_id=request_id),
            repeated=request_id is not None,
        )

    def resume(self, device_id: str, schedule_id: str, *, request_id: str | None = None) -> Receipt:
        """Let a paused schedule go on."""
        return self.publish(
            events.resumed(device_id, schedule_id, request_id=request_id),
            repeated=request_id is not None,
        )

    def capture(
        self,
        device_id: str,
        at: Moment | None = None,
        *,
        request_id: str | None = None,
        **policy: Unpack[PolicyOptions],
    ) -> Receipt:
        """Ask for one photo, at a time or as soon as can be."""
        return self.publish(
            events.requested(device_id, at, request_id=request_id, **policy),
            repeated=request_id is not None,
        )

    def device(
        self,
        device: DeviceProfile | str,
        address: str = "",
        *,
        protocol: str = events.DEFAULT_PROTOCOL,
        model: str = "",
        site: str = "",
        labels: Mapping[str, str] | None = None,
        credentials: str = "",
        latitude: float | None = None,
        longitude: float | None = None,
    ) -> Receipt:
        """Make a device known, or change what is known: a whole profile, or its fields."""
        found = (
            device
            if isinstance(device, DeviceProfile)
            else events.profile(
                device,
                address,
                protocol=protocol,
                model=model,
                site=site,
                labels=labels,
                credentials=credentials,
                latitude=latitude,
                longitude=longitude,
            )
        )
        return self.publish(found)

    def remove_device(self, device_id: str) -> Receipt:
        """Forget a device: a null value deletes its profile. Its schedules stay as they are."""
        events.check_event(events.paused(device_id, "any"))
        receipt = self._receipt(device_id, "", repeated=False)
        told = self._tell(receipt)
        self._outbox.put(self._profiles, device_id.encode(), None, receipt.partition, told)
        return receipt

    def publish(self, record: ScheduleEvent | DeviceProfile, *, repeated: bool = True) -> Receipt:
        """Publish a record as it is; ``repeated``: its request id may have been used before.

        Raises :class:`UsageError` for what would be refused, :class:`BrokerError` if the broker
        takes nothing any more.
        """
        value = self.encode(record)
        profile = isinstance(record, DeviceProfile)
        request_id = "" if isinstance(record, DeviceProfile) else record.request_id
        receipt = self._receipt(record.device_id, request_id, repeated=repeated)
        topic = self._profiles if profile else self._events
        key, told = record.device_id.encode(), self._tell(receipt)
        self._outbox.put(topic, key, value, receipt.partition, told)
        return receipt

    def publish_many(
        self,
        records: Iterable[ScheduleEvent | DeviceProfile],
        *,
        wait: bool = False,
        progress: Callable[[BatchReport], None] | None = None,
        timeout: float = 30.0,
    ) -> BatchReport:
        """Publish many records, quickly and in bounded memory; return what became of them.

        Args:
            records: made by ``connectors.clients.events`` or a manifest; read as they go out.
            wait: wait for the wheel's decisions, too.
            progress: called a few times a second.
            timeout: seconds without any progress until it is given up.

        Raises :class:`UsageError` for a record that would be refused (those before it are out),
        :class:`BrokerError` if the broker does not take them. Decisions that do not come are
        counted, not raised.

        """
        return publish_batch(self, records, wait=wait, progress=progress, timeout_s=timeout)

    # --- the parts that a batch uses, too -------------------------------------------------------

    def encode(self, record: ScheduleEvent | DeviceProfile) -> bytes:
        """Return a record as bytes, checked first if this publisher checks."""
        if self._check:
            if isinstance(record, DeviceProfile):
                events.check_profile(record)
            else:
                events.check_event(record)
        return self.codec.encode(record)

    def send(
        self, record: ScheduleEvent | DeviceProfile, value: bytes, delivered: Delivered
    ) -> None:
        """Put an encoded record into the queue; ``delivered`` hears what became of it."""
        topic = self._profiles if isinstance(record, DeviceProfile) else self._events
        partition = partition_of(record.device_id, self.partitions)
        self._outbox.put(topic, record.device_id.encode(), value, partition, delivered)

    def serve(self, timeout_s: float) -> int:
        """Hand out delivery reports; return how many."""
        return self._outbox.serve(timeout_s)

    def decision_reader(self) -> DecisionReader:
        """Return a reader of its own for the decisions; the caller closes it."""
        return DecisionReader(self.kafka, self._decisions, self.codec, self._client)

    def delivery_error(self, error: KafkaError) -> BrokerError:
        """See :class:`connectors.clients.receipt.Waiting`."""
        return in_words(error, self.kafka)

    def _receipt(self, device_id: str, request_id: str, *, repeated: bool) -> Receipt:
        partition = partition_of(device_id, self.partitions)
        start: int | None = None
        if request_id:
            with self._lock:
                if self._reader is None:
                    # A topic that is not there is better said now than by a wait that ends.
                    self._outbox.partitions(self._decisions)
                    self._reader = self.decision_reader()
            # A request id that was used before may have an answer that is younger than the place.
            start = self._reader.end(partition, fresh=repeated)
        return Receipt(self, device_id, request_id, partition, start)

    def _tell(self, receipt: Receipt) -> Delivered:
        def delivered(error: KafkaError | None, message: Message) -> None:
            receipt.delivered(error, message)
            if error is not None:
                self._failed.append(receipt)

        return delivered

    # --- waiting --------------------------------------------------------------------------------

    def await_acknowledgement(self, receipt: Receipt, timeout_s: float) -> None:
        """See :class:`connectors.clients.receipt.Waiting`."""
        deadline_s = time.monotonic() + timeout_s
        while not receipt.done:
            rest_s = deadline_s - time.monotonic()
            if rest_s <= 0:
                raise NoAnswerError(
                    f"Kafka at {self.kafka} did not acknowledge the record of device "
                    f"{receipt.device_id!r} within {timeout_s:g} s. Check that the broker is "
                    "running: `shutterwheel doctor`."
                )
            self._outbox.serve(min(POLL_S, rest_s))
        if receipt.error is not None:
            receipt.told = True
            raise receipt.error

    def await_decision(self, receipt: Receipt, timeout_s: float) -> Answer:
        """See :class:`connectors.clients.receipt.Waiting`."""
        began_s = time.monotonic()
        self.await_acknowledgement(receipt, timeout_s)
        if self._reader is None or receipt.decided_from is None:
            raise UsageError("This publisher is closed; wait for decisions inside its 'with'.")
        rest_s = max(0.0, began_s + timeout_s - time.monotonic())
        request = Request(receipt.device_id, receipt.request_id)
        answer = self._reader.wait(request, receipt.partition, receipt.decided_from, rest_s)
        if answer is None:
            raise NoAnswerError(
                f"No decision came on request {receipt.request_id} of device "
                f"{receipt.device_id!r} within {timeout_s:g} s. The broker has the request, so it "
                "is decided once a timing wheel runs: check with `shutterwheel doctor`, then wait "
                "again."
            )
        return answer

    def flush(self, timeout: float = 30.0) -> None:
        """Wait until the broker has everything that was published.

        Raises :class:`BrokerError` if it does not within ``timeout`` s, or if a record failed
        that no caller was told of.
        """
        left = self._outbox.flush(timeout)
        failed = [receipt for receipt in self._failed if not receipt.told]
        self._failed.clear()
        if failed:
            more = f" ({len(failed)} records failed)" if len(failed) > 1 else ""
            raise BrokerError(f"Device {failed[0].device_id!r}: {failed[0].error}{more}")
        if left:
            raise BrokerError(
                f"{left} records were not acknowledged by Kafka at {self.kafka} within "
                f"{timeout:g} s."
            )

    def close(self, timeout: float = 30.0) -> None:
        """Flush, and close the connections; raises as :meth:`flush`."""
        try:
            self.flush(timeout)
        finally:
            self._release()

    def _release(self) -> None:
        if self._reader is not None:
            self._reader.close()
            self._reader = None
        self._outbox.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self.close()
            return
        self._outbox.flush(POLL_S)  # what is out is out; the error in flight goes first
        self._release()
