"""Finds where one capture stands: at its worker, else in the topics.

An id says when its command was issued and to which shard it belongs (``streams.core.ids``). So one
partition of capture.results is read, from that time on: the end of a capture lies behind its
beginning. Where there is no result yet, capture.commands says whether it was issued at all.

Cost: some 20 µs a record of that partition since then.
"""

from __future__ import annotations

import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import msgspec

from infra.kafka.topics import topic_name
from schemas.errors import DecodeError
from schemas.records import CaptureCommand, CaptureResult, EndedCapture, OpenCapture
from streams.core.ids import command_shard, command_time_ms

if TYPE_CHECKING:
    from collections.abc import Iterable

    from connectors.clients.scan import Scanner
    from schemas.codec import Codec

RESULTS, COMMANDS = "capture.results", "capture.commands"
SKEW_MS: Final = 60_000
"""How far the clock of whoever wrote the records may lie behind the one in the id."""
ANSWER_TIMEOUT_S: Final = 3.0
MAX_ANSWER_BYTES: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Found:
    """Where a capture stands, and who said so."""

    state: OpenCapture | EndedCapture | CaptureResult | CaptureCommand
    """A CaptureCommand: it was issued, and nothing else is known."""
    source: str


class _Answer(msgspec.Struct):
    """What tells the two shapes of a worker's answer apart."""

    command: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


def ask_workers(urls: Iterable[str], command_id: int) -> Found | None:
    """Return what a worker knows; None: none of them has it, or none answers."""
    # Workers are on this machine or beside it: no proxy of the environment is meant for them.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    for url in urls:
        if urlsplit(url).scheme not in {"http", "https"}:
            continue
        try:
            with opener.open(f"{url}/captures/{command_id}", timeout=ANSWER_TIMEOUT_S) as answer:
                body = answer.read(MAX_ANSWER_BYTES)
            shape = msgspec.json.decode(body, type=_Answer)
            state: OpenCapture | EndedCapture = (
                msgspec.json.decode(body, type=EndedCapture)
                if shape.command is msgspec.UNSET
                else msgspec.json.decode(body, type=OpenCapture)
            )
        except (OSError, msgspec.MsgspecError):
            continue  # it is not this worker's, or the worker is gone: the topics know
        return Found(state, f"worker {url}")
    return None


def search_topics(scanner: Scanner, codec: Codec, namespace: str, command_id: int) -> Found | None:
    """Return what the topics say; None: no such command was ever issued, or it is forgotten.

    Raises :class:`BrokerError` if the broker does not answer.
    """
    results = topic_name(namespace, RESULTS)
    partition = command_shard(command_id) % scanner.partitions(results)
    since_ms = max(0, command_time_ms(command_id) - SKEW_MS)
    for topic in (results, topic_name(namespace, COMMANDS)):
        for message in scanner.messages(topic, partition, since_ms):
            try:
                record = codec.decode(message.value() or b"")
            except DecodeError:
                continue  # the reader of that topic has said so; here it is nothing
            if (
                isinstance(record, CaptureResult | CaptureCommand)
                and record.command_id == command_id
            ):
                place = f"{topic}, partition {partition}, offset {message.offset()}"
                return Found(record, place)
    return None
