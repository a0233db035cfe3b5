"""Audits the partitions of a log in processes side by side, and says what was found.

What a process needs to open the log and the blob store is a :class:`Source`, which travels as it
is; each process opens its own. A partition is one piece of work, so as many processes help as there
are partitions. This process works as well, at once: a helping one takes most of a second of a core
to start, in which 150,000 records are audited; so a short log has none.
"""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import threading
import time
from collections import deque
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from shutterwheel.tz_files import know_tz
from streams.replay.audit import TOPICS, AuditOptions, AuditTools, PartitionReport, audit_partition
from streams.replay.audit_events import TICKS
from streams.replay.audit_findings import Findings, exit_code

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from concurrent.futures import Future

    from schemas.codec import Codec
    from streams.replay.log import Log

    Told = Callable[[int, int, int], None]
    """Told the partition, how many records more were read of it, and the time of the tick."""

READERS: Final = 4
"""Threads of a process that read and hash pictures."""
TELL_S: Final = 0.2
HELPED: Final = 400_000
"""Records for which a further process is worth its start, where no pictures are read."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where a log and its pictures are."""

    kafka: str = ""
    namespace: str = ""
    schema_registry: str = ""
    blobs: str = ""
    """Folder or URL of the blob store; empty: none, pictures and rows of snapshots are not read."""
    archive: str = ""
    """Folder or URL of an archive that is read in place of a cluster."""
    images: bool = True
    """Whether pictures are read back and hashed, where there is a store."""
    tz: tuple[str, ...] = ()
    """Folders of further versions of the tz data (``tz_files.py``)."""


@dataclass(frozen=True, slots=True)
class AuditReport:
    """What an audit of all partitions has found."""

    partitions: tuple[PartitionReport, ...]
    findings: Findings
    unchecked: tuple[str, ...]
    """What could not be checked, a sentence each, with the partition's number."""
    strays: int | None
    """Pictures in the store of no result; None: not counted."""
    seconds: float

    @property
    def exit_code(self) -> int:
        """Return the exit code of the command."""
        return exit_code(self.findings.counts, unchecked=bool(self.unchecked))

    def sum(self, name: str) -> int:
        """Return a count over all partitions."""
        return sum(int(getattr(one, name)) for one in self.partitions)

    @property
    def states(self) -> dict[str, int]:
        """Return how many captures ended in each state."""
        found: dict[str, int] = {}
        for one in self.partitions:
            for state, count in one.states.items():
                found[state] = found.get(state, 0) + count
        return dict(sorted(found.items()))


class Opened(NamedTuple):
    """A log that is open, and what reads its records."""

    log: Log
    codec: Codec


def opened(source: Source) -> Opened:
    """Open the log of a source, as ``open_log``."""
    from shutterwheel.logs_at import codec_of

    log = open_log(source)
    return Opened(log, codec_of(log, source.schema_registry))


def open_log(source: Source) -> Log:
    """Open the log of a source. BrokerError or UsageError where it cannot be."""
    from shutterwheel import logs_at

    return logs_at.open_log(source.kafka, source.namespace, source.archive)


def audit(
    source: Source,
    options: AuditOptions,
    partitions: Iterable[int] | None = None,
    *,
    jobs: int = 1,
    strays: bool = False,
    told: Told = lambda _partition, _records, _time_ms: None,
) -> AuditReport:
    """Audit partitions of a log, all of them where none are named.

    Raises BrokerError, StoreError or UsageError where the log or the store cannot be read.
    """
    began_s = time.monotonic()
    know_tz(source.tz)
    found = opened(source)
    log = found.log
    numbers = list(range(log.partitions(TICKS)) if partitions is None else partitions)
    helpers = min(jobs, len(numbers)) - 1
    if helpers > 0 and not (source.blobs and source.images):
        helpers = min(helpers, _size(log, numbers) // HELPED)
    with _seldom_collected():
        if helpers > 0:
            work = _Shared(source, options, strays, told, found, numbers)
            reports = work.done_with(helpers)
        else:
            reports = [
                audit_one(source, options, number, strays, told, found) for number in numbers
            ]
    reports.sort(key=lambda one: one.partition)
    findings = Findings()
    for one in reports:
        findings.merge(one.counts, one.findings)
    unchecked = tuple(
        f"partition {one.partition}: {text}" for one in reports for text in one.unchecked
    )
    count = None
    if strays and source.blobs:
        more = _strays(source, reports, log.partitions(TICKS), options.device_id)
        findings.merge(more.counts, more.all_first)
        count = more.total
    return AuditReport(tuple(reports), findings, unchecked, count, time.monotonic() - began_s)


@contextlib.contextmanager
def _seldom_collected() -> Iterator[None]:
    """Let garbage be looked for seldom: what is read dies young, and the state is no garbage.

    An entry is four things that are looked at again and again; that took as long as the audit.
    """
    thresholds = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(50_000, 50, 100)
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)
        gc.unfreeze()


