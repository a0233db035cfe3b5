"""Faults strike at the step and the pass that was asked for, and nowhere else."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

import pytest

from schemas.errors import UsageError
from streams.runtime.faults import Faults


@pytest.fixture
def struck(monkeypatch):
    signals: list[int] = []
    monkeypatch.setattr(
        signal, "pthread_kill", lambda thread, number: signals.append((thread, number))
    )
    return signals


def test_it_strikes_once_at_the_pass_asked_for(struck):
    faults = Faults({"before-commit:3", "stop@after-commit"})
    for _ in range(2):
        faults.at("before-commit")
        faults.at("before-begin")
    assert struck == []
    faults.at("before-commit")
    assert struck == [(threading.get_ident(), signal.SIGKILL)]
    faults.at("after-commit")
    faults.at("after-commit")
    faults.at("before-commit")
    assert struck[1:] == [(threading.get_ident(), signal.SIGSTOP)]


def test_a_thread_stops_at_the_step_and_not_a_little_behind_it():
    """The main thread computes and has no processor to itself: the signal is not for it to take."""
    program = """
import os, threading
from streams.runtime.faults import Faults
def work():
    for number in range(10):
        Faults(["stop@before-commit"]).at("before-commit")
        os.write(1, b"!")
thread = threading.Thread(target=work)
thread.start()
while thread.is_alive():
    sum(range(1_000))
"""
    worker = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    assert worker.stdout is not None
    for number in range(10):
        stopped, status = os.waitpid(worker.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status), stopped
        os.set_blocking(worker.stdout.fileno(), False)
        assert worker.stdout.read() in ({None} if not number else {b"!"})
        os.kill(worker.pid, signal.SIGCONT)
    assert worker.wait() == 0
    worker.stdout.close()


@pytest.mark.parametrize("fault", ["before-lunch", "before-commit:soon", "stop@"])
def test_a_fault_that_does_not_exist_is_refused(fault):
    with pytest.raises(UsageError, match="There is no fault"):
        Faults({fault})
