"""Recovery: how fast tables come back, how soon schedules fire again, what a rebalance costs.

**Changelog** (``changelog``): a table of ``--devices`` rows, 1.2 million by default, is written to
a changelog and read back by the runtime's recovery (``streams/runtime/recovery.py``) into a new
store. ``records_per_s`` is over all of it, stable offsets and the end of the last transaction
included.

**Start** (``start``): a wheel worker is started on that table, first with an empty disk, then with
the disk of the start before, and timed to its first command: ``process_s`` up to its first line,
``join_s`` for the group, ``recovery_s`` for the changelogs, ``opening_s`` for building the wheels
(rows scanned, decoded and given their timers), ``first_tick_s`` to the first command in the log.
The rows are written by this program, as the wheel would have left them: every schedule has a period
of 300 s, spread over all of it.

**Takeover** (``takeover``): two captures workers and a wheel under a load of null cameras; one of
the two is killed, started again, asked to leave, started again. ``settled_s`` is from the event to
the last partition being open. Of what the *other* worker said: ``detected_s`` (event to its
revocation), ``pause_ms`` (its partitions could not be worked on) and the parts of it. From the
results, by scheduled time: how late the latest shutter was of partitions that stayed with the
other and of those that moved; ``recovered`` (the photo was found), ``again`` (an attempt more than
the first), ``expired``. ``rows_at_…`` is the most rows that the table ``captures`` had up to that
share of the run: it is bounded, so it does not grow with time.

**Table** (``table``): the same table over an hour of a fortieth of ``--devices``, by a clock moved
by hand, and the recovery of what an hour of all of them leaves (``captures_table.py``).

**Moves** (``moves``): partitions that change hands as workers come and go (``moves.py``).
"""

from __future__ import annotations

import json
import signal
import time
from datetime import datetime
from os import kill
from typing import TYPE_CHECKING, Any, Final

from confluent_kafka import Producer, TopicPartition

from benchmarks.captures_table import SHARE, table
from benchmarks.load import PARTITIONS, SCHEDULE, SETTLE_S, device_ids, profiles
from benchmarks.moves import moves
from benchmarks.options import chosen
from benchmarks.result import rows_of
from connectors.clients import events
from connectors.clients.kafka import make_codec
from infra.kafka.admin import admin_client, create_topics
from infra.kafka.offsets import list_offsets, stable_offsets
from infra.kafka.topics import topic_name
from schemas.errors import BrokerError
from schemas.records import (
    CapturePolicy,
    CaptureResult,
    ScheduleSpec,
    ScheduleState,
    ShardState,
)
from shutterwheel.check import offsets_now
from shutterwheel.evidence import Reader
from streams.agents.capture_executor import CHANGELOGS as CAPTURES
from streams.agents.timing_wheel import CHANGELOGS, COMMANDS, EVENTS
from streams.core import ids
from streams.core.partition import CLOCK_KEY, CLOCK_SHARD, schedule_key
from streams.core.ring import Ring
from streams.runtime.recovery import Recovery
from streams.runtime.settings import RuntimeSettings
from streams.runtime.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.load import Rig
    from benchmarks.options import Options
    from benchmarks.result import Row
    from shutterwheel.cluster import Cluster

    Lines = list[dict[str, Any]]

ROWS: Final = 1_200_000
QUICK_ROWS: Final = 100_000
PERIOD_MS: Final = 300_000
LOAD_DEVICES: Final = 600
LOAD_PER_S: Final = 200
PATIENCE_S: Final = 45.0
WINDOW_MS: Final = 15_000
"""How long after an event its traces are looked for in the results."""
SHARES: Final = (0.25, 0.5, 0.75, 1.0)
CASES: Final = ("changelog", "start", "takeover", "table", "moves")
PARTS: Final = ("commit", "join", "sync", "resume", "faust", "recover", "flow", "pause", "total")


# -- a table -----------------------------------------------------------------------------------


