"""Replays a range in a sandbox: real workers on real Kafka, by a clock of the past.

A sandbox is a namespace ``…-replay-…`` on the same cluster, with topics and workers of its own, a
folder of its own for state and photos, and simulated cameras. It gets the state as it stood
(``replay_pour.py``); the workers recover it, the clock starts, and what came from outside is poured
in as the clock comes to it. At the range's end every command must have its result; then the
shutters are laid beside those of the past, and everything is dropped.

**What real time still costs**: commits, cameras and connections take what they take. At xN the lead
of 5 s is 5/N s, and a photo that is 20 ms late is 20 N ms late by the sandbox's clock; lateness is
told in real time.
"""

from __future__ import annotations

import contextlib
import secrets
import shutil
import sys
import time
import urllib.request
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from connectors.cameras.simulated import LogEntry, device_id
from infra.kafka.admin import admin_client, create_topics, drop_topics
from infra.kafka.ports import free_port, port_is_free
from infra.kafka.topics import check_namespace
from schemas.errors import BrokerError, ShutterwheelError
from schemas.records import CaptureCommand, CaptureResult, CaptureRevoked
from shutterwheel.cluster import Cluster, ClusterOptions
from shutterwheel.replay_pace import Pace, leads_of, warning
from shutterwheel.replay_pour import make_plan
from shutterwheel.replay_writer import SandboxWriter
from shutterwheel.supervisor import Child
from streams.replay.log import KafkaLog
from streams.replay.what_if_diff import Accounting, Difference
from streams.runtime.sandbox_clock import MARK, SandboxTime, boottime_s

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from typing import Self

    from shutterwheel.cluster import Say
    from shutterwheel.replay_pour import Plan
    from shutterwheel.replay_run import Source
    from streams.replay.start import Began
    from streams.replay.what_if_policy import WhatIf

LOOK_S: Final = 0.05
CAMERAS_S: Final = 20.0
"""How long the cameras may take until they answer."""
DRAIN_S: Final = 30.0
"""How long the last results may take, in real time."""
SIMULATED: Final = ("127.0.0.0/8",)
"""The networks whose cameras the workers may contact, unless real ones are asked for."""
GROUPS_S: Final = 5.0
"""How long the broker may take to forget the groups."""
LATENESS: Final = (0.5, 0.99)
WAY: Final = 0.9
"""The share of commands that are at their workers no later than ``Pace.way_ms``."""
APPS: Final = ("wheel", "captures")


@dataclass(frozen=True, slots=True)
class SandboxOptions:
    """How a range is replayed."""

    kafka: str
    data: Path
    """Folder in which the sandbox has its own."""
    namespace: str
    """Of the sandbox."""
    speed: float = 1.0
    real_cameras: bool = False
    allow: tuple[str, ...] = ()
    """Networks of real cameras; empty: loopback and private ones."""
    keep: bool = False
    """Leave topics, state and photos as they are."""
    registry: str = ""
    capacity: int = 0
    replication: int = 1


@dataclass(slots=True)
class SandboxReport:
    """What became of it."""

    namespace: str
    speed: float
    schedules: int
    events: int
    """Poured in the range."""
    devices: int
    difference: Difference
    """``before``: the shutters of the past; ``after``: those of the sandbox."""
    states: Counter[str]
    unanswered: int
    """Commands of the range without a result."""
    shutters: int | None
    """Of the simulated cameras; null: real ones, which were not asked."""
    doubled: int
    """Commands for which a simulated camera opened its shutter more than once."""
    lateness_ms: dict[str, float]
    """Of first attempts, in real time."""
    took_s: float
    restarts: int
    kept: str = ""
    """Where photos and state are, if they were kept."""
    pace: Pace | None = None
    """Whether it kept up; null: nothing was to be done."""
    began: tuple[Began, ...] = ()
    """Where the folds began that told how things stood."""
    ticks_before: int = 0


class _End(NamedTuple):
    """What the results say."""

    states: Counter[str]
    unanswered: int
    late_ms: dict[str, float]
    """Of first attempts, by the sandbox's clock."""
    pace: Pace | None


def sandbox_name(namespace: str) -> str:
    """Return a namespace for a sandbox of a namespace, which nothing else has."""
    name = f"{namespace or 'main'}{MARK}{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"
    return check_namespace(name)


