"""The clock kept by time servers over real sockets: good, lying, silent, dying, hostile ones."""

from __future__ import annotations

import asyncio
import time
from contextlib import ExitStack

import pytest
from chrony_server import ChronyServer
from fake_ntp import FakeNtpServer

from schemas.errors import UsageError
from streams.core.ntp_packet import encode_question
from streams.observability.metrics import Metrics
from streams.runtime.clock import Clock
from streams.runtime.ntp import LEAVE_ALONE_S, NtpSettings, NtpSource, TimeServer, address_of

NOISE_S = 0.020
"""What two clocks of one busy machine may seem to differ by."""


class Kept:
    """A clock, its source and its metrics; the rounds are made by the test."""

    def __init__(self, *servers, every_s=30.0, burst=3):
        self.jumps, self.told = [], []
        self.skipped_s = 0.0
        self.clock = Clock(
            monotonic_s=lambda: time.monotonic() + self.skipped_s,
            wall_s=lambda: time.time() + self.skipped_s,
            on_jump=self.jumps.append,
            on_correction=self.told.append,
        )
        self.metrics = Metrics("wheel", "0")
        settings = NtpSettings(
            tuple(server if isinstance(server, str) else server.address for server in servers),
            every_s=every_s,
            burst=burst,
            spacing_s=0.01,
            patience_s=0.3,
        )
        self.source = NtpSource(settings, self.clock, self.metrics)

    def ahead_s(self):
        """What the clock is ahead of the machine's."""
        return self.clock.now_s() - time.time() - self.skipped_s

    def pass_s(self, seconds):
        """Let time pass for this worker: servers must be told so by their offsets."""
        self.skipped_s += seconds

    def counted(self, reason):
        return self.metrics.ntp_refusals[reason]


@pytest.fixture
def fake():
    with ExitStack() as stack:
        yield lambda **manners: stack.enter_context(FakeNtpServer(**manners))


# --- what is asked --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("ntp-1", ("ntp-1", 123)),
        ("ntp-1:1123", ("ntp-1", 1123)),
        ("10.0.0.1:99", ("10.0.0.1", 99)),
        ("[::1]:99", ("::1", 99)),
        ("[::1]", ("::1", 123)),
        ("fe80::1", ("fe80::1", 123)),
    ],
)
def test_a_server_is_host_and_port(text, address):
    assert address_of(text) == address


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":123",
        "a:",
        "a:0",
        "a:65536",
        "a:x",
        "[::1",
        "[::1]x",
        "[::1]:",
        "a b",
        "udp://a",
        "a,b",
    ],
)
def test_what_is_no_server_is_refused_with_a_sentence(text):
    with pytest.raises(UsageError, match=r"time server .*|no number from 1 to 65535"):
        NtpSettings((text,))


async def test_no_server_no_change():
    """The machine's own clock, and the metrics say so."""
    kept = Kept()
    await kept.source.start()
    assert not kept.clock.disciplined
    assert kept.clock.error_s() is None
    assert (kept.metrics.ntp_servers.read(), kept.metrics.ntp_reachable.read()) == (0, 0)
    assert abs(kept.ahead_s()) < NOISE_S


# --- good servers ---------------------------------------------------------------------------------


async def test_the_clock_starts_by_the_servers_however_wrong_the_machine_is(fake):
    """Before anything ran a jump hurts nobody: no fault, no slew of hours."""
    kept = Kept(*(fake(offset_s=7_200.0) for _ in range(3)))
    await kept.source.start()
    assert kept.ahead_s() == pytest.approx(7_200.0, abs=NOISE_S)
    assert [one.kind for one in kept.told] == ["start"]
    assert kept.jumps == []
    assert kept.clock.disciplined
    assert 0.0 < kept.clock.error_s() < NOISE_S
    assert kept.metrics.ntp_reachable.read() == 3
    assert kept.metrics.ntp_answer_age.read() < 1.0


async def test_a_small_difference_is_slewed(fake):
    server = fake()
    kept = Kept(server)
    await kept.source.start()
    server.manners.offset_s = 0.2
    kept.pass_s(0.0)
    for _ in range(3):  # until all samples of before are forgotten
        await kept.source.follow()
    assert abs(kept.ahead_s()) < NOISE_S
    assert kept.clock.offset_s() == pytest.approx(0.2, abs=NOISE_S)
    assert kept.clock.error_s() > 0.15
    assert kept.jumps == []


async def test_the_error_bound_is_the_servers_own_and_the_way_to_it(fake):
    kept = Kept(fake(root_delay_s=0.2, root_dispersion_s=0.05))
    await kept.source.start()
    assert kept.clock.error_s() == pytest.approx(0.15, abs=NOISE_S)


async def test_a_busy_loop_makes_no_delay(fake):
    """The kernel's stamp counts: the loop reads each answer 200 ms after it came."""
    loop = asyncio.get_running_loop()
    server = fake()
    server.manners.after_receive = lambda: loop.call_soon_threadsafe(time.sleep, 0.2)
    kept = Kept(server)
    assert await kept.source.round(3)
    assert min(one.delay_s for one in kept.source.servers[0].samples) < 0.1
    assert kept.source.agreement.error_s < 0.2


