"""Partitions moved by the ring beside Faust's assignor (issue 4, 'Recovery and rebalance')."""

from __future__ import annotations

from benchmarks.moves import PARTITIONS, faust, moves, owners_of


def test_the_ring_puts_back_what_a_fifth_worker_had_and_moves_little_more_than_the_least():
    rows = {(row.case, row.system, row.metric): row.value for row in moves()}
    for count in PARTITIONS:
        case = f"4 to 5 to 4 workers, {count:,} partitions"
        assert rows[case, "shutterwheel", "not_back"] == 0
        assert rows[case, "faust", "not_back"] > 0
        least, up = rows[case, "ideal", "moved_up"], rows[case, "shutterwheel", "moved_up"]
        assert least <= up <= least * 4 / 3 + 3
        assert rows[case, "shutterwheel", "moved_down"] == up


def test_fausts_assignor_is_asked_as_faust_asks_it():
    assigned = faust({"a": set(), "b": set()}, 8)
    assert sorted(owners_of(assigned)) == list(range(8))
    assert {len(own) for own in assigned.values()} == {4}
    assert faust(assigned, 8) == assigned, "who has something keeps it"
