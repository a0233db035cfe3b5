"""The life of a capture: the events that make it walk the table of ``transition.py``.

**State** is one ``DeviceCaptures`` a device: its open captures and those that ended lately. Each
event is a pure function ``on_…(state, …) -> Change``; the caller writes ``Change.state`` to the
table and ``Change.results`` to capture.results in one transaction, and only then acts on
``Change.arm`` and ``Change.shutter``. An event that finds a capture in another state than it must
be in raises ``IllegalTransition``, and nothing has changed.

**No photo is doubled.** Commands for the same schedule and the same nominal or scheduled time are
rivals: at most one of them may ever reach RUNNING. The newer one starts only where each rival ended
REVOKED (one still PENDING is revoked on the spot); otherwise it is the newer one that ends REVOKED.
A rival that is RUNNING when its schedule is revoked therefore keeps its retries: its successor has
been turned away, and nobody else will take the photo.

Example: command 7 is issued for 12:00:00.000, arrives at 11:59:55, is armed at 11:59:59.700, times
out at 12:00:03.000 and succeeds on the second attempt. Its list is::

    ""      → PENDING  11:59:55.000  attempt 0
    PENDING → RUNNING  11:59:59.700  attempt 1
    RUNNING → PENDING  12:00:03.000  attempt 1  "timeout: no answer within 3,000 ms"
    PENDING → RUNNING  12:00:03.020  attempt 2       (its shutter not before 12:00:03.100)
    RUNNING → SUCCESS  12:00:03.180  attempt 2

Cost: 2 to 5 microseconds an event; a capture that succeeds at once takes 8 in all.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from schemas.records import (
    CaptureCommand,
    CaptureResult,
    CaptureRevoked,
    CaptureTimings,
    DeviceCaptures,
    DeviceEvent,
    EndedCapture,
    ImageRef,
    OpenCapture,
    QualityVerdict,
)
from streams.core import retry
from streams.core.capture_row import (
    DEFAULT_LIMITS,
    Limits,
    begun_before,
    failures_after,
    find,
    forget,
    is_empty,
    next_forget_ms,
    overlap,
    rivals,
    stands_in,
)
from streams.core.transition import (
    EXPIRED,
    FAILED,
    MAX_CAUSE_CHARS,
    NEW,
    PENDING,
    REVOKED,
    RUNNING,
    SUCCESS,
    IllegalTransition,
    step,
)

__all__ = [
    "DEFAULT_LIMITS",
    "Change",
    "Limits",
    "find",
    "forget",
    "is_empty",
    "next_forget_ms",
    "not_before_ms",
    "on_arming",
    "on_command",
    "on_expired",
    "on_failure",
    "on_overlapped",
    "on_recovered",
    "on_revoked",
    "on_success",
    "shutter_decision",
]


class Change(msgspec.Struct, frozen=True, gc=False):
    """What an event leads to. ``state`` and ``results`` belong into one transaction."""

    state: DeviceCaptures
    """The device's new row; the same object where nothing changed."""
    results: tuple[CaptureResult, ...] = ()
    """Captures that ended, for capture.results. Whatever waits for them is to be cancelled."""
    events: tuple[DeviceEvent, ...] = ()
    """What the ends say about the device, for device.events."""
    arm: tuple[OpenCapture, ...] = ()
    """PENDING captures to be armed shortly before :func:`not_before_ms`."""
    shutter: tuple[OpenCapture, ...] = ()
    """RUNNING captures whose shutter opens, once this is committed, by :func:`shutter_decision`."""
    duplicate: bool = False
    """The command was known already, and nothing changed."""


# --- when the shutter may open --------------------------------------------------------------------


def not_before_ms(capture: OpenCapture) -> int:
    """Return the first millisecond at which the (next) attempt's shutter may open."""
    return max(capture.command.scheduled_ms, capture.next_attempt_ms)


