"""Archive and restore: bytes of a capture, records a second in and out, and that it is the same.

**captures**: a wheel and a captures worker with cameras that answer at once make ``--seconds`` of
photos; then the whole namespace is archived, verified, read, and restored into another one of the
same broker. ``bytes_per_capture`` is over all topics (commands, results, ticks, the write-ahead log
of captures and what else there was), in files as they lie in the archive; ``raw_bytes_per_capture``
is their keys and values before compression. ``restore_records_per_s`` is over all of a restore:
tables written, read back and hashed, records at their offsets, groups.

**schedules**: the same with a table of ``--devices`` schedules in its changelog, written by this
program as the wheel would have left it.

**extrapolated**: what the two come to for a million captures, for 1.2 million schedules and for 100
million records of topics; nothing of that size was run. Bytes and schedules are by proportion; the
latter takes less, as most of a small restore is what each partition costs, however little it holds.
Records of topics a second are the difference of the two cases in number by that in time
(``restore_topics_s``). A history with more commits a record than this one's takes longer.

**history** (``--records N``): N results, and what goes with them, of a fleet of ``--devices``
(0.12 N; 1.2 million at most), written by ``benchmarks/history.py``: commands, ticks, decisions,
events, rows and profiles. Then ``shutterwheel archive``, ``archive --verify`` and ``restore`` as an
operator runs them, with a process a CPU: records a second over all topics, CPU of the command and
of the broker, memory of all its processes together, bytes on disk. ``of_100_million_results`` is by
proportion: tables by the number of devices, to 1.2 million, all else by that of results; that takes
the fleet's own events and decisions for ten times as many as there would be. The cases above are
not run beside it unless ``--cases`` names them.

``differs`` counts partitions whose state was not the original's by hash, ``findings`` what a
verification found; both must be 0.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any, Final

from benchmarks.history import write_history
from benchmarks.load import SCHEDULE, SETTLE_S, device_ids, profiles
from benchmarks.options import chosen
from benchmarks.recovery import write_table
from benchmarks.result import rows_of
from benchmarks.stage import measured
from connectors.clients import events
from schemas.errors import BrokerError
from shutterwheel.commands import archive, restore
from shutterwheel.context import Cluster as Place
from shutterwheel.logs_at import open_log, open_objects
from streams.replay.archive.log import ArchiveLog
from streams.replay.archive.verify import verify

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.load import Rig
    from benchmarks.options import Options
    from benchmarks.result import Row

    Figures = dict[tuple[str, str], float | None]

DEVICES: Final = 2_000
EVERY_MS: Final = 2_000
SECONDS: Final = 30.0
QUICK_SECONDS: Final = 5.0
SCHEDULES: Final = 200_000
QUICK_SCHEDULES: Final = 20_000
QUICK_RECORDS: Final = 100_000
CASES: Final = ("captures", "schedules", "history")
MILLION: Final = 1_000_000
FLEET: Final = 1_200_000
HISTORY: Final = 100_000_000


def run(options: Options, rig: Rig) -> Iterator[Row]:
    """Measure the cases and say what they come to at size."""
    cases = chosen(options.cases, CASES, "case")
    if options.records and not options.cases:
        cases = ["history"]
    if "history" in cases and (options.records or options.cases):
        yield from _history(options, rig)
    if "captures" in cases and "schedules" in cases:
        yield from _extrapolated(options, rig)


def _extrapolated(options: Options, rig: Rig) -> Iterator[Row]:
    seconds = options.seconds or (QUICK_SECONDS if options.quick else SECONDS)
    namespace = rig.new_namespace()
    captures = _load(rig, namespace, seconds)
    found = _measured(rig, namespace)
    size, raw = found["archived_bytes", "B"] or 0, found["raw_bytes", "B"] or 0
    found["captures", "1"] = captures
    found["bytes_per_capture", "B"] = size / captures
    found["raw_bytes_per_capture", "B"] = raw / captures
    yield from rows_of(f"{captures:,} captures", found)

    devices = options.devices[0] if options.devices else SCHEDULES
    if options.quick and not options.devices:
        devices = QUICK_SCHEDULES
    namespace = rig.new_namespace()
    rig.say(f"writing {devices:,} schedules")
    write_table(rig, namespace, devices)
    table = _measured(rig, namespace)
    yield from rows_of(f"{devices:,} schedules", table)

    rows_per_s = table["restore_records_per_s", "1/s"]
    records_per_s = _marginal(found, table, "topic_records", "restore_topics_s")
    yield from rows_of(
        "extrapolated",
        {
            ("archive_of_a_million_captures", "MB"): size / captures * MILLION / 1e6,
            ("restore_of_1.2_million_schedules", "s"): FLEET / rows_per_s if rows_per_s else None,
            ("topic_records_per_s", "1/s"): records_per_s,
            ("restore_of_100_million_results", "min"): HISTORY / records_per_s / 60
            if records_per_s
            else None,
        },
    )


def _marginal(large: Figures, small: Figures, count: str, seconds: str) -> float | None:
    """Return how many more a second the larger case did: what each costs alone cancels out."""
    more = (large[count, "1"] or 0) - (small[count, "1"] or 0)
    longer_s = (large[seconds, "s"] or 0) - (small[seconds, "s"] or 0)
    return more / longer_s if longer_s > 0 else None


def _history(options: Options, rig: Rig) -> Iterator[Row]:
    """Write a history, archive, verify and restore it."""
    results = options.records or QUICK_RECORDS
    devices = options.devices[0] if options.devices else min(FLEET, max(results * 12 // 100, 8))
    namespace, place = rig.new_namespace(), rig.folder / "history"
    jobs, broker = os.cpu_count() or 1, rig.broker.pid if rig.broker is not None else 0
    rig.say(f"writing {results:,} results of {devices:,} devices")
    began_s = time.perf_counter()
    results = write_history(rig, namespace, results, devices, jobs)
    written_s = time.perf_counter() - began_s
    common = ["--kafka", rig.kafka, "--namespace", namespace]
    log = rig.folder / "stage.log"
    rig.say("archive")
    archived = measured(["archive", str(place), *common], broker, log)
    records = archived.said["records"]
    rig.say("verify")
    verified = measured(["archive", str(place), "--verify"], 0, log)
    target = rig.new_namespace()
    disk = _disk_bytes(rig)
    rig.say("restore")
    words = ["restore", "--from", str(place), "--to", rig.kafka, "--namespace", target]
    restored = measured(words, broker, log)
    said = restored.said
    rows = sum(sum(table["rows"].values()) for table in said["tables"])
    tables_s = said["tables_s"]
    yield from rows_of(
        f"history of {results:,} results, {devices:,} devices, {jobs} processes",
        {
            ("records", "1"): records,
            ("write_s", "s"): written_s,
            ("write_records_per_s", "1/s"): records / written_s,
            **archived.figures("archive", records),
            **verified.figures("verify", records),
            **restored.figures("restore", said["records"]),
            ("restored_records", "1"): said["records"],
            ("restore_transactions", "1"): said["transactions"],
            ("restore_markers", "1"): said["markers"],
            ("table_rows", "1"): rows,
            ("restore_tables_s", "s"): tables_s,
            ("restore_topics_s", "s"): said["records_s"],
            ("raw_bytes", "B"): archived.said["raw_bytes"],
            ("archived_bytes", "B"): archived.said["bytes"],
            ("broker_bytes", "B"): disk,
            ("bytes_per_result", "B"): _size_of(archived.said, "capture.results") / results,
            ("bytes_per_command", "B"): _size_of(archived.said, "capture.commands") / results,
            ("findings", "1"): len(verified.said["findings"]),
            ("differs", "1"): sum(not table["equal"] for table in said["tables"]),
        },
    )
    yield from rows_of(
        "extrapolated from the history",
        {
            ("restore_of_100_million_results", "min"): (
                tables_s * FLEET / devices + (restored.seconds - tables_s) * HISTORY / results
            )
            / 60,
            ("archive_of_100_million_results", "min"): archived.seconds * HISTORY / results / 60,
            ("archive_size_of_100_million_results", "GB"): archived.said["bytes"]
            * (HISTORY / results)
            / 1e9,
        },
    )


def _size_of(said: dict[str, Any], topic: str) -> int:
    """Return the bytes of a topic's files."""
    return int(said["topics"].get(topic, (0, 0))[1])


