"""A child that cannot outlive us, and one owner a folder; tried on small real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import psutil
import pytest

from infra.kafka.process import NICE, DataDirLock, Supervised
from schemas.errors import BrokerError


@pytest.fixture
def lock(tmp_path):
    one = DataDirLock(tmp_path)
    one.acquire()
    yield one
    one.release()


def supervised(tmp_path, lock, script: str) -> Supervised:
    return Supervised(["/bin/sh", "-c", script], tmp_path / "out", lock.fd)


def test_the_exit_code_and_the_output_are_kept(tmp_path, lock):
    child = supervised(tmp_path, lock, "echo said; echo wrong >&2; exit 7")
    assert child.wait(30) == 7
    assert child.poll() == child.stop(1.0) == 7
    assert (tmp_path / "out").read_text() == "said\nwrong\n"


def test_it_yields_to_the_workers_of_its_machine(tmp_path, lock):
    """Its session, too: Linux weighs these first (sched(7), autogroup)."""
    child = supervised(
        tmp_path, lock, "nice; sed 's/.*nice //' /proc/self/autogroup 2>/dev/null || echo 5"
    )
    assert child.wait(30) == 0
    before = os.nice(0)
    told, session = (tmp_path / "out").read_text().split()[:2]
    assert (int(told), session) == (min(before + NICE, 19), str(NICE))


def test_a_child_that_does_not_listen_is_ended_by_force(tmp_path, lock):
    child = supervised(tmp_path, lock, "trap '' TERM; echo up; while :; do sleep 0.05; done")
    assert child.poll() is None
    assert child.wait(0.01) is None
    assert child.stop(0.3) in {-signal.SIGKILL, -signal.SIGTERM}


def test_a_command_that_is_not_there_ends_at_once(tmp_path, lock):
    child = Supervised([str(tmp_path / "nothing")], tmp_path / "out", lock.fd)
    assert child.wait(30) == 127


def test_no_watchdog_is_left_behind(tmp_path, lock):
    others = {one.pid for one in psutil.Process().children()}
    child = supervised(tmp_path, lock, "exec sleep 60")
    ours = {one.pid for one in psutil.Process().children()} - others
    assert child.pid in ours
    child.stop(5.0)
    assert not {one.pid for one in psutil.Process().children()} & ours


PARENT = """
import sys
from pathlib import Path
from infra.kafka.process import DataDirLock, Supervised
folder = Path(sys.argv[1])
lock = DataDirLock(folder)
lock.acquire()
child = Supervised(["/bin/sleep", "60"], folder / "out", lock.fd)
lock.note(child.pid)
print(child.pid, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def parent(tmp_path):
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as one:
        yield one
        one.kill()


def test_the_child_ends_with_a_parent_that_was_killed(parent):
    child = psutil.Process(int(parent.stdout.readline()))
    parent.kill()
    psutil.wait_procs([child], timeout=30)
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


def test_a_folder_in_use_is_refused_with_its_owner(parent, tmp_path):
    parent.stdout.readline()
    with pytest.raises(BrokerError, match=f"in use by process {parent.pid}: stop that one"):
        DataDirLock(tmp_path).acquire()


def test_the_folder_of_a_killed_owner_is_free_when_its_child_is_gone(parent, tmp_path):
    parent.stdout.readline()
    parent.kill()
    parent.wait(30)
    lock = DataDirLock(tmp_path)
    lock.acquire()
    assert lock.held
    lock.release()
    assert not lock.held


def test_an_orphan_that_does_not_end_is_named(parent, tmp_path, monkeypatch):
    """Somebody killed the watchdog as well: a person has to end what is left, and is told which."""
    monkeypatch.setattr("infra.kafka.process.ORPHAN_TIMEOUT_S", 0.3)
    pid = int(parent.stdout.readline())
    for one in psutil.Process(parent.pid).children():
        if one.pid != pid:
            one.kill()
    parent.kill()
    parent.wait(30)
    try:
        with pytest.raises(BrokerError, match=f"in use by process {pid}: stop that one"):
            DataDirLock(tmp_path).acquire()
    finally:
        os.kill(pid, signal.SIGKILL)
