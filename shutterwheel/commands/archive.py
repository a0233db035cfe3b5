"""``shutterwheel archive``: a backup of the topics that nobody can change unseen."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

import typer

from shutterwheel.context import AsJson, DataDir, Kafka, Namespace, Registry, find_cluster

if TYPE_CHECKING:
    from collections.abc import Callable

    from shutterwheel.context import Cluster
    from streams.replay.archive.container import Codec
    from streams.replay.archive.manifest import Cut
    from streams.replay.archive.verify import Verdict
    from streams.replay.archive.writer import Report

EPILOG = """
Examples:

  shutterwheel archive backup/site

  shutterwheel archive s3://bucket/site --kafka kafka-1:9092 --namespace site

  shutterwheel archive backup/site --topic capture.results --from 2026-11-01T00:00:00Z

  shutterwheel archive backup/site --verify --head 9f2c41d0…

What is archived again goes on where it ended. Keep the head that is printed in another place, or
set SHUTTERWHEEL_ARCHIVE_KEY to sign each run: without either, whoever can write the archive can
write another one in its place. Read an archive by `audit`, `explain` and `restore`.
"""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("archive", epilog=EPILOG)(archive)


def archive(
    place: Annotated[str, typer.Argument(metavar="ARCHIVE", help="Folder or URL (s3://…).")],
    verify: Annotated[
        bool, typer.Option("--verify", help="Read an archive and say what is wrong with it.")
    ] = False,
    head: Annotated[
        str, typer.Option(metavar="HASH", help="With --verify: a head that was kept elsewhere.")
    ] = "",
    topic: Annotated[
        list[str] | None,
        typer.Option(help="Only this topic; may be repeated. No system is restored from some."),
    ] = None,
    from_: Annotated[
        str, typer.Option("--from", metavar="TIME", help="From then on, at the first time.")
    ] = "",
    to: Annotated[str, typer.Option(metavar="TIME", help="Only what came before.")] = "",
    codec: Annotated[
        str, typer.Option(help="zstandard, or deflate, which every Avro library reads.")
    ] = "zstandard",
    jobs: Annotated[int, typer.Option(min=0, help="Processes; 0: one a CPU.")] = 0,
    kafka: Kafka = None,
    namespace: Namespace = None,
    data: DataDir = None,
    registry: Registry = None,
    as_json: AsJson = False,
) -> None:
    """Back up topics into chained Avro files; or --verify such a backup, offline.

    The exit code is 1 if a verification finds something.
    """
    from streams.replay.archive.manifest import KEY_ENV

    secret = os.environ.get(KEY_ENV, "")
    if verify:
        _verify(place, head.strip().lower(), secret, as_json=as_json)
        return
    cluster = find_cluster(kafka, namespace, data, registry)
    report, cut = run(
        place,
        cluster,
        tuple(topic or ()),
        _ms(from_, "--from"),
        _ms(to, "--to"),
        codec,
        secret,
        jobs=jobs or os.cpu_count() or 1,
    )
    _show(report, cut, as_json=as_json)


def run(
    place: str,
    cluster: Cluster,
    topics: tuple[str, ...] = (),
    from_ms: int | None = None,
    to_ms: int | None = None,
    codec: str = "zstandard",
    secret: str = "",
    say: Callable[[str], None] | None = None,
    jobs: int = 1,
) -> tuple[Report, Cut | None]:
    """Archive what is new; return what that was, and the cut if one was taken.

    Raises UsageError, BrokerError, StoreError.
    """
    import time
    from contextlib import closing

    from schemas.select import schema_ids
    from shutterwheel.archive_jobs import Filing
    from shutterwheel.logs_at import open_objects
    from streams.replay.archive.writer import ArchiveRun, Wanted
    from streams.replay.log import KafkaLog

    log = KafkaLog(cluster.kafka, cluster.namespace)
    chosen = _chosen(topics)
    cut = None
    if topics or to_ms is not None:
        ends = {name: log.ends(name) for name in chosen}
        if to_ms is not None:
            ends = {
                name: {n: min(end, log.offset_at(name, n, to_ms)) for n, end in of.items()}
                for name, of in ends.items()
            }
    else:
        cut = _cut(cluster, {name: log.partitions(name) for name in chosen})
        ends = cut.ends
    wanted = Wanted(
        cluster.namespace, ends, from_ms, cut, _codec(codec), secret, time.time_ns() // 1_000_000
    )
    run_ = ArchiveRun(
        open_objects(place, make=True),
        log,
        schema_ids(cluster.registry),
        wanted,
        _told(say),
        Filing(place, cluster.kafka, cluster.namespace, jobs).put if jobs > 1 else None,
    )
    with closing(log):
        return run_.run(), cut


def _cut(cluster: Cluster, partitions: dict[str, int]) -> Cut:
    from shutterwheel.apps import apps
    from streams.replay.cut import CutTaker

    return CutTaker(cluster.kafka, cluster.namespace, apps(), partitions).take()


def _chosen(topics: tuple[str, ...]) -> list[str]:
    """Return the topics, in an order in which what is read later holds what is referred to."""
    from infra.kafka.topics import TOPICS
    from schemas.errors import UsageError

    known = [spec.name for spec in TOPICS]
    strange = [name for name in topics if name not in known]
    if strange:
        raise UsageError(f"There is no topic {strange[0]}; there are {', '.join(known)}.")
    return [name for name in reversed(known) if not topics or name in topics]


def _codec(name: str) -> Codec:
    from schemas.errors import UsageError
    from streams.replay.archive.container import CODECS

    for codec in CODECS:
        if codec == name:
            return codec
    raise UsageError(f"There is no codec {name}; there are {', '.join(CODECS)}.")


def _ms(text: str, name: str) -> int | None:
    from connectors.clients.values import moment_ms

    return moment_ms(text, name) if text else None


def _told(say: Callable[[str], None] | None) -> Callable[[str, int, int], None]:
    """Return what tells a person about a topic once, when its first partition is read."""
    seen: set[str] = set()

    def progress(what: str, done: int, total: int) -> None:
        if say is not None and what not in seen:
            seen.add(what)
            say(f"{done * 100 // max(total, 1):3} %  {what}")

    return progress


def _show(report: Report, cut: Cut | None, *, as_json: bool) -> None:
    from shutterwheel.show import say, write_json, write_table

    unsettled = {group.app: group.unsettled for group in cut.groups} if cut else {}
    if as_json:
        write_json(
            {
                "run": report.run,
                "head": report.head,
                "records": report.records,
                "raw_bytes": report.raw_bytes,
                "bytes": report.size_bytes,
                "files": report.files,
                "topics": report.topics,
                "gaps": report.gaps,
                "cut": cut is not None,
                "unsettled": unsettled,
            }
        )
        return
    rows = [(name, f"{n:,}", f"{size:,}") for name, (n, size) in sorted(report.topics.items())]
    write_table(("topic", ">records", ">bytes"), rows, "nothing new")
    for text in report.gaps:
        say(f"warning: {text}")
    for app, numbers in unsettled.items():
        if numbers:
            say(
                f"warning: {app} never rested on partitions {', '.join(map(str, numbers))}: "
                "nothing can be restored from this run; archive again in a calmer moment."
            )
    say(
        f"run {report.run}: {report.records:,} records of {report.raw_bytes:,} bytes in "
        f"{report.files} files of {report.size_bytes:,}"
    )
    typer.echo(f"head {report.head}")


def _verify(place: str, head: str, secret: str, *, as_json: bool) -> None:
    import msgspec

    from shutterwheel.logs_at import open_objects
    from shutterwheel.show import say, write_json
    from streams.replay.archive.verify import verify

    verdict = verify(open_objects(place), head=head, secret=secret)
    if as_json:
        write_json(
            {
                "ok": verdict.ok,
                "run": verdict.run,
                "head": verdict.head,
                "files": verdict.files,
                "records": verdict.records,
                "bytes": verdict.size_bytes,
                "signed": verdict.signed,
                "findings": msgspec.to_builtins(verdict.findings),
                "strays": verdict.strays,
            }
        )
    else:
        for finding in verdict.findings:
            typer.echo(f"{finding.kind}: {finding.text}  [{finding.key}]")
        _say_proven(verdict, head, secret)
    if not verdict.run and verdict.ok:
        say("There is no archive here: no run has ended.")
    if not verdict.ok or not verdict.run:
        raise typer.Exit(1)


def _say_proven(verdict: Verdict, head: str, secret: str) -> None:
    from shutterwheel.show import say

    if verdict.strays:
        say(
            f"note: {verdict.strays[0]}{' and others are' if len(verdict.strays) > 1 else ' is'} "
            "in no manifest: of a run that was killed, or runs were cut off; nobody reads it."
        )
    say(
        f"{verdict.run} runs, {verdict.files} files, {verdict.records:,} records of "
        f"{verdict.size_bytes:,} bytes: "
        + ("as they were written" if verdict.ok else f"{len(verdict.findings)} findings")
    )
    if not head and not secret:
        say(
            "note: without a head kept elsewhere (--head) or a key a history that was made up "
            "whole, or cut short, cannot be told from this one."
        )
    typer.echo(f"head {verdict.head}")
