"""Topics on a real broker: created once, compared, never changed (issue 3, point 2)."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from confluent_kafka.admin import AdminClient, NewTopic

from infra.kafka.admin import create_topics, describe_topics, drop_topics, topics_a_request
from infra.kafka.broker import EmbeddedBroker
from infra.kafka.ports import free_port
from infra.kafka.settings import BrokerSettings
from infra.kafka.topics import TOPICS, topic_name
from schemas.errors import BrokerError, UsageError


@pytest.fixture
def sandbox(kafka, namespace):
    yield namespace
    drop_topics(kafka, namespace)


def test_creating_twice_changes_nothing(kafka, sandbox):
    wanted = {topic_name(sandbox, spec.name) for spec in TOPICS}
    first = create_topics(kafka, sandbox, 2)
    second = create_topics(kafka, sandbox, 2)
    assert (set(first.created), first.existing, first.differences) == (wanted, (), ())
    assert (second.created, set(second.existing), second.differences) == ((), wanted, ())


def test_what_was_asked_for_is_what_the_broker_has(kafka, sandbox):
    create_topics(kafka, sandbox, 2)
    for row in describe_topics(kafka, sandbox, 2):
        assert (row.actual_partitions, row.actual_replication) == (2, 1)
        assert row.actual == row.wanted, row.name


def test_one_request_creates_no_more_than_a_controller_takes():
    """It refuses more than 10,000 partitions: seventeen topics of 1,024."""
    assert topics_a_request(8) >= len(TOPICS)
    assert topics_a_request(512) * 512 < 10_000 < len(TOPICS) * 1_024
    assert 1 <= topics_a_request(1_024) * 1_024 < 10_000


@pytest.mark.long
def test_as_many_partitions_as_there_are_shards_can_be_made(tmp_path):
    """1,024 of each topic, on a broker of its own: the greatest number that is promised."""
    settings = BrokerSettings(partitions=1_024 * len(TOPICS))
    with EmbeddedBroker(tmp_path, settings) as broker:
        report = create_topics(broker.bootstrap, "many", 1_024)
        assert len(report.created) == len(TOPICS)
        assert not report.differences
        rows = describe_topics(broker.bootstrap, "many", 1_024)
    assert {row.actual_partitions for row in rows} == {1_024}


def test_describing_what_is_not_there(kafka, namespace):
    rows = describe_topics(kafka, namespace, 2)
    assert len(rows) == len(TOPICS)
    assert not any(row.exists or row.differences or row.actual for row in rows)


def test_what_differs_is_said_and_left_as_it_is(kafka, sandbox):
    ticks, profiles = (topic_name(sandbox, n) for n in ("schedule.ticks", "device.profiles"))
    admin = AdminClient({"bootstrap.servers": kafka})
    made = admin.create_topics(
        [
            NewTopic(
                ticks,
                num_partitions=3,
                config={"message.timestamp.type": "LogAppendTime", "retention.ms": "2592000000"},
            ),
            NewTopic(profiles, num_partitions=2, config={"retention.ms": "-1"}),
        ]
    )
    for future in made.values():
        future.result()
    report = create_topics(kafka, sandbox, 2)
    assert set(report.existing) == {ticks, profiles}
    assert sorted(report.differences) == [
        f"Topic {profiles} has cleanup.policy=delete, compact was expected; it was left as it is.",
        f"Topic {ticks} has 3 partitions, 2 were expected; it was left as it is.",
    ]
    rows = {row.name: row for row in describe_topics(kafka, sandbox, 2)}
    assert rows[ticks].actual_partitions == 3


def test_two_programs_may_create_at_the_same_time(kafka, sandbox):
    with ThreadPoolExecutor(2) as pool:
        reports = list(pool.map(lambda _: create_topics(kafka, sandbox, 1), range(2)))
    created = [name for report in reports for name in report.created]
    assert sorted(created) == sorted(topic_name(sandbox, spec.name) for spec in TOPICS)


def test_production_topics_are_not_dropped(kafka):
    with pytest.raises(UsageError, match="production"):
        drop_topics(kafka, "")


def test_a_wrong_address_is_one_clear_line(monkeypatch):
    monkeypatch.setattr("infra.kafka.admin.ANSWER_TIMEOUT_S", 0.5)
    address = f"127.0.0.1:{free_port()}"
    with pytest.raises(BrokerError, match=f"No Kafka broker answers at {address}") as caught:
        create_topics(address, "", 2)
    assert "\n" not in caught.value.line()
