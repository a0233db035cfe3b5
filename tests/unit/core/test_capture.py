"""Each event of the capture state machine, branch by branch (SPEC 2.4, 3.2)."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from schemas.records import (
    CaptureCommand,
    CaptureRevoked,
    CaptureTimings,
    DeviceCaptures,
    EndedCapture,
    ImageRef,
    OpenCapture,
)
from streams.core import capture
from streams.core.retry import RetryPolicy
from streams.core.transition import verify

T_MS = 1_795_000_000_000
"""The scheduled time of the command in most tests."""
NOT_AFTER_MS = T_MS + 60_000
IMAGE = ImageRef("file:///x", "ab" * 32, 9, 1, 1, "jpeg")
TIMINGS = CaptureTimings(40.0, 2.0)
EMPTY = DeviceCaptures("camera-1")
Event = Callable[[DeviceCaptures], capture.Change]


def command(
    command_id: int = 7,
    *,
    epoch: int = 1,
    at_ms: int = T_MS,
    nominal_ms: int | None = None,
    schedule_id: str = "line-4",
) -> CaptureCommand:
    nominal_ms = at_ms if nominal_ms is None else nominal_ms
    request_id = "" if schedule_id else "request-1"
    return CaptureCommand(
        command_id,
        "camera-1",
        schedule_id,
        request_id,
        epoch,
        nominal_ms,
        at_ms,
        at_ms + 60_000,
        3_000,
        0,
        T_MS - 5_000,
    )


def pending(*commands: CaptureCommand) -> DeviceCaptures:
    state = EMPTY
    for each in commands or (command(),):
        state = capture.on_command(state, each, T_MS - 5_000).state
    return state


def running(*commands: CaptureCommand) -> DeviceCaptures:
    """All of the commands PENDING but the first, which is RUNNING."""
    state = pending(*commands)
    first = state.open[0].command.command_id
    return capture.on_arming(state, first, T_MS - 300).state


def succeeded() -> DeviceCaptures:
    return capture.on_success(running(), 7, IMAGE, TIMINGS, T_MS, T_MS + 50).state


def states(change: capture.Change) -> list[str]:
    (result,) = change.results
    assert verify(result) == ()
    return [t.to_state for t in result.transitions]


# --- a command arrives ------------------------------------------------------------------------


def test_a_command_waits_for_its_time() -> None:
    """SPEC 2.4: received is PENDING, with the time it was received."""
    change = capture.on_command(EMPTY, command(), T_MS - 5_000)
    (held,) = change.arm
    assert change.state.open == (held,)
    assert (held.state, held.attempt, held.next_attempt_ms) == ("PENDING", 0, T_MS)
    assert [(t.from_state, t.to_state, t.at_ms) for t in held.transitions] == [
        ("", "PENDING", T_MS - 5_000)
    ]
    assert verify(held) == ()
    assert (change.results, change.shutter, change.duplicate) == ((), (), False)


@pytest.mark.parametrize("state", [pending(), running(), succeeded()])
def test_a_command_that_is_known_changes_nothing(state: DeviceCaptures) -> None:
    """SPEC 2.2: a repeat is reported as already known, whether open or ended."""
    change = capture.on_command(state, command(), T_MS - 4_000)
    assert change.duplicate
    assert change.state is state
    assert not change.results
    assert not change.arm


def test_a_command_that_arrives_too_late_expires() -> None:
    """SPEC 2.4: not_after passed before receipt; one millisecond earlier it is still wanted."""
    change = capture.on_command(EMPTY, command(), NOT_AFTER_MS + 1_200)
    assert states(change) == ["PENDING", "EXPIRED"]
    assert change.results[0].cause == "late: it arrived 1,200 ms after not_after"
    assert not change.arm
    assert capture.on_command(EMPTY, command(), NOT_AFTER_MS).arm


def test_a_newer_command_replaces_one_that_is_pending() -> None:
    """SPEC 2.4: the older epoch is revoked first, then the newer one is taken."""
    change = capture.on_command(pending(), command(8, epoch=2), T_MS - 4_000)
    assert states(change) == ["PENDING", "REVOKED"]
    assert change.results[0].command_id == 7
    assert change.results[0].cause == "superseded: command 8 of epoch 2 came"
    assert [c.command.command_id for c in change.state.open] == [8]
    assert [c.command.command_id for c in change.arm] == [8]


def test_a_newer_command_that_is_late_still_replaces_the_older_one() -> None:
    """SPEC 2.4: the older epoch is void, whatever becomes of the newer one; both have results."""
    late = msgspec.structs.replace(command(8, epoch=2), not_after_ms=T_MS - 4_001)
    change = capture.on_command(pending(), late, T_MS - 4_000)
    assert [(r.command_id, r.state) for r in change.results] == [(7, "REVOKED"), (8, "EXPIRED")]
    assert change.state.open == ()


def test_a_rival_that_was_revoked_leaves_the_way_free() -> None:
    """SPEC 2.4: the usual course of a schedule that was changed: revoked, then issued again."""
    state = capture.on_revoked(pending(), revoked(epoch=1), T_MS - 4_000).state
    assert capture.on_command(state, command(8, epoch=2), T_MS - 4_000).arm


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (capture.Change, "RUNNING"),
        (lambda s: capture.on_success(s, 7, IMAGE, TIMINGS, T_MS, T_MS + 50), "SUCCESS"),
        (
            lambda s: capture.on_failure(s, 7, "html", "", T_MS, T_MS + 50, retryable=False),
            "FAILED",
        ),
        (lambda s: capture.on_expired(s, 7, NOT_AFTER_MS + 1, "late"), "EXPIRED"),
    ],
)
def test_a_rival_that_may_have_taken_the_photo_turns_the_newer_one_away(
    event: Event, expected: str
) -> None:
    """SPEC 2.4: no photo is doubled."""
    before = event(running()).state
    change = capture.on_command(before, command(8, epoch=2), T_MS + 60)
    assert states(change) == ["PENDING", "REVOKED"]
    assert change.results[0].cause == f"superseded: command 7 of epoch 1 is {expected}"
    assert change.state.open == before.open


@pytest.mark.parametrize("epoch", [1, 2])
def test_a_rival_that_is_not_older_is_not_replaced(epoch: int) -> None:
    """SPEC 2.4: one photo for an idempotency key, even if two commands carry it."""
    change = capture.on_command(pending(command(epoch=2)), command(8, epoch=epoch), T_MS)
    assert [(r.command_id, r.state) for r in change.results] == [(8, "REVOKED")]
    assert change.results[0].cause == "superseded: command 7 of epoch 2 is PENDING"


def test_the_same_nominal_time_is_a_rival_though_the_spread_moved_it() -> None:
    """SPEC 2.4: a changed spread must not give the nominal time a second photo."""
    moved = command(8, epoch=2, at_ms=T_MS + 30_000, nominal_ms=T_MS)
    assert states(capture.on_command(running(), moved, T_MS)) == ["PENDING", "REVOKED"]
    assert states(capture.on_command(succeeded(), moved, T_MS)) == ["PENDING", "REVOKED"]


def test_the_same_scheduled_time_is_a_rival_whatever_its_nominal_time() -> None:
    """SPEC 2.4: two photos of one schedule at one millisecond are one photo twice."""
    moved = command(8, epoch=2, nominal_ms=T_MS - 1_000)
    assert states(capture.on_command(running(), moved, T_MS)) == ["PENDING", "REVOKED"]
    assert states(capture.on_command(succeeded(), moved, T_MS)) == ["PENDING", "REVOKED"]


@pytest.mark.parametrize(
    "other",
    [
        command(8, epoch=2, schedule_id="line-5"),
        command(8, epoch=2, at_ms=T_MS + 1_000),
        command(8, epoch=2, schedule_id=""),
    ],
)
def test_another_schedule_or_time_or_a_request_is_no_rival(other: CaptureCommand) -> None:
    """SPEC 2.4: only the same photo is not taken twice."""
    assert capture.on_command(running(), other, T_MS - 100).arm
    assert capture.on_command(succeeded(), other, T_MS + 100).arm


def test_two_requests_for_the_same_time_are_two_photos() -> None:
    """SPEC 2.2: requests are told apart by their ids, upstream of here."""
    first = command(schedule_id="")
    assert capture.on_command(running(first), command(8, schedule_id=""), T_MS).arm


def test_open_captures_are_bounded() -> None:
    """CONVENTIONS 6: the one too many ends REVOKED and says so; those open are untouched."""
    limits = capture.Limits(max_open=2)
    state = pending(command(1), command(2, at_ms=T_MS + 1_000))
    change = capture.on_command(state, command(3, at_ms=T_MS + 2_000), T_MS, limits)
    assert states(change) == ["PENDING", "REVOKED"]
    assert change.results[0].cause == "overflow: 2 captures of this device are open already"
    assert change.state.open == state.open
    replacing = capture.on_command(state, command(3, epoch=2), T_MS, limits)
    assert [c.command.command_id for c in replacing.arm] == [3]


def test_a_command_of_another_device_is_a_bug() -> None:
    """SPEC 1.9: a row is of one device."""
    with pytest.raises(AssertionError):
        capture.on_command(DeviceCaptures("camera-2"), command(), T_MS)


# --- revocation -------------------------------------------------------------------------------


def revoked(*, epoch: int, schedule_id: str = "line-4") -> CaptureRevoked:
    return CaptureRevoked("camera-1", schedule_id, epoch, T_MS, "the schedule was cancelled")


def test_revocation_takes_what_is_pending_up_to_its_epoch() -> None:
    """SPEC 2.4: by (schedule, epoch), never by id; RUNNING ones, others and newer ones stay."""
    state = running(
        command(1),
        command(2, at_ms=T_MS + 1_000),
        command(3, at_ms=T_MS + 2_000, epoch=2),
        command(4, at_ms=T_MS + 3_000, epoch=3),
        command(5, at_ms=T_MS + 4_000, schedule_id="line-5"),
    )
    change = capture.on_revoked(state, revoked(epoch=2), T_MS)
    assert [(r.command_id, r.state) for r in change.results] == [(2, "REVOKED"), (3, "REVOKED")]
    assert {r.cause for r in change.results} == {"revoked: the schedule was cancelled"}
    assert [c.command.command_id for c in change.state.open] == [1, 4, 5]
    assert all(verify(r) == () for r in change.results)


def test_revocation_takes_one_that_waits_for_a_retry() -> None:
    """SPEC 2.4: PENDING is PENDING, the first time or the second."""
    state = capture.on_failure(running(), 7, "timeout", "", T_MS, T_MS + 3_000).state
    change = capture.on_revoked(state, revoked(epoch=1), T_MS + 3_010)
    assert states(change) == ["PENDING", "RUNNING", "PENDING", "REVOKED"]
    assert change.results[0].attempt == 1


def test_nothing_revokes_a_request() -> None:
    """SPEC 2.4: the empty schedule id is no schedule."""
    state = pending(command(schedule_id=""))
    assert capture.on_revoked(state, revoked(epoch=9, schedule_id=""), T_MS).state == state


# --- arming -----------------------------------------------------------------------------------


def test_arming_begins_an_attempt() -> None:
    """SPEC 2.4: PENDING -> RUNNING, committed before the shutter."""
    change = capture.on_arming(pending(), 7, T_MS - 300, "worker 0 of generation 7")
    (held,) = change.shutter
    assert change.state.open == (held,)
    assert (held.state, held.attempt) == ("RUNNING", 1)
    assert held.transitions[-1].cause == "worker 0 of generation 7"
    assert not change.arm


def test_arming_changes_only_its_own_capture() -> None:
    """SPEC 2.4: a device may have several open, and their order stays."""
    state = pending(command(1), command(2, at_ms=T_MS + 1_000), command(3, at_ms=T_MS + 2_000))
    after = capture.on_arming(state, 2, T_MS).state
    assert [(c.command.command_id, c.state) for c in after.open] == [
        (1, "PENDING"),
        (2, "RUNNING"),
        (3, "PENDING"),
    ]


def test_arming_too_late_expires() -> None:
    """SPEC 2.4: not_after itself is still in time."""
    change = capture.on_arming(pending(), 7, NOT_AFTER_MS + 5)
    assert states(change) == ["PENDING", "EXPIRED"]
    assert change.results[0].cause == "late: not_after passed 5 ms before arming"
    assert change.results[0].shutter_at_ms is None
    assert capture.on_arming(pending(), 7, NOT_AFTER_MS).shutter


# --- how an attempt ends ----------------------------------------------------------------------


def test_success() -> None:
    """SPEC 2.4: the result carries the whole list, the image and the timings."""
    change = capture.on_success(running(), 7, IMAGE, TIMINGS, T_MS + 1, T_MS + 50)
    assert states(change) == ["PENDING", "RUNNING", "SUCCESS"]
    (result,) = change.results
    assert (result.command_id, result.device_id, result.schedule_id) == (7, "camera-1", "line-4")
    assert (result.epoch, result.nominal_ms, result.scheduled_ms) == (1, T_MS, T_MS)
    assert (result.state, result.cause, result.attempt) == ("SUCCESS", "", 1)
    assert (result.ended_at_ms, result.shutter_at_ms) == (T_MS + 50, T_MS + 1)
    assert (result.image, result.timings) == (IMAGE, TIMINGS)
    ended = EndedCapture(7, "line-4", 1, T_MS, T_MS, "SUCCESS", T_MS + 50, NOT_AFTER_MS)
    assert change.state == DeviceCaptures("camera-1", (), (ended,))


def test_a_request_keeps_its_request_id() -> None:
    """SPEC 1.10: downstream finds its request again."""
    change = capture.on_success(running(command(schedule_id="")), 7, IMAGE, None, T_MS, T_MS)
    assert (change.results[0].schedule_id, change.results[0].request_id) == ("", "request-1")


def test_a_failed_attempt_waits_for_the_next() -> None:
    """SPEC 1.6, 3.2: RUNNING -> PENDING, not before the backoff is over."""
    change = capture.on_failure(
        running(), 7, "timeout", "no answer within 3,000 ms", T_MS, T_MS + 3_000
    )
    (held,) = change.arm
    assert (held.state, held.attempt, held.next_attempt_ms) == ("PENDING", 1, T_MS + 3_100)
    assert held.transitions[-1].cause == "timeout: no answer within 3,000 ms"
    assert capture.not_before_ms(held) == T_MS + 3_100
    assert not change.results
    assert change.state.open == (held,)


def test_four_attempts_fail() -> None:
    """SPEC 3.2: three retries, 100, 200 and 400 ms apart, then FAILED with the reason."""
    state, waits_ms = pending(), []
    now_ms = T_MS
    for _ in range(4):
        state = capture.on_arming(state, 7, now_ms).state
        change = capture.on_failure(state, 7, "refused", "", now_ms, now_ms)
        state = change.state
        if change.arm:
            waits_ms.append(change.arm[0].next_attempt_ms - now_ms)
            now_ms = change.arm[0].next_attempt_ms
    assert waits_ms == [100, 200, 400]
    assert states(change) == ["PENDING", *["RUNNING", "PENDING"] * 3, "RUNNING", "FAILED"]
    assert change.results[0].cause == "refused (attempt 4 of 4)"
    assert change.results[0].attempt == 4
    assert change.results[0].shutter_at_ms == now_ms


@pytest.mark.parametrize(
    ("at_ms", "retryable", "policy", "why"),
    [
        (T_MS, False, RetryPolicy(), "a retry cannot help"),
        (T_MS, True, RetryPolicy(retries=0), "attempt 1 of 1"),
        (NOT_AFTER_MS, True, RetryPolicy(), "no retry fits before not_after"),
    ],
)
def test_a_failure_that_has_no_retry_says_why(
    at_ms: int, retryable: bool, policy: RetryPolicy, why: str
) -> None:
    """SPEC 3.2: the cause is a sentence that a person can act on, however long the camera's is."""
    change = capture.on_failure(
        running(), 7, "html", "x" * 5_000, None, at_ms, retryable=retryable, policy=policy
    )
    assert states(change) == ["PENDING", "RUNNING", "FAILED"]
    assert change.results[0].cause.startswith("html: xxx")
    assert change.results[0].cause.endswith(f"({why})")
    assert len(change.results[0].cause) <= 300
    assert change.results[0].image is None


