"""Who opens a shutter, who waits, who is given up (SPEC 2.3, 2.5, 3.2; issue 6 'Executor')."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from schemas.records import CaptureCommand, DeviceCaptures, EndedCapture
from streams.agents.admission import OVERDUE_MS, STEP_MS, Admission, Seat
from streams.agents.capture_search import Timed
from streams.agents.capture_settings import AdmissionSettings, ExecutorSettings
from streams.agents.ports import Load
from streams.core.breaker import BreakerPolicy
from streams.core.pools import PoolPolicy
from streams.core.retry import DEFAULT_POLICY, obstacle
from streams.observability.metrics import Metrics

T_MS = 1_795_000_000_000
BOOK: Any = SimpleNamespace()
PHOTO = EndedCapture(7, "s", 1, T_MS, T_MS, "SUCCESS", T_MS, T_MS)
"""What the row of a device remembers that gave a photo."""


class HandLoads:
    """Load as a test says it is."""

    def __init__(self) -> None:
        self.mine = Load()
        self.devices: dict[str, Load] = {}

    def own(self) -> Load:
        return self.mine

    def of(self, device_id: str) -> Load:
        return self.devices.get(device_id, Load())


class Door:
    """An admission with what the executor does around it, and nothing that runs by itself."""

    def __init__(self, *, max_in_flight: int = 100, **settings: Any) -> None:
        self.loads = HandLoads()
        self.metrics = Metrics("captures", "0")
        self.now_ms = T_MS
        self.ended: dict[int, str] = {}
        self.later: list[tuple[int, int]] = []
        self.seats: dict[int, Seat] = {}
        self.begun: list[int] = []
        self.commands: dict[int, tuple[CaptureCommand, str, int]] = {}
        self.admission = Admission(
            ExecutorSettings(max_in_flight=max_in_flight, admission=AdmissionSettings(**settings)),
            self.metrics,
            self.loads,
            lambda timed, cause: self.ended.__setitem__(timed.command_id, cause),
            lambda at_ms, timed: self.later.append((timed.command_id, at_ms)),
        )

    def due(
        self,
        number: int,
        device_id: str = "",
        *,
        host: str = "",
        failures: int = 0,
        priority: int = 0,
        window_ms: int = 60_000,
    ) -> bool:
        """The time of capture ``number`` has come; say whether its shutter opened."""
        command = CaptureCommand(
            number, device_id or f"cam-{number}", "s", "", 1, T_MS, T_MS, T_MS + window_ms, 3_000,
            priority, T_MS,
        )  # fmt: skip
        self.commands[number] = (command, host, failures)
        return self._enter(number)

    def _enter(self, number: int) -> bool:
        command, host, failures = self.commands[number]
        timed = Timed(BOOK, number)
        row = DeviceCaptures(command.device_id, (), (PHOTO,), failures)
        seat = self.admission.enter(timed, command, host, row, self.now_ms)
        if seat is not None:
            self.seats[number] = seat
            self.begun.append(number)
        return seat is not None

    def let_in(self) -> list[int]:
        before = len(self.begun)
        while (timed := self.admission.next()) is not None:
            self._enter(timed.command_id)
        return self.begun[before:]

    def end(self, number: int, cause: str = "", took_ms: int = 20) -> list[int]:
        """An attempt ends; return whose shutters open in its place."""
        device_id = self.commands[number][0].device_id
        if cause:
            self.admission.failure(device_id, cause, took_ms, self.now_ms)
        else:
            self.admission.photo(device_id, took_ms)
        self.admission.leave(self.seats.pop(number), self.now_ms)
        return self.let_in()

    def pass_ms(self, ms: int) -> list[int]:
        begun: list[int] = []
        for _ in range(ms // STEP_MS):
            self.now_ms += STEP_MS
            self.admission.step(self.now_ms)
            begun += self.let_in()
        return begun


def test_a_device_is_sent_one_request_at_a_time() -> None:
    """Issue 6: one request at a time to a device; the others in order."""
    door = Door()
    assert door.due(1, "cam")
    assert not door.due(2, "cam")
    assert not door.due(3, "cam", priority=5)
    assert door.end(1) == [3]
    assert door.end(3) == [2]
    assert door.admission.waiting == 0
    assert door.metrics.capture_waits["device"] == 2


def test_a_host_is_sent_a_bounded_number_at_a_time() -> None:
    """Issue 6: a bounded number to a host; other hosts and hostless devices go on."""
    door = Door(per_host=2)
    assert [door.due(n, host="nvr") for n in (1, 2, 3, 4)] == [True, True, False, False]
    assert door.due(5, host="other")
    assert door.due(6)
    assert door.end(1) == [3]
    assert door.end(5) == []
    assert door.end(2) == [4]
    assert door.end(3) == door.end(4) == []
    assert door.due(7, host="nvr")


def test_the_important_go_first_then_the_early_then_in_order() -> None:
    """SPEC 2.3, issue 6: rank, earliest deadline, first in first out."""
    door = Door(hot=PoolPolicy(least=1, most=1))
    door.loads.devices["cam-6"] = Load(1.0, 0.5)
    assert door.due(1)
    door.due(2)
    door.due(3)
    door.due(4, window_ms=30_000)
    door.due(5, priority=4)
    door.due(6, priority=3)
    order = [door.end(n)[0] for n in (1, 6, 5, 4, 2)]
    assert order == [6, 5, 4, 2, 3], "load raises 4 to 7, above 5"


def test_slow_devices_wait_for_slow_devices() -> None:
    """SPEC 2.5: the hot pool is not held by the cold one."""
    door = Door(cold=PoolPolicy(least=1, most=1), hot=PoolPolicy(least=2, most=2))
    for n in (1, 2, 3):
        door.due(n)
        door.end(n, "timeout", took_ms=3_000)
    assert [door.due(n, f"cam-{n - 10}") for n in (11, 12, 13)] == [True, False, False]
    assert [door.due(n) for n in (21, 22, 23)] == [True, True, False]
    assert door.end(21) == [23]
    assert door.end(11) == [12]
    assert door.metrics.pool_queue["cold"] == 1


def test_a_device_that_failed_before_a_restart_begins_in_the_cold_pool() -> None:
    """Issue 6: the memory is this worker's, but the table knows the captures that FAILED."""
    door = Door()
    door.due(1, failures=2)
    door.due(2, failures=1)
    assert (door.metrics.pool_in_use["cold"], door.metrics.pool_in_use["hot"]) == (1, 1)


