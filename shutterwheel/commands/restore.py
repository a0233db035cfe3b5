"""``shutterwheel restore``: a system's state from an archive or a cluster into an empty one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from shutterwheel.context import (  # noqa: TC001 - typer reads the annotations
    AsJson,
    Namespace,
    Registry,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from streams.replay.restore.crew import Crew, TableReport
    from streams.replay.restore.run import RestoreReport, Source

EPILOG = """
Examples:

  shutterwheel restore --from backup/site --to kafka-2:9092 --namespace site

  shutterwheel restore --from-kafka kafka-1:9092 --to kafka-1:9092 --namespace sandbox

Start workers on it afterwards, with an empty data folder and the same photos (--blobs): they go on
where the others were at the moment that was archived. What has fallen due since is decided by each
schedule's misfire policy. See that the old system does not run any more: both would take photos.
"""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("restore", epilog=EPILOG)(restore)


def restore(
    to: Annotated[str, typer.Option("--to", metavar="HOST:PORT", help="Kafka to restore into.")],
    from_: Annotated[
        str, typer.Option("--from", metavar="ARCHIVE", help="Folder or URL of an archive.")
    ] = "",
    from_kafka: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="Another cluster instead, running or not.")
    ] = "",
    from_namespace: Annotated[
        str, typer.Option(metavar="NAME", help="Prefix of the topics there.")
    ] = "",
    run_number: Annotated[
        int, typer.Option("--run", min=0, help="State at this run's end; 0: at the last's.")
    ] = 0,
    fold: Annotated[
        bool,
        typer.Option("--fold", help="Make the wheel's tables by folding all ticks; compare both."),
    ] = False,
    replication: Annotated[int, typer.Option(min=1, help="Copies of each partition.")] = 1,
    jobs: Annotated[int, typer.Option(min=0, help="Processes; 0: one a CPU.")] = 0,
    namespace: Namespace = None,
    registry: Registry = None,
    as_json: AsJson = False,
) -> None:
    """Rebuild topics, tables and group offsets in an empty cluster or namespace; prove it by hash.

    Nothing is done to a target that is not empty. The exit code is 1 if a hash differs.
    """
    import os
    from contextlib import nullcontext

    from schemas.errors import UsageError
    from shutterwheel.restore_jobs import Processes, Site

    if bool(from_) == bool(from_kafka):
        raise UsageError("Restore from one of --from ARCHIVE and --from-kafka HOST:PORT.")
    source = (
        source_of_archive(from_, run_number, registry or "")
        if from_
        else source_of_kafka(from_kafka, from_namespace, registry or "")
    )
    wanted = namespace if namespace is not None else getattr(source.log, "namespace", "")
    site = Site(to, wanted, from_, from_kafka, from_namespace if from_kafka else "", registry or "")
    count = min(jobs or os.cpu_count() or 1, source.log.partitions("schedule.events"))
    with Processes(site, count).at_work() if count > 1 else nullcontext() as crew:
        report = run(
            source, to, wanted, fold=fold, replication=replication, say=_say(as_json), crew=crew
        )
    _show(report, as_json=as_json)


def source_of_archive(archive: str, run_number: int = 0, registry: str = "") -> Source:
    """Return an archive at the end of a run; 0: of the last that a system can be restored from.

    Raises UsageError, StoreError.
    """
    from schemas.errors import UsageError
    from shutterwheel.logs_at import codec_of, open_objects
    from streams.replay.archive.log import ArchiveLog
    from streams.replay.restore.run import Source

    log = ArchiveLog(open_objects(archive))
    cuts = log.contents.cuts
    if not cuts or (run_number and run_number not in cuts):
        raise UsageError(
            f"{archive} has no run {run_number or 'at all'} of a whole system: archive without "
            "--topic and --to."
        )
    return Source(log, cuts[run_number or max(cuts)], codec_of(log, registry))


def source_of_kafka(kafka: str, namespace: str, registry: str = "") -> Source:
    """Return a cluster as it is now. Raises UsageError, BrokerError."""
    from infra.kafka.topics import TOPICS
    from shutterwheel.apps import apps
    from shutterwheel.logs_at import codec_of
    from streams.replay.cut import CutTaker
    from streams.replay.log import KafkaLog
    from streams.replay.restore.run import Source

    log = KafkaLog(kafka, namespace)
    partitions = {spec.name: log.partitions(spec.name) for spec in TOPICS}
    return Source(
        log, CutTaker(kafka, namespace, apps(), partitions).take(), codec_of(log, registry)
    )


def run(
    source: Source,
    kafka: str,
    namespace: str,
    *,
    fold: bool = False,
    replication: int = 1,
    say: Callable[[str], None] | None = None,
    crew: Crew | None = None,
) -> RestoreReport:
    """Restore into an empty namespace and return the proof.

    Raises UsageError, BrokerError, StoreError.
    """
    from shutterwheel.apps import apps
    from streams.replay.restore.run import Restore, Target

    seen: set[str] = set()

    def progress(what: str, _done: int, _total: int) -> None:
        if say is not None and what not in seen:
            seen.add(what)
            say(f"writing {what}")

    return Restore(source, Target(kafka, namespace, replication), apps(), progress, crew).run(
        fold=fold
    )


def _say(quiet: bool) -> Callable[[str], None] | None:
    from shutterwheel.show import say

    return None if quiet else say


def _show(report: RestoreReport, *, as_json: bool) -> None:
    from connectors.clients.values import show_moment
    from shutterwheel.show import say, write_json, write_table

    if as_json:
        write_json(
            {
                "ok": report.ok,
                "at_ms": report.at_ms,
                "records": report.records,
                "partitions": report.partitions,
                "transactions": report.transactions,
                "markers": report.markers,
                "tables_s": round(report.tables_s, 3),
                "records_s": round(report.records_s, 3),
                "tables": [_plain(table) for table in report.tables],
                "offsets": report.offsets,
            }
        )
        return
    write_table(
        ("app", ">partition", ">rows", "original", "restored", "folded", ""),
        (
            (
                *(one.app, one.partition, f"{sum(one.rows.values()):,}"),
                *(one.original[:16], one.restored[:16], one.folded[:16]),
                "equal" if one.equal else "differs",
            )
            for one in report.tables
        ),
        "",
    )
    say(
        f"{report.records:,} records; {report.partitions} partitions of topics lie at the offsets "
        f"they had, by {report.markers:,} markers and {report.transactions:,} transactions; "
        f"state of {show_moment(report.at_ms)}"
    )


def _plain(table: TableReport) -> dict[str, object]:
    return {
        "app": table.app,
        "partition": table.partition,
        "rows": table.rows,
        "original": table.original,
        "restored": table.restored,
        "folded": table.folded,
        "equal": table.equal,
    }
