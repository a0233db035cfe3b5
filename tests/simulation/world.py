"""A deterministic world: what a plan says, on virtual time, with the real agents (ADR 0026).

``run(plan)`` returns what the checkers found, a hash of all that happened, and counts. The same
plan gives the same hash in any process.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import time
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import structlog
from world_audit import audit
from world_devices import Site, SitePhotos
from world_end import final
from world_faults import Faults
from world_fold import ZoneData, load_state, zone_data
from world_log import Broker, Coordinator
from world_loop import Schedule
from world_machine import EPOCH_S, Machine
from world_ntp import TimeSite, keeper
from world_plan import APPS, SETTLE_S, SNAPSHOT_MS, Plan
from world_process import EXPECTED, Process
from world_snapshots import Files
from world_upstream import Wish, device_name, wishes
from world_watch import CODEC, SILENCE_MS, Watch

from schemas.records import DeviceHeartbeat, DeviceProfile, Record
from streams.agents import capture_executor, device_health, read_ahead, timing_wheel
from streams.agents.capture_executor import CaptureExecutor
from streams.agents.capture_settings import AdmissionSettings, ExecutorSettings
from streams.agents.device_health import HealthWatch
from streams.agents.snapshots import Snapshots
from streams.agents.timing_wheel import TimingWheel, WheelSettings
from streams.core import ids
from streams.core.health import HealthSettings
from streams.core.recurrence import TZ_VERSION

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

SESSION_S = 6.0
EXECUTOR = ExecutorSettings(gather_ms=5, admission=AdmissionSettings(per_host=2))
"""With ``gather_ms`` the seeds of the table and the fixed worlds were found."""
LAYOUTS: dict[str, Any] = {
    "wheel": timing_wheel, "captures": capture_executor, "devices": device_health,
}  # fmt: skip


@dataclass
class Report:
    """What became of a world."""

    plan: Plan
    findings: list[str]
    trace_hash: str
    counts: dict[str, int]
    trace: list[str]
    seconds: float
    """Virtual."""
    took_s: float
    """Of this core."""
    failures: dict[str, int] = field(default_factory=dict)

    @property
    def device_days(self) -> float:
        return len(self.plan.devices) * self.seconds / 86_400.0


FLEET = (
    (timing_wheel, "BOUNDARY_MS", 1_000),
    (timing_wheel, "IDLE_TICK_MS", 10_000),
    (capture_executor, "STEP_MS", 1_000),
)
"""In a fleet little happens, so it is looked for less often; no decision rests on these."""


class _Inline:
    """A thread pool that does it at once: see ``read_ahead``."""

    def __init__(self, *_: object) -> None:
        """There is no thread."""

    def submit(self, call: Callable[..., Any], *args: Any) -> Any:
        value = call(*args)
        return SimpleNamespace(result=lambda: value)

    def shutdown(self, **_: Any) -> None:
        """There is no thread."""


class World(Faults):
    """One world."""

    def __init__(self, plan: Plan, zones: ZoneData | None = None) -> None:
        self.plan = plan
        self.zones = zones or ZoneData()
        self.schedule = Schedule()
        self.partitions = plan.partitions
        self.watch = Watch(plan, plan.partitions)
        self.watch.world = self
        self.site = Site(self.schedule, plan, self.watch)
        self.time = TimeSite(plan.time_servers)
        self.random = plan.stream("world")
        self.tz = TZ_VERSION
        self.files = Files(self)
        self.mirrored: set[tuple[int, int]] = set()
        """What a mirror wrote again into capture.commands, by partition and offset."""
        self.failures: dict[str, int] = {}
        self.graves: list[Process] = []
        """Dead processes, so that what they hold is not collected in the middle of the world."""
        self.newest: dict[str, int] = {}
        """The latest heartbeat of each device that came."""
        self.restart_s: dict[tuple[str, int], float] = {}
        self.halted = False
        self.moving = 0
        """How many partitions there will be when all workers have stopped; 0: as many as now."""
        self.shadow_tz = self.tz
        self.broker = self.make_broker()
        self.machines = [self._machine(n) for n in range(plan.machines)]
        self.watch.met["clocks_skewed"] += sum(one.offset_s != 0.0 for one in self.machines)
        self.processes: dict[tuple[str, int], Process] = {}

    # -- building ------------------------------------------------------------------------------

    def true_ms(self) -> int:
        return int((EPOCH_S + self.schedule.now_s) * 1000.0)

    def make_broker(self) -> Broker:
        broker = Broker(self.schedule, self.true_ms)
        broker.groups = {a: Coordinator(self.schedule, self.partitions, SESSION_S) for a in APPS}
        broker.appended = self._appended
        broker.committed = self.watch.committed
        return broker

    def _machine(self, number: int) -> Machine:
        chance = self.plan.stream(f"machine/{number}")
        return Machine(
            f"m{number}",
            self.schedule,
            chance,
            offset_s=chance.choice(
                (0.0, chance.uniform(-0.05, 0.05), *(chance.choice((-0.9, 0.9)),) * 2)
            ),
            # Days without a time server would bring a fleet's clock beyond what a wheel allows.
            drift=chance.uniform(-50e-6, 50e-6) / (25 if self.plan.kind == "fleet" else 1),
            booted_s=chance.uniform(100.0, 1e6),
            oscillator=self.plan.stream(f"oscillator/{number}").uniform(-80e-6, 80e-6)
            * bool(self.plan.time_servers),
        )

    def start(self, app: str, machine: int) -> None:
        """Start a process, unless it runs."""
        old = self.processes.get((app, machine))
        if self.halted or (old is not None and not old.loop_.dead):
            return
        process = Process(
            self.machines[machine],
            self.broker,
            LAYOUTS[app].layout(self.partitions),
            app,
            self._program,
            lambda process, why: self._ended(process, machine, why),
            self.plan.heartbeat_ms,
            1.0 if self.watch.strict else 10.0,
            self._met,
        )
        process.ntp = keeper(self, process)
        self.processes[app, machine] = process
        self.watch.note(f"start {process.loop_.name}")
        process.start()

    def _program(self, process: Process) -> Any:
        app, clock, metrics = process.settings.app, process.clock, process.metrics
        program: Any
        if app == "wheel":
            settings = WheelSettings(
                capacity_per_shard=self.plan.capacity_per_shard,
                max_fires=500 if self.plan.kind == "fleet" else 6,
                tz_version=self.tz,
            )
            program = TimingWheel(
                process.settings, settings, CODEC, clock, metrics, self.partitions,
                self._snapshots(process),
            )  # fmt: skip
        elif app == "captures":
            photos = SitePhotos(self.site, process)
            program = CaptureExecutor(
                process.settings, EXECUTOR, photos, CODEC, clock, metrics, self.partitions
            )
        else:
            program = HealthWatch(
                HealthSettings(timeout_ms=SILENCE_MS), CODEC, clock, metrics, self.partitions
            )
        opened = program.opened

        def watched(partition: Any) -> None:
            opened(partition)
            process.books.append(partition.state)
            self.watch.opened(process, partition)

        program.opened = watched
        return program

    def _snapshots(self, process: Process) -> Snapshots | None:
        if not self.plan.odd:
            return None
        every_ms = SNAPSHOT_MS[self.plan.kind]
        clock, metrics = process.clock, process.metrics
        return Snapshots(
            self.files.opened, every_ms, CODEC, clock, metrics, self.partitions, self.tz
        )

    def _ended(self, process: Process, machine: int, why: str) -> None:
        self.watch.note(f"end {process.loop_.name}: {why}")
        kind = why.split(":", maxsplit=1)[0]
        self.failures[kind] = self.failures.get(kind, 0) + 1
        self.graves.append(process)
        if process.failure is not None and not isinstance(process.failure, EXPECTED):
            self.watch.find("bug", f"{process.loop_.name}: {process.failure!r}")
        app = process.settings.app
        delay_s = self.restart_s.pop((app, machine), self.random.uniform(0.3, 2.0))
        self.schedule.after(delay_s, self.start, app, machine)

    def _met(self, what: str) -> None:
        self.watch.met[what] += 1

    def _appended(self, topic: str, partition: int) -> None:
        for process in list(self.processes.values()):
            process.wake(topic, partition)

    def shadow_for(self, partition: int, tick: Any) -> Any:
        """Return the state in which the checkers fold; see ``world_watch``."""
        if tick.tz_version != self.shadow_tz:
            self.shadow_tz = tick.tz_version
            rows = self.watch.rows
            self.watch.shadows = {
                n: load_state(
                    lambda table, n=n: rows.get(("wheel", table, n), {}), n, self.partitions
                )
                for n in range(self.partitions)
            }
        return self.watch.shadows[partition]

    def changelog(self, app: str, table: str) -> str:
        """Return the topic of a table's changelog."""
        return str(LAYOUTS[app].layout(self.partitions).changelogs[table])

    def inputs(self) -> dict[str, tuple[str, ...]]:
        """Return what each app reads."""
        return {app: LAYOUTS[app].layout(self.partitions).inputs for app in APPS}

    # -- what happens --------------------------------------------------------------------------

    def publish(self, topic: str, device_id: str, value: Any, *, misplaced: bool = False) -> None:
        """Append what a producer outside sends."""
        number = ids.partition_of(device_id, self.partitions)
        if misplaced:
            number = (number + 1) % self.partitions
        data = CODEC.encode(value) if isinstance(value, Record) else value
        self.broker.append(topic, number, device_id.encode(), data)

    def _wish(self, wish: Wish) -> None:
        if wish.how and not (wish.misplaced and self.partitions == 1):
            self.watch.met[wish.how] += 1
        name = device_name(wish.device)
        self.publish("schedule.events", name, wish.event, misplaced=wish.misplaced)

    def _profile(self, device: int) -> None:
        name = device_name(device)
        chance = self.plan.stream(f"profile/{device}")
        host = chance.choice(("", "10.0.0.7", "10.0.0.7"))
        self.publish("device.profiles", name, DeviceProfile(name, host, "http-json"))

    def _beat(self, device: int, chance: random.Random, number: int, lost: float) -> None:
        name = device_name(device)
        if chance.random() >= max(lost, self.beats_lost):
            beat = DeviceHeartbeat(name, number, self.true_ms(), chance.random(), 0.5, 0.0)
            if self.beats_late:
                self.watch.met["beats_late"] += 1
                held_s = self.random.uniform(0.0, self.beats_late)
                self.schedule.after(held_s, self._beaten, name, beat)
            else:
                self._beaten(name, beat)
        elif self.beats_lost:
            self.watch.met["beats_lost"] += 1
        late_s = 6.0 + chance.uniform(-1.0, 2.0)
        self.schedule.after(late_s, self._beat, device, chance, number + 1, lost)

    beats_lost = beats_late = 0.0

    def _beaten(self, name: str, beat: DeviceHeartbeat) -> None:
        self.publish("device.heartbeats", name, beat)
        if beat.sequence > self.newest.get(name, 0):  # else it says nothing new
            self.newest[name] = beat.sequence
            self.watch.beaten[name].append(self.true_ms())

    def begin(self) -> None:
        """Set up all that the plan says."""
        plan, at = self.plan, self.schedule.at
        for number in range(plan.machines):
            for app in APPS:
                if app != "devices" or plan.beats:
                    at(0.01 + 0.2 * number, self.start, app, number)
        for device in plan.devices:
            chance = plan.stream(f"device/{device}")
            at(chance.uniform(0.1, 1.0), self._profile, device)
            for wish in wishes(plan, device, EPOCH_S):
                at(wish.at_s, self._wish, wish)
            if plan.beats:
                beats = plan.stream(f"beats/{device}")
                lost = chance.choice((0.0, 0.1))
                at(beats.uniform(1.0, 6.0), self._beat, device, beats, 1, lost)
        for fault in plan.faults:
            at(fault.at_s, self._fault, fault)
            if fault.kind == "disk_old":
                at(fault.at_s * 0.7, self._backup, fault)

    # -- the run -------------------------------------------------------------------------------

    def over(self) -> bool:
        """Tell whether there is something to be told already."""
        return bool(self.watch.findings or self.broker.broken)

    def _clean(self) -> None:
        """End every process, and close what was never begun or is half done."""
        for process in [*self.graves, *self.processes.values()]:
            process.loop_.kill()
            for task in sorted(asyncio.all_tasks(process.loop_), key=hash):
                task._log_destroy_pending = False  # type: ignore[attr-defined]
                with contextlib.suppress(RuntimeError):
                    task.get_coro().close()  # type: ignore[union-attr]

    def run(self) -> Report:
        """Let it happen."""
        began_s = time.process_time()
        end_s = self.plan.seconds + (SETTLE_S if self.plan.kind != "fleet" else 60.0)
        self.begin()
        self.schedule.run(end_s, self.over)
        for text in self.broker.broken:
            self.watch.find("fence", text)
        if not self.watch.findings:
            final(self)
        if not self.watch.findings:
            audit(self)
        self.halted = True
        self._clean()
        watch = self.watch
        return Report(
            self.plan,
            watch.findings,
            watch.digest.hexdigest(),
            {
                **watch.counts,
                **{f"met {what}": count for what, count in watch.met.items()},
                "callbacks": self.schedule.callbacks,
            },
            list(watch.trace),
            self.schedule.now_s,
            time.process_time() - began_s,
            self.failures,
        )


def run(plan: Plan) -> Report:
    """Run a world without logs, and with no other threads."""
    logs = structlog.get_config()
    pool = read_ahead.ThreadPoolExecutor
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(50), cache_logger_on_first_use=False
    )
    read_ahead.ThreadPoolExecutor = _Inline  # type: ignore[misc,assignment]
    normal = [(module, name, getattr(module, name)) for module, name, _ in FLEET]
    collecting = gc.isenabled()
    gc.disable()
    try:
        for module, name, value in FLEET if plan.kind == "fleet" else ():
            setattr(module, name, value)
        with zone_data() as zones:
            return World(plan, zones).run()
    finally:
        read_ahead.ThreadPoolExecutor = pool  # type: ignore[misc]
        for module, name, value in normal:
            setattr(module, name, value)
        structlog.configure(**logs)
        if collecting:
            gc.enable()
