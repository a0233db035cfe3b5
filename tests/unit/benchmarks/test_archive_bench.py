"""The bench of archives: what is extrapolated, and from what."""

from __future__ import annotations

import pytest

from benchmarks.archive import _marginal


def case(rows: float, seconds: float):
    return {("rows", "1"): rows, ("took_s", "s"): seconds}


def test_what_each_case_costs_alone_cancels_out():
    """5 s, and 1 s each 10,000 rows."""
    rate = _marginal(case(100_000, 15.0), case(10_000, 6.0), "rows", "took_s")
    assert rate == pytest.approx(10_000)


def test_nothing_is_said_where_the_larger_case_took_no_longer():
    assert _marginal(case(100_000, 5.0), case(10_000, 6.0), "rows", "took_s") is None
