"""The sketch against exact quantiles, its merge, its bytes (SPEC 1.8, 1.1)."""

from __future__ import annotations

import math
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import DecodeError
from streams.observability.sketch import (
    CEILING,
    FLOOR,
    MAX_BUCKETS,
    RELATIVE_ERROR,
    QuantileSketch,
)

delays = st.floats(min_value=-100.0, max_value=1e5, allow_nan=False).map(
    lambda value: 0.0 if abs(value) < FLOOR else value
)
shares = st.floats(min_value=0.0, max_value=1.0)


def sketch_of(values: list[float]) -> QuantileSketch:
    sketch = QuantileSketch()
    sketch.add_all(values)
    return sketch


@given(st.lists(delays, min_size=1, max_size=200), shares)
def test_a_quantile_is_within_one_percent_of_the_exact_one(values: list[float], share: float):
    exact = sorted(values)[math.floor(share * (len(values) - 1))]
    answer = sketch_of(values).quantile(share)
    assert answer is not None
    assert abs(answer - exact) <= RELATIVE_ERROR * abs(exact) * (1 + 1e-9)


@given(st.lists(st.lists(delays, max_size=50), min_size=1, max_size=5))
def test_merging_workers_is_the_same_as_one_worker(parts: list[list[float]]):
    whole = sketch_of([value for part in parts for value in part])
    merged = QuantileSketch()
    for part in reversed(parts):
        merged.merge(QuantileSketch.from_text(sketch_of(part).to_text()))
    assert merged.count == whole.count
    assert math.isclose(merged.total, whole.total, rel_tol=1e-9, abs_tol=1e-6)
    assert (merged.low, merged.high) == (whole.low, whole.high)
    for share in (0.0, 0.5, 0.9, 0.99, 1.0):
        assert merged.quantile(share) == whole.quantile(share)


@given(st.lists(delays, max_size=100))
def test_bytes_carry_everything(values: list[float]):
    sketch = sketch_of(values)
    assert QuantileSketch.from_bytes(sketch.to_bytes()).to_bytes() == sketch.to_bytes()


def test_quantiles_do_not_decrease():
    sketch = sketch_of([0.001 * n for n in range(1_000)])
    answers = list(sketch.quantiles([n / 20 for n in range(21)]).values())
    assert all(a is not None and b is not None and a <= b for a, b in pairwise(answers))


def test_nothing_has_no_quantile():
    empty = QuantileSketch()
    assert empty.quantile(0.99) is None
    assert (empty.count, empty.total, empty.low, empty.high) == (0, 0.0, None, None)


def test_an_early_shutter_is_not_hidden():
    sketch = sketch_of([0.001] * 999 + [-0.25])
    assert sketch.low == -0.25
    assert sketch.quantile(0.0) == pytest.approx(-0.25, rel=RELATIVE_ERROR)


def test_sizes_are_bounded():
    sketch = sketch_of([sign * FLOOR * 1.01**n for n in range(4_000) for sign in (1, -1)])
    assert sketch.high == CEILING
    assert sketch.low == -CEILING
    assert len(sketch.to_bytes()) < 10 * MAX_BUCKETS
    assert sketch_of([FLOOR / 2]).quantile(0.5) == 0.0


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_a_bug(value: float):
    with pytest.raises(ValueError, match="finite"):
        QuantileSketch().add(value)


@pytest.mark.parametrize("share", [-0.1, 1.1, math.nan])
def test_a_quantile_is_a_share(share: float):
    with pytest.raises(ValueError, match="from 0 to 1"):
        sketch_of([1.0]).quantile(share)


def changed(index: int, value: object) -> bytes:
    frame = msgspec.msgpack.decode(sketch_of([1.0, 2.0, -1.0]).to_bytes())
    frame[index] = value
    return msgspec.msgpack.encode(frame)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff",
        changed(0, 2),
        changed(1, 0.02),
        changed(2, -1),
        changed(3, math.nan),
        changed(6, [0, [1] * (MAX_BUCKETS + 1)]),
        changed(6, [10**9, [1]]),
        changed(7, "bins"),
    ],
)
def test_bytes_that_are_no_sketch_are_refused(data: bytes):
    with pytest.raises(DecodeError) as caught:
        QuantileSketch.from_bytes(data)
    assert caught.value.code == "sketch"


def test_text_that_is_no_sketch_is_refused():
    with pytest.raises(DecodeError):
        QuantileSketch.from_text("no base64!")
