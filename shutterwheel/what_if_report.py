"""Says what another policy would have changed: in words and a plot, or as one object."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import typer

from connectors.clients.values import show_duration, show_moment
from shutterwheel.replay_report import (
    KINDS,
    began_json,
    began_line,
    example_json,
    example_words,
    span_words,
)

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterable
    from pathlib import Path

    from shutterwheel.plot import Series
    from shutterwheel.replay_run import Compared, Source
    from streams.replay.what_if_diff import Side

HEIGHT: Final = 12
PLOT_WIDTH: Final = 100
"""Columns where there is no terminal to ask."""
HUNDREDTHS: Final = (0.5, 0.9, 0.99, 1.0)


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
        "ticks_before": found.total("before"),
        "began": began_json([part.began for part in found.parts]),
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
        "examples": {
            kind: [example_json(one) for one in kept] for kind, kept in d.examples.items()
        },
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


def show_what_if(source: Source, words: str, found: Compared, *, always: bool) -> None:
    """Write what another policy would have changed: the answer, a plot, numbers, examples."""
    from shutterwheel.show import clean, write_table

    typer.echo(clean(headline(words, found)))
    how = "as if it had always stood" if always else f"published at {show_moment(source.from_ms)}"
    typer.echo(f"{span_words(source)}, {len(found.parts)} partitions of {source.where}; {how}")
    began = began_line([part.began for part in found.parts], found.total("before"))
    typer.echo(clean(began))
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
            typer.echo(clean(f"  {KINDS[kind]}: {example_words(one)}"))
    typer.echo(f"{found.total('ticks'):,} ticks folded twice in {found.took_s:.1f} s")


def _by(late_ms: int) -> str:
    return ("-" if late_ms < 0 else "+") + show_duration(abs(late_ms))


def _reasons(
    what: str, before: Counter[str], after: Counter[str]
) -> Iterable[tuple[str, str, str]]:
    for reason in sorted({*before, *after}, key=lambda one: -max(before[one], after[one])):
        yield f"{what}: {reason}", f"{before[reason]:,}", f"{after[reason]:,}"


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