def test_an_attempt_that_becomes_slow_frees_its_hot_permit() -> None:
    """SPEC 2.5: unknown devices that turn out to be slow do not hold the hot pool."""
    door = Door(hot=PoolPolicy(least=2, most=2), slow_ms=1_000)
    assert [door.due(n) for n in (1, 2, 3)] == [True, True, False]
    assert door.pass_ms(1_000) == []
    assert door.pass_ms(100) == [3]
    assert (door.metrics.pool_in_use["cold"], door.metrics.moved_attempts.total) == (2, 2)
    assert door.end(1) == door.end(2) == door.end(3) == []
    assert (door.metrics.pool_in_use["cold"], door.metrics.pool_in_use["hot"]) == (0, 0)


def test_slow_attempts_cannot_take_the_share_of_the_hot_pool() -> None:
    """CONVENTIONS 6: sockets are bounded, and some are kept for those that answer."""
    door = Door(max_in_flight=4, hot_share=0.5, hot=PoolPolicy(least=4, most=4))
    assert [door.due(n) for n in (1, 2, 3, 4, 5)] == [True] * 4 + [False]
    door.pass_ms(1_100)
    assert door.metrics.pool_in_use["cold"] == 2
    assert door.end(3, "timeout", 3_000) == [5]
    assert not door.due(13, "cam-3"), "the cold pool has all that it may"


