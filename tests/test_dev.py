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
        self.bin = base / "a bin"
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


def measured(us: int, path: str) -> str:
    """Return a stand-in for a Python that says so of itself."""
    return f"#!/bin/bash\necho {us} {path}\n"


@pytest.mark.parametrize(
    ("others", "taken"), [(9_000, "/first"), (8_000, "/second")], ids=["no less", "a fifth less"]
)
def test_the_quickest_python_is_taken(project: Project, others: int, taken: str):
    """One without optimisation by profile takes up to twice as much CPU, and may come first."""
    project.put("python3.11", measured(10_000, "/first"))
    project.put("python3.12", "#!/bin/bash\necho no Python at all\n")
    project.put("python3", measured(others, "/second"))
    assert f"setting up .venv from uv.lock with {taken}\n" in project.dev("doctor").stderr


def test_a_python_that_is_named_is_taken(project: Project):
    project.environment["PYTHON"] = sys.executable
    project.put("python3.11", measured(1, "/quick"))
    own = Path(sys._base_executable).resolve()  # type: ignore[attr-defined]
    assert f"with {own}\n" in project.dev("doctor").stderr


@pytest.mark.parametrize("named", ["python2.7", "/bin/false", "/bin/echo"])
def test_a_name_of_no_python_is_told(project: Project, named: str):
    project.environment["PYTHON"] = named
    done = project.dev("doctor")
    assert done.returncode == 1
    assert done.stderr == f"dev: PYTHON={named} is no Python 3.11 to 3.13.\n"
    assert project.syncs() == 0


def test_a_failed_set_up_is_tried_again(project: Project):
    project.environment["UV_FAILS"] = "1"
    done = project.dev("doctor")
    assert done.returncode == 1
    assert "Could not set up .venv" in done.stderr
    del project.environment["UV_FAILS"]
    assert project.dev("doctor").returncode == 7
    assert project.syncs() == 2


def test_a_report_of_faults_that_is_there_is_no_folder_of_tests(project: Project):
    """pytest takes an option's value for a path of tests until a conftest.py has told otherwise."""
    project.dev("doctor")
    (project.root / ".venv/bin/python").write_text('#!/bin/bash\nprintf "%s|" "$@"\n')
    done = project.dev("test", "--faults", "--faults-json", "a file.json", "-k", "broker")
    assert done.stdout == "-m|pytest|-m|faults|--faults-json=a file.json|-k|broker|"


# --- the peers of tests ---------------------------------------------------------------------------

DPKG = """#!/bin/bash
for name in "${@:4}"; do
  [[ " $INSTALLED $(cat "$LOG.apt" 2>/dev/null) " != *" $name "* ]] || echo "$name installed"
done
exit 1
"""
APT = """#!/bin/bash
[[ $1 == install ]] || exit 0
echo "${@:5}" >>"$LOG.asked"
[[ -n ${APT_FAILS:-} ]] || echo "${@:5}" >>"$LOG.apt"
[[ -z ${APT_FAILS:-} ]] || { echo "E: no such network" >&2; exit 100; }
"""


@pytest.fixture
def debian(project: Project) -> Project:
    """A Debian machine on which we are root."""
    project.put("dpkg-query", DPKG)
    project.put("apt-get", APT)
    project.put("id", "#!/bin/bash\necho 0\n")
    project.put("timeout", '#!/bin/bash\nshift\nexec "$@"\n')
    project.environment["INSTALLED"] = "chrony faketime python3-gi"
    return project


def asked(project: Project) -> list[str]:
    log = Path(f"{project.log}.asked")
    return log.read_text().splitlines() if log.exists() else []


def test_it_installs_the_quick_peers_and_says_which_it_left_out(debian: Project):
    """Issue 6: CI runs the peers that install quickly and says which it left out."""
    done = debian.dev("test")
    assert done.returncode == 0
    (names,) = asked(debian)
    assert "gstreamer1.0-plugins-good" in names
    assert "chrony" not in names
    (left,) = [line for line in done.stderr.splitlines() if "left to './dev test --all'" in line]
    assert "motion" in left
    assert "motion" not in names
    again = debian.dev("test")
    assert asked(debian) == [names]
    assert "skipped" not in again.stderr


def test_all_of_them_are_installed_for_all_tests(debian: Project):
    """Issue 6: Debian packages, installed by ./dev test --all."""
    debian.dev("test")
    done = debian.dev("test", "--all")
    first, second = asked(debian)
    assert {"motion", "vlc-bin", "minidlna"} <= set(second.split())
    assert not set(first.split()) & set(second.split())
    assert "left" not in done.stderr


def test_what_cannot_be_had_is_asked_for_once(debian: Project):
    debian.environment["APT_FAILS"] = "1"
    done = debian.dev("test")
    assert done.returncode == 0
    assert "E: no such network" in done.stderr
    assert "dev: not all of it could be installed" in done.stderr
    again = debian.dev("test")
    assert again.returncode == 0
    assert len(asked(debian)) == 1
    assert "tests are skipped for want of: iproute2 gir1.2-gst-rtsp-server-1.0" in again.stderr


def test_without_root_it_says_what_is_missing(debian: Project):
    debian.put("id", "#!/bin/bash\necho 1000\n")
    done = debian.dev("test")
    assert done.returncode == 0
    assert asked(debian) == []
    assert "as root: apt-get install" in done.stderr


def test_elsewhere_than_on_debian_it_goes_on(debian: Project):
    (debian.bin / "dpkg-query").unlink()
    done = debian.dev("test")
    assert done.returncode == 0
    assert asked(debian) == []
    assert "no Debian packages here" in done.stderr
