"""Generates ``docker-compose.kafka.yml``: the same topics on the official Kafka image.

    python -m infra.kafka.compose > docker-compose.kafka.yml
    docker compose -f docker-compose.kafka.yml up --wait

One node (broker and controller), reachable at 127.0.0.1:9092 only, data in a named volume, a health
check that asks the broker for an answer, and a service that creates the topics of
``infra.kafka.topics`` once the broker is healthy and then ends. The file is committed; a test
compares it with what this module generates.
"""

from __future__ import annotations

import argparse
import io
import shlex
import sys
from typing import TYPE_CHECKING

from ruamel.yaml import YAML
from ruamel.yaml.scalarstring import DoubleQuotedScalarString, LiteralScalarString

from infra.kafka.settings import SHARED_PROPERTIES
from infra.kafka.topics import DEFAULT_PARTITIONS, TOPICS, check_partitions, topic_name

if TYPE_CHECKING:
    from collections.abc import Sequence

IMAGE = "apache/kafka:4.1.0"
PORT = 9092
"""On the host's loopback, and what clients on the host are told."""
_INSIDE = "kafka:19092"
"""What other containers of the composition use."""
_SCRIPTS = "/opt/kafka/bin"
_HEADER = """\
# Generated from infra/kafka/topics.py, do not edit:
#   python -m infra.kafka.compose > docker-compose.kafka.yml
# Use: docker compose -f docker-compose.kafka.yml up --wait
#      shutterwheel up --kafka 127.0.0.1:9092
"""


def environment_name(setting: str) -> str:
    """Return the variable by which the official image takes this server setting."""
    return "KAFKA_" + setting.upper().replace(".", "_")


def _broker_environment() -> dict[str, str]:
    settings: dict[str, str | int] = {
        "process.roles": "broker,controller",
        "node.id": 1,
        "controller.quorum.voters": "1@localhost:9093",
        "listeners": f"HOST://:{PORT},INSIDE://:19092,CONTROLLER://localhost:9093",
        "advertised.listeners": f"HOST://127.0.0.1:{PORT},INSIDE://{_INSIDE}",
        "inter.broker.listener.name": "INSIDE",
        "controller.listener.names": "CONTROLLER",
        "listener.security.protocol.map": ("HOST:PLAINTEXT,INSIDE:PLAINTEXT,CONTROLLER:PLAINTEXT"),
        "log.dirs": "/var/lib/kafka/data",
        **SHARED_PROPERTIES,
    }
    named = {environment_name(name): value for name, value in settings.items()}
    named["KAFKA_HEAP_OPTS"] = "-Xms256m -Xmx1g"
    # Always text: a bare 'false' or '8' would be another type in YAML.
    return {name: DoubleQuotedScalarString(str(value)) for name, value in named.items()}


def create_script(namespace: str, partitions: int) -> str:
    """Return the shell script that creates the topics that are not there yet.

    One list first: each call of Kafka's script starts a Java machine, and the second start of the
    composition should cost one, not fourteen.
    """
    lines = [
        "set -eu",
        f"there=$({_SCRIPTS}/kafka-topics.sh --bootstrap-server {_INSIDE} --list)",
        "create() {",
        "  name=$1; shift",
        '  if printf \'%s\\n\' "$there" | grep -Fxq "$name"; then return; fi',
        f"  {_SCRIPTS}/kafka-topics.sh --bootstrap-server {_INSIDE} --create --if-not-exists \\",
        f'    --topic "$name" --partitions {partitions} --replication-factor 1 "$@"',
        "}",
    ]
    for spec in TOPICS:
        settings = (
            f"--config {shlex.quote(f'{name}={value}')}" for name, value in spec.config(1).items()
        )
        lines.append(" \\\n  ".join([f"create {topic_name(namespace, spec.name)}", *settings]))
    return "\n".join(lines) + "\n"


def compose_text(namespace: str = "", partitions: int = DEFAULT_PARTITIONS) -> str:
    """Return the whole file.

    Raises:
        UsageError: ``partitions`` or ``namespace`` cannot be.

    """
    check_partitions(partitions)
    # A '$' of the shell is written '$$', or compose would put in a variable of its own.
    script = create_script(namespace, partitions).replace("$", "$$")
    kafka = {
        "image": IMAGE,
        "hostname": "kafka",
        "restart": "unless-stopped",
        "ports": [DoubleQuotedScalarString(f"127.0.0.1:{PORT}:{PORT}")],
        "environment": _broker_environment(),
        "volumes": ["kafka-data:/var/lib/kafka/data"],
        "healthcheck": {
            "test": [
                "CMD",
                f"{_SCRIPTS}/kafka-broker-api-versions.sh",
                "--bootstrap-server",
                _INSIDE,
            ],
            "interval": "10s",
            "timeout": "10s",
            "retries": 12,
            "start_period": "30s",
        },
        # Kafka writes down where its logs end; without it the next start has to look.
        "stop_grace_period": "30s",
    }
    topics = {
        "image": IMAGE,
        "depends_on": {"kafka": {"condition": "service_healthy"}},
        "restart": DoubleQuotedScalarString("no"),
        "environment": {"KAFKA_HEAP_OPTS": DoubleQuotedScalarString("-Xmx256m")},
        "entrypoint": ["/bin/bash", "-c"],
        "command": [LiteralScalarString(script)],
    }
    yaml = YAML()
    yaml.indent(mapping=2, sequence=4, offset=2)
    yaml.width = 200
    out = io.StringIO()
    yaml.dump(
        {
            "name": "shutterwheel-kafka",
            "services": {"kafka": kafka, "topics": topics},
            "volumes": {"kafka-data": {}},
        },
        out,
    )
    return _HEADER + out.getvalue()


def main(arguments: Sequence[str]) -> None:
    """Print the file."""
    parser = argparse.ArgumentParser(prog="python -m infra.kafka.compose", description=__doc__)
    parser.add_argument("--namespace", default="", help="prefix of every topic (default: none)")
    parser.add_argument("--partitions", type=int, default=DEFAULT_PARTITIONS, help="of each topic")
    given = parser.parse_args(arguments)
    sys.stdout.write(compose_text(given.namespace, given.partitions))


if __name__ == "__main__":
    main(sys.argv[1:])
