"""``shutterwheel results``: how captures ended, as they end."""

from __future__ import annotations

from collections import Counter, deque
from typing import TYPE_CHECKING, Annotated

import typer

from shutterwheel.context import AsJson, DataDir, Kafka, Namespace, Registry, find_cluster

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import RenderableType

    from connectors.clients.results import Results
    from schemas.records import CaptureResult

COLUMNS = ("scheduled", "device", "schedule", "state", ">late ms", ">size", "photo or cause")
LIVE_ROWS = 20

group = typer.Typer(no_args_is_help=True, help="Results of captures: tail.")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(group, name="results")


@group.command(
    "tail",
    epilog="""
Examples:

  shutterwheel results tail

  shutterwheel results tail --from-beginning --device cam-1 --limit 10

  shutterwheel results tail --json --group archive | ./archive
""",
)
def tail(
    from_beginning: Annotated[
        bool, typer.Option("--from-beginning", help="Begin with the oldest result there is.")
    ] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="Stop after so many results.")] = None,
    group_name: Annotated[
        str | None,
        typer.Option("--group", metavar="NAME", help="Go on where this group stopped last time."),
    ] = None,
    device: Annotated[str | None, typer.Option(metavar="ID", help="Only this device.")] = None,
    follow: Annotated[
        bool, typer.Option("--follow/--no-follow", help="Wait for more at the end.")
    ] = True,
    kafka: Kafka = None,
    namespace: Namespace = None,
    data: DataDir = None,
    registry: Registry = None,
    as_json: AsJson = False,
) -> None:
    """Show results as they come, until Ctrl-C. With --json one object a line."""
    from connectors.clients.results import results
    from shutterwheel.show import console, say

    cluster = find_cluster(kafka, namespace, data, registry)
    with results(
        cluster.kafka,
        group_name,
        cluster.namespace,
        follow=follow,
        start="earliest" if from_beginning else "now",
        device=device,
        registry=cluster.registry,
    ) as found:
        taken = _bounded(found, limit)
        if as_json:
            _write_lines(found, taken)
        elif console().is_terminal and follow:
            _live(found, taken)
        else:
            _write_rows(taken)
        if group_name is not None:
            found.commit()
        if found.repeats or found.skipped:
            say(f"repeats dropped: {found.repeats}, records that cannot be read: {found.skipped}")


def _bounded(found: Results, limit: int | None) -> Iterator[CaptureResult]:
    for count, result in enumerate(found, 1):
        yield result
        if count == limit:
            return


def _write_lines(_found: Results, taken: Iterator[CaptureResult]) -> None:
    from shutterwheel.show import plain, write_json

    for result in taken:
        write_json(plain(result))


def _write_rows(taken: Iterator[CaptureResult]) -> None:
    from shutterwheel.show import clean

    for result in taken:
        typer.echo("  ".join(clean(cell) for cell in row(result)))


def row(result: CaptureResult) -> tuple[str, ...]:
    """Return the cells of a result, as in ``COLUMNS``."""
    from connectors.clients.values import show_moment

    late = "" if result.shutter_at_ms is None else str(result.shutter_at_ms - result.scheduled_ms)
    image = result.image
    return (
        show_moment(result.scheduled_ms),
        result.device_id,
        result.schedule_id or f"request {result.request_id[:8]}",
        " ".join((result.state, *result.verdict.faults)) if result.verdict else result.state,
        late,
        "" if image is None else f"{image.image_bytes / 1024:.0f} KiB",
        result.cause if image is None else image.uri,
    )


def _short(cells: tuple[str, ...]) -> tuple[str, ...]:
    """Return the cells of a row as a terminal of 80 columns has room for them."""
    when, *middle, last = cells
    name = last.rsplit("/", 1)[-1] if "://" in last else last
    return (when.partition("T")[2] or when, *middle, name)


def _live(found: Results, taken: Iterator[CaptureResult]) -> None:
    """Keep the newest results on the screen, with counts above."""
    from rich.live import Live

    from shutterwheel.show import console, table

    newest: deque[CaptureResult] = deque(maxlen=LIVE_ROWS)
    states: Counter[str] = Counter()

    def picture() -> RenderableType:
        counts = ", ".join(f"{state} {count:,}" for state, count in sorted(states.items()))
        title = f"{counts or 'waiting for results'}; repeats {found.repeats}. Ctrl-C ends."
        return table(COLUMNS, (_short(row(result)) for result in newest), title)

    with Live(get_renderable=picture, console=console(), refresh_per_second=4):
        for result in taken:
            newest.append(result)
            states[result.state] += 1
