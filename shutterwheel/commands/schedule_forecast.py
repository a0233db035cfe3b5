"""``shutterwheel schedule forecast``: the load to come, before and after a file is applied."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from schemas.errors import StoreError, UsageError
from shutterwheel.context import AsJson, DataDir, Kafka, Namespace, Registry, find_cluster

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from schemas.records import DeviceProfile, ScheduleState
    from shutterwheel.context import Cluster
    from shutterwheel.forecast import Load, Population
    from shutterwheel.manifest import Manifest

EXAMPLES: Final = """
Examples:

  shutterwheel schedule forecast

  shutterwheel schedule forecast schedules.yaml --for 24h --by 1m

  shutterwheel schedule forecast schedules.yaml --capacity 10 --png load.png

  shutterwheel schedule forecast --for 1h --by 1s --json
"""
HEIGHT: Final = 12
"""Rows of the plot."""
PLOT_WIDTH: Final = 100
"""Columns where there is no terminal to ask."""
WIDER_MS: Final = (1_000, 10_000, 60_000, 300_000, 900_000, 3_600_000)
"""Windows of spread that are tried."""
CAUSES: Final = 3


def register(group: typer.Typer) -> None:
    """Add the commands."""
    group.command("forecast", epilog=EXAMPLES)(forecast)


@dataclass(slots=True)
class Outlook:
    """A load, what it is made of, and what would make it lower."""

    name: str
    population: Population
    load: Load
    paused: int = 0
    causes: list[tuple[int, str, str]] = field(default_factory=list)
    """The heaviest of the busiest second: captures, words, an example's id."""
    spreads: list[tuple[int, int]] = field(default_factory=list)
    """(window in ms, peak) if the heaviest were spread over it."""


