"""The clients on a real broker: publishing, decisions, results (SPEC 1.10, 2.2; issue 3, point 7)."""

from __future__ import annotations

import logging
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from stand_in_wheel import StandInWheel

from connectors.clients import events
from connectors.clients.kafka import NoAnswerError
from connectors.clients.publisher import Publisher
from connectors.clients.results import results
from connectors.clients.scan import Scanner
from infra.kafka.broker import free_port
from schemas.codec import Codec
from schemas.errors import BrokerError, UsageError
from schemas.ids import FingerprintIds
from schemas.records import (
    Accepted,
    AlreadyKnown,
    CaptureResult,
    DeviceProfile,
    Refused,
    ScheduleState,
    ScheduleUpserted,
)
from streams.core.ids import partition_of

PARTITIONS = 4
CODEC = Codec(FingerprintIds())
WAIT_S = 30.0


@pytest.fixture
def wheel(kafka_topics, namespace):
    with StandInWheel(kafka_topics, namespace, PARTITIONS) as running:
        yield running


@pytest.fixture
def publisher(kafka_topics, namespace):
    with Publisher(kafka_topics, namespace) as made:
        yield made


def read(kafka, topic, partition, offset):
    """Return the record at a place."""
    consumer = Consumer({"bootstrap.servers": kafka, "group.id": uuid.uuid4().hex, "log_level": 0})
    consumer.assign([TopicPartition(topic, partition, offset)])
    message = consumer.poll(WAIT_S)
    consumer.close()
    assert message is not None
    assert (message.error(), message.offset()) == (None, offset)
    return message


# --- publishing ---------------------------------------------------------------------------------


def test_a_record_stands_where_its_device_lives(kafka_topics, namespace, publisher):
    """DESIGN.md 'Shards': the partition is ours to choose, by Kafka's murmur2."""
    for device_id in ("cam-1", "cam-2", "cam-3", "Kamera-ä"):
        receipt = publisher.schedule(device_id, "s", every="5s").acknowledged(WAIT_S)
        assert receipt.partition == partition_of(device_id, PARTITIONS)
        assert receipt.offset is not None
        message = read(
            kafka_topics, f"{namespace}.schedule.events", receipt.partition, receipt.offset
        )
        event = CODEC.decode(message.value())
        assert message.key() == device_id.encode()
        assert isinstance(event, ScheduleUpserted)
        assert (event.device_id, event.request_id) == (device_id, receipt.request_id)


def test_a_request_is_accepted_known_or_refused(publisher, wheel):
    """SPEC 2.2: a repeat is reported as already known."""
    first = publisher.schedule("cam-1", "s", every="5s", request_id="r1").decision(WAIT_S)
    again = publisher.schedule("cam-1", "s", every="5s", request_id="r1").decision(WAIT_S)
    same = publisher.schedule("cam-1", "s", every="5s").decision(WAIT_S)
    unknown = publisher.cancel("cam-1", "other").decision(WAIT_S)
    gone = publisher.cancel("cam-1", "s").decision(WAIT_S)
    assert isinstance(first, Accepted)
    assert isinstance(again, AlreadyKnown)
    assert (again.first, again.epoch) == ("accepted", first.epoch)
    assert isinstance(same, Accepted)
    assert same.epoch == first.epoch, "the same again changes nothing"
    assert isinstance(unknown, Refused)
    assert unknown.code == "unknown_schedule"
    assert isinstance(gone, Accepted)
    assert gone.change == "ScheduleCancelled"


def test_every_kind_of_request(publisher, wheel):
    asked = [
        publisher.schedule("cam-1", "s", every="5s"),
        publisher.pause("cam-1", "s", "lens is cleaned"),
        publisher.resume("cam-1", "s"),
        publisher.capture("cam-1"),
        publisher.cancel("cam-1", "s"),
    ]
    # Asked backwards: answers that were read while waiting for a later one are kept.
    answers = [receipt.decision(WAIT_S) for receipt in reversed(asked)][::-1]
    assert [answer.change for answer in answers if isinstance(answer, Accepted)] == [
        "ScheduleUpserted",
        "SchedulePaused",
        "ScheduleResumed",
        "CaptureRequested",
        "ScheduleCancelled",
    ]


