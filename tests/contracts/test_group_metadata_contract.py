"""Our consumer group metadata against librdkafka's own (DESIGN.md, "Exactly once").

librdkafka makes these bytes in a Consumer and reads them in a transactional Producer. Here both
ends are held to them without a broker; ``tests/integration/runtime/test_fence.py`` compares them
for a Consumer that is in a group, generation after generation.
"""

from __future__ import annotations

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import UsageError
from streams.runtime import transaction
from streams.runtime.group import Membership, group_metadata
from streams.runtime.settings import RuntimeSettings
from streams.runtime.transaction import Transactor

NAMES = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=40)
"""librdkafka refuses what is not printable; names of ours are letters, digits, '.', '-', '_'."""
NOBODY = Membership(-1, "")


@pytest.fixture(scope="module")
def producer():
    """A transactional producer that reaches nobody: it reads metadata before it looks further."""
    return Producer(
        {
            "bootstrap.servers": "127.0.0.1:1",
            "transactional.id": "contract",
            "log_level": 0,
        }
    )


def refusal(producer, metadata):
    with pytest.raises(KafkaException) as caught:
        producer.send_offsets_to_transaction([TopicPartition("t", 0, 1)], metadata, 0.1)
    return caught.value.args[0].code()


@pytest.mark.parametrize("group", ["wheel", "t0123.captures"])
def test_a_consumer_in_no_group_yet(group):
    consumer = Consumer({"bootstrap.servers": "127.0.0.1:1", "group.id": group, "log_level": 0})
    try:
        assert consumer.consumer_group_metadata() == group_metadata(group, NOBODY)
    finally:
        consumer.close()


@given(NAMES, st.integers(-1, 2**31 - 1), NAMES)
def test_the_producer_can_read_it(producer, group, generation, member):
    """Metadata it cannot read is refused as a bad message, before anything else."""
    metadata = group_metadata(group, Membership(generation, member))
    assert refusal(producer, metadata) == KafkaError._STATE


@pytest.mark.parametrize("cut", [1, 2, 8])
def test_the_producer_refuses_what_is_not_whole(producer, cut):
    """The control of the test above: the producer does read the bytes."""
    metadata = group_metadata("wheel", Membership(7, "member"))
    assert refusal(producer, metadata[:-cut]) == KafkaError._BAD_MSG


def test_a_start_with_a_librdkafka_that_reads_another_form_is_refused_in_one_line(
    tmp_path, monkeypatch
):
    settings = RuntimeSettings("captures", "0", "127.0.0.1:1", tmp_path)
    transactor = Transactor(settings, lambda name: name, lambda: 0)
    transactor._check_metadata()  # this one reads ours
    other_form = lambda *_: b"CGMDv3:" + group_metadata("captures", Membership(1, "m"))[7:]  # noqa: E731
    monkeypatch.setattr(transaction, "group_metadata", other_form)
    with pytest.raises(UsageError, match=r"uv\.lock") as caught:
        transactor.start()
    assert "\n" not in caught.value.line()
