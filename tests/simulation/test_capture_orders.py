"""The state machine under random orders of events, in a world with clocks, crashes and rivals.

The world knows what really happened (which shutters opened, which images were stored); the checkers
compare it with the results (SPEC 2.4): each command has exactly one, its list is a walk over the
table with sound CRCs, no photo is early, late or doubled, and no RUNNING capture is revoked.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.records import (
    CaptureCommand,
    CaptureResult,
    CaptureRevoked,
    DeviceCaptures,
    ImageRef,
)
from streams.core import capture
from streams.core.transition import PENDING, REVOKED, RUNNING, SUCCESS, TERMINAL, verify

IMAGE = ImageRef("file:///x", "ab" * 32, 9, 1, 1, "jpeg")
T0_MS = 1_795_000_000_000
LIMITS = capture.Limits(max_open=6, max_ended=10_000, max_attempts=5)
Op = tuple[str, int, int]


@dataclass
class World:
    """One device: its row, what was written, and what really happened to the camera."""

    state: DeviceCaptures = field(default_factory=lambda: DeviceCaptures("camera-1"))
    now_ms: int = T0_MS
    issued: dict[int, CaptureCommand] = field(default_factory=dict)
    results: list[CaptureResult] = field(default_factory=list)
    shutters: list[tuple[int, int]] = field(default_factory=list)
    stored: set[int] = field(default_factory=set)
    illegal: int = 0

    def apply(self, change: capture.Change) -> None:
        before = {c.command.command_id: c for c in self.state.open}
        for result in change.results:
            was = before.get(result.command_id)
            assert not (result.state == REVOKED and was is not None and was.state == RUNNING)
        for held in change.arm:
            assert held.state == PENDING
            assert held in change.state.open
        for held in change.shutter:
            assert held.state == RUNNING
            assert held in change.state.open
        for held in change.state.open:
            assert verify(held) == ()
        assert len(change.state.open) <= LIMITS.max_open
        self.results.extend(change.results)
        self.state = change.state

    def command(self, schedule: int, slot: int, epoch: int) -> None:
        """Issue a command; the spread moves the scheduled time by its epoch, in some schedules."""
        command_id = len(self.issued) + 1
        nominal_ms = T0_MS + 1_000 * slot
        scheduled_ms = nominal_ms + (70 * epoch if schedule == 1 else 0)
        made = CaptureCommand(
            command_id,
            "camera-1",
            f"line-{schedule}" if schedule else "",
            "" if schedule else f"request-{command_id}",
            epoch,
            nominal_ms,
            scheduled_ms,
            scheduled_ms + 2_000,
            3_000,
            0,
            self.now_ms,
        )
        self.issued[command_id] = made
        self.apply(capture.on_command(self.state, made, self.now_ms, LIMITS))

    def again(self, n: int) -> None:
        """Deliver a command that was delivered before."""
        if not self.issued:
            return
        old = self.issued[1 + n % len(self.issued)]
        change = capture.on_command(self.state, old, self.now_ms, LIMITS)
        assert change.duplicate
        assert change.state is self.state

    def shutter(self, n: int, *, lease_alive: bool, photo: bool) -> None:
        """Let one capture that may be RUNNING try its shutter, and end its attempt."""
        held = self.state.open[n % len(self.state.open)]
        command_id = held.command.command_id
        decision = capture.shutter_decision(self.now_ms, held, lease_alive=lease_alive)
        if decision == "expired":
            self.apply(
                capture.on_expired(self.state, command_id, self.now_ms, "no shutter", LIMITS)
            )
        if decision != "open":
            return
        assert self.now_ms >= held.next_attempt_ms
        at_ms = self.now_ms
        self.shutters.append((command_id, at_ms))
        if photo:
            self.stored.add(command_id)
            change = capture.on_success(
                self.state, command_id, IMAGE, None, at_ms, at_ms + 20, "", LIMITS
            )
        else:
            change = capture.on_failure(
                self.state,
                command_id,
                "timeout",
                "no answer",
                at_ms,
                at_ms + 30,
                retryable=n % 5 != 0,
                limits=LIMITS,
            )
        self.apply(change)

    def photo(self, n: int) -> None:
        """Take one capture from where it stands to its photo, in its own time."""
        held = self.state.open[n % len(self.state.open)]
        command_id = held.command.command_id
        if held.state == PENDING:
            self.now_ms = max(self.now_ms, held.command.scheduled_ms - 300)
            self.apply(capture.on_arming(self.state, command_id, self.now_ms, "w", LIMITS))
        if any(c.command.command_id == command_id for c in self.state.open):
            self.now_ms = max(self.now_ms, capture.not_before_ms(held))
            self.shutter(n, lease_alive=True, photo=n % 8 != 0)

    def crash(self, n: int) -> None:
        """The worker dies, after the photo or before it; another one finds what it left."""
        for held in self.state.open:
            if held.state != RUNNING:
                continue
            command_id = held.command.command_id
            decision = capture.shutter_decision(self.now_ms, held, lease_alive=True)
            if decision == "open" and n % 2:
                self.shutters.append((command_id, self.now_ms))
                self.stored.add(command_id)
            image = IMAGE if command_id in self.stored else None
            self.apply(
                capture.on_recovered(self.state, command_id, self.now_ms, image, None, LIMITS)
            )

    def perform(self, op: Op) -> None:
        """Do one thing; what is illegal in this state is refused and changes nothing."""
        name, a, b = op
        before = self.state
        chosen = self.state.open[a % len(self.state.open)].command.command_id if before.open else -1
        try:
            if name == "time":
                self.now_ms += a
            elif name == "clock back":
                self.now_ms = max(T0_MS, self.now_ms - a % 5)
            elif name == "command":
                self.command(a % 3, b % 3, (a + b) % 5)
            elif name == "again":
                self.again(a)
            elif name == "revoke":
                made = CaptureRevoked("camera-1", f"line-{a % 3}", b % 5, self.now_ms, "cancelled")
                self.apply(capture.on_revoked(self.state, made, self.now_ms, LIMITS))
            elif name == "arm":
                self.apply(capture.on_arming(self.state, chosen, self.now_ms, "w", LIMITS))
            elif name == "shutter" and before.open:
                self.shutter(a, lease_alive=b % 4 != 0, photo=b % 3 != 0)
            elif name == "photo" and before.open:
                self.photo(a)
            elif name == "stale":
                stale = 1 + a % (len(self.issued) + 1)
                if any(c.command.command_id == stale for c in before.open):
                    return
                self.apply(capture.on_success(self.state, stale, IMAGE, None, 0, 0, "", LIMITS))
            elif name == "crash":
                self.crash(a)
        except capture.IllegalTransition:
            assert name in {"arm", "shutter", "stale"}, f"{name} must never be illegal"
            self.illegal += 1
            assert self.state is before

    def drain(self) -> None:
        """Let time pass until nothing is open; every command must come to its end."""
        for _ in range(1_000):
            if not self.state.open:
                return
            self.crash(0)
            for held in self.state.open:
                if held.state == PENDING:
                    command_id = held.command.command_id
                    self.apply(capture.on_arming(self.state, command_id, self.now_ms, "w", LIMITS))
            for n in reversed(range(len(self.state.open))):
                if self.state.open[n].state == RUNNING:
                    self.shutter(n, lease_alive=True, photo=True)
            self.now_ms += 250
        raise AssertionError("the drain does not come to an end")

    def check(self) -> None:
        """Compare what was written with what happened."""
        assert Counter(r.command_id for r in self.results) == Counter(self.issued.keys())
        photos: Counter[tuple[str, int]] = Counter()
        nominal: Counter[tuple[str, int]] = Counter()
        for result in self.results:
            assert verify(result) == ()
            assert result.state in TERMINAL
            walked = [t.to_state for t in result.transitions]
            assert sum(state in TERMINAL for state in walked) == 1
            assert (result.state == SUCCESS) == (result.command_id in self.stored)
            assert result.attempt <= LIMITS.max_attempts
            if result.state == SUCCESS and result.schedule_id:
                photos[result.schedule_id, result.scheduled_ms] += 1
                nominal[result.schedule_id, result.nominal_ms] += 1
        assert set(photos.values()) | set(nominal.values()) <= {1}
        for command_id, at_ms in self.shutters:
            made = self.issued[command_id]
            assert made.scheduled_ms <= at_ms <= made.not_after_ms
        assert {e.command_id for e in self.state.ended} == set(self.issued)


NAMES = (
    "time",
    "clock back",
    "command",
    "again",
    "revoke",
    "arm",
    "shutter",
    "photo",
    "stale",
    "crash",
)
OPS = st.lists(
    st.tuples(
        # commands and photos often, so that rivals meet captures in every state
        st.sampled_from(
            (*NAMES, "command", "command", "revoke", "arm", "shutter", "photo", "photo")
        ),
        st.integers(0, 700),
        st.integers(0, 60),
    ),
    max_size=80,
)


@settings(max_examples=300, deadline=None)
@given(OPS)
def test_every_command_reaches_exactly_one_end(ops: list[Op]) -> None:
    """SPEC 2.4: whatever the order of commands, revocations, attempts, crashes and clocks."""
    world = World()
    for op in ops:
        world.perform(op)
    world.drain()
    world.check()


@settings(max_examples=50, deadline=None)
@given(OPS)
def test_the_same_events_give_the_same_row(ops: list[Op]) -> None:
    """SPEC 2.4: a replay of the log after a crash ends in the same state, bit for bit."""
    worlds = World(), World()
    for world in worlds:
        for op in ops:
            world.perform(op)
    assert worlds[0].state == worlds[1].state
    assert worlds[0].results == worlds[1].results


def test_the_world_reaches_every_end_and_edge() -> None:
    """The orders above are not vacuous: a fixed one visits each terminal state and a refusal."""
    world = World()
    command, far = ("command", 2, 0), ("time", 700, 0)
    success = [command, ("arm", 0, 0), ("shutter", 0, 1)]
    failed = [("command", 0, 0), ("arm", 0, 0), ("shutter", 0, 3)]
    revoked = [("command", 2, 3), ("revoke", 2, 4)]
    expired = [("command", 0, 1), *[far] * 6, ("arm", 0, 0)]
    for op in (*success, *failed, *revoked, ("stale", 0, 0), *expired):
        world.perform(op)
    world.check()
    assert Counter(r.state for r in world.results) == Counter(TERMINAL)
    assert world.illegal == 1
