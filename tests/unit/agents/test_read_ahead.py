"""What is built ahead is used only if it is what would be built now."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from streams.agents.read_ahead import ReadAhead
from streams.runtime.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TABLES = ("a", "b")
ANSWER_S = 10.0


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "state", TABLES, block_cache_bytes=1 << 20)
    for number in range(4):
        rows = {("a", number, b"k"): b"%d" % number}
        store.apply(rows, {("a", number): 5, ("b", number): 7})
    yield store
    store.close()


def reading(store: Store, numbers: range = range(4)) -> ReadAhead[list[bytes]]:
    ahead = ReadAhead(store, TABLES, lambda number: list(store.scan_values("a", number)))
    ahead.start(numbers)
    for building in ahead._building.values():
        building.result(ANSWER_S)
    return ahead


def test_what_was_built_is_handed_out_once(store: Store) -> None:
    ahead = reading(store)
    assert ahead.take(2) == [b"2"]
    assert ahead.take(2) is None


def test_only_partitions_with_local_state_in_all_tables_are_built(store: Store) -> None:
    store.apply({("a", 9, b"k"): b"9"}, {("a", 9): 1})
    ahead = reading(store, range(12))
    assert set(ahead._building) == {0, 1, 2, 3}
    assert ahead.take(9) is None


@pytest.mark.parametrize("table", TABLES)
def test_what_recovery_went_on_from_is_built_anew(store: Store, table: str) -> None:
    """Also where the row that changed is of another table."""
    ahead = reading(store)
    store.apply({(table, 1, b"k2"): b"new"}, {(table, 1): 8})
    assert ahead.take(1) is None
    assert ahead.take(0) == [b"0"]


def test_a_marker_that_recovery_passed_changes_nothing(store: Store) -> None:
    ahead = reading(store)
    store.apply({}, {("a", 1): 6, ("b", 1): 8})
    store.fill("a", 1, {}, 7)
    assert ahead.take(1) == [b"1"]


def test_what_recovery_filled_in_is_built_anew(store: Store) -> None:
    ahead = reading(store)
    store.fill("b", 1, {b"k": b"new"}, 9)
    assert ahead.take(1) is None


def test_what_was_wiped_is_built_anew(store: Store) -> None:
    ahead = reading(store)
    store.wipe("a", 3)
    assert ahead.take(3) is None


def test_rows_that_change_while_they_are_read_make_it_void(store: Store) -> None:
    """The counts are read first: what came between them and the rows is seen."""
    here, there = threading.Event(), threading.Event()

    def build(number: int) -> list[bytes]:
        here.set()
        there.wait(ANSWER_S)
        return list(store.scan_values("a", number))

    ahead = ReadAhead(store, TABLES, build)
    ahead.start([0])
    assert here.wait(ANSWER_S)
    store.apply({("a", 0, b"k"): b"new"}, {("a", 0): 6})
    there.set()
    assert ahead.take(0) is None


def test_what_has_not_begun_is_waited_for_and_what_is_forgotten_does_not_begin(
    store: Store,
) -> None:
    gates, built = {0: threading.Event(), 2: threading.Event()}, list[int]()

    def build(number: int) -> int:
        if number in gates:
            gates[number].wait(ANSWER_S)
        built.append(number)
        return number

    ahead = ReadAhead(store, TABLES, build)
    ahead.start(range(4))
    threading.Timer(0.05, gates[0].set).start()
    assert ahead.take(1) == 1
    ahead.forget()  # while 2 is being built, or is about to
    gates[2].set()
    ahead._thread.shutdown(wait=True)
    assert 3 not in built
    assert ahead.take(3) is None


def test_a_failure_is_told_to_who_asks(store: Store) -> None:
    def build(_number: int) -> str:
        raise OSError("damaged")

    ahead = ReadAhead(store, TABLES, build)
    ahead.start([0])
    with pytest.raises(OSError, match="damaged"):
        ahead.take(0)
