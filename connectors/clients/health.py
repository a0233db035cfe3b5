"""Finds how devices are: from the workers that look after them, else from the health table's topic.

A worker knows all of it, to the last heartbeat. The table's changelog knows who is online and who
flaps; when a quiet device was last heard of and its load are up to a quarter of an hour old there
(``streams/core/health.py``, ``row_every_ms``).
"""

from __future__ import annotations

import math
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, urlsplit

import msgspec

from infra.kafka.topics import topic_name
from schemas.records import DeviceHealth
from streams.core.ids import partition_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from connectors.clients.scan import Scanner

TABLE: Final = "devices.health.changelog"
ANSWER_TIMEOUT_S: Final = 5.0
MAX_ANSWER_BYTES: Final = 16 * 1024 * 1024
_UNKNOWN: Final = {"cpu", "memory", "clock_offset_ms"}
"""Fields in which JSON's null is NaN."""


@dataclass(frozen=True, slots=True)
class Seen:
    """How devices are, and who said so."""

    rows: dict[str, DeviceHealth]
    source: str
    live: bool
    """Each row is as of its last heartbeat."""


class _Page(msgspec.Struct):
    rows: list[dict[str, Any]]
    next: str | None = None


def ask_workers(urls: Iterable[str], device_id: str | None = None) -> Seen | None:
    """Return what workers know of one device, or of all; None where one of them does not answer.

    A worker that says that it does not know the device has answered.
    """
    urls = [url for url in urls if urlsplit(url).scheme in {"http", "https"}]
    rows: dict[str, DeviceHealth] = {}
    try:
        for url in urls:
            for row in _one(url, device_id) if device_id is not None else _all(url):
                rows[row.device_id] = row
    except (OSError, msgspec.MsgspecError):
        return None
    return Seen(rows, f"worker {', '.join(urls)}", live=True) if urls else None


def _get(url: str) -> bytes:
    # Workers are on this machine or beside it: no proxy of the environment is meant for them.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, timeout=ANSWER_TIMEOUT_S) as answer:
        return bytes(answer.read(MAX_ANSWER_BYTES))


def _one(url: str, device_id: str) -> Iterator[DeviceHealth]:
    try:
        body = _get(f"{url}/devices/{quote(device_id, safe='')}")
    except urllib.error.HTTPError as error:
        error.close()
        if error.code != 404:
            raise
    else:
        yield _row(msgspec.json.decode(body, type=dict[str, Any]))


def _all(url: str) -> Iterator[DeviceHealth]:
    after: str | None = "0:-1"
    while after is not None:
        page = msgspec.json.decode(_get(f"{url}/devices?after={after}"), type=_Page)
        yield from map(_row, page.rows)
        after = page.next


def _row(found: dict[str, Any]) -> DeviceHealth:
    known = {k: math.nan if v is None and k in _UNKNOWN else v for k, v in found.items()}
    return msgspec.convert(known, DeviceHealth)


def read_table(scanner: Scanner, namespace: str, device_id: str | None = None) -> Seen:
    """Return what the health table says of one device, or of all.

    Raises :class:`BrokerError` if the broker does not answer.
    """
    topic = topic_name(namespace, TABLE)
    if device_id is None:
        rows = scanner.table(topic, DeviceHealth)
    else:
        key, home = device_id.encode(), partition_of(device_id, scanner.partitions(topic))
        rows = scanner.table(topic, DeviceHealth, home, lambda one: one == key)
    return Seen({row.device_id: row for row in rows}, topic, live=False)
