"""Why there is a photo, or none: every reason by a story of its own (SPEC 1.3; issue 7, 'explain').

Each story is written by the real fold and the real state machine; then it is asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from explain_scenarios import SCENARIOS
from explain_world import CODEC, DEVICE, PARTITION, T0, World

from streams.replay.explain import UnknownCommandError, explain, explain_command
from streams.replay.explain_reasons import REASONS, Code
from streams.replay.explain_types import Ask


def ask(world: World, ms: int, **options: Any):
    question = Ask(device_id=DEVICE, at_ms=T0 + ms, now_ms=T0 + world.now, **options)
    return explain(world.log, CODEC, question)


@pytest.mark.parametrize("code", list(Code))
def test_each_reason_is_told(code: Code):
    """Issue 7: 'answers why no photo at 14:05 for every reason the system can have'."""
    assert code in SCENARIOS, f"{code} has no scenario"
    for scenario in SCENARIOS[code]:
        world = World(**scenario.settings)
        at_ms, options = scenario.play(world)
        device_id = options.pop("device_id", DEVICE)
        question = Ask(
            device_id=device_id, at_ms=T0 + at_ms, now_ms=T0 + world.now, **options
        )
        found = explain(world.log, CODEC, question)
        assert found.code == code, (scenario.play.__name__, found.answer)
        for word in scenario.words:
            assert word in found.answer, (scenario.play.__name__, found.answer)
        assert found.photo == REASONS[code].photo
        assert found.answer.endswith(".")
        assert "{" not in found.advice
        assert found.advice or found.code == Code.PHOTO_THERE


def test_every_reason_has_words_and_advice():
    assert set(REASONS) == set(Code)
    for code, reason in REASONS.items():
        assert reason.words.endswith("."), code
        assert reason.advice.endswith((".", "?")) or code is Code.PHOTO_THERE, code