def shutter_decision(
    now_ms: int, capture: OpenCapture, *, lease_alive: bool, row: DeviceCaptures | None = None
) -> Literal["wait", "no_lease", "expired", "open", "overlap_wait", "overlap_skip"]:
    """Say what the shutter does now: never early, never late, never without a lease.

    With the device's row, the command's overlap policy is heard as well.

    :raises IllegalTransition: the capture is not RUNNING, so no shutter may open.
    """
    if capture.state != RUNNING:
        raise IllegalTransition(capture.command.command_id, capture.state, RUNNING, SUCCESS)
    if now_ms < not_before_ms(capture):
        return "wait"
    if not lease_alive:
        return "no_lease"
    if now_ms > capture.command.not_after_ms:
        return "expired"
    if row is None or capture.command.overlap == "allow":
        return "open"
    match overlap(row, capture):
        case "wait":
            return "overlap_wait"
        case "skip":
            return "overlap_skip"
    return "open"


# --- evolving the row -----------------------------------------------------------------------------


def _taken(state: DeviceCaptures, command_id: int, to_state: str) -> OpenCapture:
    """Return the open capture that an event is about."""
    capture = find(state, command_id)
    if isinstance(capture, OpenCapture):
        return capture
    found_state = capture.state if capture is not None else NEW
    raise IllegalTransition(command_id, found_state, RUNNING, to_state)


def _put(
    state: DeviceCaptures, capture: OpenCapture, now_ms: int, limits: Limits
) -> DeviceCaptures:
    """Return the row with this open capture in place of its older self."""
    command_id = capture.command.command_id
    if len(state.open) == 1:
        held: tuple[OpenCapture, ...] = (capture,)
    else:
        held = tuple([capture if c.command.command_id == command_id else c for c in state.open])
    row = DeviceCaptures(state.device_id, held, state.ended, state.failures)
    return forget(row, now_ms, limits)


def _end(
    state: DeviceCaptures,
    capture: OpenCapture,
    limits: Limits,
    shutter_at_ms: int | None = None,
    image: ImageRef | None = None,
    timings: CaptureTimings | None = None,
    verdict: QualityVerdict | None = None,
) -> Change:
    """Move a capture whose last step was a terminal one from the open to the ended."""
    c = capture.command
    last = capture.transitions[-1]
    result = CaptureResult(
        c.command_id, c.device_id, c.schedule_id, c.request_id, c.epoch, c.nominal_ms,
        c.scheduled_ms, capture.state, last.cause, capture.attempt, last.at_ms, shutter_at_ms,
        image, timings, capture.transitions, verdict,
    )  # fmt: skip
    ended = EndedCapture(
        c.command_id, c.schedule_id, c.epoch, c.nominal_ms, c.scheduled_ms, capture.state,
        last.at_ms, c.not_after_ms,
    )  # fmt: skip
    still_open = tuple([o for o in state.open if o.command.command_id != c.command_id])
    failures, events = failures_after(state, capture.state, last.at_ms, last.cause, limits)
    row = DeviceCaptures(state.device_id, still_open, (*state.ended, ended), failures)
    return Change(forget(row, last.at_ms, limits), (result,), events)


# --- events ---------------------------------------------------------------------------------------


