"""The fault bench: a row a fault, printed at the end, and written with ``--faults-json FILE``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from fault_bench import PARTITIONS, Bench
from fault_report import FaultReport
from runtime_harness import Site
from shutter_bench import ShutterBench

from infra.kafka.broker import EmbeddedBroker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    MakeBench = Callable[..., Bench]

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the bench, so that ``-m faults`` is all of it."""
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.faults)


@pytest.fixture
def report(request: pytest.FixtureRequest) -> Iterator[FaultReport]:
    """What this test finds; ``tests/conftest.py`` gathers it from whichever process ran it."""
    found = FaultReport()
    yield found
    request.node.user_properties += found.pairs()


@pytest.fixture
def make_bench(
    report: FaultReport, namespace: str, tmp_path: Path
) -> Iterator[Callable[..., Bench]]:
    """Make a bench on a broker; its workers, load and topics end with the test."""
    sites: list[Site] = []
    benches: list[Bench] = []

    def make(kafka: str, topics: Mapping[str, Any] | None = None, **runtime: object) -> Bench:
        sites.append(Site(kafka, namespace, tmp_path, PARTITIONS, **(topics or {})))
        benches.append(Bench(sites[-1], report, **runtime))
        return benches[-1]

    yield make
    for bench in benches:
        bench.close()
    for site in sites:
        site.close()


@pytest.fixture
def bench(kafka: str, make_bench: MakeBench) -> Bench:
    """A bench on the shared broker, which is not hurt."""
    return make_bench(kafka)


@pytest.fixture
def make_chain(
    report: FaultReport, namespace: str, tmp_path: Path
) -> Iterator[Callable[..., ShutterBench]]:
    """Start wheels, captures workers and cameras under a load; they end with the test."""
    made: list[ShutterBench] = []

    def make(kafka: str, *, loaded: bool = True) -> ShutterBench:
        made.append(ShutterBench(kafka, namespace, tmp_path / "chain", report))
        made[-1].start()
        if loaded:
            made[-1].load()
        return made[-1]

    yield make
    for chain in made:
        chain.close()


@pytest.fixture
def broker(prepared: None, tmp_path: Path) -> Iterator[EmbeddedBroker]:
    """A broker of its own, to be hurt."""
    with EmbeddedBroker(tmp_path / "kafka") as made:
        yield made
