"""Capacity: how many captures a second go from command to result.

**Backlog** (``null-camera``): all commands are there before the captures worker starts, so it works
as fast as it can, from reading a command to its committed result: PENDING, RUNNING, shutter,
picture stored, SUCCESS. Each device has ``once`` schedules with a lead of an hour, so that the
wheel issues their commands at once; when their time has come the wheel is stopped and the captures
worker started. The rate is over the middle 80 % of the results, by their record timestamps. Every
device has a profile; ``CAPTURES`` photos are taken, of devices chosen evenly, several of each where
there are fewer devices. There are no ended captures in the devices' rows at first; a fleet that has
run for a while has up to 16.

- "in memory": the pictures stay in the worker. The control plane and nothing else.
- "in a folder": as a user has it; each picture is a file.
- "2 workers": as many captures workers, each with half of the partitions and twice the photos in
  all. A worker's decisions are the work of one core; this is what the machine does with a second.
- ``accepted_per_s``: schedules a second from event to decision and command, publisher included.

**Sustained** (both cameras): wheel and captures work at the same time on a paced load
(``load.py``), doubled until less than 95 % of it is reached. The figures are the most that was
reached, and how late its photos were; and what came of the load beyond (``overload_…``): the rest
of it ended EXPIRED. Wheel, captures, broker, and the cameras where they are on sockets, share the
machine. Pictures of null cameras stay in memory, those of sockets are files. With many partitions
the load runs for a minute before the window: the broker makes files for each.

``--partitions 8,1024`` measures each case with so many: a transaction costs a marker a partition it
touches, and a fetch what it asks of each.

``cpu_us_per_capture`` is CPU time of a process, user and system, by photograph; ``elsewhere`` is
what everything else on the machine took, this program included. ``stage_us_…`` is where a captures
worker's time goes (elapsed, by photograph): on the event loop ``commands`` (decode, PENDING),
``arm`` (RUNNING), ``open`` and ``decide`` (SUCCESS and result); beside it, in the commit's thread,
``produce``, ``flush``, ``end`` (offsets and commit) and ``store``. What is missing to the worker's
CPU is the camera, the blob store, asyncio and Kafka's own threads.

A backlog's photographs may not be fewer than its commands (``not_photographed``): then the program
ends with exit code 1.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Final, NamedTuple

from confluent_kafka import TopicPartition

from benchmarks.load import (
    DRAIN_S,
    LOOK_S,
    MANY_PARTITIONS,
    PARTITIONS,
    SCHEDULE,
    Cpu,
    Load,
    Rig,
    device_ids,
    metric_sum,
    paced,
    profiles,
)
from benchmarks.options import chosen
from benchmarks.result import Row, rows_of
from connectors.clients import events
from connectors.clients.batch import WINDOW
from infra.kafka.offsets import stable_offsets
from infra.kafka.topics import topic_name
from schemas.codec import Codec
from schemas.errors import BrokerError
from schemas.records import CaptureResult
from schemas.select import schema_ids
from shutterwheel.check import offsets_now
from shutterwheel.evidence import RESULTS, Reader
from streams.agents import capture_executor, device_profiles, timing_wheel
from streams.core.transition import SUCCESS, TERMINAL
from streams.replay.cut import group_name

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.options import Options
    from schemas.records import ScheduleEvent
    from shutterwheel.check import Spread
    from shutterwheel.cluster import Cluster

MEMORY, FOLDER, SUSTAINED, SOCKETS = "memory", "folder", "sustained", "sockets"
CASES: Final = (MEMORY, FOLDER, SUSTAINED, SOCKETS)
"""Backlog with pictures in memory and in a folder, sustained with null cameras and on sockets."""
DEVICES: Final = (10_000, 100_000)
QUICK_DEVICES: Final = (2_000,)
CAPTURES: Final = 30_000
"""Captures of a backlog by a worker, about: enough for a steady state, and not more than are worked
off in the ``TIMEOUT`` of one, as all shutters open at once and each picture waits for its turn."""
QUICK_CAPTURES: Final = 10_000
WORKERS: Final = (1, 2)
FIRST: Final = 1_000
"""Schedules by which it is seen how fast a wheel accepts them here and now."""
FIRST_AHEAD_MS: Final = 60_000
"""How long before their time these are published: enough for 17 a second."""
LEAST_AHEAD_MS: Final = 10_000
RESULTS_PER_S: Final = 300
"""A captures worker does at least so many: when waiting is given up."""
FIRST_RATE: Final = 500.0
MAX_RATE: Final = 64_000.0
REACHED: Final = 0.95
QUIET_S: Final = 10.0
"""A backlog that gave no result for so long is worked off: longer than any retry's pause."""
TIMEOUT: Final = "60s"
"""The longest there can be."""
ISSUED: Final = ("wheel", "shutterwheel_commands_issued_total")
SOCKET_DEVICES: Final = 5_000
WARM_UP_S: Final = 70.0
"""Of a load on many partitions: for so long a broker makes files."""


