"""One test that keeps the tree tidy, after TigerBeetle's ``tidy.zig``.

A rule is a function from a file to its findings. Each is run over every file that it is for, and
each is shown a planted fault that it must find and a clean file that it must not.
"""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PRODUCT = ("benchmarks", "connectors", "infra", "schemas", "shutterwheel", "streams")
PROGRAMS = ("benchmarks/", "shutterwheel/")
"""Where printing is the business at hand."""

MAX_LINES = 420
MAX_FUNCTION_LINES = 75
MAX_FILE_BYTES = 1_000_000
MAX_BINARY_BYTES = 100_000
MODELS = "connectors/images/quality/models/quality-"
LARGE_FILES = {
    f"{MODELS}fp32.onnx": "the quality model, so that judging needs no download (ADR 0020)",
    f"{MODELS}fp16.onnx": "the same in half the bytes, for GPUs",
    f"{MODELS}int8.onnx": "the same in a quarter",
}
MAX_LARGE_BYTES = 5_000_000
LONG_FILES = {"schemas/records.py": "one list of all records, read from top to bottom"}

UPSTREAM = ("connectors/", "shutterwheel/")
WHEEL = ("streams/core/", "streams/agents/timing_wheel.py")
MAKERS: dict[str, tuple[str, ...]] = {
    "ScheduleUpserted": UPSTREAM,
    "ScheduleCancelled": UPSTREAM,
    "SchedulePaused": UPSTREAM,
    "ScheduleResumed": UPSTREAM,
    "CaptureRequested": UPSTREAM,
    "ScheduleTick": ("streams/",),
    "PartitionSnapshot": ("streams/agents/snapshots.py",),
    "Accepted": WHEEL,
    "AlreadyKnown": WHEEL,
    "Refused": WHEEL,
    "Skipped": WHEEL,
    "AutoPaused": WHEEL,
    "Ended": WHEEL,
    "CaptureCommand": ("streams/core/",),
    "CaptureRevoked": ("streams/core/",),
    "CaptureResult": ("streams/core/",),
    "DeviceProfile": UPSTREAM,
    "DeviceFailing": ("streams/core/",),
    "DeviceRecovered": ("streams/core/",),
    "DeviceFact": ("streams/agents/device_facts.py",),
    "DeadLetter": ("streams/",),
}
"""One writer a topic (DESIGN.md 'Arrows'): where a record may be made, besides its definition in
``schemas/`` and the worlds that benchmarks make up."""

BENCH_KEYS = {"bench", "command", "date", "machine", "versions", "rows"}
ROW_KEYS = {"case", "system", "metric", "value", "unit"}


@dataclass(frozen=True)
class File:
    """A file of the tree: its path from the root, with ``/``, and its bytes."""

    name: str
    data: bytes

    @cached_property
    def text(self) -> str:
        return self.data.decode("utf-8")

    @property
    def lines(self) -> list[str]:
        return self.text.split("\n")

    @cached_property
    def nodes(self) -> list[ast.AST]:
        return list(ast.walk(self.module))

    @cached_property
    def module(self) -> ast.Module:
        return ast.parse(self.text)

    @property
    def is_text(self) -> bool:
        return b"\0" not in self.data[:8_192]

    @property
    def is_product(self) -> bool:
        return self.name.endswith(".py") and self.name.startswith(tuple(f"{p}/" for p in PRODUCT))


