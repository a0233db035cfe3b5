"""Which sightings are one device (issue 6: 'merged and de-duplicated by score'; SPEC 3.1)."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.discovery.base import Sighting
from connectors.discovery.merge import NEVER, THRESHOLD, Evidence, merge, score

if TYPE_CHECKING:
    import random

A, B = "10.0.0.7", "10.0.0.8"


def seen(host=A, source="ws-discovery", **fields):
    return Sighting(source, host, **fields)


def groups(*sightings):
    return [set(group) for group in merge(sightings)]


# --- the table ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other", "points"),
    [
        # The worked examples of the module's text.
        (seen(port=8001, uuid="epr:1"), seen(source="mdns", port=80), 50),
        (seen(port=8001, uuid="epr:1"), seen(port=8002, uuid="epr:2"), 20),
        (seen(port=80, uuid="epr:1"), seen(port=80, uuid="epr:2"), 50),
        (seen(A, serial="00012345", model="x"), seen(B, serial="00012345", model="X"), 40),
        (
            seen(A, serial="00012345", model="x", mac="a" * 12),
            seen(B, serial="00012345", model="x", mac="a" * 12),
            100,
        ),
        # Identifiers of different kinds say nothing of each other.
        (seen(uuid="epr:1"), seen(source="ssdp", uuid="udn:2"), 50),
        # The same serial number of another model says nothing.
        (seen(A, serial="7777", model="x"), seen(B, serial="7777", model="y"), -20),
        (seen(A, mac="a" * 12), seen(B, mac="a" * 12), 40),
        (seen(A, mac="a" * 12, port=80), seen(A, mac="b" * 12, port=80), 20),
        (seen(channel=1), seen(channel=2), NEVER),
        (seen(channel=0), seen(channel=2), NEVER),
    ],
)
def test_the_score_is_the_table(one, other, points):
    assert score(Evidence.of(one), Evidence.of(other)) == points
    assert score(Evidence.of(other), Evidence.of(one)) == points
    assert len(merge([one, other])) == (1 if points >= THRESHOLD else 2)


# --- what was met on real networks (research: 'no single key is enough') -------------------------


def test_a_restart_with_a_new_endpoint_reference_is_the_same_camera():
    before = seen(port=8080, uuid="epr:1", address="http://10.0.0.7:8080/onvif")
    after = replace(before, uuid="epr:2")
    assert len(groups(before, after)) == 1


def test_a_batch_with_one_serial_number_stays_apart():
    batch = [
        seen(f"10.0.0.{n}", serial="00012345", model="IPC", mac=f"a8bbcc0000{n:02x}")
        for n in range(1, 9)
    ]
    assert len(groups(*batch)) == 8


def test_cameras_behind_a_bridge_that_shows_one_mac_stay_apart():
    assert (
        len(
            groups(*(seen(f"10.0.0.{n}", mac="a8bbcc000001", uuid=f"epr:{n}") for n in range(1, 9)))
        )
        == 8
    )


def test_five_protocols_that_see_one_camera_are_one_camera():
    found = groups(
        seen(port=80, uuid="epr:1", model="DS-2CD2042"),
        seen(source="mdns", port=80, name="cam"),
        seen(source="ssdp", port=49152, uuid="udn:9", serial="DS-90071", model="DS-2CD2042"),
        seen(source="sadp", port=80, mac="a8bbcc000001", serial="DS-90071", model="DS-2CD2042"),
        seen(source="dhip", port=80),
    )
    assert len(found) == 1


def test_a_camera_with_two_addresses_is_one_camera():
    found = groups(
        seen(A, source="sadp", mac="a8bbcc000001", serial="DS-90071", model="m"),
        seen(B, source="sadp", mac="a8bbcc000001", serial="DS-90071", model="m"),
    )
    assert len(found) == 1


def test_many_cameras_on_one_machine_stay_apart():
    """A host that carries more than a crowd: its address is no key any more."""
    assert len(groups(*(seen(port=8000 + n, uuid=f"epr:{n}") for n in range(300)))) == 300


def test_what_has_no_serial_does_not_join_two_that_have_different_ones():
    """The score is over all that a group gathered, not over one pair."""
    first = seen(port=80, serial="AAAA1111", model="m", uuid="epr:1")
    second = seen(port=80, serial="BBBB2222", model="m", uuid="epr:2")
    between = seen(source="mdns", port=80)
    found = groups(first, between, second)
    assert len(found) == 2
    assert not any({first, second} <= group for group in found)


def test_channels_of_a_recorder_stay_apart_and_each_meets_itself():
    unit = seen(source="sadp", kind="recorder", mac="a8bbcc000001", serial="NVR-1", port=80)
    by_sadp = [replace(unit, channel=n, kind="camera") for n in (1, 2, 3)]
    by_onvif = [seen(port=80, channel=n, uuid=f"epr:{n}") for n in (1, 2, 3)]
    found = groups(unit, *by_sadp, *by_onvif)
    assert len(found) == 4
    assert sorted(len(group) for group in found) == [1, 2, 2, 2]


def test_a_tie_is_decided_by_what_is_seen_not_by_what_came_first():
    """A web page without any key belongs to either of two cameras of one machine."""
    found = [
        seen(port=8001, uuid="epr:1"),
        seen(port=8002, uuid="epr:2"),
        seen(source="mdns", port=80),
    ]
    results = {merge(order) for order in itertools.permutations(found)}
    assert len(results) == 1
    assert sorted(len(group) for group in results.pop()) == [1, 2]


def test_groups_come_in_the_order_of_their_addresses():
    found = [seen(f"10.0.0.{n}", port=port) for n in (10, 9, 100) for port in (80,)]
    joined = [seen("10.0.0.10", source="mdns", port=80), seen("10.0.0.9", source="mdns", port=80)]
    assert [group[0].host for group in merge([*found, *joined])] == [
        "10.0.0.9",
        "10.0.0.10",
        "10.0.0.100",
    ]


# --- properties -----------------------------------------------------------------------------------

few = st.sampled_from
sightings = st.lists(
    st.builds(
        Sighting,
        source=few(["mdns", "ssdp", "ws-discovery", "sadp"]),
        host=few(["10.0.0.1", "10.0.0.2", "10.0.0.3"]),
        port=few([0, 80, 8080]),
        kind=few(["camera", "other"]),
        mac=few(["", "a8bbcc000001", "a8bbcc000002"]),
        uuid=few(["", "epr:1", "epr:2", "udn:1", "udn:2"]),
        serial=few(["", "SN-1", "SN-2"]),
        model=few(["", "m", "n"]),
        channel=few([0, 0, 0, 1, 2]),
    ),
    max_size=14,
)


@given(sightings, st.randoms(use_true_random=False))
def test_order_and_repetition_make_no_difference(found, shuffler: random.Random):
    shuffled = found + found[: len(found) // 2]
    shuffler.shuffle(shuffled)
    assert merge(shuffled) == merge(found)


@given(sightings)
def test_every_sighting_is_in_exactly_one_group(found):
    members = [one for group in merge(found) for one in group]
    assert len(members) == len(set(members))
    assert set(members) == set(found)


@given(sightings)
def test_two_channels_are_never_one_device(found):
    assert all(len({one.channel for one in group}) == 1 for group in merge(found))


@given(sightings)
def test_a_group_is_no_jump_over_a_gap(found):
    """Within a group each sighting has a key in common with another one of it."""
    for group in merge(found):
        for one in group if len(group) > 1 else ():
            rest = [Evidence.of(other) for other in group if other != one]
            own = Evidence.of(one)
            assert any(
                own.hosts & e.hosts
                or own.macs & e.macs
                or own.uuids & e.uuids
                or own.serials & e.serials
                for e in rest
            )


@given(sightings)
def test_no_two_groups_that_should_be_one_are_left(found):
    """Joining went on to its end: no pair of groups scores enough."""
    gathered = []
    for group in merge(found):
        total = Evidence.of(group[0])
        for one in group[1:]:
            total |= Evidence.of(one)
        gathered.append(total)
    for number, one in enumerate(gathered):
        for other in gathered[number + 1 :]:
            assert score(one, other) < THRESHOLD


@given(sightings, st.sampled_from(["10.9.9.1", "10.9.9.2"]))
def test_a_stranger_changes_nothing_for_the_others(found, host):
    """A device that shares no key with any other does not move them."""
    stranger = Sighting("mdns", host, mac="a8bbcc00ffff", uuid="epr:stranger", serial="SN-stranger")
    assert set(merge([*found, stranger])) == {*merge(found), (stranger,)}
