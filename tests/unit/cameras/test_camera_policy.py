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
     "::ffff:8.8.8.8", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::1",
     "168.63.129.16", "::169.254.169.254", "::8.8.8.8", "::ffff:0:a9fe:a9fe"],
)  # fmt: skip
def test_everything_else_is_not(host):
    assert not AddressPolicy().permits(host)


def test_the_most_specific_network_decides():
    everything = AddressPolicy(("0.0.0.0/0", "::/0"))
    assert everything.permits("93.184.216.34")
    assert everything.permits("2001:db8::1")
    assert everything.permits("::1")
    for wraps_it in ("", "::", "::ffff:", "::ffff:0:", "64:ff9b::", "64:ff9b:1::", "2001::"):
        assert not everything.permits(f"{wraps_it}169.254.169.254"), wraps_it
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


@pytest.mark.parametrize(
    "host",
    ["2130706433", "0x7f000001", "0x7f.0.0.1", "0177.0.0.1", "0251.0376.0251.0376", "127.1", "0",
     "127.0.0.1.", "127.0.0.256", "127.0.0.1.1", "1.0x7f", "camera.1", "127.0.0.1 ", "a b", "127.0.0.1\n",
     "a!b", "a%00b", "-", "[::1%251]", "[fc00::1%25lo]",
     "[::1%25%0d%0a]"],
)  # fmt: skip
def test_an_address_in_disguise_is_refused_as_it_is_written(host):
    """Nothing that a resolver could take for another address than we do gets as far as one."""
    with pytest.raises(CameraError) as caught:
        AddressPolicy(("0.0.0.0/0", "::/0")).target(f"http://{host}/x.jpg")
    assert caught.value.cause == "bad_address"
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "host", ["localhost", "camera-7.site_3.example", "x1", "xn--kche-0ra", "cam.example.", "a1b2"]
)
def test_a_name_is_a_name(host):
    assert AddressPolicy().target(f"http://{host}/x.jpg").url.raw_host == host


def test_digits_of_other_scripts_are_judged_as_what_they_are_connected_as():
    target = AddressPolicy().target("http://①②⑦.0.0.1/x.jpg")
    assert target.url.host == "127.0.0.1"
    with pytest.raises(CameraError) as caught:
        AddressPolicy().target("http://⑧.8.8.8/x.jpg")
    assert caught.value.cause == "address_not_allowed"


def test_a_link_local_address_has_a_zone_where_it_is_allowed():
    policy = AddressPolicy(("fe80::/64",))
    assert policy.target("http://[fe80::1%25eth0]/").url.host == "fe80::1%eth0"


@given(st.integers(0, 2**32 - 1), st.sampled_from(["%d", "0x%x", "0%o"]))
def test_no_spelling_of_a_number_is_a_name(number, spelling):
    with pytest.raises(CameraError) as caught:
        AddressPolicy(("0.0.0.0/0",)).target(f"http://{spelling % number}/")
    assert caught.value.cause == "bad_address"


def test_a_network_that_is_none_is_refused_at_the_start():
    with pytest.raises(ValueError, match="allowed_networks"):
        AddressPolicy(("10.0.0.1/8",))


def test_a_good_address_is_kept_as_it_is():
    target = AddressPolicy().target("http://192.168.1.64:8080/ISAPI/ch/101/picture?w=640")
    assert str(target.url) == "http://192.168.1.64:8080/ISAPI/ch/101/picture?w=640"
    assert target.place == "192.168.1.64:8080"
