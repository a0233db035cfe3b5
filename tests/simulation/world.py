"""A deterministic world: what a plan says, on virtual time, with the real agents (ADR 0026).

``run(plan)`` returns what the checkers found, a hash of all that happened, and counts. The same
plan gives the same hash in any process.
"""

from __future__ import annotations

import gc
import random
import time
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import structlog

from schemas.records import DeviceHeartbeat, DeviceProfile, Record
from streams.agents import capture_executor, device_health, read_ahead, timing_wheel
from streams.agents.capture_executor import CaptureExecutor
from streams.agents.capture_settings import AdmissionSettings, ExecutorSettings
from streams.agents.device_health import HealthWatch
from streams.agents.timing_wheel import TimingWheel, WheelSettings
from streams.core import ids
from streams.core.health import HealthSettings
from world_devices import Site, SitePhotos
from world_end import final
from world_fold import ZoneData, load_state, zone_data
from world_log import Broker, Coordinator
from world_loop import Schedule
from world_machine import EPOCH_S, Machine
from world_move import move
from world_plan import APPS, SETTLE_S, Fault, Plan, Wish, device_name, wishes
from world_process import EXPECTED, Process
from world_watch import CODEC, SILENCE_MS, Watch

if TYPE_CHECKING:
    from collections.abc import Callable

SESSION_S = 6.0
EXECUTOR = ExecutorSettings(admission=AdmissionSettings(per_host=2))
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