def on_command(
    state: DeviceCaptures,
    command: CaptureCommand,
    now_ms: int,
    limits: Limits = DEFAULT_LIMITS,
) -> Change:
    """A command arrived: it waits for its time, or ends at once and says why.

    In this order: known already (``duplicate``); a rival took or may have taken the photo, or there
    are too many open (REVOKED); too late (EXPIRED); else PENDING, to be armed.
    """
    if find(state, command.command_id) is not None:
        return Change(state, duplicate=True)
    assert command.device_id == state.device_id, "a command belongs to its device's row"
    revoked: tuple[CaptureResult, ...] = ()
    refusal = ""
    if command.schedule_id:
        refusal, pending = rivals(state, command)
        for rival in pending if not refusal else ():
            cause = f"superseded: command {command.command_id} of epoch {command.epoch} came"
            change = _end(state, step(rival, PENDING, REVOKED, now_ms, cause), limits)
            state, revoked = change.state, revoked + change.results
    if not refusal and len(state.open) >= limits.max_open:
        refusal = f"overflow: {len(state.open)} captures of this device are open already"

    capture = step(OpenCapture(command, NEW, 0, command.scheduled_ms, ()), NEW, PENDING, now_ms)
    if refusal:
        change = _end(state, step(capture, PENDING, REVOKED, now_ms, refusal), limits)
    elif now_ms > command.not_after_ms:
        cause = f"late: it arrived {now_ms - command.not_after_ms:,} ms after not_after"
        change = _end(state, step(capture, PENDING, EXPIRED, now_ms, cause), limits)
    else:
        row = DeviceCaptures(state.device_id, (*state.open, capture), state.ended, state.failures)
        return Change(forget(row, now_ms, limits), revoked, arm=(capture,))
    return Change(change.state, revoked + change.results) if revoked else change


def on_revoked(
    state: DeviceCaptures,
    revoked: CaptureRevoked,
    now_ms: int,
    limits: Limits = DEFAULT_LIMITS,
) -> Change:
    """A schedule's commands up to an epoch are void: those PENDING end REVOKED, RUNNING ones go on.

    One that waits for a retry is PENDING too. Those of times before ``from_ms`` stay as they are:
    nobody will issue them again; so does one that stands in for such a one. A CaptureRequested has
    no schedule and no revocation.
    """
    results: tuple[CaptureResult, ...] = ()
    if not revoked.schedule_id:
        return Change(state)
    for capture in state.open:
        c = capture.command
        if (
            capture.state == PENDING
            and c.schedule_id == revoked.schedule_id
            and c.epoch <= revoked.epoch
            and c.scheduled_ms - c.moved_ms >= revoked.from_ms
            and not stands_in(state, capture, revoked)
        ):
            cause = f"revoked: {revoked.reason}"
            change = _end(state, step(capture, PENDING, REVOKED, now_ms, cause), limits)
            state, results = change.state, results + change.results
    return Change(forget(state, now_ms, limits), results)


def on_arming(
    state: DeviceCaptures,
    command_id: int,
    now_ms: int,
    cause: str = "",
    limits: Limits = DEFAULT_LIMITS,
) -> Change:
    """The shutter is near: PENDING becomes RUNNING, or EXPIRED where ``not_after`` has passed.

    ``cause`` says who armed it, for example ``worker 0 of generation 7``.

    :raises IllegalTransition: the capture is not PENDING.
    """
    capture = _taken(state, command_id, RUNNING)
    late_ms = now_ms - capture.command.not_after_ms
    if late_ms > 0:
        cause = f"late: not_after passed {late_ms:,} ms before arming"
        return _end(state, step(capture, PENDING, EXPIRED, now_ms, cause), limits)
    running = step(capture, PENDING, RUNNING, now_ms, cause)
    return Change(_put(state, running, now_ms, limits), shutter=(running,))


def on_success(
    state: DeviceCaptures,
    command_id: int,
    image: ImageRef,
    timings: CaptureTimings | None,
    shutter_at_ms: int | None,
    now_ms: int,
    cause: str = "",
    limits: Limits = DEFAULT_LIMITS,
    verdict: QualityVerdict | None = None,
) -> Change:
    """The image is in the blob store: RUNNING becomes SUCCESS.

    :raises IllegalTransition: the capture is not RUNNING.
    """
    done = step(_taken(state, command_id, SUCCESS), RUNNING, SUCCESS, now_ms, cause)
    return _end(state, done, limits, shutter_at_ms, image, timings, verdict)


