"""ONVIF's SOAP messages, clocks and addresses, without I/O (issue 6)."""

from __future__ import annotations

from base64 import b64decode
from datetime import UTC, datetime, timedelta, timezone

import pytest
from defusedxml.ElementTree import fromstring
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from connectors.cameras import onvif_soap
from connectors.cameras.onvif_address import as_reached
from connectors.cameras.onvif_clock import from_date_header, from_our_own, from_utc
from connectors.cameras.onvif_learn import choose
from connectors.cameras.onvif_soap import Fault, MediaProfile, Token
from schemas.errors import CameraError
from schemas.records import DeviceProfile

NOON = datetime(2026, 5, 1, 12, 0, 0, tzinfo=UTC)
DEVICE = DeviceProfile("cam-1", "http://10.0.0.7/onvif/device_service", "onvif")


def answer(body):
    return onvif_soap.parse(
        f'<s:Envelope xmlns:s="{onvif_soap.SOAP}"><s:Body>{body}</s:Body></s:Envelope>'.encode()
    )


# --- messages ------------------------------------------------------------------------------------


def test_the_digest_of_the_specification():
    """ONVIF Application Programmer's Guide, 6.1.1.1: its worked example."""
    nonce = "LKqI6G/AikKCQrN0zqZFlg=="
    digest = onvif_soap.password_digest(b64decode(nonce), "2010-09-16T07:50:45Z", "userpassword")
    assert digest == "tuOSpGlFlIXsozq4HFNeeGeFLEI="


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=30))
def test_names_and_tokens_are_escaped(text):
    token = Token(text, "p", NOON, b"n" * 16)
    root = fromstring(
        onvif_soap.envelope(onvif_soap.get_snapshot_uri(onvif_soap.MEDIA, text), token)
    )
    texts = {one.tag.rpartition("}")[2]: one.text or "" for one in root.iter()}
    assert texts["Username"] == text
    assert texts["ProfileToken"] == text
    assert texts["Created"] == "2026-05-01T12:00:00.000Z"


def test_created_is_utc():
    east = NOON.astimezone(timezone(timedelta(hours=9)))
    assert b"2026-05-01T12:00:00.000Z" in onvif_soap.envelope("", Token("u", "p", east, b""))


def test_a_token_shows_no_password():
    assert "secret" not in repr(Token("u", "secret", NOON, b""))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"<",
        b"<x/>",
        b"\xff\xd8\xff",
        b"<s:Envelope>",
        b'<?xml version="1.0" encoding="klingon"?><x/>',
    ],
)
def test_what_is_no_envelope(data):
    with pytest.raises(CameraError) as caught:
        onvif_soap.parse(data)
    assert (caught.value.cause, caught.value.retry) == ("bad_answer", True)


@given(st.binary(max_size=300))
def test_any_bytes_are_taken(data):
    with pytest.raises(CameraError):
        onvif_soap.parse(data)


def test_faults():
    soap12 = (
        "<s:Fault><s:Code><s:Value>s:Sender</s:Value><s:Subcode><s:Value>ter:NotAuthorized</s:Value>"
        "</s:Subcode></s:Code><s:Reason><s:Text>Sender not Authorized</s:Text></s:Reason></s:Fault>"
    )
    found = onvif_soap.fault_of(answer(soap12.replace("ter:", "x")))
    assert found is not None
    assert onvif_soap.fault_of(answer("<a/>")) is None
    soap11 = "<s:Fault><faultcode>s:Client</faultcode><faultstring>No such\nprofile</faultstring></s:Fault>"
    found = onvif_soap.fault_of(answer(soap11))
    assert str(found) == "Client: No such profile"
    assert not found.is_refusal


@pytest.mark.parametrize(
    ("codes", "reason", "refusal"),
    [
        (("Sender", "NotAuthorized"), "", True),
        (("Sender",), "Sender not authorized", True),
        (("Sender", "FailedAuthentication"), "", True),
        (("Receiver", "ActionNotSupported"), "", False),
        (("Sender", "InvalidArgVal", "NoProfile"), "Profile does not exist", False),
    ],
)
def test_which_fault_is_a_refusal(codes, reason, refusal):
    assert Fault(codes, reason).is_refusal is refusal


def test_services_of_both_generations():
    old = "<a><Capabilities><Media><XAddr> http://c/m </XAddr></Media><PTZ><XAddr>http://c/p</XAddr></PTZ></Capabilities></a>"
    assert onvif_soap.services(answer(old)) == {onvif_soap.MEDIA: "http://c/m"}
    new = f"<a><Service><Namespace>{onvif_soap.MEDIA2}</Namespace><XAddr>http://c/m</XAddr></Service></a>"
    assert onvif_soap.services(answer(new)) == {onvif_soap.MEDIA2: "http://c/m"}


def test_profiles_are_bounded_and_tolerant():
    many = "".join(f'<Profiles token="p{n}"/>' for n in range(1_000))
    found = onvif_soap.profiles(answer(f"<r>{many}<Profiles/></r>"))
    assert len(found) == onvif_soap.MAX_PROFILES
    assert found[0] == MediaProfile("p0", "", 0, 0)
    odd = '<r><Profiles token="p"><VideoEncoder><Resolution><Width>-5</Width><Height>9999999</Height></Resolution></VideoEncoder></Profiles></r>'
    assert onvif_soap.profiles(answer(odd))[0].pixels == 0


