"""The checks of ``shutterwheel doctor``, in the order in which one needs the other.

A check is a function that looks at one thing and returns what it found. None of them changes
anything but a file of a few bytes in the data folder, which it takes away again.
"""

from __future__ import annotations

import platform
import shutil
import socket
import sys
import tempfile
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from schemas.errors import BrokerError, ShutterwheelError, UsageError
from shutterwheel.context import Cluster, RunFile, data_dir_of, find_cluster

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from confluent_kafka import Message

Status = Literal["ok", "warn", "fail"]

OLDEST_PYTHON: Final = (3, 11)
TOO_NEW_PYTHON: Final = (3, 14)
MIN_FREE_BYTES: Final = 256 * 1024 * 1024
"""With less the embedded broker does not start."""
LOW_FREE_BYTES: Final = 2 * 1024 * 1024 * 1024
KAFKA_TIMEOUT_S: Final = 5.0
WORKER_TIMEOUT_S: Final = 2.0
MAX_SKEW_MS: Final = 2_000
"""A wheel whose clock is further from the broker's stops (``max_skew_ms``)."""
FRESH_TICK_MS: Final = 5_000
"""A wheel ticks every second: an older tick says that none runs."""


@dataclass(frozen=True, slots=True)
class Check:
    """What was looked at, what was found, and what to do about it."""

    name: str
    status: Status
    found: str
    advice: str = ""


def examine(
    kafka: str | None,
    namespace: str | None,
    data: Path | None,
    registry: str | None,
    ntp: tuple[str, ...] = (),
    quality: tuple[str, str] = ("", ""),
) -> Iterator[Check]:
    """Give the findings one by one; ``quality``: a server of models and its model, if named."""
    from shutterwheel.quality_check import check_quality
    from shutterwheel.time_check import check_time

    folder = data_dir_of(data)
    yield check_python()
    yield check_java()
    yield check_jars()
    yield check_folder(folder)
    yield check_ports()
    yield check_schemas()
    yield from check_time(folder, ntp)
    yield from check_quality(folder, *quality)
    try:
        cluster = find_cluster(kafka, namespace, data, registry)
    except UsageError as error:
        yield Check("kafka", "fail", error.line())
        return
    yield from check_cluster(cluster)
    yield from check_workers(cluster, folder)


def check_python() -> Check:
    """Look at the Python that runs this."""
    found = f"{platform.python_version()} at {sys.executable}"
    if OLDEST_PYTHON <= sys.version_info[:2] < TOO_NEW_PYTHON:
        return Check("python", "ok", found)
    return Check("python", "fail", found, "Use Python 3.11, 3.12 or 3.13.")


def check_java() -> Check:
    """Look for a Java that the embedded broker can run on."""
    from infra.kafka.java import find_java

    try:
        java = find_java()
    except BrokerError as error:
        # Who uses another cluster needs no Java.
        return Check("java", "warn", error.line())
    return Check("java", "ok", f"{java.major} at {java.path}")


def check_jars() -> Check:
    """Say whether the embedded broker's files are here already."""
    from infra.kafka.jars import cache_dir, load_lock

    folder = cache_dir() / "jars"
    try:
        wanted = load_lock()
        missing = [
            jar
            for jar in wanted
            if not (path := folder / jar.file_name).is_file()
            or path.stat().st_size != jar.size_bytes
        ]
    except (BrokerError, OSError) as error:
        return Check("kafka files", "fail", str(error), "Install the package again.")
    if not missing:
        return Check("kafka files", "ok", f"{len(wanted)} files in {folder}")
    size_bytes = sum(jar.size_bytes for jar in missing)
    return Check(
        "kafka files",
        "warn",
        f"{len(missing)} of {len(wanted)} files are not in {folder} yet",
        f"The first `shutterwheel up` fetches {size_bytes / 1e6:.0f} MB; ahead of time: "
        "`python -m infra.kafka.jars fetch`.",
    )


def check_folder(folder: Path) -> Check:
    """Say whether the data folder can be written, and how much room there is."""
    there = folder
    while not there.exists() and there != there.parent:
        there = there.parent
    try:
        with tempfile.TemporaryFile(dir=there) as probe:
            probe.write(b"shutterwheel")
        free_bytes = shutil.disk_usage(there).free
    except OSError as error:
        advice = "Choose another folder with --data."
        return Check("data folder", "fail", f"{folder}: {error.strerror or error}", advice)
    found = f"{folder.absolute()}, {free_bytes / 1e9:.1f} GB free"
    if free_bytes < MIN_FREE_BYTES:
        return Check("data folder", "fail", found, "Make room, or choose another with --data.")
    if free_bytes < LOW_FREE_BYTES:
        return Check("data folder", "warn", found, "Photos and the log will soon fill it.")
    return Check("data folder", "ok", found)