@cache
def tree() -> tuple[File, ...]:
    """Read every file that is, or is about to be, under version control."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    if listed.returncode == 0:
        names = [os.fsdecode(name) for name in listed.stdout.split(b"\0") if name]
    else:  # an unpacked archive: everything but hidden and cached folders
        names = [
            str(path.relative_to(ROOT))
            for path in ROOT.rglob("*")
            if not re.search(r"/(\.|__pycache__)", f"/{path.relative_to(ROOT)}")
        ]
    paths = [(name, ROOT / name) for name in sorted(set(names))]
    return tuple(File(name, path.read_bytes()) for name, path in paths if path.is_file())


# --- rules for every text -------------------------------------------------------------------------


def whitespace(file: File) -> Iterator[str]:
    """No tab, no carriage return, nothing behind the last word, a newline at the end.

    Go's own formatter indents by tabs.
    """
    if not file.is_text or not file.data:
        return
    tabs = file.name.endswith((".go", "/go.mod"))
    for number, line in enumerate(file.lines, 1):
        if ("\t" in line and not tabs) or line != line.rstrip():
            yield f"{file.name}:{number}: a tab or white space at the end"
    if not file.text.endswith("\n") or file.text.endswith("\n\n"):
        yield f"{file.name}: ends with exactly one newline"


def promises(file: File) -> Iterator[str]:
    """What is to be done later names its issue."""
    if not file.is_text:
        return
    for number, line in enumerate(file.lines, 1):
        if re.search(r"\b(TO" + r"DO|FIX" + r"ME|X" + r"XX)\b", line) and not re.search(
            r"#\d", line
        ):
            yield f"{file.name}:{number}: name the issue: (#12)"


def machine_paths(file: File) -> Iterator[str]:
    """No path of somebody's own machine; in product code none of /tmp either: ask tempfile."""
    if not file.is_text:
        return
    folders = r"work/main|work/shared|root|home/\w+|Users/\w+"
    if file.is_product:
        folders += r"|work|tmp|var/tmp"
    for number, line in enumerate(file.lines, 1):
        if re.search(rf"(?<![\w.*~])/({folders})/", line):
            yield f"{file.name}:{number}: a path of one machine"


def sizes(file: File) -> Iterator[str]:
    """No large file, and hardly a binary one, but for those that are listed with a reason."""
    if file.name in LARGE_FILES:
        if len(file.data) > MAX_LARGE_BYTES:
            yield f"{file.name}: more than {MAX_LARGE_BYTES} bytes"
        return
    if len(file.data) > MAX_FILE_BYTES:
        yield f"{file.name}: more than {MAX_FILE_BYTES} bytes"
    if not file.is_text and len(file.data) > MAX_BINARY_BYTES:
        yield f"{file.name}: binary and more than {MAX_BINARY_BYTES} bytes"


# --- rules for product code -----------------------------------------------------------------------


def lengths(file: File) -> Iterator[str]:
    """A module is a sitting, a function a screen (CONVENTIONS.md, rule 12)."""
    if not file.is_product:
        return
    if len(file.lines) - 1 > MAX_LINES and file.name not in LONG_FILES:
        yield f"{file.name}: {len(file.lines) - 1} lines, at most {MAX_LINES}"
    for node in file.nodes:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > MAX_FUNCTION_LINES:
                yield f"{file.name}:{node.lineno}: {node.name} has {lines} lines"


def docstrings(file: File) -> Iterator[str]:
    """Every module, and every public function and class of it, says what it is."""
    if not file.is_product or not file.text.strip():
        return
    if ast.get_docstring(file.module) is None:
        yield f"{file.name}: a module without a docstring"
    for node in file.module.body:
        if (
            isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
            and not node.name.startswith("_")
            and ast.get_docstring(node) is None
        ):
            yield f"{file.name}:{node.lineno}: {node.name} without a docstring"


def prints(file: File) -> Iterator[str]:
    """Only programs print; a module with a ``__main__`` part is one."""
    if not file.is_product or file.name.startswith(PROGRAMS) or "__main__" in file.text:
        return
    for node in file.nodes:
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "print":
            yield f"{file.name}:{node.lineno}: print; log it instead"


