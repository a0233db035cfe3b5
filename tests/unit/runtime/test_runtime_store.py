"""Local state and the overlay; DESIGN.md, "Exactly once", bullet "Local state"."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from schemas.errors import StoreError
from streams.runtime.batch import Batch
from streams.runtime.group import Membership
from streams.runtime.overlay import Overlay
from streams.runtime.row_cache import RowCache
from streams.runtime.store import Store
from tests.unit.runtime.runtime_parts import known

A, B = "a", "b"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "clock" / "state"  # "lock" stands in the path: it must mislead nobody


@pytest.fixture
def opened(path):
    stores = []

    def open_again():
        for store in stores:
            store.close()
        stores[:] = [Store(path, (A, B), block_cache_bytes=1 << 20)]
        return stores[0]

    yield open_again
    for store in stores:
        store.close()


def test_rows_and_offsets_come_back_after_a_restart(opened):
    store = opened()
    store.apply({(A, 1, b"k"): b"v", (A, 1, b"l"): b"w"}, {(A, 1): 17})
    store.apply({(A, 1, b"l"): None}, {})
    store = opened()
    assert list(store.scan(A, 1)) == [(b"k", b"v")]
    assert store.offset(A, 1) == 17
    assert store.get((A, 1, b"l")) is None


def test_a_view_stays_at_the_moment_of_its_making(opened):
    """A snapshot of the wheel is of one tick, whatever is committed while it is written."""
    store = opened()
    store.apply({(A, 1, b"k"): b"1", (B, 1, b"l"): b"2", (A, 2, b"m"): b"3"}, {})
    view = store.view(1, (A, B))
    store.apply({(A, 1, b"k"): b"changed", (B, 1, b"l"): None, (B, 1, b"n"): b"4"}, {})
    with ThreadPoolExecutor(1) as thread:
        assert thread.submit(list, view).result() == [(A, b"k", b"1"), (B, b"l", b"2")]
    assert list(store.view(1, (A, B))) == [(A, b"k", b"changed"), (B, b"n", b"4")]


def test_a_close_that_cannot_flush_hides_no_other_error(opened, monkeypatch):
    """On a full disk the worker stops for what it was told, not for what closing says."""

    class Full:
        def close(self):
            raise OSError("No space left on device")

    store = opened()
    with monkeypatch.context() as context:
        context.setattr(store, "_db", Full())
        store.close()


def test_tables_and_partitions_do_not_mix(opened):
    store = opened()
    numbers = (0, 1, 255, 256, 1023)
    for number in numbers:
        store.apply({(A, number, b""): b"a%d" % number, (B, number, b"\xff"): b"b"}, {})
    for number in numbers:
        assert list(store.scan(A, number)) == [(b"", b"a%d" % number)]
        assert list(store.scan(B, number)) == [(b"\xff", b"b")]
        assert list(store.scan_values(A, number)) == [b"a%d" % number]
        assert list(store.scan_values(B, number)) == [b"b"]
    assert list(store.scan_values(A, 7)) == []


def test_wiping_a_partition_leaves_its_neighbours(opened):
    store = opened()
    for number in (0, 255, 256):
        store.apply({(A, number, b"k"): b"v"}, {(A, number): 5})
    store.wipe(A, 255)
    assert [list(store.scan(A, n)) for n in (0, 255, 256)] == [[(b"k", b"v")], [], [(b"k", b"v")]]
    assert [store.offset(A, n) for n in (0, 255, 256)] == [5, None, 5]


def test_a_folder_in_use_by_another_process_is_one_clear_line(opened, path):
    opened()
    program = (
        "import sys; from pathlib import Path; from streams.runtime.store import Store;"
        "from schemas.errors import StoreError\n"
        "try: Store(Path(sys.argv[1]), ('a', 'b'), block_cache_bytes=1 << 20)\n"
        "except StoreError as error: print(error.line())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert "in use by another process" in done.stdout
    assert done.stdout.count("\n") == 1


# -- damage: the changelog has everything, so what cannot be trusted is thrown away ----------------


def filled(path):
    store = Store(path, (A, B), block_cache_bytes=1 << 20)
    for block in range(20):
        rows = {(A, 0, b"%06d" % (block * 100 + n)): os.urandom(100) for n in range(100)}
        store.apply(rows, {(A, 0): (block + 1) * 100})
    store._db.flush()
    store.close()


def overwritten(file, position):
    with file.open("r+b") as out:
        out.seek(position)
        out.write(os.urandom(64))


def cut_short(path):
    (table,) = path.glob("*.sst")
    os.truncate(table, table.stat().st_size // 2)


def end_overwritten(path):
    (table,) = path.glob("*.sst")
    overwritten(table, table.stat().st_size - 64)


def index_overwritten(path):
    """RocksDB says "block checksum mismatch" here; "lock" stands in that, but nobody has a lock."""
    (table,) = path.glob("*.sst")
    overwritten(table, table.stat().st_size - 1200)


def table_gone(path):
    (table,) = path.glob("*.sst")
    table.unlink()


def manifest_cut(path):
    (manifest,) = path.glob("MANIFEST*")
    os.truncate(manifest, 20)


@pytest.mark.parametrize(
    "damage", [cut_short, end_overwritten, index_overwritten, table_gone, manifest_cut]
)
def test_damage_seen_when_opened_begins_anew(opened, path, damage):
    filled(path)
    damage(path)
    store = opened()
    assert store.offset(A, 0) is None
    assert list(store.scan(A, 0)) == []


@pytest.mark.parametrize("read", [Store.scan, Store.scan_values])
@pytest.mark.parametrize("where", [0.0, 0.25, 0.5, 0.75, 0.97])
def test_damage_seen_when_read_is_never_half_a_table(opened, path, read, where):
    """RocksDB's iterator ends at a damaged block as at the end: half the rows, and no error."""
    filled(path)
    (table,) = path.glob("*.sst")
    overwritten(table, int(table.stat().st_size * where))
    store = opened()
    assert store.offset(A, 0) == 2_000
    with pytest.raises(StoreError, match="will be rebuilt"):
        list(read(store, A, 0))
    store = opened()
    assert store.offset(A, 0) is None
    assert list(read(store, A, 0)) == []