def check_ports() -> Check:
    """Say whether a port of this machine can be listened on and reached."""
    try:
        with socket.create_server(("127.0.0.1", 0)) as server:
            server.settimeout(WORKER_TIMEOUT_S)
            with socket.create_connection(server.getsockname(), WORKER_TIMEOUT_S):
                server.accept()[0].close()
    except OSError as error:
        advice = "A firewall or sandbox forbids sockets on 127.0.0.1; allow them."
        return Check("ports", "fail", f"127.0.0.1: {error.strerror or error}", advice)
    return Check("ports", "ok", "127.0.0.1 can be listened on and reached")


def check_schemas() -> Check:
    """Compare today's schemas with every released one."""
    from schemas.catalogue import current_schemas, released_schemas
    from schemas.compatibility import check

    try:
        findings = check(current_schemas(), released_schemas())
    except ShutterwheelError as error:
        return Check("schemas", "fail", error.line(), "Install the package again.")
    if findings:
        advice = "`python -m schemas.compatibility check` shows all of it."
        return Check("schemas", "fail", str(findings[0]), advice)
    return Check("schemas", "ok", f"{len(current_schemas())} types, compatible with each release")


def check_cluster(cluster: Cluster) -> Iterator[Check]:
    """Look at Kafka, the topics in it, and its clock."""
    from infra.kafka.admin import admin_client, cluster_metadata, describe_topics
    from shutterwheel.commands.topics import wanted_partitions

    try:
        metadata = cluster_metadata(
            admin_client(cluster.kafka), cluster.kafka, timeout_s=KAFKA_TIMEOUT_S
        )
    except BrokerError as error:
        advice = "Check the address, and that the broker is running."
        yield Check("kafka", "fail", error.line(), advice)
        return
    brokers = len(metadata.brokers)
    yield Check("kafka", "ok", f"{cluster.kafka}, cluster {metadata.cluster_id}, brokers {brokers}")
    try:
        rows = describe_topics(cluster.kafka, cluster.namespace, wanted_partitions(cluster))
    except BrokerError as error:
        yield Check("topics", "fail", error.line())
        return
    missing = [row.name for row in rows if not row.exists]
    differences = [sentence for row in rows for sentence in row.differences]
    if missing:
        found = f"{len(missing)} of {len(rows)} are missing: {', '.join(missing[:3])}…"
        yield Check("topics", "fail", found, "`shutterwheel topics --create` makes them.")
        return
    if differences:
        advice = "`shutterwheel topics` shows all of it."
        yield Check("topics", "fail", differences[0], advice)
        return
    yield Check("topics", "ok", f"{len(rows)} of {rows[0].actual_partitions} partitions")
    yield check_clock(cluster)


def check_clock(cluster: Cluster) -> Check:
    """Compare this machine's clock with the broker's time of the newest tick."""
    from connectors.clients.kafka import make_codec
    from connectors.clients.scan import Scanner
    from infra.kafka.topics import topic_name

    newest: Message | None = None
    now_ms = time.time_ns() // 1_000_000
    try:
        with Scanner(cluster.kafka, make_codec()) as scanner:
            since_ms = now_ms - 60_000
            for message in scanner.messages(
                topic_name(cluster.namespace, "schedule.ticks"), 0, since_ms
            ):
                newest = message
    except BrokerError as error:
        return Check("clock", "warn", error.line())
    now_ms = time.time_ns() // 1_000_000
    if newest is None:
        advice = "Start `shutterwheel up`, or `shutterwheel worker wheel`."
        return Check("wheel", "warn", "no tick within the last minute: no wheel runs", advice)
    age_ms = now_ms - newest.timestamp()[1]
    if age_ms < -MAX_SKEW_MS:
        advice = "Check the time synchronisation of both machines."
        return Check("clock", "fail", f"{-age_ms:,} ms behind the broker's", advice)
    if age_ms > FRESH_TICK_MS:
        advice = "Start a wheel, or check the clocks of this machine and of the broker."
        return Check("clock", "warn", f"the newest tick is {age_ms:,} ms old", advice)
    return Check("clock", "ok", f"the wheel ticks; the newest is {age_ms:,} ms old by our clock")


def check_workers(cluster: Cluster, folder: Path) -> Iterator[Check]:
    """Ask each worker of the running ``up`` for its health."""
    if cluster.run is None:
        found = f"none is known: {RunFile.path(folder)} is not of this cluster"
        yield Check("workers", "ok", f"{found}; see their own /ready")
        return
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    for worker in cluster.run.workers:
        name = f"{worker.app} {worker.slot}"
        advice = f"See the worker's log in {folder / 'logs'}."
        try:
            with opener.open(f"{worker.url}/ready", timeout=WORKER_TIMEOUT_S):
                yield Check(name, "ok", f"works, {worker.url}")
        except urllib.error.HTTPError as error:
            reason = error.read(2_000).decode(errors="replace")
            yield Check(name, "warn", f"is not ready: {reason}", advice)
        except OSError as error:
            reason = str(getattr(error, "reason", error))
            yield Check(name, "fail", f"does not answer at {worker.url}: {reason}", advice)