def write_table(rig: Rig, namespace: str, rows: int) -> None:
    """Write the changelogs of a wheel that has that many schedules."""
    create_topics(rig.kafka, namespace, PARTITIONS)
    encode, now_ms = make_codec().encode, time.time_ns() // 1_000_000
    spec, policy = ScheduleSpec("interval", PERIOD_MS), CapturePolicy(spread_ms=PERIOD_MS)
    producer = Producer(
        {"bootstrap.servers": rig.kafka, "linger.ms": 20, "queue.buffering.max.messages": 500_000}
    )
    schedules = topic_name(namespace, CHANGELOGS["schedules"])
    for number, device_id in enumerate(device_ids(rows)):
        row = ScheduleState(device_id, SCHEDULE, number + 1, spec, policy, now_ms, False)
        partition = ids.partition_of(device_id, PARTITIONS)
        producer.produce(
            schedules, encode(row), schedule_key(device_id, SCHEDULE).encode(), partition
        )
        if number % 10_000 == 0:
            while len(producer) > 200_000:
                producer.poll(0.05)
            producer.poll(0)
    clock = encode(ShardState(CLOCK_SHARD, now_ms, 0, 0))
    for partition in range(PARTITIONS):
        producer.produce(topic_name(namespace, CHANGELOGS["shards"]), clock, CLOCK_KEY, partition)
    if producer.flush(60):
        raise BrokerError("the table could not be written")


def changelog(rig: Rig, namespace: str, rows: int) -> list[Row]:
    """Read the table back into a new store."""
    settings = RuntimeSettings("wheel", "bench", rig.kafka, rig.folder / "recovered", namespace)
    store = Store(settings.state_dir / "state", tuple(CHANGELOGS), block_cache_bytes=64 << 20)
    try:
        recovery = Recovery(
            settings, store, lambda name: topic_name(namespace, name), CHANGELOGS, (EVENTS,)
        )
        # A new broker makes its topic of offsets when a coordinator is first asked for: now.
        recovery.positions(range(PARTITIONS))
        found = recovery.recover(range(PARTITIONS), lambda: True)
    finally:
        store.close()
    figures = {
        ("records", "1"): found.records,
        ("took_s", "s"): found.took_ms / 1000,
        ("records_per_s", "1/s"): found.records * 1000 / found.took_ms,
    }
    return rows_of(f"changelog of {rows:,} schedules", {**figures})


# -- a start -----------------------------------------------------------------------------------


def warm(rig: Rig, namespace: str) -> None:
    """Have a new broker make its topics of offsets and transactions, as an older one has them."""
    stable_offsets(
        rig.kafka, "warm", [TopicPartition(topic_name(namespace, EVENTS), 0)], PATIENCE_S
    )
    producer = Producer({"bootstrap.servers": rig.kafka, "transactional.id": f"{namespace}-warm"})
    producer.init_transactions(PATIENCE_S)


def start(rig: Rig, namespace: str, disk: str, rows: int) -> list[Row]:
    """Start a wheel worker on the table and time it to its first command."""
    before = offsets_now(rig.kafka, namespace)
    began_s = time.time()
    with rig.cluster(namespace, captures=0, log_level="info") as cluster:
        opened = _until(cluster, lambda: _since(log(cluster, "wheel", "0"), "opened", began_s))
        fired_s = _until(cluster, lambda: _first_command_s(rig, namespace, before))
        ready = _since(log(cluster, "wheel", "0"), "worker starts", began_s)
    opening_s, recovery_s = opened[-1]["opening_ms"] / 1000, opened[-1]["recovery_ms"] / 1000
    process_s = ready[-1]["at_s"] - began_s
    open_s = opened[-1]["at_s"] - began_s
    figures: dict[tuple[str, str], float | None] = {
        ("to_first_command_s", "s"): fired_s - began_s,
        ("process_s", "s"): process_s,
        ("join_s", "s"): open_s - process_s - recovery_s - opening_s,
        ("recovery_s", "s"): recovery_s,
        ("opening_s", "s"): opening_s,
        ("first_tick_s", "s"): fired_s - began_s - open_s,
        ("recovered_records", "1"): opened[-1]["recovered_records"],
    }
    return rows_of(f"start with {disk} disk, {rows:,} schedules", figures)


