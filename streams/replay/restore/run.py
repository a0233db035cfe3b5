"""Restoring a system: topics made, records at their offsets, tables, groups, and the proof.

Order, and why:

1. The target is empty: none of its topics ever held a record, no group has an offset. Else nothing
   is done.
2. The topics are made. While they are written they keep the times they are given and delete
   nothing; their own settings come last.
3. Tables: the rows that the changelogs come to at the cut (or folded ticks), no dead ones. They are
   read back, and hash to what the source's rows hash to.
4. Topics that are not compacted: every record at the offset it had (``pieces.py``), as records name
   offsets (``TickChange.offset``, ``DeadLetter.offset``) and so do the groups. Of a compacted one
   the newest record of each key is written, and offsets of it are counted anew.
5. The groups' offsets, last: from here on workers go on where the others were at the cut.

What a group's offset carried as a note (``handover.py``) is not restored: it is only true of the
generation after.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from infra.kafka.admin import admin_client, cluster_metadata, create_topics, set_topic_settings
from infra.kafka.offsets import list_offsets
from infra.kafka.topics import TOPICS, check_partitions, topic, topic_name
from schemas.errors import BrokerError, StoreError, UsageError
from streams.replay.archive.manifest import spans
from streams.replay.cut import group_name, group_offsets
from streams.replay.log import SILENCE_S
from streams.replay.restore.crew import Alone, Hand, TableReport, TableTask
from streams.replay.restore.tables import TICKS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from schemas.codec import Codec
    from streams.replay.archive.manifest import Cut, Place
    from streams.replay.cut import App
    from streams.replay.log import Log
    from streams.replay.restore.crew import Crew

WHEEL = "wheel"


@dataclass(frozen=True, slots=True)
class Source:
    """What is restored: a log, and the moment of it."""

    log: Log
    cut: Cut
    codec: Codec


@dataclass(frozen=True, slots=True)
class Target:
    """Where to."""

    kafka: str
    namespace: str
    replication: int = 1


@dataclass(slots=True)
class RestoreReport:
    """What was restored."""

    at_ms: int
    """The moment of the cut."""
    tables: list[TableReport] = field(default_factory=list)
    records: int = 0
    transactions: int = 0
    markers: int = 0
    """Markers of commits that were written without a transaction."""
    partitions: int = 0
    """Partitions whose records lie where they lay."""
    offsets: dict[str, dict[str, dict[int, int]]] = field(default_factory=dict)
    """Committed for each app, by input and partition."""
    tables_s: float = 0.0
    """What writing, reading back and hashing the tables took."""
    records_s: float = 0.0
    """What writing the records of topics took."""

    @property
    def ok(self) -> bool:
        """Say whether the state equals the original's in each partition."""
        return all(table.equal for table in self.tables)


