"""What there is to see of a run: the topics, read committed to a fixed end, and the blob store.

**The cut.** The system may be running, so the end offsets are taken downstream first: ticks,
results, commands, decisions, events. Whatever a record of the cut refers to is then in the cut as
well: the command of a result, the decision of a command, the event of a decision.

**To the end.** A topic that transactions write has control records and aborted ones, which no
application sees; the last visible record can lie before the end. So each partition is read until
the client reports end-of-partition at or behind the cut, not until some record comes.

**Pictures** are read back while the results come, in batches, and hashed in threads: nothing of
them stays in memory. A local folder is read with plain file calls, not with the library that wrote.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol
from urllib.parse import unquote, urlsplit

from msgspec.structs import replace

from connectors.blobs.keys import named_beside, photo_id
from infra.kafka.admin import admin_client, cluster_metadata
from infra.kafka.topics import topic_name
from schemas.codec import Codec
from schemas.errors import BrokerError, DecodeError, StoreError, UsageError
from schemas.records import CaptureResult, PartitionSnapshot, ScheduleTick
from schemas.select import schema_ids
from shutterwheel.expected import Plan

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from confluent_kafka import Message

    from connectors.blobs.store import BlobStore
    from schemas.records import ImageRef, Record

    Progress = Callable[[str, int, int], None]
    """Told what is being read, how far, and how far it goes."""

TICKS: Final = "schedule.ticks"
RESULTS: Final = "capture.results"
COMMANDS: Final = "capture.commands"
DECISIONS: Final = "schedule.decisions"
EVENTS: Final = "schedule.events"
DOWNSTREAM_FIRST: Final = (TICKS, RESULTS, COMMANDS, DECISIONS, EVENTS)

POLL_RECORDS: Final = 5_000
POLL_S: Final = 0.05
"""How long one call waits for that many records; the last call of a partition waits in vain."""
SILENCE_S: Final = 30.0
"""How long a broker may say nothing before reading is given up."""
IMAGE_BATCH: Final = 1_024
"""Results whose pictures are read back together."""
IMAGES_A_TASK: Final = 128
READERS: Final = 4
"""Threads that read and hash pictures."""
TICK_STEPS: Final = (64, 4_096, 1 << 62)
"""How far before the end the last tick is looked for: markers and aborted records stand there."""

Offsets = dict[tuple[str, int], int]
"""Offset by topic, as it is named on the broker, and partition."""


class Shutter(Protocol):
    """A line of a camera's log, as ``connectors.cameras.simulated.LogEntry`` has it."""

    @property
    def device_id(self) -> str:
        """The device."""
        ...

    @property
    def at_us(self) -> int:
        """When it was asked, UTC microseconds."""
        ...

    @property
    def shutter(self) -> bool:
        """Whether a picture was taken."""
        ...

    @property
    def command_id(self) -> str:
        """The command it was asked for; empty: somebody else's request."""
        ...


class Seen(NamedTuple):
    """A result, and what is wrong with its picture in the store; "": nothing, or it has none."""

    result: CaptureResult
    image: str = ""


@dataclass(frozen=True, slots=True)
class Facts:
    """All that :func:`shutterwheel.check.judge` goes by. Iterables can be read once, in order."""

    plan: Plan
    """What was asked, already read."""
    started_ms: int
    commands: Iterable[Record]
    shutters: Iterable[Shutter]
    results: Iterable[Seen]
    blobs: Iterable[int]
    """Command ids of the pictures in the store."""
    unreadable: list[str]
    """Grows while the others are read: records of the system's own topics that make no sense."""


def offsets_now(kafka: str, namespace: str) -> Offsets:
    """Return where each topic of a run ends now, to be handed to ``check_run`` as ``since``.

    Raises :class:`BrokerError`, :class:`UsageError` (no such topics).
    """
    return _ends(kafka, [topic_name(namespace, name) for name in DOWNSTREAM_FIRST])


def gather(
    kafka: str,
    namespace: str,
    store: BlobStore,
    since: Mapping[tuple[str, int], int] | None,
    started_ms: int,
    camera_logs: Iterable[Shutter] | None = None,
    progress: Progress | None = None,
    *,
    settle_ms: int = 0,
    schema_registry: str = "",
) -> Facts:
    """Read what was asked and answered; return it with what reads the rest. See ``check_run``."""
    names = {name: topic_name(namespace, name) for name in DOWNSTREAM_FIRST}
    end: Offsets = {}
    for name in DOWNSTREAM_FIRST:
        end |= _ends(kafka, [names[name]])
    begin = _ends(kafka, [names[EVENTS], names[TICKS]], beginning=True)
    reader = Reader(kafka, Codec(schema_ids(schema_registry)), end, progress or _silent)
    ticks = reader.last(names[TICKS], begin)
    plan = Plan(
        {number: tick.time_ms for number, tick in ticks.items() if isinstance(tick, ScheduleTick)},
        settle_ms,
    )
    for partition, record in reader.read(names[EVENTS]):
        plan.event(partition, record)
    for partition, record in reader.read(names[DECISIONS]):
        plan.decision(partition, record, complete=not begin[names[EVENTS], partition])
    return Facts(
        plan=plan,
        started_ms=started_ms,
        commands=(record for _, record in reader.read(names[COMMANDS], since)),
        shutters=camera_logs or (),
        results=_with_images(reader.read(names[RESULTS], since), store),
        blobs=listed(store, progress or _silent),
        unreadable=reader.unreadable,
    )


