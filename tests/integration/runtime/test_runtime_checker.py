"""The checker itself finds what it is there to find: a planted fault of each kind."""

from __future__ import annotations

import copy

from runtime_checker import check

INPUTS = {
    0: [(0, b"a", b"x"), (1, b"b", b"later"), (2, b"a", b"x"), (5, b"c", b"poison")],
    1: [(0, b"a", b"x")],
}
OUTPUTS = {
    0: [
        (0, b"a", b"R:0:0:3:a"),
        (1, b"b", b"R:0:1:3:a"),
        (2, None, b"T:0:1:3:a"),
        (4, b"a", b"R:0:2:4:b"),
        (5, None, b"C:0:1:4:b"),
        (6, None, b"T:0:2:4:b"),
    ],
    1: [(0, b"a", b"R:1:0:4:b")],
}
CHANGELOG = {
    0: [
        (0, b"a", b"1"),
        (1, b"b", b"1"),
        (2, b"@1", b"open"),
        (3, b"#ticks", b"1"),
        (5, b"a", b"2"),
        (6, b"@1", None),
        (7, b"#ticks", b"2"),
    ],
    1: [(0, b"a", b"1")],
}


def found(outputs=OUTPUTS, changelog=CHANGELOG):
    return check(INPUTS, outputs, changelog)


def without(rows, partition, index):
    changed = copy.deepcopy(rows)
    del changed[partition][index]
    return changed


def with_one_more(rows, partition, row):
    changed = copy.deepcopy(rows)
    changed[partition].append(row)
    return changed


def test_a_sound_run_has_no_finding():
    findings = found()
    assert findings.sound(), findings
    assert (findings.outputs, findings.generations) == (7, 2)


def test_a_lost_output_of_each_kind_is_found():
    assert found(without(OUTPUTS, 0, 1)).lost == ["0:R:1"]
    assert found(without(OUTPUTS, 0, 4)).lost == ["0:C:1"]
    assert found(without(OUTPUTS, 0, 2)).lost == ["0:T:1"]


def test_a_doubled_output_of_each_kind_is_found():
    assert found(with_one_more(OUTPUTS, 0, (7, b"a", b"R:0:2:4:b"))).doubled == ["0:R:2x2"]
    assert found(with_one_more(OUTPUTS, 0, (7, None, b"C:0:1:4:b"))).doubled == ["0:C:1x2"]
    assert found(with_one_more(OUTPUTS, 0, (7, None, b"T:0:2:4:b"))).doubled == ["0:T:2x2"]


def test_an_output_nobody_asked_for_is_found():
    assert found(with_one_more(OUTPUTS, 1, (1, b"c", b"R:1:9:4:b"))).invented == ["1:R:9"]
    assert found(with_one_more(OUTPUTS, 1, (1, b"a", b"R:0:0:4:b"))).invented


def test_a_zombie_write_is_found():
    """An older generation after a newer, or two members in one generation."""
    outputs = copy.deepcopy(OUTPUTS)
    outputs[0][4], outputs[0][5] = (5, None, b"T:0:2:4:b"), (6, None, b"C:0:1:3:a")
    assert found(outputs).zombie == ["0@6: 3 after 4"]
    outputs[0][5] = (6, None, b"C:0:1:4:a")
    assert found(outputs).zombie == ["0@6: a beside b"]


def test_a_wrong_row_is_found():
    assert found(changelog=with_one_more(CHANGELOG, 0, (8, b"a", b"3"))).wrong_rows
    assert found(changelog=with_one_more(CHANGELOG, 0, (8, b"@5", b"open"))).wrong_rows
    assert found(changelog=with_one_more(CHANGELOG, 0, (8, b"#ticks", b"1"))).wrong_rows
    assert found(changelog=without(CHANGELOG, 1, 0)).wrong_rows
