"""``./dev`` in a project of its own: what it sets up, when, and what it hands through."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
UV = """#!/bin/bash
if [[ $1 == --version ]]; then echo "uv 0.13.9 (fake)"; exit; fi
echo "uv $*" >>"$LOG"
[[ -z ${UV_FAILS:-} ]] || exit 2
mkdir -p "$UV_PROJECT_ENVIRONMENT/bin"
printf '#!/bin/bash\\nexit 0\\n' >"$UV_PROJECT_ENVIRONMENT/bin/python"
cp "$COMMAND" "$UV_PROJECT_ENVIRONMENT/bin/shutterwheel"
chmod +x "$UV_PROJECT_ENVIRONMENT"/bin/*
"""
COMMAND = """#!/bin/bash
printf '%s|' "$PWD" "$@"
exit 7
"""


class Project:
    """A folder with ./dev, a lock, and a PATH that has only what it is given."""

    def __init__(self, base: Path) -> None:
        self.root = base / "a project"
        self.bin = base / "bin"
        self.log = base / "log"
        self.root.mkdir()
        self.bin.mkdir()
        for name in ("dev", "uv.lock", "pyproject.toml"):
            shutil.copy(ROOT / name, self.root / name)
            os.utime(self.root / name, (1_000_000_000, 1_000_000_000))
        (base / "command").write_text(COMMAND, encoding="utf-8")
        self.environment = {
            "PATH": str(self.bin),
            "LOG": str(self.log),
            "COMMAND": str(base / "command"),
        }
        for tool in ("bash", "cat", "chmod", "cp", "dirname", "env", "mkdir", "touch"):
            found = shutil.which(tool)
            assert found is not None
            (self.bin / tool).symlink_to(found)

    def put(self, name: str, text: str) -> None:
        (self.bin / name).write_text(text, encoding="utf-8")
        (self.bin / name).chmod(0o755)

    def dev(self, *words: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["/bin/bash", str(self.root / "dev"), *words],
            env=self.environment,
            cwd=cwd or self.root,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    def syncs(self) -> int:
        return len(self.log.read_text().splitlines()) if self.log.exists() else 0


@pytest.fixture
def project(tmp_path: Path) -> Project:
    project = Project(tmp_path)
    project.put("uv", UV)
    # An old Python first, as pyenv's shims or an old distribution have it.
    project.put("python3.11", "#!/bin/bash\nexit 127\n")
    project.put("python3", f'#!/bin/bash\nexec {sys.executable} "$@"\n')
    return project


def test_help_needs_nothing(tmp_path: Path):
    done = Project(tmp_path).dev("--help")
    assert done.returncode == 0
    for word in ("up", "demo", "test", "lint", "bench"):
        assert f"\n  {word} " in done.stdout
        assert f"./dev {word} " in done.stdout or word == "lint"


def test_arguments_folder_and_status_pass_through(project: Project, tmp_path: Path):
    done = project.dev("schedule", "apply", "a file.yaml", "*", cwd=tmp_path)
    assert done.returncode == 7
    assert done.stdout == f"{tmp_path}|schedule|apply|a file.yaml|*|"


def test_it_sets_up_once_and_again_when_the_lock_changes(project: Project):
    first = project.dev("doctor")
    assert "setting up .venv" in first.stderr
    assert project.syncs() == 1
    second = project.dev("doctor")
    assert (second.stderr, project.syncs()) == ("", 1)
    for name, syncs in (("uv.lock", 2), ("pyproject.toml", 3)):
        stamp = (project.root / ".venv/.set-up").stat().st_mtime
        os.utime(project.root / name, (stamp + 1, stamp + 1))
        os.utime(project.root / ".venv/.set-up", (stamp - 1, stamp - 1))
        project.dev("doctor")
        assert project.syncs() == syncs
        os.utime(project.root / name, (1_000_000_000, 1_000_000_000))
    shutil.rmtree(project.root / ".venv")
    project.dev("doctor")
    assert project.syncs() == 4


def test_without_a_python_it_says_what_to_do(project: Project):
    (project.bin / "python3").unlink()
    done = project.dev("doctor")
    assert done.returncode == 1
    assert done.stderr.startswith("dev: No Python 3.11 to 3.13 found. Install one")
    assert done.stderr.count("\n") == 1


def test_a_failed_set_up_is_tried_again(project: Project):
    project.environment["UV_FAILS"] = "1"
    done = project.dev("doctor")
    assert done.returncode == 1
    assert "Could not set up .venv" in done.stderr
    del project.environment["UV_FAILS"]
    assert project.dev("doctor").returncode == 7
    assert project.syncs() == 2
