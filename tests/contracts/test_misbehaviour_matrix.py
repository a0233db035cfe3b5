"""Each way a peer can misbehave, against each protocol: cause, end, sockets given back (issue 6).

The table is the one of ``./dev bench misbehaviour``, which repeats each cell 200 times and looks at
memory too. A protocol takes part as soon as its adapter and its simulated camera are there. No time
is asserted: a capture that did not end would end the test by its own timeout.
"""

from __future__ import annotations

import asyncio
import socket
from unittest.mock import patch

import pytest

from benchmarks.misbehaviour.bench import GOOD_S
from benchmarks.misbehaviour.faults import KINDS, Fault, faults_of
from benchmarks.misbehaviour.matrix import (
    GIVEN_BACK_S,
    SETTINGS,
    Cell,
    Child,
    Peer,
    capture,
    one_pass,
    run_cell,
    steps_of,
)
from benchmarks.misbehaviour.own_sockets import OwnSockets
from benchmarks.misbehaviour.subjects import ALL, subjects
from connectors.cameras import Cameras

CAPTURES = 5
TIMEOUT_S = 0.15
SLOW_TIMEOUT_S = 1.0
AT_ONCE_TIMEOUT_S = 2.0
"""Of what only the deadline ends; all else must end by itself, and has GOOD_S for it."""
MOST_STEPS = 24
SUBJECTS = {subject.protocol: subject for subject in ALL}
HERE = {subject.protocol for subject in subjects()}


@pytest.fixture(scope="module", params=list(SUBJECTS))
def rig(request):
    """A good camera of a protocol, and the misbehaving peer in front of it."""
    assert request.param in HERE, "each has an adapter and a simulated camera"
    subject = SUBJECTS[request.param]
    faults = faults_of(MOST_STEPS, tls=bool(subject.tls_scheme))
    with (
        Child(subject.program, *subject.arguments) as camera,
        Peer(int(camera.ready["port"]), faults) as peer,
    ):
        yield subject, camera, peer


@pytest.fixture
async def steps(rig):
    subject, _, peer = rig
    return await steps_of(subject, peer, GOOD_S)


async def test_peers_that_misbehave_all_at_once_cost_their_captures_and_no_more(rig, steps):
    """Issue 6: one client, every fault beside every other; each capture ends as it should."""
    subject, camera, peer = rig
    faults = [f for f in faults_of(steps, tls=bool(subject.tls_scheme)) if f.kind != "stopped"]
    cells = [Cell(subject.protocol, fault) for fault in faults]
    peer.counts(faults[0], "forget")
    async with Cameras(SETTINGS) as cameras:
        await capture(cameras, subject, Fault("none"), int(camera.ready["port"]), 999, GOOD_S)
        own = OwnSockets(int(camera.ready["port"]), *(peer.port(cell.fault) for cell in cells))
        async with asyncio.TaskGroup() as group:
            for number, cell in enumerate(cells):
                port, first = peer.port(cell.fault), 1 + number * CAPTURES
                seconds = AT_ONCE_TIMEOUT_S if KINDS[cell.fault.kind].waits else GOOD_S
                work = one_pass(cameras, cell, subject, port, seconds, CAPTURES, first)
                group.create_task(work)
        left = await own.settled(GIVEN_BACK_S)
    strange = {cell.fault.name: dict(cell.causes) for cell in cells if cell.strange}
    assert strange == {}
    assert all(cell.captures == CAPTURES for cell in cells)
    assert left == 0
    for fault in faults:
        requests = peer.counts(fault)[1] / CAPTURES
        if fault.kind == "401":
            assert requests <= steps + subject.questions, (
                "a refusal is answered once, else cameras lock out"
            )
        if fault.kind in {"close", "reset"}:
            assert requests < fault.step + subject.questions, (
                "nothing is sent twice behind our back"
            )


async def test_a_camera_that_is_stopped_costs_its_captures_and_no_more(rig, steps):
    """Issue 6: a peer that is SIGSTOPped."""
    subject, camera, peer = rig
    cell = await run_cell(subject, Fault("stopped"), peer, camera, TIMEOUT_S, CAPTURES)
    assert (cell.causes, cell.sockets_left) == ({"timeout": CAPTURES}, 0)


@pytest.mark.long
@pytest.mark.parametrize("kind", list(KINDS))
async def test_a_peer_that_misbehaves_costs_one_capture_and_no_more(rig, steps, kind):
    """Issue 6: outcome, time against the timeout, sockets given back."""
    subject, camera, peer = rig
    if KINDS[kind].tls and not subject.tls_scheme:
        pytest.skip("the protocol has no TLS of its own")
    assert steps < MOST_STEPS
    timeout_s = SLOW_TIMEOUT_S if subject.slow else TIMEOUT_S
    for fault in faults_of(steps, tls=True, kinds=(kind,)):
        cell = await run_cell(subject, fault, peer, camera, timeout_s, CAPTURES)
        assert cell.captures == CAPTURES
        assert cell.strange == 0, (fault.name, dict(cell.causes))
        assert cell.sockets_left == 0, fault.name


async def test_the_table_would_see_a_leak_and_a_strange_end(rig, steps):
    """The measure itself: a socket that is kept and a cause that is not expected are counted."""
    subject, camera, peer = rig
    kept = []

    async def leaky(cameras, profile, command, *, deadline_s):
        kept.append(socket.socket())
        return object()

    with (
        patch("connectors.cameras.registry.Cameras.capture", leaky),
        patch("benchmarks.misbehaviour.matrix.GIVEN_BACK_S", 0.1),
    ):
        cell = await run_cell(subject, Fault("silent"), peer, camera, TIMEOUT_S, CAPTURES)
    for one in kept:
        one.close()
    assert cell.strange == CAPTURES
    assert cell.sockets_left >= 2 * CAPTURES  # a neighbour may be about to connect
