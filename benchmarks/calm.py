"""Calm: 10,000 cameras that take every request and never answer, all due at one moment, and beside
them 100 good ones. Do the good ones wait for the others?

Wheel, one captures worker, a real broker, and one process of simulated cameras on sockets that is
good and bad by device. The good cameras have a photo a second each, spread over the second. The bad
ones have a schedule of half a minute without spread: 10,000 shutters at one moment, each of which
holds a connection until its timeout of 3 s (one in ten drips a byte a second instead), and by the
default policy is tried again. The first case is the good ones alone.

``good_late_…`` is from the scheduled millisecond to the shutter of the good cameras, as the results
record it; ``at the camera`` is when the simulated camera had the request. ``bad: …`` is what became
of the bad ones' captures of the window. Early photos, and photos of good cameras that were not
taken, make the run fail.
"""

from __future__ import annotations

import time
import urllib.request
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import msgspec
import psutil

from benchmarks.load import LOOK_S, Cpu, camera_log, simulated_cameras
from benchmarks.options import chosen
from benchmarks.result import OURS, Row
from connectors.blobs.store import BlobStore
from connectors.cameras.faults import Fault
from connectors.cameras.simulated import device_id
from connectors.clients import events
from schemas.records import CaptureCommand
from shutterwheel.check import spread
from shutterwheel.evidence import gather, offsets_now
from streams.core.transition import SUCCESS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from benchmarks.load import Rig
    from benchmarks.options import Options
    from schemas.records import CaptureResult
    from shutterwheel.cluster import Cluster

GOOD: Final = 100
BAD: Final = 10_000
QUICK_BAD: Final = 1_000
GOOD_EVERY_MS: Final = 1_000
BAD_EVERY_MS: Final = 30_000
DRIP_OF: Final = 10
"""One in so many of the bad cameras drips."""
SETTLE_S: Final = 3.0
WINDOW_S: Final = 30.0
"""A period of the bad ones, so that one of their moments lies in it."""
DRAIN_S: Final = 20.0
CASES: Final = ("alone", "beside")


@dataclass(slots=True)
class Held:
    """The most a captures worker held in the window."""

    files: int = 0
    memory_mib: float = 0.0

    def look(self, processes: Sequence[psutil.Process]) -> None:
        """Take what they hold now."""
        self.files = max(self.files, sum(process.num_fds() for process in processes))
        used = sum(process.memory_info().rss for process in processes) / 2**20
        self.memory_mib = max(self.memory_mib, used)


@dataclass(slots=True)
class Found:
    """What became of the captures of a window."""

    late_ms: list[int] = field(default_factory=list)
    at_camera_us: list[int] = field(default_factory=list)
    good: Counter[str] = field(default_factory=Counter)
    bad: Counter[str] = field(default_factory=Counter)
    retried: int = 0
    early: int = 0


def run(options: Options, rig: Rig) -> Iterator[Row]:
    """Run the good ones alone, and beside the bad ones."""
    bad = options.devices[0] if options.devices else QUICK_BAD if options.quick else BAD
    for case in chosen(options.cases, CASES, "case"):
        yield from measure(rig, 0 if case == "alone" else bad, options.seconds or WINDOW_S)


def measure(rig: Rig, bad: int, seconds: float) -> Iterator[Row]:
    """Run one case."""
    case = f"{GOOD} good cameras" + (f" beside {bad:,} that never answer" if bad else " alone")
    namespace = rig.new_namespace()
    with ExitStack() as stack:
        port, camera_pid = stack.enter_context(simulated_cameras(GOOD + bad))
        break_cameras(port, bad)
        rig.say(f"{case}: starting workers")
        cluster = stack.enter_context(rig.cluster(namespace))
        rig.say(f"{case}: publishing profiles and schedules")
        since = offsets_now(rig.kafka, namespace)
        devices = [device_id(number) for number in range(1, GOOD + bad + 1)]
        address = f"http://127.0.0.1:{port}/cam"
        rig.publish(cluster, (events.profile(d, f"{address}/{d}/snapshot.jpg") for d in devices))
        publish_schedules(rig, cluster, devices)
        hold(cluster, SETTLE_S)
        rig.say(f"{case}: measuring for {seconds:g} s")
        from_ms = int(time.time() * 1000) + 1
        pids = rig.pids(cluster, cameras=camera_pid)
        cpu, held = Cpu(pids), Held()
        workers = [psutil.Process(pid) for name, pid in pids.items() if name.startswith("captures")]
        hold(cluster, seconds, held, workers)
        spent_s, until_ms = cpu.spent_s(), int(time.time() * 1000)
        rig.say(f"{case}: draining")
        rig.publish(cluster, (events.cancelled(d, "calm") for d in devices))
        rig.drain(cluster, DRAIN_S)
        store = BlobStore.open(cluster.blobs)
        try:
            facts = gather(rig.kafka, namespace, store, since, from_ms)
            due = [c for c in facts.commands if isinstance(c, CaptureCommand)]
            results = [seen.result for seen in facts.results]
        finally:
            store.close()
        arrived = {entry.command_id: entry.at_us for entry in camera_log(port) if entry.shutter}
        restarts = cluster.restarts
    found = sort_out(due, results, arrived, (from_ms, until_ms))
    yield from rows(case, found, held, {name: s / seconds for name, s in spent_s.items()})
    yield Row(case, OURS, "restarts", restarts, "1")