def test_a_scan_ends_at_its_table_whatever_else_is_made_meanwhile(opened):
    """The bytes that end it must not be freed before it has come there."""
    store = opened()
    rows = {(A, 0, b"%05d" % n): b"v%05d" % n for n in range(5_000)}
    store.apply({**rows, (A, 1, b""): b"other", (B, 0, b"x"): b"other"}, {})
    for read in (Store.scan, Store.scan_values):
        found = []
        for row in read(store, A, 0):
            found.append((row, bytes([255, len(found) % 256, 9])))
        assert len(found) == 5_000


def test_damage_seen_by_a_look_up(opened, path):
    filled(path)
    (table,) = path.glob("*.sst")
    overwritten(table, table.stat().st_size // 2)
    store = opened()
    with pytest.raises(StoreError, match="will be rebuilt"):
        for n in range(2_000):
            store.get((A, 0, b"%06d" % n))
    assert opened().offset(A, 0) is None


# -- the overlay -----------------------------------------------------------------------------------


def test_the_overlay_shows_the_newest_write_first(opened):
    store = opened()
    store.apply({(A, 0, b"x"): b"0", (A, 0, b"y"): b"0", (A, 0, b"z"): b"0"}, {})
    member = Membership(1, "m")
    committing = Batch(member, writes={(A, 0, b"x"): b"1", (A, 0, b"y"): None})
    current = Batch(member, writes={(A, 0, b"y"): b"2"})
    overlay = Overlay(store)
    overlay.show(current, committing)
    assert [overlay.get((A, 0, k)) for k in (b"x", b"y", b"z")] == [b"1", b"2", b"0"]
    assert overlay.pending((A, 0, b"x"))
    assert not overlay.pending((A, 0, b"z"))
    overlay.show(committing, None)
    assert overlay.get((A, 0, b"y")) is None
    overlay.show(None)
    assert [overlay.get((A, 0, k)) for k in (b"x", b"y", b"z")] == [b"0"] * 3


class Asked:
    """A database that counts the reads that reach it."""

    def __init__(self, db):
        self.db, self.reads = db, 0

    def get(self, key):
        self.reads += 1
        return self.db.get(key)

    def __getattr__(self, name):
        return getattr(self.db, name)


@pytest.fixture
def cached(path, monkeypatch):
    store = Store(path, (A, B), block_cache_bytes=1 << 20, row_cache_bytes=1 << 20)
    asked = Asked(store._db)
    monkeypatch.setattr(store, "_db", asked)
    yield store, asked
    store.close()


def test_rows_committed_last_are_read_without_the_database(cached):
    store, asked = cached
    store.apply({(A, 1, b"k"): b"v", (A, 1, b"l"): None}, {(A, 1): 3})
    assert store.get((A, 1, b"k")) == b"v"
    assert store.get((A, 1, b"l")) is None
    assert (asked.reads, store.cached_rows) == (0, 2)
    assert list(store.scan(A, 1)) == [(b"k", b"v")]  # it is in the database as well


def test_what_recovery_reads_replaces_what_was_cached(cached):
    """A partition that was another worker's meanwhile must not show its old rows."""
    store, _ = cached
    store.apply({(A, 1, b"k"): b"old", (B, 2, b"k"): b"stays"}, {})
    store.fill({(A, 1): [(b"k", b"new")]}, {(A, 1): 9})
    assert store.get((A, 1, b"k")) == b"new"
    assert store.get((B, 2, b"k")) == b"stays"
    store.apply({(A, 1, b"k"): b"newer"}, {})
    store.wipe(A, 1)
    assert store.get((A, 1, b"k")) is None


def test_the_cache_keeps_what_is_written_again_and_drops_the_rest():
    cache = RowCache(max_bytes=100_000)
    cache.update({(A, 0, b"often"): b"0"})
    for number in range(2_000):
        cache.update({(A, 0, b"%d" % number): b"x" * 100, (A, 0, b"often"): b"%d" % number})
        assert known(cache, (A, 0, b"often")) == b"%d" % number
        assert len(cache) * 360 < 100_000
    assert known(cache, (A, 0, b"1999")) == b"x" * 100
    assert not isinstance(known(cache, (A, 0, b"1")), (bytes, type(None)))


def test_a_batch_is_written_whole_in_whatever_order(opened):
    store = opened()
    writes = {
        (t, p, b"%d" % k): b"%d" % (k * p) for k in (5, 1, 9, 3) for p in (300, 2) for t in (B, A)
    }
    store.apply(writes, {(A, 2): 1})
    assert {(t, p, key): store.get((t, p, key)) for t, p, key in writes} == writes
