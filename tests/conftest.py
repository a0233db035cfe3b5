"""What every test may use: a real broker, started once, and a name of its own on it.

``SHUTTERWHEEL_TEST_KAFKA=HOST:PORT`` uses a broker that runs already.
"""

from __future__ import annotations

import os
import secrets
import tracemalloc
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from two_ends import TwoEnds
    from xdist.remote import Producer


# No test asserts a time: this machine is shared. Examples are drawn anew in each run, so few in each
# of many runs find what many in one do; './dev test --all' takes '--hypothesis-profile=all'.
hypothesis.settings.register_profile("house", deadline=None, max_examples=50)
hypothesis.settings.register_profile("all", deadline=None, max_examples=200)
hypothesis.settings.load_profile("house")


DRAWN_SEED = "SHUTTERWHEEL_TEST_HASH_SEED"
"""Set where nobody asked for a seed of hashes: the one that was drawn."""


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


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Processes for a whole run (``-n auto``); none for files, or where somebody looks on.

    As many as there are cores: tests with Kafka that are three at once on two cores let sessions and
    leads run out. Four at most, as each may start a broker.
    """
    chosen = [Path(arg.partition("::")[0]) for arg in config.option.file_or_dir]
    watched = config.option.maxfail or config.option.capture == "no" or config.option.keyword
    if watched or any(path.is_file() for path in chosen):
        return 0
    return min(4, max(2, len(os.sched_getaffinity(0))))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes() -> None:
    """Give the processes one seed of hashes, another in each run: they must collect the same names.

    Names of tests may hold sets.
    """
    if "PYTHONHASHSEED" not in os.environ:
        os.environ["PYTHONHASHSEED"] = os.environ[DRAWN_SEED] = str(secrets.randbelow(2**32))


def pytest_configure(config: pytest.Config) -> None:
    """Have the programs that tests start draw seeds of their own, as ever."""
    if hasattr(config, "workerinput") and os.environ.pop(DRAWN_SEED, None):
        del os.environ["PYTHONHASHSEED"]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> TwoEnds:
    """Share the tests of such a run out as ``two_ends`` says."""
    from two_ends import TwoEnds

    return TwoEnds(config, log)


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Print what the fault bench found, in whichever process, and write it where that is asked."""
    from fault_report import FaultReport

    ended = [one for reports in terminalreporter.stats.values() for one in reports]
    found = FaultReport.of(
        pair
        for one in ended
        if getattr(one, "when", "") == "teardown"
        for pair in one.user_properties
    )
    lines = list(found.lines())
    if lines:
        terminalreporter.section("faults")
        for line in lines:
            terminalreporter.write_line(line)
    path = config.getoption("--faults-json")
    if path is not None:
        found.result().write(path)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark what uses the shared broker, so that ``-m 'not kafka'`` leaves it out.

    Where several processes share the tests, they are put in the order in which they are shared out.
    """
    if hasattr(config, "workerinput"):
        from two_ends import place

        tests = Path(__file__).parent
        items.sort(key=lambda item: place(item.path.relative_to(tests).as_posix()))
    for item in items:
        if "kafka" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.kafka)