@pytest.mark.parametrize(
    ("offered", "channel", "chosen"),
    [
        ([("m", "1", 1920), ("s", "1", 640)], "", ["m", "s"]),
        ([("s", "1", 640), ("m", "1", 1920), ("t", "1", 320)], "", ["m", "t"]),
        ([("m", "1", 1920), ("x", "2", 3840)], "", ["m"]),
        ([("m", "1", 1920), ("x", "2", 3840), ("y", "2", 640)], "2", ["x", "y"]),
        ([("m", "1", 1920), ("s", "1", 640)], "s", ["s"]),
        ([("a", "", 0), ("b", "", 0)], "", ["a"]),
    ],
)
def test_main_and_sub_profile(offered, channel, chosen):
    profiles = [MediaProfile(token, source, px, px) for token, source, px in offered]
    assert [one.token for one in choose(DEVICE, channel, profiles)] == chosen


# --- clocks --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("<UTCDateTime><Time><Hour>12</Hour><Minute>0</Minute><Second>0</Second></Time><Date><Year>2026</Year><Month>5</Month><Day>1</Day></Date></UTCDateTime>", NOON),
        ("<UTCDateTime><Time><Hour>23</Hour><Minute>59</Minute><Second>60</Second></Time><Date><Year>2026</Year><Month>4</Month><Day>30</Day></Date></UTCDateTime>", datetime(2026, 4, 30, 23, 59, 59, tzinfo=UTC)),
        ("<UTCDateTime><Time><Hour>25</Hour><Minute>0</Minute><Second>0</Second></Time><Date><Year>2026</Year><Month>5</Month><Day>1</Day></Date></UTCDateTime>", None),
        ("<UTCDateTime/>", None),
        ("", None),
    ],
)  # fmt: skip
def test_the_time_of_a_device(body, expected):
    assert onvif_soap.device_utc(answer(f"<r>{body}</r>")) == expected


def test_it_runs_on_by_the_monotonic_clock():
    """The worked example of onvif_clock.py."""
    clock = from_utc(NOON, 100.0)
    assert clock.at(160.0) - clock.at(100.0) == timedelta(minutes=1)
    assert clock.skew_ms(160.0, int(NOON.timestamp() * 1000)) == 60_500
    assert from_utc(None, 0.0) is None


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("Fri, 01 May 2026 12:00:00 GMT", NOON),
        ("Fri, 01 May 2026 21:00:00 +0900", NOON),
        ("Fri, 01 May 2026 12:00:00", NOON),
        ("", None),
        ("yesterday", None),
        ("Fri, 99 May 2026 12:00:00 GMT", None),
    ],
)
def test_the_date_of_an_answer(header, expected):
    found = from_date_header(header, 5.0)
    assert (found.utc.replace(microsecond=0) if found else None) == expected


def test_two_readings_of_one_clock_agree():
    asked = from_utc(NOON, 100.0)
    assert asked.agrees(from_date_header("Fri, 01 May 2026 12:01:01 GMT", 160.0))
    assert not asked.agrees(from_date_header("Fri, 01 May 2026 12:01:05 GMT", 160.0))
    assert from_our_own(0, 7.0).at(7.0) == datetime(1970, 1, 1, tzinfo=UTC)


# --- addresses -----------------------------------------------------------------------------------

REACHED = URL("http://198.51.100.7:8081/onvif/device_service")
OWN = URL("http://192.168.1.64/onvif/device_service")


@pytest.mark.parametrize(
    ("said", "taken"),
    [
        ("http://192.168.1.64/onvif/media", "http://198.51.100.7:8081/onvif/media"),
        ("http://192.168.1.64:88/snap.jpg", "http://198.51.100.7:88/snap.jpg"),
        ("rtsp://192.168.1.64:554/ch1", "rtsp://198.51.100.7:554/ch1"),
        ("http://u:p@0.0.0.0:88/snap.jpg", "http://198.51.100.7:88/snap.jpg"),
        ("/snap.jpg", "http://198.51.100.7:8081/snap.jpg"),
        ("http://169.254.169.254/latest/", "http://198.51.100.7/latest/"),
        ("http://[fe80::1%25eth0]/x", "http://198.51.100.7/x"),
        ("http://h/a?b=%2F&c=d e#f", "http://198.51.100.7/a?b=/&c=d+e"),
        ("file:///etc/passwd", ""),
        ("gopher://h/", ""),
        ("http://[", ""),
        ("http://h:99999/", ""),
        ("", ""),
    ],
)
def test_addresses_as_reached(said, taken):
    """The table of onvif_address.py, and what must not lead anywhere else."""
    assert as_reached(said, REACHED, OWN) == taken


def test_https_in_front_of_a_device():
    reached = URL("https://cam.example:8443/onvif/device_service")
    assert (
        as_reached("http://192.168.1.64/snap.jpg", reached, OWN)
        == "https://cam.example:8443/snap.jpg"
    )


@given(st.text(max_size=60))
def test_no_address_leads_to_another_host(said):
    taken = as_reached(said, REACHED, OWN)
    assert not taken or URL(taken).host == "198.51.100.7"
