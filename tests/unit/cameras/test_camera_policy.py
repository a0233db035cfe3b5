"""Which addresses may be contacted (issue 3, bad input; connectors/cameras/policy.py)."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.cameras.policy import REFUSED, AddressPolicy, plain_address
from schemas.errors import CameraError


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "127.8.9.1", "::1", "10.1.2.3", "172.16.0.1", "172.31.255.255",
     "192.168.1.64", "fc00::1", "fdab::1", "::ffff:10.1.2.3"],
)  # fmt: skip
def test_loopback_and_private_networks_are_allowed(host):
    assert AddressPolicy().permits(host)


@pytest.mark.parametrize(
    "host",
    ["8.8.8.8", "172.15.255.255", "172.32.0.1", "192.169.0.1", "11.0.0.1", "2001:db8::1",
     "0.0.0.0", "169.254.169.254", "169.254.7.9", "224.0.0.1", "255.255.255.255", "::",
     "fe80::1", "fe80::1%eth0", "ff02::1", "fd00:ec2::254", "fd20:ce::254",
     "::ffff:8.8.8.8", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::1"],
)  # fmt: skip
def test_everything_else_is_not(host):
    assert not AddressPolicy().permits(host)


def test_the_most_specific_network_decides():
    everything = AddressPolicy(("0.0.0.0/0", "::/0"))
    assert everything.permits("93.184.216.34")
    assert everything.permits("2001:db8::1")
    assert not everything.permits("169.254.169.254")
    named = AddressPolicy(("0.0.0.0/0", "169.254.7.0/24"))
    assert named.permits("169.254.7.9")
    assert not named.permits("169.254.169.254")


@given(st.ip_addresses(), st.lists(st.ip_addresses(network=ip_network("10.0.0.0/8")), max_size=3))
def test_nothing_outside_the_list_is_ever_allowed(address, extra):
    allowed = tuple(f"{ip}/24" for ip in extra)
    networks = [ip_network(text, strict=False) for text in allowed]
    policy = AddressPolicy(tuple(str(network) for network in networks))
    plain = plain_address(str(address))
    inside = any(plain.version == n.version and plain in n for n in networks)
    assert policy.permits(str(address)) == inside


@given(st.integers(0, 2**32 - 1).map(IPv4Address))
def test_an_address_inside_another_is_judged_as_itself(address):
    mapped = str(IPv6Address(f"::ffff:{address}"))
    policy = AddressPolicy(("0.0.0.0/0", "::/0"))
    assert policy.permits(mapped) == policy.permits(str(address))
    assert policy.permits(str(address)) != any(
        network.version == 4 and address in network for network in REFUSED
    )


@pytest.mark.parametrize(
    ("address", "cause"),
    [
        ("", "bad_address"),
        ("camera", "bad_address"),
        ("http://", "bad_address"),
        ("http:///x", "bad_address"),
        ("http://:80/x", "bad_address"),
        ("ftp://10.0.0.1/x", "bad_address"),
        ("file:///etc/passwd", "bad_address"),
        ("http://10.0.0.1:99999/", "bad_address"),
        ("http://10.0.0.1:0/", "bad_address"),
        ("http://[::1/", "bad_address"),
        ("http://user:secret@10.0.0.1/", "bad_address"),
        ("http://user@10.0.0.1/", "bad_address"),
        ("http://10.0.0.1/" + "x" * 3_000, "bad_address"),
        ("http://169.254.169.254/latest/", "address_not_allowed"),
        ("http://[fe80::1%25eth0]/", "address_not_allowed"),
        ("https://8.8.8.8/", "address_not_allowed"),
    ],
)
def test_an_address_that_cannot_be_used_is_refused_with_a_sentence(address, cause):
    with pytest.raises(CameraError) as caught:
        AddressPolicy().target(address)
    assert caught.value.cause == cause
    assert not caught.value.retry
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("host", ["2130706433", "0x7f000001", "127.1", "0177.0.0.1"])
async def test_an_ip_address_in_disguise_is_no_way_around(host):
    """What inet_aton would take as 127.0.0.1 is not in 10.0.0.0/8 however it is written."""
    import asyncio

    from connectors.cameras import Cameras, CameraSettings
    from schemas.records import CaptureCommand, DeviceProfile

    profile = DeviceProfile(device_id="d", address=f"http://{host}:9/", protocol="http-snapshot")
    command = CaptureCommand(1, "d", "s", "", 1, 0, 0, 0, 3_000, 0, 0)
    async with Cameras(CameraSettings(allowed_networks=("10.0.0.0/8",))) as cameras:
        with pytest.raises(CameraError) as caught:
            deadline_s = asyncio.get_running_loop().time() + 20
            await cameras.capture(profile, command, deadline_s=deadline_s)
    assert caught.value.cause in {"address_not_allowed", "bad_address", "unreachable"}


def test_a_network_that_is_none_is_refused_at_the_start():
    with pytest.raises(ValueError, match="allowed_networks"):
        AddressPolicy(("10.0.0.1/8",))


def test_a_good_address_is_kept_as_it_is():
    target = AddressPolicy().target("http://192.168.1.64:8080/ISAPI/ch/101/picture?w=640")
    assert str(target.url) == "http://192.168.1.64:8080/ISAPI/ch/101/picture?w=640"
    assert target.place == "192.168.1.64:8080"
