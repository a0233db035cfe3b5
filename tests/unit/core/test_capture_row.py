"""What a device's row decides: overlaps, failing devices, and what a revocation spares (issue 5)."""

from __future__ import annotations

import pytest

from schemas.records import (
    CaptureCommand,
    CaptureRevoked,
    DeviceCaptures,
    ImageRef,
    OpenCapture,
)
from streams.core import capture
from streams.core.transition import PENDING, REVOKED, RUNNING, verify

T0_MS = 1_795_000_000_000
IMAGE = ImageRef("file:///x", "ab" * 32, 9, 1, 1, "jpeg")


# --- overlap ------------------------------------------------------------------------------------


def overlapping(policy: str, count: int) -> DeviceCaptures:
    """Captures of one schedule a second apart, all armed; the first one's shutter is open."""
    state = DeviceCaptures("camera-1")
    for n in range(count):
        made = CaptureCommand(
            n + 1, "camera-1", "line", "", 1, T0_MS + n * 1_000, T0_MS + n * 1_000,
            T0_MS + 60_000, 3_000, 0, T0_MS - 5_000, policy,
        )  # fmt: skip
        state = capture.on_command(state, made, T0_MS - 5_000).state
    for n in range(count):
        state = capture.on_arming(state, n + 1, T0_MS + n * 1_000 - 600).state
    return state


def decision(state: DeviceCaptures, command_id: int, now_ms: int = T0_MS + 9_000) -> str:
    held = capture.find(state, command_id)
    assert isinstance(held, OpenCapture)
    return capture.shutter_decision(now_ms, held, lease_alive=True, row=state)


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ("allow", ["open", "open", "open"]),
        ("skip", ["open", "overlap_skip", "overlap_skip"]),
        ("buffer_one", ["open", "overlap_wait", "overlap_skip"]),
    ],
)
def test_an_overlap_is_decided_when_the_shutter_would_open(policy, expected):
    """Issue 5 'Policies': enforced where the device is known."""
    state = overlapping(policy, 3)
    assert [decision(state, n) for n in (1, 2, 3)] == expected


def test_what_an_overlap_gives_up_is_on_the_record():
    state = overlapping("skip", 2)
    change = capture.on_overlapped(state, 2, T0_MS + 1_000)
    (result,) = change.results
    assert (result.state, result.shutter_at_ms) == (REVOKED, None)
    assert result.cause.startswith("overlap: skip")
    assert verify(result) == ()
    assert [t.to_state for t in result.transitions] == [PENDING, RUNNING, PENDING, REVOKED]


def test_one_that_waits_opens_once_the_other_has_ended():
    state = overlapping("buffer_one", 2)
    retried = capture.on_failure(state, 1, "timeout", "no answer", T0_MS, T0_MS + 1_500).state
    assert decision(retried, 2) == "overlap_wait", "its retry is to come"
    state = capture.on_success(state, 1, IMAGE, None, T0_MS, T0_MS + 1_500).state
    assert decision(state, 2) == "open"


def test_only_earlier_captures_of_the_same_schedule_are_in_the_way():
    state = overlapping("skip", 2)
    assert decision(state, 1) == "open"
    other = CaptureCommand(
        9, "camera-1", "another", "", 1, T0_MS, T0_MS, T0_MS + 9_999, 3_000, 0, T0_MS, "skip"
    )
    state = capture.on_command(state, other, T0_MS).state
    state = capture.on_arming(state, 9, T0_MS).state
    assert decision(state, 9) == "open"


# --- failing devices ----------------------------------------------------------------------------


def test_a_device_that_fails_again_and_again_is_told_and_that_it_recovered():
    """One FAILED is one failure, however many attempts it had; EXPIRED says nothing of a device."""
    state, told = DeviceCaptures("camera-1"), []
    for n, end in enumerate("ffefffsfs"):
        made = CaptureCommand(
            n + 1, "camera-1", "line", "", 1, T0_MS + n, T0_MS + n, T0_MS + 9_999, 3_000, 0, T0_MS
        )
        state = capture.on_command(state, made, T0_MS).state
        state = capture.on_arming(state, n + 1, T0_MS).state
        if end == "s":
            change = capture.on_success(state, n + 1, IMAGE, None, T0_MS, T0_MS + n)
        elif end == "f":
            change = capture.on_failure(
                state, n + 1, "refused", "no", T0_MS, T0_MS + n, retryable=False
            )
        else:
            change = capture.on_expired(state, n + 1, T0_MS + n, "late")
        state = change.state
        told += change.events
    assert [(type(e).__name__, e.failures) for e in told] == [
        ("DeviceFailing", 3),
        ("DeviceFailing", 4),
        ("DeviceFailing", 5),
        ("DeviceRecovered", 5),
    ]
    assert told[0].cause.startswith("refused")
    assert state.failures == 0


def test_a_revocation_spares_the_times_before_its_bound():
    """Nobody issues them again: a worker was late, not the schedule."""
    state = overlapping("allow", 0)
    for n in (0, 1):
        made = CaptureCommand(
            n + 1, "camera-1", "line", "", 1, T0_MS + n * 1_000, T0_MS + n * 1_000 + 700,
            T0_MS + 60_000, 3_000, 0, T0_MS, "allow", 700,
        )  # fmt: skip
        state = capture.on_command(state, made, T0_MS).state
    revoked = CaptureRevoked("camera-1", "line", 1, T0_MS, "changed", T0_MS + 1)
    change = capture.on_revoked(state, revoked, T0_MS)
    assert [r.command_id for r in change.results] == [2]
