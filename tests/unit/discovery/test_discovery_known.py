"""What a search means for known devices: an operator's word stands (issue 6: ``discover --add``)."""

from __future__ import annotations

from dataclasses import replace

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from connectors.discovery.base import Sighting
from connectors.discovery.identify import survey
from connectors.discovery.known import Wish, counts, reconcile
from schemas.records import DeviceProfile

HOST, MOVED = "10.0.0.7", "10.0.0.99"
NOTHING = Wish()


def sighting(host=HOST, **fields):
    given = {"port": 80, "kind": "camera", "protocol": "onvif", "address": f"http://{host}/onvif"}
    return Sighting("ws-discovery", host, **{**given, **fields})


def devices(*sightings, arp=None):
    return survey(sightings, arp).devices


def added(*sightings, arp=None, wish=NOTHING):
    return [one.profile for one in reconcile(devices(*sightings, arp=arp), [], wish, 1)]


def outcome(found, known, wish=NOTHING):
    (one,) = reconcile(found, known, wish, 9)
    return one


def test_a_new_device_gets_what_the_operator_gives():
    wish = Wish("plant", (("line", "3"),), "env:CAMERA_P")
    one = outcome(devices(sighting(mac="a8bbcc000001")), [], wish)
    assert (one.state, one.changes) == ("new", ())
    assert (one.profile.site, one.profile.credentials_ref) == ("plant", "env:CAMERA_P")
    assert one.profile.labels == {"line": "3", "discovered.mac": "a8bbcc000001"}
    assert one.profile.updated_at_ms == 9


def test_found_again_nothing_changes():
    found = sighting(mac="a8bbcc000001", uuid="epr:1", model="M", maker="Axis")
    known = added(found)
    one = outcome(devices(found), known)
    assert (one.state, one.profile, one.changes) == ("same", known[0], ())


def test_a_device_that_an_operator_added_by_hand_is_known_and_keeps_its_way():
    by_hand = DeviceProfile(
        "gate",
        f"http://{HOST}/snapshot.jpg",
        "http-snapshot",
        labels={"line": "1"},
        credentials_ref="env:CAMERA_G",
    )
    one = outcome(
        devices(sighting(uuid="epr:1", model="M1")),
        [by_hand],
        Wish("plant", (("line", "3"), ("hall", "b")), "env:CAMERA_P"),
    )
    assert one.state == "changed"
    assert one.profile == msgspec.structs.replace(
        by_hand,
        model="M1",
        site="plant",
        labels={"line": "1", "hall": "b", "discovered.uuid": "epr:1"},
        updated_at_ms=9,
    )
    assert one.changes == (
        "model (none) → M1",
        "site (none) → plant",
        "label discovered.uuid (none) → epr:1",
        "label hall (none) → b",
    )
    assert one.kept == ("credentials_ref env:CAMERA_G", "label line=1")


def test_a_camera_that_moved_keeps_its_id_and_all_but_its_host():
    """DHCP: another address, and of a cheap camera another endpoint reference as well."""
    (known,) = added(sighting(uuid="epr:1"), arp={HOST: "a8bbcc000001"}, wish=Wish("plant"))
    known = msgspec.structs.replace(known, address=f"rtsp://{HOST}:8554/main", protocol="rtsp")
    one = outcome(devices(sighting(MOVED, uuid="epr:2"), arp={MOVED: "a8bbcc000001"}), [known])
    assert (one.state, one.profile.device_id) == ("changed", known.device_id)
    assert (one.profile.address, one.profile.protocol) == (f"rtsp://{MOVED}:8554/main", "rtsp")
    assert f"address rtsp://{HOST}:8554/main → rtsp://{MOVED}:8554/main" in one.changes


def test_an_address_by_name_is_left_alone():
    known = DeviceProfile(
        "gate", "http://gate.plant/snap", "http-snapshot", labels={"discovered.mac": "a8bbcc000001"}
    )
    one = outcome(devices(sighting(mac="a8bbcc000001")), [known])
    assert one.profile.address == "http://gate.plant/snap"


