"""``docker-compose.kafka.yml`` is what ``infra.kafka.compose`` generates, and is sound YAML."""

from __future__ import annotations

import itertools
import shutil
import subprocess
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from infra.kafka.compose import compose_text, create_script
from infra.kafka.settings import SHARED_PROPERTIES
from infra.kafka.topics import TOPICS
from schemas.errors import UsageError

FILE = Path(__file__).parents[3] / "docker-compose.kafka.yml"


@pytest.fixture
def composition():
    return YAML(typ="safe").load(FILE.read_text(encoding="utf-8"))


def test_the_committed_file_is_the_generated_one():
    """If this fails: ``python -m infra.kafka.compose > docker-compose.kafka.yml``."""
    assert FILE.read_text(encoding="utf-8") == compose_text()


def test_the_broker_is_healthy_before_topics_are_made_and_keeps_its_data(composition):
    kafka = composition["services"]["kafka"]
    assert kafka["healthcheck"]["test"][0] == "CMD"
    assert kafka["volumes"] == ["kafka-data:/var/lib/kafka/data"]
    assert "kafka-data" in composition["volumes"]
    topics = composition["services"]["topics"]
    assert topics["depends_on"] == {"kafka": {"condition": "service_healthy"}}
    assert kafka["image"] == topics["image"]


def test_only_this_machine_can_reach_it(composition):
    ports = [p for one in composition["services"].values() for p in one.get("ports", [])]
    assert ports == ["127.0.0.1:9092:9092"]


def test_it_has_the_settings_of_the_embedded_broker(composition):
    environment = composition["services"]["kafka"]["environment"]
    for name, value in SHARED_PROPERTIES.items():
        assert environment["KAFKA_" + name.upper().replace(".", "_")] == str(value)
    assert all(isinstance(value, str) for value in environment.values())


def run_script(tmp_path: Path, existing: str) -> list[list[str]]:
    """Run the script against a stand-in for Kafka's own and return the topics it asked for."""
    stub = tmp_path / "kafka-topics.sh"
    log = tmp_path / "calls"
    stub.write_text(
        "#!/bin/bash\n"
        f'if [[ " $* " == *" --list "* ]]; then printf "{existing}"; exit; fi\n'
        f'printf "%s\\x1f" "$@" >> {log}; echo >> {log}\n'
    )
    stub.chmod(0o755)
    script = create_script("", 8).replace("/opt/kafka/bin", str(tmp_path))
    subprocess.run([shutil.which("bash") or "bash", "-c", script], check=True, timeout=30)
    lines = log.read_text().splitlines() if log.exists() else []
    return [line.split("\x1f")[:-1] for line in lines]


def test_the_script_makes_every_topic_with_its_settings(tmp_path):
    calls = run_script(tmp_path, "")
    made = {}
    for call in calls:
        pairs = list(itertools.pairwise(call))
        (name,) = [value for flag, value in pairs if flag == "--topic"]
        made[name] = dict(v.split("=", 1) for flag, v in pairs if flag == "--config")
        assert ("--partitions", "8") in pairs
    assert made == {spec.name: spec.config(1) for spec in TOPICS}


def test_the_script_leaves_what_is_there(tmp_path):
    there = [spec.name for spec in TOPICS if spec.name != "dead.letters"]
    calls = run_script(tmp_path, "\\n".join(["__consumer_offsets", *there]))
    assert [call[call.index("--topic") + 1] for call in calls] == ["dead.letters"]


def test_bad_partitions_are_refused():
    with pytest.raises(UsageError, match="power of two"):
        compose_text(partitions=12)