def _disk_bytes(rig: Rig) -> int:
    """Return what the broker has on disk; 0 where it is not ours."""
    if rig.broker is None:
        return 0
    return sum(one.stat().st_size for one in (rig.folder / "kafka").rglob("*.log"))


def _load(rig: Rig, namespace: str, seconds: float) -> int:
    """Have photos taken; return how many there are."""
    rig.say(f"{DEVICES * 1000 // EVERY_MS:,} captures/s for {seconds:g} s")
    with rig.cluster(namespace) as cluster:
        rig.publish(cluster, profiles(DEVICES, None))
        devices = list(device_ids(DEVICES))
        rig.publish(
            cluster,
            (events.upserted(d, SCHEDULE, every=EVERY_MS, spread=EVERY_MS) for d in devices),
        )
        time.sleep(SETTLE_S + seconds)
        rig.publish(cluster, (events.cancelled(d, SCHEDULE) for d in devices))
        rig.drain(cluster)
        kafka = cluster.kafka
    log = open_log(kafka, namespace)
    count = sum(
        len(batch)
        for number, end in log.ends("capture.results").items()
        for batch in log.read("capture.results", number, 0, end)
    )
    if not count:
        raise BrokerError("nothing was captured")
    return count


def _measured(rig: Rig, namespace: str) -> Figures:
    """Archive, verify, read and restore one namespace."""
    place = str(rig.folder / f"archive-{namespace}")
    rig.say("archive")
    began_s = time.perf_counter()
    report, _ = archive.run(place, Place(rig.kafka, namespace))
    archived_s = time.perf_counter()
    rig.say("verify")
    verdict = verify(open_objects(place), head=report.head)
    verified_s = time.perf_counter()
    rig.say("read")
    log = open_log(archive=place)
    assert isinstance(log, ArchiveLog)
    read = sum(
        len(batch)
        for topic in log.contents.partitions
        for number, end in log.ends(topic).items()
        for batch in log.read(topic, number, 0, end)
    )
    read_s = time.perf_counter()
    rig.say("restore")
    source = restore.source_of_archive(place)
    done = restore.run(source, rig.kafka, rig.new_namespace())
    restored_s = time.perf_counter()
    rows = sum(sum(table.rows.values()) for table in done.tables)
    return {
        ("records", "1"): report.records,
        ("raw_bytes", "B"): report.raw_bytes,
        ("archived_bytes", "B"): report.size_bytes,
        ("archive_s", "s"): archived_s - began_s,
        ("archive_records_per_s", "1/s"): report.records / (archived_s - began_s),
        ("verify_records_per_s", "1/s"): verdict.records / (verified_s - archived_s),
        ("read_records_per_s", "1/s"): read / (read_s - verified_s),
        ("restored_records", "1"): done.records,
        ("restore_transactions", "1"): done.transactions,
        ("table_rows", "1"): rows,
        ("topic_records", "1"): done.records - rows,
        ("restore_tables_s", "s"): done.tables_s,
        ("restore_topics_s", "s"): done.records_s,
        ("restore_s", "s"): restored_s - read_s,
        ("restore_records_per_s", "1/s"): done.records / (restored_s - read_s),
        ("findings", "1"): len(verdict.findings),
        ("differs", "1"): sum(not table.equal for table in done.tables),
    }