def test_what_the_wheel_would_refuse_never_leaves(publisher, kafka_topics, namespace, wheel):
    with pytest.raises(UsageError, match="every_ms 0 is below 100"):
        publisher.schedule("cam-1", "s", every=0)
    with Publisher(kafka_topics, namespace, check=False) as unchecked:
        answer = unchecked.schedule("cam-1", "s", every=0).decision(WAIT_S)
    assert isinstance(answer, Refused)
    assert "every_ms 0 is below 100" in answer.reason


def test_no_wheel_no_decision_and_then_there_is_one(kafka_topics, namespace, publisher):
    receipt = publisher.schedule("cam-1", "s", every="5s")
    with pytest.raises(NoAnswerError, match=r"decided once a timing wheel runs: .* doctor"):
        receipt.acknowledged(WAIT_S).decision(0.5)
    with StandInWheel(kafka_topics, namespace, PARTITIONS):
        assert isinstance(receipt.decision(WAIT_S), Accepted)


def test_threads_share_a_publisher(publisher, wheel):
    def ask(n: int) -> bool:
        answer = publisher.schedule(f"cam-{n % 7}", f"s-{n}", every="5s").decision(WAIT_S)
        return isinstance(answer, Accepted) and answer.schedule_id == f"s-{n}"

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(ask, range(64)))


def test_device_profiles(kafka_topics, namespace, publisher):
    topic = f"{namespace}.device.profiles"
    publisher.device("cam-1", "http://127.0.0.1/1", labels={"line": "3"}).acknowledged(WAIT_S)
    whole = events.profile("cam-2", "http://127.0.0.1/2")
    receipt = publisher.device(whole).acknowledged(WAIT_S)
    with pytest.raises(UsageError, match="gets no decision"):
        receipt.decision()
    with Scanner(kafka_topics, CODEC) as scanner:
        found = scanner.table(topic, DeviceProfile)
        assert [(one.device_id, one.labels) for one in found] == [
            ("cam-1", {"line": "3"}),
            ("cam-2", {}),
        ]
        publisher.remove_device("cam-1").acknowledged(WAIT_S)
        assert scanner.table(topic, DeviceProfile) == [whole]


def test_many_at_once_with_their_decisions(kafka_topics, namespace, publisher, wheel):
    told = []
    asked = [events.upserted(f"cam-{n}", "s", every="5s") for n in range(3_000)]
    asked += [events.cancelled(f"cam-{n}", "nothing") for n in range(30)]
    asked.append(asked[0])
    report = publisher.publish_many(
        asked, wait=True, progress=lambda r: told.append(r.published), timeout=WAIT_S
    )
    assert (report.published, report.acknowledged, report.failed) == (3_031, 3_031, 0)
    # The repeated one is one request with two answers: the first of them counts.
    assert (report.accepted, report.refused, report.undecided) == (3_000, 30, 0)
    assert {one.code for one in report.refusals} == {"unknown_schedule"}
    assert told[-1] == 3_031
    with Scanner(kafka_topics, CODEC) as scanner:
        rows = scanner.table(f"{namespace}.wheel.schedules.changelog", ScheduleState)
    assert {row.device_id for row in rows} == {f"cam-{n}" for n in range(3_000)}


def test_many_at_once_with_nobody_to_decide(publisher):
    asked = [events.upserted(f"cam-{n}", "s", every="5s") for n in range(10)]
    report = publisher.publish_many(asked, wait=True, timeout=1.0)
    assert (report.acknowledged, report.accepted, report.undecided) == (10, 0, 10)


