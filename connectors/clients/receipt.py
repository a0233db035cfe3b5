"""What a publisher gives back at once: the means to wait for what becomes of a record."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from schemas.errors import UsageError

if TYPE_CHECKING:
    from confluent_kafka import KafkaError, Message

    from connectors.clients.decisions import Answer
    from schemas.errors import BrokerError


class Waiting(Protocol):
    """What a receipt needs of its publisher."""

    def await_acknowledgement(self, receipt: Receipt, timeout_s: float) -> None:
        """Return once the broker has the record; raise if it has not."""

    def await_decision(self, receipt: Receipt, timeout_s: float) -> Answer:
        """Return the wheel's answer; raise if it does not come."""
        ...

    def delivery_error(self, error: KafkaError) -> BrokerError:
        """Return librdkafka's error in words."""
        ...


class Receipt:
    """One published record. Nothing is waited for until it is asked for."""

    __slots__ = (
        "_publisher",
        "decided_from",
        "device_id",
        "done",
        "error",
        "offset",
        "partition",
        "request_id",
        "told",
    )

    def __init__(
        self,
        publisher: Waiting,
        device_id: str,
        request_id: str,
        partition: int,
        decided_from: int | None,
    ) -> None:
        self._publisher = publisher
        self.device_id = device_id
        self.request_id = request_id
        """Empty for a device profile."""
        self.partition = partition
        self.decided_from = decided_from
        """The answer stands at this offset of schedule.decisions or behind; None: there is none."""
        self.offset: int | None = None
        """Where the record stands in its topic, once that is known."""
        self.done = False
        """Whether the broker acknowledged it, or it failed."""
        self.error: BrokerError | None = None
        self.told = False
        """Whether the error was raised to a caller already."""

    def __repr__(self) -> str:
        state = "failed" if self.error else "acknowledged" if self.done else "under way"
        return f"Receipt(device_id={self.device_id!r}, request_id={self.request_id!r}, {state})"

    def acknowledged(self, timeout: float = 10.0) -> Receipt:
        """Wait until the broker has the record for good, at most ``timeout`` s; return self.

        Raises :class:`BrokerError` if it could not be written, :class:`NoAnswerError` if that is
        not known in time.
        """
        self._publisher.await_acknowledgement(self, timeout)
        return self

    def decision(self, timeout: float = 10.0) -> Answer:
        """Return the timing wheel's answer: Accepted, AlreadyKnown or Refused.

        Waits at most ``timeout`` s for the acknowledgement and the answer together.

        Raises :class:`UsageError` for a device profile, which gets no answer,
        :class:`BrokerError` if the record could not be written, :class:`NoAnswerError` if no
        answer came in time; it may come later, so this may be called again.
        """
        if self.decided_from is None:
            raise UsageError("A device profile gets no decision; wait for .acknowledged().")
        return self._publisher.await_decision(self, timeout)

    def delivered(self, error: KafkaError | None, message: Message) -> None:
        """Take librdkafka's delivery report."""
        if error is None:
            self.offset = message.offset()
        else:
            self.error = self._publisher.delivery_error(error)
        self.done = True