def test_a_due_capture_of_an_open_breaker_waits_for_the_probe_or_is_given_up() -> None:
    """ADR 0016: what an open breaker does with a capture that is due."""
    door = Door(breaker=BreakerPolicy(failures=2, open_ms=1_000))
    for n in (1, 2):
        door.due(n, "cam")
        door.end(n, "refused")
    assert door.metrics.open_breakers.read() == 1
    assert not door.due(3, "cam", window_ms=1_000)
    assert not door.due(4, "cam", window_ms=999)
    assert door.later == [(3, T_MS + 1_000)]
    assert door.ended == {
        4: "breaker_open: failure 2 in a row was 'refused'; the device is asked again in 1,000 ms"
    }
    door.now_ms += 1_000
    assert door._enter(3), "it is the probe"
    assert not door.due(5, "cam"), "one probe at a time"
    assert door.end(3) == [5]
    assert door.metrics.open_breakers.read() == 0


def test_arming_is_put_off_while_a_breaker_is_open() -> None:
    """ADR 0016: it stays PENDING and revocable until the probe is near."""
    door = Door(breaker=BreakerPolicy(failures=1, open_ms=5_000))
    door.due(1, "cam")
    command = door.commands[1][0]
    held_until = door.admission.held_until
    assert held_until(command, T_MS, T_MS) == (0, "")
    door.end(1, "timeout", 3_000)
    assert held_until(command, T_MS, T_MS) == (T_MS + 5_000, "")
    assert held_until(command, T_MS + 5_000, T_MS) == (0, ""), "due after the probe"
    door.admission.troubled.forgive("cam")
    assert held_until(command, T_MS, T_MS) == (0, "")
    assert door.metrics.open_breakers.read() == 0


def test_the_remembered_are_bounded_and_the_oldest_is_trusted_again() -> None:
    """CONVENTIONS 6: a fleet that fails as a whole does not fill the memory."""
    door = Door(max_troubled=3, breaker=BreakerPolicy(failures=1))
    for n in range(1, 6):
        door.due(n)
        door.end(n, "timeout", 3_000)
    known = [n for n in range(1, 6) if door.admission.troubled.find(f"cam-{n}")]
    assert known == [3, 4, 5]
    assert door.metrics.open_breakers.read() == len(door.admission.troubled) == 3


def test_a_full_line_sheds_the_least_important_with_a_record() -> None:
    """Issue 6: the least important work is shed with a record of it, not late for all."""
    door = Door(hot=PoolPolicy(least=1, most=1), max_waiting=2)
    door.due(1)
    door.due(2, priority=1)
    door.due(3)
    door.due(4, priority=2)
    assert list(door.ended) == [3]
    assert door.ended[3] == "shed: 2 more important ones wait for the hot pool"
    door.due(5)
    assert list(door.ended) == [3, 5]
    assert door.metrics.shed_captures["full"] == 2
    assert (door.end(1), door.end(4)) == ([4], [2])


def test_a_spent_cpu_sheds_what_could_only_be_late() -> None:
    """SPEC 2.3: under load non-critical work yields."""
    door = Door(hot=PoolPolicy(least=1, most=1), max_wait_ms=11_000)
    door.loads.mine = Load(0.99, 0.1)
    door.due(0)
    for n in range(1, 121):
        door.due(n, priority=n % 2 * 9)
    assert len(door.ended) == 10
    assert all(n % 2 == 0 for n in door.ended), "only of the lowest priority"
    assert door.metrics.shed_captures["overload"] == 10


def test_a_hopeless_capture_is_given_up_at_once() -> None:
    """Issue 6: what cannot have its turn before not_after is told so, and holds no place."""
    door = Door(hot=PoolPolicy(least=1, most=1))
    for n in range(31):
        door.due(n, priority=4)
    assert not door.due(97, window_ms=1_500)
    assert not door.due(98, window_ms=1_499)
    assert not door.due(99, window_ms=1_499, priority=9)
    assert door.ended == {98: "shed: 30 go before it, which takes 3,000 ms"}


def test_what_waits_beyond_not_after_is_given_up() -> None:
    """DESIGN 'Captures': every capture comes to a terminal state."""
    door = Door(hot=PoolPolicy(least=1, most=1), per_host=1, slow_ms=60_000)
    door.due(1, "cam", host="nvr")
    door.due(2, "cam", window_ms=5_000)
    door.due(3, host="nvr", window_ms=5_000)
    door.due(4, window_ms=5_000)
    door.pass_ms(5_000)
    assert door.ended == {}
    door.pass_ms(1_000)
    assert door.ended == {
        2: "late: not_after passed while it waited for its device",
        3: "late: not_after passed while it waited for its host",
        4: "late: not_after passed while it waited for the hot pool",
    }
    assert door.admission.waiting == 0


