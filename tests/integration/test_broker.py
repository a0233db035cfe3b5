"""The embedded broker: starts, stops, survives, and does not outlive its owner (issue 3, point 2)."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys

import psutil
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from infra.kafka.broker import EmbeddedBroker
from infra.kafka.process import DataDirLock
from infra.kafka.settings import BrokerSettings
from schemas.errors import BrokerError

pytestmark = [pytest.mark.kafka, pytest.mark.usefixtures("prepared")]

TOPIC = "kept"


def make_topic(bootstrap: str) -> None:
    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.create_topics([NewTopic(TOPIC, num_partitions=1)])[TOPIC].result(30)


def write(bootstrap: str, values: range) -> None:
    """Return when every value is acknowledged."""
    failed: list[object] = []
    producer = Producer({"bootstrap.servers": bootstrap, "acks": "all", "linger.ms": 0})
    for value in values:
        producer.produce(
            TOPIC, str(value), partition=0, on_delivery=lambda e, _m: e and failed.append(e)
        )
    assert producer.flush(30) == 0
    assert not failed


def read(bootstrap: str) -> list[int]:
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "reader"})
    try:
        _, end = consumer.get_watermark_offsets(TopicPartition(TOPIC, 0), timeout=30)
        consumer.assign([TopicPartition(TOPIC, 0, 0)])
        values: list[int] = []
        while len(values) < end:
            messages = consumer.consume(end - len(values), timeout=30)
            assert messages, "the broker has fewer records than it says"
            values.extend(int(message.value()) for message in messages)
        return values
    finally:
        consumer.close()


def test_data_and_port_survive_a_stop_a_kill_and_a_new_owner(tmp_path):
    """One life of a data folder; the folder's name is one that Java could trip over."""
    folder = tmp_path / "Bild er = ü:📷"
    first = EmbeddedBroker(folder)
    bootstrap = first.start()
    try:
        make_topic(bootstrap)
        write(bootstrap, range(100))
        first.stop()
        assert not first.alive()

        assert first.start() == bootstrap
        assert read(bootstrap) == list(range(100))
        write(bootstrap, range(100, 200))

        os.kill(first.pid, signal.SIGKILL)
        assert first.wait(30) == -signal.SIGKILL
        assert (first.alive(), first.poll()) == (False, -signal.SIGKILL)
        assert first.failure().line() == "The broker was ended from outside by SIGKILL."
        assert first.start() == bootstrap
        assert read(bootstrap) == list(range(200))
    finally:
        first.stop()

    with EmbeddedBroker(folder) as second:
        assert second.bootstrap == bootstrap
        assert second.start() == bootstrap  # It runs already.
        assert read(bootstrap) == list(range(200))
        with pytest.raises(BrokerError, match=f"in use by process {os.getpid()}: stop that"):
            EmbeddedBroker(folder).start()
        assert second.alive()


OWNER = """
import sys, threading
from pathlib import Path
from infra.kafka.broker import EmbeddedBroker
broker = EmbeddedBroker(Path(sys.argv[1]))
# Started in a thread that ends: the broker belongs to the process, not to the thread.
thread = threading.Thread(target=broker.start)
thread.start()
thread.join()
print(broker.pid, broker.bootstrap, flush=True)
sys.stdin.read()
"""


def test_it_does_not_outlive_an_owner_that_is_killed(tmp_path):
    """And the next owner gets the folder, without waiting for a person."""
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with owner:
        pid, bootstrap = owner.stdout.readline().split()
        kafka = psutil.Process(int(pid))
        make_topic(bootstrap)
        write(bootstrap, range(10))
        owner.kill()
        owner.wait(30)
    with EmbeddedBroker(tmp_path) as second:
        assert not kafka.is_running() or kafka.status() == psutil.STATUS_ZOMBIE
        assert second.bootstrap == bootstrap
        assert read(bootstrap) == list(range(10))


def test_a_port_that_is_taken_is_one_clear_line_with_the_program(tmp_path):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(BrokerError, match=f"Port {port} of 127.0.0.1 is taken") as caught:
            EmbeddedBroker(tmp_path, BrokerSettings(port=port)).start()
    assert f"(process {os.getpid()})" in caught.value.line()
    assert "\n" not in caught.value.line()


def test_a_remembered_port_that_is_taken_meanwhile_is_given_up(tmp_path):
    """Nobody asked for that number: another is taken instead of an error."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        (tmp_path / "broker.json").write_text(json.dumps({"port": port}))
        with EmbeddedBroker(tmp_path) as broker:
            assert broker.bootstrap != f"127.0.0.1:{port}"


def test_a_full_disk_is_one_clear_line(tmp_path):
    settings = BrokerSettings(min_free_mib=1 << 40)
    with pytest.raises(BrokerError, match=r"The disk of .* is full: \d+ MiB are free"):
        EmbeddedBroker(tmp_path, settings).start()


def test_a_folder_that_cannot_be_made_is_one_clear_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BrokerError, match="cannot be used: Not a directory"):
        EmbeddedBroker(tmp_path / "file" / "data").start()
    with pytest.raises(BrokerError, match="comma"):
        EmbeddedBroker(tmp_path / "a,b").start()


def test_a_broker_that_dies_at_the_start_says_why(tmp_path):
    """A damaged folder: the reason is Kafka's own, and the folder is free again after."""
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "meta.properties").write_text("version=1\nnode.id=7\ncluster.id=abc\n")
    broker = EmbeddedBroker(tmp_path)
    with pytest.raises(BrokerError, match=r"The broker ended: .*node.id") as caught:
        broker.start()
    assert "\n" not in caught.value.line()
    assert not broker.alive()
    lock = DataDirLock(tmp_path)
    lock.acquire()
    lock.release()


def test_a_heap_that_java_refuses_is_one_clear_line(tmp_path):
    with pytest.raises(BrokerError, match=r"The broker ended: .*heap"):
        EmbeddedBroker(tmp_path, BrokerSettings(heap_mib=1)).start()