def test_expired_from_pending_and_from_running() -> None:
    """SPEC 2.4: the shutter did not open in time; the table has no way from RUNNING but PENDING."""
    waiting = capture.on_expired(pending(), 7, NOT_AFTER_MS + 1, "no worker was free")
    assert states(waiting) == ["PENDING", "EXPIRED"]
    assert waiting.results[0].cause == "no worker was free"
    armed = capture.on_expired(running(), 7, NOT_AFTER_MS + 1, "no worker was free")
    assert states(armed) == ["PENDING", "RUNNING", "PENDING", "EXPIRED"]


# --- recovery ---------------------------------------------------------------------------------


def test_recovery_finds_the_image() -> None:
    """SPEC 2.4: the worker died between the blob and the commit."""
    change = capture.on_recovered(running(), 7, T_MS + 9_000, IMAGE, T_MS + 2)
    assert states(change) == ["PENDING", "RUNNING", "SUCCESS"]
    (result,) = change.results
    assert (result.cause, result.image, result.shutter_at_ms) == ("recovered", IMAGE, T_MS + 2)


@pytest.mark.parametrize(("now_ms", "next_ms"), [(T_MS - 200, T_MS), (T_MS + 9_000, T_MS + 9_000)])
def test_recovery_without_an_image_tries_again(now_ms: int, next_ms: int) -> None:
    """SPEC 2.4: at once, but never before the scheduled time."""
    change = capture.on_recovered(running(), 7, now_ms, None)
    (held,) = change.arm
    assert (held.state, held.attempt, held.next_attempt_ms) == ("PENDING", 1, next_ms)
    assert held.transitions[-1].cause == "worker lost"
    again = capture.on_arming(change.state, 7, now_ms).shutter[0]
    assert again.attempt == 2


