"""What a benchmark found: rows, printed as a table and written as JSON of one shape.

::

    {"bench": "lateness", "command": "…", "date": "…", "machine": {…}, "versions": {…},
     "rows": [{"case": "null-camera, 200/s", "system": "shutterwheel",
               "metric": "lateness_ms_p99", "value": 3.0, "unit": "ms"}, …]}
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec
from rich.table import Table

from shutterwheel.provenance import command_line, machine, now_text, versions

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

COLUMNS: Final = 4
"""Cases side by side; more would not fit a terminal."""
RATIOS: Final = (("records_per_s", "1/s"), ("cpu_us_per_record", "us"))
"""What is set against a peer's."""
OURS: Final = "shutterwheel"
"""The system of our own rows."""


class Row(msgspec.Struct, frozen=True):
    """One figure."""

    case: str
    """What was done, in words: camera, load, size."""
    system: str
    metric: str
    value: float
    unit: str
    """``ms``, ``1/s``, ``us``, ``s``, or ``1`` for a count."""


class Result(msgspec.Struct, frozen=True):
    """The figures of one run of a benchmark, and where they come from."""

    bench: str
    command: str
    date: str
    machine: dict[str, str | int]
    versions: dict[str, str]
    rows: tuple[Row, ...]

    @classmethod
    def of(cls, bench: str, rows: list[Row], peers: Mapping[str, str] | None = None) -> Result:
        """Return a result that says how it was made; ``peers`` are versions of other systems."""
        known = {**versions(), **(peers or {})}
        return cls(bench, command_line(), now_text(), machine(), known, tuple(rows))

    def write(self, path: Path) -> None:
        """Write it as indented JSON."""
        text = msgspec.json.format(msgspec.json.encode(self), indent=1)
        path.write_bytes(text + b"\n")

    def tables(self) -> Iterator[Table]:
        """Yield tables: a line a metric, a column a case; where there are peers, a table a case.

        A peer's column then ends with our rate and our CPU time, each divided by its own.
        """
        if any(row.system != OURS for row in self.rows):
            for case in dict.fromkeys(row.case for row in self.rows):
                yield _beside(
                    f"{self.bench}: {case}", [row for row in self.rows if row.case == case]
                )
            return
        columns = list(dict.fromkeys(row.case for row in self.rows))
        for first in range(0, len(columns), COLUMNS):
            part = columns[first : first + COLUMNS]
            cells = {
                (row.case, row.metric, row.unit): row.value for row in self.rows if row.case in part
            }
            yield _table(self.bench, part, cells)


Cells = dict[tuple[str, str, str], float]
"""Value by (column, metric, unit)."""


def _table(title: str, columns: list[str], cells: Cells) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column("", no_wrap=True)
    for column in columns:
        table.add_column(column, justify="right")
    for metric, unit in dict.fromkeys((metric, unit) for _, metric, unit in cells):
        values = [cells.get((column, metric, unit)) for column in columns]
        table.add_row(
            metric + ("" if unit == "1" else f" ({unit})"),
            *("" if value is None else _text(value) for value in values),
        )
    return table


def _text(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1_000 else f"{value:,.6g}"


def _beside(title: str, rows: list[Row]) -> Table:
    """Return the table of one case: a column a system, and how ours stands to each."""
    systems = list(dict.fromkeys(row.system for row in rows))
    cells: Cells = {(row.system, row.metric, row.unit): row.value for row in rows}
    for metric, unit in RATIOS:
        ours = cells.get((OURS, metric, unit))
        for system in systems:
            value = cells.get((system, metric, unit))
            if ours is not None and value and system != OURS:
                cells[system, f"ours / its {metric}", "1"] = round(ours / value, 3)
    return _table(title, systems, cells)


def rows_of(case: str, figures: dict[tuple[str, str], float | None]) -> list[Row]:
    """Return our rows of a case; figures by (metric, unit), those that are None left out."""
    return [
        Row(case, OURS, metric, round(value, 3), unit)
        for (metric, unit), value in figures.items()
        if value is not None
    ]