class Restore:
    """One restore. UsageError: the target is not empty, or the cut is none to restore from."""

    def __init__(
        self,
        source: Source,
        target: Target,
        apps: Iterable[App],
        progress: Callable[[str, int, int], None] = lambda _what, _done, _total: None,
        crew: Crew | None = None,
    ) -> None:
        """Take the two ends; ``progress`` is told what is written, how far, and how far it goes.

        ``crew`` writes it; without one this process does.
        """
        self._source = source
        self._target = target
        self._apps = tuple(apps)
        self._progress = progress
        hand = Hand(source.log, source.codec, target.kafka, target.namespace)
        self._crew = crew or Alone(hand)
        self._ends = spans(source.cut.ends)
        self._admin = admin_client(target.kafka)
        self._report = RestoreReport(source.cut.at_ms)
        self._moved: dict[Place, list[int]] = {}
        """Offsets, in the source, of what was written of a compacted partition."""
        self._check_cut()

    def run(self, *, fold: bool = False) -> RestoreReport:
        """Restore everything and return the proof; ``fold``: the wheel's tables from its ticks.

        Raises BrokerError (also: a record did not come to its place) and StoreError (the archive is
        damaged); what was written until then is best dropped.
        """
        self._check_empty()
        target = self._target
        count = check_partitions(self._source.log.partitions("schedule.events"))
        create_topics(target.kafka, target.namespace, count, target.replication)
        names = {spec.name: topic_name(target.namespace, spec.name) for spec in TOPICS}
        set_topic_settings(self._admin, dict.fromkeys(names.values(), POURING), SILENCE_S)
        report, began_s = self._report, time.monotonic()
        self._tables(count, fold=fold)
        report.tables_s = time.monotonic() - began_s
        self._compacted()
        exact = {place: end for place, end in self._ends.items() if not _is_compacted(place[0])}
        for poured in self._crew.pour(exact, partial(self._progress, "records")):
            report.records += poured.records
            report.transactions += poured.transactions
            report.markers += poured.markers
        report.records_s = time.monotonic() - began_s - report.tables_s
        settings = {names[spec.name]: _own(spec.config(target.replication)) for spec in TOPICS}
        set_topic_settings(self._admin, settings, SILENCE_S)
        report.partitions = len(exact)
        if not report.ok:
            wrong = next(table for table in report.tables if not table.equal)
            raise StoreError(
                f"The state of {wrong.app}, partition {wrong.partition}, is not the original's "
                f"({wrong.original[:12]}, restored {wrong.restored[:12]}, folded "
                f"{wrong.folded[:12] or 'not'}): no group offset was committed."
            )
        for app in self._apps:
            self._commit(app)
        return report

    # -- before --------------------------------------------------------------------------------

    def _check_cut(self) -> None:
        for group in self._source.cut.groups:
            if group.unsettled:
                raise UsageError(
                    f"{group.app} never rested on partition {group.unsettled[0]} while the cut was "
                    "taken: its tables and offsets may not belong together. Take another."
                )
        missing = [spec.name for spec in TOPICS if spec.name not in self._source.cut.ends]
        if missing:
            raise UsageError(f"The cut has no {missing[0]}: nothing can be restored from it.")

    def _check_empty(self) -> None:
        target = self._target
        found = cluster_metadata(self._admin, target.kafka).topics
        places = [
            (topic_name(target.namespace, spec.name), number)
            for spec in TOPICS
            if topic_name(target.namespace, spec.name) in found
            for number in found[topic_name(target.namespace, spec.name)].partitions
        ]
        ends = list_offsets(self._admin, places, "latest", SILENCE_S) if places else {}
        used = sorted({name for (name, _), end in ends.items() if end})
        if used:
            raise UsageError(
                f"{used[0]} at {target.kafka} is not empty: restore into an empty cluster, or by "
                "--namespace into one that has no records."
            )
        count = self._source.log.partitions("schedule.events")
        for app in self._apps:
            if group_offsets(target.kafka, target.namespace, app, list(range(count))):
                raise UsageError(
                    f"The group {group_name(target.namespace, app.name)} at {target.kafka} has "
                    "offsets already: restore into an empty cluster or another --namespace."
                )

    # -- tables --------------------------------------------------------------------------------

    def _tables(self, count: int, *, fold: bool) -> None:
        tasks = [
            TableTask(
                app.name,
                number,
                app.tables,
                {name: self._ends[name, number] for name in app.tables.values()},
                self._ends[TICKS, number] if fold and app.name == WHEEL else 0,
            )
            for app in self._apps
            for number in range(count)
        ]
        for done, table in enumerate(self._crew.tables(tasks), 1):
            self._progress(f"tables of {table.app}", done, len(tasks))
            self._report.tables.append(table)
        self._report.tables.sort(key=lambda one: (one.app, one.partition))
        self._report.records += sum(sum(one.rows.values()) for one in self._report.tables)

    def _compacted(self) -> None:
        """Write the newest record of each key of compacted topics that are no table's."""
        changelogs = {name for app in self._apps for name in app.tables.values()}
        ends = {
            place: end
            for place, end in sorted(self._ends.items())
            if _is_compacted(place[0]) and place[0] not in changelogs
        }
        for place, offsets in self._crew.newest(ends):
            self._moved[place] = offsets
            self._report.records += len(offsets)

    # -- groups --------------------------------------------------------------------------------

    def _commit(self, app: App) -> None:
        """Commit an app's offsets as of the cut."""
        from confluent_kafka import Consumer, KafkaException, TopicPartition

        [group] = [one for one in self._source.cut.groups if one.app == app.name]
        offsets = {
            place: self._there(place, offset) for place, offset in spans(group.offsets).items()
        }
        if not offsets:
            return
        target = self._target
        consumer = Consumer(
            {
                "bootstrap.servers": target.kafka,
                "group.id": group_name(target.namespace, app.name),
                "enable.auto.commit": False,
                "log_level": 2,
            }
        )
        try:
            consumer.commit(
                offsets=[
                    TopicPartition(topic_name(target.namespace, name), number, offset)
                    for (name, number), offset in offsets.items()
                ],
                asynchronous=False,
            )
        except KafkaException as error:
            raise BrokerError(f"The offsets of {app.name} cannot be committed: {error}.") from error
        finally:
            consumer.close()
        found: dict[str, dict[int, int]] = {}
        for (name, number), offset in offsets.items():
            found.setdefault(name, {})[number] = offset
        self._report.offsets[app.name] = found

    def _there(self, place: Place, offset: int) -> int:
        """Return where an offset of the source is in the target."""
        moved = self._moved.get(place)
        return offset if moved is None else bisect_left(moved, offset)


POURING = {
    "message.timestamp.type": "CreateTime",  # each record keeps the time it had
    "retention.ms": "-1",  # nothing goes while it is written, however old
}
"""Settings of topics while a history is written into them."""


def _own(config: dict[str, str]) -> dict[str, str]:
    return {name: config[name] for name in POURING}


def _is_compacted(name: str) -> bool:
    return topic(name).cleanup == "compact"
