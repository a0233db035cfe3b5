"""The strangers' programs, built once, and one running system for all that only ask it for photos."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import pytest
from apicurio import Apicurio
from chain_harness import PARTITIONS, Chain
from strangers import MAKERS, SOURCES

from shutterwheel.cluster import ClusterOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture(scope="session")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], list[str]]:
    """A function that returns the command of the client of a language, built at the first call."""
    made: dict[str, list[str]] = {}

    def of(language: str) -> list[str]:
        if language not in made:
            folder = tmp_path_factory.mktemp(language)
            made[language] = MAKERS[language](SOURCES[language], folder)
        return made[language]

    return of


@pytest.fixture(scope="session")
def fleet(kafka: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chain]:
    """A running system whose ids come from fingerprints; each test takes devices of its own."""
    with Chain(_options(kafka, tmp_path_factory.mktemp("fleet")), devices=20) as chain:
        yield chain


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Apicurio]:
    """A real Schema Registry that refuses what could not be read."""
    folder = tmp_path_factory.mktemp("apicurio")
    with Apicurio(folder, compatibility="FULL_TRANSITIVE") as running:
        yield running


@pytest.fixture(scope="session")
def registry_fleet(
    kafka: str, registry: Apicurio, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Chain]:
    """A running system whose ids come from the registry."""
    options = _options(kafka, tmp_path_factory.mktemp("registry-fleet"), registry.url)
    with Chain(options, devices=20) as chain:
        yield chain


def _options(kafka: str, data: object, registry: str = "") -> ClusterOptions:
    return ClusterOptions(
        data=data,  # type: ignore[arg-type]
        kafka=kafka,
        namespace=f"t{uuid.uuid4().hex[:12]}",
        partitions=PARTITIONS,
        session_timeout_ms=6_000,
        schema_registry=registry,
    )
