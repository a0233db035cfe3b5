"""Filter, vote and average: liars are outvoted and the bound holds (RFC 5905, 10 and 11.2)."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.core.ntp_packet import Answer
from streams.core.ntp_select import (
    DRIFT,
    FREE_DRIFT,
    LEAST_DELAY_S,
    MOST_DRIFT,
    STAGES,
    Candidate,
    Sample,
    drift_of,
    filtered,
    sample_of,
    select,
)

UTC_S = 1_795_554_829.0
"""What UTC minus monotonic time is of the size of."""


def answer(receive_s, transmit_s, **more):
    parts = {"root_delay_s": 0.0, "root_dispersion_s": 0.0, "precision_s": 2.0**-20, "stratum": 2}
    return Answer(receive_s, transmit_s, **parts | more)


def sample(at_s, offset_s, delay_s, **more):
    parts = {"dispersion_s": 1e-6, "root_delay_s": 0.0, "root_dispersion_s": 0.0}
    return Sample(at_s, offset_s, delay_s, **parts | more)


def vote(candidates):
    return select(candidates, 100.0)


def candidate(name, offset_s, distance_s, at_s=0.0):
    return Candidate(name, offset_s, distance_s, at_s)


# --- a sample -------------------------------------------------------------------------------------


def test_the_example_of_the_packets_module():
    found = sample_of(answer(1000.010, 1000.011), 100.000, 100.031)
    assert found.offset_s == pytest.approx(899.995)
    assert found.delay_s == pytest.approx(0.030)


@given(st.floats(0.0, 0.5), st.floats(0.0, 0.5), st.floats(0.0, 0.1), st.floats(-5.0, 5.0))
def test_the_truth_is_within_half_the_delay_however_unequal_the_ways(there, back, work, true):
    """RFC 5905, section 8: the bound needs no symmetry."""
    sent_s = 50.0
    receive_s = sent_s + there + true
    found = sample_of(answer(receive_s, receive_s + work), sent_s, sent_s + there + work + back)
    assert abs(found.offset_s - true) <= found.delay_s / 2.0 + found.dispersion_s


def test_a_delay_below_the_grain_of_the_clocks_is_the_grain():
    found = sample_of(answer(1000.0, 1000.002, precision_s=0.001), 100.0, 100.001)
    assert found.delay_s == 0.001


# --- the filter -----------------------------------------------------------------------------------


def test_the_sample_of_the_least_delay_speaks_for_its_server():
    samples = [sample(1, 10.4, 0.8), sample(2, 10.001, 0.01), sample(3, 10.2, 0.4)]
    found = filtered("a", samples, 3.0)
    assert (found.offset_s, found.sample_s) == (10.001, 2)
    jitter_s = (((10.4 - 10.001) ** 2 + (10.2 - 10.001) ** 2) / 2) ** 0.5
    assert found.distance_s == pytest.approx(0.005 + 1e-6 + FREE_DRIFT * 1.0 + jitter_s)


def test_samples_are_moved_to_the_present_by_the_drift_that_is_known():
    """100 ppm for 40 s are 4 ms: without it the older sample would be that wrong."""
    samples = [sample(0.0, 10.000, 0.002), sample(40.0, 10.004, 0.050)]
    found = filtered("a", samples, 40.0, 100e-6)
    assert found.sample_s == 0.0
    assert found.offset_s == pytest.approx(10.004)
    assert found.distance_s == pytest.approx(0.001 + 1e-6 + DRIFT * 40.0)


def test_a_lucky_sample_does_not_rule_for_ever():
    old, new = sample(0.0, 10.0, 0.010), sample(60.0, 10.1, 0.018)
    assert filtered("a", [old, new], 60.0).offset_s == 10.1  # 60 s x 100 ppm = 6 ms against 4 ms
    assert filtered("a", [old, sample(60.0, 10.1, 0.030)], 60.0).offset_s == 10.0


def test_only_the_last_eight_samples_count():
    samples = [sample(0, 99.0, 1e-6)] + [sample(n, 10.0, 0.01) for n in range(1, STAGES + 1)]
    assert filtered("a", samples, float(STAGES)).offset_s == 10.0


def test_what_the_server_says_of_itself_is_in_its_distance():
    only = sample(0, 10.0, 0.02, root_delay_s=0.3, root_dispersion_s=0.05)
    assert filtered("a", [only], 0.0).distance_s == pytest.approx(0.15 + 0.05 + 0.01 + 1e-6)


# --- the vote -------------------------------------------------------------------------------------


def test_the_example_at_the_top_of_the_module():
    found = vote(
        [
            candidate("A", 10.000, 0.004),
            candidate("B", 10.003, 0.005),
            candidate("C", 14.000, 0.002),
        ]
    )
    assert found is not None
    assert (found.true, found.false) == (("A", "B"), ("C",))
    assert found.offset_s == pytest.approx(10.00133, abs=1e-5)
    assert found.error_s == pytest.approx(0.00333, abs=1e-5)


def test_nobody_and_two_who_disagree_give_nothing():
    assert vote([]) is None
    assert vote([candidate("a", 1.0, 0.1), candidate("b", 2.0, 0.1)]) is None
    four = [candidate(name, at, 0.1) for name, at in zip("abcd", (1.0, 1.0, 2.0, 2.0), strict=True)]
    assert vote(four) is None


def test_one_alone_is_believed():
    found = vote([candidate("a", 1.0, 0.1, 7.0)])
    assert found is not None
    assert (found.offset_s, found.newest_s) == (1.0, 7.0)
    assert found.error_s == pytest.approx(0.1)


def test_two_servers_that_are_closer_than_can_be_told_agree():
    near = [candidate("a", UTC_S, 0.00005), candidate("b", UTC_S + LEAST_DELAY_S * 0.9, 0.00005)]
    assert vote(near) is not None
    far = [candidate("a", UTC_S, 0.00005), candidate("b", UTC_S + LEAST_DELAY_S * 1.2, 0.00005)]
    assert vote(far) is None


def test_two_honest_servers_of_unequal_distance_agree():
    """NTP's own rule, that both offsets lie in the shared interval, would refuse them."""
    found = vote([candidate("near", 10.000, 0.004), candidate("far", 10.010, 0.008)])
    assert found is not None
    assert found.false == ()


