"""What a device's row says about its captures: what is known, who is in whose way, what is over.

The events that change it are in ``capture.py``.

**Rivals** are commands of one schedule for the same nominal or scheduled time: of them at most one
may ever open a shutter.

**Overlap** is about different times of one schedule: the next one's has come while an earlier one
has begun and not ended (it is RUNNING, or waits for a retry). The command says what to do:
``allow`` opens both shutters, ``skip`` gives the later one up, ``buffer_one`` lets one wait until
the earlier one has ended and gives up what comes while one waits already. It is decided when the
shutter would open, from the row alone, so it is the same after a crash. Earlier is by (scheduled
time, id), which is total: no two wait for each other.

**Failing**: captures in a row that ended FAILED are counted in the row. From ``failing_after`` on
each further one is told (``DeviceFailing``; beyond 100 the powers of two), and the SUCCESS that
ends the row of them as well (``DeviceRecovered``). EXPIRED and REVOKED say nothing about a device.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

import msgspec

from schemas.records import (
    DeviceCaptures,
    DeviceFailing,
    DeviceRecovered,
    EndedCapture,
    OpenCapture,
)
from streams.core.policy import MAX_PAUSE_AFTER, MIN_PAUSE_AFTER
from streams.core.transition import FAILED, REVOKED, RUNNING, SUCCESS

if TYPE_CHECKING:
    from schemas.records import CaptureCommand, CaptureRevoked, DeviceEvent


class Limits(msgspec.Struct, frozen=True):
    """What bounds a device's row. Every value is at least 1."""

    max_open: int = 128
    """Open captures a device: the 100 commands that a lead may hold ahead (``schedule.MAX_AHEAD``)
    and a few over. A device that needs more is not keeping up."""
    max_ended: int = 64
    """Ended captures that are remembered; the oldest go first. Each adds 60 bytes and 3 µs of
    encoding to the row. It must cover the commands that are issued within one lead: a rival never
    comes later than that."""
    memory_ms: int = 20_000
    """How long an ended capture is remembered at least; at most until its ``not_after_ms`` where
    that is later. One or two entries a schedule, whatever its period."""
    max_attempts: int = 16
    """Attempts of one capture, those included that ended with their worker: a photo that kills
    every worker it meets must come to an end."""

    failing_after: int = MIN_PAUSE_AFTER
    """From so many captures in a row that ended FAILED on, the device's failing is told."""

    def __post_init__(self) -> None:
        """Raise ValueError where a value is out of its bounds."""
        least = min(self.max_open, self.max_ended, self.memory_ms, self.max_attempts)
        if min(least, self.failing_after) < 1:
            raise ValueError(f"every limit must be at least 1: {self}")


DEFAULT_LIMITS: Final = Limits()


def find(state: DeviceCaptures, command_id: int) -> OpenCapture | EndedCapture | None:
    """Return where the capture stands; None: never seen, or ended too long ago to be known."""
    for capture in state.open:
        if capture.command.command_id == command_id:
            return capture
    for ended in state.ended:
        if ended.command_id == command_id:
            return ended
    return None


def is_empty(state: DeviceCaptures) -> bool:
    """Say whether the row holds nothing and can be deleted."""
    return not state.open and not state.ended and not state.failures


def next_forget_ms(state: DeviceCaptures, limits: Limits = DEFAULT_LIMITS) -> int | None:
    """Return from when on :func:`forget` will shorten this row; None: nothing is remembered."""
    ends = [max(e.ended_at_ms + limits.memory_ms, e.not_after_ms) for e in state.ended]
    return min(ends, default=None)


def forget(state: DeviceCaptures, now_ms: int, limits: Limits = DEFAULT_LIMITS) -> DeviceCaptures:
    """Return the row without what can matter no more or exceeds ``max_ended``.

    An ended capture matters until its ``not_after_ms``, until when a rival could open a shutter,
    and for ``memory_ms`` after its end. Every event does this for its device.
    """
    if not state.ended:
        return state
    horizon_ms = now_ms - limits.memory_ms
    kept = [e for e in state.ended if e.ended_at_ms > horizon_ms or e.not_after_ms > now_ms]
    if len(kept) == len(state.ended) <= limits.max_ended:
        return state
    return DeviceCaptures(
        state.device_id, state.open, tuple(kept[-limits.max_ended :]), state.failures
    )


