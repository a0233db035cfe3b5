"""How the files of tests are shared out among processes (``tests/two_ends.py``)."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from two_ends import ORDER, TwoEnds, place

FILES = [f"tests/{name}.py" for name in "abcdef"]


class Node:
    """A process as xdist's schedulers see one: it is told what to run."""

    def __init__(self, name: str) -> None:
        self.gateway = SimpleNamespace(id=name)
        self.shutting_down = False
        self.given: list[int] = []

    def send_runtest_some(self, indices: list[int]) -> None:
        self.given += indices

    def shutdown(self) -> None:
        self.shutting_down = True


def run(names: list[str], tests: list[str]) -> dict[str, list[str]]:
    """Share the tests out; each process ends one test in its turn."""
    nodes = [Node(name) for name in names]
    config = SimpleNamespace(
        option=SimpleNamespace(loadscopereorder=True),
        getvalue=lambda _name: ["popen"] * len(nodes),
    )
    scheduler = TwoEnds(config, None)
    for node in nodes:
        scheduler.add_node(node)
        scheduler.add_node_collection(node, tests)
    scheduler.schedule()
    ended = dict.fromkeys(names, 0)
    while any(ended[node.gateway.id] < len(node.given) for node in nodes):
        for node in nodes:
            if ended[node.gateway.id] < len(node.given):
                scheduler.mark_test_complete(node, node.given[ended[node.gateway.id]])
                ended[node.gateway.id] += 1
    assert all(node.shutting_down for node in nodes)
    return {node.gateway.id: [tests[n] for n in node.given] for node in nodes}


@pytest.mark.parametrize("names", [["gw0"], ["gw0", "gw1"], ["gw0", "gw1", "gw2", "gw3"]])
def test_each_test_is_run_once_and_a_file_by_one_process(names):
    tests = [f"{file}::test_{n}" for file in FILES for n in range(3)]
    given = run(names, tests)
    assert sorted(test for of in given.values() for test in of) == sorted(tests)
    files = [{test.partition("::")[0] for test in of} for of in given.values()]
    assert sum(len(of) for of in files) == len(FILES)


def test_one_begins_at_the_front_and_the_other_at_the_back():
    """Whatever the number of tests in a file: xdist would begin with the file that has most."""
    tests = [f"{file}::test_{n}" for place, file in enumerate(FILES) for n in range(3 + place)]
    given = run(["gw0", "gw1"], tests)
    assert next(test.partition("::")[0] for test in given["gw0"]) == FILES[0]
    assert next(test.partition("::")[0] for test in given["gw1"]) == FILES[-1]
    for name, files in (("gw0", FILES), ("gw1", FILES[::-1])):
        seen = list(dict.fromkeys(test.partition("::")[0] for test in given[name]))
        assert seen == files[: len(seen)]


def test_all_discovery_is_one_process_after_the_other():
    tests = [
        f"tests/{name}::test_{n}"
        for name in (
            *("unit/discovery/test_a.py", "unit/cli/test_discover_b.py"),
            *("contracts/test_discovery_c.py", "integration/test_discover_d.py", "unit/e.py"),
        )
        for n in range(3)
    ]
    given = run(["gw0", "gw1", "gw2", "gw3"], tests)
    found = [of for of in given.values() if any("disc" in test for test in of)]
    assert len(found) == 1
    assert sum("disc" in test for test in found[0]) == 12


def test_the_longest_beginning_of_a_path_counts():
    assert place("unit/core/test_wheel.py") == ORDER.index("unit/core/")
    assert place("unit/discovery/test_discovery_merge.py") == 0
    assert place("unit/test_plan.py") == ORDER.index("unit/")
    assert place("test_tidy.py") == ORDER.index("")
    assert place("integration/test_discover_add.py") < place("integration/chain/test_chain_cli.py")
