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
    from collections.abc import Iterator
    from pathlib import Path

COLUMNS: Final = 4
"""Cases side by side; more would not fit a terminal."""
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
    def of(cls, bench: str, rows: list[Row]) -> Result:
        """Return a result that says how it was made."""
        return cls(bench, command_line(), now_text(), machine(), versions(), tuple(rows))

    def write(self, path: Path) -> None:
        """Write it as indented JSON."""
        text = msgspec.json.format(msgspec.json.encode(self), indent=1)
        path.write_bytes(text + b"\n")

    def tables(self) -> Iterator[Table]:
        """Yield tables: a line a metric, a column a case (and system, where it is not ours)."""
        columns = list(dict.fromkeys((row.case, row.system) for row in self.rows))
        for first in range(0, len(columns), COLUMNS):
            part = columns[first : first + COLUMNS]
            table = Table(title=self.bench, title_justify="left")
            table.add_column("", no_wrap=True)
            for case, system in part:
                table.add_column(case if system == OURS else f"{system}: {case}", justify="right")
            rows = [row for row in self.rows if (row.case, row.system) in part]
            cells = {(row.metric, row.unit, (row.case, row.system)): row.value for row in rows}
            for metric, unit in dict.fromkeys((row.metric, row.unit) for row in rows):
                values = [cells.get((metric, unit, column)) for column in part]
                table.add_row(
                    metric + ("" if unit == "1" else f" ({unit})"),
                    *("" if value is None else f"{value:,.6g}" for value in values),
                )
            yield table


def rows_of(case: str, figures: dict[tuple[str, str], float | None]) -> list[Row]:
    """Return our rows of a case; figures by (metric, unit), those that are None left out."""
    return [
        Row(case, OURS, metric, round(value, 3), unit)
        for (metric, unit), value in figures.items()
        if value is not None
    ]
