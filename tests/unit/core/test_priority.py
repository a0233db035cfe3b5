"""Who goes first, who is shed (SPEC 2.3; issue 6 'Executor')."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.core.priority import MAX_RANK, Line, rank

SHARE = st.floats(0.0, 1.0)
PRIORITY = st.integers(0, 9)
ENTRIES = st.lists(st.tuples(st.integers(1, 20), st.integers(0, 5)), max_size=60)


@pytest.mark.parametrize(
    ("priority", "cpu", "mem", "expected"),
    [(0, 0, 0, 1), (0, 0.9, 0.9, 1), (0, 1, 1, 2), (5, 0, 0, 6), (5, 0.5, 0.5, 9), (9, 1, 1, 20)],
)
def test_the_formula(priority: int, cpu: float, mem: float, expected: int) -> None:
    """SPEC 2.3: base x (1 + 0.5 x (cpu + mem)), base being the priority plus one."""
    assert rank(priority, cpu, mem) == expected


@given(PRIORITY, SHARE, SHARE, SHARE)
def test_more_load_or_priority_never_lowers_a_rank(
    priority: int, cpu: float, mem: float, more: float
) -> None:
    """SPEC 2.3: load raises, and at most doubles."""
    least = rank(priority, cpu, mem)
    assert priority + 1 <= least <= 2 * (priority + 1) <= MAX_RANK
    assert rank(priority, max(cpu, more), mem) >= least
    assert rank(min(priority + 1, 9), cpu, mem) >= least


def test_a_load_that_cannot_be_is_cut() -> None:
    """CONVENTIONS 6: a terminal that tells nonsense does not jump the line."""
    assert rank(9, 1e9, -5.0) == 15


@given(ENTRIES)
def test_order_by_rank_then_deadline_then_arrival(entries: list[tuple[int, int]]) -> None:
    """SPEC 2.3, issue 6: against Python's own stable sort."""
    line: Line[int] = Line()
    for n, (rank_, not_after_ms) in enumerate(entries):
        model = sorted(range(n), key=lambda i: (-entries[i][0], entries[i][1]))
        before = [i for i in model if (-entries[i][0], entries[i][1]) <= (-rank_, not_after_ms)]
        assert line.ahead(rank_, not_after_ms) == len(before)
        line.put(n, rank_, not_after_ms)
    expected = sorted(range(len(entries)), key=lambda i: (-entries[i][0], entries[i][1]))
    assert list(line) == expected
    assert [line.take() for _ in entries] == expected
    assert not line


@given(ENTRIES.filter(bool), st.integers(0, 60))
def test_the_least_important_is_shed_first(entries: list[tuple[int, int]], kept: int) -> None:
    """Issue 6: under overload the least important goes: the end of the same order."""
    line: Line[int] = Line()
    for n, (rank_, not_after_ms) in enumerate(entries):
        line.put(n, rank_, not_after_ms)
    order = list(line)
    shed = [line.shed() for _ in range(max(len(order) - kept, 0))]
    assert shed[::-1] == order[len(order) - len(shed) :]
    assert list(line) == order[: len(order) - len(shed)]


@given(ENTRIES, st.integers(-1, 6))
def test_the_expired_are_taken_out_and_nobody_else(
    entries: list[tuple[int, int]], now_ms: int
) -> None:
    """DESIGN 'Captures': not_after itself is still in time."""
    line: Line[int] = Line()
    for n, (rank_, not_after_ms) in enumerate(entries):
        line.put(n, rank_, not_after_ms)
    order = list(line)
    expired = line.drop_expired(now_ms)
    assert expired == [n for n in order if entries[n][1] < now_ms]
    assert list(line) == [n for n in order if entries[n][1] >= now_ms]
    assert line.drop(lambda n: n % 2 == 0) == [n for n in order if n % 2 == 0 and n not in expired]
    assert all(n % 2 for n in line)
