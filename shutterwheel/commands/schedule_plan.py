"""``shutterwheel schedule apply`` and ``diff``: a file beside what there is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from schemas.errors import UsageError
from shutterwheel.context import AsJson, DataDir, Kafka, Namespace, Registry, find_cluster

if TYPE_CHECKING:
    from collections.abc import Iterator

    from connectors.clients.batch import BatchReport
    from schemas.records import ScheduleEvent
    from shutterwheel.context import Cluster
    from shutterwheel.inventory import Compared
    from shutterwheel.manifest import Manifest
    from shutterwheel.plan import Change, Plan
    from streams.core.recurrence import Place

MANY_REMOVED: Final = 10
"""More schedules than this are removed only after a yes."""
SHOWN: Final = 40
"""Changes that are shown to a person one by one."""

File = Annotated[Path, typer.Argument(metavar="FILE", help="A manifest, in YAML.")]
Prune = Annotated[
    bool,
    typer.Option("--prune", help="Cancel what the file owns and does not ask for any more."),
]


def register(group: typer.Typer) -> None:
    """Add the commands."""
    group.command("apply", epilog=APPLY_EXAMPLES)(apply)
    group.command("diff", epilog=DIFF_EXAMPLES)(diff)


APPLY_EXAMPLES = """
Examples:

  shutterwheel schedule apply schedules.yaml --dry-run

  shutterwheel schedule apply schedules.yaml --wait

  shutterwheel schedule apply schedules.yaml --prune --yes
"""
DIFF_EXAMPLES = """
Examples:

  shutterwheel schedule diff schedules.yaml

  shutterwheel schedule diff schedules.yaml --prune --json | jq -r .schedule_id
