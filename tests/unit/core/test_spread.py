"""Spread offsets: even, below the window, the same for ever."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.core import ids
from streams.core.spread import hash32, offset_ms

GOLDEN = [1787215464, 526113677, 3051037873]
GOLDEN_OFFSETS = [124835, 36748, 213112]


@given(st.text(min_size=1, max_size=60), st.integers(1, 366 * 86_400_000))
def test_an_offset_lies_within_its_window(device_id, spread_ms):
    assert 0 <= offset_ms(device_id, spread_ms) < spread_ms


@given(st.text(min_size=1))
def test_no_window_is_no_offset(device_id):
    assert offset_ms(device_id, 0) == 0


def test_offsets_are_the_same_for_ever():
    """A changed hash would move every photo of the fleet."""
    assert [hash32(d) for d in ("cam-1", "cam-2", "küche")] == GOLDEN
    assert [offset_ms(d, 300_000) for d in ("cam-1", "cam-2", "küche")] == GOLDEN_OFFSETS


@pytest.mark.parametrize("name", ["cam-{:06d}", "site-7/line-3/cam{}", "{:016x}", "{}"])
@pytest.mark.parametrize("one_shard", [False, True])
def test_devices_of_any_naming_are_spread_evenly(name, one_shard):
    """Chi-square over 100 bins: below 150 unless the hash has a pattern (p < 0.001)."""
    devices = map(name.format, range(400_000 if one_shard else 20_000))
    if one_shard:  # the spread hash must not follow the shard's hash
        devices = (d for d in devices if ids.shard_of(d) % 64 == 5)
    bins = [0] * 100
    for device_id in devices:
        bins[offset_ms(device_id, 100)] += 1
    mean = sum(bins) / 100
    assert mean > 50
    assert sum((b - mean) ** 2 / mean for b in bins) < 150
