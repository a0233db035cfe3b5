"""How a partition is written again so that every entry has the offset it had.

Kafka gives offsets out in order and lets nobody choose. But an entry that no reader sees takes one,
too: that is how the gaps came to be, and how they are made again.

=================  ==========================================================================
gap behind a run   what is written
=================  ==========================================================================
0                  the run, outside of a transaction
n ≤ ``MARKERS``    the run, then n markers (``markers.py``)
more               the run, then n - 1 records in a transaction that is aborted, whose marker
                   takes another
before the first   that many records, which are deleted (Kafka's DeleteRecords) in the end
=================  ==========================================================================

Where a cluster lets nobody write markers, a gap of 1 is the run in a transaction, whose commit
leaves one, and each larger one a transaction that is aborted.

Example: offsets 4 5 6 8 11 of a partition that ends at 12 become: 4 records to be deleted; 4 5 6
and a marker; 8 and two markers; 11. Without markers: 4 5 6, committed; 8, outside; 1 record,
aborted (it stands at 9, the marker at 10); 11, outside.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from streams.replay.log import Entry

PIECE_RECORDS: Final = 2_000
"""A run that is longer is cut; so a piece has as many records at most, and those of a batch."""

MARKERS: Final = 64
"""Longest gap that markers make: one costs a broker 30 µs and 78 bytes, a transaction 10 ms."""

Kind = Literal["deleted", "outside", "committed", "aborted"]


class Piece(NamedTuple):
    """One thing to write to a partition."""

    kind: Kind
    entries: list[Entry]
    """Of ``outside`` and ``committed``."""
    filler: int = 0
    """Records that nobody is to see, of the other two; of ``outside`` markers behind it."""

    @property
    def offsets(self) -> int:
        """Offsets that it takes, the marker included."""
        marker = self.kind in {"committed", "aborted"}
        return len(self.entries) + self.filler + marker


def pieces(batches: Iterable[list[Entry]], end: int, markers: int = MARKERS) -> Iterator[Piece]:
    """Yield what makes a partition of these entries that ends at ``end``.

    ``markers``: the longest gap to be made of markers; 0: there are none.
    """
    run: list[Entry] = []
    expected = 0
    for batch in batches:
        at = 0
        while at < len(batch):
            gap = batch[at].offset - expected
            if gap:
                yield from _behind(run, gap, markers)
                run = []
            elif len(run) > PIECE_RECORDS:
                # The last one stays: a marker needs a record before it.
                yield Piece("outside", run[:-1])
                run = run[-1:]
            until = _dense(batch, at)
            run += batch[at:until]
            expected = batch[until - 1].offset + 1
            at = until
    yield from _behind(run, end - expected, markers)


def _dense(batch: list[Entry], at: int) -> int:
    """Return where the entries from ``at`` on stop to be at offsets without a gap."""
    base = batch[at].offset - at
    step, low, high = 1, at, len(batch)
    if batch[high - 1].offset - high + 1 == base:
        return high
    while low + step < high and batch[low + step].offset - low - step == base:
        low += step
        step *= 2
    high = min(low + step, high)
    # An offset less its place never falls: what is at ``low`` is dense, what is at ``high`` is not.
    return bisect_right(range(low, high), base, key=lambda n: batch[n].offset - n) + low


def _behind(run: list[Entry], gap: int, markers: int) -> Iterator[Piece]:
    """Yield a run and the gap behind it."""
    if not run:
        if gap:
            yield Piece("deleted", [], gap)
    elif gap <= markers:
        yield Piece("outside", run, gap)
    elif gap == 1:
        yield Piece("committed", run)
    else:
        yield Piece("outside", run)
        if gap:
            yield Piece("aborted", [], gap - 1)
