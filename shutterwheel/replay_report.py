"""Says what a replay found: in words and a plot for people, as one object for programs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import typer

from connectors.clients.values import show_duration, show_moment
from streams.core.recurrence import TZ_VERSION
from streams.replay.again import sha256_of_all

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterable
    from pathlib import Path

    from shutterwheel.plot import Series
    from shutterwheel.replay_run import Compared, Folded, Source
    from shutterwheel.replay_sandbox import SandboxReport
    from streams.replay.what_if_diff import Example, Side

HEIGHT: Final = 12
PLOT_WIDTH: Final = 100
"""Columns where there is no terminal to ask."""
KINDS: Final = {
    "moved": "moved",
    "gone": "gone",
    "added": "added",
    "refused": "would not take the policy",
}
SHOWN_CHARS: Final = 400
"""Of a record in words."""
HUNDREDTHS: Final = (0.5, 0.9, 0.99, 1.0)


def span_words(source: Source) -> str:
    """Return the range in words."""
    length = show_duration(max(1, (source.to_ms - source.from_ms) // 1_000) * 1_000)
    return f"{length} from {show_moment(source.from_ms)}"


def speed_words(source: Source, ticks: int, records: int, took_s: float) -> str:
    """Return how fast it went."""
    took_s = max(took_s, 1e-6)
    times = (source.to_ms - source.from_ms) / 1_000.0 / took_s
    return (
        f"{ticks:,} ticks folded, {records:,} records, in {took_s:.1f} s: "
        f"{records / took_s:,.0f} records/s, x{times:,.0f} real time"
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
        "changes": sum(part.changes for part in found.parts),
        "commands": sum(part.commands for part in found.parts),
        "decisions": sum(part.decisions for part in found.parts),
        "sha256": sha256_of_all(found.parts),
        "sha256_found": sha256_of_all(found.parts, found=True),
        "partitions": [
            {
                name: getattr(part, name)
                for name in ("partition", "ticks", "commands", "decisions", "bad_events")
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
    for words in _notes(found):
        typer.echo(words)
    if found.ok:
        typer.echo(f"commands   {commands:,}, byte for byte those of capture.commands")
        typer.echo(f"decisions  {decisions:,}, byte for byte those of schedule.decisions")
        typer.echo(f"sha256     {sha256_of_all(parts)}")
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


def _notes(found: Folded) -> Iterable[str]:
    bad = sum(part.bad_events for part in found.parts)
    if bad:
        yield f"note: {bad:,} events were refused before they came into a tick (dead.letters)"
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
            f"{TZ_VERSION}"
        )


# --- another policy -------------------------------------------------------------------------------


def headline(words: str, found: Compared) -> str:
    """Return the answer in one sentence."""
    d = found.difference
    if d.empty:
        return f"with {words}: nothing would have been otherwise"
    parts = [f"peak {d.before.peak[0]:,}/s → {d.after.peak[0]:,}/s"]
    revoked = sum(count for why, count in d.gone_why.items() if why.startswith("revoked"))
    skipped = sum(count for why, count in d.gone_why.items() if why.startswith("skipped"))
    rest = d.gone - revoked - skipped
    for count, what in (
        (revoked, "would have been revoked"),
        (skipped, "would have been skipped"),
        (rest, "would not have been due"),
        (d.added, "would have been taken beside"),
    ):
        if count:
            parts.append(f"{count:,} {'capture' if count == 1 else 'captures'} {what}")
    if not d.gone and not d.added:
        parts.append("no capture lost or added")
    return f"with {words}: {', '.join(parts)}"


def moved_json(found: Compared) -> dict[str, int]:
    """Return how far captures were moved."""
    d = found.difference
    return {
        "min": min(d.moved_ms, default=0),
        **{f"p{round(share * 100)}": d.moved_percentile(share) for share in HUNDREDTHS},
        "earlier": sum(count for late_ms, count in d.moved_ms.items() if late_ms < 0),
    }


def what_if_json(source: Source, words: str, found: Compared, *, always: bool) -> dict[str, Any]:
    """Return what another policy would have changed."""
    d = found.difference
    first, before, after = _seconds(source, found)
    return {
        "mode": "what-if",
        "policy": words,
        "always": always,
        "from_ms": source.from_ms,
        "to_ms": source.to_ms,
        "headline": headline(words, found),
        "took_s": round(found.took_s, 3),
        "ticks": found.total("ticks"),
        "ticks_made_up": found.total("made_up"),
        "schedules_changed": found.total("changed"),
        "schedules_refused": found.total("refused"),
        "same": d.same,
        "other_terms": d.other_terms,
        "moved": d.moved,
        "moved_ms": moved_json(found),
        "gone": d.gone,
        "gone_why": dict(d.gone_why.most_common()),
        "added": d.added,
        "before": _side_json(d.before),
        "after": _side_json(d.after),
        "examples": {kind: [_example(one) for one in kept] for kind, kept in d.examples.items()},
        "load": {"first_s": first, "before": before, "after": after},
    }


def _side_json(side: Side) -> dict[str, Any]:
    peak, second = side.peak
    return {
        "captures": side.stand,
        "peak_per_second": peak,
        "peak_at_ms": second * 1_000 if peak else None,
        "commands": side.issued,
        "revoked": side.revoked,
        "revocations": dict(side.revocations.most_common()),
        "over_capacity": side.over_capacity,
        "skipped": dict(side.skipped.most_common()),
        "accepted": side.accepted,
        "refused": dict(side.refused.most_common()),
        "auto_paused": side.paused,
        "ended": side.ended,
    }


def _example(one: Example) -> dict[str, Any]:
    return {name: getattr(one, name) for name in type(one).__dataclass_fields__}


def show_what_if(source: Source, words: str, found: Compared, *, always: bool) -> None:
    """Write what another policy would have changed: the answer, a plot, numbers, examples."""
    from shutterwheel.show import clean, write_table

    typer.echo(clean(headline(words, found)))
    how = "as if it had always stood" if always else f"published at {show_moment(source.from_ms)}"
    typer.echo(f"{span_words(source)}, {len(found.parts)} partitions of {source.where}; {how}")
    _show_plot(source, found)
    d = found.difference
    rows = [
        ("captures", f"{d.before.stand:,}", f"{d.after.stand:,}"),
        ("peak a second", f"{d.before.peak[0]:,}", f"{d.after.peak[0]:,}"),
        *(
            (name, f"{getattr(d.before, field):,}", f"{getattr(d.after, field):,}")
            for name, field in (
                ("commands", "issued"),
                ("revoked in time", "revoked"),
                ("over capacity", "over_capacity"),
                ("events accepted", "accepted"),
                ("paused by failures", "paused"),
                ("schedules ended", "ended"),
            )
        ),
        *_reasons("skipped", d.before.skipped, d.after.skipped),
        *_reasons("revoked", d.before.revocations, d.after.revocations),
        *_reasons("refused", d.before.refused, d.after.refused),
    ]
    write_table(("", ">before", ">after"), [row for row in rows if row[1:] != ("0", "0")], "")
    typer.echo(
        f"same {d.same:,} ({d.other_terms:,} on other terms)   moved {d.moved:,}   "
        f"gone {d.gone:,}   added {d.added:,}"
    )
    if d.moved:
        far = moved_json(found)
        typer.echo(
            f"moved by {_by(far['min'])} to {_by(far['p100'])}, half of them by at most "
            f"{_by(far['p50'])}, nine of ten {_by(far['p90'])}"
        )
    for why, count in d.gone_why.most_common():
        typer.echo(clean(f"gone {count:,}: {why}"))
    if found.total("changed") or found.total("refused"):
        typer.echo(
            f"{found.total('changed'):,} schedules took the policy at the beginning, "
            f"{found.total('refused'):,} would not"
        )
    for kind, kept in d.examples.items():
        for one in kept:
            typer.echo(clean(f"  {KINDS[kind]}: {_example_words(one)}"))
    typer.echo(f"{found.total('ticks'):,} ticks folded twice in {found.took_s:.1f} s")


def _by(late_ms: int) -> str:
    return ("-" if late_ms < 0 else "+") + show_duration(abs(late_ms))


def _reasons(
    what: str, before: Counter[str], after: Counter[str]
) -> Iterable[tuple[str, str, str]]:
    for reason in sorted({*before, *after}, key=lambda one: -max(before[one], after[one])):
        yield f"{what}: {reason}", f"{before[reason]:,}", f"{after[reason]:,}"


def _example_words(one: Example) -> str:
    name = one.schedule_id or f"request {one.request_id}"
    if one.before_ms is None and one.after_ms is None:
        return f"{one.device_id} {name}: {one.why}"
    then = " → ".join(
        "none" if at_ms is None else show_moment(at_ms) for at_ms in (one.before_ms, one.after_ms)
    )
    return f"{one.device_id} {name} due {show_moment(one.nominal_ms)}: {then}" + (
        f" ({one.why})" if one.why else ""
    )


# --- the plot -------------------------------------------------------------------------------------


def _seconds(source: Source, found: Compared) -> tuple[int, list[int], list[int]]:
    """Return the first second and the captures of each, before and after."""
    d = found.difference
    both = (d.before.per_second, d.after.per_second)
    first = source.from_ms // 1_000
    last = max([(source.to_ms - 1) // 1_000, *(max(one, default=0) for one in both)])
    before, after = ([one.get(s, 0) for s in range(first, last + 1)] for one in both)
    return first, before, after


def _series(source: Source, found: Compared) -> tuple[int, int, Series]:
    from shutterwheel.plot import Series

    first, before, after = _seconds(source, found)
    return first, len(before), Series(tuple(before), tuple(after), first="before")


def _clock(first_s: int, seconds: int, part: float) -> str:
    at = show_moment((first_s + int(seconds * part)) * 1_000)
    return at[11 : 16 if seconds > 7_200 else 19]


def _show_plot(source: Source, found: Compared) -> None:
    from shutterwheel.plot import legend, terminal_plot
    from shutterwheel.show import console

    out = console()
    first, seconds, series = _series(source, found)
    width = out.width if out.is_terminal else PLOT_WIDTH
    typer.echo("captures a second, the busiest of each column")
    for line in terminal_plot(
        series,
        width,
        HEIGHT,
        lambda part: _clock(first, seconds, part),
        colour=out.is_terminal,
    ):
        out.print(line)
    words = ("before", "more under the policy", "less under it")
    out.print(legend(colour=out.is_terminal, words=words))


def draw(path: Path, source: Source, words: str, found: Compared) -> None:
    """Draw the load before and after as a picture; OSError if it cannot be written."""
    from shutterwheel.plot import write_png

    first, seconds, series = _series(source, found)
    d = found.difference
    lines = [
        f"before: {d.before.stand:,} captures, at most {d.before.peak[0]:,} a second",
        f"after: {d.after.stand:,} captures, at most {d.after.peak[0]:,} a second",
    ]
    title = f"captures a second with {words}, {span_words(source)}"
    write_png(path, series, title, lines, lambda part: _clock(first, seconds, part))


# --- a sandbox ------------------------------------------------------------------------------------


def sandbox_json(source: Source, report: SandboxReport) -> dict[str, Any]:
    """Return what became of a replay in a sandbox."""
    d = report.difference
    return {
        "mode": "sandbox",
        "namespace": report.namespace,
        "speed": report.speed,
        "from_ms": source.from_ms,
        "to_ms": source.to_ms,
        "schedules": report.schedules,
        "events": report.events,
        "devices": report.devices,
        "shutters_before": d.before.stand,
        "shutters": d.after.stand,
        "same": d.same,
        "moved": d.moved,
        "gone": d.gone,
        "added": d.added,
        "examples": {kind: [_example(one) for one in kept] for kind, kept in d.examples.items()},
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
    from shutterwheel.show import clean

    d = report.difference
    typer.echo(
        f"{span_words(source)} at x{report.speed:g} in sandbox {report.namespace}, "
        f"{report.took_s:.0f} s with start and end"
    )
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
            typer.echo(clean(f"  {KINDS[kind]}: {_example_words(one)}"))
    if report.kept:
        typer.echo(f"kept       topics {report.namespace}.*, photos and state in {report.kept}")