def test_recovery_too_late_expires() -> None:
    """SPEC 2.4: nobody wants the photo any more."""
    change = capture.on_recovered(running(), 7, NOT_AFTER_MS + 1, None)
    assert states(change) == ["PENDING", "RUNNING", "PENDING", "EXPIRED"]
    assert change.results[0].cause == "late: not_after passed while its worker was lost"


def test_a_photo_that_kills_its_workers_comes_to_an_end() -> None:
    """CONVENTIONS 6: attempts are bounded, those that ended with their worker included."""
    limits = capture.Limits(max_attempts=2)
    state = capture.on_recovered(running(), 7, T_MS, None, limits=limits).state
    state = capture.on_arming(state, 7, T_MS).state
    change = capture.on_recovered(state, 7, T_MS, None, limits=limits)
    assert states(change)[-1] == "FAILED"
    assert change.results[0].cause == "worker lost: attempt 2 of 2"


# --- what is illegal --------------------------------------------------------------------------

EVENTS: dict[str, Event] = {
    "arming": lambda s: capture.on_arming(s, 7, T_MS),
    "arming late": lambda s: capture.on_arming(s, 7, NOT_AFTER_MS + 1),
    "success": lambda s: capture.on_success(s, 7, IMAGE, TIMINGS, T_MS, T_MS),
    "retry": lambda s: capture.on_failure(s, 7, "timeout", "", T_MS, T_MS),
    "failure": lambda s: capture.on_failure(s, 7, "timeout", "", T_MS, T_MS, retryable=False),
    "expired": lambda s: capture.on_expired(s, 7, NOT_AFTER_MS + 1, "late"),
    "recovered": lambda s: capture.on_recovered(s, 7, T_MS, IMAGE),
    "lost": lambda s: capture.on_recovered(s, 7, T_MS, None),
    "lost late": lambda s: capture.on_recovered(s, 7, NOT_AFTER_MS + 1, None),
}
FROM_PENDING = {"arming", "arming late", "expired"}
FROM_RUNNING = set(EVENTS) - {"arming", "arming late"}