def test_a_record_that_the_broker_refuses_is_told(kafka_topics, namespace):
    """A failed delivery reaches who waits for it, or the end of the ``with``."""
    large = events.profile("cam-1", "http://127.0.0.1", labels={"x": uuid.uuid4().hex * 80_000})
    client = {"message.max.bytes": "4000000", "compression.type": "none"}
    with Publisher(kafka_topics, namespace, client=client) as publisher:
        receipt = publisher.device(large)
        with pytest.raises(BrokerError, match=f"Kafka at {kafka_topics}: .*[Mm]essage"):
            receipt.acknowledged(WAIT_S)
    with (
        pytest.raises(BrokerError, match=r"Device 'cam-1': .* \(2 records failed\)"),
        Publisher(kafka_topics, namespace, client=client) as publisher,
    ):
        publisher.device(large)
        publisher.device(large)


def test_wrong_addresses_and_topics_are_one_clear_line(kafka, kafka_topics, namespace):
    address = f"127.0.0.1:{free_port()}"
    with pytest.raises(BrokerError, match=f"No Kafka broker answers at {address}"):
        Publisher(address, timeout=0.5)
    with pytest.raises(BrokerError, match=f"No Kafka broker answers at {address}"):
        results(address, timeout=0.5)
    with pytest.raises(BrokerError, match=r"has no topic nowhere\.schedule\.events"):
        Publisher(kafka, "nowhere")
    with pytest.raises(BrokerError, match=r"has no topic nowhere\.capture\.results"):
        results(kafka, namespace="nowhere")
    with pytest.raises(UsageError, match="has 4 partitions, not 8"):
        Publisher(kafka_topics, namespace, 8)
    with pytest.raises(UsageError, match="Kafka settings cannot be used"):
        Publisher(kafka, client={"no.such.setting": "1"})


def test_a_number_of_partitions_that_cannot_be(kafka, namespace):
    topic = f"{namespace}.schedule.events"
    admin = AdminClient({"bootstrap.servers": kafka})
    admin.create_topics([NewTopic(topic, 3)])[topic].result()
    try:
        with pytest.raises(BrokerError, match="has 3 partitions; a power of two was expected"):
            Publisher(kafka, namespace)
    finally:
        admin.delete_topics([topic])[topic].result()


# --- results ------------------------------------------------------------------------------------


def result(command_id: int, device_id: str = "cam-1") -> CaptureResult:
    return CaptureResult(
        command_id=command_id,
        device_id=device_id,
        schedule_id="s",
        request_id="",
        epoch=1,
        nominal_ms=0,
        scheduled_ms=0,
        state="EXPIRED",
        cause="",
        attempt=0,
        ended_at_ms=0,
        shutter_at_ms=None,
        image=None,
        timings=None,
        transitions=(),
    )


class Executor:
    """Writes results as the state machine does: in transactions."""

    def __init__(self, kafka: str, namespace: str) -> None:
        self._topic = f"{namespace}.capture.results"
        self._producer = Producer(
            {"bootstrap.servers": kafka, "transactional.id": namespace + "e", "log_level": 0}
        )
        self._producer.init_transactions(WAIT_S)

    def write(self, *values: CaptureResult | bytes, abort: bool = False) -> None:
        self._producer.begin_transaction()
        for value in values:
            device_id = value.device_id if isinstance(value, CaptureResult) else "cam-1"
            data = CODEC.encode(value) if isinstance(value, CaptureResult) else value
            home = partition_of(device_id, PARTITIONS)
            self._producer.produce(self._topic, data, device_id.encode(), home)
        self._producer.flush(WAIT_S)
        if abort:
            self._producer.abort_transaction(WAIT_S)
        else:
            self._producer.commit_transaction(WAIT_S)


@pytest.fixture
def executor(kafka_topics, namespace):
    return Executor(kafka_topics, namespace)


@pytest.fixture
def reading(kafka_topics, namespace):
    @contextmanager
    def make(group=None, **options):
        with results(kafka_topics, group, namespace, **options) as found:
            yield found

    return make


