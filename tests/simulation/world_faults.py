"""What each kind of fault does to a world (the kinds are in ``world_plan.KINDS``)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from world_audit import audit
from world_machine import EPOCH_S
from world_move import move

if TYPE_CHECKING:
    from world_devices import Site
    from world_fold import ZoneData
    from world_log import Broker
    from world_loop import Schedule
    from world_machine import Machine
    from world_ntp import TimeSite
    from world_plan import Fault, Plan
    from world_process import Process
    from world_watch import Watch


class Faults:
    """The faults of a world, which is what this is a part of."""

    plan: Plan
    schedule: Schedule
    watch: Watch
    site: Site
    time: TimeSite
    broker: Broker
    zones: ZoneData
    machines: list[Machine]
    processes: dict[tuple[str, int], Process]
    restart_s: dict[tuple[str, int], float]
    beats_lost: float
    beats_late: float
    partitions: int
    moving: int
    halted: bool
    tz: str
    mirrored: set[tuple[int, int]]
    true_ms: Any
    start: Any
    _profile: Any
    _met: Any

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
            self._met(fault.kind)
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
            self._met("restart")
            process.stop()

    def _do_pause(self, fault: Fault, _machine: Machine) -> None:
        self._pause([p for p in [self._found(fault)] if p is not None], fault)

    _do_sleep = _do_pause

    def _do_pause_machine(self, fault: Fault, _machine: Machine) -> None:
        self._pause(self._all(fault), fault)

    def _pause(self, processes: list[Process], fault: Fault) -> None:
        for process in processes:
            if not process.loop_.stopped:
                self._met(fault.kind)
                process.suspend()
                self.schedule.after(fault.for_s, process.loop_.go_on)

    def _do_cut(self, fault: Fault, machine: Machine) -> None:
        machine.cut = True
        self.schedule.after(fault.for_s, setattr, machine, "cut", False)

    def _do_deaf(self, fault: Fault, machine: Machine) -> None:
        self._for(machine, "deaf", True, False, fault.for_s)

    def _do_disk_slow(self, fault: Fault, machine: Machine) -> None:
        self._for(machine, "disk_slow", fault.amount, 1.0, fault.for_s)

    def _do_slow(self, fault: Fault, machine: Machine) -> None:
        machine.slow = fault.amount
        self.schedule.after(fault.for_s, setattr, machine, "slow", 1.0)

    def _do_clock_step(self, fault: Fault, machine: Machine) -> None:
        machine.offset_s += fault.amount
        self._met("clock_step")

        def back() -> None:
            machine.offset_s -= fault.amount

        self.schedule.after(fault.for_s, back)

    def _do_ntp_silent(self, fault: Fault, _machine: Machine) -> None:
        self._for(self.time, "silent", True, False, fault.for_s)

    def _do_ntp_lies(self, fault: Fault, _machine: Machine) -> None:
        self._for(self.time, "lie_s", fault.amount, 0.0, fault.for_s)

    def _do_ntp_queues(self, fault: Fault, _machine: Machine) -> None:
        self._for(self.time, "queue_s", abs(fault.amount) / 4, 0.0, fault.for_s)

    def _do_disk_lost(self, fault: Fault, machine: Machine) -> None:
        self._kill(self._found(fault), fault, "crash")
        if any(machine.disk(fault.app).rows.values()):
            self._met("disk_lost")
        machine.disk(fault.app).lose()

    def _do_disk_old(self, fault: Fault, machine: Machine) -> None:
        old = machine.disks.get(f"old {fault.number}")
        self._kill(self._found(fault), fault, "crash")
        if old is not None:
            if old.offsets != machine.disk(fault.app).offsets:
                self._met("disk_old")
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

    def _do_beats_late(self, fault: Fault, _machine: Machine) -> None:
        """A gateway holds heartbeats back, each as long as it likes: they come out of order."""
        self._for(self, "beats_late", fault.amount, 0.0, fault.for_s)

    def _do_profile_again(self, _fault: Fault, _machine: Machine) -> None:
        for device in self.plan.devices[:3]:
            self._profile(device)
            self._met("profile_again")

    def _do_commands_again(self, _fault: Fault, _machine: Machine) -> None:
        """What a mirror of the topic may do: commands and revocations of the last seconds come again."""
        for number in range(self.partitions):
            records = self.broker.shelf("capture.commands", number).records[-4:]
            for record in records:
                young = record.timestamp > self.true_ms() - 8_000
                if young and (number, record.offset) not in self.mirrored:
                    again = self.broker.append("capture.commands", number, record.key, record.value)
                    self.mirrored.add((number, again))
                    self._met("commands_again")

    def _do_tz(self, fault: Fault, _machine: Machine) -> None:
        self._new_tz(fault, 30)

    def _do_tz_late(self, fault: Fault, _machine: Machine) -> None:
        """The clocks were moved two minutes ago, and nobody had said so."""
        self._new_tz(fault, -120)

    def _new_tz(self, fault: Fault, in_s: int) -> None:
        """A new version of the tz data is rolled out: all wheels start again with it."""
        wheels = [p for (app, _), p in self.processes.items() if app == "wheel"]
        for process in wheels:
            process.die("new tz data")
        self.tz = f"tz-{fault.number + 1}"
        shift_ms = int(fault.amount * 4) * 900_000 or 1_800_000
        self.zones.change(int(EPOCH_S + self.schedule.now_s) + in_s, shift_ms, self.tz)
        self.watch.counts["tz"] += 1
        self._met(fault.kind)

    def _do_repartition(self, fault: Fault, _machine: Machine) -> None:
        self._repartition(
            fault, self.partitions * 2 if self.partitions == 1 else self.partitions // 2
        )

    def _do_repartition_more(self, fault: Fault, _machine: Machine) -> None:
        self._repartition(fault, self.partitions * 2 if self.partitions < 8 else 2)

    def _repartition(self, fault: Fault, partitions: int) -> None:
        """Stop all workers, then copy."""
        if self.halted:
            return
        self._met(fault.kind)
        self.halted = True
        self.moving = partitions
        for process in self.processes.values():
            if not process.loop_.dead:
                process.stop()
        self.schedule.after(15.0, self._move)

    def _move(self) -> None:
        for process in self.processes.values():
            process.die("stopped at last")
        self.watch.note(f"{self.partitions} partitions become {self.moving}")
        audit(self, whole=False)  # type: ignore[arg-type]
        move(self, self.moving)  # type: ignore[arg-type]
        self.watch.counts["moved"] += 1
        self.halted = False
        for app, machine in sorted(self.processes):
            self.start(app, machine)
