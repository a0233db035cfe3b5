"""Committed rows that gather before they are written: read at once, written once, never lost.

DESIGN.md, the runtime: what RocksDB holds is all there was at the offsets beside it, or newer.
"""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.errors import StoreError
from streams.runtime.store import PIECE_ROWS, Store
from streams.runtime.unwritten import MISSING, Unwritten, size_of
from tests.unit.runtime.runtime_parts import known

A, B = "a", "b"
KEY = (A, 1, b"k")


class Disk:
    """Takes what is written, when the test lets it."""

    def __init__(self) -> None:
        self.rows: dict = {}
        self.offsets: dict = {}
        self.writes = 0
        self.may = threading.Event()
        self.may.set()
        self.error: Exception | None = None

    def write(self, rows, offsets) -> None:
        assert self.may.wait(30)
        if self.error is not None:
            raise self.error
        self.writes += 1
        self.rows.update(rows)
        self.offsets.update(offsets)


@pytest.fixture
def disk():
    one = Disk()
    yield one
    one.may.set()


def test_what_changes_often_is_written_once(disk):
    rows = Unwritten(disk.write, max_bytes=1 << 20, max_age_s=1e9)
    for number in range(100):
        rows.add({KEY: b"%d" % number}, {(A, 1): number})
        assert known(rows, KEY) == b"%d" % number
    assert (disk.writes, len(rows)) == (0, 1)
    rows.close()
    assert (disk.writes, disk.rows, disk.offsets) == (1, {KEY: b"99"}, {(A, 1): 99})
    assert (known(rows, KEY), len(rows)) == (MISSING, 0)


def test_they_are_written_once_there_are_many(disk):
    bound = size_of({KEY: b"v"}) * 10
    rows = Unwritten(disk.write, max_bytes=bound, max_age_s=1e9)
    for number in range(1_000):
        rows.add({(A, 1, b"%d" % number): b"v"}, {(A, 1): number})
        assert size_of(rows.generations[0]) <= bound
    rows.close()
    assert disk.writes > 50
    assert len(disk.rows) == 1_000


def test_they_are_written_after_a_while(disk):
    rows = Unwritten(disk.write, max_bytes=1 << 30, max_age_s=0.0)
    rows.add({KEY: b"v"}, {(A, 1): 1})
    rows._wait()
    assert disk.rows == {KEY: b"v"}
    rows.close()


def test_what_is_being_written_is_read_and_no_third_generation_begins(disk):
    """The bound on memory is two generations: whoever adds more waits for the disk."""
    disk.may.clear()
    rows = Unwritten(disk.write, max_bytes=1, max_age_s=1e9)
    rows.add({KEY: b"old", (A, 1, b"gone"): b"v"}, {(A, 1): 1})
    assert known(rows, KEY) == b"old"
    adding = threading.Thread(target=rows.add, args=({KEY: b"new", (A, 1, b"gone"): None}, {}))
    adding.start()
    adding.join(0.05)
    assert adding.is_alive(), "it waits"
    assert (known(rows, KEY), known(rows, (A, 1, b"gone"))) == (b"new", None)
    disk.may.set()
    adding.join(30)
    rows.close()
    assert disk.rows[KEY] == b"new"


def test_a_writer_that_is_waited_for_does_not_rest(disk):
    rested = []

    def write(rows, offsets):
        rows_of.rest(1e-9)  # nobody waits yet
        waited.set()
        rows_of.rest(60.0)
        rested.append(True)

    waited = threading.Event()
    rows_of = Unwritten(write, max_bytes=1, max_age_s=1e9)
    rows_of.add({KEY: b"v"}, {(A, 1): 1})
    assert waited.wait(30)
    assert rested == [], "it rests, and would for minutes"
    rows_of.close()
    assert rested == [True]


def test_a_disk_that_fails_is_told_with_the_next_commit(disk):
    disk.error = StoreError("The disk is full.")
    rows = Unwritten(disk.write, max_bytes=1, max_age_s=1e9)
    rows.add({KEY: b"v"}, {(A, 1): 1})
    with pytest.raises(StoreError, match="full"):
        rows.add({KEY: b"w"}, {(A, 1): 2})
    assert known(rows, KEY) == b"w", "what is committed is read, written or not"
    with pytest.raises(StoreError, match="full"):
        rows.close()


