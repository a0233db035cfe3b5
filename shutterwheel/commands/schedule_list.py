"""``shutterwheel schedule list``: what there is, when it was due and when it will be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

import typer

from shutterwheel.context import AsJson, DataDir, Kafka, Namespace, Registry, find_cluster

if TYPE_CHECKING:
    from schemas.records import CaptureResult
    from shutterwheel.context import Cluster
    from shutterwheel.outlook import Subject

EXAMPLES: Final = """
Examples:

  shutterwheel schedule list

  shutterwheel schedule list --device cam-1 --results 1h

  shutterwheel schedule list --json | jq -r 'select(.paused) | .device_id'
"""
RESULTS: Final = "capture.results"


def register(group: typer.Typer) -> None:
    """Add the commands."""
    group.command("list", epilog=EXAMPLES)(list_)


def list_(
    device: Annotated[str | None, typer.Option(metavar="ID", help="Only this device.")] = None,
    results: Annotated[
        str | None,
        typer.Option(
            metavar="DURATION", help="Look up how the last ended, in the results of so long."
        ),
    ] = None,
    kafka: Kafka = None,
    namespace: Namespace = None,
    data: DataDir = None,
    registry: Registry = None,
    as_json: AsJson = False,
) -> None:
    """Show the schedules there are, as the timing wheel has them. With --json one a line.

    'last' is when a schedule was last due, computed; it costs nothing and says nothing of a photo.
    With --results DURATION the results of so long are read (20 µs each; with --device those of one
    partition only) and 'result' says how the last capture ended.
    """
    from connectors.clients.events import now_ms
    from connectors.clients.values import duration_ms, show_moment
    from shutterwheel.show import plain, write_json, write_table

    cluster = find_cluster(kafka, namespace, data, registry)
    now = now_ms()
    found = subjects(cluster, device)
    ended: dict[tuple[str, str], CaptureResult] = {}
    if results is not None:
        ended = last_results(cluster, now - duration_ms(results, "--results"), device)
    rows: list[tuple[object, ...]] = []
    for one in found:
        state = one.state
        assert state is not None, "it is a row of the table"
        last, coming = one.last_ms(now), one.next_ms(now)
        result = ended.get((one.device_id, one.schedule_id))
        if as_json:
            more: dict[str, object] = {"words": one.words, "next_ms": coming, "last_ms": last}
            if results is not None:
                more["result"] = None if result is None else plain(result)
            write_json({**plain(state), **more})
            continue
        shown = "" if result is None else f"{result.state} {show_moment(result.scheduled_ms)}"
        rows.append(
            (
                one.device_id,
                one.schedule_id,
                one.words,
                "" if last is None else show_moment(last),
                *((shown,) if results is not None else ()),
                "" if coming is None else show_moment(coming),
                state.epoch,
                _state_words(one),
            )
        )
    if as_json:
        return
    more_columns = ("result",) if results is not None else ()
    columns = ("device", "schedule", "due", "last", *more_columns, "next", ">epoch", "state")
    nothing = "There is no schedule." if device is None else f"Device {device!r} has no schedule."
    write_table(columns, rows, nothing)


def _state_words(one: Subject) -> str:
    from streams.core.facts import PAUSED_BY

    state = one.state
    assert state is not None, "it is a row of the table"
    if state.paused:
        by = " by the wheel itself" if state.paused_by == PAUSED_BY else ""
        return f"paused{by}: {state.pause_reason}"
    return "waits for the device's place" if one.waits_for_place else ""


def subjects(cluster: Cluster, device_id: str | None = None) -> list[Subject]:
    """Return the schedules there are, with the places of their devices where those matter."""
    from shutterwheel.inventory import read_profiles, read_rows
    from shutterwheel.outlook import subject_of_row
    from streams.core.recurrence import needs_place

    rows = read_rows(cluster, device_id)
    profiles = {}
    if any(needs_place(row.spec) for row in rows):
        profiles = {one.device_id: one for one in read_profiles(cluster, device_id)}
    return [subject_of_row(row, profiles) for row in rows]


def last_results(
    cluster: Cluster, since_ms: int, device_id: str | None = None
) -> dict[tuple[str, str], CaptureResult]:
    """Return the last result of each (device, schedule) that was written since a time."""
    from connectors.clients.kafka import make_codec
    from connectors.clients.scan import Scanner
    from infra.kafka.topics import topic_name
    from schemas.errors import DecodeError
    from schemas.records import CaptureResult
    from streams.core.ids import partition_of

    codec = make_codec(cluster.registry)
    topic = topic_name(cluster.namespace, RESULTS)
    newest: dict[tuple[str, str], CaptureResult] = {}
    with Scanner(cluster.kafka, codec) as scanner:
        home = None if device_id is None else partition_of(device_id, scanner.partitions(topic))
        key = None if device_id is None else device_id.encode()
        for message in scanner.messages(topic, home, max(0, since_ms)):
            if key is not None and message.key() != key:
                continue
            try:
                record = codec.decode(message.value() or b"")
            except DecodeError:
                continue  # the readers of that topic say so; here it is nothing
            if isinstance(record, CaptureResult) and record.schedule_id:
                newest[record.device_id, record.schedule_id] = record
    return newest
