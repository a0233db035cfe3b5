"""Runs worlds: ``./dev simulate --seeds 100``, or for some minutes; a finding is made small.

Exit code 1 where something was found: its command, its trace. ``--json`` writes what was run in the
form of ``benchmarks/result.py``.
"""

from __future__ import annotations

import argparse
import datetime as dt
import sys
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(ROOT), str(Path(__file__).resolve().parent)]

from world import Report, run  # noqa: E402
from world_bugs import BUGS, planted  # noqa: E402
from world_plan import KINDS, ODD_KINDS, Plan, make, numbers_of  # noqa: E402
from world_shrink import shrink  # noqa: E402

from benchmarks.result import Result, Row, rows_of  # noqa: E402


def command(plan: Plan, bug: str = "") -> str:
    """Return the command that runs this plan again."""
    return f"./dev simulate {plan.words()}" + (f" --bug {bug}" if bug else "")


def told(report: Report, bug: str = "", lines: int = 60) -> str:
    """Return a finding with its command and the end of its trace."""
    plan = report.plan
    text = [*report.findings, "", "again: " + command(plan, bug), ""]
    text += [fault.text() for fault in plan.faults]
    text += ["", *report.trace[-lines:]]
    return "\n".join(text)


def _numbers(text: str | None) -> tuple[int, ...] | None:
    return None if text is None else numbers_of(text)


def options_of(words: list[str] | None = None) -> argparse.Namespace:
    """Return what the command line says; default: that of this process."""
    parser = argparse.ArgumentParser(prog="./dev simulate", description=__doc__)
    parser.add_argument("--seeds", type=int, default=0, help="how many seeds (default: 1)")
    parser.add_argument("--minutes", type=float, default=0.0, help="for how long")
    parser.add_argument("--seed", type=int, help="the first seed (default: of the day)")
    parser.add_argument("--kind", choices=("storm", "squall", "fleet"), default="storm")
    parser.add_argument("--faults", help="only these faults of the plan: numbers, or 'none'")
    parser.add_argument("--devices", help="only these devices of the plan: numbers")
    parser.add_argument("--only", help="all faults are of these kinds", default="")
    parser.add_argument("--plan-devices", type=int, default=0, help="a plan of so many devices")
    parser.add_argument("--plan-seconds", type=float, default=0.0, help="a plan of so long")
    parser.add_argument("--seconds", type=float, help="only the first seconds of the plan")
    parser.add_argument("--bug", choices=sorted(BUGS), help="plant a bug first")
    parser.add_argument("--no-shrink", action="store_true")
    parser.add_argument("--json", type=Path, help="write what was run to this file")
    parser.add_argument("--found", action="store_true", help="print what was found so far")
    options = parser.parse_args(words)
    if unknown := set(filter(None, options.only.split(","))) - {*KINDS, *ODD_KINDS}:
        parser.error(f"there is no fault {min(unknown)!r}: {', '.join([*KINDS, *ODD_KINDS])}")
    return options


def plan_of(options: argparse.Namespace, seed: int) -> Plan:
    """Return the plan of a seed, as the command line has it."""
    only = tuple(filter(None, options.only.split(",")))
    plan = make(seed, options.kind, options.plan_devices, options.plan_seconds, only)
    return plan.cut(_numbers(options.faults), _numbers(options.devices), options.seconds)


def _print(text: str) -> None:
    print(text, flush=True)


def main() -> int:
    """Run worlds until there are enough, or until one fails."""
    options = options_of()
    if options.found:
        _print((Path(__file__).parent / "FOUND.md").read_text())
        return 0
    sys.argv[0] = "./dev simulate"  # as a result names it
    today = int(dt.datetime.now(dt.UTC).strftime("%Y%m%d")) * 1_000
    first = today if options.seed is None else options.seed
    seeds = options.seeds or (1_000_000 if options.minutes else 1)
    end_s = time.monotonic() + options.minutes * 60.0 if options.minutes else float("inf")
    reports: list[Report] = []
    for seed in range(first, first + seeds):
        if time.monotonic() > end_s:
            break
        plan = plan_of(options, seed)
        with planted(options.bug):
            report = run(plan)
            reports.append(report)
            if report.findings:
                _print(f"seed {seed}: {report.findings[0]}")
                small = report if options.no_shrink else shrink(report)
                _print(told(small, options.bug or ""))
                break
    found = bool(reports[-1].findings)
    rows = summary(reports, options.kind)
    for row in rows:
        _print(f"{row.metric:>24} {row.value:>16,.6g} {row.unit}")
    if options.json:
        old = () if not options.json.exists() else _old(options.json, rows)
        Result.of("simulation", [*old, *rows]).write(options.json)
    return int(found)


def _old(path: Path, rows: list[Row]) -> list[Row]:
    """Return the rows of other cases that the file holds."""
    import msgspec

    mine = {row.case for row in rows}
    return [
        r for r in msgspec.json.decode(path.read_bytes(), type=Result).rows if r.case not in mine
    ]


def summary(reports: list[Report], kind: str) -> list[Row]:
    """Return the figures of some runs."""
    counts: Counter[str] = Counter()
    for report in reports:
        counts.update(report.counts)
    took_s = sum(r.took_s for r in reports)
    days = sum(r.device_days for r in reports)
    hours = sum(r.seconds for r in reports) / 3_600
    figures: dict[tuple[str, str], float | None] = {
        ("seeds", "1"): len(reports),
        ("seeds_with_findings", "1"): sum(bool(r.findings) for r in reports),
        ("cpu", "s"): took_s,
        ("device_days", "1"): days,
        ("device_days_per_cpu_s", "1/s"): days / took_s,
        ("virtual_time", "h"): hours,
        ("speed_up", "1"): hours * 3_600 / took_s,
        ("captures", "1"): counts["commands"],
        ("captures_per_cpu_s", "1/s"): counts["commands"] / took_s,
        ("shutters", "1"): counts["shutters"],
        ("faults", "1"): counts["faults"],
        ("transactions", "1"): counts["commits"],
    }
    for state in ("SUCCESS", "FAILED", "EXPIRED", "REVOKED", "recovered", "repeated"):
        figures[state.lower(), "1"] = counts[state]
    return rows_of(f"{kind}s, from seed {reports[0].plan.seed}", figures)


if __name__ == "__main__":
    sys.exit(main())