def ids_of(found):
    return sorted(one.command_id for one in found)


def test_only_what_was_committed_is_read(reading, executor):
    executor.write(result(1))
    executor.write(result(2), abort=True)
    executor.write(result(3, "cam-2"))
    with reading(start="earliest", follow=False) as found:
        assert ids_of(found) == [1, 3]


def test_repeats_are_dropped_and_counted(reading, executor):
    executor.write(result(1), result(2), result(1))
    executor.write(result(2))
    with reading(start="earliest", follow=False) as found:
        assert ids_of(found) == [1, 2]
        assert found.repeats == 2


def test_what_cannot_be_read_is_skipped_counted_and_warned_of(reading, executor, caplog):
    executor.write(b"poison", result(1), b"", CODEC.encode(events.cancelled("cam-1", "s")))
    with (
        caplog.at_level(logging.WARNING),
        reading(start="earliest", follow=False) as found,
    ):
        assert ids_of(found) == [1]
        assert found.skipped == 3
    assert len([r for r in caplog.records if "was skipped" in r.message]) == 3


def test_without_a_group_it_begins_now(reading, executor):
    executor.write(result(1))
    with reading() as found:
        executor.write(result(2))
        assert found.next(WAIT_S).command_id == 2
        with pytest.raises(NoAnswerError, match="Check that workers run"):
            found.next(0.2)


def test_one_device(reading, executor):
    home = partition_of("cam-1", PARTITIONS)
    neighbour = next(name for n in range(100) if partition_of(name := f"x-{n}", PARTITIONS) == home)
    executor.write(result(1, neighbour), result(2), result(3, neighbour))
    with reading(start="earliest", follow=False, device="cam-1") as found:
        assert ids_of(found) == [2]


def test_a_group_goes_on_with_the_first_that_was_not_done(reading, executor):
    """At least once: what is in hand when a program ends comes again."""
    executor.write(*(result(n) for n in range(1, 6)))
    with reading("archive") as found:
        assert [found.next(WAIT_S).command_id for _ in range(3)] == [1, 2, 3]
    with reading("archive") as found:
        assert [found.next(WAIT_S).command_id for _ in range(2)] == [3, 4]
        found.commit()
    with reading("archive") as found:
        assert found.next(WAIT_S).command_id == 5
    with reading("another") as found:
        assert found.next(WAIT_S).command_id == 1


def test_a_group_stops_at_the_end_if_it_is_to(reading, executor):
    with reading("archive", follow=False) as found:
        assert list(found) == []
    executor.write(*(result(n, f"cam-{n}") for n in range(20)))
    with reading("archive", follow=False) as found:
        assert ids_of(found) == list(range(20))
        found.commit()
    with reading("archive", follow=False) as found:
        assert list(found) == []


def test_two_of_a_group_share_the_work(reading, executor):
    """Both are asked until all has come: who joins makes the other join again, once that is asked."""
    executor.write(*(result(n, f"cam-{n}") for n in range(200)))
    taken: set[int] = set()
    until_s = time.monotonic() + 2 * WAIT_S

    def work(reader):
        while len(taken) < 200 and time.monotonic() < until_s:
            with suppress(NoAnswerError):
                taken.add(reader.next(0.2).command_id)

    with reading("archive") as one, reading("archive") as two, ThreadPoolExecutor(2) as pool:
        list(pool.map(work, (one, two)))
    assert taken == set(range(200))


def test_the_groups_of_workers_are_not_joined(reading):
    with pytest.raises(UsageError, match="the workers' own"), reading("captures"):
        pass
    with pytest.raises(UsageError, match="has nothing to commit"), reading() as found:
        found.commit()


def test_a_closed_reader_ends(reading, executor):
    executor.write(result(1))
    with reading(start="earliest") as found:
        assert next(found).command_id == 1
    assert list(found) == []
