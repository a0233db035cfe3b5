"""A poison record in every input of an app is dead-lettered alone (issue 3, 'Bad input')."""

from __future__ import annotations

import time
from dataclasses import dataclass

import pytest
from chain_harness import PARTITIONS

from connectors.clients import events
from schemas.records import CaptureCommand, Refused
from streams.core.ids import partition_of

HUGE = "x" * 10_000
"""A device id of 10 kB."""
UNKNOWN_ID = b"\x00\xde\xad\xbe\xef" + b"whatever"


@dataclass(frozen=True)
class Poison:
    """A record as it is written, and the code it must be dead-lettered with."""

    topic: str
    key: bytes
    value: bytes | None
    partition: int
    code: str


def command(device, now_ms, command_id=1 << 40):
    """Return a command that is good but for the device it names."""
    return CaptureCommand(
        command_id, device, "chain", "", 1, now_ms, now_ms, now_ms + 60_000, 3_000, 0, now_ms
    )


def poisons(codec, device):
    """Return every kind of poison for every input topic, around one good device."""
    now_ms = time.time_ns() // 1_000_000
    home = partition_of(device, PARTITIONS)
    elsewhere = (home + 1) % PARTITIONS
    key = device.encode()

    def upsert(name):
        return codec.encode(events.upserted(name, "poison", every="1s"))

    def profile(name):
        return codec.encode(events.profile(name, "http://127.0.0.1:9/x.jpg"))

    def order(name):
        return codec.encode(command(name, now_ms))

    huge_home = partition_of(HUGE, PARTITIONS)
    nobody_home = partition_of("", PARTITIONS)
    for topic, encode, other in (
        ("schedule.events", upsert, profile),
        ("device.profiles", profile, order),
        ("capture.commands", order, upsert),
    ):
        good = encode(device)
        yield Poison(topic, key, b"hello, this is no Avro", home, "not_avro")
        yield Poison(topic, key, b"", home, "not_avro")
        yield Poison(topic, key, b"\x00\x00", home, "not_avro")
        yield Poison(topic, key, UNKNOWN_ID, home, "unknown_schema")
        yield Poison(topic, key, good[: len(good) // 2], home, "truncated")
        yield Poison(topic, key, good + b"\x00more", home, "trailing_bytes")
        yield Poison(topic, key, other(device), home, "wrong_record")
        yield Poison(topic, key, good, elsewhere, "wrong_partition")
        yield Poison(topic, HUGE.encode(), encode(HUGE), huge_home, "bad_device_id")
        yield Poison(topic, b"", encode(""), nobody_home, "bad_device_id")
        if topic != "device.profiles":  # there a null value means: forget the device
            yield Poison(topic, key, None, home, "not_avro")
            yield Poison(topic, b"", None, home, "not_avro")
    yield Poison("device.profiles", b"", profile(device), home, "wrong_key")
    yield Poison("device.profiles", b"someone else", profile(device), home, "wrong_key")
    yield Poison("device.profiles", b"", None, home, "bad_device_id")
    yield Poison("device.profiles", key, None, elsewhere, "wrong_partition")
    yield Poison("device.profiles", b"\xff\xfe", None, home, "wrong_key")


def test_poison_in_every_input_is_dead_lettered_alone(make_chain):
    """Each letter says where the record was and why it is one; the good records around it work."""
    chain = make_chain(devices=8)
    victim, *others = chain.devices
    chain.introduce()
    chain.schedule(1_000, others[:3])

    written = [
        (p, (p.topic, p.partition, chain.write(p.topic, p.partition, p.key, p.value)))
        for p in poisons(chain.codec, victim)
    ]
    chain.schedule(1_000, [victim, *others[3:]])
    chain.run_on(photos=3 * len(chain.devices))
    origins = {origin for _, origin in written}
    chain.wait_until("each poison has its letter", lambda: origins <= set(chain.letters()))

    letters = chain.letters()
    assert set(letters) == origins, "and nothing else has one"
    for poison, origin in written:
        letter = letters[origin]
        assert (letter.code, letter.key, letter.value) == (poison.code, poison.key, poison.value)
        assert letter.reason.endswith("."), letter.reason
        assert 20 < len(letter.reason) < 500, "a sentence, whatever the record holds"
        assert letter.app == ("wheel" if poison.topic == "schedule.events" else "captures")
        assert letter.at_ms >= letter.timestamp_ms - 1_000

    refused = {r.code for r in chain.records("schedule.decisions", Refused)}
    assert refused == {"bad_device_id", "wrong_partition"}, "what can be answered is answered"
    assert chain.cluster.restarts == 0, "no worker fell over it"
    for device in chain.devices:
        assert chain.shutters([device]), f"{device} works in spite of the poison"


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
def test_every_compression_that_upstream_may_choose_is_read(gentle, codec):
    """Kafka's clients choose the compression; both apps read each of them."""
    producer = gentle.raw_producer(**{"compression.type": codec, "linger.ms": 50})
    devices = gentle.take(2)
    now_ms = time.time_ns() // 1_000_000
    for device in devices:
        partition = partition_of(device, PARTITIONS)
        profile = events.profile(device, gentle.cameras.url(device), labels={"pad": "z" * 5_000})
        for _ in range(5):  # a batch that is worth compressing
            producer.produce(
                gentle.topic("device.profiles"), gentle.codec.encode(profile), device, partition
            )
        for number in range(10):
            event = events.upserted(
                device, f"{codec}-{number}", at=now_ms + 1_000 + number * 100, lead="1s"
            )
            producer.produce(
                gentle.topic("schedule.events"), gentle.codec.encode(event), device, partition
            )
    assert producer.flush(30) == 0
    gentle.wait_until("all photos", lambda: gentle.shutters(devices) >= 20)
    assert gentle.cluster.restarts == 0
