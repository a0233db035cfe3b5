"""Puts an archive's files by several processes that share the partitions.

A partition's files are made one after the other, each chained to the one before; so a process makes
a few of them and hands the rest of the range back, for whichever process is free next.
"""

from __future__ import annotations

import atexit
import gc
import multiprocessing
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from streams.replay.archive.filing import Filed, Task
    from streams.replay.archive.port import Objects
    from streams.replay.log import Log

FILES_A_PART: Final = 8
"""Files that a process makes before it hands the rest back; bounds what a kill throws away."""


@dataclass(frozen=True, slots=True)
class Filing:
    """Where is read and written, and by how many processes."""

    archive: str
    kafka: str
    namespace: str
    jobs: int

    def put(self, tasks: Sequence[Task]) -> Iterator[Filed]:
        """Put the files of all tasks and yield them, those of a partition in their order."""
        context = multiprocessing.get_context("spawn")
        jobs = max(1, min(self.jobs, len(tasks)))
        pool = ProcessPoolExecutor(jobs, context, initializer=_start, initargs=(self,))
        try:
            largest_first = sorted(tasks, key=lambda task: task.first - task.end)
            waiting = {pool.submit(_work, task) for task in largest_first}
            while waiting:
                ready, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                for one in ready:
                    found, rest = one.result()
                    if rest is not None:
                        waiting.add(pool.submit(_work, rest))
                    yield from found
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        pool.shutdown()


# --- in a process ---------------------------------------------------------------------------------

_ends: tuple[Objects, Log] | None = None


def _start(filing: Filing) -> None:
    global _ends  # noqa: PLW0603  # a process has one, and its work is handed nothing else
    from shutterwheel.logs_at import open_objects
    from streams.replay.log import KafkaLog

    log = KafkaLog(filing.kafka, filing.namespace)
    atexit.register(log.close)
    _ends = open_objects(filing.archive), log
    gc.freeze()
    gc.set_threshold(50_000, 50, 100)  # what is read dies young


def _work(task: Task) -> tuple[list[Filed], Task | None]:
    from streams.replay.archive.filing import put_some

    assert _ends is not None
    return put_some(*_ends, task, FILES_A_PART)
