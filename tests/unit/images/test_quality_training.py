"""What the model learned from, and how it is measured; the parts that need no torch."""

from __future__ import annotations

import re
from collections import Counter, defaultdict

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from connectors.images.quality.training.measure import area_under_curve, precision_recall
from connectors.images.quality.training.scenes import LATER, NPM, catalogue, part_of

SCORES = st.lists(st.integers(0, 6), min_size=1, max_size=12).map(
    lambda values: np.array(values) / 6
)


def test_no_scene_is_in_two_parts():
    """Issue 8: evaluated on scenes that training never saw."""
    scenes = catalogue()
    assert max(Counter(scene.name for scene in scenes).values()) == 1
    parts = defaultdict(set)
    for scene in scenes:
        assert scene.part == part_of(scene.group)
        parts[scene.group].add(scene.part)
    assert all(len(found) == 1 for found in parts.values())
    hashes = Counter(scene.sha256 for scene in scenes)
    assert [digest for digest, count in hashes.items() if count > 1] == []


def test_a_maker_of_npm_packages_is_in_one_part():
    """Issue 8: of a maker whose photographs are tested, training saw none."""
    parts = defaultdict(set)
    for scene in catalogue():
        if scene.package in NPM:
            parts[scene.package].add((scene.group, scene.part))
    assert set(parts) == set(NPM)
    assert all(len(found) == 1 for found in parts.values())
    assert {scene.group for scene in catalogue() if scene.part == "later"} == LATER


def test_every_scene_has_a_licence_and_a_hash():
    for scene in catalogue():
        assert re.fullmatch(r"[0-9a-f]{64}", scene.sha256)
        assert re.fullmatch(r"[A-Za-z0-9.+-]+", scene.licence), scene.name


@given(SCORES, SCORES)
def test_area_under_the_curve_is_the_share_of_pairs_in_order(bad, good):
    pairs = [(one > two) + (one == two) / 2 for one in bad for two in good]
    assert np.isclose(area_under_curve(bad, good), np.mean(pairs))


@given(SCORES, SCORES)
def test_precision_and_recall_by_counting(bad, good):
    for level, precision, recall in zip(*precision_recall(bad, good), strict=True):
        found, wrong = (bad >= level).sum(), (good >= level).sum()
        assert np.isclose(precision, found / max(1, found + wrong))
        assert np.isclose(recall, found / len(bad))
