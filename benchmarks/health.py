"""Health: heartbeats a second through the devices app, and what a fleet of a million costs.

* ``fold``: the pure fold alone, no broker. ``heartbeat_ns`` is the CPU of one heartbeat of a device
  that stays online, in the order in which a fleet speaks; ``read_ns`` of taking its bytes apart
  before, ``codec_ns`` what the codec takes for the same; ``bytes_a_device`` is all that is kept of
  a device, its id included; ``idle_ms_per_s`` the CPU that a second of time costs while all are
  online; ``herd_ms`` of finding all of them silent at once, and ``piece_ms_max`` of one step of it.
* ``app``: one worker process and a broker, on this machine. ``first``: a heartbeat of each device
  that was never heard of, each a row and an event; ``steady``: heartbeats of the same devices, in
  which nothing is news; ``start``: a worker that is started again with all those rows.
  ``changelog_records`` is what the steady ones wrote to the table's changelog.

``--devices 1200000,200000``: the first for the fold, the last for the app.
"""

from __future__ import annotations

import gc
import time
import tracemalloc
import urllib.request
from typing import TYPE_CHECKING, Final

import psutil
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.load import PARTITIONS, Cpu
from benchmarks.options import chosen
from benchmarks.result import Row, rows_of
from benchmarks.seed import Writer
from connectors.clients.kafka import make_codec
from infra.kafka.admin import admin_client, create_topics
from infra.kafka.offsets import list_offsets
from infra.kafka.topics import topic_name
from schemas.errors import BrokerError
from schemas.records import DeviceHeartbeat
from shutterwheel.cluster import Cluster, ClusterOptions
from streams.agents.device_health import APP, CHANGELOGS, HEARTBEATS
from streams.agents.heartbeats import HeartbeatReader
from streams.core import ids
from streams.core.health import Health, HealthSettings
from streams.runtime.fetched import PlainRecord

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from benchmarks.load import Rig
    from benchmarks.options import Options

DEVICES: Final = 1_200_000
QUICK_DEVICES: Final = 50_000
EVERY_MS: Final = 30_000
"""How often a device speaks: 1.2 million are 40,000 heartbeats a second."""
SAMPLE: Final = 100_000
"""Heartbeats whose bytes are taken apart."""
PATIENCE_S: Final = 240.0
LOOK_S: Final = 0.1
FIRST, FRESH = ("first",), ("fresh", "restart", "repeat", "old")


def device_id(number: int) -> str:
    """Return the id of a device."""
    return f"cam-{number:07d}"


def _ns(began_s: float, count: int) -> float:
    return (time.process_time() - began_s) / count * 1e9