def on_failure(
    state: DeviceCaptures,
    command_id: int,
    cause: str,
    message: str,
    shutter_at_ms: int | None,
    now_ms: int,
    *,
    retryable: bool = True,
    policy: retry.RetryPolicy = retry.DEFAULT_POLICY,
    limits: Limits = DEFAULT_LIMITS,
) -> Change:
    """An attempt gave no photo: RUNNING becomes PENDING where a retry fits, FAILED where none does.

    ``cause`` is a short word and ``message`` a sentence, as a ``CameraError`` has them.

    :raises IllegalTransition: the capture is not RUNNING.
    """
    capture = _taken(state, command_id, FAILED)
    said = f"{cause}: {message}" if message else cause
    obstacle = retry.obstacle(
        capture.attempt, now_ms, capture.command.not_after_ms, retryable=retryable, policy=policy
    )
    if obstacle:
        said = f"{said[: MAX_CAUSE_CHARS - len(obstacle) - 3]} ({obstacle})"
        failed = step(capture, RUNNING, FAILED, now_ms, said)
        return _end(state, failed, limits, shutter_at_ms)
    next_ms = now_ms + retry.backoff_ms(capture.attempt)
    waiting = step(capture, RUNNING, PENDING, now_ms, said, next_attempt_ms=next_ms)
    return Change(_put(state, waiting, now_ms, limits), arm=(waiting,))


def on_expired(
    state: DeviceCaptures,
    command_id: int,
    now_ms: int,
    cause: str,
    limits: Limits = DEFAULT_LIMITS,
) -> Change:
    """The shutter cannot open before ``not_after``: EXPIRED, from RUNNING by way of PENDING.

    :raises IllegalTransition: the capture is not open.
    """
    capture = _taken(state, command_id, EXPIRED)
    if capture.state == RUNNING:
        capture = step(capture, RUNNING, PENDING, now_ms, cause)
    return _end(state, step(capture, PENDING, EXPIRED, now_ms, cause), limits)


def on_overlapped(
    state: DeviceCaptures, command_id: int, now_ms: int, limits: Limits = DEFAULT_LIMITS
) -> Change:
    """The overlap policy gives a capture up: REVOKED, from RUNNING by way of PENDING.

    :raises IllegalTransition: the capture is not open.
    """
    capture = _taken(state, command_id, REVOKED)
    others = ", ".join(map(str, begun_before(state, capture)))
    cause = f"overlap: {capture.command.overlap}, and not ended at its time: {others or 'another'}"
    if capture.state == RUNNING:
        capture = step(capture, RUNNING, PENDING, now_ms, "overlap")
    return _end(state, step(capture, PENDING, REVOKED, now_ms, cause), limits)


def on_recovered(
    state: DeviceCaptures,
    command_id: int,
    now_ms: int,
    image: ImageRef | None,
    shutter_at_ms: int | None = None,
    limits: Limits = DEFAULT_LIMITS,
) -> Change:
    """A capture was found RUNNING without its worker: ``image`` is what the blob store holds of it.

    Found: SUCCESS, cause ``recovered``. Not found: PENDING again, EXPIRED where ``not_after`` has
    passed, FAILED after ``max_attempts``.

    :raises IllegalTransition: the capture is not RUNNING.
    """
    if image is not None:
        return on_success(
            state, command_id, image, None, shutter_at_ms, now_ms, "recovered", limits
        )
    capture = _taken(state, command_id, PENDING)
    if now_ms > capture.command.not_after_ms:
        waiting = step(capture, RUNNING, PENDING, now_ms, "worker lost")
        cause = "late: not_after passed while its worker was lost"
        return _end(state, step(waiting, PENDING, EXPIRED, now_ms, cause), limits)
    if capture.attempt >= limits.max_attempts:
        cause = f"worker lost: attempt {capture.attempt} of {limits.max_attempts}"
        return _end(state, step(capture, RUNNING, FAILED, now_ms, cause), limits)
    next_ms = max(now_ms, capture.command.scheduled_ms)
    waiting = step(capture, RUNNING, PENDING, now_ms, "worker lost", next_attempt_ms=next_ms)
    return Change(_put(state, waiting, now_ms, limits), arm=(waiting,))