@pytest.mark.parametrize("name", EVENTS)
def test_an_event_in_the_wrong_state_is_illegal(name: str) -> None:
    """SPEC 2.4: compare-and-set, for each event in each state."""
    for state, allowed, found in (
        (pending(), name in FROM_PENDING, "PENDING"),
        (running(), name in FROM_RUNNING, "RUNNING"),
        (succeeded(), False, "SUCCESS"),
        (EMPTY, False, ""),
    ):
        if allowed:
            assert EVENTS[name](state).state != state
            continue
        with pytest.raises(capture.IllegalTransition) as error:
            EVENTS[name](state)
        assert (error.value.command_id, error.value.found_state) == (7, found)


# --- the shutter ------------------------------------------------------------------------------


def armed(next_attempt_ms: int = T_MS) -> OpenCapture:
    return msgspec.structs.replace(running().open[0], next_attempt_ms=next_attempt_ms)


@pytest.mark.parametrize(
    ("now_ms", "next_attempt_ms", "lease_alive", "expected"),
    [
        (T_MS - 1, T_MS, True, "wait"),
        (T_MS - 1, T_MS, False, "wait"),
        (T_MS, T_MS, True, "open"),
        (T_MS, T_MS, False, "no_lease"),
        (T_MS, T_MS + 100, True, "wait"),
        (T_MS + 100, T_MS + 100, True, "open"),
        (T_MS, T_MS - 100, True, "open"),
        (T_MS - 1, T_MS - 100, True, "wait"),
        (NOT_AFTER_MS, T_MS, True, "open"),
        (NOT_AFTER_MS + 1, T_MS, True, "expired"),
        (NOT_AFTER_MS + 1, T_MS, False, "no_lease"),
    ],
)
def test_the_shutter(now_ms: int, next_attempt_ms: int, lease_alive: bool, expected: str) -> None:
    """SPEC 2.4: never early, never after not_after, never without a lease."""
    found = capture.shutter_decision(now_ms, armed(next_attempt_ms), lease_alive=lease_alive)
    assert found == expected


