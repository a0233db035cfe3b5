"""A transaction whose calls do not come back, without a broker: the producer is a fake."""

from __future__ import annotations

import threading

import pytest

from schemas.errors import BrokerError, FencedError
from streams.runtime import transaction
from streams.runtime.batch import Batch
from streams.runtime.group import Membership
from streams.runtime.settings import RuntimeSettings
from streams.runtime.transaction import Transactor


class Fake:
    """A producer that does nothing but note its calls; ``sending`` is what sending offsets does."""

    def __init__(self, sending) -> None:
        self.calls: list[str] = []
        self._sending = sending

    def begin_transaction(self) -> None:
        self.calls.append("begin")

    def produce(self, *_arguments) -> None:
        self.calls.append("produce")

    def poll(self, _timeout) -> int:
        return 0

    def flush(self, _timeout) -> int:
        return 0

    def send_offsets_to_transaction(self, *_arguments) -> None:
        self.calls.append("send")
        self._sending()

    def commit_transaction(self, _timeout) -> None:
        self.calls.append("commit")

    def abort_transaction(self, _timeout) -> None:
        self.calls.append("abort")


@pytest.fixture
def perform(tmp_path, monkeypatch):
    """Commit a batch of one record; returns the fake."""
    monkeypatch.setattr(transaction, "_AFTER_TIMEOUT_S", 0.0)
    settings = RuntimeSettings(
        "captures", "0", "127.0.0.1:9", tmp_path, transaction_timeout_ms=1_000
    )

    def run(sending) -> Fake:
        transactor = Transactor(settings, lambda name: name, lambda: 0)
        fake = Fake(sending)
        monkeypatch.setattr(transactor, "_producer", fake)
        batch = Batch(
            Membership(1, "m"), outputs={"out": [(b"k", b"v", 0)]}, offsets={("in", 0): 1}
        )
        run.fake = fake
        transactor.perform(batch, frozenset())
        return fake

    return run


def test_offsets_that_are_sent_are_committed(perform):
    assert perform(lambda: None).calls == ["begin", "produce", "send", "commit"]


def test_offsets_that_are_never_answered_end_the_worker(perform):
    """librdkafka #5456, #5511: the coordinator's broker is gone, and the call never returns."""
    forever = threading.Event()
    with pytest.raises(BrokerError, match="did not come back in 1 s"):
        perform(lambda: forever.wait(20))
    assert perform.fake.calls == ["begin", "produce", "send", "abort"]
    forever.set()


def test_an_error_of_the_thread_is_the_callers(perform):
    def refused():
        raise FencedError("the generation has passed")

    with pytest.raises(FencedError):
        perform(refused)
    assert perform.fake.calls[-1] == "abort"
