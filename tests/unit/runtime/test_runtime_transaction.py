"""A transaction against a broker whose every answer can be wrong, late or lost (fake_broker.py).

DESIGN.md, "Exactly once": whatever is asked again is taken once; who is fenced writes no more.
"""

from __future__ import annotations

import time

import pytest
from fake_broker import LOST, SILENT, UNHEARD, FakeBroker

from schemas.errors import BrokerError, ClockError, FencedError, UsageError
from streams.runtime import transaction
from streams.runtime.batch import Batch
from streams.runtime.group import Membership
from streams.runtime.settings import RuntimeSettings
from streams.runtime.transaction import Transactor

ILLEGAL_GENERATION, NOT_LEADER, TOO_LARGE, INVALID_TIMESTAMP = 22, 6, 10, 32
NOT_COORDINATOR, LOADING, CONCURRENT, FENCED, NOT_ATTEMPTED = 16, 14, 51, 90, 55
A_TRANSACTION = ["offsets to", "partitions", "produce", "offsets", "end"]


@pytest.fixture
def broker():
    with FakeBroker() as made:
        yield made


@pytest.fixture
def transactor(broker, tmp_path):
    made = []

    def make(now_ms=lambda: int(time.time() * 1000), **more) -> Transactor:
        address = f"127.0.0.1:{broker.port}"
        settings = RuntimeSettings("captures", "0", address, tmp_path, **more)
        made.append(Transactor(settings, lambda name: f"n.{name}", now_ms))
        made[-1].start()
        broker.calls.clear()
        return made[-1]

    yield make
    for one in made:
        one.close()


def a_batch(*values: bytes, partition: int = 0) -> Batch:
    return Batch(
        Membership(3, "member"),
        outputs={"out": [(b"k", value, partition) for value in values]},
        partitions={partition},
        offsets={("in", partition): 5},
    )


def written(broker, partition: int = 0) -> list[bytes | None]:
    return [value for _, value in broker.log["n.out", partition]]


def calls(broker) -> list[str]:
    """Return what was asked, but for who leads and coordinates."""
    return [call for call in broker.calls if call not in ("metadata", "coordinator")]


def test_a_transaction_asks_five_things_and_waits_four_times(broker, transactor):
    done = transactor().perform(a_batch(b"1", b"2"), frozenset({"out"}))
    assert calls(broker) == A_TRANSACTION
    assert written(broker) == [b"1", b"2"]
    assert done.changelog_offsets == {("out", 0): 2}
    assert broker.ends == [(0, True)]


def test_who_leads_and_coordinates_is_asked_once(broker, transactor):
    writer = transactor()
    writer.perform(a_batch(b"1"), frozenset())
    broker.calls.clear()
    writer.perform(a_batch(b"2"), frozenset())
    assert broker.calls == A_TRANSACTION


@pytest.mark.parametrize("lost", [LOST, UNHEARD, SILENT])
@pytest.mark.parametrize("request_", A_TRANSACTION)
def test_what_is_asked_again_is_taken_once(broker, transactor, monkeypatch, request_, lost):
    """At each request in turn: nothing is doubled, nothing lost, and the next one follows on."""
    monkeypatch.setattr(transaction, "_ANSWER_S", 0.3)
    writer = transactor()
    writer.perform(a_batch(b"1"), frozenset())
    broker.script[request_].append(lost)
    done = writer.perform(a_batch(b"2", b"3"), frozenset({"out"}))
    assert done.changelog_offsets == {("out", 0): 3}
    writer.perform(a_batch(b"4"), frozenset())
    assert written(broker) == [b"1", b"2", b"3", b"4"]
    assert all(commit for _, commit in broker.ends)


def test_a_commit_that_was_asked_for_again_cannot_end_the_next_transaction(broker, transactor):
    """What is still on its way has an epoch that has passed."""
    writer = transactor()
    broker.script["end"].append(LOST)
    writer.perform(a_batch(b"1"), frozenset())
    assert calls(broker)[-2:] == ["end", "init"]
    writer.perform(a_batch(b"2"), frozenset())
    assert broker.ends == [(0, True), (0, True), (1, True)]
    assert written(broker) == [b"1", b"2"]


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        ("partitions", CONCURRENT),  # the markers of the last one are still being written
        ("partitions", NOT_ATTEMPTED),  # one of them is not known to this broker yet
        ("offsets to", LOADING),
        ("produce", NOT_LEADER),
        ("offsets", NOT_COORDINATOR),
        ("end", NOT_COORDINATOR),
        ("coordinator", 15),
        ("metadata", 5),
    ],
)
def test_not_now_and_not_here_are_asked_again(broker, transactor, request_, error):
    broker.script[request_].extend([error] * 3)
    writer = transactor()
    writer.perform(a_batch(b"1"), frozenset())
    assert written(broker) == [b"1"]
    assert broker.ends == [(0, True)]


