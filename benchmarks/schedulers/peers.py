"""The schedulers that are compared: how each is made ready, what it needs, how it is started."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from benchmarks.schedulers import apscheduler3, gocron, postgres, quartz

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from benchmarks.schedulers.work import Job


@dataclass(frozen=True, slots=True)
class Started:
    """A peer that can be run now."""

    argument: Callable[[Job, Path], str]
    """Writes or words the program's argument; the folder is for files."""
    beside: int = 0
    """Process id of a server that works for it; 0: there is none."""


def _text(job: Job, _folder: Path) -> str:
    return job.text()


@contextlib.contextmanager
def _alone() -> Iterator[Started]:
    yield Started(_text)


@contextlib.contextmanager
def _quartz_in_memory() -> Iterator[Started]:
    yield Started(lambda job, folder: quartz.argument(job, quartz.in_memory(), folder))


def _quartz_on_postgres(
    *, clustered: bool, fsync: bool = True
) -> Callable[[], contextlib.AbstractContextManager[Started]]:
    @contextlib.contextmanager
    def start() -> Iterator[Started]:
        with postgres.Postgres(fsync) as server:
            settings = quartz.on_postgres(server.port, postgres.USER, clustered=clustered)
            yield Started(lambda job, folder: quartz.argument(job, settings, folder), server.pid)

    return start


@dataclass(frozen=True, slots=True)
class Peer:
    """One scheduler."""

    name: str
    prepare: Callable[[Path], list[str]]
    """Makes its program ready, with a folder for what is built; returns the command."""
    register_us: float
    """A job's share of the time that registering may take: twice what it took when measured."""
    promise: str
    start: Callable[[], contextlib.AbstractContextManager[Started]] = field(default=_alone)
    missing: Callable[[], str] = field(default=lambda: "")
    """Says what this machine lacks to run it; empty: nothing."""


PEERS: Final = (
    Peer("quartz-ram", quartz.prepare, 60.0, "in memory", _quartz_in_memory),
    Peer("gocron", gocron.prepare, 60.0, "in memory", missing=gocron.missing),
    Peer("apscheduler", apscheduler3.prepare, 150.0, "in memory"),
    Peer(
        "quartz-postgres",
        quartz.prepare,
        200.0,
        "durable, one node",
        _quartz_on_postgres(clustered=False),
        postgres.missing,
    ),
    Peer(
        "quartz-postgres-clustered",
        quartz.prepare,
        200.0,
        "durable, another node may take over",
        _quartz_on_postgres(clustered=True),
        postgres.missing,
    ),
    Peer(
        "quartz-postgres-no-fsync",
        quartz.prepare,
        200.0,
        "as durable as one broker of Kafka, one node",
        _quartz_on_postgres(clustered=False, fsync=False),
        postgres.missing,
    ),
)


def versions() -> dict[str, str]:
    """Return the versions of the peers and of what they run on; but what is missing."""
    found = {
        "quartz": quartz.locked("quartz"),
        "postgresql-jdbc": quartz.locked("postgresql"),
        "hikaricp": quartz.locked("HikariCP"),
        "java": quartz.java_version(),
        "gocron": gocron.version(),
        "go": gocron.go_version(),
        "apscheduler": apscheduler3.version(),
        "postgresql": postgres.version(),
    }
    return {name: version for name, version in found.items() if version}