def opened(path, **settings) -> Store:
    return Store(path, (A, B), block_cache_bytes=1 << 20, row_cache_bytes=1 << 20, **settings)


def test_an_orderly_end_writes_all_of_it(tmp_path):
    store = opened(tmp_path / "s", unwritten_bytes=1 << 20, unwritten_s=1e9)
    store.apply({KEY: b"v", (A, 1, b"l"): b"w"}, {(A, 1): 17})
    store.apply({(A, 1, b"l"): None}, {(A, 1): 18})
    assert (store.unwritten_rows, store.get(KEY), store.get((A, 1, b"l"))) == (2, b"v", None)
    assert store.offset(A, 1) is None, "the offset is that of what is written"
    store.close()
    store = opened(tmp_path / "s")
    assert (list(store.scan(A, 1)), store.offset(A, 1)) == ([(b"k", b"v")], 18)
    store.close()


def test_a_flush_is_seen_by_those_who_read_the_files(tmp_path):
    """Snapshots and recovery read past what gathers, and flush before."""
    store = opened(tmp_path / "s", unwritten_bytes=1 << 20, unwritten_s=1e9)
    store.apply({KEY: b"v"}, {(A, 1): 3})
    assert list(store.scan(A, 1)) == []
    store.flush()
    assert list(store.view(1, (A,))) == [(A, b"k", b"v")]
    assert (store.offset(A, 1), store.unwritten_rows) == (3, 0)
    store.close()


KILLED = """
import os, signal, sys
from pathlib import Path
from streams.runtime.store import PIECE_ROWS, Store

def die():
    if store.offset("a", 1) == 1:
        os.kill(os.getpid(), signal.SIGKILL)

rows = {("a", 1, b"%d" % number): b"old" for number in range(3 * PIECE_ROWS + 1)}
store = Store(Path(sys.argv[1]), ("a", "b"), block_cache_bytes=1 << 20, before_offsets=die,
              unwritten_bytes=1 << 30, unwritten_s=1e9)
store.apply(rows, {("a", 1): 1})
store.flush()
store.apply(dict.fromkeys(rows, b"new"), {("a", 1): 2})
store.flush()
"""


def test_a_kill_between_rows_and_offsets_leaves_the_offsets_of_before(tmp_path):
    """So recovery reads from there, and writes the rows again."""
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path / "s")], timeout=60, check=False
    )
    assert done.returncode == -9
    store = opened(tmp_path / "s")
    assert store.offset(A, 1) == 1
    assert [value for _, value in store.scan(A, 1)] == [b"new"] * (3 * PIECE_ROWS + 1)
    store.close()


CHANGES = st.lists(
    st.tuples(
        st.sampled_from([A, B]), st.integers(0, 2), st.binary(max_size=2), st.none() | st.binary()
    ),
    max_size=8,
)


@settings(max_examples=25)
@given(commits=st.lists(CHANGES | st.just("flush"), max_size=12), bound=st.integers(1, 3_000))
def test_rows_are_those_of_a_store_that_writes_at_once(tmp_path_factory, commits, bound):
    """Read by key at any time, and by file after a flush, whatever is written when."""
    folder = tmp_path_factory.mktemp("stores")
    now = opened(folder / "now")
    late = opened(folder / "late", unwritten_bytes=bound, unwritten_s=1e9)
    try:
        seen = set()
        for number, commit in enumerate(commits):
            if commit == "flush":
                late.flush()
                continue
            rows = {(table, place, key): value for table, place, key, value in commit}
            seen.update(rows)
            for store in (now, late):
                store.apply(rows, {(A, 1): number})
            assert [now.get(key) for key in seen] == [late.get(key) for key in seen]
        late.flush()
        for place in range(3):
            assert list(late.view(place, (A, B))) == list(now.view(place, (A, B)))
        assert late.offset(A, 1) == now.offset(A, 1)
    finally:
        now.close()
        late.close()
