"""Membership and lease; DESIGN.md, "Exactly once", bullet "The fence", and "Captures", arming."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from streams.runtime.group import Group, MemberNote, Membership, boottime_ms

SESSION_MS, MARGIN_MS = 6_000, 1_000


@pytest.fixture
def group():
    return Group(SESSION_MS, MARGIN_MS)


def test_there_is_no_membership_before_one_was_given(group):
    assert group.membership is None


@pytest.mark.parametrize(("generation", "member"), [(-1, ""), (-1, "m"), (3, ""), (-5, "m")])
def test_what_the_broker_would_not_check_is_no_membership(group, generation, member):
    """aiokafka shows (-1, "") after it lost its group; the broker accepts that pair unchecked."""
    group.joined(2, "m")
    group.joined(generation, member)
    assert group.membership is None


def test_membership_comes_and_goes(group):
    group.joined(0, "m")
    assert group.membership == Membership(0, "m")
    group.lost()
    assert group.membership is None


def test_the_lease_needs_a_heartbeat_and_a_membership(group):
    group.joined(1, "m")
    assert not group.lease_alive()
    group.renew(boottime_ms())
    assert group.lease_alive()
    group.lost()
    assert not group.lease_alive()


def test_the_lease_goes_on_while_the_group_is_joined_again(group):
    """Nothing can be written, but nobody else can have been given our partitions yet."""
    group.joined(1, "m")
    group.renew(boottime_ms())
    group.rejoining()
    assert group.membership is None
    assert group.lease_alive()
    group.lost()
    group.renew(boottime_ms())
    assert not group.lease_alive()


def test_a_process_finds_its_predecessors_note_once_and_never_its_own(tmp_path):
    first = MemberNote(tmp_path / "slot")
    assert first.take() == ""
    first.write("m-1")
    assert first.take() == ""
    second = MemberNote(tmp_path / "slot")
    assert second.take() == "m-1"
    second.write("m-2")
    assert second.take() == ""
    second.forget()
    assert MemberNote(tmp_path / "slot").take() == ""


def test_the_lease_ends_a_margin_before_the_session_could(group):
    group.joined(1, "m")
    group.renew(boottime_ms() - (SESSION_MS - MARGIN_MS))
    assert not group.lease_alive()
    group.renew(boottime_ms() - (SESSION_MS - MARGIN_MS) + 1_000)
    assert group.lease_alive()


def test_a_late_answer_does_not_shorten_the_lease(group):
    now_ms = boottime_ms()
    group.renew(now_ms)
    group.renew(now_ms - 4_000)
    assert group.lease_age_ms() < 4_000


def test_the_lease_runs_out_while_the_process_is_stopped():
    """A real process, stopped for longer than its lease: the first thing it sees is no lease."""
    program = textwrap.dedent("""
        from streams.runtime.group import Group, boottime_ms
        group = Group(1300, 1000)  # the lease lives 300 ms
        group.joined(1, "m")
        group.renew(boottime_ms())
        print(group.lease_alive(), flush=True)
        input()
        print(group.lease_alive(), flush=True)
    """)
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    with process:
        assert process.stdin
        assert process.stdout
        try:
            assert process.stdout.readline() == "True\n"
            process.send_signal(signal.SIGSTOP)
            os.waitid(os.P_PID, process.pid, os.WSTOPPED)
            process.stdin.write("\n")
            process.stdin.flush()
            time.sleep(0.4)  # nothing but time has to pass
            process.send_signal(signal.SIGCONT)
            assert process.stdout.readline() == "False\n"
        finally:
            process.kill()