def _size(log: Log, partitions: list[int]) -> int:
    """Return about how many records partitions have: markers count, too."""
    size = 0
    for topic in TOPICS:
        firsts, ends = log.firsts(topic), log.ends(topic)
        size += sum(ends[number] - firsts[number] for number in partitions)
    return size


def audit_one(
    source: Source, options: AuditOptions, partition: int, strays: bool, told: Told, opened: Opened
) -> PartitionReport:
    """Audit one partition in this process, of a log that is open."""
    with _tools(source, opened.codec, strays, told) as tools:
        return audit_partition(opened.log, partition, options, tools)


@contextlib.contextmanager
def _tools(source: Source, codec: Codec, strays: bool, told: Told) -> Iterator[AuditTools]:
    if not source.blobs:
        yield AuditTools(codec, progress=told)
        return
    from connectors.blobs.snapshots import SnapshotFiles
    from connectors.blobs.store import BlobStore
    from shutterwheel.evidence import check_images

    files = SnapshotFiles.open(source.blobs)
    store = BlobStore.open(source.blobs)
    with ThreadPoolExecutor(READERS, thread_name_prefix="images") as threads:
        try:
            yield AuditTools(
                codec,
                lambda snapshot: files.read(snapshot.uri),
                (lambda images: check_images(images, store, threads)) if source.images else None,
                told,
                strays,
            )
        finally:
            store.close()


# --- processes ------------------------------------------------------------------------------------

_queue: Any = None
"""In a helping process: where it tells how far it is."""
_logs: dict[Source, Opened] = {}
"""In a helping process: what it reads, whose connections serve one partition after the other."""


def _start(queue: Any, tz: tuple[str, ...]) -> None:
    global _queue  # noqa: PLW0603  # a process has one, and its work is handed nothing else
    _queue = queue
    know_tz(tz)


def _work(source: Source, options: AuditOptions, partition: int, strays: bool) -> PartitionReport:
    def told(number: int, records: int, time_ms: int) -> None:
        _queue.put((number, records, time_ms))

    if source not in _logs:
        _logs[source] = opened(source)
    with _seldom_collected():
        return audit_one(source, options, partition, strays, told, _logs[source])


class _Shared:
    """The partitions of a log, worked on by this process and by helping ones."""

    def __init__(
        self,
        source: Source,
        options: AuditOptions,
        strays: bool,
        told: Told,
        log: Opened,
        partitions: list[int],
    ) -> None:
        self._source, self._options, self._strays, self._log = source, options, strays, log
        self._told = told
        self._telling = threading.Lock()
        """What is told by helping processes comes by a thread of its own."""
        self._waiting = deque(partitions)
        self._running: set[Future[PartitionReport]] = set()
        self._reports: list[PartitionReport] = []

    def done_with(self, helpers: int) -> list[PartitionReport]:
        """Do all of it."""
        context = multiprocessing.get_context("spawn")
        queue = context.Queue()

        def listen() -> None:
            while (news := queue.get()) is not None:
                self._tell(*news)

        listener = threading.Thread(target=listen, name="audit-progress", daemon=True)
        listener.start()
        try:
            with ProcessPoolExecutor(
                helpers, context, initializer=_start, initargs=(queue, self._source.tz)
            ) as pool:
                try:
                    self._work(pool, helpers)
                except BaseException:
                    pool.shutdown(wait=False, cancel_futures=True)
                    raise
        finally:
            queue.put(None)
            listener.join()
            queue.close()
            queue.join_thread()
        return self._reports

    def _work(self, pool: ProcessPoolExecutor, helpers: int) -> None:
        source, options, strays = self._source, self._options, self._strays

        def hand_out() -> None:
            done = {one for one in self._running if one.done()}
            self._running -= done
            self._reports += [one.result() for one in done]
            while self._waiting and len(self._running) < helpers:
                number = self._waiting.popleft()
                self._running.add(pool.submit(_work, source, options, number, strays))

        def told(number: int, records: int, time_ms: int) -> None:
            self._tell(number, records, time_ms)
            hand_out()  # while this process works on, too

        hand_out()
        while self._waiting:
            number = self._waiting.popleft()
            self._reports.append(audit_one(source, options, number, strays, told, self._log))
            hand_out()
        self._reports += [done.result() for done in as_completed(self._running)]

    def _tell(self, number: int, records: int, time_ms: int) -> None:
        with self._telling:
            self._told(number, records, time_ms)


def _strays(
    source: Source, reports: list[PartitionReport], partitions: int, device_id: str
) -> Findings:
    """Find pictures in the store of captures in the audited time that no result names."""
    from connectors.blobs.store import BlobStore
    from shutterwheel.stray_images import stray_images

    found, store = Findings(device_id), BlobStore.open(source.blobs)
    try:
        for finding in stray_images(store, reports, partitions):
            found.add(finding)
    finally:
        store.close()
    return found
