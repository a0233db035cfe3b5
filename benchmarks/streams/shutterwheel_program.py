"""The work of ``work.py`` on this project's runtime, with a worker's settings and collector.

All cases are exactly once: the runtime knows nothing else. So the case ``state`` is set against
peers that promise less.
"""

from __future__ import annotations

import asyncio
import gc
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import uvloop

import streams.runtime.app
from benchmarks.streams.work import (
    CONSUME,
    EXACTLY_ONCE,
    RECOVERY,
    Progress,
    given_job,
    next_row,
    say,
)
from shutterwheel.worker import SWITCH_S
from streams.observability.logs import configure
from streams.observability.metrics import Metrics
from streams.runtime.app import Layout, ShardApp
from streams.runtime.clock import Clock
from streams.runtime.recovery import Recovered, Recovery
from streams.runtime.settings import RuntimeSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from benchmarks.streams.work import Job
    from streams.runtime.partition import Partition, Step

TABLE = "counts"


class Reading(msgspec.Struct):
    """A record of the input."""

    device: str
    seq: int
    at_ms: int
    value: float


class WatchedRecovery(Recovery):
    """Says when a recovery begins and ends."""

    def recover(self, partitions: Iterable[int], still_wanted: Callable[[], bool]) -> Recovered:
        """Recover as usual."""
        say("first")
        found = super().recover(partitions, still_wanted)
        say("last")
        return found


class Work:
    """The program of the app."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._progress = Progress(job.records)
        self._decode = msgspec.json.Decoder(Reading).decode
        settings = RuntimeSettings(
            app=job.group,
            slot="0",
            bootstrap=job.bootstrap,
            namespace=job.namespace,
            data_dir=Path(job.folder),
        )
        changelogs = {} if job.case == CONSUME else {TABLE: job.changelog}
        layout = Layout((job.source,), changelogs, job.partitions)
        self.app = ShardApp(settings, layout, self, Clock(), Metrics(job.group, "0"))
        self.app.agent(job.source, self._consume if job.case == CONSUME else self._count)

    def opened(self, partition: Partition) -> None:
        """Nothing is kept in memory."""

    async def drain(self, partitions: list[Partition]) -> None:
        """Nothing is ever in flight."""

    def closed(self, partition: Partition) -> None:
        """Nothing is to be forgotten."""

    def _consume(self, _partition: Partition, records: list[Any], _step: Step) -> None:
        self._progress.begin()
        decode = self._decode
        for record in records:
            decode(record.value)
        self._progress.done(len(records))

    def _count(self, partition: Partition, records: list[Any], step: Step) -> None:
        self._progress.begin()
        decode, outputs = self._decode, self._job.case == EXACTLY_ONCE
        for record in records:
            key = record.key
            row = next_row(partition.get(TABLE, key), decode(record.value).at_ms)
            step.put(TABLE, key, row)
            if outputs:
                step.produce(self._job.sink, key, row)
        self._progress.done(len(records))


async def run(job: Job) -> None:
    """Work until the process ends."""
    work = Work(job)
    # As a worker does it (shutterwheel/worker.py).
    sys.setswitchinterval(SWITCH_S)
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 50, 100)
    await work.app.run(asyncio.Event())


def main() -> None:
    """Run until standard input closes."""
    job = given_job()
    configure(job.group, "0", "warning")
    if job.case == RECOVERY:
        setattr(streams.runtime.app, "Recovery", WatchedRecovery)  # noqa: B010
    uvloop.run(run(job))


if __name__ == "__main__":
    try:
        main()
    except BaseException as error:  # noqa: BLE001  # threads of clients must not keep it alive
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        sys.stderr.flush()
        os._exit(1)