"""


def apply(
    file: File,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done, and publish nothing.")
    ] = False,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait until the timing wheel has decided.")
    ] = False,
    prune: Prune = False,
    yes: Annotated[
        bool, typer.Option("--yes", help=f"Do not ask before more than {MANY_REMOVED} are removed.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Publish also what is so already, or is over.")
    ] = False,
    kafka: Kafka = None,
    namespace: Namespace = None,
    data: DataDir = None,
    registry: Registry = None,
    as_json: AsJson = False,
) -> None:
    """Publish the devices and schedules of a file. May be repeated: what is so stays so.

    What the file does not name is left as it is; with --prune what it owns and does not ask for
    any more is cancelled. A file with 'owner: NAME' owns the schedules named NAME/..., any other
    the schedules it names on the devices it names. Devices are never removed.

    Groups ('devices: all', 'devices: {site: north}') mean the devices that are known now: those
    that become known later are picked up by the next apply.

    The exit code is 1 if anything was refused.
    """
    from shutterwheel import manifest
    from shutterwheel.inventory import compare
    from shutterwheel.show import say

    asked = manifest.load(file)
    if dry_run:
        _dry_run(file, asked, (kafka, namespace, data, registry), prune=prune, as_json=as_json)
        return
    cluster = find_cluster(kafka, namespace, data, registry)
    found = compare(asked, cluster, force=force, quiet=as_json)
    _warn(found.warnings)
    plan = found.plan
    if prune:
        _ask(len(plan.unasked), yes=yes, can_ask=not as_json)
    changes = list(plan.all_changes(prune=prune))
    report = _publish(plan, changes, cluster, wait=wait, quiet=as_json)
    _tell_applied(found, report, wait=wait, prune=prune, as_json=as_json)
    if asked.has_groups and not as_json:
        say("note: groups mean the devices that are known now; apply again when others have joined")
    if report.refused or report.undecided:
        raise typer.Exit(1)


def diff(
    file: File,
    prune: Prune = False,
    kafka: Kafka = None,
    namespace: Namespace = None,
    data: DataDir = None,
    registry: Registry = None,
    as_json: AsJson = False,
) -> None:
    """Show what applying a file would do. With --json one change a line, the counts last.

    The exit code is 0 if everything is as the file says, 1 if not, 2 if the file cannot be read.
    Compared is what the timing wheel has decided: what is published and not decided is not seen.
    """
    from shutterwheel import manifest
    from shutterwheel.inventory import compare

    asked = manifest.load(file)
    cluster = find_cluster(kafka, namespace, data, registry)
    found = compare(asked, cluster, quiet=as_json)
    show_plan(found, prune=prune, as_json=as_json)
    if found.plan.differs(prune=prune):
        raise typer.Exit(1)


def _dry_run(
    file: Path,
    asked: Manifest,
    where: tuple[str | None, str | None, Path | None, str | None],
    *,
    prune: bool,
    as_json: bool,
) -> None:
    """Show the plan; without a cluster, what the file holds."""
    from connectors.clients.events import now_ms
    from shutterwheel.inventory import compare
    from shutterwheel.outlook import warnings_of
    from shutterwheel.show import say, write_json

    cluster: Cluster | None = None
    why = ""
    try:
        cluster = find_cluster(*where)
    except UsageError as error:
        if where[0]:
            raise
        why = str(error).split(":")[0].rstrip(".")
    if cluster is not None:
        found = compare(asked, cluster, quiet=as_json)
        show_plan(found, prune=prune, as_json=as_json)
        if not as_json:
            typer.echo("nothing was published")
        return
    expanded, warnings = asked.expand()
    _warn((*warnings, *warnings_of(expanded, (), now_ms())))
    counts = {"devices": len(asked.devices), "schedules": expanded.schedule_count}
    if as_json:
        write_json({**counts, "published": False, "compared": False})
        return
    if asked.has_groups:
        say("note: groups were matched with the devices of the file alone")
    typer.echo(
        f"{file} is well: {counts['devices']:,} devices, {counts['schedules']:,} schedules; "
        f"nothing was published, and nothing compared ({why})"
    )


# --- showing ------------------------------------------------------------------------------------


def show_plan(found: Compared, *, prune: bool, as_json: bool) -> None:
    """Write what would be done."""
    from shutterwheel.outlook import place_of
    from shutterwheel.plan import SIGNS
    from shutterwheel.show import say, write_json, write_table

    plan = found.plan
    _warn(found.warnings)
    if as_json:
        for kind, devices in (("add", plan.devices_added), ("change", plan.devices_changed)):
            for one in devices:
                write_json({"change": f"{kind} device", "device_id": one.device_id})
        for change in plan.all_changes(prune=prune):
            write_json(_change_json(change))
        write_json({"change": None, **plan.counts(prune=prune)})
        return
    rows: list[tuple[str, str, str, str]] = []
    for sign, devices in (("+", plan.devices_added), ("~", plan.devices_changed)):
        rows += [(sign, one.device_id, "", one.address) for one in devices[:SHOWN]]
    listed = [*plan.changes, *(plan.unasked if prune else ())]
    places = {one.device_id: place_of(one) for one in (*found.profiles, *found.asked.devices)}
    for change in listed[:SHOWN]:
        words = _change_words(change, places.get(change.device_id))
        rows.append((SIGNS[change.kind], change.device_id, change.schedule_id, words))
    if rows:
        write_table(("", "device", "schedule", "what"), rows, "")
    rest = len(plan.devices_added) + len(plan.devices_changed) + len(listed) - len(rows)
    if rest:
        say(f"… and {rest:,} more; --json writes them all")
    typer.echo(_in_words(plan, prune=prune))


def _change_json(change: Change) -> dict[str, Any]:
    return {
        "change": change.kind,
        "device_id": change.device_id,
        "schedule_id": change.schedule_id,
        "fields": {
            key: {"before": before, "after": after}
            for key, (before, after) in change.fields().items()
        },
    }


def _change_words(change: Change, place: Place | None) -> str:
    from streams.core.recurrence import describe

    if change.entry is not None and change.before is not None:
        words = (f"{key}: {old} → {new}" for key, (old, new) in change.fields().items())
        return ", ".join(words) or "published again"
    if change.entry is not None:
        return describe(change.entry.spec, change.entry.policy, place)
    before = change.before
    return "" if before is None else describe(before.spec, before.policy, place)


def _in_words(plan: Plan, *, prune: bool) -> str:
    """Return the counts as a sentence."""
    parts = [
        f"{plan.added:,} to add",
        f"{plan.changed:,} to change",
        f"{plan.left:,} the same",
    ]
    if plan.over:
        parts.append(f"{len(plan.over):,} over")
    if plan.unasked:
        count = f"{len(plan.unasked):,}"
        parts.append(f"{count} to remove" if prune else f"{count} not asked for (--prune)")
    devices = f"{len(plan.devices_added):,} to add, {len(plan.devices_changed):,} to change"
    text = "schedules: " + ", ".join(parts)
    if plan.devices_added or plan.devices_changed or plan.devices_left:
        text += f"; devices: {devices}, {plan.devices_left:,} the same"
    return text


def _warn(warnings: tuple[str, ...]) -> None:
    from shutterwheel.show import say

    for warning in warnings:
        say(f"warning: {warning}")


# --- doing --------------------------------------------------------------------------------------


def _ask(count: int, *, yes: bool, can_ask: bool) -> None:
    """Let a person agree to many removals; UsageError where nobody can be asked."""
    import sys

    if yes or count <= MANY_REMOVED:
        return
    if not (can_ask and sys.stdin.isatty()):
        raise UsageError(
            f"{count:,} schedules would be removed, which is more than {MANY_REMOVED}: look at "
            "them with `shutterwheel schedule diff FILE --prune`, then add --yes."
        )
    try:
        agreed = typer.confirm(f"Remove {count:,} schedules?", err=True)
    except typer.Abort:
        raise KeyboardInterrupt from None
    if not agreed:
        raise UsageError("Nothing was published.")


def _publish(
    plan: Plan, changes: list[Change], cluster: Cluster, *, wait: bool, quiet: bool
) -> BatchReport:
    """Publish devices, then schedules, with a progress bar on a terminal."""
    from rich.progress import Progress

    from connectors.clients.batch import BatchReport
    from connectors.clients.publisher import Publisher
    from shutterwheel.show import console

    devices = [*plan.devices_added, *plan.devices_changed]
    if not devices and not changes:
        return BatchReport()

    def asked() -> Iterator[ScheduleEvent]:
        return (change.event() for change in changes)

    out = console(stderr=True)
    with (
        # A manifest was checked as it was read.
        Publisher(
            cluster.kafka, cluster.namespace, registry=cluster.registry, check=False
        ) as publisher,
        Progress(console=out, disable=quiet or not out.is_terminal, transient=True) as bar,
    ):
        if devices:
            publisher.publish_many(devices)
        task = bar.add_task("schedules", total=max(1, len(changes)))

        def progress(report: BatchReport) -> None:
            decided = report.accepted + report.refused + report.already_known
            bar.update(task, completed=decided if wait else report.acknowledged)

        return publisher.publish_many(asked(), wait=wait, progress=progress)


def _tell_applied(
    found: Compared, report: BatchReport, *, wait: bool, prune: bool, as_json: bool
) -> None:
    """Write what was done."""
    from shutterwheel.show import say, write_json

    plan = found.plan
    counts = {"devices": len(found.asked.devices), "schedules": found.asked.schedule_count}
    if as_json:
        refusals = [
            {"device_id": one.device_id, "schedule_id": one.schedule_id, "reason": one.reason}
            for one in report.refusals
        ]
        decided = {"accepted": report.accepted, "refused": report.refused}
        undecided = {"undecided": report.undecided, "refusals": refusals}
        changes = {"changes": plan.counts(prune=prune)}
        write_json(
            {**counts, "published": True, **changes, **(decided | undecided if wait else {})}
        )
        return
    for one in report.refusals:
        say(f"refused: {one.device_id} {one.schedule_id}: {one.reason}")
    for device_id, schedule_id in plan.over[:SHOWN]:
        say(f"over: {device_id} {schedule_id} has no time any more; it was not published")
    removed = len(plan.unasked) if prune else 0
    touched = len(plan.devices_added) + len(plan.devices_changed)
    words = [f"{touched:,} of {counts['devices']:,} devices"] if counts["devices"] else []
    words.append(
        f"{len(plan.changes) + removed:,} changes ({plan.added:,} added, {plan.changed:,} changed, "
        f"{removed:,} removed; {plan.left:,} the same)"
    )
    outcome = f"accepted {report.accepted}, refused {report.refused}, undecided {report.undecided}"
    typer.echo("published " + ", ".join(words) + (f"; {outcome}" if wait else ""))
    if plan.unasked and not prune:
        say(f"{len(plan.unasked):,} schedules are not asked for any more; --prune cancels them")
    if report.undecided:
        say("some decisions did not come in time; `shutterwheel doctor` says what runs")
