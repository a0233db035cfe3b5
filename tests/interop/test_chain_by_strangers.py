"""A schedule published, and its photos read, by clients that are not ours (SPEC 1.10; issue 7)."""

from __future__ import annotations

import time

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from golden_records import GOLDEN
from interop_json import plain
from strangers import SCHEMAS, heard, languages

from schemas.codec import Codec
from schemas.records import CaptureResult
from schemas.select import schema_ids
from streams.core.ids import partition_of

PHOTOS = 3
WAIT_S = 30.0


def follow(chain, command, registry=""):
    """Let a client work with the chain; return what it said by topic, and its device.

    Beforehand the results get one of this device in a transaction that is aborted: whoever reads
    committed records only does not see it.
    """
    (device,) = chain.take(1)
    codec = Codec(schema_ids(registry))
    never = aborted_result(chain, codec, device)
    arguments = (chain.kafka, f"{chain.namespace}.", str(SCHEMAS), registry or "-", device)
    said = heard(command, "chain", *arguments, str(PHOTOS))
    assert said, "it said nothing"
    for line in said:
        where = (line["topic"], line["partition"], line["offset"])
        assert where != never, "it read what was never committed"
        ours = codec.decode(read(chain.kafka, *where))
        assert line["record"] == f"shutterwheel.{type(ours).__name__}", where
        assert line["value"] == plain(ours), where
        assert line["partition"] == partition_of(device, chain.cluster.partitions), where
    topics = ("schedule.events", "schedule.decisions", "capture.results")
    return {t: [one for one in said if one["topic"] == chain.topic(t)] for t in topics}, device


def aborted_result(chain, codec, device):
    """Write a result that is aborted; return its place."""
    producer = Producer(
        {"bootstrap.servers": chain.kafka, "transactional.id": f"never-{device}", "log_level": 0}
    )
    placed = []
    producer.init_transactions(WAIT_S)
    producer.begin_transaction()
    topic, partition = (
        chain.topic("capture.results"),
        partition_of(device, chain.cluster.partitions),
    )
    result = CaptureResult(**{**plain_fields(GOLDEN["CaptureResult"]), "device_id": device})
    producer.produce(
        topic,
        codec.encode(result),
        device.encode(),
        partition,
        on_delivery=lambda error, message: placed.append((error, message.offset())),
    )
    assert producer.flush(WAIT_S) == 0
    producer.abort_transaction(WAIT_S)
    ((error, offset),) = placed
    assert error is None
    return topic, partition, offset


def plain_fields(record):
    return {name: getattr(record, name) for name in record.__struct_fields__}


def read(kafka, topic, partition, offset):
    """Return the value at a place."""
    consumer = Consumer({"bootstrap.servers": kafka, "group.id": "strangers", "log_level": 0})
    try:
        consumer.assign([TopicPartition(topic, partition, offset)])
        deadline_s = time.monotonic() + WAIT_S
        message = None
        while message is None and time.monotonic() < deadline_s:
            message = consumer.poll(1.0)
        assert message is not None
        assert (message.error(), message.offset()) == (None, offset)
        return message.value()
    finally:
        consumer.close()


def check(chain, command, registry=""):
    """Follow a client, and demand of what it saw what a schedule's life is."""
    said, device = follow(chain, command, registry)
    upserted, cancelled = said["schedule.events"]
    assert (upserted["record"], cancelled["record"]) == (
        "shutterwheel.ScheduleUpserted",
        "shutterwheel.ScheduleCancelled",
    )
    answers = [
        (one["record"], one["value"]["request_id"], one["value"]["change"])
        for one in said["schedule.decisions"]
    ]
    assert answers == [
        ("shutterwheel.Accepted", event["value"]["request_id"], event["record"].split(".")[1])
        for event in (upserted, cancelled)
    ]
    photos = [one["value"] for one in said["capture.results"]]
    assert len(photos) >= PHOTOS
    assert {one["state"] for one in photos[:PHOTOS]} == {"SUCCESS"}, photos
    assert {(one["device_id"], one["schedule_id"]) for one in photos} == {(device, "interop")}
    for one in photos[:PHOTOS]:
        assert one["image"]["image_bytes"] > 0
        assert one["shutter_at_ms"] >= one["scheduled_ms"]
        assert [step["to_state"] for step in one["transitions"]][-1] == "SUCCESS"
        assert one["command_id"] > 2**53, "an id that a double would round"


@pytest.mark.parametrize("language", languages("java"))
def test_a_stranger_publishes_a_schedule_and_reads_its_photos(fleet, stranger, language):
    """Its partitioner, its Avro, its reading of committed records; each field is what ours reads."""
    check(fleet, stranger(language))
    assert not fleet.letters()


@pytest.mark.parametrize("language", languages())
def test_the_same_with_a_schema_registry(registry_fleet, registry, stranger, language):
    """Ids, and the schemas behind them, come from a real registry, over Confluent's interface."""
    check(registry_fleet, stranger(language), registry.url)
    assert not registry_fleet.letters()
