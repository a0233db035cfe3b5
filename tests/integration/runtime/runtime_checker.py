"""Says whether what is visible is what exactly-once promises. Pure, and tested on planted faults.

Given all records of the input, the outputs and the changelog as a read-committed reader sees them,
in partition order, it finds:

* **lost** and **doubled** outputs, of each of the three kinds of work;
* **zombie writes**: outputs of an older generation after one of a newer in the same partition, or
  of a second member in one generation of it;
* **wrong rows**: the changelog's last value of a key against the fold of the inputs.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

TICKS, LATER = b"#ticks", b"@"
Rows = list[tuple[int, bytes | None, bytes | None]]
"""(offset, key, value) in offset order."""


@dataclass
class Findings:
    """Everything wrong; a sound run has none."""

    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    zombie: list[str] = field(default_factory=list)
    wrong_rows: list[str] = field(default_factory=list)
    invented: list[str] = field(default_factory=list)
    outputs: int = 0
    generations: int = 0

    def sound(self) -> bool:
        return not (self.lost or self.doubled or self.zombie or self.wrong_rows or self.invented)

    def __str__(self) -> str:
        parts = [
            f"{name}: {len(found)} {found[:5]}"
            for name in ("lost", "doubled", "zombie", "wrong_rows", "invented")
            if (found := getattr(self, name))
        ]
        return f"{self.outputs} outputs, {self.generations} generations; " + "; ".join(parts)


def check(
    inputs: Mapping[int, Rows], outputs: Mapping[int, Rows], changelog: Mapping[int, Rows]
) -> Findings:
    """Compare what is visible with the fold of the inputs."""
    findings = Findings()
    generations: set[int] = set()
    for partition in sorted(set(inputs) | set(outputs) | set(changelog)):
        seen = _outputs(partition, outputs.get(partition, []), findings, generations)
        given = inputs.get(partition, [])
        expected_r = {o for o, _, v in given if v != b"poison"}
        expected_c = {o for o, _, v in given if v == b"later"}
        ticks = number_of_ticks(seen["T"])
        _compare(f"{partition}:R", expected_r, seen["R"], findings)
        _compare(f"{partition}:C", expected_c, seen["C"], findings)
        _compare(f"{partition}:T", set(range(1, ticks + 1)), seen["T"], findings)
        rows = folded(changelog.get(partition, []))
        wanted: Counter[bytes] = Counter(k for _, k, v in given if v != b"poison" and k)
        if ticks:
            wanted[TICKS] = ticks
        for key in set(wanted) | set(rows):
            if rows.get(key) != b"%d" % wanted[key]:
                findings.wrong_rows.append(
                    f"{partition}:{key!r} is {rows.get(key)!r}, not {wanted[key]}"
                )
    findings.generations = len(generations)
    return findings


def number_of_ticks(seen: Counter[int]) -> int:
    """Return the highest number of a tick."""
    return max(seen, default=0)


def folded(rows: Rows) -> dict[bytes, bytes]:
    """Return the last value of each key; a null value deletes."""
    state: dict[bytes, bytes] = {}
    for _, key, value in rows:
        assert key is not None
        if value is None:
            state.pop(key, None)
        else:
            state[key] = value
    return state


def _outputs(
    partition: int, rows: Rows, findings: Findings, generations: set[int]
) -> dict[str, Counter[int]]:
    seen: dict[str, Counter[int]] = defaultdict(Counter)
    newest = -1
    owners: dict[int, str] = {}
    for offset, _, value in rows:
        kind, p, number, generation, member = (value or b"").decode().split(":")
        findings.outputs += 1
        seen[kind][int(number)] += 1
        generations.add(int(generation))
        if int(p) != partition:
            findings.invented.append(f"{partition}@{offset} says partition {p}")
        if int(generation) < newest:
            findings.zombie.append(f"{partition}@{offset}: {generation} after {newest}")
        owner = owners.setdefault(int(generation), member)
        if member != owner:
            findings.zombie.append(f"{partition}@{offset}: {member} beside {owner}")
        newest = max(newest, int(generation))
    return seen


def _compare(name: str, expected: set[int], seen: Counter[int], findings: Findings) -> None:
    findings.lost += [f"{name}:{n}" for n in sorted(expected - set(seen))]
    findings.invented += [f"{name}:{n}" for n in sorted(set(seen) - expected)]
    findings.doubled += [f"{name}:{n}x{c}" for n, c in seen.items() if c > 1]