def _silent(_what: str, _done: int, _total: int) -> None:
    """Tell nobody."""


def _ends(kafka: str, topics: list[str], *, beginning: bool = False) -> Offsets:
    """Return the last (or the first) offset of every partition of these topics."""
    from infra.kafka.offsets import list_offsets

    admin = admin_client(kafka)
    found = cluster_metadata(admin, kafka).topics
    missing = [name for name in topics if name not in found]
    if missing:
        raise UsageError(f"There is no topic {missing[0]} at {kafka}: nothing ran there.")
    wanted = [(name, partition) for name in topics for partition in found[name].partitions]
    return list_offsets(admin, wanted, "earliest" if beginning else "latest", SILENCE_S)


class Reader:
    """Reads topics to the cut."""

    def __init__(self, kafka: str, codec: Codec, end: Offsets, progress: Progress) -> None:
        self.unreadable: list[str] = []
        self._kafka = kafka
        self._codec = codec
        self._end = end
        self._progress = progress

    def read(
        self, topic: str, since: Mapping[tuple[str, int], int] | None = None
    ) -> Iterator[tuple[int, Record]]:
        """Yield (partition, record) of a topic, in the order of each partition."""
        from confluent_kafka import OFFSET_BEGINNING

        starts = {
            at: OFFSET_BEGINNING if since is None else since.get(at, OFFSET_BEGINNING)
            for at in self._end
            if at[0] == topic
        }
        decode = self._codec.decode
        events = topic.endswith(EVENTS)
        for message in self.messages(topic, starts):
            try:
                record = decode(message.value() or b"")
            except DecodeError as error:
                if not events:  # upstream may send anything: that is a dead letter, no finding
                    at = f"{topic}[{message.partition()}]@{message.offset()}"
                    self.unreadable.append(f"{at}: {error}")
                continue
            yield message.partition() or 0, record

    def last(self, topic: str, begin: Offsets) -> dict[int, Record]:
        """Return the last record of each partition that has one to be read, but for snapshots."""
        firsts = {at: first for at, first in begin.items() if at[0] == topic}
        found: dict[int, Record] = {}
        for back in TICK_STEPS:
            starts = {
                at: max(first, self._end[at] - back)
                for at, first in firsts.items()
                if at[1] not in found
            }
            values: dict[int, bytes] = {}
            snapshot = self._codec.header(PartitionSnapshot)
            for message in self.messages(topic, starts):
                value = message.value() or b""
                if not value.startswith(snapshot):  # of the ticks it is the last one that counts
                    values[message.partition() or 0] = value
            found |= {number: self._codec.decode(value) for number, value in values.items()}
            if all(starts[at] == firsts[at] or at[1] in found for at in starts):
                break
        return found

    def messages(self, topic: str, starts: Mapping[tuple[str, int], int]) -> Iterator[Message]:
        """Yield the committed messages of these partitions from their starts to the cut."""
        from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

        open_ = {at for at, start in starts.items() if start < self._end[at] and self._end[at]}
        total = sum(self._end[at] - max(0, starts[at]) for at in open_)
        done = 0
        heard_s = time.monotonic()
        consumer = Consumer(_consumer_settings(self._kafka))
        try:
            consumer.assign([TopicPartition(*at, starts[at]) for at in open_])
            while open_:
                batch = consumer.consume(POLL_RECORDS, timeout=POLL_S)
                if batch:
                    heard_s = time.monotonic()
                elif time.monotonic() - heard_s > SILENCE_S:
                    at = next(iter(open_))
                    raise BrokerError(
                        f"{self._kafka} gives no more of {at[0]}, partition {at[1]}, and does not"
                        f" come to offset {self._end[at]}: a transaction may be left open."
                    )
                for message in batch:
                    at = (message.topic() or "", message.partition() or 0)
                    error, offset = message.error(), message.offset() or 0
                    if error is not None and error.code() != KafkaError._PARTITION_EOF:  # noqa: SLF001
                        raise BrokerError(f"{topic} cannot be read: {error.str()}.")
                    if at in open_ and offset >= self._end[at]:
                        open_.remove(at)
                        consumer.incremental_unassign([TopicPartition(*at)])
                    if error is None and at in open_:
                        yield message
                        if offset == self._end[at] - 1:
                            open_.remove(at)
                done += len(batch)
                self._progress(topic, min(done, total), total)
        except KafkaException as error:
            raise BrokerError(f"{topic} cannot be read: {error}.") from error
        finally:
            consumer.close()


