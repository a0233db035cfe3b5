"""Faults strike at the step and the pass that was asked for, and nowhere else."""

from __future__ import annotations

import os
import signal

import pytest

from schemas.errors import UsageError
from streams.runtime.faults import Faults


@pytest.fixture
def struck(monkeypatch):
    signals: list[int] = []
    monkeypatch.setattr(os, "kill", lambda pid, number: signals.append((pid, number)))
    return signals


def test_it_strikes_once_at_the_pass_asked_for(struck):
    faults = Faults({"before-commit:3", "stop@after-commit"})
    for _ in range(2):
        faults.at("before-commit")
        faults.at("before-begin")
    assert struck == []
    faults.at("before-commit")
    assert struck == [(os.getpid(), signal.SIGKILL)]
    faults.at("after-commit")
    faults.at("after-commit")
    faults.at("before-commit")
    assert struck[1:] == [(os.getpid(), signal.SIGSTOP)]


@pytest.mark.parametrize("fault", ["before-lunch", "before-commit:soon", "stop@"])
def test_a_fault_that_does_not_exist_is_refused(fault):
    with pytest.raises(UsageError, match="There is no fault"):
        Faults({fault})
