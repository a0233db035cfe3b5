"""What every test may use: a real broker, started once, and a name of its own on it.

``SHUTTERWHEEL_TEST_KAFKA=HOST:PORT`` uses a broker that runs already.
"""

from __future__ import annotations

import os
import tracemalloc
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator


# No test asserts a time: this machine is shared.
hypothesis.settings.register_profile("house", deadline=None)
hypothesis.settings.load_profile("house")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options of ./dev test."""
    parser.addoption(
        "--faults-json",
        type=Path,
        default=None,
        help="Write what the fault bench (tests/faults) found to this file.",
    )


@pytest.fixture(autouse=True, scope="module")
def _no_tracing_left() -> Iterator[None]:
    """Fail where a test leaves tracemalloc on: everything after it would take three times as long."""
    yield
    assert not tracemalloc.is_tracing()


@pytest.fixture
def namespace() -> str:
    """A topic namespace that no other test has."""
    return f"t{uuid.uuid4().hex[:12]}"


@pytest.fixture(scope="session")
def prepared() -> None:
    """Kafka's files are there, and what makes each of the many starts of the tests faster."""
    # Imported here: the unit tests need none of it.
    from infra.kafka.aot import prepare_aot
    from infra.kafka.jars import ensure_jars
    from infra.kafka.java import find_java

    ensure_jars()
    prepare_aot(find_java())


@pytest.fixture(scope="session")
def kafka(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """``host:port`` of a broker that this session shares."""
    from infra.kafka.broker import EmbeddedBroker

    given = os.environ.get("SHUTTERWHEEL_TEST_KAFKA")
    if given:
        yield given
        return
    request.getfixturevalue("prepared")
    with EmbeddedBroker(tmp_path_factory.mktemp("kafka")) as broker:
        yield broker.bootstrap


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what uses the shared broker, so that ``-m 'not kafka'`` leaves it out."""
    for item in items:
        if "kafka" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.kafka)