def _first_command_s(rig: Rig, namespace: str, before: dict[tuple[str, int], int]) -> float | None:
    ends = offsets_now(rig.kafka, namespace)
    topic = topic_name(namespace, COMMANDS)
    starts = {at: before.get(at, 0) for at in ends if at[0] == topic}
    if all(ends[at] <= starts[at] for at in starts):
        return None
    reader = Reader(rig.kafka, make_codec(), ends, lambda _what, _done, _total: None)
    stamps = [message.timestamp()[1] for message in reader.messages(topic, starts)]
    return min(stamps) / 1000 if stamps else None


# -- takeover ----------------------------------------------------------------------------------


def takeover(rig: Rig) -> list[Row]:
    """Kill a worker, start it, have it leave, start it: under load, with another beside it."""
    namespace, found = rig.new_namespace(), list[tuple[str, float, dict[str, float]]]()
    every_ms = LOAD_DEVICES * 1000 // LOAD_PER_S
    with rig.cluster(namespace, captures=2, log_level="info") as cluster:
        devices = list(device_ids(LOAD_DEVICES))
        rig.publish(cluster, profiles(LOAD_DEVICES, None))
        rig.publish(
            cluster,
            (events.upserted(d, SCHEDULE, every=every_ms, spread=every_ms) for d in devices),
        )
        time.sleep(SETTLE_S)
        victim = next(w for w in cluster.workers if (w.app, w.slot) == ("captures", "1"))
        for case, number in (("kill -9", signal.SIGKILL), ("leave", signal.SIGTERM)):
            rig.say(f"takeover: {case}")
            at_s = time.time()
            kill(victim.child.pid, number)
            found.append((case, at_s, _settled(cluster, at_s, PARTITIONS, watch=False)))
            time.sleep(SETTLE_S)
            rig.say(f"takeover: start after {case}")
            at_s, half = time.time(), len(Ring("01").assign(PARTITIONS)["0"])
            found.append((f"start after {case}", at_s, _settled(cluster, at_s, half, watch=True)))
            time.sleep(SETTLE_S)
        rig.publish(cluster, (events.cancelled(d, SCHEDULE) for d in devices))
        rig.drain(cluster)
    results = list(_results(rig, namespace))
    rows: list[Row] = []
    for case, at_s, figures in found:
        units = {name: "ms" if name.endswith("_ms") else "s" for name in figures}
        told: dict[tuple[str, str], float | None] = {(n, units[n]): v for n, v in figures.items()}
        rows += rows_of(f"takeover: {case}", told | _traces(results, at_s))
    return rows + table_size(rig, namespace)


def _settled(cluster: Cluster, at_s: float, owns: int, *, watch: bool) -> dict[str, float]:
    """Wait until slot 0 owns that many partitions by an assignment of after the event."""

    def told() -> Lines:
        lines = _since(log(cluster, "captures", "0"), "rebalance", at_s)
        opened = _since(log(cluster, "captures", "0"), "opened", at_s)
        done = opened and len(opened[-1]["partitions"]) == owns
        return lines if done and lines and lines[-1]["at_s"] >= opened[-1]["at_s"] else []

    line = _until(cluster, told, watch=watch)[-1]
    time.sleep(1.0)  # the other's own line, where it has one
    last_s = max(
        entry["at_s"]
        for slot in ("0", "1")
        for entry in _since(log(cluster, "captures", slot), "opened", at_s)
    )
    figures = {
        "settled_s": last_s - at_s,
        "detected_s": line["at_s"] - line["total_ms"] / 1000 - at_s,
    }
    return figures | {f"{part}_ms": line[f"{part}_ms"] for part in PARTS if f"{part}_ms" in line}


def _results(rig: Rig, namespace: str) -> Iterator[CaptureResult]:
    codec, ends = make_codec(), offsets_now(rig.kafka, namespace)
    topic = topic_name(namespace, "capture.results")
    reader = Reader(rig.kafka, codec, ends, lambda _what, _done, _total: None)
    for message in reader.messages(topic, {at: 0 for at in ends if at[0] == topic}):
        yield codec.decode_as(message.value() or b"", CaptureResult)


