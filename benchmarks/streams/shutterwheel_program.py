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
from shutterwheel.worker import GC_THRESHOLDS, SWITCH_S
from streams.observability.logs import configure
from streams.observability.metrics import Metrics
from streams.runtime.app import Layout, ShardApp
from streams.runtime.clock import Clock
from streams.runtime.recovery import Recovered, Recovery
from streams.runtime.settings import RuntimeSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from benchmarks.streams.work import Job
    from infra.kafka.offsets import OffsetsMark
    from streams.runtime.partition import Partition, Step

TABLE = "counts"
REPORT_S = 0.02


class Reading(msgspec.Struct):
    """A record of the input."""

    device: str
    seq: int
    at_ms: int
    value: float


class WatchedRecovery(Recovery):
    """Says when a recovery begins and ends."""

    def recover(
        self,
        partitions: Iterable[int],
        still_wanted: Callable[[], bool],
        mark: OffsetsMark | None = None,
    ) -> Recovered:
        """Recover as usual."""
        say("first")
        found = super().recover(partitions, still_wanted, mark)
        say("last")
        return found


class Alone(Progress):
    """The progress of the only worker."""

    def opened(self) -> None:
        """Say nothing: the first record says it."""

    async def report(self) -> None:
        """Say nothing: the last record says it."""


class OneOfTwo(Alone):
    """The progress of a worker of a pair: it is told to ``shutterwheel_pair.py``, every 20 ms."""

    def begin(self) -> None:
        """Say nothing: the pair says when both work."""

    def done(self, records: int = 1) -> None:
        """Count."""
        self._done += records

    def opened(self) -> None:
        """Say that a partition is this worker's."""
        say("opened", self._done)

    async def report(self) -> None:
        """Say how many records were worked on, again and again."""
        while True:
            say("done", self._done)
            await asyncio.sleep(REPORT_S)


class Work:
    """The program of the app."""

    def __init__(self, job: Job, slot: str, progress: Alone) -> None:
        self._job = job
        self._progress = progress
        self._decode = msgspec.json.Decoder(Reading).decode
        settings = RuntimeSettings(
            app=job.group,
            slot=slot,
            bootstrap=job.bootstrap,
            namespace=job.namespace,
            data_dir=Path(job.folder),
        )
        changelogs = {} if job.case == CONSUME else {TABLE: job.changelog}
        layout = Layout((job.source,), changelogs, job.partitions)
        self.app = ShardApp(settings, layout, self, Clock(), Metrics(job.group, slot))
        self.app.agent(job.source, self._consume if job.case == CONSUME else self._count)

    def opened(self, partition: Partition) -> None:  # noqa: ARG002
        """Nothing is kept in memory."""
        self._progress.opened()

    async def pausing(self, partitions: list[Partition]) -> int:  # noqa: ARG002
        """Nothing is to be handed over."""
        return 0

    def resumed(self, partition: Partition) -> None:
        """Nothing was held back."""

    async def drain(self, partitions: list[Partition]) -> int:  # noqa: ARG002
        """Nothing is ever in flight."""
        return 0

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


async def run(job: Job, slot: str, progress: Alone) -> None:
    """Work until the process ends."""
    work = Work(job, slot, progress)
    work.app.loop(progress.report)
    # As a worker does it (shutterwheel/worker.py).
    sys.setswitchinterval(SWITCH_S)
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    await work.app.run(asyncio.Event())


def main() -> None:
    """Run until standard input closes."""
    job = given_job()
    slot = sys.argv[2] if len(sys.argv) > 2 else ""
    progress = OneOfTwo(job.records) if slot else Alone(job.records)
    configure(job.group, slot or "0", "warning")
    if job.case == RECOVERY:
        setattr(streams.runtime.app, "Recovery", WatchedRecovery)  # noqa: B010
    uvloop.run(run(job, slot or "0", progress))


if __name__ == "__main__":
    try:
        main()
    except BaseException as error:  # noqa: BLE001  # threads of clients must not keep it alive
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        sys.stderr.flush()
        os._exit(1)
