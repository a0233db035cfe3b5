"""Groups of devices: whom a manifest means (issue 5, 'Group targets')."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from connectors.clients.targets import Group
from schemas.records import DeviceProfile

WORDS = st.sampled_from(["", "a", "b"])
PROFILES = st.builds(
    DeviceProfile,
    device_id=st.text("xyz", min_size=1, max_size=3),
    address=st.just("http://127.0.0.1/"),
    protocol=st.just("http-snapshot"),
    model=WORDS,
    site=WORDS,
    labels=st.dictionaries(st.sampled_from(["line", "role"]), WORDS),
    removed=st.booleans(),
)
GROUPS = st.builds(
    Group.of, st.dictionaries(st.sampled_from(["line", "role"]), WORDS), WORDS, WORDS
)


def profile(device_id: str, site: str = "", **labels: str) -> DeviceProfile:
    return DeviceProfile(device_id, "http://h/", "http-snapshot", site=site, labels=labels)


def test_all_that_is_named_must_fit():
    known = [
        profile("d", "north", line="3", role="gate"),
        profile("c", "south", line="3"),
        profile("b", "north", line="4"),
        profile("a", "north"),
    ]
    assert Group.of({"line": "3"}).members(known) == ("c", "d")
    assert Group.of({"line": "3"}, "north").members(known) == ("d",)
    assert Group.of({"line": "3", "role": "yard"}).members(known) == ()
    assert Group().members(known) == ("a", "b", "c", "d")


def test_its_words():
    assert str(Group.of({"role": "gate", "line": "3"}, "north", "X")) == (
        "label line=3, label role=gate, site north, model X"
    )
    assert str(Group()) == "all"


@given(st.lists(PROFILES), GROUPS, GROUPS)
def test_a_group_that_asks_more_has_fewer_members_and_never_a_removed_one(known, one, two):
    both = Group.of(dict(two.labels) | dict(one.labels), one.site or two.site, one.model)
    members = set(both.members(known))
    assert members <= set(one.members(known)) <= set(Group().members(known))
    assert set(Group().members(known)) == {p.device_id for p in known if not p.removed}


@given(st.lists(PROFILES, unique_by=lambda p: p.device_id), GROUPS)
def test_members_are_in_order_whatever_the_order_of_the_profiles(known, group):
    members = group.members(known)
    assert list(members) == sorted(members)
    assert group.members(list(reversed(known))) == members
