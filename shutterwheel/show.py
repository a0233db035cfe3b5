"""How commands write: tables for people, JSON for programs, both to standard output.

With ``--json`` a list is one JSON object a line, anything else one JSON object. Records carry
their name under ``record``. Text of others (device ids, causes) is shown without control
characters and never read as markup.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Literal

import msgspec
import typer

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rich.console import Console
    from rich.table import Table

    from schemas.records import Record

STATE_STYLES = {
    "SUCCESS": "green",
    "FAILED": "red",
    "EXPIRED": "yellow",
    "REVOKED": "dim",
    "online": "green",
    "offline": "red",
    "flapping": "yellow",
    "ok": "green",
    "warn": "yellow",
    "fail": "red",
}


def plain(record: Record) -> dict[str, Any]:
    """Return a record as what JSON has, with its name under ``record``."""
    return {"record": type(record).__name__, **msgspec.to_builtins(record)}


def write_json(value: object) -> None:
    """Write one JSON object as a line."""
    sys.stdout.buffer.write(msgspec.json.encode(value) + b"\n")
    sys.stdout.buffer.flush()


def clean(text: object) -> str:
    """Return text without characters that steer a terminal."""
    return "".join(one if one.isprintable() else "\ufffd" for one in str(text))


def console(*, stderr: bool = False) -> Console:
    """Return a console; what is no terminal gets lines that are never cut."""
    from rich.console import Console

    found = Console(stderr=stderr, highlight=False, markup=False, soft_wrap=True)
    return (
        found
        if found.is_terminal
        else Console(stderr=stderr, highlight=False, markup=False, width=10_000)
    )


def table(
    columns: Sequence[str], rows: Iterable[Sequence[object]], title: str | None = None
) -> Table:
    """Return a table; a column whose name begins with ``>`` stands on the right."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    found = Table(
        box=SIMPLE_HEAD, title=title, title_justify="left", pad_edge=False, show_edge=False
    )
    for name in columns:
        justify: Literal["right", "left"] = "right" if name.startswith(">") else "left"
        found.add_column(name.lstrip(">"), justify=justify, no_wrap=True)
    for row in rows:
        cells = [clean(value) for value in row]
        found.add_row(*(Text(cell, style=STATE_STYLES.get(cell, "")) for cell in cells))
    return found


def write_table(columns: Sequence[str], rows: Iterable[Sequence[object]], empty: str) -> None:
    """Write a table, or ``empty`` where there are no rows."""
    listed = list(rows)
    if listed:
        out = console()
        with out.capture() as text:
            out.print(table(columns, listed))
        typer.echo("\n".join(line.rstrip() for line in text.get().splitlines()))
    else:
        typer.echo(empty, err=True)


def say(text: str) -> None:
    """Write a line for a person to standard error, which is not what a program reads."""
    typer.echo(clean(text), err=True)