def test_twins_behind_a_bridge_meet_themselves_not_each_other():
    twins = [sighting(host, mac="a8bbcc000001", uuid=f"epr:{host}") for host in (HOST, MOVED)]
    known = added(*twins)
    assert len({one.device_id for one in known}) == 2
    outcomes = reconcile(devices(*reversed(twins)), list(reversed(known)), NOTHING, 9)
    assert counts(outcomes) == {"same": 2}


def test_another_device_with_a_taken_id_gets_one_of_its_own():
    """The one MAC address a bridge shows was an id before its second camera was there."""
    known = added(sighting(serial="SN-1", model="m"), arp={HOST: "a8bbcc000001"})
    other = devices(sighting(MOVED, serial="SN-2", model="m"), arp={MOVED: "a8bbcc000001"})
    one = outcome(other, known)
    assert (one.state, one.profile.device_id) == ("new", f"{known[0].device_id}-{MOVED}")


def test_a_channel_that_was_added_by_its_url_is_known():
    url = f"http://{HOST}/snap?channel=2"
    by_hand = DeviceProfile("door", url, "http-snapshot")
    found = devices(
        *(
            sighting(
                mac="a8bbcc000001",
                channel=n,
                protocol="http-snapshot",
                address=f"http://{HOST}/snap?channel={n}",
            )
            for n in (1, 2)
        )
    )
    outcomes = reconcile(found, [by_hand], NOTHING, 9)
    assert [one.profile.device_id for one in outcomes] == ["mac-a8bbcc000001-ch1", "door"]


def test_a_channel_whose_profile_was_written_anew_without_our_labels_is_known():
    """``device add`` replaces the whole profile."""
    found = devices(
        sighting(mac="a8bbcc000001", channel=2, address=f"http://{HOST}/snap?channel=2")
    )
    anew = DeviceProfile("mac-a8bbcc000001-ch2", f"rtsp://{HOST}/2", "rtsp")
    one = outcome(found, [anew])
    assert (one.state, one.profile.device_id, one.profile.address) == (
        "changed",
        anew.device_id,
        anew.address,
    )


@given(
    st.lists(
        st.builds(
            sighting,
            host=st.sampled_from(["10.0.0.1", "10.0.0.2", "10.0.0.3"]),
            mac=st.sampled_from(["", "a8bbcc000001", "a8bbcc000002"]),
            uuid=st.sampled_from(["", "epr:1", "epr:2"]),
            serial=st.sampled_from(["", "SN-1", "SN-2"]),
            channel=st.sampled_from([0, 1, 2]),
        ),
        max_size=8,
    )
)
def test_to_add_twice_is_to_add_once(found):
    """What one search adds, the next one finds known, under different ids, and changes nothing."""
    seen = devices(*found)
    first = reconcile(seen, [], NOTHING, 1)
    known = [one.profile for one in first]
    assert len({one.device_id for one in known}) == len(known)
    second = reconcile(seen, known, NOTHING, 2)
    assert [one.profile for one in second] == known
    assert {one.state for one in second} <= {"same"}


@given(st.text(max_size=60), st.text(max_size=60))
def test_any_profile_at_all_can_be_compared_with(address, label):
    """device.profiles is written by others as well."""
    known = DeviceProfile(
        "x",
        address,
        "auto",
        labels={"discovered.channel": label, "discovered.mac": label, "discovered.serial": label},
    )
    (one,) = reconcile(devices(sighting()), [known], NOTHING, 9)
    assert one.profile.address


def test_an_outcome_names_the_known_device():
    known = added(sighting(mac="a8bbcc000001"))
    renamed = msgspec.structs.replace(known[0], device_id="gate")
    one = outcome(devices(sighting(mac="a8bbcc000001")), [renamed])
    assert one.device == replace(one.device, device_id="gate")
