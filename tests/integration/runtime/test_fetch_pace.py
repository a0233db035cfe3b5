"""Fetches of many partitions have a pace, and bring everything all the same (ADR 0008)."""

from __future__ import annotations

import asyncio
import time

from aiokafka import AIOKafkaConsumer
from confluent_kafka import Producer

from infra.kafka.topics import topic_name
from streams.runtime import fetched

RECORDS = 60
PARTITIONS = 4  # of ``kafka_topics``
PLACE_S = 0.1


async def test_records_that_come_meanwhile_come_with_the_next_fetch(
    kafka_topics, namespace, monkeypatch
):
    """With a pace of 0.4 s for 4 partitions: all records, in order, in few fetches."""
    monkeypatch.setattr(fetched, "FEW_PLACES", 0)
    monkeypatch.setattr(fetched, "PLACE_S", PLACE_S)
    topic = topic_name(namespace, "capture.commands")
    consumer = AIOKafkaConsumer(
        topic, bootstrap_servers=kafka_topics, auto_offset_reset="earliest", fetch_max_wait_ms=200
    )
    await consumer.start()
    asked = count_fetches(consumer)
    producer = Producer({"bootstrap.servers": kafka_topics, "linger.ms": 0})
    try:
        began_s = time.monotonic()
        reading = asyncio.create_task(read(consumer))
        for number in range(RECORDS):
            producer.produce(topic, b"%d" % number, partition=number % PARTITIONS)
            producer.poll(0)
            await asyncio.sleep(0.03)
        found = await asyncio.wait_for(reading, 30)
        took_s = time.monotonic() - began_s
    finally:
        producer.flush(10)
        await consumer.stop()
    for partition, values in found.items():
        assert values == list(range(partition, RECORDS, PARTITIONS))
    assert 2 <= len(asked) <= took_s / (PARTITIONS * PLACE_S) + 2


def count_fetches(consumer):
    """Return a list to which the consumer adds each fetch that it sends."""
    asked, client = [], consumer._client
    send = client.send

    async def counted(node, request, **more):
        if type(request).__name__.startswith("FetchRequest"):
            asked.append(request)
        return await send(node, request, **more)

    client.send = counted
    return asked


async def read(consumer):
    """Return the values by partition, once all are there."""
    found = {number: [] for number in range(PARTITIONS)}
    while sum(map(len, found.values())) < RECORDS:
        for place, records in (await consumer.getmany(timeout_ms=100)).items():
            found[place.partition] += [int(record.value) for record in records]
    return found
