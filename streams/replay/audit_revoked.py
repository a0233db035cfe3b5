"""A capture that ended REVOKED goes back to a CaptureRevoked, which stands among the commands.

Its cause repeats the reason, so it can be told which: of the same device and schedule, of its epoch
or a later one, and sparing no time up to its own (``capture.on_revoked``). Other causes of the same
state (a newer command came, another one runs, too many are open) go back to no record of their own.

A worker's clock may be ahead of the wheel's, and a log is read topic by topic: where there is no
such revocation yet, the result waits for it ``WAIT_MS`` before it is told of.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final, NamedTuple

from streams.core.transition import REVOKED, bounded

if TYPE_CHECKING:
    from collections.abc import Iterator

    from schemas.records import CaptureCommand, CaptureResult, CaptureRevoked

REASON: Final = "revoked: "
"""How the cause of such a result begins."""
REMEMBERED: Final = 65_536
"""Revocations that are remembered, of a partition."""
WAIT_MS: Final = 60_000


class Unexplained(NamedTuple):
    """A result that no revocation explains so far."""

    offset: int
    written_ms: int
    command: CaptureCommand
    cause: str


class Revocations:
    """The revocations of a partition, and the results that go back to them."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], list[CaptureRevoked]] = {}
        self._order: deque[tuple[str, str]] = deque()
        self._forgotten_ms = 0
        """Time of the last one that is not remembered any more."""
        self._waiting: deque[Unexplained] = deque()

    def note(self, revoked: CaptureRevoked) -> None:
        """Remember one that stands among the commands."""
        key = (revoked.device_id, revoked.schedule_id)
        self._known.setdefault(key, []).append(revoked)
        self._order.append(key)
        if len(self._order) > REMEMBERED:
            oldest = self._order.popleft()
            self._forgotten_ms = self._known[oldest].pop(0).tick_time_ms
            if not self._known[oldest]:
                del self._known[oldest]

    def look(self, offset: int, written_ms: int, result: CaptureResult, of: CaptureCommand) -> None:
        """Take in how a command ended."""
        if result.state != REVOKED or not result.cause.startswith(REASON):
            return
        if not self._explain(of, result.cause):
            self._waiting.append(Unexplained(offset, written_ms, of, result.cause))

    def unexplained(self, until_ms: float) -> Iterator[Unexplained]:
        """Yield the results, written before a time, that no revocation explains."""
        while self._waiting and self._waiting[0].written_ms < until_ms:
            one = self._waiting.popleft()
            # What was forgotten may be its own, if that came after the command.
            if not self._explain(one.command, one.cause) and (
                one.command.issued_at_ms > self._forgotten_ms
            ):
                yield one

    def _explain(self, command: CaptureCommand, cause: str) -> bool:
        nominal_ms = command.scheduled_ms - command.moved_ms
        return any(
            revoked.epoch >= command.epoch
            and revoked.from_ms <= nominal_ms
            and bounded(f"{REASON}{revoked.reason}") == cause
            for revoked in self._known.get((command.device_id, command.schedule_id), ())
        )