def test_many_partitions_are_registered_once_the_last_ones_have_their_markers(broker, transactor):
    """A broker takes 20 ms to say "not now" of 3,000 partitions, and the offsets ask the same."""
    broker.partitions = 128
    batch = a_batch()
    batch.outputs["out"] = [(b"k", b"%d" % number, number) for number in range(128)]
    broker.script["offsets to"].extend([CONCURRENT] * 3)
    transactor().perform(batch, frozenset())
    assert calls(broker) == ["offsets to"] * 3 + A_TRANSACTION
    assert all(written(broker, number) == [b"%d" % number] for number in range(128))


def test_who_moved_is_looked_up_anew(broker, transactor):
    writer = transactor()
    writer.perform(a_batch(b"1"), frozenset())
    broker.calls.clear()
    broker.script["produce"].append(NOT_LEADER)
    broker.script["offsets"].append(NOT_COORDINATOR)
    writer.perform(a_batch(b"2"), frozenset())
    assert broker.calls.count("metadata") == broker.calls.count("coordinator") == 1


@pytest.mark.parametrize(
    ("request_", "error"),
    [("offsets", ILLEGAL_GENERATION), ("partitions", FENCED), ("produce", 47), ("end", FENCED)],
)
def test_who_is_fenced_is_told_so_and_aborts(broker, transactor, request_, error):
    writer = transactor()
    broker.script[request_].append(error)
    with pytest.raises(FencedError):
        writer.perform(a_batch(b"1"), frozenset())
    assert broker.ends == [(0, False)]


def test_an_append_that_is_refused_ends_the_worker(broker, transactor):
    broker.script["produce"].append(TOO_LARGE)
    with pytest.raises(BrokerError, match=r"(?i)too large"):
        transactor().perform(a_batch(b"1"), frozenset())
    assert broker.ends == [(0, False)]


def test_a_clock_that_is_wrong_is_known_before_offsets_are_sent(broker, transactor):
    writer = transactor(max_skew_ms=2_000)
    broker.stamp_ms = int(time.time() * 1000) - 5_000
    batch = a_batch(b"1")
    batch.clocked.add("out")
    with pytest.raises(ClockError, match=r"5,\d\d\d ms"):
        writer.perform(batch, frozenset())
    assert "offsets" not in broker.calls
    assert broker.ends == [(0, False)]


def test_a_clock_that_a_broker_refuses_is_a_wrong_clock(broker, transactor):
    """Brokers take no record from an hour ahead (message.timestamp.after.max.ms)."""
    broker.script["produce"].append(INVALID_TIMESTAMP)
    with pytest.raises(ClockError, match="hours off"):
        transactor().perform(a_batch(b"1"), frozenset())
    assert broker.ends == [(0, False)]


def test_a_broker_that_never_answers_ends_the_worker(broker, transactor, monkeypatch):
    monkeypatch.setattr(transaction, "_ANSWER_S", 0.2)
    writer = transactor()
    writer._patience_s = 0.5  # its start may take a busy machine longer
    broker.script["produce"].extend([SILENT] * 1_000)
    with pytest.raises(BrokerError, match="appending"):
        writer.perform(a_batch(b"1"), frozenset())


def test_offsets_are_awaited_no_longer_than_the_transaction_lives(broker, transactor, monkeypatch):
    """The broker has aborted it by then: to wait longer only keeps others from taking over."""
    monkeypatch.setattr(transaction, "_ANSWER_S", 0.2)
    monkeypatch.setattr(transaction, "_AFTER_TIMEOUT_S", 0.0)
    writer = transactor(transaction_timeout_ms=1_000)
    broker.script["offsets"].extend([NOT_COORDINATOR] * 1_000)
    with pytest.raises(BrokerError, match=r"sending offsets.*for 1 s"):
        writer.perform(a_batch(b"1"), frozenset())


def test_brokers_that_cannot_fence_are_refused_in_one_line(broker, transactor):
    """KIP-447 came with TxnOffsetCommit 3, in Kafka 2.5."""
    broker.versions[28] = (0, 2)
    with pytest.raises(UsageError, match=r"TxnOffsetCommit in version 3.*Kafka 2\.5") as caught:
        transactor()
    assert "\n" not in caught.value.line()


def test_more_than_a_request_holds_goes_in_rounds(broker, transactor):
    """A partition's batches go one after another; another partition does not wait for them."""
    batch = a_batch(*(b"%d" % n for n in range(300)))
    batch.outputs["out"].append((b"k", b"beside", 1))
    done = transactor(request_bytes=1_000).perform(batch, frozenset({"out"}))
    assert written(broker) == [b"%d" % n for n in range(300)]
    assert written(broker, 1) == [b"beside"]
    assert broker.calls.count("produce") >= 4
    assert done.changelog_offsets == {("out", 0): 300, ("out", 1): 1}


def test_offsets_alone_are_a_transaction(broker, transactor):
    batch = a_batch()
    batch.outputs.clear()
    transactor().perform(batch, frozenset())
    assert calls(broker) == ["offsets to", "offsets", "end"]