def _traces(results: list[CaptureResult], at_s: float) -> dict[tuple[str, str], float | None]:
    """Say what an event left in the results of captures due soon after it."""
    begin_ms = at_s * 1000
    due = [r for r in results if begin_ms <= r.scheduled_ms < begin_ms + WINDOW_MS]
    stayed = set(Ring("01").assign(PARTITIONS)["0"])

    def latest(*, at_home: bool) -> float | None:
        late = [
            r.shutter_at_ms - r.scheduled_ms
            for r in due
            if r.shutter_at_ms is not None
            and (ids.partition_of(r.device_id, PARTITIONS) in stayed) is at_home
        ]
        return max(late, default=None)

    return {
        ("latest_stayed_ms", "ms"): latest(at_home=True),
        ("latest_moved_ms", "ms"): latest(at_home=False),
        ("due", "1"): len(due),
        ("recovered", "1"): sum(r.cause == "recovered" for r in due),
        ("again", "1"): sum(r.attempt > 1 for r in due),
        ("expired", "1"): sum(r.state == "EXPIRED" for r in due),
    }


def table_size(rig: Rig, namespace: str) -> list[Row]:
    """Fold the changelog of ``captures``: how many rows it had as time went on."""
    topic = topic_name(namespace, CAPTURES["captures"])
    asked = [(topic, number) for number in range(PARTITIONS)]
    ends = list_offsets(admin_client(rig.kafka), asked, "latest", PATIENCE_S)
    reader = Reader(rig.kafka, make_codec(), ends, lambda _what, _done, _total: None)
    changes = sorted(
        (message.timestamp()[1], message.key() or b"", bool(message.value()))
        for message in reader.messages(topic, dict.fromkeys(ends, 0))
    )
    alive, sizes = set[bytes](), list[tuple[int, int]]()
    for at_ms, key, there in changes:
        (alive.add if there else alive.discard)(key)
        sizes.append((at_ms, len(alive)))
    first_ms, last_ms = sizes[0][0], sizes[-1][0]
    figures: dict[tuple[str, str], float | None] = {
        (f"rows_at_{share:.0%}", "1"): max(
            count for at_ms, count in sizes if at_ms <= first_ms + share * (last_ms - first_ms)
        )
        for share in SHARES
    }
    figures["changes", "1"] = len(changes)
    figures["seconds", "s"] = (last_ms - first_ms) / 1000
    return rows_of(f"most rows of captures so far, {LOAD_DEVICES} devices", figures)


# -- logs --------------------------------------------------------------------------------------


def log(cluster: Cluster, app: str, slot: str) -> Lines:
    """Return a worker's log so far; ``at_s`` is each line's time."""
    worker = next(w for w in cluster.workers if (w.app, w.slot) == (app, slot))
    found: Lines = []
    for text in worker.child.log_file.read_text(errors="replace").splitlines():
        if text.startswith("{") and text.endswith("}"):
            line = json.loads(text)
            line["at_s"] = datetime.fromisoformat(line["ts"]).timestamp()
            found.append(line)
    return found


def _since(lines: Lines, event: str, at_s: float) -> Lines:
    return [line for line in lines if line["event"].endswith(event) and line["at_s"] >= at_s]


def _until(cluster: Cluster, ready: Callable[[], Any], *, watch: bool = True) -> Any:
    deadline_s = time.monotonic() + PATIENCE_S
    while not (found := ready()):
        if watch:
            cluster.watch()
        if time.monotonic() > deadline_s:
            raise BrokerError(f"nothing came within {PATIENCE_S:.0f} s")
        time.sleep(0.2)
    return found


def run(options: Options, rig: Rig) -> Iterator[Row]:
    """Measure every case that was asked for."""
    rows = options.devices[0] if options.devices else QUICK_ROWS if options.quick else ROWS
    cases = chosen(options.cases, CASES, "case")
    namespace = ""
    if {"changelog", "start"} & set(cases):
        namespace = rig.new_namespace()
        rig.say(f"writing a table of {rows:,} rows")
        write_table(rig, namespace, rows)
    if "changelog" in cases:
        rig.say("changelog: reading it back")
        yield from changelog(rig, namespace, rows)
    if "start" in cases:
        warm(rig, namespace)
    for disk in ("empty", "its") if "start" in cases else ():
        rig.say(f"start with {disk} disk")
        yield from start(rig, namespace, disk, rows)
    if "takeover" in cases:
        yield from takeover(rig)
    if "moves" in cases:
        yield from moves()
    if "table" in cases:
        yield from table(rig, max(1, rows // SHARE), quick=options.quick)
