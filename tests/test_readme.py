"""What README shows is what is there."""

from __future__ import annotations

import re
from pathlib import Path

from shutterwheel import manifest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def block(language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", README, re.DOTALL)
    assert found is not None
    return found[1]


def test_the_upstream_program_is_the_one_that_is_run() -> None:
    """SPEC 1.10: tests/integration/chain runs examples/upstream.py."""
    assert block("python").strip() in (ROOT / "examples" / "upstream.py").read_text()


def test_the_manifest_can_be_applied() -> None:
    found = manifest.parse(block("yaml").encode(), "README.md")
    assert [s.schedule_id for s in found.schedules] == ["every-minute"]


def test_every_result_file_named_is_there() -> None:
    for name in re.findall(r"benchmarks/results/[\w.-]+\.json", README):
        assert (ROOT / name).is_file(), name
