"""Rows to findings (SPEC 4.4): score = objectness x greatest class, 0.65, IoU 0.4."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from connectors.images.quality.boxes import CLASSES, decode, picture_scores, suppress

ROWS = arrays.arrays(
    np.float32,
    st.tuples(st.integers(0, 12), st.just(9)),
    elements=st.floats(0, 1, width=32),
).map(lambda rows: rows * np.array([320] * 4 + [1] * 5, np.float32))


def overlap(one, two):
    """Intersection over union, written out."""
    wide = min(one[2], two[2]) - max(one[0], two[0])
    high = min(one[3], two[3]) - max(one[1], two[1])
    shared = max(wide, 0) * max(high, 0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, two)]
    return shared / max(sum(areas) - shared, 1e-9)


def plain(rows, confidence, iou):
    """The rule in plain words: best first, drop what overlaps a better one of its class."""
    boxes = []
    for row in rows:
        x, y, w, h = (float(value) for value in row[:4])
        kind = int(np.argmax(row[5:]))
        score = float(row[4] * row[5:].max())
        if score >= confidence:
            boxes.append((score, kind, (x - w / 2, y - h / 2, x + w / 2, y + h / 2)))
    boxes.sort(key=lambda box: -box[0])
    kept = []
    for box in boxes:
        if all(box[1] != other[1] or overlap(box[2], other[2]) <= iou for other in kept):
            kept.append(box)
    return kept


@given(ROWS, st.sampled_from([0.2, 0.65]), st.sampled_from([0.1, 0.4, 0.8]))
def test_it_is_the_rule_in_plain_words(rows, confidence, iou):
    found = decode(rows, confidence, iou)
    wanted = plain(rows, confidence, iou)
    assert [(CLASSES.index(box.kind), pytest.approx(box.score)) for box in found] == [
        (kind, pytest.approx(score)) for score, kind, _ in wanted
    ] or _border(rows, iou)
    for box in found:
        assert box.score >= confidence


def _border(rows, iou):
    """Whether an overlap lies so near to the threshold that rounding decides."""
    sides = [(x - w / 2, y - h / 2, x + w / 2, y + h / 2) for x, y, w, h in rows[:, :4]]
    return any(
        abs(overlap(one, two) - iou) < 1e-4 for n, one in enumerate(sides) for two in sides[:n]
    )


@given(ROWS)
def test_what_stays_is_apart_and_nothing_better_was_dropped(rows):
    found = decode(rows, 0.3, 0.4)
    assert [box.score for box in found] == sorted((box.score for box in found), reverse=True)
    for number, one in enumerate(found):
        for two in found[:number]:
            assert one.kind != two.kind or overlap(one.sides, two.sides) <= 0.4 + 1e-4
    again = decode(rows[::-1].copy(), 0.3, 0.4)
    assert {box.kind for box in again} == {box.kind for box in found}


@given(ROWS)
def test_a_class_is_found_if_and_only_if_its_best_score_passes(rows):
    """Suppression never takes the best of a class: a verdict is max(score) >= 0.65."""
    best = picture_scores(rows)
    assert {box.kind for box in decode(rows)} == {
        name for name, score in zip(CLASSES, best, strict=True) if score >= np.float32(0.65)
    }


def row(kind, objectness=0.9, box=(160, 160, 100, 100), probability=0.9):
    classes = [0.0] * len(CLASSES)
    classes[CLASSES.index(kind)] = probability
    return [*box, objectness, *classes]


def test_the_score_is_objectness_times_the_greatest_class():
    rows = np.array([row("blur", 0.8, probability=0.9), row("occlusion", 0.8, probability=0.8)])
    (box,) = decode(rows.astype(np.float32))
    assert (box.kind, box.score) == ("blur", pytest.approx(0.72))
    assert box.sides == (110, 110, 210, 210)


def test_boxes_of_two_classes_at_one_place_both_stay():
    rows = np.array([row("blur"), row("overexposure"), row("blur", 0.85)], np.float32)
    assert [box.kind for box in decode(rows)] == ["blur", "overexposure"]


def test_rows_that_are_not_finite_are_no_finding():
    rows = np.array([row("blur"), row("blur", box=(np.nan, 1, 2, 3))], np.float32)
    assert len(decode(rows)) == 1
    assert decode(np.full((3, 9), np.nan, np.float32)) == []


def test_nothing_to_suppress():
    assert suppress(np.zeros((0, 4), np.float32), np.zeros(0, np.intp), 0.4) == []
    assert decode(np.zeros((0, 9), np.float32)) == []
