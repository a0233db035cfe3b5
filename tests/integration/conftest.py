"""What the integration tests share beside the broker of ``tests/conftest.py``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from infra.kafka.admin import create_topics, drop_topics

if TYPE_CHECKING:
    from collections.abc import Iterator

TEST_PARTITIONS = 4
"""Of the topics that ``kafka_topics`` makes: more than one, and quickly made."""


@pytest.fixture
def kafka_topics(kafka: str, namespace: str) -> Iterator[str]:
    """``host:port`` of the shared broker with every topic made in ``namespace``, dropped after."""
    create_topics(kafka, namespace, TEST_PARTITIONS)
    yield kafka
    drop_topics(kafka, namespace)