def test_the_shutter_stays_shut_before_running_is_written() -> None:
    """SPEC 2.4: WAL first."""
    with pytest.raises(capture.IllegalTransition):
        capture.shutter_decision(T_MS, pending().open[0], lease_alive=True)


# --- the row ----------------------------------------------------------------------------------


def test_where_a_capture_stands() -> None:
    """SPEC 2.4: open, ended, or not known."""
    state = pending(command(7))
    assert capture.find(state, 7) is state.open[0]
    assert capture.find(succeeded(), 7) == succeeded().ended[0]
    assert capture.find(state, 8) is None


def ended(count: int) -> DeviceCaptures:
    """``count`` captures that ended a second apart, the first at T_MS."""
    remembered = (
        EndedCapture(n, "line-4", 1, T_MS, T_MS, "FAILED", T_MS + 1_000 * n, T_MS)
        for n in range(count)
    )
    return DeviceCaptures("camera-1", (), tuple(remembered))


def test_what_ended_is_forgotten_after_a_while() -> None:
    """SPEC 2.4: at the millisecond that next_forget_ms names, and not one before."""
    state = ended(2)
    at_ms = capture.next_forget_ms(state)
    assert at_ms == T_MS + capture.DEFAULT_LIMITS.memory_ms
    assert capture.forget(state, at_ms - 1) is state
    assert capture.forget(state, at_ms).ended == state.ended[1:]
    assert capture.is_empty(capture.forget(state, at_ms + 1_000))