def forecast(
    file: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", help="A manifest, as if it were applied.")
    ] = None,
    duration: Annotated[
        str, typer.Option("--for", metavar="DURATION", help="How far ahead; at most 7d.")
    ] = "24h",
    by: Annotated[
        str, typer.Option("--by", metavar="DURATION", help="Spans of the output: 1s, 1m, 5m.")
    ] = "1m",
    begin: Annotated[
        str | None, typer.Option("--from", metavar="TIME", help="Begin here; default: now.")
    ] = None,
    capacity: Annotated[
        int, typer.Option(min=0, max=1_000_000, help="Captures a second a shard; 0: no bound.")
    ] = 0,
    prune: Annotated[
        bool, typer.Option("--prune", help="As if the file were applied with --prune.")
    ] = False,
    png: Annotated[
        Path | None, typer.Option("--png", metavar="OUT", help="Draw a picture, too.")
    ] = None,
    kafka: Kafka = None,
    namespace: Namespace = None,
    data: DataDir = None,
    registry: Registry = None,
    as_json: AsJson = False,
) -> None:
    """Show how many captures a second there will be, before and after a file is applied.

    Counted, not guessed: every schedule's own times, with the devices' own spread. Paused schedules
    are left out, and so is what nobody has asked for yet. It says when it is busiest and with what,
    what a wider spread would do, and, with --capacity, how long the herd rule would make captures
    wait: the tolerance that loses nothing.
    """
    from connectors.clients.events import now_ms
    from connectors.clients.values import duration_ms, moment_ms
    from shutterwheel.forecast import MAX_FORECAST_S

    seconds = -(-duration_ms(duration, "--for") // 1_000)
    step_s = duration_ms(by, "--by") // 1_000
    if not 1 <= seconds <= MAX_FORECAST_S:
        raise UsageError(f"--for {duration} is {seconds:,} s; expected 1 to {MAX_FORECAST_S:,} s.")
    if not 1 <= step_s <= seconds:
        raise UsageError(f"--by {by}: expected 1s at least, and no more than --for.")
    begin_ms = now_ms() if begin is None else moment_ms(begin, "--from")
    found = _outlooks(
        file, (kafka, namespace, data, registry), begin_ms, seconds, capacity, prune, quiet=as_json
    )
    if png is not None:
        _write_png(png, found, step_s)
    if as_json:
        _write_json(found, step_s)
    else:
        _show(found, step_s)
        if png is not None:
            typer.echo(f"\ndrawn in {png}")


# --- counting -------------------------------------------------------------------------------------


def _outlooks(
    file: Path | None,
    where: tuple[str | None, str | None, Path | None, str | None],
    begin_ms: int,
    seconds: int,
    capacity: int,
    prune: bool,
    *,
    quiet: bool,
) -> list[Outlook]:
    """Return the load as it is and, with a file, as it would be."""
    from shutterwheel import manifest
    from shutterwheel.inventory import read_profiles, read_rows, waiting
    from shutterwheel.show import say
    from streams.core.recurrence import needs_place

    asked = None if file is None else manifest.load(file)
    cluster: Cluster | None = None
    try:
        cluster = find_cluster(*where)
    except UsageError:
        if asked is None or where[0] or where[2]:
            raise
        say("note: no cluster is known here; the file is looked at alone")
    rows: list[ScheduleState] = []
    profiles: dict[str, DeviceProfile] = {}
    if cluster is not None:
        with waiting("reading the schedules", quiet=quiet):
            rows = read_rows(cluster)
        places = any(needs_place(row.spec) for row in rows)
        if places or (asked is not None and (asked.has_groups or asked.needs_places)):
            with waiting("reading the devices", quiet=quiet):
                profiles = {one.device_id: one for one in read_profiles(cluster)}
    with waiting("counting", quiet=quiet):
        found = (
            []
            if cluster is None
            else [_outlook("now", rows, profiles, begin_ms, seconds, capacity)]
        )
        if asked is not None:
            after = _applied(asked, rows, profiles, begin_ms, prune=prune)
            profiles.update((one.device_id, one) for one in asked.devices)
            found.append(_outlook("after", after, profiles, begin_ms, seconds, capacity))
    return found


def _applied(
    asked: Manifest,
    rows: list[ScheduleState],
    profiles: Mapping[str, DeviceProfile],
    begin_ms: int,
    *,
    prune: bool,
) -> Iterable[ScheduleState]:
    """Return the rows that there would be after a file was applied."""
    from schemas.records import ScheduleState
    from shutterwheel.plan import make_plan
    from shutterwheel.show import say

    expanded, warnings = asked.expand(profiles.values())
    for warning in warnings:
        say(f"warning: {warning}")
    plan = make_plan(expanded, profiles.values(), rows, begin_ms)
    table = {(row.device_id, row.schedule_id): row for row in rows}
    for change in plan.all_changes(prune=prune):
        key = (change.device_id, change.schedule_id)
        if change.entry is None:
            table.pop(key, None)
        else:
            paused = change.before is not None and change.before.paused
            entry = change.entry
            table[key] = ScheduleState(*key, 0, entry.spec, entry.policy, begin_ms, paused)
    return table.values()


def _outlook(
    name: str,
    rows: Iterable[ScheduleState],
    profiles: Mapping[str, DeviceProfile],
    begin_ms: int,
    seconds: int,
    capacity: int,
) -> Outlook:
    """Count rows, and look at the busiest second."""
    from shutterwheel import forecast as counting
    from shutterwheel.outlook import place_of

    population = counting.Population(begin_ms, seconds)
    paused = 0
    for row in rows:
        if row.paused:
            paused += 1
            continue
        population.add(
            row.device_id,
            row.schedule_id,
            row.spec,
            row.policy,
            starts_at_ms=row.starts_at_ms,
            ends_at_ms=row.ends_at_ms,
            place=place_of(profiles.get(row.device_id)) if profiles else None,
        )
    load = counting.forecast(population, capacity)
    found = Outlook(name, population, load, paused)
    heavy = counting.heaviest(population, load.peak_at_ms) if load.peak else []
    for count, one in heavy[:CAUSES]:
        found.causes.append((count, one.words, one.example))
    if heavy:
        one = heavy[0][1]
        gap_ms = one.recurrence.typical_gap_ms or WIDER_MS[-1]
        wider = [ms for ms in WIDER_MS if max(one.spreads_ms) < ms < gap_ms]
        if max(one.spreads_ms) < gap_ms <= WIDER_MS[-1]:
            wider.append(gap_ms)
        for spread_ms in wider:
            peak = counting.with_spread(load, population, one, spread_ms)
            if peak < min([load.peak, *(lower for _, lower in found.spreads)]):
                found.spreads.append((spread_ms, peak))
    return found


# --- showing --------------------------------------------------------------------------------------


def _show(found: list[Outlook], step_s: int) -> None:
    """Write the plot, the numbers, and what they mean."""
    from connectors.clients.values import show_duration, show_moment
    from shutterwheel.plot import legend, terminal_plot
    from shutterwheel.show import clean, console, write_table

    out = console()
    width = out.width if out.is_terminal else PLOT_WIDTH
    begin_ms, seconds = found[0].population.begin_ms, found[0].population.seconds
    typer.echo(
        f"captures a second, the busiest second of each span of {show_duration(step_s * 1_000)}, "
        f"{show_duration(seconds * 1_000)} from {show_moment(begin_ms)}"
    )
    lines = terminal_plot(
        _series(found, step_s),
        width,
        HEIGHT,
        lambda part: _clock(begin_ms, seconds, part),
        colour=out.is_terminal,
    )
    for line in lines:
        out.print(line)
    if len(found) > 1:
        out.print(legend(colour=out.is_terminal))
    columns = ("", *(f">{one.name}" for one in found))
    write_table(columns, _numbers(found), "")
    last = found[-1]
    if last.causes:
        typer.echo(f"\nbusiest at {show_moment(last.load.peak_at_ms)}, with")
        for count, words, example in last.causes:
            typer.echo(clean(f"  {count:,} of {last.load.peak:,}: {words} ({example})"))
    for spread_ms, peak in last.spreads:
        typer.echo(f"  with the first spread over {show_duration(spread_ms)}: {peak:,} at most")
    herd = last.load.herd
    if herd is not None:
        typer.echo(_herd_words(herd.capacity, herd.moved, herd.wait_s, herd.shards))


def _numbers(found: list[Outlook]) -> list[tuple[str, ...]]:
    from connectors.clients.values import show_moment

    seconds = found[0].population.seconds
    loads = [one.load for one in found]
    rows = [
        ("schedules", *(f"{one.population.schedules:,}" for one in found)),
        ("captures", *(f"{load.captures:,}" for load in loads)),
        ("mean a second", *(f"{load.captures / seconds:,.1f}" for load in loads)),
        ("peak a second", *(f"{load.peak:,}" for load in loads)),
        ("at", *(show_moment(load.peak_at_ms) if load.peak else "" for load in loads)),
        ("peak a second and shard", *(f"{int(load.shard_peak.max()):,}" for load in loads)),
        ("of shard", *(f"{int(load.shard_peak.argmax())}" for load in loads)),
    ]
    if any(one.paused for one in found):
        rows.append(("paused, left out", *(f"{one.paused:,}" for one in found)))
    if any(one.population.without_place for one in found):
        rows.append(("without a place", *(f"{one.population.without_place:,}" for one in found)))
    return rows


def _herd_words(capacity: int, moved: int, wait_s: int, shards: int) -> str:
    if not moved:
        return f"\nno shard ever has more than {capacity} in a second"
    return (
        f"\nmore than {capacity} in a second on {shards:,} of 1,024 shards: {moved:,} captures "
        f"would wait, {wait_s:,} s at most;\na tolerance of {wait_s}s loses nothing, a shorter one "
        "lets some through over the capacity"
    )


def _series(found: list[Outlook], step_s: int) -> Any:
    from shutterwheel.plot import Series

    peaks = [tuple(int(one) for one in each.load.by(step_s)[0]) for each in found]
    return Series(peaks[0], peaks[1] if len(peaks) > 1 else None, first=found[0].name)


def _clock(begin_ms: int, seconds: int, part: float) -> str:
    """Return the time of day (UTC) at a place of the axis."""
    from connectors.clients.values import show_moment

    return show_moment(begin_ms + int(seconds * part) * 1_000)[11 : 16 if seconds > 600 else 19]


def _write_json(found: list[Outlook], step_s: int) -> None:
    from shutterwheel.show import write_json

    answer: dict[str, Any] = {
        "begin_ms": found[0].population.begin_ms,
        "seconds": found[0].population.seconds,
        "by_s": step_s,
    }
    for one in found:
        load = one.load
        peaks, means = load.by(step_s)
        answer[one.name] = {
            "schedules": one.population.schedules,
            "paused": one.paused,
            "without_place": one.population.without_place,
            "captures": load.captures,
            "peak_per_second": load.peak,
            "peak_at_ms": load.peak_at_ms if load.peak else None,
            "peak_per_shard": int(load.shard_peak.max()),
            "peak_shard": int(load.shard_peak.argmax()),
            "causes": [
                {"captures": count, "words": words, "example": example}
                for count, words, example in one.causes
            ],
            "with_spread": [{"spread_ms": ms, "peak_per_second": peak} for ms, peak in one.spreads],
            "herd": None
            if load.herd is None
            else {
                "capacity": load.herd.capacity,
                "moved": load.herd.moved,
                "wait_s": load.herd.wait_s,
                "shards": load.herd.shards,
            },
            "peaks": peaks.tolist(),
            "means": [round(float(mean), 3) for mean in means],
        }
    write_json(answer)


def _write_png(path: Path, found: list[Outlook], step_s: int) -> None:
    from connectors.clients.values import show_duration, show_moment
    from shutterwheel.plot import write_png

    population = found[0].population
    begin_ms, seconds = population.begin_ms, population.seconds
    lines = [
        f"{one.name}: {one.load.captures:,} captures, at most {one.load.peak:,} a second, "
        f"{int(one.load.shard_peak.max()):,} a shard"
        for one in found
    ]
    span = show_duration(seconds * 1_000)
    title = f"captures a second, {span} from {show_moment(begin_ms)}"
    series = _series(found, step_s)
    try:
        write_png(path, series, title, lines, lambda part: _clock(begin_ms, seconds, part))
    except OSError as error:
        raise StoreError(f"{path} cannot be written: {error.strerror or error}.") from None
