"""The one definition of topics (DESIGN 'Arrows', SPEC 1.9)."""

from __future__ import annotations

import pytest

from infra.kafka.topics import (
    MAX_PARTITIONS,
    TOPICS,
    check_partitions,
    names,
    topic,
    topic_name,
)
from schemas.errors import UsageError
from schemas.records import RECORDS

DESIGN = {
    "schedule.events": "delete",
    "schedule.ticks": "delete",
    "schedule.decisions": "delete",
    "capture.commands": "delete",
    "capture.results": "delete",
    "device.heartbeats": "delete",
    "device.loads": "delete",
    "device.profiles": "compact",
    "device.events": "delete",
    "dead.letters": "delete",
    "wheel.schedules.changelog": "compact",
    "wheel.shards.changelog": "compact",
    "wheel.requests.changelog": "compact",
    "wheel.facts.changelog": "compact",
    "captures.captures.changelog": "compact",
    "captures.profiles.changelog": "compact",
    "devices.health.changelog": "compact",
}


def test_every_topic_of_the_design_is_there_with_its_cleanup():
    assert {spec.name: spec.cleanup for spec in TOPICS} == DESIGN


def test_every_record_has_a_topic():
    assert {record for spec in TOPICS for record in spec.records} == set(RECORDS)


def test_a_record_type_has_one_topic_but_for_the_copy_of_profiles():
    """A reader tells record types apart by their schema, not by guessing among topics."""
    homes: dict[str, list[str]] = {}
    for spec in TOPICS:
        for record in spec.records:
            homes.setdefault(record.__name__, []).append(spec.name)
    shared = {record: topics for record, topics in homes.items() if len(topics) > 1}
    assert shared == {"DeviceProfile": ["device.profiles", "captures.profiles.changelog"]}


def test_the_brokers_time_stands_where_a_clock_decides():
    """Wheel, captures and devices compare their clock with it before a commit that it decides."""
    stamped = {spec.name for spec in TOPICS if spec.timestamp_type == "LogAppendTime"}
    assert stamped == {
        "schedule.ticks",
        "captures.captures.changelog",
        "device.heartbeats",
        "devices.health.changelog",
    }


def test_a_compacted_topic_keeps_the_newest_record_of_a_key_for_ever():
    for spec in TOPICS:
        assert (spec.retention_ms == -1) == (spec.cleanup == "compact"), spec.name


def test_the_audit_log_outlives_what_it_explains():
    """A result or command must not be kept longer than the tick that decided it."""
    ticks = topic("schedule.ticks").retention_ms
    for name in ("capture.commands", "capture.results", "schedule.decisions"):
        assert topic(name).retention_ms <= ticks


def test_a_dead_letter_has_room_for_the_largest_record():
    largest = 1_048_588  # Kafka's default for a batch of records
    assert int(topic("dead.letters").config(1)["max.message.bytes"]) > largest * 1.5


def test_a_segment_is_shorter_than_the_retention():
    """Kafka drops whole closed segments: a longer one would keep heartbeats for a week."""
    heartbeats = topic("device.heartbeats")
    assert int(heartbeats.config(1)["segment.ms"]) < heartbeats.retention_ms


@pytest.mark.parametrize("spec", TOPICS, ids=lambda spec: spec.name)
def test_an_index_holds_a_whole_segment_and_little_more(spec):
    """One that was full sooner would close segments early; Kafka's 10 MiB are mostly hole."""
    config = spec.config(1)
    most = int(config["segment.bytes"]) // 4096 * 12  # an entry of the time index each 4 kB
    assert most < int(config["segment.index.bytes"]) < 2 * most


@pytest.mark.parametrize(("replication", "copies"), [(1, "1"), (2, "1"), (3, "2")])
def test_min_insync_replicas_follow_the_replication(replication, copies):
    for spec in TOPICS:
        assert spec.config(replication)["min.insync.replicas"] == copies


def test_the_namespace_stands_before_the_name():
    assert topic_name("", "schedule.events") == "schedule.events"
    assert topic_name("sandbox", "schedule.events") == "sandbox.schedule.events"
    assert names("x")[0] == "x.schedule.events"


@pytest.mark.parametrize("namespace", ["a.b", "a b", "-a", "ä", "a/b", "x" * 65, "\n"])
def test_a_bad_namespace_is_refused_in_a_sentence(namespace):
    with pytest.raises(UsageError, match="namespace"):
        topic_name(namespace, "schedule.events")


def test_partitions_are_powers_of_two_up_to_the_shards():
    good = {1 << n for n in range(11)}
    assert max(good) == MAX_PARTITIONS
    for partitions in good:
        assert check_partitions(partitions) == partitions
    for partitions in set(range(-2, 3 * MAX_PARTITIONS)) - good:
        with pytest.raises(UsageError, match=str(partitions)):
            check_partitions(partitions)
