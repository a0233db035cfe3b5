"""DESIGN.md, "Ticks": a snapshot holds its state's hash; two states are one if their hashes are."""

import pytest

from streams.core.state_hash import state_hash

ROWS = [("a", b"1", b"\0\0\0\0\1one"), ("a", b"2", b"\0\0\0\0\1two"), ("b", b"1", b"\0\0\0\0\2x")]


@pytest.mark.parametrize(
    "changed",
    [
        ROWS[:2],
        [ROWS[0], ("a", b"2", b"\0\0\0\0\1twO"), ROWS[2]],
        [ROWS[0], ROWS[1], ("c", b"1", b"\0\0\0\0\2x")],
        [("a", b"1", b"\0\0\0\0\1"), ("a", b"1one", b"\0\0\0\0\1"), *ROWS[1:]],
    ],
)
def test_another_state_has_another_hash(changed):
    assert state_hash(changed) != state_hash(ROWS)


def test_the_schema_id_is_no_part_of_the_state():
    moved = [(table, key, b"\0\0\0\1\7" + value[5:]) for table, key, value in ROWS]
    assert state_hash(moved) == state_hash(ROWS)


@pytest.mark.parametrize("rows", [ROWS[::-1], [ROWS[0], ROWS[0]]])
def test_rows_come_in_order_and_once(rows):
    with pytest.raises(ValueError, match="out of order or double"):
        state_hash(rows)


def test_its_bytes_are_these():
    """So that another language can compute it."""
    assert (
        state_hash([]).hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    )
