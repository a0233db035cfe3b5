"""Calm: 10,000 cameras that take every request and never answer, all due at one moment, and beside
them 100 good ones. Do the good ones wait for the others?

Wheel, one captures worker, a real broker, and one process of simulated cameras on sockets that is
good and bad by device. The good cameras have a photo a second each, spread over the second. The bad
ones have a schedule of twenty seconds without spread: 10,000 shutters at one moment, each of which
holds a connection until its timeout of 3 s (one in ten drips a byte a second instead), and by the
default policy is tried again. The first window is the good ones alone, on the same workers; then
come a first moment of the bad ones, of which nothing is known by then, and a second.

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
BAD_EVERY_MS: Final = 20_000
DRIP_OF: Final = 10
"""One in so many of the bad cameras drips."""
SETTLE_S: Final = 3.0
WINDOW_S: Final = 20.0
"""A period of the bad ones, so that one of their moments lies in it."""
DRAIN_S: Final = 15.0
BESIDE: Final = "beside"
CASES: Final = ("alone", BESIDE)
DEVICES: Final = tuple(device_id(number) for number in range(1, GOOD + 1))
"""The good ones."""


@dataclass(slots=True)
class Window:
    """A stretch of time, and the most a captures worker held in it."""

    name: str
    from_ms: int = 0
    until_ms: int = 0
    files: int = 0
    memory_mib: float = 0.0
    cores: dict[str, float] = field(default_factory=dict)
    """CPU seconds a second, by process."""

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
    """Measure the good ones alone, then with the bad ones beside them, on the same workers."""
    bad = options.devices[0] if options.devices else QUICK_BAD if options.quick else BAD
    seconds = options.seconds or WINDOW_S
    cases = chosen(options.cases, CASES, "case")
    good, rest = DEVICES[:GOOD], [device_id(GOOD + number) for number in range(1, bad + 1)]
    namespace = rig.new_namespace()
    with ExitStack() as stack:
        port, camera_pid = stack.enter_context(simulated_cameras(GOOD + bad))
        break_cameras(port, rest)
        rig.say("starting workers")
        cluster = stack.enter_context(rig.cluster(namespace))
        rig.say("publishing profiles and schedules")
        since = offsets_now(rig.kafka, namespace)
        address = f"http://127.0.0.1:{port}/cam"
        profiles = (events.profile(d, f"{address}/{d}/snapshot.jpg") for d in [*good, *rest])
        rig.publish(cluster, profiles)
        every = GOOD_EVERY_MS
        rig.publish(cluster, (events.upserted(d, "calm", every=every, spread=every) for d in good))
        windows: list[Window] = []
        for case in cases:
            names = [f"{GOOD} good cameras alone"]
            if case == BESIDE:
                first = f"{GOOD} good cameras beside {bad:,} that never answer"
                names = [f"{first}: their first moment", f"{first}: the next"]
                rare = (events.upserted(d, "calm", every=BAD_EVERY_MS) for d in rest)
                rig.publish(cluster, rare)
            hold(cluster, SETTLE_S)
            for name in names:
                rig.say(f"{name}: measuring for {seconds:g} s")
                windows.append(measure(rig, cluster, Window(name), seconds, camera_pid))
        rig.say("draining")
        devices = [*good, *(rest if BESIDE in cases else ())]
        rig.publish(cluster, (events.cancelled(d, "calm") for d in devices))
        rig.drain(cluster, DRAIN_S)
        due, results = read(rig.kafka, namespace, cluster.blobs, since)
        arrived = {entry.command_id: entry.at_us for entry in camera_log(port) if entry.shutter}
        restarts = cluster.restarts
    for window in windows:
        yield from rows(window, sort_out(due, results, arrived, window))
        yield Row(window.name, OURS, "restarts", restarts, "1")


def measure(rig: Rig, cluster: Cluster, window: Window, seconds: float, camera_pid: int) -> Window:
    """Let a window pass and look at what the workers hold and take."""
    pids = rig.pids(cluster, cameras=camera_pid)
    workers = [psutil.Process(pid) for name, pid in pids.items() if name.startswith("captures")]
    window.from_ms = int(time.time() * 1000) + 1
    cpu = Cpu(pids)
    hold(cluster, seconds, window, workers)
    window.cores = {name: spent_s / seconds for name, spent_s in cpu.spent_s().items()}
    window.until_ms = int(time.time() * 1000)
    return window


def read(
    kafka: str, namespace: str, blobs: str, since: dict[tuple[str, int], int]
) -> tuple[list[CaptureCommand], list[CaptureResult]]:
    """Return the commands and the results there are."""
    store = BlobStore.open(blobs)
    try:
        facts = gather(kafka, namespace, store, since, 0)
        commands = [c for c in facts.commands if isinstance(c, CaptureCommand)]
        return commands, [seen.result for seen in facts.results]
    finally:
        store.close()


def break_cameras(port: int, devices: Sequence[str]) -> None:
    """Make these cameras bad."""
    silent, drips = Fault("never"), Fault("drip", delay_ms=1_000)
    faults = {d: silent if n % DRIP_OF else drips for n, d in enumerate(devices, 1)}
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/faults", msgspec.json.encode(faults), method="POST"
    )
    urllib.request.urlopen(request, timeout=60).close()  # noqa: S310


def hold(
    cluster: Cluster,
    seconds: float,
    window: Window | None = None,
    workers: Sequence[psutil.Process] = (),
) -> None:
    """Look after the workers for so long."""
    until_s = time.monotonic() + seconds
    while (left_s := until_s - time.monotonic()) > 0:
        cluster.watch()
        if window is not None:
            window.look(workers)
        time.sleep(min(LOOK_S, left_s))


def sort_out(
    due: Sequence[CaptureCommand],
    results: Sequence[CaptureResult],
    arrived: dict[str, int],
    window: Window,
) -> Found:
    """Tell the good cameras' captures of the window from the bad ones'.

    What is due is told by the commands: a capture that waits until its schedule is cancelled, or
    longer than the run, has no photo either.
    """
    found, good = Found(), frozenset(DEVICES)
    ended = {result.command_id: result for result in results}
    for command in due:
        if not window.from_ms <= command.scheduled_ms < window.until_ms:
            continue
        result = ended.get(command.command_id)
        end = "waits still" if result is None else result.state.lower()
        cause = result.cause.partition(":")[0] if result is not None else ""
        (found.good if command.device_id in good else found.bad)[
            f"{end} ({cause})" if cause else end
        ] += 1
        if command.device_id not in good:
            continue
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


def rows(window: Window, found: Found) -> Iterator[Row]:
    """Return the figures of a window."""
    case = window.name
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
    yield Row(case, OURS, "captures_files_max", window.files, "1")
    yield Row(case, OURS, "captures_memory_max", round(window.memory_mib), "MiB")
    for name, share in window.cores.items():
        yield Row(case, OURS, f"cpu_{name}", round(share, 3), "1")
