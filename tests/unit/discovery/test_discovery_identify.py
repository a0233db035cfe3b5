"""What a group of sightings is, and its profile (SPEC 3.1: 'identified → DeviceProfile')."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.discovery.base import Sighting
from connectors.discovery.identify import make_and_model, survey
from streams.core.schedule import validate_device_id

HOST = "10.0.0.7"
ONVIF = f"http://{HOST}/onvif/device_service"


def camera(host=HOST, source="ws-discovery", **fields):
    given = {
        "port": 80,
        "kind": "camera",
        "protocol": "onvif",
        "address": f"http://{host}/onvif/device_service",
    }
    return Sighting(source, host, **{**given, **fields})


def only(*sightings, arp=None):
    found = survey(sightings, arp)
    assert len(found.devices) == 1, found
    return found.devices[0]


def test_the_best_way_of_speaking_is_taken_and_the_words_of_all():
    device = only(
        camera(uuid="epr:1"),
        camera(
            source="mdns", protocol="rtsp", address=f"rtsp://{HOST}:554/s0", port=554, name="gate"
        ),
        camera(
            source="sadp",
            protocol="auto",
            address=f"http://{HOST}/",
            mac="a8bbcc000001",
            model="DS-2CD",
            maker="Hikvision",
            serial="DS-90071",
        ),
    )
    assert (device.protocol, device.address) == ("onvif", ONVIF)
    profile = device.profile(
        site="plant", labels={"line": "3"}, credentials_ref="env:CAMERA_A", updated_at_ms=5
    )
    assert (profile.device_id, profile.model, profile.site) == (
        "mac-a8bbcc000001",
        "Hikvision DS-2CD",
        "plant",
    )
    assert profile.labels == {
        "line": "3",
        "discovered.mac": "a8bbcc000001",
        "discovered.serial": "DS-90071",
        "discovered.uuid": "epr:1",
    }
    assert (profile.credentials_ref, profile.updated_at_ms) == ("env:CAMERA_A", 5)
    assert device.seen_by == ("mdns", "sadp", "ws-discovery")


@pytest.mark.parametrize(
    ("fields", "arp", "device_id"),
    [
        ({"mac": "a8bbcc000001", "uuid": "epr:1"}, {HOST: "a8bbcc0000ff"}, "mac-a8bbcc000001"),
        (
            {"uuid": "epr:1", "serial": "SN 1/2", "model": "M"},
            {HOST: "a8bbcc0000ff"},
            "mac-a8bbcc0000ff",
        ),
        ({"uuid": "epr:1", "serial": "SN 1/2", "model": "M x"}, {}, "serial-m-x-sn-1-2"),
        ({"uuid": "epr:4D45-1", "serial": "SN12"}, {}, "epr-4d45-1"),
        ({}, {}, "host-10.0.0.7-80"),
        ({"channel": 3, "mac": "a8bbcc000001"}, {}, "mac-a8bbcc000001-ch3"),
    ],
)
def test_the_id_is_made_of_the_strongest_key(fields, arp, device_id):
    assert only(camera(**fields), arp=arp).device_id == device_id


def test_a_key_that_two_devices_have_makes_no_id():
    """A bridge that shows one MAC for all, and a batch with one serial number."""
    shared = {"10.0.0.1": "a8bbcc0000ff", "10.0.0.2": "a8bbcc0000ff"}
    found = survey(
        [camera(host, serial="SN-1", model="m", uuid=f"epr:{host}") for host in shared], shared
    )
    assert [one.device_id for one in found.devices] == ["epr-10-0-0-1", "epr-10-0-0-2"]
    assert [one.mac for one in found.devices] == ["", ""]


def test_a_new_endpoint_reference_at_each_start_changes_no_id():
    arp = {HOST: "a8bbcc0000ff"}
    assert (
        only(camera(uuid="epr:1"), arp=arp).device_id
        == only(camera(uuid="epr:2"), arp=arp).device_id
    )


def test_of_a_recorder_the_channels_are_devices_and_the_unit_is_not():
    """Issue 6: 'channels of a recorder kept apart'."""
    unit = camera(source="dhip", kind="recorder", protocol="auto", mac="a8bbcc000001", channels=2)
    channels = [
        camera(
            source="dhip",
            protocol="http-snapshot",
            address=f"http://{HOST}/snap?channel={n}",
            mac="a8bbcc000001",
            channel=n,
        )
        for n in (1, 2)
    ]
    found = survey([unit, *channels])
    assert [one.device_id for one in found.devices] == [
        "mac-a8bbcc000001-ch1",
        "mac-a8bbcc000001-ch2",
    ]
    assert [one.profile().labels["discovered.channel"] for one in found.devices] == ["1", "2"]
    assert [one.reason for one in found.ignored] == ["a recorder; each of its channels is a device"]


def test_a_recorder_that_names_no_channels_is_a_device():
    assert only(camera(kind="recorder")).kind == "recorder"


def test_what_is_no_camera_is_ignored_with_its_reason():
    """Issue 6: 'non-cameras ignored'."""
    found = survey(
        [
            Sighting("ssdp", "10.0.0.1", kind="other", why="a media server", name="films"),
            Sighting("ws-discovery", "10.0.0.2", kind="other", why="a computer"),
            Sighting("ssdp", "10.0.0.3", why=""),
            camera("10.0.0.4", address="", protocol=""),
        ]
    )
    assert not found.devices
    assert [(one.host, one.name, one.reason) for one in found.ignored] == [
        ("10.0.0.1", "films", "a media server"),
        ("10.0.0.2", "", "a computer"),
        ("10.0.0.3", "", "nothing says that it is a camera"),
        ("10.0.0.4", "", "no address to speak to: "),
    ]


def test_a_camera_that_is_a_media_server_as_well_is_a_camera():
    device = only(
        camera(), Sighting("ssdp", HOST, kind="other", why="a media server", name="films")
    )
    assert device.kind == "camera"


@pytest.mark.parametrize(
    ("maker", "model", "both"),
    [
        ("Axis", "AXIS M3045", "AXIS M3045"),
        ("", "M1", "M1"),
        ("Bosch", "", "Bosch "),
        ("Bosch", "D1", "Bosch D1"),
    ],
)
def test_make_and_model(maker, model, both):
    assert make_and_model(maker, model) == both.strip()


@given(
    st.lists(
        st.builds(
            camera,
            host=st.sampled_from(["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"]),
            mac=st.sampled_from(["", "a8bbcc000001"]),
            uuid=st.sampled_from(["", "epr:1", "epr:2"]) | st.text(max_size=80),
            serial=st.sampled_from(["", "SN-1"]) | st.text(max_size=80),
            model=st.sampled_from(["m", "n"]) | st.text(max_size=80),
            channel=st.sampled_from([0, 1, 2]),
            port=st.sampled_from([80, 8080]),
        ),
        max_size=10,
    )
)
def test_ids_are_different_and_ids_that_the_wheel_takes(found):
    devices = survey(found).devices
    assert len({one.device_id for one in devices}) == len(devices)
    assert all(validate_device_id(one.device_id) is None for one in devices)
