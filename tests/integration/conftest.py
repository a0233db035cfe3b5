"""A real broker for all integration tests, started once; each test has a namespace of its own.

``SHUTTERWHEEL_TEST_KAFKA=HOST:PORT`` uses a broker that runs already.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from infra.kafka.admin import create_topics, drop_topics
from infra.kafka.aot import prepare_aot
from infra.kafka.broker import EmbeddedBroker
from infra.kafka.jars import ensure_jars
from infra.kafka.java import find_java

if TYPE_CHECKING:
    from collections.abc import Iterator

TEST_PARTITIONS = 4
"""Of the topics that ``kafka_topics`` makes: more than one, and quickly made."""


@pytest.fixture(scope="session")
def prepared() -> None:
    """Kafka's files are there, and what makes each of the many starts of the tests faster."""
    ensure_jars()
    prepare_aot(find_java())


@pytest.fixture(scope="session")
def kafka(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """``host:port`` of a broker that this session shares."""
    given = os.environ.get("SHUTTERWHEEL_TEST_KAFKA")
    if given:
        yield given
        return
    request.getfixturevalue("prepared")
    with EmbeddedBroker(tmp_path_factory.mktemp("kafka")) as broker:
        yield broker.bootstrap


@pytest.fixture
def kafka_topics(kafka: str, namespace: str) -> Iterator[str]:
    """``host:port`` of the shared broker with every topic made in ``namespace``, dropped after."""
    create_topics(kafka, namespace, TEST_PARTITIONS)
    yield kafka
    drop_topics(kafka, namespace)