class World:
    """One world."""

    def __init__(self, plan: Plan, zones: ZoneData | None = None) -> None:
        self.plan = plan
        self.zones = zones or ZoneData()
        self.schedule = Schedule()
        self.partitions = plan.partitions
        self.watch = Watch(plan, plan.partitions)
        self.watch.world = self
        self.site = Site(self.schedule, plan, self.watch)
        self.random = plan.stream("world")
        self.tz = "tz-0"
        self.failures: dict[str, int] = {}
        self.graves: list[Process] = []
        """Dead processes, so that what they hold is not collected in the middle of the world."""
        self.restart_s: dict[tuple[str, int], float] = {}
        self.halted = False
        self.moving = 0
        """How many partitions there will be when all workers have stopped; 0: as many as now."""
        self.shadow_tz = self.tz
        self.broker = self.make_broker()
        self.machines = [self._machine(n) for n in range(plan.machines)]
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
            offset_s=chance.choice((0.0, chance.uniform(-0.05, 0.05), *(chance.choice((-0.9, 0.9)),) * 2)),
            drift=chance.uniform(-50e-6, 50e-6),
            booted_s=chance.uniform(100.0, 1e6),
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
        )
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
                process.settings, settings, CODEC, clock, metrics, self.partitions
            )
        elif app == "captures":
            photos = SitePhotos(self.site, process)
            program = CaptureExecutor(
                process.settings, EXECUTOR, photos, CODEC, clock, metrics, self.partitions
            )
        else:
            program = HealthWatch(HealthSettings(timeout_ms=SILENCE_MS), CODEC, clock, metrics, self.partitions)
        opened = program.opened

        def watched(partition: Any) -> None:
            opened(partition)
            process.books.append(partition.state)
            self.watch.opened(process, partition)

        program.opened = watched
        return program

    def _ended(self, process: Process, machine: int, why: str) -> None:
        self.watch.note(f"end {process.loop_.name}: {why}")
        self.failures[why.split(":")[0]] = self.failures.get(why.split(":")[0], 0) + 1
        self.graves.append(process)
        if process.failure is not None and not isinstance(process.failure, EXPECTED):
            self.watch.find("bug", f"{process.loop_.name}: {process.failure!r}")
        app = process.settings.app
        delay_s = self.restart_s.pop((app, machine), self.random.uniform(0.3, 2.0))
        self.schedule.after(delay_s, self.start, app, machine)

    def _appended(self, topic: str, partition: int) -> None:
        for process in list(self.processes.values()):
            process.wake(topic, partition)

    def shadow_for(self, partition: int, tick: Any) -> Any:
        """Return the state in which the checkers fold; see ``world_watch``."""
        if tick.tz_version != self.shadow_tz:
            self.shadow_tz = tick.tz_version
            rows = self.watch.rows
            self.watch.shadows = {
                n: load_state(lambda table, n=n: rows.get(("wheel", table, n), {}), n, self.partitions)
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
        self.publish(
            "schedule.events", device_name(wish.device), wish.event, misplaced=wish.misplaced
        )

    def _profile(self, device: int) -> None:
        name = device_name(device)
        chance = self.plan.stream(f"profile/{device}")
        host = chance.choice(("", "", "10.0.0.7"))
        self.publish("device.profiles", name, DeviceProfile(name, host, "http-json"))

    def _beat(self, device: int, chance: random.Random, number: int, lost: float) -> None:
        name = device_name(device)
        if chance.random() >= max(lost, self.beats_lost):
            beat = DeviceHeartbeat(name, number, self.true_ms(), chance.random(), 0.5, 0.0)
            self.publish("device.heartbeats", name, beat)
            self.watch.beaten[name].append(self.true_ms())
        late_s = 6.0 + chance.uniform(-1.0, 2.0)
        self.schedule.after(late_s, self._beat, device, chance, number + 1, lost)

    beats_lost = 0.0

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

    # -- faults --------------------------------------------------------------------------------

    def _backup(self, fault: Fault) -> None:
        machine = self.machines[fault.machine]
        machine.disks[f"old {fault.number}"] = machine.disk(fault.app).copied()

    def _fault(self, fault: Fault) -> None:
        self.watch.note(f"fault {fault.text()}")
        self.watch.counts["faults"] += 1
        getattr(self, f"_do_{fault.kind}")(fault, self.machines[fault.machine])

    def _found(self, fault: Fault) -> Process | None:
        process = self.processes.get((fault.app, fault.machine))
        return None if process is None or process.loop_.dead else process

    def _all(self, fault: Fault) -> list[Process]:
        return [
            p for (_, m), p in self.processes.items() if m == fault.machine and not p.loop_.dead
        ]

    def _kill(self, process: Process | None, fault: Fault, why: str) -> None:
        if process is not None:
            self.restart_s[process.settings.app, fault.machine] = fault.for_s
            process.die(why)

    def _do_crash(self, fault: Fault, _machine: Machine) -> None:
        self._kill(self._found(fault), fault, "crash")

    def _do_crash_after_commit(self, fault: Fault, _machine: Machine) -> None:
        if (process := self._found(fault)) is not None:
            process.transactor.dies_after_commit = True

    def _do_crash_machine(self, fault: Fault, _machine: Machine) -> None:
        for process in self._all(fault):
            self._kill(process, fault, "crash")

    def _do_restart(self, fault: Fault, _machine: Machine) -> None:
        if (process := self._found(fault)) is not None:
            process.stop()

    def _do_pause(self, fault: Fault, _machine: Machine) -> None:
        self._pause([p for p in [self._found(fault)] if p is not None], fault)

    def _do_pause_machine(self, fault: Fault, _machine: Machine) -> None:
        self._pause(self._all(fault), fault)

    def _pause(self, processes: list[Process], fault: Fault) -> None:
        for process in processes:
            if not process.loop_.stopped:
                process.suspend()
                self.schedule.after(fault.for_s, process.loop_.go_on)

    def _do_cut(self, fault: Fault, machine: Machine) -> None:
        machine.cut = True
        self.schedule.after(fault.for_s, setattr, machine, "cut", False)

    def _do_slow(self, fault: Fault, machine: Machine) -> None:
        machine.slow = fault.amount
        self.schedule.after(fault.for_s, setattr, machine, "slow", 1.0)

    def _do_clock_step(self, fault: Fault, machine: Machine) -> None:
        machine.offset_s += fault.amount

        def back() -> None:
            machine.offset_s -= fault.amount

        self.schedule.after(fault.for_s, back)

    def _do_disk_lost(self, fault: Fault, machine: Machine) -> None:
        self._kill(self._found(fault), fault, "crash")
        machine.disk(fault.app).lose()

    def _do_disk_old(self, fault: Fault, machine: Machine) -> None:
        old = machine.disks.get(f"old {fault.number}")
        self._kill(self._found(fault), fault, "crash")
        if old is not None:
            machine.disk(fault.app).restore(old)

    def _for(self, thing: Any, name: str, value: Any, normal: Any, for_s: float) -> None:
        setattr(thing, name, value)
        self.schedule.after(for_s, setattr, thing, name, normal)

    def _do_cameras_hang(self, fault: Fault, _machine: Machine) -> None:
        self._for(self.site, "hang_share", fault.amount, 0.0, fault.for_s)

    def _do_cameras_fail(self, fault: Fault, _machine: Machine) -> None:
        self._for(self.site, "fail_share", fault.amount, 0.0, fault.for_s)

    def _do_blobs_slow(self, fault: Fault, _machine: Machine) -> None:
        self._for(self.site, "blobs_slow_s", fault.amount, 0.0, fault.for_s)

    def _do_blobs_down(self, fault: Fault, _machine: Machine) -> None:
        self._for(self.site, "blobs_down", True, False, fault.for_s)

    def _do_beats_lost(self, fault: Fault, _machine: Machine) -> None:
        self._for(self, "beats_lost", fault.amount, 0.0, fault.for_s)

    def _do_profile_again(self, _fault: Fault, _machine: Machine) -> None:
        for device in self.plan.devices[:3]:
            self._profile(device)

    def _do_commands_again(self, _fault: Fault, _machine: Machine) -> None:
        """What a mirror of the topic may do: commands and revocations of the last seconds come again."""
        for number in range(self.partitions):
            records = self.broker.shelf("capture.commands", number).records[-4:]
            for record in records:
                young = record.timestamp > self.true_ms() - 8_000
                if young:
                    self.broker.append("capture.commands", number, record.key, record.value)

    def _do_tz(self, fault: Fault, _machine: Machine) -> None:
        """A new version of the tz data is rolled out: all wheels start again with it."""
        wheels = [p for (app, _), p in self.processes.items() if app == "wheel"]
        for process in wheels:
            process.die("new tz data")
        self.tz = f"tz-{fault.number + 1}"
        shift_ms = int(fault.amount * 4) * 900_000 or 1_800_000
        self.zones.change(int(EPOCH_S + self.schedule.now_s) + 30, shift_ms)
        self.watch.counts["tz"] += 1

    def _do_repartition(self, fault: Fault, _machine: Machine) -> None:
        """Stop all workers, then copy."""
        if self.halted:
            return
        self.halted = True
        self.moving = self.partitions * 2 if self.partitions == 1 else self.partitions // 2
        for process in self.processes.values():
            if not process.loop_.dead:
                process.stop()
        self.schedule.after(15.0, self._move)

    def _move(self) -> None:
        for process in self.processes.values():
            process.die("stopped at last")
        self.watch.note(f"{self.partitions} partitions become {self.moving}")
        move(self, self.moving)
        self.watch.counts["moved"] += 1
        self.halted = False
        for app, machine in sorted(self.processes):
            self.start(app, machine)

    # -- the run -------------------------------------------------------------------------------

    def over(self) -> bool:
        """Tell whether there is something to be told already."""
        return bool(self.watch.findings or self.broker.broken)

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
        self.halted = True
        for process in self.processes.values():
            process.loop_.kill()
        watch = self.watch
        return Report(
            self.plan,
            watch.findings,
            watch.digest.hexdigest(),
            {**watch.counts, "callbacks": self.schedule.callbacks},
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
