"""``shutterwheel audit``: prove from the topics alone what became of every photo."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from shutterwheel.context import (
    Archive,
    AsJson,
    DataDir,
    Kafka,
    Namespace,
    Registry,
    find_cluster,
)

if TYPE_CHECKING:
    from shutterwheel.audit_run import AuditReport
    from streams.replay.audit_findings import Finding

EPILOG = """
Examples:

  shutterwheel audit

  shutterwheel audit --from 2026-12-01T00:00:00Z --to 2026-12-02T00:00:00Z --json

  shutterwheel audit --kafka kafka-1:9092 --blobs s3://photos --jobs 8

  shutterwheel audit --device cam-00017 --no-images

  shutterwheel audit --archive s3://archive/site --blobs s3://photos
"""
PLAIN_EVERY_S = 5.0
"""How often a line of progress is written where standard error is no terminal."""
QUICK_S = 0.2


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("audit", epilog=EPILOG)(audit)


From = Annotated[
    str | None,
    typer.Option(
        "--from", metavar="TIME", help="Ticks from this time on, such as 2026-12-01T08:00:00Z."
    ),
]
To = Annotated[str | None, typer.Option("--to", metavar="TIME", help="Ticks before this time.")]
Device = Annotated[
    str | None, typer.Option("--device", metavar="ID", help="Only findings of this device.")
]
Blobs = Annotated[
    str | None,
    typer.Option(
        help="Folder or URL of the blob store: pictures, and where folds may begin. "
        "Default: that of the running `up`."
    ),
]
Images = Annotated[bool, typer.Option(help="Read every picture back and compare its SHA-256.")]
Strays = Annotated[
    bool, typer.Option("--strays", help="Find pictures of no result as well; 8 bytes a photo.")
]
Settle = Annotated[
    str,
    typer.Option(metavar="TIME", help="How long after deadline and time-out a capture may end."),
]
Jobs = Annotated[
    int | None,
    typer.Option(min=1, max=256, help="Processes; a partition is one's work. Default: cores."),
]


def audit(
    from_: From = None,
    to: To = None,
    device: Device = None,
    blobs: Blobs = None,
    images: Images = True,
    strays: Strays = False,
    settle: Settle = "60s",
    jobs: Jobs = None,
    archive: Archive = None,
    kafka: Kafka = None,
    namespace: Namespace = None,
    data: DataDir = None,
    registry: Registry = None,
    as_json: AsJson = False,
) -> None:
    """Fold all ticks again and compare every decision, command, result and picture with them.

    Reads only, and may run beside a working system: it looks at what there was when it began.
    Where the ticks do not begin at their offset 0, it starts at a snapshot (see `up
    --snapshot-every`); what cannot be checked is said.

    Exit code: 0 clean; 1 it could not run; 2 wrong use; 3 clean, but not all could be checked; else
    the sum of 4 lost (lost, unread), 8 doubled (doubled, stray), 16 changed (divergent, illegal,
    corrupt), 32 at a wrong time (early, late), 64 pictures (missing_image,
    stray_image).
    """
    from connectors.clients.values import duration_ms, moment_ms
    from schemas.errors import UsageError
    from shutterwheel import audit_run
    from shutterwheel.show import write_json
    from streams.core import ids
    from streams.replay.audit import AuditOptions
    from streams.replay.audit_events import TICKS

    options = AuditOptions(
        from_ms=None if from_ is None else moment_ms(from_, "--from"),
        to_ms=None if to is None else moment_ms(to, "--to"),
        device_id=device or "",
        settle_ms=duration_ms(settle, "--settle"),
    )
    if None not in {options.from_ms, options.to_ms} and options.from_ms >= options.to_ms:  # type: ignore[operator]
        raise UsageError("--from must be before --to.")
    if archive is not None:
        name, ids_from = namespace or "", registry or ""
        source = audit_run.Source("", name, ids_from, blobs or "", archive, images=images)
    else:
        cluster = find_cluster(kafka, namespace, data, registry)
        if blobs is None:
            blobs = cluster.run.blobs if cluster.run is not None else ""
        source = audit_run.Source(
            cluster.kafka, cluster.namespace, cluster.registry, blobs, images=images
        )
    partitions = None
    if device is not None:
        count = audit_run.open_log(source).partitions(TICKS)
        partitions = [ids.partition_of(device, count)]
    progress = _Progress()
    report = audit_run.audit(
        source,
        options,
        partitions,
        jobs=jobs or os.cpu_count() or 1,
        strays=strays,
        told=progress.told,
    )
    progress.end()
    if as_json:
        write_json(_plain(report))
    else:
        _print(report)
    if report.exit_code:
        raise typer.Exit(report.exit_code)


class _Progress:
    """A line on standard error: rewritten on a terminal, now and then elsewhere."""

    def __init__(self) -> None:
        self._began_s = self._said_s = time.monotonic()
        self._records = 0
        self._terminal = sys.stderr.isatty()

    def told(self, partition: int, records: int, time_ms: int) -> None:
        """Take in how far a partition is."""
        from connectors.clients.values import show_moment

        self._records += records
        now_s = time.monotonic()
        if now_s - self._said_s < (QUICK_S if self._terminal else PLAIN_EVERY_S):
            return
        self._said_s = now_s
        speed = self._records / (now_s - self._began_s)
        text = (
            f"{self._records:,} records, {speed:,.0f}/s; partition {partition} at "
            f"{show_moment(time_ms)}"
        )
        sys.stderr.write(f"\r{text}\033[K" if self._terminal else f"{text}\n")
        sys.stderr.flush()

    def end(self) -> None:
        """Leave a clean line."""
        if self._terminal:
            sys.stderr.write("\r\033[K")


def _print(report: AuditReport) -> None:
    from connectors.clients.values import show_moment
    from shutterwheel.show import clean
    from streams.replay.audit_findings import KINDS

    spans = [one for one in report.partitions if one.ticks]
    if not spans:
        typer.echo("There are no ticks in this time.")
    else:
        first_ms = min(one.first_ms for one in spans)
        last_ms = max(one.last_ms for one in spans)
        typer.echo(
            f"audited {len(report.partitions)} partitions, ticks of {show_moment(first_ms)} to "
            f"{show_moment(last_ms)}"
        )
    for name, text in _lines(report):
        typer.echo(f"  {name:<10} {text}")
    counts = report.findings.counts
    for kind, count in sorted(counts.items(), key=lambda one: list(KINDS).index(one[0])):
        typer.echo(f"{kind} {count:,}: {KINDS[kind].meaning}")
        for finding in report.findings.first[kind]:
            typer.echo(f"  {finding.where}  {clean(finding.text)}")
        if count > len(report.findings.first[kind]):
            typer.echo("  …")
    for text in report.unchecked:
        typer.echo(f"not checked: {clean(text)}")
    if not counts:
        typer.echo(
            "clean as far as could be checked"
            if report.unchecked
            else "clean: nothing lost, doubled, changed, early or late"
        )


def _lines(report: AuditReport) -> list[tuple[str, str]]:
    total = report.sum
    speed = total("records") / report.seconds if report.seconds else 0.0
    states = ", ".join(f"{name} {count:,}" for name, count in report.states.items())
    verified = any(one.images_verified for one in report.partitions)
    pictures = f"{total('images'):,}, {'SHA-256 compared' if verified else 'not looked at'}"
    if report.strays is not None:
        pictures += f"; {report.strays:,} in the store of no result"
    late_ms = max((one.late_ms_max for one in report.partitions), default=0)
    ends = states or "none"
    return [
        ("ticks", f"{total('ticks'):,}, folded again {total('folded'):,}"),
        ("events", f"{total('events'):,}, each in a tick or a dead letter"
         if not report.findings.counts.get("unread") else f"{total('events'):,}"),
        ("decisions", f"{total('decisions'):,} compared byte for byte"),
        ("commands", f"{total('commands'):,} compared byte for byte, {total('open'):,} still open"),
        ("results", f"{total('results'):,}: {ends}; latest shutter {late_ms:,} ms late"),
        ("pictures", pictures),
        ("snapshots", f"{total('snapshots'):,} compared with the state"),
        ("records", f"{total('records'):,} in {report.seconds:,.1f} s, {speed:,.0f}/s"),
    ]  # fmt: skip


def _plain(report: AuditReport) -> dict[str, Any]:
    """Return the report as what JSON has."""
    import msgspec

    def finding(one: Finding) -> dict[str, Any]:
        return dict(msgspec.to_builtins(one))

    return {
        "clean": not report.findings.counts and not report.unchecked,
        "exit_code": report.exit_code,
        "findings": {
            kind: {"count": count, "first": [finding(f) for f in report.findings.first[kind]]}
            for kind, count in report.findings.counts.items()
        },
        "unchecked": list(report.unchecked),
        "states": report.states,
        "stray_pictures": report.strays,
        "records": report.sum("records"),
        "seconds": round(report.seconds, 3),
        "partitions": [
            {
                name: value
                for name, value in msgspec.to_builtins(one).items()
                if name not in {"findings", "image_ids", "devices"}
            }
            for one in report.partitions
        ],
    }