def test_retries_do_not_make_a_crowd_larger() -> None:
    """Issue 6: calm: while others wait for the cold pool, a failed attempt there is the last."""
    door = Door(cold=PoolPolicy(least=1, most=1))
    for n in (1, 2):
        door.due(n)
        door.end(n, "timeout", 3_000)
    assert door.admission.retry_policy("cam-1", 1, DEFAULT_POLICY) is DEFAULT_POLICY
    door.due(11, "cam-1")
    door.due(12, "cam-2")
    policy = door.admission.retry_policy("cam-1", 1, DEFAULT_POLICY)
    assert obstacle(1, 0, 10_000, policy=policy) == "attempt 1 of 1: others wait for the cold pool"
    assert door.admission.retry_policy("cam-9", 1, DEFAULT_POLICY) is DEFAULT_POLICY
    assert door.end(11) == [12]
    assert door.admission.retry_policy("cam-1", 1, DEFAULT_POLICY) is DEFAULT_POLICY


def test_many_errors_cut_the_cold_pool() -> None:
    """SPEC 2.5: error rate > 5 % cuts the cold pool; it mends when they are few."""
    door = Door(cold=PoolPolicy(least=8, most=80))
    door.admission.cold.size = 80
    for n in range(40):
        door.due(n)
        door.end(n, "timeout" if n < 3 else "", 20)
    door.pass_ms(100)
    assert (door.metrics.cold_pool_cut.read(), door.metrics.pool_size["cold"]) == (1, 20)
    for n in range(100, 200):
        door.due(n)
        door.end(n)
    door.pass_ms(100)
    assert door.metrics.cold_pool_cut.read() == 0
    assert door.metrics.cold_pool_cuts.total == 1


def test_a_queue_of_more_than_100_grows_the_pool_at_once() -> None:
    """SPEC 2.5: queue > 100 grows, without waiting for a step."""
    door = Door(max_in_flight=1_000, hot=PoolPolicy(least=50, most=1_000))
    for n in range(151):
        door.due(n)
    assert door.metrics.pool_size["hot"] == 100
    assert len(door.let_in()) == 50
    assert door.pass_ms(100) == [], "100 may wait, and the formula asks for fewer"


async def test_an_adapter_that_does_not_end_is_cancelled() -> None:
    """Issue 6: capture_timeout really cancels the I/O."""
    door = Door()
    door.due(1)
    task = asyncio.ensure_future(asyncio.Event().wait())
    door.seats[1].task = task  # type: ignore[assignment]
    door.pass_ms(3_000 + OVERDUE_MS // STEP_MS * STEP_MS)
    assert not task.cancelling()
    door.pass_ms(STEP_MS)
    assert door.seats[1].overdue
    with pytest.raises(asyncio.CancelledError):
        await task


def test_dropped_captures_leave_every_line() -> None:
    """DESIGN 'Captures': what is given up with a partition is released by its owner."""
    door = Door(hot=PoolPolicy(least=1, most=1), per_host=1)
    door.due(1, "cam", host="nvr")
    door.due(2, "cam")
    door.due(3, host="nvr")
    door.due(4)
    dropped = door.admission.drop(lambda timed: timed.command_id != 3)
    assert sorted(timed.command_id for timed in dropped) == [2, 4]
    assert door.admission.waiting == 1
    assert door.end(1) == [3]


@pytest.mark.parametrize("values", [{"slow_ms": 0}, {"hot_share": 1.1}, {"prepare_at_once": -1}])
def test_settings_out_of_bounds_are_refused(values: dict[str, float]) -> None:
    """CONVENTIONS 6: each setting has its bounds."""
    with pytest.raises(ValueError, match="must be"):
        AdmissionSettings(**values)  # type: ignore[arg-type]