def fold(options: Options, rig: Rig) -> Iterator[Row]:
    """Measure the fold and the reader alone."""
    devices = _devices(options, "fold")
    case = f"fold, {devices:,} devices"
    rig.say(case)
    keys = [device_id(number).encode() for number in range(devices)]
    health = Health(HealthSettings(), 0)
    gc.collect()
    gc.freeze()
    began_s = time.process_time()
    for number, key in enumerate(keys):
        health.beat(key, 1, number, 0.05, 0.15, 1.0, number * EVERY_MS // devices)
    health.take()
    first_ns = _ns(began_s, devices)
    began_s = time.process_time()
    for number, key in enumerate(keys):
        health.beat(
            key, 2, EVERY_MS + number, 0.05, 0.15, 1.0, EVERY_MS + number * EVERY_MS // devices
        )
    beat_ns = _ns(began_s, devices)
    timeout_ms = HealthSettings().timeout_ms
    began_s = time.process_time()
    _advance(health, EVERY_MS + timeout_ms - 1_000)
    idle_ms = (time.process_time() - began_s) * 1e6 / (EVERY_MS + timeout_ms)
    began_s = time.process_time()
    piece_ms = _advance(health, 2 * EVERY_MS + timeout_ms)
    herd_ms = (time.process_time() - began_s) * 1_000
    if health.table.online:
        raise BrokerError("the fold took a silent device to be online; this is a bug")
    del health
    yield from rows_of(
        case,
        {
            ("heartbeat_ns", "ns"): beat_ns,
            ("first_heartbeat_ns", "ns"): first_ns,
            ("read_ns", "ns"): _reading(quickly=True),
            ("codec_ns", "ns"): _reading(quickly=False),
            ("bytes_a_device", "B"): _bytes(min(devices, 200_000)),
            ("idle_ms_per_s", "ms"): idle_ms,
            ("herd_ms", "ms"): herd_ms,
            ("piece_ms_max", "ms"): piece_ms,
        },
    )


def _advance(health: Health, until_ms: int) -> float:
    """Let time pass a second at a time; return the longest step in milliseconds."""
    longest_s = 0.0
    while health.clock_ms < until_ms:
        now_ms, more = min(health.clock_ms + 1_000, until_ms), True
        while more:
            began_s = time.process_time()
            more = health.advance(now_ms)
            health.take()
            longest_s = max(longest_s, time.process_time() - began_s)
    return longest_s * 1_000


def _bytes(devices: int) -> float:
    """Return what is kept of a device, its id included; the rows that went out are gone."""
    gc.collect()
    tracemalloc.start()
    health = Health(HealthSettings(), 0)
    empty_bytes = tracemalloc.get_traced_memory()[0]
    for number in range(devices):
        health.beat(device_id(number).encode(), 1, 1, 0.05, 0.15, 1.0, number * EVERY_MS // devices)
        if number % 1_000 == 0:
            health.take()
    health.take()
    kept_bytes = tracemalloc.get_traced_memory()[0] - empty_bytes
    tracemalloc.stop()
    return kept_bytes / devices


def _reading(*, quickly: bool) -> float:
    codec = make_codec()
    reader = HeartbeatReader(codec, PARTITIONS)
    now_ms = time.time_ns() // 1_000_000
    records: list[Any] = []
    for number in range(SAMPLE):
        name = device_id(number)
        beat = DeviceHeartbeat(name, number % 3_000, now_ms + number, 0.05, 0.15, 1.0)
        value = codec.encode(beat)
        records.append(PlainRecord(HEARTBEATS, 0, number, now_ms, 1, name.encode(), value, ()))
    read: Callable[[Any], object] = reader.read if quickly else lambda r: codec.decode(r.value)
    began_s = time.process_time()
    for record in records:
        read(record)
    return _ns(began_s, SAMPLE)


# -- the app ---------------------------------------------------------------------------------------


def app(options: Options, rig: Rig) -> Iterator[Row]:
    """Measure a worker process."""
    devices, namespace = _devices(options, "app"), rig.new_namespace()
    case = f"app, {devices:,} devices"
    create_topics(rig.kafka, namespace, PARTITIONS)
    codec, writer = make_codec(), Writer(rig.kafka, namespace)
    fleet = [(device_id(n), ids.partition_of(device_id(n), PARTITIONS)) for n in range(devices)]

    def speak(sequence: int) -> None:
        now_ms = time.time_ns() // 1_000_000
        for name, home in fleet:
            beat = DeviceHeartbeat(name, sequence, now_ms, 0.05, 0.15, 1.0)
            writer.put(HEARTBEATS, name.encode(), codec.encode(beat), home)
        writer.flush()

    rig.say(f"{case}: writing the first heartbeats")
    speak(0)
    cluster = _cluster(rig, namespace)
    try:
        rig.say(f"{case}: the worker reads them")
        yield from _worked(rig, case, "first", cluster, devices)
    finally:
        cluster.stop()
    rig.say(f"{case}: writing {2 * devices:,} more")
    for sequence in (1, 2):
        speak(sequence)
    began_s = time.monotonic()
    cluster = _cluster(rig, namespace)
    try:
        yield Row(case, "shutterwheel", "start_s", round(time.monotonic() - began_s, 2), "s")
        logged = _logged(rig, namespace)  # what taking over wrote is none of the heartbeats'
        yield from _worked(rig, case, "steady", cluster, 2 * devices)
        figures: dict[tuple[str, str], float | None] = {
            ("online", "1"): _metric(cluster, "agent_online_devices_total", ()),
            ("changelog_records", "1"): _logged(rig, namespace) - logged,
            ("rss_mb", "MB"): _process(cluster).memory_info().rss / 1e6,
        }
        yield from rows_of(case, figures)
    finally:
        cluster.stop()


def _cluster(rig: Rig, namespace: str) -> Cluster:
    cluster = Cluster(
        ClusterOptions(
            data=rig.folder / namespace, kafka=rig.kafka, namespace=namespace,
            partitions=PARTITIONS, wheel_workers=0, capture_workers=0, device_workers=1,
            log_level="error",
        )
    )  # fmt: skip
    try:
        cluster.start()
    except BaseException:
        cluster.stop()
        raise
    return cluster


def _process(cluster: Cluster) -> psutil.Process:
    return psutil.Process(cluster.workers[0].child.pid)


def _worked(rig: Rig, case: str, what: str, cluster: Cluster, wanted: int) -> Iterator[Row]:
    """Wait until so many heartbeats are worked on; rates from a tenth of them to the end."""
    kinds = FIRST if what == "first" else FRESH
    deadline_s = time.monotonic() + PATIENCE_S
    cpu: Cpu | None = None
    done = began = 0.0
    began_s = 0.0
    while done < wanted:
        time.sleep(LOOK_S)
        cluster.watch()
        done = _metric(cluster, "shutterwheel_heartbeats_total", kinds)
        if cpu is None and done >= wanted / 10:
            cpu, began, began_s = Cpu(rig.pids(cluster)), done, time.monotonic()
        if time.monotonic() > deadline_s:
            raise BrokerError(f"{done:,.0f} of {wanted:,} heartbeats were worked on in time")
    if cpu is None or done <= began:
        return  # too few to say
    took_s, spent_s = time.monotonic() - began_s, cpu.spent_s()
    count = done - began
    figures: dict[tuple[str, str], float | None] = {
        (f"{what}_heartbeats_per_s", "1/s"): count / took_s,
        (f"{what}_cpu_us_per_heartbeat", "us"): spent_s[APP] / count * 1e6,
        (f"{what}_elsewhere_cores", "1"): spent_s["elsewhere"] / took_s,
    }
    yield from rows_of(case, figures)


def _metric(cluster: Cluster, name: str, verdicts: tuple[str, ...]) -> float:
    with urllib.request.urlopen(f"{cluster.workers[0].url}/metrics", timeout=10.0) as answer:  # noqa: S310
        text = answer.read().decode()
    return sum(
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name and (not verdicts or sample.labels["verdict"] in verdicts)
    )


def _logged(rig: Rig, namespace: str) -> int:
    topic = topic_name(namespace, CHANGELOGS["health"])
    parts = [(topic, number) for number in range(PARTITIONS)]
    return sum(list_offsets(admin_client(rig.kafka), parts, "latest", 30.0).values())


def _devices(options: Options, case: str) -> int:
    if options.devices:
        return options.devices[0 if case == "fold" else -1]
    return QUICK_DEVICES if options.quick else DEVICES


CASES: Final = {"fold": fold, "app": app}


def run(options: Options, rig: Rig) -> Iterator[Row]:
    """Measure the cases that were asked for."""
    for name in chosen(options.cases, list(CASES), "case"):
        yield from CASES[name](options, rig)
