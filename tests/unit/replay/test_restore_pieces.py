"""Offsets are made anew, gaps included; issue 7, "restore"."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streams.replay.log import Entry
from streams.replay.restore import pieces as module
from streams.replay.restore.pieces import Piece, pieces


class Partition:
    """What a broker makes of pieces: the entries that a reader sees, and its end."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, bytes | None]] = []
        self.end = 0
        self.deleted = 0

    def write(self, piece: Piece) -> None:
        if piece.kind == "deleted":
            assert self.end == 0
            self.deleted = self.end = piece.filler
            return
        if piece.kind != "aborted":
            assert piece.entries, "a marker needs a record before it"
            for entry in piece.entries:
                self.seen.append((self.end, entry.value))
                self.end += 1
        else:
            assert piece.filler > 0, "a marker needs a record before it"
            self.end += piece.filler
        self.end += piece.kind in {"committed", "aborted"}
        self.end += piece.filler * (piece.kind == "outside")


def written(entries, end, markers):
    partition = Partition()
    for piece in pieces(entries, end, markers):
        before = partition.end
        partition.write(piece)
        assert partition.end - before == piece.offsets
    return partition


@given(
    st.integers(0, 9),
    st.lists(st.tuples(st.integers(0, 4), st.integers(1, 9)), max_size=8),
    st.integers(0, 5),
    st.integers(1, 4),
    st.sampled_from((0, 1, 2, 64)),
)
def test_every_entry_comes_to_its_offset(first, runs, tail, size, markers):
    """Whatever the gaps, at the beginning and the end too, and wherever a batch ends."""
    entries, offset = [], first
    for gap, length in runs:
        offset += gap
        entries += [Entry(offset + n, 1, b"k", b"%d" % (offset + n)) for n in range(length)]
        offset += length
    end = (entries[-1].offset + 1 if entries else first) + tail
    batches = [entries[low : low + size] for low in range(0, len(entries), size)]
    known = module.PIECE_RECORDS
    module.PIECE_RECORDS = 3
    try:
        partition = written(batches, end, markers)
    finally:
        module.PIECE_RECORDS = known
    assert partition.seen == [(e.offset, e.value) for e in entries]
    assert partition.end == end
    assert partition.deleted == (entries[0].offset if entries else end)


def example(markers):
    found = pieces([[Entry(n, 1, b"k", b"v") for n in (4, 5, 6, 8, 11)]], 12, markers)
    return [(p.kind, [e.offset for e in p.entries], p.filler) for p in found]


def test_the_example_of_the_text():
    assert example(64) == [
        ("deleted", [], 4),
        ("outside", [4, 5, 6], 1),
        ("outside", [8], 2),
        ("outside", [11], 0),
    ]


def test_the_example_where_nobody_may_write_markers():
    assert example(0) == [
        ("deleted", [], 4),
        ("committed", [4, 5, 6], 0),
        ("outside", [8], 0),
        ("aborted", [], 1),
        ("outside", [11], 0),
    ]