async def test_chronyd_keeps_the_clock(tmp_path):
    """Three real servers, four seconds ahead of this machine; then they drift and are stepped."""
    with ExitStack() as stack:
        servers = [
            stack.enter_context(ChronyServer(tmp_path / str(n), 4.0, 1.0005)) for n in range(3)
        ]
        kept = Kept(*servers)
        await kept.source.start()
        first_s = kept.ahead_s()
        assert first_s == pytest.approx(4.0, abs=NOISE_S)
        await asyncio.sleep(3.0)
        # A round whose best samples are older ones gives nothing new to follow.
        said = [await kept.source.follow() for _ in range(4)]
        assert "slew" in said
        assert {*said} <= {"slew", "none"}
        assert kept.clock.offset_s() > 0.0005  # 500 ppm for 3 s are 1.5 ms
        for server in servers:
            server.step(-3.0)
        said = [await kept.source.follow() for _ in range(8)]
        assert said.count("step") == 1
        assert "doubt" in said[: said.index("step")]
        assert kept.ahead_s() == pytest.approx(-3.0, abs=NOISE_S)
        assert kept.jumps == [pytest.approx(-7_000.0, abs=100.0)]


# --- liars ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("lie_s", [-86_400.0, -0.3, 0.3, 5.0])
async def test_a_liar_among_three_is_outvoted(fake, lie_s):
    """It lies from the start, is named by a metric, and moves nothing."""
    kept = Kept(fake(), fake(offset_s=lie_s), fake())
    await kept.source.start()
    for _ in range(3):
        await kept.source.follow()
    assert abs(kept.ahead_s()) < NOISE_S
    assert kept.metrics.ntp_false.read() == 1
    assert kept.source.agreement.false == (kept.source.servers[1].name,)
    assert kept.jumps == []


async def test_a_liar_beside_two_real_servers_is_outvoted(tmp_path, fake):
    with ChronyServer(tmp_path / "a") as a, ChronyServer(tmp_path / "b") as b:
        liar = fake(offset_s=2.0)
        kept = Kept(a, liar, b)
        await kept.source.start()
        assert abs(kept.ahead_s()) < NOISE_S
        assert kept.source.agreement.false == (liar.address,)


async def test_one_that_begins_to_lie_is_outvoted(fake):
    servers = [fake(), fake(), fake()]
    kept = Kept(*servers)
    await kept.source.start()
    servers[0].manners.offset_s = 30.0
    for _ in range(5):
        await kept.source.follow()
    assert abs(kept.ahead_s()) < NOISE_S
    assert kept.jumps == []


async def test_two_that_disagree_leave_the_clock_as_it_is(fake):
    servers = [fake(), fake()]
    kept = Kept(*servers)
    await kept.source.start()
    servers[0].manners.offset_s = 30.0
    said = {await kept.source.follow() for _ in range(4)}
    assert said <= {"none", "slew"}
    assert abs(kept.ahead_s()) < NOISE_S


# --- steps ----------------------------------------------------------------------------------------


async def test_a_jump_must_be_wanted_twice(fake):
    server = fake()
    kept = Kept(server, burst=8)
    await kept.source.start()
    server.manners.offset_s = 5.0
    assert await kept.source.follow() == "doubt"
    assert abs(kept.ahead_s()) < NOISE_S
    assert await kept.source.follow() == "step"
    assert kept.ahead_s() == pytest.approx(5.0, abs=NOISE_S)
    assert kept.jumps == [pytest.approx(5_000.0, abs=100.0)]
    assert [one.kind for one in kept.told if one.kind != "slew"] == ["start", "step"]


async def test_a_server_that_takes_its_jump_back_moves_nothing(fake):
    server = fake()
    kept = Kept(server, burst=8)
    await kept.source.start()
    server.manners.offset_s = 5.0
    assert await kept.source.follow() == "doubt"
    server.manners.offset_s = 0.0
    assert await kept.source.follow() == "slew"
    assert abs(kept.ahead_s()) < NOISE_S
    assert kept.jumps == []


# --- no answer ------------------------------------------------------------------------------------


async def test_nobody_answers_at_the_start(fake):
    """The worker starts all the same, and says whose clock it has."""
    kept = Kept(fake(silent=True), "127.0.0.1:9", "no-such-host.invalid")
    begun_s = time.monotonic()
    await kept.source.start()
    assert time.monotonic() - begun_s < 5.0
    assert not kept.clock.disciplined
    assert abs(kept.ahead_s()) < NOISE_S
    assert (kept.metrics.ntp_servers.read(), kept.metrics.ntp_reachable.read()) == (3, 0)
    assert str(kept.metrics.ntp_answer_age.read()) == "nan"
    assert all(one.trouble for one in kept.source.servers)