def _consumer_settings(kafka: str) -> dict[str, object]:
    return {
        "bootstrap.servers": kafka,
        "group.id": "shutterwheel-check",  # demanded; nothing is joined or committed
        "enable.auto.commit": False,
        "auto.offset.reset": "earliest",
        "isolation.level": "read_committed",
        "enable.partition.eof": True,
        "queued.max.messages.kbytes": 65_536,
        "fetch.wait.max.ms": 50,  # the end is told by an answer with nothing in it
        "log_level": 0,
        "error_cb": lambda _error: None,
    }


# --- pictures -------------------------------------------------------------------------------------


def _with_images(records: Iterable[tuple[int, Record]], store: BlobStore) -> Iterator[Seen]:
    """Yield each result with what is wrong with its picture."""
    results = (record for _, record in records if isinstance(record, CaptureResult))
    with ThreadPoolExecutor(READERS, thread_name_prefix="images") as threads:
        while batch := list(islice(results, IMAGE_BATCH)):
            images = [result.image for result in batch if result.image is not None]
            verdicts = iter(check_images(images, store, threads))
            for result in batch:
                yield Seen(result, "" if result.image is None else next(verdicts))


def check_images(
    images: list[ImageRef], store: BlobStore, threads: ThreadPoolExecutor
) -> list[str]:
    """Read pictures back, and what lies beside them.

    Return for each what is wrong with it, "" where nothing is.
    """
    found = _check(images, store, threads)
    beside = [(number, one) for number, image in enumerate(images) for one in _beside(image)]
    if beside:
        wrongs = _check([one for _, one in beside], store, threads)
        for (number, one), wrong in zip(beside, wrongs, strict=True):
            if wrong and not found[number]:
                found[number] = f"beside it, {one.uri.rpartition('/')[2]}: {wrong}"
    return found


def _beside(image: ImageRef) -> Iterator[ImageRef]:
    """Yield what lies beside a picture, its size not known, -1."""
    for end, sha256 in image.beside.items():
        uri = named_beside(image.uri, image.sha256, end)
        yield replace(image, uri=uri, sha256=sha256, image_bytes=-1, beside={})


def _check(images: list[ImageRef], store: BlobStore, threads: ThreadPoolExecutor) -> list[str]:
    if store.base_uri.startswith("file://"):
        # A task for each picture would cost more than reading it.
        parts = [images[i : i + IMAGES_A_TASK] for i in range(0, len(images), IMAGES_A_TASK)]
        tasks = threads.map(
            lambda part: [_wrong(image, _read_file(image, store)) for image in part], parts
        )
        return [verdict for part in tasks for verdict in part]

    async def all_of_them() -> list[str]:
        found = await asyncio.gather(*(_read_remote(image, store) for image in images))
        return [_wrong(image, data) for image, data in zip(images, found, strict=True)]

    return asyncio.run(all_of_them())


def _read_file(image: ImageRef, store: BlobStore) -> bytes | str:
    """Return the bytes, or why there are none."""
    try:
        key = store.key(image.uri)
    except StoreError as error:
        return str(error)
    try:
        return Path(unquote(urlsplit(store.base_uri).path), unquote(key)).read_bytes()
    except OSError as error:
        return f"its picture {key} cannot be read: {os.strerror(error.errno or 0)}"


async def _read_remote(image: ImageRef, store: BlobStore) -> bytes | str:
    try:
        return await store.read(image.uri)
    except StoreError as error:
        return str(error)


def _wrong(image: ImageRef, data: bytes | str) -> str:
    """Return what is wrong with the bytes of a picture."""
    if isinstance(data, str):
        until_ms = image.keep_until_ms
        return "" if until_ms is not None and until_ms < time.time() * 1000 else data
    if len(data) != image.image_bytes >= 0:
        return f"its picture has {len(data)} bytes, not {image.image_bytes}"
    if hashlib.sha256(data).hexdigest() != image.sha256:
        return "its picture's bytes are not those that were stored: the SHA-256 differs"
    return ""


def listed(store: BlobStore, progress: Progress = _silent) -> Iterator[int]:
    """Yield the command id of every picture in the store."""
    if store.base_uri.startswith("file://"):
        yield from _listed_files(Path(unquote(urlsplit(store.base_uri).path)), progress)
        return

    async def keys() -> list[str]:
        return [entry.key async for entry in store.iterate()]

    for key in asyncio.run(keys()):
        if (command_id := photo_id(key)) is not None:
            yield command_id


def _listed_files(folder: Path, progress: Progress) -> Iterator[int]:
    """Walk the folder: device, day, picture."""
    count = 0
    for _, _, names in os.walk(folder):
        for name in names:
            if (command_id := photo_id(name)) is not None:
                count += 1
                yield command_id
                if count % 10_000 == 0:
                    progress("pictures", count, count)