def makers(file: File) -> Iterator[str]:
    """A record is made only where the one writer of its topic lives."""
    if not file.is_product or file.name.startswith(("schemas/", "benchmarks/")):
        return
    for node in file.nodes:
        if isinstance(node, ast.Call):
            name = getattr(node.func, "id", getattr(node.func, "attr", ""))
            if name in MAKERS and not file.name.startswith(MAKERS[name]):
                where = " or ".join(MAKERS[name])
                yield f"{file.name}:{node.lineno}: a {name} is made in {where} only"


# --- rules for other files ------------------------------------------------------------------------


def schema_docs(file: File) -> Iterator[str]:
    """Every record of a schema and every field of it has a doc."""
    if not file.name.endswith(".avsc"):
        return
    waiting: list[object] = [json.loads(file.text)]
    while waiting:
        part = waiting.pop()
        if isinstance(part, list):
            waiting += part
        elif isinstance(part, dict):
            waiting += [value for value in part.values() if isinstance(value, dict | list)]
            if part.get("type") in ("record", "enum", "fixed") and not part.get("doc"):
                yield f"{file.name}: {part.get('name')} without a doc"
            for field in part.get("fields", []):
                if not field.get("doc"):
                    yield f"{file.name}: {part.get('name')}.{field.get('name')} without a doc"


def bench_results(file: File) -> Iterator[str]:
    """A kept benchmark result says what, how, when and where (CONVENTIONS.md, rule 14)."""
    if not (file.name.startswith("benchmarks/results/") and file.name.endswith(".json")):
        return
    result = json.loads(file.text)
    missing = BENCH_KEYS - set(result)
    if missing:
        yield f"{file.name}: without {', '.join(sorted(missing))}"
    rows = result.get("rows", [])
    if not rows or any(set(row) < ROW_KEYS for row in rows):
        yield f"{file.name}: each row has {', '.join(sorted(ROW_KEYS))}"
    elif not any(row["system"].startswith("shutterwheel") for row in rows):
        yield f"{file.name}: no row of the system shutterwheel"


def readme_words(file: File) -> Iterator[str]:
    """Every ``./dev WORD`` in a README is a word of ./dev or of the command line."""
    if not file.name.endswith("README.md"):
        return
    for number, line in enumerate(file.lines, 1):
        for word in re.findall(r"\./dev ([a-z][a-z-]*)", line):
            if word not in known_words():
                yield f"{file.name}:{number}: './dev {word}' does not exist"


@cache
def known_words() -> frozenset[str]:
    """The words of ./dev and every command or group that the command line defines."""
    sources = [file.text for file in tree() if file.name.startswith("shutterwheel/")]
    named = re.findall(r"(?:command|name=|add_typer)\W+([a-z][a-z-]*)", "\n".join(sources))
    functions = re.findall(r"command\([^)]*\)\s+(?:async )?def ([a-z_]+)", "\n".join(sources))
    own = re.findall(r"^ {4}([a-z]+)\) ", (ROOT / "dev").read_text(encoding="utf-8"), re.MULTILINE)
    return frozenset([*named, *(name.replace("_", "-") for name in functions), *own, "up"])


Rule = Callable[[File], Iterator[str]]
RULES: tuple[Rule, ...] = (
    *(whitespace, promises, machine_paths, sizes),
    *(lengths, docstrings, prints, makers),
    *(schema_docs, bench_results, readme_words),
)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_tree_is_tidy(rule: Rule):
    assert [finding for file in tree() for finding in rule(file)] == []


def test_test_files_have_names_of_their_own():
    """pytest imports them by base name: of two with one name only one would run."""
    names = [Path(file.name).name for file in tree() if file.name.startswith("tests/")]
    modules = [name for name in names if name.endswith(".py") and name != "conftest.py"]
    assert [name for name, count in Counter(modules).items() if count > 1] == []


def test_there_is_a_tree_to_look_at():
    names = {file.name for file in tree()}
    assert {"pyproject.toml", "dev", ".ci/run", "streams/observability/metrics.py"} <= names


# --- each rule bites ------------------------------------------------------------------------------

