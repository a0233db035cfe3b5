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
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol
from urllib.parse import unquote, urlsplit

from infra.kafka.admin import admin_client, cluster_metadata
from infra.kafka.topics import topic_name
from schemas.codec import Codec
from schemas.errors import BrokerError, DecodeError, StoreError, UsageError
from schemas.records import CaptureResult, ScheduleTick
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
SILENCE_S: Final = 30.0
"""How long a broker may say nothing before reading is given up."""
IMAGE_BATCH: Final = 1_024
"""Results whose pictures are read back together."""
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

    @property
    def at_us(self) -> int:
        """When it was asked, UTC microseconds."""

    @property
    def shutter(self) -> bool:
        """Whether a picture was taken."""

    @property
    def command_id(self) -> str:
        """The command it was asked for; empty: somebody else's request."""


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
    reader = _Reader(kafka, Codec(schema_ids(schema_registry)), end, progress or _silent)
    plan = Plan(_last_ticks(reader, names[TICKS], begin), settle_ms)
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
        blobs=_listed(store, progress or _silent),
        unreadable=reader.unreadable,
    )


def _silent(_what: str, _done: int, _total: int) -> None:
    """Tell nobody."""


def _ends(kafka: str, topics: list[str], *, beginning: bool = False) -> Offsets:
    """Return the last (or the first) offset of every partition of these topics."""
    from confluent_kafka import KafkaException, TopicPartition
    from confluent_kafka.admin import OffsetSpec  # type: ignore[attr-defined]

    admin = admin_client(kafka)
    found = cluster_metadata(admin, kafka).topics
    missing = [name for name in topics if name not in found]
    if missing:
        raise UsageError(f"There is no topic {missing[0]} at {kafka}: nothing ran there.")
    wanted = OffsetSpec.earliest() if beginning else OffsetSpec.latest()
    asked = {
        TopicPartition(name, partition): wanted
        for name in topics
        for partition in found[name].partitions
    }
    try:
        return {
            (at.topic, at.partition): future.result().offset
            for at, future in admin.list_offsets(asked, request_timeout=SILENCE_S).items()
        }
    except KafkaException as error:
        raise BrokerError(f"{kafka} does not say where its topics end: {error}.") from error


@dataclass(frozen=True, slots=True)
class _Reader:
    """Reads topics to the cut."""

    kafka: str
    codec: Codec
    end: Offsets
    progress: Progress
    unreadable: list[str]

    def __init__(self, kafka: str, codec: Codec, end: Offsets, progress: Progress) -> None:
        object.__setattr__(self, "kafka", kafka)

    def read(
        self, topic: str, since: Mapping[tuple[str, int], int] | None = None
    ) -> Iterator[tuple[int, Record]]:
        """Yield (partition, record) of a topic, in the order of each partition."""
