"""Workers whose clocks are kept by time servers, one of which lies (SPEC 1.5)."""

from __future__ import annotations

import re
import urllib.request
from contextlib import ExitStack

import pytest
from chain_harness import PARTITIONS, assert_kept
from fake_ntp import FakeNtpServer

from schemas.records import ScheduleTick

EVERY_MS = 1_000
FLEET = 20
BEHIND_S = 0.25
"""The servers' clocks are so much behind this machine's: what the workers take from them shows."""


@pytest.fixture
def servers():
    with ExitStack() as stack:
        yield [
            stack.enter_context(FakeNtpServer(offset_s=offset_s))
            for offset_s in (-BEHIND_S, -BEHIND_S, 900.0)
        ]


def metric(chain, app, name):
    with urllib.request.urlopen(f"{chain.worker(app).url}/metrics", timeout=2.0) as answer:
        found = re.search(rf"^{name} (\S+)$", answer.read().decode(), re.MULTILINE)
    assert found is not None, name
    return float(found[1])


def start(make_chain, servers):
    chain = make_chain(FLEET, ntp=tuple(server.address for server in servers))
    chain.introduce()
    chain.schedule(EVERY_MS, catch_up="30s")
    chain.await_ready()
    chain.run_on(photos=FLEET)
    return chain


def clocks(chain):
    """Return what the ticks tell of the wheel's clock, oldest first, of all partitions."""
    return [tick.clock for tick in chain.records("schedule.ticks", ScheduleTick)]


def test_photos_are_taken_by_the_time_of_the_servers_that_agree(make_chain, servers):
    chain = start(make_chain, servers)
    for app in ("wheel", "captures"):
        chain.wait_until(
            "its burst is over",
            lambda app=app: metric(chain, app, "shutterwheel_ntp_servers_false"),
        )
        assert metric(chain, app, "shutterwheel_ntp_servers") == 3
        assert metric(chain, app, "shutterwheel_ntp_servers_reachable") == 3
        assert metric(chain, app, "shutterwheel_clock_disciplined") == 1
        assert 0 < metric(chain, app, "shutterwheel_clock_error_bound_seconds") < 0.1
        assert metric(chain, app, "shutterwheel_clock_jumps_total") == 0
    chain.cancel()
    chain.drain()
    report = chain.check()
    assert_kept(report)
    assert report.succeeded >= FLEET
    # The cameras' log is by the machine's clock, by which every shutter is 250 ms late.
    seen = sorted(
        entry.at_ms - result.scheduled_ms
        for result in chain.results()
        for entry in chain.cameras.log()
        if entry.shutter and entry.command_id == str(result.command_id)
    )
    assert seen[0] >= BEHIND_S * 1000.0 - 20.0
    told = clocks(chain)
    assert {one.source for one in told} == {"ntp"}
    assert all(0.0 < one.error_ms < 100.0 for one in told)
    starts = [c for one in told for c in one.corrections if c.kind == "start"]
    assert len(starts) == PARTITIONS, "the first tick of each partition tells of it"
    assert {c.at_ms for c in starts} == {starts[0].at_ms}
    assert starts[0].amount_ms == pytest.approx(-BEHIND_S * 1000.0, abs=20.0)


@pytest.mark.long
def test_servers_that_die_stop_nobody(make_chain, servers):
    """The clocks run on, no tick goes back, nothing is done twice or in a burst."""
    for server in servers:
        server.manners.offset_s = 0.0
    chain = start(make_chain, servers)
    bound_s = metric(chain, "wheel", "shutterwheel_clock_error_bound_seconds")
    for server in servers:
        server.close()
    chain.wait_until(
        "the wheel knows", lambda: not metric(chain, "wheel", "shutterwheel_ntp_servers_reachable")
    )
    chain.run_on(photos=2 * FLEET)
    assert metric(chain, "wheel", "shutterwheel_clock_error_bound_seconds") > bound_s
    assert metric(chain, "wheel", "shutterwheel_clock_jumps_total") == 0
    said = chain.worker("wheel").child.log_file.read_text()
    assert "no time server to go by" in said
    assert chain.cluster.restarts == 0
    chain.finish()
