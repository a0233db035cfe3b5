"""Up to when an input was read: what device health may take for silence (issue 6)."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition

from streams.runtime.transport import BatchConsumer

PLACE = TopicPartition("in", 3)


def consumer(queued: int = 0, **state: Any) -> Any:
    """A consumer as far as it is looked at; ``state`` is aiokafka's of the partition."""
    known = {"lso": 10, "timestamp": 5_000, "has_valid_position": True, "position": 10, **state}
    assignment = SimpleNamespace(tps={PLACE}, state_value=lambda _place: SimpleNamespace(**known))
    inner = SimpleNamespace(
        _subscription=SimpleNamespace(subscription=SimpleNamespace(assignment=assignment))
    )
    return SimpleNamespace(
        _thread=SimpleNamespace(_ensure_consumer=lambda: inner), queued=queued, inner=inner
    )


@pytest.mark.parametrize(
    ("state", "queued", "position", "expected"),
    [
        ({}, 0, 10, 5.0),
        ({}, 0, 9, 5.0),  # the marker of a transaction stands at the end
        ({}, 4, 9, None),  # records that wait to be worked on
        ({"position": 8}, 0, 8, None),  # records that were fetched and not handed on
        ({"has_valid_position": False}, 0, 9, None),
        ({"lso": None}, 0, 10, None),  # nothing was fetched yet
        ({"timestamp": None}, 0, 10, None),
        ({"lso": 0, "position": 0}, 0, 0, 5.0),  # an empty partition is read to its end
    ],
)
def test_what_was_read_up_to(state, queued, position, expected):
    found = BatchConsumer.read_up_to_s(consumer(queued, **state), PLACE, position)
    assert found == expected


def test_a_partition_that_is_not_ours_is_not_read():
    other = TopicPartition("in", 4)
    assert BatchConsumer.read_up_to_s(consumer(), other, 10) is None
    lost = consumer()
    lost.inner._subscription.subscription = None
    assert BatchConsumer.read_up_to_s(lost, PLACE, 10) is None
