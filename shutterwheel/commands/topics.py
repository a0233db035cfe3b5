"""``shutterwheel topics``: which topics there are, and whether they are as they should be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from shutterwheel.context import AsJson, DataDir, Kafka, Namespace, find_cluster

if TYPE_CHECKING:
    from infra.kafka.admin import TopicRow
    from shutterwheel.context import Cluster


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        "topics",
        epilog="""
Examples:

  shutterwheel topics --kafka 127.0.0.1:9092

  shutterwheel topics --create --partitions 64 --replication 3
""",
    )(topics)


def topics(
    create: Annotated[bool, typer.Option("--create", help="Create what is missing.")] = False,
    partitions: Annotated[
        int | None,
        typer.Option(help="A power of two up to 1,024; default: as there is already, else 8."),
    ] = None,
    replication: Annotated[int, typer.Option(min=1, help="Copies of each partition.")] = 1,
    kafka: Kafka = None,
    namespace: Namespace = None,
    data: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Show the topics; create the missing ones. What exists is never changed.

    The exit code is 1 if a topic is missing or differs.
    """
    from infra.kafka.admin import create_topics, describe_topics
    from shutterwheel.show import say, write_json, write_table

    cluster = find_cluster(kafka, namespace, data)
    count = partitions or wanted_partitions(cluster)
    if create:
        report = create_topics(cluster.kafka, cluster.namespace, count, replication)
        if not as_json:
            say(f"created {len(report.created)} topics, found {len(report.existing)}")
    rows = describe_topics(cluster.kafka, cluster.namespace, count, replication)
    differences = [sentence for one in rows for sentence in one.differences]
    if as_json:
        write_json({"topics": [_plain(one) for one in rows], "differences": differences})
    else:
        write_table(
            ("topic", "", ">partitions", ">copies", "cleanup", "kept", "writer"),
            (_cells(one) for one in rows),
            "",
        )
        for sentence in differences:
            say(f"warning: {sentence}")
    missing = [one for one in rows if not one.exists]
    if missing and not as_json:
        say(f"{len(missing)} topics are missing; --create makes them")
    if missing or differences:
        raise typer.Exit(1)


def wanted_partitions(cluster: Cluster) -> int:
    """Return how many partitions the topics have, or would be given."""
    from infra.kafka.admin import admin_client, cluster_metadata
    from infra.kafka.topics import DEFAULT_PARTITIONS, MAX_PARTITIONS, topic_name

    found = cluster_metadata(admin_client(cluster.kafka), cluster.kafka).topics
    events = found.get(topic_name(cluster.namespace, "schedule.events"))
    count = len(events.partitions) if events is not None else 0
    # What is there but cannot be is shown as a difference, not taken for what is wanted.
    usable = 1 <= count <= MAX_PARTITIONS and not count & (count - 1)
    return count if usable else DEFAULT_PARTITIONS


def _cells(one: TopicRow) -> tuple[object, ...]:
    state = "fail" if not one.exists else "warn" if one.differences else "ok"
    kept = one.spec.retention_ms
    return (
        one.name,
        "missing" if state == "fail" else state,
        one.actual_partitions if one.exists else "",
        one.actual_replication if one.exists else "",
        one.spec.cleanup,
        "newest of a key" if kept < 0 else f"{kept // 3_600_000} h",
        one.spec.writer,
    )


def _plain(one: TopicRow) -> dict[str, object]:
    return {
        "name": one.name,
        "exists": one.exists,
        "partitions": one.actual_partitions,
        "replication": one.actual_replication,
        "settings": None if one.actual is None else dict(one.actual),
        "wanted": dict(one.wanted),
        "records": [record.__name__ for record in one.spec.records],
        "key": one.spec.key,
        "writer": one.spec.writer,
        "differences": list(one.differences),
    }
