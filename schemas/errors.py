"""The one error tree.

Every error that leaves a module of this project is a :class:`ShutterwheelError`. A class says two
things: whether trying the same again can help (``retryable``), and what a person should do
(``advice``, appended to the message by the command line). A bad record is not an error of the
program: it becomes a dead letter with a reason, and the program goes on. A bug crashes.
"""

from __future__ import annotations

from typing import ClassVar


class ShutterwheelError(Exception):
    """Something went wrong that a person can be told in one line."""

    retryable: ClassVar[bool] = False
    advice: ClassVar[str] = ""

    def line(self) -> str:
        """Return the message and the advice as one line."""
        text = " ".join(str(self).split())
        return f"{text} {self.advice}".strip()


class UsageError(ShutterwheelError):
    """The user asked for something that cannot be: a bad option, file or value."""


class SchemaError(ShutterwheelError):
    """A schema is missing, malformed or incompatible."""


class DecodeError(ShutterwheelError):
    """Bytes that are not a record we know. ``code`` is a short word for dead letters."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code


class BrokerError(ShutterwheelError):
    """Kafka cannot be reached, started or used."""

    retryable = True


class StoreError(ShutterwheelError):
    """The local state or the blob store cannot be used: locked, full or damaged."""


class FencedError(ShutterwheelError):
    """A worker is no longer the owner of what it wrote for; it stops and is started again."""

    retryable = True


class ClockError(ShutterwheelError):
    """The clock of the machine cannot be trusted; the wheel stops instead of writing."""

    advice = "Check the machine's time synchronisation, then start the worker again."


class CameraError(ShutterwheelError):
    """A camera gave no photo. ``cause`` is a short word; ``retry``: another try may help."""

    def __init__(self, cause: str, message: str, *, retry: bool = True) -> None:
        super().__init__(message)
        self.cause = cause
        self.retry = retry
