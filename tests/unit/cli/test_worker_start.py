"""A worker that starts waits for its broker, for as long as a commit would, or until told to stop."""

from __future__ import annotations

import asyncio

import pytest

from schemas.errors import BrokerError
from shutterwheel import supervisor, worker
from streams.runtime.settings import RuntimeSettings


class Kafka:
    """Answers from the n-th question on."""

    def __init__(self, answers_from: float) -> None:
        self.asked = 0
        self._answers_from = answers_from

    def metadata(self, _admin, bootstrap):
        self.asked += 1
        if self.asked < self._answers_from:
            raise BrokerError(f"No Kafka broker answers at {bootstrap}.")
        return "metadata"


async def ask(monkeypatch, kafka, patience_s, stop=None):
    monkeypatch.setattr(worker, "cluster_metadata", kafka.metadata)
    return await worker._metadata(None, "127.0.0.1:9", patience_s, stop or asyncio.Event())


async def test_it_asks_until_kafka_answers(monkeypatch):
    kafka = Kafka(answers_from=3)
    assert await ask(monkeypatch, kafka, 60.0) == "metadata"
    assert kafka.asked == 3


async def test_its_patience_ends(monkeypatch):
    with pytest.raises(BrokerError):
        await ask(monkeypatch, Kafka(answers_from=float("inf")), 0.05)


async def test_it_does_not_wait_when_it_is_told_to_stop(monkeypatch):
    stop = asyncio.Event()
    stop.set()
    kafka = Kafka(answers_from=float("inf"))
    with pytest.raises(BrokerError):
        await ask(monkeypatch, kafka, 60.0, stop)
    assert kafka.asked == 1


def test_a_life_spent_waiting_is_no_short_one(tmp_path):
    """Else the supervisor would give a worker up in an outage of some minutes."""
    settings = RuntimeSettings("wheel", "0", "127.0.0.1:9", tmp_path)
    assert settings.broker_patience_ms / 1000.0 >= supervisor.STEADY_S
