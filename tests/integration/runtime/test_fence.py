"""One transaction against a real coordinator; DESIGN.md, "Exactly once", bullets "The fence",
"Group metadata bytes" and "An unknown or fatal producer error".

The members here are real Consumers, so that each test decides when the generation moves on.
"""

from __future__ import annotations

import struct
import time
from typing import Any

import pytest
from confluent_kafka import Consumer
from confluent_kafka.admin import AdminClient, NewTopic
from runtime_harness import IN, LOG, OUT, Site, wait_until

from infra.kafka.topics import topic_name
from schemas.errors import BrokerError, ClockError, FencedError
from streams.runtime.batch import Batch
from streams.runtime.group import Membership
from streams.runtime.settings import RuntimeSettings
from streams.runtime.transaction import Transactor

STAMPED = "probe.stamped"


class Member:
    """A Consumer in the group; it keeps its place only while it is polled."""

    def __init__(self, site: Site) -> None:
        self.consumer = Consumer(
            {
                "bootstrap.servers": site.kafka,
                "group.id": f"{site.namespace}.captures",
                "session.timeout.ms": 10_000,
                "heartbeat.interval.ms": 100,
            }
        )
        self.consumer.subscribe([topic_name(site.namespace, IN)])

    def membership(self) -> Membership:
        """Take the bytes apart in which librdkafka tells it."""
        metadata = self.consumer.consumer_group_metadata()
        magic, rest = metadata[:7], metadata[7:]
        assert magic == b"CGMDv2:"
        (generation,) = struct.unpack("<i", rest[:4])
        _, member, _ = rest[4:].split(b"\0", 2)
        return Membership(generation, member.decode())


@pytest.fixture
def members(site):
    joined: list[Member] = []

    def join() -> list[Member]:
        joined.append(Member(site))

        def stable() -> bool:
            for member in joined:
                member.consumer.poll(0.02)
            generations = {m.membership().generation for m in joined}
            owned = [len(m.consumer.assignment()) for m in joined]
            return sum(owned) == site.partitions and len(generations) == 1 and min(generations) > 0

        wait_until("the group is stable", stable)
        return joined

    yield join
    for member in joined:
        member.consumer.close()


@pytest.fixture
def transactor(site, tmp_path):
    def make(slot: str = "0", now_ms=lambda: int(time.time() * 1000), **more: Any) -> Transactor:
        settings = RuntimeSettings(
            app="captures",
            slot=slot,
            bootstrap=site.kafka,
            namespace=site.namespace,
            data_dir=tmp_path,
            **more,
        )
        made = Transactor(settings, lambda name: topic_name(site.namespace, name), now_ms)
        made.start()
        transactors.append(made)
        return made

    transactors: list[Transactor] = []
    yield make
    for one in transactors:
        one.close()


def a_batch(membership: Membership, value: bytes, *, offset: int = 0, partition: int = 0) -> Batch:
    return Batch(
        membership,
        outputs={OUT: [(b"k", value, partition)], LOG: [(b"k", value, partition)]},
        partitions={partition},
        offsets={(IN, partition): offset},
    )


def visible(site, name: str = OUT) -> list[bytes | None]:
    return [value for rows in site.reader.read(name).values() for _, _, value in rows]


def test_a_transaction_of_the_generation_in_force_is_committed_whole(site, members, transactor):
    membership = members()[0].membership()
    done = transactor().perform(a_batch(membership, b"1", offset=7), frozenset({LOG}))
    assert visible(site) == visible(site, LOG) == [b"1"]
    assert site.reader.committed("captures")[0] == 7
    assert done.changelog_offsets == {(LOG, 0): 1}


def test_a_transaction_of_an_older_generation_is_refused(site, members, transactor):
    """Bullet "The fence": nothing of it is visible, and the offsets stay where they are."""
    old = members()[0].membership()
    writer = transactor()
    writer.perform(a_batch(old, b"before", offset=3), frozenset())
    new = members()[0].membership()
    assert new.generation > old.generation
    with pytest.raises(FencedError):
        writer.perform(a_batch(old, b"late", offset=9), frozenset())
    assert visible(site) == visible(site, LOG) == [b"before"]
    assert site.reader.committed("captures")[0] == 3


def test_a_partition_that_only_writes_is_fenced_by_its_unchanged_offset(site, members, transactor):
    """Bullet "The fence": work of the clock reads nothing, and is fenced all the same."""
    old = members()[0].membership()
    writer = transactor()
    for value in (b"tick 1", b"tick 2"):
        writer.perform(a_batch(old, value, offset=5, partition=1), frozenset())
    assert site.reader.committed("captures")[1] == 5
    members()
    with pytest.raises(FencedError):
        writer.perform(a_batch(old, b"tick 3", offset=5, partition=1), frozenset())
    assert visible(site) == [b"tick 1", b"tick 2"]


