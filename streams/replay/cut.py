"""One moment of a system that runs: where its topics end, and how far its groups have read.

A state can be restored only from a moment at which tables and input offsets belong together. Each
step of a worker writes outputs, tables and offsets in one transaction for one partition; so between
two transactions they do. Such a rest of a partition is found as one reads a value that others
write, by looking twice:

1. the last stable offsets of all topics that only this app writes,
2. the group's stable offsets,
3. the ends of the same topics, uncommitted records included.

If 1 and 3 are the same nothing was open at 1 and nothing came until 3, so 2 belongs to both. Else
it is tried again; a worker commits each partition at most ten times a second and a look takes a few
milliseconds. A partition that never rests is named, and cannot be restored from this cut.

**Order.** Apps are taken downstream first, so that what an app has read lies before the end of the
topic as the one upstream left it. Topics of several writers, and those of upstream, come last.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from infra.kafka.admin import admin_client
from infra.kafka.offsets import list_offsets, stable_offsets
from infra.kafka.topics import topic_name
from streams.replay.archive.manifest import Cut, GroupCut, Place, nested
from streams.replay.log import SILENCE_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from confluent_kafka.admin import AdminClient

PATIENCE_S: Final = 10.0
"""How long an app's partitions are looked at until each has rested."""


@dataclass(frozen=True, slots=True)
class App:
    """An app of the system, as far as its state is concerned."""

    name: str
    inputs: tuple[str, ...]
    tables: dict[str, str]
    """Changelog topic by table."""
    outputs: tuple[str, ...]
    """Topics that only it writes, beside its changelogs."""


def group_name(namespace: str, app: str) -> str:
    """Return an app's consumer group (``streams.runtime.settings``)."""
    return f"{namespace}.{app}" if namespace else app


class CutTaker:
    """Takes cuts of one namespace of a cluster. BrokerError where that does not answer."""

    def __init__(
        self, kafka: str, namespace: str, apps: Iterable[App], partitions: dict[str, int]
    ) -> None:
        """Take the apps downstream first, and the topics that are to be in the cut."""
        self._kafka = kafka
        self._namespace = namespace
        self._apps = tuple(apps)
        self._partitions = partitions
        self._admin: AdminClient = admin_client(kafka)

    def take(
        self,
        patience_s: float = PATIENCE_S,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> Cut:
        """Return a cut; its groups say which partitions never rested in ``patience_s``."""
        ends: dict[Place, int] = {}
        groups: list[GroupCut] = []
        for app in self._apps:
            found, group = self._rest(app, patience_s)
            ends |= found
            groups.append(group)
        rest = [place for place in self._all() if place not in ends]
        ends |= self._ends(rest, committed=False)
        return Cut(now_ms(), nested(ends), tuple(groups))

    def _rest(self, app: App, patience_s: float) -> tuple[dict[Place, int], GroupCut]:
        """Return the ends of an app's own topics, and its offsets, partition by partition."""
        own = [name for name in (*app.outputs, *app.tables.values()) if name in self._partitions]
        waiting = set(range(max(self._partitions[name] for name in own))) if own else set()
        ends: dict[Place, int] = {}
        offsets: dict[Place, int] = {}
        deadline = time.monotonic() + patience_s
        while waiting:
            asked = [(name, number) for name in own for number in sorted(waiting)]
            before = self._ends(asked, committed=True)
            read = self._offsets(app, sorted(waiting))
            after = self._ends(asked, committed=False)
            for number in sorted(waiting):
                places = [(name, number) for name in own]
                if all(before[place] == after[place] for place in places):
                    waiting.discard(number)
                    ends |= {place: after[place] for place in places}
                    offsets |= {place: at for place, at in read.items() if place[1] == number}
            if waiting and time.monotonic() > deadline:
                offsets |= {place: at for place, at in read.items() if place[1] in waiting}
                break
        return ends, GroupCut(app.name, nested(offsets), tuple(sorted(waiting)))

    def _all(self) -> list[Place]:
        return [(name, n) for name, count in self._partitions.items() for n in range(count)]

    def _ends(self, places: list[Place], *, committed: bool) -> dict[Place, int]:
        names = {(topic_name(self._namespace, name), n): (name, n) for name, n in places}
        found = list_offsets(self._admin, names, "latest", SILENCE_S, committed=committed)
        return {names[place]: offset for place, offset in found.items()}

    def _offsets(self, app: App, numbers: list[int]) -> dict[Place, int]:
        return group_offsets(self._kafka, self._namespace, app, numbers)


def group_offsets(kafka: str, namespace: str, app: App, numbers: list[int]) -> dict[Place, int]:
    """Return what an app's group has committed for its inputs, where it has."""
    from confluent_kafka import TopicPartition

    names = {topic_name(namespace, name): name for name in app.inputs}
    asked = [TopicPartition(topic, number) for topic in names for number in numbers]
    found = stable_offsets(kafka, group_name(namespace, app.name), asked, SILENCE_S)
    return {(names[one.topic], one.partition): one.offset for one in found if one.offset >= 0}
