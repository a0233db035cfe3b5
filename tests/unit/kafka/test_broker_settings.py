"""What the embedded broker is told."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from infra.kafka.settings import (
    BrokerSettings,
    escaped,
    heap_for,
    java_flags,
    log_properties,
    server_properties,
)


def parsed(text: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in text.splitlines() if line)


def test_it_listens_on_loopback_only():
    settings = parsed(server_properties(Path("/data"), 9092, 9093))
    assert settings["listeners"] == "PLAINTEXT://127.0.0.1:9092,CONTROLLER://127.0.0.1:9093"
    assert settings["advertised.listeners"] == "PLAINTEXT://127.0.0.1:9092"
    assert settings["controller.quorum.voters"] == "1@127.0.0.1:9093"


def test_the_settings_of_the_design_stand_in_it():
    """DESIGN 'Embedded broker' and 'Exactly once'."""
    settings = parsed(server_properties(Path("/data"), 9092, 9093))
    assert settings["offsets.topic.replication.factor"] == "1"
    assert settings["transaction.state.log.replication.factor"] == "1"
    assert settings["share.coordinator.state.topic.replication.factor"] == "1"
    assert settings["group.initial.rebalance.delay.ms"] == "0"
    assert settings["auto.create.topics.enable"] == "false"
    assert settings["transaction.abort.timed.out.transaction.cleanup.interval.ms"] == "1000"


def test_three_nodes_know_each_other_and_keep_three_copies():
    voters = ((1, 9193), (2, 9293), (3, 9393))
    known = BrokerSettings(node_id=2, voters=voters)
    settings = parsed(server_properties(Path("/data"), 9292, 9293, known))
    assert settings["node.id"] == "2"
    quorum = "1@127.0.0.1:9193,2@127.0.0.1:9293,3@127.0.0.1:9393"
    assert settings["controller.quorum.voters"] == quorum
    for name in ("offsets.topic", "transaction.state.log", "default"):
        assert settings[f"{name}.replication.factor"] == "3"
    assert settings["min.insync.replicas"] == settings["transaction.state.log.min.isr"] == "2"


def test_a_path_survives_javas_properties_files():
    """They are read as Latin-1, and a backslash escapes."""
    assert escaped("/srv/Bild er") == "/srv/Bild er"
    assert escaped("/srv/Bäume") == "/srv/B\\u00e4ume"
    assert escaped("a\\ub") == "a\\\\ub"
    assert escaped("📷") == "\\ud83d\\udcf7"
    assert parsed(server_properties(Path("/ä"), 1, 2))["log.dirs"] == "/\\u00e4/log"
    assert "File=/\\u00e4/b.log" in log_properties(Path("/ä/b.log"))


def test_the_heap_grows_with_the_partitions():
    assert heap_for(0) == 512
    assert heap_for(17 * 8) < 530
    assert heap_for(17 * 1_024) == 1_536


def test_a_session_that_may_open_too_few_files_is_told():
    """In a process of its own: a hard limit cannot be raised again."""
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (4000, 4000))\n"
        "from infra.kafka.broker import check_open_files\n"
        "from schemas.errors import BrokerError\n"
        "check_open_files(3_200)\n"
        "try: check_open_files(3_201)\n"
        "except BrokerError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith(
        "Kafka needs 4,001 open files for 3,201 partitions, and this session may open 4,000"
    )


def test_the_heap_is_bounded():
    assert "-Xmx300m" in java_flags(300, Path("/l"))
    assert "-Xms256m" in java_flags(300, Path("/l"))
    assert "-Xms200m" in java_flags(200, Path("/l"))