def test_without_offsets_there_is_no_transaction(site, members, transactor):
    """An empty list of offsets sends nothing and fences nothing."""
    batch = a_batch(members()[0].membership(), b"unfenced")
    batch.offsets.clear()
    with pytest.raises(FencedError, match="without offsets"):
        transactor().perform(batch, frozenset())
    assert visible(site) == []


def test_the_broker_does_not_check_who_is_in_no_group(site, members, transactor):
    """Why ``Group.membership`` is None for (-1, ""): the broker lets it pass beside a live group."""
    members()
    transactor().perform(a_batch(Membership(-1, ""), b"unchecked"), frozenset())
    assert visible(site) == [b"unchecked"]


def test_an_invented_member_is_refused(site, members, transactor):
    generation = members()[0].membership().generation
    with pytest.raises(FencedError):
        transactor().perform(a_batch(Membership(generation, "nobody"), b"x"), frozenset())
    assert visible(site) == []


def test_a_restarted_slot_fences_its_forerunner(site, members, transactor):
    """A fixed transactional.id a slot: the second process of a slot ends the first."""
    membership = members()[0].membership()
    first = transactor("7")
    first.perform(a_batch(membership, b"first"), frozenset())
    second = transactor("7")
    with pytest.raises(FencedError):
        first.perform(a_batch(membership, b"zombie"), frozenset())
    second.perform(a_batch(membership, b"second"), frozenset())
    assert visible(site) == [b"first", b"second"]


def test_more_than_a_request_holds_goes_out_whole_and_in_order(site, members, transactor):
    """A partition has one batch a request; the rest follows in further ones."""
    wanted = [b"%d" % n for n in range(500)]
    batch = a_batch(members()[0].membership(), b"first")
    batch.outputs[OUT] = [(b"k", value, 0) for value in wanted]
    done = transactor(request_bytes=1_000).perform(batch, frozenset({OUT, LOG}))
    assert visible(site) == wanted
    assert done.changelog_offsets == {(OUT, 0): 500, (LOG, 0): 1}


def test_a_delivery_that_fails_shows_nothing(site, members, transactor):
    """The broker takes a megabyte a record; the record beside the large one is not seen either."""
    batch = a_batch(members()[0].membership(), b"beside", offset=1)
    batch.outputs[OUT].append((b"k", b"." * 1_500_000, 1))
    with pytest.raises(BrokerError, match=r"(?i)too large"):
        transactor().perform(batch, frozenset({LOG}))
    assert visible(site) == visible(site, LOG) == []


@pytest.fixture
def stamped(site):
    """A topic that the broker stamps with its own time."""
    admin = AdminClient({"bootstrap.servers": site.kafka})
    name = topic_name(site.namespace, STAMPED)
    made = NewTopic(name, site.partitions, 1, config={"message.timestamp.type": "LogAppendTime"})
    admin.create_topics([made])[name].result()
    yield STAMPED
    admin.delete_topics([name])[name].exception()


def a_clocked_batch(membership: Membership, value: bytes) -> Batch:
    made = a_batch(membership, value)
    made.outputs[STAMPED] = made.outputs.pop(OUT)
    made.clocked.add(STAMPED)
    return made


def now_ms() -> int:
    return time.time_ns() // 1_000_000


@pytest.mark.parametrize("skew_ms", [-2_600, 2_600])
def test_a_clock_that_differs_from_the_brokers_stops_before_the_commit(
    site, members, transactor, stamped, skew_ms
):
    """Max skew (DESIGN.md, "Ticks"): nothing of the transaction is visible."""
    membership = members()[0].membership()
    marks = frozenset({STAMPED})
    done = transactor("1").perform(a_clocked_batch(membership, b"right"), marks)
    assert done.changelog_offsets == {(STAMPED, 0): 1}, "a clocked topic may be a changelog"
    wrong = transactor("2", now_ms=lambda: now_ms() + skew_ms)
    with pytest.raises(ClockError):
        wrong.perform(a_clocked_batch(membership, b"wrong"), marks)
    assert visible(site, STAMPED) == visible(site, LOG) == [b"right"]


def test_a_broker_that_answers_late_is_no_wrong_clock(site, members, transactor, stamped):
    """The record was appended between the two looks at the clock; the answer took five seconds."""
    looks = iter([0, 5_000])
    writer = transactor(now_ms=lambda: now_ms() + next(looks))
    writer.perform(a_clocked_batch(members()[0].membership(), b"late"), frozenset())
    assert visible(site, STAMPED) == [b"late"]