def break_cameras(port: int, bad: int) -> None:
    """Make all cameras but the good ones bad."""
    faults = {
        device_id(number): Fault("drip", delay_ms=1_000)
        if number % DRIP_OF == 0
        else Fault("never")
        for number in range(GOOD + 1, GOOD + bad + 1)
    }
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/faults", msgspec.json.encode(faults), method="POST"
    )
    urllib.request.urlopen(request, timeout=60).close()  # noqa: S310


def publish_schedules(rig: Rig, cluster: Cluster, devices: list[str]) -> None:
    """Put every camera on its schedule."""
    every, rare = GOOD_EVERY_MS, BAD_EVERY_MS
    rig.publish(cluster, (events.upserted(d, "calm", every=rare) for d in devices[GOOD:]))
    rig.publish(
        cluster, (events.upserted(d, "calm", every=every, spread=every) for d in devices[:GOOD])
    )


def hold(
    cluster: Cluster,
    seconds: float,
    held: Held | None = None,
    workers: Sequence[psutil.Process] = (),
) -> None:
    """Look after the workers for so long."""
    until_s = time.monotonic() + seconds
    while (left_s := until_s - time.monotonic()) > 0:
        cluster.watch()
        if held is not None:
            held.look(workers)
        time.sleep(min(LOOK_S, left_s))


def sort_out(
    due: Sequence[CaptureCommand],
    results: Sequence[CaptureResult],
    arrived: dict[str, int],
    window_ms: tuple[int, int],
) -> Found:
    """Tell the good cameras' captures of the window from the bad ones'.

    What is due is told by the commands: a capture that waits until its schedule is cancelled, or
    longer than the run, has no photo either.
    """
    good, found = {device_id(number) for number in range(1, GOOD + 1)}, Found()
    ended = {result.command_id: result for result in results}
    for command in due:
        if not window_ms[0] <= command.scheduled_ms < window_ms[1]:
            continue
        result = ended.get(command.command_id)
        end = "waits still" if result is None else result.state.lower()
        if command.device_id not in good:
            cause = result.cause.partition(":")[0] if result is not None else ""
            found.bad[f"{end} ({cause})" if cause else end] += 1
            continue
        found.good[end] += 1
        if result is None or result.state != SUCCESS or result.shutter_at_ms is None:
            continue
        late_ms = result.shutter_at_ms - result.scheduled_ms
        found.retried += result.attempt > 1
        found.late_ms.append(late_ms)
        found.early += late_ms < 0
        at_us = arrived.get(str(result.command_id))
        if at_us is not None:
            found.at_camera_us.append(at_us - result.scheduled_ms * 1000)
    return found


def rows(case: str, found: Found, held: Held, cores: dict[str, float]) -> Iterator[Row]:
    """Return the figures of a case."""
    due = sum(found.good.values())
    yield Row(case, OURS, "good_due", due, "1")
    yield Row(case, OURS, "good_photographed", found.good["success"], "1")
    yield Row(case, OURS, "not_photographed", due - found.good["success"], "1")
    for end, count in found.good.most_common():
        if end != "success":
            yield Row(case, OURS, f"good: {end}", count, "1")
    yield Row(case, OURS, "good_retried", found.retried, "1")
    yield Row(case, OURS, "early", found.early, "1")
    for name, values, unit in (
        ("good_late", spread(found.late_ms), 1.0),
        ("good_late_at_the_camera", spread(found.at_camera_us), 0.001),
    ):
        if values is not None:
            for rank in ("p50", "p90", "p99", "max"):
                yield Row(
                    case, OURS, f"{name}_{rank}", round(getattr(values, rank) * unit, 1), "ms"
                )
    for end, count in found.bad.most_common():
        yield Row(case, OURS, f"bad: {end}", count, "1")
    yield Row(case, OURS, "captures_files_max", held.files, "1")
    yield Row(case, OURS, "captures_memory_max", round(held.memory_mib), "MiB")
    for name, share in cores.items():
        yield Row(case, OURS, f"cpu_{name}", round(share, 3), "1")