def test_what_can_still_have_a_rival_is_remembered() -> None:
    """SPEC 2.4: no photo is doubled however late a command for the same time arrives."""
    late = EndedCapture(1, "line-4", 1, T_MS, T_MS, "SUCCESS", T_MS, T_MS + 3_600_000)
    state = DeviceCaptures("camera-1", (), (late,))
    assert capture.next_forget_ms(state) == T_MS + 3_600_000
    assert capture.forget(state, T_MS + 3_599_999) is state
    assert capture.is_empty(capture.forget(state, T_MS + 3_600_000))


def test_what_is_remembered_is_bounded() -> None:
    """CONVENTIONS 6: the oldest go first."""
    state = ended(70)
    assert capture.forget(state, T_MS).ended == state.ended[6:]
    assert capture.forget(state, T_MS, capture.Limits(max_ended=1)).ended == state.ended[69:]


def test_an_empty_row_can_be_deleted() -> None:
    """SPEC 2.4: old state goes away by itself."""
    assert capture.is_empty(EMPTY)
    assert capture.next_forget_ms(EMPTY) is None
    assert not capture.is_empty(pending())
    assert not capture.is_empty(succeeded())


@pytest.mark.parametrize(
    "event",
    [
        lambda s: capture.on_command(s, command(), T_MS),
        lambda s: capture.on_command(s, command(), NOT_AFTER_MS + 1),
        lambda s: capture.on_revoked(s, revoked(epoch=1), T_MS),
        lambda s: capture.on_arming(s, 9, T_MS),
        lambda s: capture.on_failure(
            capture.on_arming(s, 9, T_MS).state, 9, "timeout", "", None, T_MS
        ),
    ],
)
def test_every_event_forgets_for_its_device(event: Event) -> None:
    """SPEC 2.4: a row does not grow with the device's age."""
    old = EndedCapture(1, "line-5", 1, 0, 0, "SUCCESS", T_MS - 1_800_000, T_MS)
    other = pending(command(9, schedule_id="line-6"))
    state = msgspec.structs.replace(other, ended=(old,))
    assert old not in event(state).state.ended


@pytest.mark.parametrize("name", capture.Limits.__struct_fields__)
def test_limits_are_at_least_one(name: str) -> None:
    """CONVENTIONS 6: a bound of nothing is a mistake, and said at once."""
    with pytest.raises(ValueError, match="at least 1"):
        capture.Limits(**{name: 0})