class Sandbox:
    """One replay; use it in ``with``: what was started and made is stopped and dropped."""

    def __init__(
        self,
        source: Source,
        options: SandboxOptions,
        say: Say,
        tell: Callable[[int], None] = lambda _at_ms: None,
        policy: WhatIf | None = None,
    ) -> None:
        """Take the range; ``tell`` is told the sandbox's time now and then."""
        self._source, self._options = source, options
        self._say, self._tell, self._policy = say, tell, policy
        self._folder = options.data.absolute() / options.namespace
        self._clock_file = self._folder / "clock.json"
        self._camera_port = 0
        self._numbers: dict[str, int] = {}
        self._cluster: Cluster | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- the run ---------------------------------------------------------------------------------

    def run(self) -> SandboxReport:
        """Replay the range and return what became of it."""
        options, source = self._options, self._source
        began_s = time.monotonic()
        self._say(f"working out how things stood, sandbox {options.namespace}")
        if not options.real_cameras:
            self._camera_port = free_port()
        plan = make_plan(source, None if options.real_cameras else self._address, self._policy)
        self._folder.mkdir(parents=True, exist_ok=True)
        begin = SandboxTime(source.from_ms, options.speed)
        begin.save(self._clock_file)
        create_topics(options.kafka, options.namespace, plan.partitions, options.replication)
        self._say(f"pouring {len(plan.first):,} records of state")
        writer = SandboxWriter(options.kafka, options.namespace)
        writer.write(plan.first)
        writer.flush()
        note = warning(options.speed, leads_of(plan.past))
        if note:
            self._say(note)
        cluster = self._start(plan)
        self._say(
            f"the clock starts, x{options.speed:g}: {plan.schedules:,} schedules, "
            f"{len(plan.timed):,} events to come"
        )
        clock = replace_anchor(begin)
        clock.save(self._clock_file)
        self._pour(plan, writer, clock, cluster)
        writer.flush()
        end = self._drain(clock, cluster)
        restarts = cluster.restarts
        shutters = None if options.real_cameras else self._shutters()
        cluster.stop()
        self._cluster = None
        found = self._compare(plan)
        return SandboxReport(
            options.namespace,
            options.speed,
            plan.schedules,
            len(plan.timed),
            len(plan.devices),
            found,
            end.states,
            end.unanswered,
            None if shutters is None else sum(shutters.values()),
            0 if shutters is None else sum(1 for many in shutters.values() if many > 1),
            {name: value / options.speed for name, value in end.late_ms.items()},
            time.monotonic() - began_s,
            restarts,
            str(self._folder) if options.keep else "",
            end.pace,
            tuple(plan.began),
            plan.ticks_before,
        )

    def _address(self, name: str) -> str:
        number = self._numbers.setdefault(name, len(self._numbers) + 1)
        return f"http://127.0.0.1:{self._camera_port}/cam/{device_id(number)}/snapshot.jpg"

    def _start(self, plan: Plan) -> Cluster:
        """Start the cameras and the workers, and wait until these have recovered."""
        options = self._options
        cluster = self._cluster = Cluster(
            ClusterOptions(
                data=self._folder,
                kafka=options.kafka,
                namespace=options.namespace,
                partitions=plan.partitions,
                replication=options.replication,
                allow=options.allow if options.real_cameras else SIMULATED,
                schema_registry=options.registry,
                capacity=options.capacity,
                sandbox_clock=self._clock_file,
            ),
            self._say,
        )
        if not options.real_cameras:
            command = [
                *(sys.executable, "-m", "connectors.cameras.simulated", "--tether"),
                *("--port", str(self._camera_port)),
                *("--devices", str(max(1, len(self._numbers)))),
            ]
            child = Child("cameras", command, self._folder / "logs" / "cameras.log")
            cluster.supervisor.add(child)
            deadline_s = time.monotonic() + CAMERAS_S
            while port_is_free(self._camera_port):
                if time.monotonic() > deadline_s:
                    raise ShutterwheelError(f"The cameras did not start: {child.last_words()}")
                time.sleep(LOOK_S)
        cluster.start()
        return cluster

    def _pour(
        self, plan: Plan, writer: SandboxWriter, clock: SandboxTime, cluster: Cluster
    ) -> None:
        """Pour what came from outside, each record as its time comes, to the end of the range."""
        at = 0
        while (now_ms := clock.at(boottime_s()) * 1000.0) < self._source.to_ms:
            due = at
            while due < len(plan.timed) and plan.timed[due].at_ms <= now_ms:
                due += 1
            if due > at:
                writer.write(plan.timed[at:due])
                at = due
            writer.poll()
            cluster.watch()
            self._tell(int(now_ms))
            left_s = (self._source.to_ms - now_ms) / 1000.0 / clock.speed
            time.sleep(min(LOOK_S, max(left_s, 0.0)))

    # -- its end ---------------------------------------------------------------------------------

    def _log(self) -> KafkaLog:
        return KafkaLog(self._options.kafka, self._options.namespace)

    def _commands(self) -> Iterator[tuple[int, CaptureCommand | CaptureRevoked]]:
        """Yield partition and record of all that the sandbox's wheel issued."""
        log = self._log()
        for number, end in log.ends("capture.commands").items():
            for batch in log.read("capture.commands", number, 0, end):
                for entry in batch:
                    found = self._source.codec.decode(entry.value or b"")
                    if isinstance(found, CaptureCommand | CaptureRevoked):
                        yield number, found

    def _is_mine(self, command: CaptureCommand) -> bool:
        return self._source.from_ms <= command.scheduled_ms < self._source.to_ms

    def _drain(self, clock: SandboxTime, cluster: Cluster) -> _End:
        """Wait until the commands of the range have their results, and look at these."""
        self._say("awaiting the last results")
        log, codec = self._log(), self._source.codec
        issued = {
            command.command_id: command
            for _, command in self._commands()
            if isinstance(command, CaptureCommand) and self._is_mine(command)
        }
        wanted = set(issued)
        states: Counter[str] = Counter()
        late: list[int] = []
        ways: list[int] = []
        at = dict.fromkeys(log.ends("capture.results"), 0)
        deadline_s = time.monotonic() + DRAIN_S
        ended_s = boottime_s()
        while True:
            for number, end in log.ends("capture.results").items():
                for batch in log.read("capture.results", number, at[number], end):
                    for entry in batch:
                        result = codec.decode_as(entry.value or b"", CaptureResult)
                        if result.command_id in wanted:
                            wanted.discard(result.command_id)
                            states[result.state] += 1
                            if result.shutter_at_ms is not None and result.attempt == 1:
                                late.append(result.shutter_at_ms - result.scheduled_ms)
                            if result.transitions:
                                tick_ms = issued[result.command_id].issued_at_ms
                                ways.append(result.transitions[0].at_ms - tick_ms)
                            ended_s = boottime_s()
                at[number] = max(at[number], end)
            if not wanted or time.monotonic() > deadline_s:
                break
            cluster.watch()
            self._tell(int(clock.at(boottime_s()) * 1000.0))
            time.sleep(0.2)
        late.sort()
        spread = {
            f"p{round(share * 100)}": float(late[min(len(late) - 1, int(share * len(late)))])
            for share in LATENESS
            if late
        } | ({"min": float(late[0]), "max": float(late[-1])} if late else {})
        pace = self._pace(clock, ended_s, leads_of(issued.values()), sorted(ways), states)
        return _End(states, len(wanted), spread, pace)

    def _pace(
        self,
        clock: SandboxTime,
        ended_s: float,
        leads: list[int],
        ways: list[int],
        states: Counter[str],
    ) -> Pace | None:
        """Return how it kept up; leads and ways in order, by the sandbox's clock."""
        if not leads or not ways or clock.anchor_s is None:
            return None
        took_s = max(ended_s - clock.anchor_s, 1e-3)
        range_s = (self._source.to_ms - self._source.from_ms) / 1000.0
        return Pace(
            clock.speed,
            min(range_s / took_s, clock.speed),
            took_s,
            len(leads),
            states["EXPIRED"],
            ways[int(WAY * (len(ways) - 1))] / clock.speed,
            leads[len(leads) // 2],
        )

    def _shutters(self) -> Counter[str]:
        """Return how often the simulated cameras opened a shutter, by command."""
        found: Counter[str] = Counter()
        since = 0
        while True:
            url = f"http://127.0.0.1:{self._camera_port}/log?since={since}"
            with urllib.request.urlopen(url, timeout=30.0) as answer:
                lines = answer.read().splitlines()
            for line in lines:
                entry = msgspec.json.decode(line, type=LogEntry)
                since = max(since, entry.seq)
                if entry.shutter:
                    found[entry.command_id] += 1
            if not lines:
                return found

    def _compare(self, plan: Plan) -> Difference:
        """Lay the shutters of the sandbox beside those of the past."""
        found = Accounting(0, 1 << 60)
        issued = [command for _, command in self._commands()]
        for after, side in ((False, plan.past), (True, issued)):
            found.issued(
                after,
                [one for one in side if isinstance(one, CaptureRevoked) or self._is_mine(one)],
            )
        return found.close()

    def close(self) -> None:
        """Stop what runs and drop what was made, unless it is to be kept."""
        if self._cluster is not None:
            self._cluster.stop()
            self._cluster = None
        options = self._options
        if options.keep:
            return
        with contextlib.suppress(BrokerError):
            dropped = drop_topics(options.kafka, options.namespace)
            self._say(f"dropped {len(dropped)} topics of {options.namespace}")
        _forget_groups(options.kafka, options.namespace)
        shutil.rmtree(self._folder, ignore_errors=True)


def replace_anchor(clock: SandboxTime) -> SandboxTime:
    """Return the clock started now."""
    return msgspec.structs.replace(clock, anchor_s=boottime_s())


def _forget_groups(kafka: str, namespace: str) -> None:
    """Delete the groups of a sandbox; one that a worker has not left yet is left to expire."""
    from confluent_kafka import KafkaException

    groups = [f"{namespace}.{app}" for app in APPS]
    admin = admin_client(kafka)  # kept: the answers come through it
    asked = admin.delete_consumer_groups(groups, request_timeout=GROUPS_S)
    for answer in asked.values():
        with contextlib.suppress(KafkaException, TimeoutError):
            answer.result(2 * GROUPS_S)
