"""Local state: one RocksDB a worker, and the overlay of what is not committed yet.

Writes of a step wait in the batch (the overlay). After the transaction has committed they go to
RocksDB, and with the last of them the next offset of each changelog, so what RocksDB holds was
committed, and is all there was at that offset. If the process dies between
the commit and the write, or within the write, recovery reads the missing end of the changelog.

All partitions share one database, so that a worker with a thousand partitions has one set of
memtables: a key is ``table id (1 byte) | partition (2 bytes, big-endian) | key``. Offsets stand
under table id 255. RocksDB's own lock keeps a second process out.

Reading looks in the open batch, then in the one being committed, then among the rows committed last
(``RowCache``), then in RocksDB, and therefore sees its own writes.

RocksDB's binding keeps the interpreter's lock while it works: reading a random row costs 2 to 3 us
and writing it as much, in which nothing else runs. Rows that change often are read from the cache
(0.2 us), and a batch is sorted before it is written, which halves the cost of that.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import time
from typing import TYPE_CHECKING, Any, cast

from rocksdict import BlockBasedOptions, Cache, Options, Rdict, ReadOptions, WriteBatch

from schemas.errors import StoreError
from streams.runtime.row_cache import RowCache
from streams.runtime.unwritten import MISSING, Unwritten

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    from streams.runtime.batch import StateKey

MAX_AGE_S = 12 * 3600
"""State untouched for longer is read anew from its changelog: compaction keeps a deletion for a day
(``delete.retention.ms``), after which state that missed it would keep the row for ever."""
_OFFSETS = 255
_FORMAT = b"\xfeformat"
_FORMAT_VERSION = b"1"
PIECE_ROWS = 128
"""Rows that are written at once: 0.2 ms."""
FILL_ROWS = 1_000
"""Rows that recovery writes at once: 0.5 ms in key order."""
_LOCKED = re.compile(r"While lock file|lock hold by")
"""How RocksDB says that another process has the folder; "lock" alone stands in "block" too."""


def _options(block_cache_bytes: int) -> Options:
    options = Options(raw_mode=True)
    options.create_if_missing(True)
    options.set_write_buffer_size(16 * 1024 * 1024)
    options.set_max_write_buffer_number(3)
    options.set_max_open_files(256)
    options.set_keep_log_file_num(2)
    options.increase_parallelism(2)
    table = BlockBasedOptions()
    table.set_block_cache(Cache(block_cache_bytes))
    table.set_bloom_filter(10, False)
    options.set_block_based_table_factory(table)
    return options


class Store:
    """The tables of one worker, on disk."""

    def __init__(
        self,
        path: Path,
        tables: tuple[str, ...],
        *,
        block_cache_bytes: int,
        row_cache_bytes: int = 0,
        unwritten_bytes: int = 0,
        unwritten_s: float = 0.0,
        before_offsets: Callable[[], None] = lambda: None,
    ) -> None:
        """Open the folder, or make it.

        ``unwritten_…``: how much may wait to be written and for how long; 0: each commit is
        written at once. ``before_offsets`` is called between rows and offsets.

        Raises:
            StoreError: the folder cannot be used.

        """
        if len(tables) > _OFFSETS - 1:
            raise ValueError("too many tables")
        self._ids = {name: number for number, name in enumerate(tables)}
        self._prefixes: dict[tuple[str, int], bytes] = {}
        self._path = path
        self._damage_mark = path.with_name(f"{path.name}.damaged")
        self._block_cache_bytes = block_cache_bytes
        self._cache = RowCache(row_cache_bytes) if row_cache_bytes else None
        self._before_offsets = before_offsets
        self._unwritten = (
            Unwritten(self._write_rows, unwritten_bytes, unwritten_s) if unwritten_bytes else None
        )
        self._known = tuple(part for part in (self._unwritten, self._cache) if part is not None)
        """Rows in memory, the newest first."""
        self._db = self._open()
        self._changes: dict[tuple[str, int], int] = {}

    @property
    def cached_rows(self) -> int:
        """Rows that are read without asking RocksDB."""
        return 0 if self._cache is None else len(self._cache)

    @property
    def unwritten_rows(self) -> int:
        """Committed rows that RocksDB does not have yet."""
        return 0 if self._unwritten is None else len(self._unwritten)

    def _open(self) -> Rdict:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        if self._damage_mark.exists():
            shutil.rmtree(self._path, ignore_errors=True)
            self._damage_mark.unlink()
        try:
            db = Rdict(str(self._path), _options(self._block_cache_bytes))
        except Exception as error:
            text = str(error)
            if _LOCKED.search(text):
                raise StoreError(
                    f"The state folder {self._path} is in use by another process: give each "
                    "worker a slot of its own, or end the other one."
                ) from error
            return self._reset(text)
        if db.get(_FORMAT) is None:
            db.put(_FORMAT, _FORMAT_VERSION)
        return db

    def _reset(self, why: str) -> Rdict:
        """Throw damaged state away: the changelog has all of it."""
        if "no space" in why.lower():
            raise StoreError(f"The disk of {self._path} is full: {why}")
        shutil.rmtree(self._path, ignore_errors=True)
        try:
            db = Rdict(str(self._path), _options(self._block_cache_bytes))
        except Exception as error:
            raise StoreError(f"Cannot use the state folder {self._path}: {error}") from error
        db.put(_FORMAT, _FORMAT_VERSION)
        return db

    def close(self) -> None:
        """Flush and close; the folder may then be opened by another process.

        What cannot be flushed (a full disk) is in the changelog: it must not hide the error that
        the worker stops for.
        """
        if self._unwritten is not None:
            with contextlib.suppress(Exception):
                self._unwritten.close()
        with contextlib.suppress(Exception):
            self._db.close()

    def flush(self) -> None:
        """Write what was committed; ``scan``, ``view`` and ``offset`` see only what is written.

        Blocks for some tenths of a second: not for the event loop.
        """
        if self._unwritten is not None:
            self._unwritten.flush()

    def _prefix(self, table: str, partition: int) -> bytes:
        found = self._prefixes.get((table, partition))
        if found is None:
            found = bytes((self._ids[table],)) + partition.to_bytes(2, "big")
            self._prefixes[table, partition] = found
        return found

    def get(self, key: StateKey) -> bytes | None:
        """Return the committed value of a key."""
        for known in self._known:
            for rows in known.generations:
                if (value := rows.get(key, MISSING)) is not MISSING:
                    return cast("bytes | None", value)
        table, partition, name = key
        try:
            row = self._db.get(self._prefix(table, partition) + name)
        except Exception as error:
            raise self._damaged(error) from error
        return row if isinstance(row, bytes) else None

    @staticmethod
    def _value(value: object) -> bytes | None:
        return value if isinstance(value, bytes) else None

    def scan(self, table: str, partition: int) -> Iterator[tuple[bytes, bytes]]:
        """Yield the committed (key, value) pairs of a partition of a table, in key order.

        Raises:
            StoreError: the files are damaged; the next start rebuilds them.

        """
        prefix = last = self._prefix(table, partition)
        size, end = len(prefix), _after(prefix)
        bound = _until(end)  # both must outlive the iterator: see _until
        rows = self._db.items(from_key=prefix, read_opt=bound)
        for key, value in cast("Iterator[tuple[bytes, bytes]]", rows):
            last = key
            yield key[size:], value
        self._check_end(last)

    def view(self, partition: int, tables: Iterable[str]) -> Iterator[tuple[str, bytes, bytes]]:
        """Return (table, key, value) of a partition as they are now, whatever is written later.

        In the order of the tables and keys; may be read in another thread; raises as ``scan``.
        """
        # An iterator stays at the moment of its making; snapshots of rocksdict 0.3.29 do not,
        # once they are given read options.
        opened = []
        for table in tables:
            prefix = self._prefix(table, partition)
            end = _after(prefix)
            bound = _until(end)
            rows = self._db.items(from_key=prefix, read_opt=bound)
            opened.append((table, prefix, end, bound, rows))
        return self._view(opened)

    def _view(self, opened: list[Any]) -> Iterator[tuple[str, bytes, bytes]]:
        for table, prefix, _end, _bound, rows in opened:  # which must outlive the iterator
            last = prefix
            for key, value in cast("Iterator[tuple[bytes, bytes]]", rows):
                last = key
                yield table, key[len(prefix) :], value
            self._check_end(last)

    def scan_values(self, table: str, partition: int) -> Iterator[bytes]:
        """Yield what ``scan`` does without the keys, at half its cost.

        For tables whose rows all differ, as those do that say whose row they are: by the last
        value it is seen that all were read.

        Raises:
            StoreError: as ``scan``.

        """
        prefix, last = self._prefix(table, partition), None
        end = _after(prefix)
        bound = _until(end)  # both must outlive the iterator: see _until
        rows = self._db.values(from_key=prefix, read_opt=bound)
        for last in cast("Iterator[bytes]", rows):
            yield last
        if last != self._last(prefix):
            raise self._damaged(StoreError("its rows end too soon"))

    def _last(self, prefix: bytes) -> bytes | None:
        """Return the last value under a prefix."""
        rows, end = self._db.iter(), _after(prefix)
        try:
            rows.seek_for_prev(end)
            if rows.valid() and rows.key() == end:
                rows.prev()
            rows.status()
        except Exception as error:
            raise self._damaged(error) from error
        key = rows.key() if rows.valid() else b""
        inside = isinstance(key, bytes) and key.startswith(prefix)
        return self._value(rows.value()) if inside else None

    def _check_end(self, last: bytes) -> None:
        """Tell the end of the data from a damaged block: ``items`` ends silently at both."""
        rows = self._db.iter()
        try:
            rows.seek(last)
            if rows.valid():
                rows.next()
            rows.status()
        except Exception as error:
            raise self._damaged(error) from error

    def _damaged(self, error: Exception) -> StoreError:
        """Have the next start throw the state away: the changelog has all of it."""
        self._damage_mark.touch()
        return StoreError(
            f"The state in {self._path} is damaged and will be rebuilt at the next start: {error}"
        )

    def offset(self, table: str, partition: int) -> int | None:
        """Return the next changelog offset this state stands at.

        ``None``: there is no state, or it is so old that the changelog may have dropped the
        deletions that it has not seen.
        """
        value = self._value(self._db.get(self._offset_key(table, partition)))
        if value is None:
            return None
        offset, written_s = value.split()
        return int(offset) if abs(time.time() - int(written_s)) < MAX_AGE_S else None

    def _offset_key(self, table: str, partition: int) -> bytes:
        return bytes((_OFFSETS,)) + self._prefix(table, partition)

    def apply(
        self,
        writes: Mapping[StateKey, bytes | None],
        offsets: Mapping[tuple[str, int], int],
    ) -> None:
        """Take in committed values, and the changelog offsets they bring us to."""
        if self._unwritten is None:
            self._write_rows(writes, offsets)
        else:
            self._unwritten.add(writes, offsets)
        self._changed({(table, partition) for table, partition, _ in writes})

    def _write_rows(
        self,
        writes: Mapping[StateKey, bytes | None],
        offsets: Mapping[tuple[str, int], int],
    ) -> None:
        """Write values, and then the changelog offsets they bring us to.

        In small pieces, as RocksDB's binding keeps the interpreter's lock while it writes one, and
        a shutter would wait for it. What a death leaves half written, recovery writes again: it
        reads the changelog from the offsets of before.
        """
        batch, began_s = WriteBatch(raw_mode=True), time.monotonic()
        names: dict[tuple[str, int], list[bytes]] = {}
        for table, partition, name in writes:
            names.setdefault((table, partition), []).append(name)
        rows = (
            (self._prefix(table, partition) + name, writes[table, partition, name])
            for table, partition in sorted(names, key=lambda place: self._prefix(*place))
            # Place by place, as sorting keeps the interpreter's lock, too.
            for name in sorted(names[table, partition])
        )
        for key, row in rows:
            if row is None:
                batch.delete(key)
            else:
                batch.put(key, row)
            if batch.len() >= PIECE_ROWS:
                self._write(batch, {})
                batch = WriteBatch(raw_mode=True)
                if self._unwritten is not None:
                    self._unwritten.rest(time.monotonic() - began_s)
                began_s = time.monotonic()
        self._write(batch, {})
        self._before_offsets()
        self._write(WriteBatch(raw_mode=True), offsets)
        if self._cache is not None:
            self._cache.update(writes)

    def fill(
        self, table: str, partition: int, rows: Mapping[bytes, bytes | None], offset: int
    ) -> None:
        """Write as ``apply`` what was read from a changelog up to an offset; ``None`` deletes.

        In key order, which halves the cost of random keys, and in pieces: RocksDB's binding keeps
        the interpreter's lock while it writes one, and partitions that stay have shutters to open.
        """
        prefix = self._prefix(table, partition)
        keys = sorted(rows)
        for first in range(0, max(1, len(keys)), FILL_ROWS):
            batch = WriteBatch(raw_mode=True)
            put, delete = batch.put, batch.delete
            for key in keys[first : first + FILL_ROWS]:
                row = rows[key]
                if row is None:
                    delete(prefix + key)
                else:
                    put(prefix + key, row)
            last = first + FILL_ROWS >= len(keys)
            self._write(batch, {(table, partition): offset} if last else {})
        if rows:
            self._changed([(table, partition)])
            if self._cache is not None:
                self._cache.clear()

    def changes(self, table: str, partition: int) -> int:
        """Return how often rows of a partition of a table were changed since this was opened.

        What was read after a number was asked for is what there is now, if the number is the same.
        """
        return self._changes.get((table, partition), 0)

    def _changed(self, places: Iterable[tuple[str, int]]) -> None:
        for place in places:
            self._changes[place] = self._changes.get(place, 0) + 1

    def _write(self, batch: WriteBatch, offsets: Mapping[tuple[str, int], int]) -> None:
        for (table, partition), offset in offsets.items():
            batch.put(self._offset_key(table, partition), b"%d %d" % (offset, time.time()))
        try:
            self._db.write(batch)
        except Exception as error:
            raise StoreError(f"Cannot write the state in {self._path}: {error}") from error

    def wipe(self, table: str, partition: int) -> None:
        """Forget a partition of a table, its offset first."""
        prefix = self._prefix(table, partition)
        batch = WriteBatch(raw_mode=True)
        batch.delete(self._offset_key(table, partition))
        batch.delete_range(prefix, _after(prefix))
        self._db.write(batch)
        self._changed([(table, partition)])
        if self._cache is not None:
            self._cache.clear()


def _after(prefix: bytes) -> bytes:
    """Return the first key behind all that begin with a prefix."""
    return (int.from_bytes(prefix, "big") + 1).to_bytes(len(prefix), "big")


def _until(end: bytes) -> ReadOptions:
    """Return how rows are read up to a key: the comparing is RocksDB's then.

    Its iterator looks at the bytes of the key itself, and rocksdict 0.3.29 does not hold them:
    whoever iterates must keep ``end`` and these options in a variable until it is done.
    """
    options = ReadOptions()
    options.set_iterate_upper_bound(end)
    return options
