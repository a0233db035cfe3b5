"""What ``bench commits`` commits (issue 4: 1,024 partitions affordable)."""

from __future__ import annotations

import pytest

from benchmarks import commits
from benchmarks.load import Rig
from benchmarks.options import Options
from schemas.errors import UsageError


@pytest.mark.parametrize("partitions", [1, 64])
def test_a_batch_has_a_record_for_each_partition_of_each_topic(partitions):
    batch = commits.batch(partitions)
    places = [(topic, row[2]) for topic, rows in batch.outputs.items() for row in rows]
    assert len(places) == len(set(places)) == partitions * len(commits.TOPICS_WRITTEN)
    assert {number for _, number in batch.offsets} == batch.partitions == set(range(partitions))


def test_a_broker_of_others_is_not_measured():
    with pytest.raises(UsageError, match="embedded"):
        next(commits.run(Options(), Rig(print, "127.0.0.1:1", needed=False)))