async def test_servers_that_die_leave_a_clock_that_runs_on(fake):
    """No step, no stop: monotonic time goes on, and the bound of the error grows."""
    servers = [fake(offset_s=0.5) for _ in range(3)]
    kept = Kept(*servers)
    await kept.source.start()
    error_s, ahead_s = kept.clock.error_s(), kept.ahead_s()
    for server in servers:
        server.close()
    last_s = kept.clock.now_s()
    for _ in range(5):
        assert await kept.source.follow() == "none"
        kept.pass_s(600.0)
        assert kept.clock.now_s() - last_s == pytest.approx(600.0, abs=1.0)
        last_s = kept.clock.now_s()
    assert kept.ahead_s() == pytest.approx(ahead_s, abs=1e-3)
    assert kept.clock.error_s() - error_s == pytest.approx(3_000.0 * 100e-6, rel=0.05)
    assert kept.metrics.ntp_reachable.read() == 0
    assert kept.metrics.ntp_answer_age.read() > 2_900.0
    assert kept.jumps == []


async def test_one_of_three_that_dies_is_not_missed(tmp_path):
    with ExitStack() as stack:
        servers = [stack.enter_context(ChronyServer(tmp_path / str(n))) for n in range(3)]
        kept = Kept(*servers)
        await kept.source.start()
        servers[1].close()
        assert await kept.source.follow() in {"slew", "none"}
        assert kept.metrics.ntp_reachable.read() == 2
        assert kept.clock.error_s() < NOISE_S


async def test_a_server_that_comes_back_is_used_again(fake):
    server = fake(silent=True)
    kept = Kept(server)
    await kept.source.start()
    assert not kept.clock.disciplined
    server.manners.silent = False
    assert await kept.source.follow() == "slew"
    assert kept.clock.disciplined
    assert kept.source.servers[0].trouble == ""


# --- refused --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("manners", "reason"),
    [
        ({"leap": 3}, "alarm"),
        ({"stratum": 16}, "stratum"),
        ({"root_dispersion_s": 3.0}, "distance"),
        ({"backwards": True}, "times"),
        ({"wrong_origin": True}, "origin"),
        ({"mode": 5}, "not_an_answer"),
        ({"cut_to": 40}, "short"),
        ({"kiss": "RATE"}, "kiss"),
        ({"kiss": "DENY"}, "kiss"),
    ],
)
async def test_an_answer_that_must_not_be_used_is_counted_by_its_reason(fake, manners, reason):
    kept = Kept(fake(offset_s=9.0, **manners))
    await kept.source.start()
    assert not kept.clock.disciplined
    assert abs(kept.ahead_s()) < NOISE_S
    assert kept.counted(reason) == 1
    assert reason in kept.source.servers[0].trouble


async def test_a_server_that_denies_is_left_alone_for_an_hour(fake):
    server = fake(kiss="DENY")
    kept = Kept(server)
    await kept.source.start()
    for _ in range(3):
        await kept.source.follow()
    assert server.asked == 1
    server.manners.kiss = ""
    kept.pass_s(LEAVE_ALONE_S + 1.0)
    await kept.source.follow()
    assert server.asked > 1


async def test_a_server_that_finds_us_too_quick_is_asked_less_often(fake):
    """RFC 5905, section 7.4: each RATE lengthens the pause, and the bursts are over."""
    server = fake(kiss="RATE")
    kept = Kept(server)
    for expected in (1, 2, 3):
        await kept.source.follow()
        await kept.source.follow()
        assert server.asked == expected
        kept.pass_s(60.0 * 2 ** (expected - 1) + 1.0)
    server.manners.kiss = ""
    await kept.source.follow()
    assert server.asked == 4


async def test_a_forged_answer_before_the_true_one_does_nothing(fake):
    """Who cannot see the question cannot answer it, nor silence the server by a kiss."""
    server = fake(forged_first=b"\x24\x00" + bytes(10) + b"DENY" + bytes(32))
    kept = Kept(server)
    await kept.source.start()
    assert kept.clock.disciplined
    assert kept.counted("origin") == 1
    assert kept.source.servers[0].answers


async def test_an_answer_that_comes_twice_counts_once(fake):
    server = fake(copies=3)
    asked = TimeServer(server.address, time.monotonic)
    await asked.ask(2, 0.01, time.time())
    assert len(asked.samples) == 2


async def test_no_two_questions_are_alike_and_none_tells_our_time(fake):
    server = fake()
    kept = Kept(server)
    await kept.source.round(4)
    assert len(set(server.questions)) == 4
    assert {question[:40] for question in server.questions} == {encode_question(1)[:40]}


# --- for as long as the worker runs ---------------------------------------------------------------


async def test_it_asks_every_so_often_and_ends_when_it_is_cancelled(fake):
    server = fake()
    kept = Kept(server, every_s=0.1, burst=1)
    await kept.source.start()
    task = asyncio.create_task(kept.source.keep())
    async with asyncio.timeout(10):
        while server.asked < 5:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
