"""Quartz as a peer: its jars, its compiler, its settings; in memory and on PostgreSQL.

Jars come from ``jars.lock.json`` (SHA-256) by the broker's own mechanism; the program is compiled
by ECJ, as Kafka Streams' is. One durable job with a trigger for each of the J: what a user of
Quartz does with many times of one thing, and the fewest rows.

Settings, and why each:

* ``batchTriggerAcquisitionMaxCount``, as many as there are threads (Quartz takes no more): each
  look at the store brings all that is due. ``…FireAheadTimeWindow`` 0, its default: a window fires
  all triggers of a batch with the first, early. (Even so it fires up to 2 ms early: the scheduler's
  thread takes what is due in 2 ms as due.)
* In memory: 32 threads. Bodies take microseconds, so threads are there for the batch only.
* On PostgreSQL: ``JobStoreTX`` with ``PostgreSQLDelegate``, 200 threads for batches of 200 (each
  look sorts all that is overdue; batches of 20 fired 135 a second), 40 connections by HikariCP.
  Not clustered its locks are the process's own; ``isClustered`` takes row
  locks in the database, which is what lets another node take over: that is a row of its own.
* ``idleWaitTime`` 1 s, its least, in both: Quartz asks the store for all that is due up to so far
  ahead, sorted, and takes a batch of it. With its default of 30 s and a period of 25 s that is
  every trigger there is, each time: on PostgreSQL it fired 109 a second.
* On PostgreSQL 1,000 triggers are registered and the others copied from the first by SQL, the
  tables vacuumed and analysed: to register 100,000 took 150 s. ``setup_s`` is what the 1,000 took,
  times the number of jobs by 1,000.
* A heap of 2 GiB with ZGC, which is for short pauses.
* Misfires: their threshold is 60 s, its default: no fire of a run is that late and none is skipped.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from benchmarks.java import compile_java
from infra.kafka.jars import load_lock
from infra.kafka.java import find_java
from schemas.errors import BrokerError

if TYPE_CHECKING:
    from benchmarks.schedulers.work import Job
    from infra.kafka.jars import Jar

HERE: Final = Path(__file__).parent
PROGRAM: Final = "QuartzProgram"
MEMORY_THREADS: Final = 32
STORE_THREADS: Final = 200
STORE_CONNECTIONS: Final = 40


def locked(artifact: str) -> str:
    """Return the version of a jar that is locked."""
    return next(jar.version for jar in _jars() if jar.artifact_id == artifact)


def java_version() -> str:
    """Return the major version of the Java that would run it; empty where there is none."""
    try:
        return str(find_java().major)
    except BrokerError:
        return ""


def _jars() -> tuple[Jar, ...]:
    return load_lock(HERE / "jars.lock.json")


def prepare(folder: Path) -> list[str]:
    """Fetch the jars, compile the program into ``folder``, return how a Java starts it.

    Raises:
        BrokerError: a jar cannot be had, there is no Java, or the program does not compile.

    """
    java, class_path = compile_java(HERE / f"{PROGRAM}.java", _jars(), folder)
    return [
        *(java, "-Xms512m", "-Xmx2g", "-XX:+UseZGC"),
        *("-cp", class_path, PROGRAM),
    ]


def in_memory() -> dict[str, str]:
    """Return the settings of a scheduler that keeps all in memory."""
    return {**_common(MEMORY_THREADS), "jobStore.class": "org.quartz.simpl.RAMJobStore"}


def on_postgres(port: int, user: str, *, clustered: bool) -> dict[str, str]:
    """Return the settings of a scheduler whose store is a PostgreSQL on this port of loopback."""
    return {
        **_common(STORE_THREADS),
        "jobStore.class": "org.quartz.impl.jdbcjobstore.JobStoreTX",
        "jobStore.driverDelegateClass": "org.quartz.impl.jdbcjobstore.PostgreSQLDelegate",
        "jobStore.dataSource": "bench",
        "jobStore.isClustered": str(clustered).lower(),
        "scheduler.instanceId": "AUTO",
        "dataSource.bench.provider": "hikaricp",
        "dataSource.bench.driver": "org.postgresql.Driver",
        "dataSource.bench.URL": f"jdbc:postgresql://127.0.0.1:{port}/postgres",
        "dataSource.bench.user": user,
        "dataSource.bench.maxConnections": str(STORE_CONNECTIONS),
    }


def _common(threads: int) -> dict[str, str]:
    return {
        "scheduler.instanceName": "bench",
        "scheduler.batchTriggerAcquisitionMaxCount": str(threads),
        "scheduler.batchTriggerAcquisitionFireAheadTimeWindow": "0",
        "scheduler.idleWaitTime": "1000",
        "threadPool.class": "org.quartz.simpl.SimpleThreadPool",
        "threadPool.threadCount": str(threads),
    }


def argument(job: Job, settings: dict[str, str], folder: Path) -> str:
    """Write the job with Quartz's own settings; return the program's argument, its path."""
    lines = [f"{name}={getattr(job, name)}" for name in job.__dataclass_fields__]
    lines += [f"org.quartz.{name}={value}" for name, value in settings.items()]
    path = folder / "job.properties"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(path)
