"""The check of ``shutterwheel doctor`` that compares time zone data: ours and those of the log.

A wheel notes in its rows by which tz data it has folded its last tick (``streams/core/tz.py``). So
each partition says which its worker has, whatever machine that runs on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from schemas.errors import ShutterwheelError
from shutterwheel.diagnosis import Check
from streams.core.partition import TZ_SHARD
from streams.core.recurrence.zones import TZ_VERSION
from streams.core.tz_behind import BEFORE_SHARD

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from schemas.records import ShardState
    from shutterwheel.context import Cluster

NAME: Final = "tz data"


def check_tz(cluster: Cluster) -> Check:
    """Compare the tz data of this installation with those of the wheel's last ticks."""
    from connectors.clients.kafka import make_codec
    from connectors.clients.scan import Scanner
    from infra.kafka.topics import topic_name
    from schemas.records import ShardState
    from shutterwheel.inventory import SHARDS

    topic = topic_name(cluster.namespace, SHARDS)
    try:
        with Scanner(cluster.kafka, make_codec(cluster.registry)) as scanner:
            count = scanner.partitions(topic)
            tables = {n: scanner.table(topic, ShardState, n, _is_tz) for n in range(count)}
    except ShutterwheelError as error:
        return Check(NAME, "warn", error.line())
    return judge(tables, TZ_VERSION)


def judge(tables: Mapping[int, Iterable[ShardState]], here: str) -> Check:
    """Say what the rows of each partition mean to an installation with these tz data."""
    by_version: dict[str, list[int]] = {}
    under_way = set[int]()
    for number, rows in tables.items():
        for row in rows:
            if row.tz is None:
                continue
            if row.shard == TZ_SHARD and not row.tz.zone:
                by_version.setdefault(row.tz.version, []).append(number)
            elif row.shard == BEFORE_SHARD:
                under_way.add(number)
    if not by_version:
        return Check(NAME, "ok", f"{here} here; no wheel has noted any yet")
    there = ", ".join(f"{version} {_of(by_version[version])}" for version in sorted(by_version))
    if len(by_version) > 1:
        advice = "Some workers have other tz data: finish the roll-out (`schedule tz`: what moves)."
        return Check(NAME, "warn", f"{here} here; the wheel's ticks: {there}", advice)
    if here not in by_version:
        advice = f"A wheel from here goes over to {here} with its first tick: see `schedule tz`."
        return Check(NAME, "warn", f"{here} here; the wheel's ticks: {there}", advice)
    if under_way:
        found = f"{here} here and in the wheel's ticks; schedules are still going over to it"
        return Check(NAME, "ok", f"{found} {_of(sorted(under_way))}")
    return Check(NAME, "ok", f"{here} here and in the wheel's ticks")


def _is_tz(key: bytes) -> bool:
    return key.startswith(b"tz")


def _of(numbers: list[int]) -> str:
    word = "partition" if len(numbers) == 1 else "partitions"
    return f"in {word} {', '.join(map(str, numbers))}"
