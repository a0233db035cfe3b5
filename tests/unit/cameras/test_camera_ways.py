"""Which way a photo is taken by, and when it changes (issue 6: learnt, kept, re-learnt)."""

from __future__ import annotations

import pytest

from connectors.cameras.base import CAUSES
from connectors.cameras.ways import (
    BLAMELESS,
    BROKEN,
    FIRST_REST_S,
    MAX_FAILURES,
    MAX_REST_S,
    Memory,
    Way,
    Ways,
    is_broken,
)


@pytest.fixture
def ways():
    return Ways([Way("snapshot"), Way("sub-stream"), Way("main-stream")])


def test_the_worked_example(ways):
    """The module's docstring, line by line."""
    snapshot = ways.ways[0]
    assert ways.best(0.0) is snapshot
    assert ways.failed(snapshot, "http_404", 0.0)
    for now_s in (0.0, 60.0, 599.9):
        assert ways.best(now_s).kind == "sub-stream"
    assert ways.best(600.0) is snapshot
    ways.worked(snapshot)
    assert ways.best(600.0) is snapshot
    assert ways.table(600.0) == ("snapshot", "sub-stream", "main-stream")


def test_a_way_that_fails_again_rests_longer(ways):
    snapshot, now_s, rests = ways.ways[0], 0.0, []
    for _ in range(12):
        ways.failed(snapshot, "http_404", now_s)
        rests.append(snapshot.resting_until_s - now_s)
        now_s = snapshot.resting_until_s
    assert rests[:3] == [FIRST_REST_S, 2 * FIRST_REST_S, 4 * FIRST_REST_S]
    assert rests[-1] == MAX_REST_S
    ways.worked(snapshot)
    ways.failed(snapshot, "http_404", now_s)
    assert snapshot.resting_until_s - now_s == FIRST_REST_S


@pytest.mark.parametrize("cause", ["timeout", "disconnected", "http_503", "stale", "something new"])
def test_a_passing_failure_counts_only_in_a_row(ways, cause):
    snapshot = ways.ways[0]
    for _ in range(MAX_FAILURES - 1):
        assert not ways.failed(snapshot, cause, 0.0)
    ways.worked(snapshot)
    for _ in range(MAX_FAILURES - 1):
        assert not ways.failed(snapshot, cause, 0.0)
    assert ways.failed(snapshot, cause, 0.0)
    assert ways.best(0.0).kind == "sub-stream"


def test_photos_that_turn_out_to_be_old_count_in_a_row(ways):
    snapshot = ways.ways[0]
    for _ in range(MAX_FAILURES - 1):
        ways.worked(snapshot)
        assert not ways.disappointed(snapshot, "stale", 0.0)
    ways.worked(snapshot)
    assert ways.disappointed(snapshot, "stale", 0.0)
    ways.worked(snapshot)
    ways.worked(snapshot)
    assert not ways.disappointed(snapshot, "stale", 0.0), "a good photo lay between"


@pytest.mark.parametrize("cause", sorted(BLAMELESS))
def test_what_another_way_would_meet_changes_nothing(ways, cause):
    for _ in range(10):
        assert not ways.failed(ways.ways[0], cause, 0.0)
    assert ways.best(0.0).kind == "snapshot"


@pytest.mark.parametrize(
    ("cause", "broken"),
    [
        ("http_404", True),
        ("http_410", True),
        ("rtsp_454", True),
        ("http_429", False),
        ("http_408", False),
        ("http_500", False),
        ("http_503", False),
        ("rtsp_500", False),
        ("http_204", False),
        ("not_an_image", True),
        ("auth", False),
        ("timeout", False),
    ],
)
def test_which_causes_break_a_way(cause, broken):
    assert is_broken(cause) is broken


def test_the_causes_are_of_the_list():
    others = {"no_transport", "no_video"}  # of the adapter of rtsp
    assert set(CAUSES) | others >= BROKEN | BLAMELESS


def test_when_all_are_given_up_none_is_usable(ways):
    for way in ways.ways:
        ways.failed(way, "refused", 0.0)
    assert ways.usable(1.0) == []
    assert ways.best(1.0) is None
    assert len(ways.usable(FIRST_REST_S)) == 3


def test_memory_is_bounded_and_forgets_the_longest_unused():
    memory: Memory[int] = Memory(2)
    memory.keep("a", "x", 1)
    memory.keep("b", "x", 2)
    assert memory.get("a", "x") == 1
    memory.keep("c", "x", 3)
    assert (memory.get("a", "x"), memory.get("b", "x"), memory.get("c", "x")) == (1, None, 3)
    memory.forget("a", "x")
    memory.forget("a", "x")
    assert len(memory) == 1
    assert memory.get("c", "another address") is None
