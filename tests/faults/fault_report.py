"""What the fault bench is asked to show, and what it found: a line a fault, and the same as JSON."""

from __future__ import annotations

from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING

from benchmarks.result import Result, Row, rows_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

FAULTS: Mapping[str, str] = {
    "kill-9-at-random": "worker-killed",
    "kill-9-between-slices": "worker-killed",
    "kill-9-before-begin": "worker-killed",
    "kill-9-mid-produce": "worker-killed",
    "kill-9-before-send-offsets": "worker-killed",
    "kill-9-before-commit": "worker-killed",
    "kill-9-after-commit": "worker-killed",
    "kill-9-mid-store": "worker-killed",
    "worker-stopped-and-woken": "worker-stopped",
    "transaction-timeout": "worker-stopped",
    "rolling-restart": "workers-moved",
    "scale-1-4-2": "workers-moved",
    "partition-back-and-forth": "workers-moved",
    "broker-killed": "broker-gone",
    "broker-stopped-60-s": "broker-gone",
    "one-of-three-brokers-killed": "broker-gone",
    "second-of-three-brokers-killed": "broker-gone",
    "coordinator-changed": "broker-gone",
    "captures-killed": "worker-killed",
    "wheel-killed": "worker-killed",
    "captures-stopped-and-woken": "worker-stopped",
    "wheel-stopped-and-woken": "worker-stopped",
    "captures-rolled": "workers-moved",
    "devices-killed": "worker-killed",
    "devices-stopped-and-woken": "worker-stopped",
    "devices-rolled": "workers-moved",
    "chain-broker-killed": "broker-gone",
    "chain-broker-stopped-60-s": "broker-gone",
    "idle-worker-broker-stopped-60-s": "broker-gone",
    "producer-queue-full": "broker-gone",
    "local-state-deleted": "local-state",
    "local-state-truncated": "local-state",
    "local-state-older": "local-state",
    "changelog-compacted": "local-state",
    "data-folder-taken": "local-state",
    "disk-full": "disk-full",
    "wheel-clock-jumped": "clock",
    "captures-clock-jumped": "clock",
}
"""Each fault of the bench, and the runbook (``infra/runbooks/NAME.md``) that names it."""


@dataclass(frozen=True, slots=True)
class FaultRow:
    """What one fault came to. ``None``: this case cannot say."""

    name: str
    lost: int
    doubled: int
    zombie_writes: int
    """Outputs of an older generation after a newer one, or of a second owner in one."""
    wrong_rows: int
    """Rows of state that differ from the fold of the inputs."""
    recovered_s: float | None
    """Longest silence of a partition from the fault on, seconds; measured, not demanded."""
    shutters_without_lease: int | None = None
    expired: int | None = None

    def line(self) -> str:
        """Return the row as a line of the summary."""
        state = "equal" if not self.wrong_rows else f"{self.wrong_rows} rows wrong"
        recovered = "-" if self.recovered_s is None else f"{self.recovered_s:.1f} s"
        return (
            f"{self.name:<28} lost {self.lost}  doubled {self.doubled}  "
            f"zombie writes {self.zombie_writes}  state {state}  "
            f"no lease {_or_dash(self.shutters_without_lease)}  "
            f"expired {_or_dash(self.expired)}  recovered in {recovered}"
        )


def _or_dash(count: int | None) -> str:
    return "-" if count is None else str(count)


FOUND, SKIPPED = "fault", "fault skipped"


class FaultReport:
    """The rows of a test of the bench, or of a run of it."""

    def __init__(self) -> None:
        self.rows: list[FaultRow] = []
        self.skipped: dict[str, str] = {}

    @classmethod
    def of(cls, pairs: Iterable[tuple[str, object]]) -> FaultReport:
        """Return a report of what tests handed on (``pairs``)."""
        report = cls()
        for kind, values in pairs:
            if kind == FOUND:
                report.add(FaultRow(*values))  # type: ignore[misc]
            elif kind == SKIPPED:
                report.skipped.update([values])  # type: ignore[list-item]
        return report

    def pairs(self) -> list[tuple[str, object]]:
        """Return the report as properties of a test, which reach the process that prints them."""
        return [(FOUND, astuple(row)) for row in self.rows] + [
            (SKIPPED, pair) for pair in self.skipped.items()
        ]

    def add(self, row: FaultRow) -> None:
        """Note a row; its fault must be one of the list, and so have a runbook."""
        assert row.name in FAULTS, row.name
        self.rows.append(row)

    def lines(self) -> Iterator[str]:
        """Yield the summary."""
        for row in self.rows:
            yield row.line()
        for name, reason in self.skipped.items():
            yield f"{name:<28} skipped: {reason}"

    def result(self) -> Result:
        """Return the rows in the shape of a benchmark's result."""
        rows: list[Row] = []
        for row in self.rows:
            rows += rows_of(
                row.name,
                {
                    ("lost", "1"): row.lost,
                    ("doubled", "1"): row.doubled,
                    ("zombie_writes", "1"): row.zombie_writes,
                    ("wrong_rows", "1"): row.wrong_rows,
                    ("shutters_without_lease", "1"): row.shutters_without_lease,
                    ("expired", "1"): row.expired,
                    ("recovery", "s"): row.recovered_s,
                },
            )
        return Result.of("faults", rows)