def backlog(rig: Rig, devices: int, captures: int, blobs: str, workers: int = 1) -> list[Row]:
    """Measure one backlog; ``captures`` are a worker's."""
    captures *= workers
    chosen = list(islice(device_ids(devices), 0, None, max(1, devices // captures)))
    each = -(-captures // len(chosen))
    total = each * len(chosen)
    where = "in memory" if blobs else "in a folder"
    case = f"null-camera backlog, {devices:,} devices, pictures {where}{_parted(rig)}"
    case += _manned(workers)
    namespace = rig.new_namespace()
    rig.say(f"{case}: publishing {devices:,} profiles, {total:,} schedules")
    with rig.cluster(namespace) as cluster:
        rig.publish(cluster, profiles(devices, None))
        _until_known(rig, cluster, devices)
    with rig.cluster(namespace, captures=0) as cluster:
        schedules = Schedules(chosen, each)
        first_s = accepting_s = rig.publish(cluster, schedules.some(FIRST))
        accepted = min(FIRST, total)
        if total > FIRST:
            schedules.ahead_ms = ahead_ms(FIRST / first_s, total - FIRST)
            accepted, accepting_s = total - FIRST, rig.publish(cluster, schedules.some(total))
        _until_issued(cluster, total)
    left_s = schedules.last_due_ms / 1000 - time.time()
    if left_s > 0:
        rig.say(f"{case}: their time comes in {left_s:.0f} s")
        time.sleep(left_s)
    rig.say(f"{case}: working it off")
    with rig.cluster(namespace, wheels=0, captures=workers, blobs=blobs) as cluster:
        cpu, cpu_s = Cpu(rig.pids(cluster)), dict[str, float]()
        longest_s = DRAIN_S + total / RESULTS_PER_S
        if not rig.drain(cluster, longest_s, QUIET_S, lambda: cpu_s.update(cpu.spent_s())):
            raise BrokerError(f"{case}: not worked off in time")
        restarts, stages_s = cluster.restarts, rig.stages_s(cluster)
    others = Counter[str]()
    times_ms = sorted(_photographed(rig, namespace, others))
    for how, count in others.most_common(5):
        rig.say(f"{case}: {count:,} {how}")
    figures: dict[tuple[str, str], float | None] = {
        ("captures_per_s", "1/s"): steady_per_s(times_ms),
        ("captures", "1"): len(times_ms),
        ("not_photographed", "1"): total - len(times_ms),
        ("accepted_per_s", "1/s"): accepted / accepting_s,
        ("worker_restarts", "1"): restarts,
    }
    for process, spent_s in cpu_s.items():
        figures[f"cpu_us_per_capture_{process}", "us"] = spent_s * 1e6 / max(1, len(times_ms))
    for stage, seconds in stages_s.items():
        figures[f"stage_us_{stage}", "us"] = seconds * 1e6 / max(1, len(times_ms))
    return rows_of(case, figures)


def _until_known(rig: Rig, cluster: Cluster, devices: int) -> None:
    """Wait until both apps have taken in the profiles, and say how far they are.

    For the captures worker a command for a stranger fails; the wheel would read them together with
    the schedules, whose time may be over by the time it gets to them.
    """
    namespace = cluster.options.namespace
    topic = topic_name(namespace, device_profiles.TOPIC)
    read = [TopicPartition(topic, number) for number in range(rig.partitions)]
    groups = [group_name(namespace, app) for app in (timing_wheel.APP, capture_executor.APP)]
    there, heard_s = 0, time.monotonic()
    while there < len(groups) * devices:
        before, there = there, 0
        for group in groups:
            taken = stable_offsets(rig.kafka, group, read, DRAIN_S)
            there += sum(max(0, part.offset) for part in taken)
        if there > before:
            heard_s = time.monotonic()
        elif time.monotonic() - heard_s > DRAIN_S:
            raise BrokerError(f"of {2 * devices:,} profiles to be taken in {there:,} are")
        cluster.watch()
        time.sleep(LOOK_S)


def _until_issued(cluster: Cluster, wanted: int) -> None:
    """Wait for the tick that follows the last schedule's acceptance: it is what issues commands."""
    deadline_s = time.monotonic() + DRAIN_S
    while (issued := metric_sum(cluster, *ISSUED)) < wanted:
        if time.monotonic() > deadline_s:
            raise BrokerError(f"of {wanted:,} schedules {issued:,} became commands")
        cluster.watch()
        time.sleep(LOOK_S)


def ahead_ms(accepted_per_s: float, count: int) -> int:
    """Return how long before its time a schedule of so many is published, in milliseconds.

    Twice what a wheel takes for those that are undecided: ``WINDOW`` at most.
    """
    return LEAST_AHEAD_MS + round(2_000 * min(WINDOW, count) / accepted_per_s)


class Schedules:
    """The schedules of a backlog: each is due a while after it is asked for, none before another.

    How long a while is to be known from how fast the first of them are accepted.
    """

    def __init__(self, chosen: list[str], each: int) -> None:
        self.ahead_ms = FIRST_AHEAD_MS
        self.last_due_ms = 0
        self._base_ms = 0
        self._left = iter([(number, device) for number in range(each) for device in chosen])

    def some(self, count: int) -> Iterator[ScheduleEvent]:
        """Yield so many, or what is left; a device's are a millisecond apart, as others are."""
        for number, device_id in islice(self._left, count):
            self._base_ms = max(self._base_ms, time.time_ns() // 1_000_000 + self.ahead_ms)
            self.last_due_ms = max(self.last_due_ms, self._base_ms + number)
            yield events.upserted(
                device_id, f"{SCHEDULE}-{number}", at=self._base_ms + number, lead="1h",
                catch_up="1h", timeout=TIMEOUT,
            )  # fmt: skip


def _photographed(rig: Rig, namespace: str, others: Counter[str]) -> Iterator[int]:
    """Yield the record timestamp, in milliseconds, of every SUCCESS; count how others ended."""
    codec, topic = Codec(schema_ids()), topic_name(namespace, RESULTS)
    ends = offsets_now(rig.kafka, namespace)
    reader = Reader(rig.kafka, codec, ends, lambda _what, _done, _total: None)
    for message in reader.messages(topic, {at: 0 for at in ends if at[0] == topic}):
        result = codec.decode_as(message.value() or b"", CaptureResult)
        if result.state == SUCCESS:
            yield message.timestamp()[1]
        elif result.state in TERMINAL:
            others[f"{result.state}: {result.cause}"] += 1


def steady_per_s(times_ms: list[int]) -> float | None:
    """Return the rate of the middle 80 % of sorted times; None where they are too few."""
    low, high = len(times_ms) // 10, len(times_ms) * 9 // 10
    if high <= low or times_ms[high] == times_ms[low]:
        return None
    return (high - low) * 1000 / (times_ms[high] - times_ms[low])


class _Reached(NamedTuple):
    """What came of a load."""

    per_s: float
    offered_per_s: float
    late: Spread | None


def sustained(rig: Rig, load: Load) -> list[Row]:
    """Double a paced load until it is not reached; return what was, and what came of too much."""
    rate, cpu_us = load.per_s, dict[str, float]()
    best = over = _Reached(0.0, 0.0, None)
    while rate <= MAX_RATE:
        measured = paced(rig, replace(load, per_s=rate))
        # More than was offered is what had been left over when the window began.
        achieved = min(rate, measured.report.captures_per_s or 0.0)
        spread = measured.report.lateness_ms
        lateness = f", late by {spread.p50:,.0f} ms, p99 {spread.p99:,.0f} ms" if spread else ""
        rig.say(f"{measured.load.case}: achieved {achieved:,.0f}/s{lateness}")
        reached = achieved >= REACHED * rate and measured.drained
        if reached or not best.offered_per_s:
            best = _Reached(achieved, rate, spread)
            taken = max(1.0, achieved * measured.window_s)
            cpu_us = {name: spent * 1e6 / taken for name, spent in measured.cpu_s.items()}
        if not reached:
            over = _Reached(achieved, rate, spread)
            break
        rate *= 2
    case = "cameras on sockets" if load.sockets else "null-camera"
    case += f" sustained, {load.devices:,} devices{_parted(rig)}{_manned(load.workers)}"
    figures: dict[tuple[str, str], float | None] = {}
    for when, found in (("", best), ("overload_", over)):
        if found.offered_per_s:
            figures |= {
                (f"{when}captures_per_s", "1/s"): found.per_s,
                (f"{when}offered_per_s", "1/s"): found.offered_per_s,
                (f"{when}late_p50_ms", "ms"): found.late.p50 if found.late else None,
                (f"{when}late_p99_ms", "ms"): found.late.p99 if found.late else None,
            }
    for process, us in cpu_us.items():
        figures[f"cpu_us_per_capture_{process}", "us"] = us
    return rows_of(case, figures)


def _parted(rig: Rig) -> str:
    return "" if rig.partitions == PARTITIONS else f", {rig.partitions:,} partitions"


def _manned(workers: int) -> str:
    return f", {workers} workers" if workers > 1 else ""


def run(options: Options, rig: Rig) -> Iterator[Row]:
    """Measure every case."""
    quick = options.quick
    sizes = options.devices or (QUICK_DEVICES if quick else DEVICES)
    captures = QUICK_CAPTURES if quick else CAPTURES
    seconds = options.seconds or (8.0 if quick else 20.0)
    first = options.rates[0] if options.rates else FIRST_RATE
    cases = chosen(options.cases, CASES, "case")
    for rig.partitions in options.partitions or (PARTITIONS,):
        for devices in sizes:
            for blobs, case in (("memory://", MEMORY), ("", FOLDER)):
                for workers in (options.workers or WORKERS) if case in cases else ():
                    yield from backlog(rig, devices, captures, blobs, workers)
        load = Load(sizes[0], first, seconds)
        if rig.partitions > MANY_PARTITIONS:
            load = replace(load, warm_up_s=WARM_UP_S)
        for workers in (options.workers or (1,)) if SUSTAINED in cases else ():
            yield from sustained(rig, replace(load, blobs="memory://", workers=workers))
        if SOCKETS in cases:
            few = min(sizes[0], SOCKET_DEVICES)
            yield from sustained(rig, replace(load, devices=few, sockets=True))
