"""Admission: which capture may open its shutter now, which waits, and which never will.

A capture whose time has come asks (:meth:`Admission.enter`) and gets a **seat**, or does not:

1. its device is busy → it waits for the device: one request at a time;
2. its device's breaker is open → it comes back when the probe is due, or is given up
   (``core/breaker.py``);
3. its host has all the requests it may have → it waits for the host;
4. its pool has no permit left → it waits in line, or somebody less important is shed
   (``core/pools.py``, ``core/priority.py``).

There are three pools: ``hot`` for devices that gave a photo lately, ``new`` for those nothing is
known of, sized alike, and ``cold`` for those that are slow or fail. The latter two together never
take the share of ``max_in_flight`` that is kept for the hot one, so that thousands of new cameras
which turn out never to answer do not stand before those that do.

Every line is in order of rank, ``not_after``, arrival. Whoever gets up (:meth:`Admission.leave`)
makes room, and :meth:`Admission.next` says for whom. Nothing here waits, awaits or reads a clock,
so a simulation of hours runs in a second. **No capture is forgotten**: each that entered is in
exactly one line or on a seat until it is handed to ``given_up``, ``later`` or its attempt, or its
partition goes.

Cost: see infra/adr/0016-calm-executor.md; a seat for a device that answers, and getting up from it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from streams.agents.seats import Pool, Seat
from streams.agents.troubled import Troubled
from streams.core import breaker, pools, retry
from streams.core.capture_row import proven
from streams.core.priority import Line, rank
from streams.core.retry import RetryPolicy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from schemas.records import CaptureCommand, DeviceCaptures
    from streams.agents.capture_search import Timed
    from streams.agents.capture_settings import ExecutorSettings
    from streams.agents.ports import Loads
    from streams.observability.metrics import Metrics

STEP_MS: Final = 100
"""How often pools are resized, slow attempts moved, and those overdue cancelled (SPEC 2.3)."""
SWEEP_STEPS: Final = 5
"""Steps from one look for captures whose ``not_after`` passed while they waited to the next."""
OVERDUE_MS: Final = 250
"""How long an adapter may take to end after its deadline before its attempt is cancelled."""
ERROR_DECAY: Final = 0.99
"""What an attempt weighs less a step, for the error rate: a window of ten seconds."""
ERROR_ATTEMPTS: Final = 20
"""Fewer attempts in that window say nothing."""
HOLD_WEIGHT: Final = 1 / 16
"""What the latest attempt weighs in the mean time that a permit is held."""


class Admission:
    """The seats of one worker, and the lines for them."""

    def __init__(
        self,
        settings: ExecutorSettings,
        metrics: Metrics,
        loads: Loads,
        given_up: Callable[[Timed, str], None],
        later: Callable[[int, Timed], None],
    ) -> None:
        """Take the parts.

        ``given_up`` ends a capture with its cause, at once; ``later`` has it ask again at a time.
        """
        self._settings = settings.admission
        self._max_in_flight = settings.max_in_flight
        self._most_slow = int(settings.max_in_flight * (1.0 - self._settings.hot_share))
        self._metrics = metrics
        self._loads = loads
        self._given_up = given_up
        self._later = later
        self.troubled = Troubled(self._settings, metrics)
        self.hot = Pool("hot", self._settings.hot, 100.0)
        self.new = Pool("new", self._settings.hot, 100.0)
        self.cold = Pool("cold", self._settings.cold, 1_000.0)
        self._pools = (self.hot, self.new, self.cold)
        self.cut = False
        self._seats: dict[Seat, None] = {}
        """In order of their beginning."""
        self._busy: set[str] = set()
        self._hosts: dict[str, int] = {}
        self._device_lines: dict[str, Line[Timed]] = {}
        self._host_lines: dict[str, Line[Timed]] = {}
        self._freed: list[tuple[dict[str, Line[Timed]], str]] = []
        """Lines whose device or host may have room now."""
        self._steps = 0
        self._tried = 0.0
        self._failed = 0.0
        self._bind()

    def _bind(self) -> None:
        named = {pool.name: pool for pool in self._pools}
        self._metrics.pool_size.bind(lambda name: named[name].size)
        self._metrics.pool_in_use.bind(lambda name: named[name].in_use)
        self._metrics.pool_queue.bind(lambda name: len(named[name].line))
        self._metrics.cold_pool_cut.bind(lambda: float(self.cut))
        self._metrics.error_rate.bind(lambda: self.error_rate)
        self._metrics.worker_cpu.bind(lambda: self._loads.own().cpu)
        self._metrics.worker_mem.bind(lambda: self._loads.own().mem)

    # -- what there is -------------------------------------------------------------------------

    def _lines(self) -> Iterator[Line[Timed]]:
        yield from (pool.line for pool in self._pools)
        yield from self._device_lines.values()
        yield from self._host_lines.values()

    @property
    def waiting(self) -> int:
        """Captures that wait for a device, a host or a pool."""
        return sum(len(line) for line in self._lines())

    @property
    def lines(self) -> tuple[int, int]:
        """Devices and hosts at which captures wait for one another."""
        return len(self._device_lines), len(self._host_lines)

    @property
    def error_rate(self) -> float:
        """Share of the attempts of about the last ten seconds that failed."""
        return self._failed / self._tried if self._tried >= ERROR_ATTEMPTS else 0.0

    def at_ease(self, device_id: str) -> bool:
        """Say whether a device may be made ready: it is not busy, and its last attempt was good."""
        record = self.troubled.find(device_id)
        return device_id not in self._busy and (record is None or not record.breaker.failures)

    # -- before the shutter --------------------------------------------------------------------

    def held_until(self, command: CaptureCommand, at_ms: int, now_ms: int) -> tuple[int, str]:
        """Say whether a capture that is to be armed for ``at_ms`` should not be.

        Until when the device's breaker is open, 0 if it need not wait, and "" or why it is to be
        given up.
        """
        record = self.troubled.find(command.device_id)
        if record is None or not record.breaker.trips:
            return 0, ""
        match breaker.verdict(record.breaker, max(at_ms, now_ms), command.not_after_ms):
            case "wait":
                self._metrics.breaker_holds.inc("waited")
                return record.breaker.until_ms, ""
            case "give_up":
                self._metrics.breaker_holds.inc("given_up")
                return 0, breaker.describe(record.breaker, now_ms)
        return 0, ""

    def probe_note(self, device_id: str) -> str:
        """Return what the record says of a capture that is armed to probe a breaker; "": none."""
        record = self.troubled.find(device_id)
        if record is None or not record.breaker.trips:
            return ""
        return f"; the probe of a breaker that failure {record.breaker.failures} in a row opened"

    def enter(
        self, timed: Timed, command: CaptureCommand, host: str, row: DeviceCaptures, now_ms: int
    ) -> Seat | None:
        """Return a seat for a capture whose shutter is due, or None: it waits, or was given up.

        ``row``: what the table has of the device: a photo lately, and how often it FAILED since.
        """
        device_id = command.device_id
        if device_id in self._busy:
            self._park(self._device_lines, device_id, "device", timed, command)
            return None
        pool, failures = self.hot if proven(row) else self.new, row.failures
        record = self.troubled.find(device_id)
        if record is None and failures > 1:
            record = self.troubled.recall(device_id, failures)
        if record is not None:
            until_ms, cause = self.held_until(command, now_ms, now_ms)
            if cause:
                self._given_up(timed, cause)
                return None
            if until_ms:
                self._later(until_ms, timed)
                return None
            if record.answers.cold or record.breaker.trips:
                pool = self.cold
        if host and self._hosts.get(host, 0) >= self._settings.per_host:
            self._park(self._host_lines, host, "host", timed, command)
            return None
        if not self._has_room(pool):
            self._queue(pool, timed, command, now_ms)
            return None
        seat = Seat(device_id, host, pool, now_ms, now_ms + command.capture_timeout_ms)
        pool.in_use += 1
        self._seats[seat] = None
        self._busy.add(device_id)
        if host:
            self._hosts[host] = self._hosts.get(host, 0) + 1
        return seat

    def _has_room(self, pool: Pool) -> bool:
        return (
            pool.in_use < pool.size
            and len(self._seats) < self._max_in_flight
            and (pool is self.hot or self.new.in_use + self.cold.in_use < self._most_slow)
        )

    def _park(
        self,
        lines: dict[str, Line[Timed]],
        key: str,
        what: str,
        timed: Timed,
        command: CaptureCommand,
    ) -> None:
        self._metrics.capture_waits.inc(what)
        line = lines.get(key)
        if line is None:
            line = lines[key] = Line()
        line.put(timed, self._rank(command), command.not_after_ms)

    def _rank(self, command: CaptureCommand) -> int:
        return rank(command.priority, *self._loads.of(command.device_id))

    def _queue(self, pool: Pool, timed: Timed, command: CaptureCommand, now_ms: int) -> None:
        """Let a capture wait for a permit; shed where no more may wait."""
        importance = self._rank(command)
        ahead = pool.line.ahead(importance, command.not_after_ms)
        wait_ms = pools.wait_ms(ahead, self._bound(pool), pool.hold_ms)
        if pools.hopeless(now_ms, command.not_after_ms, wait_ms):
            self._shed(timed, "hopeless", f"{ahead:,} go before it, which takes {wait_ms:,} ms")
            return
        self._metrics.capture_waits.inc(pool.name)
        pool.line.put(timed, importance, command.not_after_ms)
        cpu = self._loads.own().cpu
        room = pools.room_for(
            pool.size,
            pool.hold_ms,
            cpu,
            max_waiting=self._settings.max_waiting,
            max_wait_ms=self._settings.max_wait_ms,
        )
        why = "overload" if room < self._settings.max_waiting else "full"
        while len(pool.line) > room:
            text = f"{room:,} more important ones wait for the {pool.name} pool"
            self._shed(pool.line.shed(), why, text)
        if len(pool.line) == pools.GROW_QUEUE + 1:
            self._resize(pool, cpu)

    def _bound(self, pool: Pool) -> int:
        """Return what a pool may grow to, which takes a few steps."""
        if pool is self.hot:
            return min(pool.policy.most, self._max_in_flight)
        cut = self.cut and pool is self.cold
        most = pools.cut_bound(pool.policy) if cut else pool.policy.most
        return min(most, self._most_slow)

    def _shed(self, timed: Timed, reason: str, text: str) -> None:
        self._metrics.shed_captures.inc(reason)
        self._given_up(timed, f"shed: {text}")

    # -- after the attempt ---------------------------------------------------------------------

    def photo(self, device_id: str, took_ms: float) -> None:
        """Note that an attempt gave a photo."""
        self._tried += 1.0
        self.troubled.photo(device_id, quick=took_ms <= self._settings.slow_ms)

    def failure(self, device_id: str, cause: str, took_ms: float, now_ms: int) -> None:
        """Note that an attempt failed, and how long it took."""
        self._tried += 1.0
        self._failed += 1.0
        quick = took_ms <= self._settings.slow_ms
        self.troubled.failure(device_id, cause, now_ms, quick=quick)

    def retry_policy(self, device_id: str, attempt: int, policy: RetryPolicy) -> RetryPolicy:
        """Return how often the attempt that just failed may be repeated.

        Not at all while others wait for the cold pool and the device belongs there: retries must
        not make a crowd larger.
        """
        record = self.troubled.find(device_id)
        if record is not None:
            policy = retry.weighted(policy, record.answers, attempt)
            if record.answers.cold and self.cold.line:
                most = min(policy.retries, max(attempt - 1, 0))
                policy = RetryPolicy(most, policy.reserve_ms, "others wait for the cold pool")
        self._metrics.retry_budgets.inc(str(policy.retries))
        return policy

    def leave(self, seat: Seat, now_ms: int) -> None:
        """Give a seat back; ask ``next`` for whom there is room now."""
        del self._seats[seat]
        pool = seat.pool
        pool.in_use -= 1
        pool.hold_ms += (now_ms - seat.began_ms - pool.hold_ms) * HOLD_WEIGHT
        self._busy.discard(seat.device_id)
        if seat.device_id in self._device_lines:
            self._freed.append((self._device_lines, seat.device_id))
        host = seat.host
        if host:
            left = self._hosts[host] - 1
            if left:
                self._hosts[host] = left
            else:
                del self._hosts[host]
            if host in self._host_lines:
                self._freed.append((self._host_lines, host))

    def next(self) -> Timed | None:
        """Take out a capture that there is room for now; None: there is none.

        Whoever is taken out must enter again before this is asked again.
        """
        while self._freed:
            lines, key = self._freed[-1]
            line = lines.get(key)
            if line and self._is_free(lines, key):
                return line.take()
            if line is not None and not line:
                del lines[key]
            self._freed.pop()
        for pool in self._pools:
            if pool.line and self._has_room(pool):
                return pool.line.take()
        return None

    def _is_free(self, lines: dict[str, Line[Timed]], key: str) -> bool:
        if lines is self._device_lines:
            return key not in self._busy
        return self._hosts.get(key, 0) < self._settings.per_host

    # -- as time passes ------------------------------------------------------------------------

    def step(self, now_ms: int) -> None:
        """Do what is due each ``STEP_MS``; ask ``next`` for whom there is room then."""
        cpu = self._loads.own().cpu
        self._tried *= ERROR_DECAY
        self._failed *= ERROR_DECAY
        for seat in self._seats:
            if now_ms - seat.began_ms <= OVERDUE_MS:
                break  # those behind are younger still
            self._watch(seat, now_ms)
        for pool in self._pools:
            self._resize(pool, cpu)
        self._steps += 1
        if self._steps % SWEEP_STEPS == 0:
            self._sweep(now_ms)

    def _watch(self, seat: Seat, now_ms: int) -> None:
        """Move an attempt that has become slow; cancel one that is overdue."""
        if (
            seat.pool is not self.cold
            and now_ms - seat.began_ms > self._settings.slow_ms
            and (seat.pool is self.new or self.new.in_use + self.cold.in_use < self._most_slow)
        ):
            seat.pool.in_use -= 1
            self.cold.in_use += 1
            seat.pool = self.cold
            self._metrics.moved_attempts.inc()
        if now_ms > seat.until_ms + OVERDUE_MS and not seat.overdue and seat.task is not None:
            seat.overdue = True
            seat.task.cancel()

    def _resize(self, pool: Pool, cpu: float) -> None:
        signals = pool.signals(cpu, self.error_rate)
        if pool is not self.cold:
            pool.size = pools.hot_size(pool.size, signals, pool.policy)
            return
        cut = pools.is_cut(signals, was_cut=self.cut)
        if cut and not self.cut:
            self._metrics.cold_pool_cuts.inc()
        self.cut = cut
        pool.size = pools.cold_size(pool.size, signals, pool.policy, cut=cut)

    def _sweep(self, now_ms: int) -> None:
        """Give up those whose ``not_after`` has passed while they waited."""
        for what, line in list(self._named_lines()):
            for timed in line.drop_expired(now_ms):
                self._given_up(timed, f"late: not_after passed while it waited for {what}")
        for lines in (self._device_lines, self._host_lines):
            for key in [key for key, line in lines.items() if not line]:
                del lines[key]

    def _named_lines(self) -> Iterator[tuple[str, Line[Timed]]]:
        yield from ((f"the {pool.name} pool", pool.line) for pool in self._pools)
        yield from (("its device", line) for line in self._device_lines.values())
        yield from (("its host", line) for line in self._host_lines.values())

    def drop(self, unwanted: Callable[[Timed], bool]) -> list[Timed]:
        """Take out of every line those that ``unwanted`` names, and return them."""
        return [timed for line in self._lines() for timed in line.drop(unwanted)]
