"""A real chronyd and the fake server, one suite: what our client may expect of a time server.

What the fake passes here it may be trusted with where chronyd is not installed, or does not lie.
"""

from __future__ import annotations

import asyncio
import os
import select as polling
import socket
import time

import pytest
from chrony_server import ChronyServer
from fake_ntp import FakeNtpServer

from streams.core.ntp_packet import PACKET_BYTES, Answer, decode_answer, encode_question
from streams.runtime.clock import Clock
from streams.runtime.ntp import TimeServer

ONE_MACHINE_S = 0.020
"""Two clocks of one busy machine, asked over loopback, are not further apart than this."""


class Servers:
    """Makes servers of one kind and ends them."""

    def __init__(self, kind, folder):
        self._kind, self._folder, self._made = kind, folder, []

    def make(self, offset_s=0.0, drift=0.0, stratum=3):
        if self._kind == "fake":
            made = FakeNtpServer(offset_s=offset_s, drift=drift, stratum=stratum)
        else:
            folder = self._folder / str(len(self._made))
            made = ChronyServer(folder, offset_s, 1.0 + drift, stratum)
        self._made.append(made)
        return made

    def step(self, server, offset_s):
        if isinstance(server, FakeNtpServer):
            server.manners.offset_s = offset_s
        else:
            server.step(offset_s)

    def close(self):
        for made in self._made:
            made.close()


@pytest.fixture(params=["chronyd", "fake"])
def servers(request, tmp_path):
    made = Servers(request.param, tmp_path)
    yield made
    made.close()


async def ask(server, count=3):
    clock = Clock()
    asked = TimeServer(server.address, clock.monotonic_s)
    await asked.ask(count, 0.02, clock.now_s())
    return asked, [one.offset_s - (time.time() - clock.monotonic_s()) for one in asked.samples]


async def quickest(server):
    """Return the answer that tells most: of eight, the one that was under way for the shortest time."""
    for _ in range(5):  # none may come back in time where the machine is busy
        asked, _ = await ask(server, 8)
        if asked.samples:
            break
    return min(asked.samples, key=lambda one: one.delay_s)


def exchange(server, packet):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect(("127.0.0.1", server.port))
        sock.send(packet)
        ready, _, _ = polling.select([sock], [], [], 1.0)
        return sock.recv(512) if ready else None


async def test_it_tells_the_machines_time(servers):
    asked, offsets = await ask(servers.make())
    assert (asked.answers, asked.trouble, asked.stratum, len(offsets)) == (True, "", 3, 3)
    assert all(abs(offset_s) < ONE_MACHINE_S for offset_s in offsets)
    for one in asked.samples:
        assert 0.0 < one.delay_s < ONE_MACHINE_S
        assert 0.0 <= one.root_delay_s / 2.0 + one.root_dispersion_s < 0.1


@pytest.mark.parametrize("offset_s", [4.0, -3_600.0])
async def test_its_clock_may_be_another(servers, offset_s):
    _, offsets = await ask(servers.make(offset_s))
    assert offsets == [pytest.approx(offset_s, abs=ONE_MACHINE_S)] * 3


async def test_its_clock_may_drift(servers):
    """1 %, so that a second of it is far more than the noise: an offset is known to half its delay."""
    server = servers.make(4.0, drift=0.01)
    before = await quickest(server)
    await asyncio.sleep(2.0)
    after = await quickest(server)
    drifted_s = 0.01 * (after.at_s - before.at_s)
    unknown_s = (after.delay_s + before.delay_s) / 2
    assert after.offset_s - before.offset_s == pytest.approx(drifted_s, abs=unknown_s + 0.005)


async def test_its_clock_may_be_stepped_while_it_runs(servers):
    server = servers.make(2.0)
    assert (await ask(server))[1][-1] == pytest.approx(2.0, abs=ONE_MACHINE_S)
    servers.step(server, -7.0)
    assert (await ask(server))[1][-1] == pytest.approx(-7.0, abs=ONE_MACHINE_S)


def test_it_repeats_the_cookie_and_nothing_else(servers):
    server = servers.make()
    cookie = int.from_bytes(os.urandom(8), "big") or 1
    data = exchange(server, encode_question(cookie))
    assert data is not None
    assert len(data) == PACKET_BYTES
    found = decode_answer(data, cookie, time.time())
    assert isinstance(found, Answer)
    assert found.receive_s <= found.transmit_s < found.receive_s + 1.0
    assert found.precision_s < 0.001


def test_it_does_not_answer_what_is_no_question(servers):
    server = servers.make()
    assert exchange(server, b"\x23" + bytes(10)) is None
    assert exchange(server, encode_question(1)) is not None


async def test_a_server_that_has_died_answers_nothing(servers):
    server = servers.make()
    server.close()
    asked, offsets = await ask(server)
    assert (asked.answers, offsets) == (False, [])
    assert asked.trouble
