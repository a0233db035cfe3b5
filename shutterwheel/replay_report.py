"""Says what a replay found: in words for people, as one object for programs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec
import typer

from connectors.clients.values import show_duration, show_moment
from shutterwheel.show import clean
from streams.core.recurrence import TZ_VERSION
from streams.replay.again import sha256_of_all
from streams.replay.start import began_words

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from shutterwheel.replay_run import Folded, Source
    from shutterwheel.replay_sandbox import SandboxReport
    from streams.replay.played import Played
    from streams.replay.start import Began
    from streams.replay.what_if_diff import Example

KINDS: Final = {
    "moved": "moved",
    "gone": "gone",
    "added": "added",
    "refused": "would not take the policy",
}
SHOWN_CHARS: Final = 400
"""Of a record in words."""


def span_words(source: Source) -> str:
    """Return the range in words."""
    length = show_duration(max(1, (source.to_ms - source.from_ms) // 1_000) * 1_000)
    return f"{length} from {show_moment(source.from_ms)}"


def began_line(parts: Sequence[Began | None], before: int) -> str:
    """Return where the folds began, and how many ticks that cost."""
    known = [one for one in parts if one is not None]
    return f"began      {began_words(known)}; {before:,} ticks to come to the range"


def began_json(parts: Sequence[Began | None]) -> list[dict[str, Any]]:
    """Return where the fold of each partition began."""
    return [msgspec.to_builtins(one) for one in parts if one is not None]


def speed_words(source: Source, ticks: int, records: int, took_s: float) -> str:
    """Return how fast it went."""
    took_s = max(took_s, 1e-6)
    times = (source.to_ms - source.from_ms) / 1_000.0 / took_s
    return (
        f"{ticks:,} ticks folded, {records:,} records, in {took_s:.1f} s: "
        f"{records / took_s:,.0f} records/s, x{times:,.0f} real time"
    )


def example_json(one: Example) -> dict[str, Any]:
    """Return one capture as what JSON has."""
    return {name: getattr(one, name) for name in type(one).__dataclass_fields__}


def example_words(one: Example) -> str:
    """Return one capture in words."""
    name = one.schedule_id or f"request {one.request_id}"
    if one.before_ms is None and one.after_ms is None:
        return f"{one.device_id} {name}: {one.why}"
    then = " → ".join(
        "none" if at_ms is None else show_moment(at_ms) for at_ms in (one.before_ms, one.after_ms)
    )
    return f"{one.device_id} {name} due {show_moment(one.nominal_ms)}: {then}" + (
        f" ({one.why})" if one.why else ""
    )


# --- the same bytes -------------------------------------------------------------------------------


def again_json(source: Source, found: Folded) -> dict[str, Any]:
    """Return what folding again found."""
    return {
        "mode": "again",
        "from_ms": source.from_ms,
        "to_ms": source.to_ms,
        "ok": found.ok,
        "took_s": round(found.took_s, 3),
        "ticks": sum(part.ticks for part in found.parts),
        "ticks_before": sum(part.before for part in found.parts),
        "began": began_json([part.began for part in found.parts]),
        "changes": sum(part.changes for part in found.parts),
        "commands": sum(part.commands for part in found.parts),
        "decisions": sum(part.decisions for part in found.parts),
        "sha256": sha256_of_all(found.parts),
        "sha256_found": sha256_of_all(found.parts, found=True),
        "played": None
        if found.played is None
        else [
            {"here": here, "then": then, "captures": count}
            for (here, then), count in found.played.pairs.most_common()
        ],
        "partitions": [
            {
                name: getattr(part, name)
                for name in (
                    "partition",
                    "ticks",
                    "commands",
                    "decisions",
                    "bad_events",
                    "other_schema",
                )
            }
            | {
                "sha256": part.sha256,
                "sha256_found": part.sha256_found,
                "kept_from_ms": part.kept_from_ms,
                "other_tz": sorted(part.other_tz),
                "difference": None
                if part.difference is None
                else {
                    name: getattr(part.difference, name)
                    for name in (
                        *("topic", "tick_offset", "tick_time_ms", "offset", "folded", "found"),
                    )
                },
            }
            for part in found.parts
        ],
    }


def show_again(source: Source, found: Folded) -> None:
    """Write what folding again found, in words."""
    parts = found.parts
    commands = sum(part.commands for part in parts)
    decisions = sum(part.decisions for part in parts)
    typer.echo(f"{span_words(source)}, {len(parts)} partitions of {source.where}")
    records = commands + decisions + sum(part.changes for part in parts) + found.ticks
    typer.echo(speed_words(source, found.ticks, records, found.took_s))
    before = sum(part.before for part in parts)
    typer.echo(clean(began_line([part.began for part in parts], before)))
    for words in _notes(found):
        typer.echo(words)
    if found.ok:
        typer.echo(f"commands   {commands:,}, byte for byte those of capture.commands")
        typer.echo(f"decisions  {decisions:,}, byte for byte those of schedule.decisions")
        typer.echo(f"sha256     {sha256_of_all(parts)}")
        if found.played is not None:
            _show_played(found.played)
        return
    for part in parts:
        one = part.difference
        if one is None:
            continue
        at = "behind the last" if one.tick_offset < 0 else f"tick at offset {one.tick_offset:,}"
        place = "nothing" if one.offset is None else f"offset {one.offset:,}"
        typer.echo(
            f"DIFFERENT  {one.topic}, partition {part.partition}, {at} "
            f"({show_moment(one.tick_time_ms)}): {place}\n"
            f"  folded   {one.folded[:SHOWN_CHARS] or 'nothing'}\n"
            f"  found    {one.found[:SHOWN_CHARS] or 'nothing'}"
        )


def _show_played(played: Played) -> None:
    """Write how captures ended in the past, and with cameras that always answer."""
    total = sum(played.pairs.values())
    typer.echo(
        f"results    {played.equal:,} of {total:,} end alike with cameras that always answer"
    )
    for (here, then), count in played.pairs.most_common():
        if here != then:
            causes = ", ".join(
                f"{cause or 'no cause'} {many:,}"
                for (one, other, cause), many in played.causes.most_common()
                if (one, other) == (here, then)
            )
            typer.echo(
                clean(f"  {then} then, {here} here: {count:,}" + (f" ({causes})" * bool(causes)))
            )


def _notes(found: Folded) -> Iterable[str]:
    bad = sum(part.bad_events for part in found.parts)
    if bad:
        yield f"note: {bad:,} events were refused before they came into a tick (dead.letters)"
    older = sum(part.other_schema for part in found.parts)
    if older:
        yield f"note: {older:,} records are of another release and were compared field by field"
    kept = [part.kept_from_ms for part in found.parts if part.kept_from_ms is not None]
    if kept:
        yield (
            f"note: commands before {show_moment(max(kept))} are not kept any more; compared is "
            "what came after"
        )
    other = sorted({one for part in found.parts for one in part.other_tz})
    if other:
        yield (
            f"note: some ticks were made with time zone data {', '.join(other)}; folded with "
            f"{TZ_VERSION}: see --tz"
        )


# --- a sandbox ------------------------------------------------------------------------------------


def sandbox_json(source: Source, report: SandboxReport) -> dict[str, Any]:
    """Return what became of a replay in a sandbox."""
    d = report.difference
    return {
        "mode": "sandbox",
        "namespace": report.namespace,
        "speed": report.speed,
        "pace": None
        if report.pace is None
        else {
            "reached": round(report.pace.reached, 3),
            "kept_up": report.pace.kept_up,
            "too_late": report.pace.too_late,
            "way_ms": round(report.pace.way_ms, 1),
            "lead_ms": report.pace.lead_ms,
            "leads_allow": report.pace.sensible,
        },
        "from_ms": source.from_ms,
        "to_ms": source.to_ms,
        "began": began_json(report.began),
        "schedules": report.schedules,
        "events": report.events,
        "devices": report.devices,
        "shutters_before": d.before.stand,
        "shutters": d.after.stand,
        "same": d.same,
        "moved": d.moved,
        "gone": d.gone,
        "added": d.added,
        "examples": {
            kind: [example_json(one) for one in kept] for kind, kept in d.examples.items()
        },
        "results": dict(report.states.most_common()),
        "unanswered": report.unanswered,
        "camera_shutters": report.shutters,
        "doubled": report.doubled,
        "lateness_ms": {name: round(value, 1) for name, value in report.lateness_ms.items()},
        "took_s": round(report.took_s, 1),
        "restarts": report.restarts,
        "kept": report.kept,
    }


def show_sandbox(source: Source, report: SandboxReport) -> None:
    """Write what became of a replay in a sandbox, in words."""
    d = report.difference
    typer.echo(
        f"{span_words(source)} at x{report.speed:g} in sandbox {report.namespace}, "
        f"{report.took_s:.0f} s with start and end"
    )
    if report.pace is not None:
        typer.echo(f"speed      {report.pace.words()}")
    typer.echo(clean(began_line(report.began, report.ticks_before)))
    typer.echo(
        f"poured     {report.schedules:,} schedules, {report.devices:,} devices, "
        f"{report.events:,} events"
    )
    typer.echo(
        f"shutters   {d.before.stand:,} then, {d.after.stand:,} now: same {d.same:,}, "
        f"moved {d.moved:,}, gone {d.gone:,}, added {d.added:,}"
    )
    states = ", ".join(f"{state} {count:,}" for state, count in report.states.most_common())
    typer.echo(f"results    {states or 'none'}; without one {report.unanswered:,}")
    if report.shutters is not None:
        typer.echo(
            f"cameras    simulated; opened {report.shutters:,} times, "
            f"more than once for {report.doubled:,} commands"
        )
    late = ", ".join(f"{name} {value:.1f}" for name, value in report.lateness_ms.items())
    if late:
        typer.echo(f"lateness   {late} ms of real time")
    if report.restarts:
        typer.echo(f"note: workers were started again {report.restarts} times")
    for kind, kept in d.examples.items():
        for one in kept:
            typer.echo(clean(f"  {KINDS[kind]}: {example_words(one)}"))
    if report.kept:
        typer.echo(f"kept       topics {report.namespace}.*, photos and state in {report.kept}")
