"""What is left for the next owner of a partition, and how far it is believed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.runtime.handover import Handover


@given(st.integers(0, 2**31 - 1), st.integers(0, 2**53))
def test_it_comes_back_from_offset_metadata(generation, until_ms):
    left = Handover(generation, until_ms)
    assert Handover.parse(left.text()) == left


@given(st.integers(0, 2**31 - 1), st.integers(0, 2**53), st.text())
def test_what_follows_it_in_memory_changes_nothing(generation, until_ms, garbage):
    """librdkafka does not close the text; digits behind H would have been taken for a part of it."""
    left = Handover(generation, until_ms)
    assert Handover.parse(left.text() + garbage) == left


@pytest.mark.parametrize(
    "text", [None, "", "shutters", "shutters 1", "shutters a b", "other 1 2 .", "shutters 1 2"]
)
def test_other_metadata_is_no_handover(text):
    assert Handover.parse(text) is None


def test_a_shutter_is_unopened_only_beyond_the_moment_and_in_the_very_next_generation():
    left = Handover(4, 1_000)
    assert left.unopened(1_001, 5)
    assert not left.unopened(1_000, 5)
    assert not left.unopened(1_001, 6), "its owner may have got it back and died since"
    assert not left.unopened(1_001, 4)
