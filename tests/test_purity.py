"""The core is pure, and imports point one way; both checks are shown to bite (DESIGN.md 'Layout').

The contracts of ``pyproject.toml`` say which imports are forbidden. For ``streams/core`` that is
not enough: here only what is listed may be imported at all, and no call may reach outside.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
CORE = ROOT / "streams" / "core"

MAY_IMPORT = frozenset(
    [
        "__future__",
        "abc",
        "array",
        "bisect",
        "collections",
        "contextlib",
        "dataclasses",
        "enum",
        "fractions",
        "functools",
        "hashlib",
        "heapq",
        "itertools",
        "math",
        "operator",
        "re",
        "struct",
        "types",
        "typing",
        "zlib",
        "fastcrc",
        "msgspec",
        "schemas.errors",
        "schemas.records",
        "streams.core",
    ]
)
"""Each of these computes and nothing more. Add to it only what does the same."""
MAY_IMPORT_TOO = {
    # It computes and nothing more; not allowed everywhere, as its import takes 0.1 s.
    "streams/core/ids_many.py": frozenset(["numpy"]),
    "streams/core/wheel.py": frozenset(["numpy"]),
    "streams/core/wheel_many.py": frozenset(["numpy"]),
    # The pinned tz database is part of the program: its files are read once, and never change.
    "streams/core/recurrence/zones.py": frozenset(
        ["datetime.datetime", "importlib.resources", "tzdata", "zoneinfo"]
    ),
}
"""What one module may import besides, with the reason."""
REACHES_OUT = frozenset(
    [
        "__import__",
        "breakpoint",
        "compile",
        "eval",
        "exec",
        "globals",
        "hash",
        "id",
        "input",
        "open",
        "print",
        "vars",
    ]
)
"""Built-ins that read or write the world, or differ from one process to the next."""
TELLS_TIME = frozenset(
    [
        "monotonic",
        "now",
        "perf_counter",
        "process_time",
        "time",
        "time_ns",
        "today",
        "urandom",
        "utcnow",
    ]
)
"""Methods that ask a clock or for randomness, by whatever name their module came in."""


def impurities(source: str, too: frozenset[str] = frozenset()) -> list[str]:
    """Return what in this module of the core is not pure, a line each."""
    found: list[str] = []

    def _may_import(name: str) -> bool:
        parts = name.split(".")
        return any(".".join(parts[: n + 1]) in MAY_IMPORT | too for n in range(len(parts)))

    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                found += [f"imports {a.name}" for a in names if not _may_import(a.name)]
            case ast.ImportFrom(module=module, names=names, level=0) if module:
                found += [
                    f"imports {module}.{a.name}"
                    for a in names
                    if not _may_import(module) and not _may_import(f"{module}.{a.name}")
                ]
            case ast.ImportFrom():
                found.append("imports by a relative name")
            case ast.Call(func=ast.Name(id=name)) if name in REACHES_OUT:
                found.append(f"calls {name}()")
            case ast.Call(func=ast.Attribute(attr=name)) if name in TELLS_TIME:
                found.append(f"calls .{name}()")
            case ast.Global():
                found.append("changes a global")
            case ast.AsyncFunctionDef() | ast.Await():
                found.append("waits")
    return found


@pytest.mark.parametrize("path", sorted(CORE.rglob("*.py")), ids=lambda path: path.stem)
def test_the_core_is_pure(path: Path):
    too = MAY_IMPORT_TOO.get(path.relative_to(ROOT).as_posix(), frozenset())
    assert impurities(path.read_text(encoding="utf-8"), too) == []


def test_what_one_module_may_import_is_not_let_through_elsewhere():
    source = "from zoneinfo import ZoneInfo"
    assert impurities(source) == ["imports zoneinfo.ZoneInfo"]
    assert impurities(source, frozenset(["zoneinfo"])) == []


@pytest.mark.parametrize(
    ("source", "finding"),
    [
        ("import time", "imports time"),
        ("import os.path as p", "imports os.path"),
        ("def f():\n    from random import random", "imports random.random"),
        ("from datetime import datetime", "imports datetime.datetime"),
        ("from streams.runtime import store", "imports streams.runtime.store"),
        ("from streams import observability", "imports streams.observability"),
        ("import schemas.codec", "imports schemas.codec"),
        ("from . import ids", "imports by a relative name"),
        ("open('x')", "calls open()"),
        ("print('x')", "calls print()"),
        ("hash('x')", "calls hash()"),
        ("__import__('time')", "calls __import__()"),
        ("def f(clock):\n    return clock.now()", "calls .now()"),
        ("def f():\n    global x\n    x = 1", "changes a global"),
        ("async def f():\n    return 1", "waits"),
    ],
)
def test_an_impurity_is_found(source: str, finding: str):
    assert impurities(source) == [finding]


def test_what_is_pure_is_let_through():
    assert (
        impurities(
            "from streams.core import retry\nfrom schemas.records import Record\nimport math"
        )
        == []
    )


def skeleton(root: Path, plants: dict[str, str]) -> None:
    """Write packages named as ours, with nothing in them but ``plants``, and our contracts."""
    packages = (
        *("benchmarks", "connectors", "connectors/cameras", "infra", "infra/kafka", "schemas"),
        *("shutterwheel", "streams", "streams/agents", "streams/core", "streams/observability"),
        *("streams/replay", "streams/runtime"),
    )
    for package in packages:
        (root / package).mkdir()
        (root / package / "__init__.py").touch()
    (root / "infra/kafka/broker.py").touch()
    for name, source in plants.items():
        (root / name).write_text(source + "\n", encoding="utf-8")
    (root / "pyproject.toml").write_bytes((ROOT / "pyproject.toml").read_bytes())


def contracts(root: Path) -> tuple[int, str]:
    """Check the contracts of ``root``; return the exit status and what was said."""
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return done.returncode, done.stdout + done.stderr


def test_the_contracts_hold_for_an_empty_project(tmp_path: Path):
    skeleton(tmp_path, {})
    status, said = contracts(tmp_path)
    assert (status, "0 broken" in said) == (0, True), said


def test_an_import_the_wrong_way_is_found(tmp_path: Path):
    plants = {
        "connectors/planted.py": "import streams.runtime",
        "infra/planted.py": "import streams.agents",
        "schemas/planted.py": "import streams.core",
        "streams/agents/planted.py": "import connectors.cameras",
        "streams/core/planted.py": "import time",
        "streams/observability/planted.py": "import streams.runtime",
        "streams/replay/planted.py": "import streams.agents",
        "streams/runtime/planted.py": "import infra.kafka.broker",
    }
    skeleton(tmp_path, plants)
    status, said = contracts(tmp_path)
    assert status == 1, said
    for path, source in plants.items():
        module = path.removesuffix(".py").replace("/", ".")
        assert f"{module} -> {source.removeprefix('import ')}" in said
