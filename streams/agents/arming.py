"""Arming: PENDING becomes RUNNING, and only when that is committed is the shutter set.

A capture waits here until ``arm_ms`` (about three commit intervals) before its time. One that is
nearer than that when its command comes, as a photo for now or a backlog's, is armed in the step
that takes it in, after all the step's records, as one of them may revoke it. Its shutter then waits
for one commit instead of two, and the capture costs a fifth less.

Cost: see infra/adr/0019-cheap-captures.md.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from streams.agents.capture_search import Timed
from streams.agents.timers import MOST, TimerQueue
from streams.core import capture
from streams.core.transition import PENDING
from streams.observability.stages import counted

if TYPE_CHECKING:
    from collections.abc import Callable

    from schemas.records import OpenCapture
    from streams.agents.admission import Admission
    from streams.agents.capture_settings import ExecutorSettings
    from streams.agents.capture_state import CaptureState
    from streams.observability.metrics import Metrics
    from streams.runtime.app import ShardApp
    from streams.runtime.clock import Clock
    from streams.runtime.partition import Step

GRID_MS = 50
"""Captures are armed at multiples of this, those of a partition together: a step costs as much as a
capture, so it has several."""
MOST_A_STEP = 12
"""Shutters wait for no more than half a millisecond of it."""


class Owner(NamedTuple):
    """What the executor gives to arming."""

    app: Callable[[], ShardApp]
    look: Callable[[], None]
    """Opens the shutters that have come due."""
    armed: Callable[[CaptureState, list[OpenCapture]], None]
    """Told, after the commit, whose shutters are to be set."""
    hold: Callable[[list[Timed]], None]
    """Takes what came due while its partition was paused."""
    refuse: Callable[[Timed, str], None]
    """Gives a capture up."""


class Arming:
    """The captures of one worker that wait to be armed."""

    def __init__(
        self,
        executor: ExecutorSettings,
        slot: str,
        clock: Clock,
        metrics: Metrics,
        admission: Admission,
        owner: Owner,
    ) -> None:
        """Take the parts; ``slot`` is the worker's, for the record."""
        self._executor = executor
        self._slot = slot
        self._clock = clock
        self.metrics = metrics
        self._admission = admission
        self._owner = owner
        self._timers: TimerQueue[Timed] = TimerQueue(clock, self._arm)

    def __len__(self) -> int:
        return len(self._timers)

    def wait(self, book: CaptureState, entry: OpenCapture) -> None:
        """Have a PENDING capture armed in time."""
        at_ms = capture.not_before_ms(entry) - self._executor.arm_ms
        timed = Timed(book, entry.command.command_id)
        self._timers.push(at_ms - at_ms % GRID_MS, timed, book.partition.number)

    def take_in(self, book: CaptureState, entries: list[OpenCapture], step: Step) -> None:
        """Arm in this step, which has taken them in, what is due already; the others wait.

        So do those of a device in trouble: its breaker may be open.
        """
        until_ms, troubled = self._clock.now_ms() + self._executor.arm_ms, self._admission.troubled
        due: list[Timed] = []
        for entry in entries:
            command = entry.command
            if capture.not_before_ms(entry) > until_ms or (
                troubled and troubled.find(command.device_id)
            ):
                self.wait(book, entry)
            else:
                due.append(Timed(book, command.command_id))
        if due:
            self._write(book, due, step)

    async def ahead(self, until_ms: int) -> None:
        """Arm now what falls due up to a moment."""
        due = self._timers.take(until_ms - self._executor.arm_ms)
        for first in range(0, len(due), MOST):
            self._arm(due[first : first + MOST])
            await asyncio.sleep(0)

    def drop(self, unwanted: Callable[[Timed], bool]) -> None:
        """Forget the captures that ``unwanted`` names."""
        self._timers.drop(unwanted)

    @counted("arm")
    def _arm(self, due: list[Timed]) -> None:
        """Write RUNNING for what is due, in a step for each partition."""
        by_book: dict[int, list[Timed]] = {}
        for timed in due:
            by_book.setdefault(id(timed.book), []).append(timed)
        for group in by_book.values():
            book = group[0].book
            if not book.partition.open:
                self._owner.hold(group)
                continue
            for first in range(0, len(group), MOST_A_STEP):
                self._owner.look()
                with self._owner.app().step(book.partition) as step:
                    refused = self._write(book, group[first : first + MOST_A_STEP], step)
                for timed, why in refused:
                    self._owner.refuse(timed, why)

    def _write(self, book: CaptureState, group: list[Timed], step: Step) -> list[tuple[Timed, str]]:
        """Write RUNNING for captures of one partition; return those that are refused, and why."""
        membership = self._owner.app().group.membership
        number = membership.generation if membership else "none"
        cause = f"armed by slot {self._slot} in generation {number}"
        now_ms, admission, limits = self._clock.now_ms(), self._admission, self._executor.limits
        running: list[OpenCapture] = []
        refused: list[tuple[Timed, str]] = []
        for timed in group:
            entry = book.find_open(timed.command_id)
            if entry is None or entry.state != PENDING:
                continue  # revoked, or armed by an earlier timer
            said = cause
            if admission.troubled:
                if self._is_held(timed, entry, now_ms, refused):
                    continue
                said += admission.probe_note(entry.command.device_id)
            row = book.row(entry.command.device_id)
            change = capture.on_arming(row, timed.command_id, now_ms, said, limits)
            book.write(step, change)
            running.extend(change.shutter)
        if running:
            step.after_commit(partial(self._owner.armed, book, running))
        return refused

    def _is_held(
        self, timed: Timed, entry: OpenCapture, now_ms: int, refused: list[tuple[Timed, str]]
    ) -> bool:
        """Say whether an open breaker keeps a capture from being armed now."""
        at_ms = capture.not_before_ms(entry)
        until_ms, why = self._admission.held_until(entry.command, at_ms, now_ms)
        if why:
            refused.append((timed, why))
        elif until_ms - self._executor.arm_ms > now_ms:
            self._timers.push(until_ms - self._executor.arm_ms, timed)
            return True
        return bool(why)
