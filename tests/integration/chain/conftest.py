"""A chain of its own for a test that hurts it, and one that the gentle tests share."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import pytest
from chain_harness import PARTITIONS, SESSION_MS, Chain

from shutterwheel.cluster import ClusterOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    MakeChain = Callable[..., Chain]


@pytest.fixture
def make_chain(kafka: str, namespace: str, tmp_path: Path) -> Iterator[MakeChain]:
    """Start a chain on the shared broker; it is stopped and dropped after the test."""
    made: list[Chain] = []

    def make(devices: int = 30, wheels: int = 1, captures: int = 1, **options: object) -> Chain:
        chain = Chain(
            ClusterOptions(
                data=tmp_path,
                kafka=kafka,
                namespace=namespace,
                partitions=PARTITIONS,
                wheel_workers=wheels,
                capture_workers=captures,
                session_timeout_ms=SESSION_MS,
                **options,  # type: ignore[arg-type]
            ),
            devices,
        )
        made.append(chain)
        return chain.start()

    yield make
    for chain in made:
        chain.close()


@pytest.fixture(scope="session")
def gentle(kafka: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chain]:
    """One chain for all tests that leave its processes alone; each uses devices of its own."""
    options = ClusterOptions(
        data=tmp_path_factory.mktemp("gentle"),
        kafka=kafka,
        namespace=f"t{uuid.uuid4().hex[:12]}",
        partitions=PARTITIONS,
        session_timeout_ms=6_000,
    )
    with Chain(options, devices=100) as chain:
        yield chain


@pytest.fixture(autouse=True)
def _no_failure_spreads(request: pytest.FixtureRequest) -> Iterator[None]:
    """End what a failed test left running on the shared chain."""
    yield
    if "gentle" in request.fixturenames:
        request.getfixturevalue("gentle").cancel_what_is_left()