@given(
    st.integers(2, 7).flatmap(
        lambda honest: st.tuples(
            st.lists(
                st.tuples(st.floats(0.0001, 0.5), st.floats(-1.0, 1.0)),
                min_size=honest,
                max_size=honest,
            ),
            st.lists(st.tuples(st.floats(-20.0, 20.0), st.floats(0.0, 0.5)), max_size=honest - 1),
            st.randoms(use_true_random=False),
        )
    )
)
def test_fewer_than_half_cannot_lead_the_others_out_of_their_bound(world):
    """Whatever a minority says, the truth stays within the error bound of what is agreed."""
    honest, liars, order = world
    candidates = [
        candidate(f"honest-{n}", UTC_S + share * distance, distance)
        for n, (distance, share) in enumerate(honest)
    ] + [
        candidate(f"liar-{n}", UTC_S + offset, distance)
        for n, (offset, distance) in enumerate(liars)
    ]
    order.shuffle(candidates)
    found = vote(candidates)
    assert found is not None
    assert abs(found.offset_s - UTC_S) <= found.error_s + 1e-6
    assert sorted(found.true + found.false) == sorted(one.name for one in candidates)
    assert len(found.true) > len(found.false)


def test_a_silent_server_is_none_that_agrees_with_a_liar():
    """Found by simulated world 500023: of two that answered one lied, and the bound was theirs."""
    honest = candidate("honest", UTC_S + 0.0016, 0.0076)
    liar = candidate("liar", UTC_S + 0.0196, 0.0194)
    both = select([honest, liar], 100.0)
    assert both is not None
    assert abs(both.offset_s - UTC_S) > both.error_s, "half of those who are asked may not lie"
    two = select([honest, liar], 100.0, 3)
    assert two is not None
    assert abs(two.offset_s - UTC_S) <= two.error_s
    alone = select([honest], 100.0, 3)
    assert alone is not None
    assert alone.error_s == pytest.approx(0.0076, abs=1e-6)


@given(st.integers(3, 7), st.data())
def test_whichever_minority_of_all_servers_lies_the_bound_holds_without_those_that_are_silent(
    servers, data
):
    liars = (servers - 1) // 2
    lies = data.draw(st.lists(st.floats(-0.5, 0.5), min_size=liars, max_size=liars))
    heard = data.draw(st.integers(liars + 1, servers)) - liars
    width, share = st.floats(0.0001, 0.5), st.floats(-1.0, 1.0)
    claims = [
        candidate(f"honest-{n}", UTC_S + data.draw(share) * distance_s, distance_s)
        for n, distance_s in enumerate([data.draw(width) for _ in range(heard)])
    ] + [candidate(f"liar-{n}", UTC_S + lie_s, data.draw(width)) for n, lie_s in enumerate(lies)]
    found = select(claims, 100.0, servers)
    assert found is None or abs(found.offset_s - UTC_S) <= found.error_s + 1e-6


def test_a_liar_among_three_is_outvoted_wherever_it_stands():
    for lie_s in (-3_600.0, -2.0, -0.05, 0.05, 1.5, 86_400.0):
        votes = [
            candidate("a", UTC_S + 0.0001, 0.002),
            candidate("liar", UTC_S + lie_s, 0.0005),
            candidate("b", UTC_S - 0.0002, 0.003),
        ]
        found = vote(votes)
        assert found is not None
        assert found.false == ("liar",)
        assert abs(found.offset_s - UTC_S) <= 0.0002


# --- the drift ------------------------------------------------------------------------------------


@pytest.mark.parametrize("ppm", [-280, -40, 0, 3, 120])
def test_the_drift_of_the_oscillator_is_seen_through_jitter(ppm):
    """16 rounds of 30 s, jitter of half a millisecond: right within 5 ppm."""
    dice = random.Random(7)
    rounds = [
        (30.0 * n, UTC_S + ppm * 1e-6 * 30.0 * n + dice.gauss(0.0, 0.0005)) for n in range(16)
    ]
    assert drift_of(rounds) == pytest.approx(ppm * 1e-6, abs=5e-6)


def test_the_drift_is_not_told_by_few_rounds_noise_or_no_oscillator():
    assert drift_of([(30.0 * n, UTC_S) for n in range(3)]) is None
    assert drift_of([(1.0, UTC_S)] * 5) is None
    dice = random.Random(8)
    assert drift_of([(30.0 * n, UTC_S + dice.gauss(0.0, 0.2)) for n in range(16)]) is None
    assert drift_of([(30.0 * n, UTC_S + 30.0 * n * MOST_DRIFT * 1.1) for n in range(16)]) is None
    assert DRIFT < FREE_DRIFT < MOST_DRIFT