GOOD_MODULE = b'"""What it is."""\n\n\ndef f():\n    """Do it."""\n'
ROW = {"case": "c", "system": "shutterwheel", "metric": "m", "value": 1, "unit": "s"}
RESULT = {"bench": "b", "command": "c", "date": "d", "machine": {}, "versions": {}, "rows": [ROW]}


def module(body: str) -> bytes:
    return b'"""What it is."""\n\n' + body.encode()


def result(**changes: object) -> bytes:
    return json.dumps({**RESULT, **changes}).encode() + b"\n"


@pytest.mark.parametrize(
    ("rule", "name", "data"),
    [
        (whitespace, "a.md", b"a\tb\n"),
        (whitespace, "a.md", b"a \nb\n"),
        (whitespace, "a.md", b"a\r\n"),
        (whitespace, "a.md", b"a"),
        (whitespace, "a.md", b"a\n\n"),
        (promises, "streams/a.py", b"x = 1  # TO" + b"DO: later\n"),
        (promises, "a.md", b"FIX" + b"ME\n"),
        (machine_paths, "streams/a.py", module('P = "/tm' + 'p/x"\n')),
        (machine_paths, "tests/a.py", b'P = "/ro' + b'ot/x"\n'),
        (machine_paths, "README.md", b"see /ho" + b"me/jo/x\n"),
        (sizes, "a.txt", b"x" * (MAX_FILE_BYTES + 1)),
        (sizes, "a.bin", b"\0" * (MAX_BINARY_BYTES + 1)),
        (lengths, "streams/a.py", module("x = 1\n" * MAX_LINES)),
        (lengths, "streams/a.py", module("def f():\n" + "    x = 1\n" * MAX_FUNCTION_LINES)),
        (docstrings, "infra/a.py", b"x = 1\n"),
        (docstrings, "infra/a.py", module("def f():\n    return 1\n")),
        (docstrings, "infra/a.py", module("class A:\n    pass\n")),
        (prints, "streams/a.py", module("print(1)\n")),
        (makers, "connectors/a.py", module("x = ScheduleTick(1)\n")),
        (makers, "streams/agents/a.py", module("x = records.CaptureResult(1)\n")),
        (schema_docs, "a.avsc", b'{"type": "record", "name": "R", "fields": []}\n'),
        (
            schema_docs,
            "a.avsc",
            (
                b'{"type": "record", "name": "R", "doc": "d", "fields": [{"name": "f", "type": '
                b'[{"type": "array", "items": {"type": "record", "name": "S", "doc": "d", "fields": '
                b'[{"name": "g", "type": "int"}]}}], "doc": "d"}]}\n'
            ),
        ),
        (bench_results, "benchmarks/results/a.json", json.dumps({"rows": [ROW]}).encode()),
        (bench_results, "benchmarks/results/a.json", result(rows=[])),
        (bench_results, "benchmarks/results/a.json", result(rows=[{"case": "c"}])),
        (bench_results, "benchmarks/results/a.json", result(rows=[{**ROW, "system": "faust"}])),
        (readme_words, "README.md", b"    ./dev frobnicate --now\n"),
    ],
)
def test_a_planted_fault_is_found(rule: Rule, name: str, data: bytes):
    assert len(list(rule(File(name, data)))) == 1


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("streams/a.py", GOOD_MODULE),
        ("streams/empty.py", b""),
        ("shutterwheel/a.py", module('print("/var/lib/x", "~/work/x")\n')),
        ("streams/core/a.py", module("x = CaptureResult(1)  # TO" + "DO (#12)\n")),
        ("a.bin", b"\0\t \r\n"),
        ("benchmarks/results/a.json", result()),
        ("README.md", b"    ./dev test --all\n"),
        ("a.avsc", b'{"type": "record", "name": "R", "doc": "d", "fields": []}\n'),
    ],
)
def test_a_clean_file_is_let_through(rule: Rule, name: str, data: bytes):
    assert list(rule(File(name, data))) == []