def rivals(state: DeviceCaptures, command: CaptureCommand) -> tuple[str, list[OpenCapture]]:
    """Return why a rival forbids this command ("": none does), and the rivals to be revoked for it.

    Both times are compared: the nominal one stays when a change of the schedule moves its spread,
    and the scheduled one is the photo's moment.
    """
    schedule_id, nominal_ms, scheduled_ms = (
        command.schedule_id, command.nominal_ms, command.scheduled_ms,
    )  # fmt: skip
    for e in state.ended:
        if (
            (e.scheduled_ms == scheduled_ms or e.nominal_ms == nominal_ms)
            and e.schedule_id == schedule_id
            and e.state != REVOKED
        ):
            return f"superseded: command {e.command_id} of epoch {e.epoch} is {e.state}", []
    pending: list[OpenCapture] = []
    for capture in state.open:
        c = capture.command
        if c.schedule_id == schedule_id and (
            c.scheduled_ms == scheduled_ms or c.nominal_ms == nominal_ms
        ):
            if capture.state == RUNNING or c.epoch >= command.epoch:
                state_ = capture.state
                return f"superseded: command {c.command_id} of epoch {c.epoch} is {state_}", []
            pending.append(capture)
    return "", pending


def stands_in(state: DeviceCaptures, capture: OpenCapture, revoked: CaptureRevoked) -> bool:
    """Say whether a capture must stay for the sake of a rival that the revocation does not mean.

    The rival is of a later epoch and was superseded, as this one was RUNNING; then the attempt
    failed, or its worker did. The photo is this one's to take, and nobody will ask for it again.
    """
    c = capture.command
    return any(
        e.schedule_id == c.schedule_id
        and e.epoch > c.epoch
        and e.state == REVOKED
        and (e.nominal_ms == c.nominal_ms or e.scheduled_ms == c.scheduled_ms)
        and not (e.epoch <= revoked.epoch and e.scheduled_ms >= revoked.from_ms)
        for e in state.ended
    )


def overlap(state: DeviceCaptures, capture: OpenCapture) -> Literal["", "wait", "skip"]:
    """Say what the overlap policy has a capture do whose shutter would open now."""
    policy = capture.command.overlap
    if policy == "allow" or not capture.command.schedule_id:
        return ""
    before = len(begun_before(state, capture))
    if policy == "buffer_one" and before == 1:
        return "wait"
    return "skip" if before else ""


def begun_before(state: DeviceCaptures, capture: OpenCapture) -> list[int]:
    """Return the ids of its schedule's earlier captures that have begun and not ended."""
    command = capture.command
    own = (command.scheduled_ms, command.command_id)
    return [
        c.command.command_id
        for c in state.open
        if c.attempt > 0
        and c.command.schedule_id == command.schedule_id
        and (c.command.scheduled_ms, c.command.command_id) < own
    ]


def failures_after(
    state: DeviceCaptures, end_state: str, at_ms: int, cause: str, limits: Limits
) -> tuple[int, tuple[DeviceEvent, ...]]:
    """Return the failures in a row after a capture's end, and what is told about the device."""
    device_id, failures = state.device_id, state.failures
    if end_state == SUCCESS:
        if failures >= limits.failing_after:
            return 0, (DeviceRecovered(device_id, at_ms, failures),)
        return 0, ()
    if end_state != FAILED:
        return failures, ()
    failures += 1
    told = failures <= MAX_PAUSE_AFTER or failures & (failures - 1) == 0
    if failures >= limits.failing_after and told:
        return failures, (DeviceFailing(device_id, at_ms, failures, cause),)
    return failures, ()


def proven(row: DeviceCaptures) -> bool:
    """Say whether one of the captures that the row remembers gave a photo."""
    return any(ended.state == SUCCESS for ended in reversed(row.ended))
