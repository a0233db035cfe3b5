"""What is read of an answer, and what is not believed (issue 6: discovery; research, 'ONVIF and discovery')."""

from __future__ import annotations

import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from zeroconf.asyncio import AsyncServiceInfo

from connectors.discovery import dhip, mdns, sadp, ssdp, wsd
from connectors.discovery.base import (
    BadAnswerError,
    Limits,
    Sighting,
    mac_of,
    serial_of,
    text_of,
    uuid_of,
)
from connectors.discovery.channels import with_channels
from connectors.discovery.simulated import (
    BOMB,
    SimulatedDevice,
    dhip_reply,
    sadp_reply,
    ssdp_reply,
    wsd_reply,
)
from connectors.discovery.xml import MAX_DEPTH, MAX_ELEMENTS, read_xml

HOST = "10.0.0.7"
LIMITS = Limits()


def refused(call, *arguments):
    with pytest.raises(BadAnswerError) as caught:
        list(call(*arguments) or ())
    return caught.value.word


def test_limits_have_bounds():
    with pytest.raises(ValueError, match="max_answer_bytes is 0, but must be from 512 to 65507"):
        Limits(max_answer_bytes=0)
    with pytest.raises(ValueError, match="description_timeout_s"):
        Limits(description_timeout_s=3.0)


# --- XML ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (BOMB, "hostile"),
        (b'<!DOCTYPE x SYSTEM "http://10.0.0.1/x.dtd"><x/>', "hostile"),
        (
            b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><x>&e;</x>',
            "hostile",
        ),
        (b"<?run me?><x/>", "hostile"),
        (b"<a>" * (MAX_DEPTH + 1) + b"</a>" * (MAX_DEPTH + 1), "hostile"),
        (b"<a>" + b"<b/>" * MAX_ELEMENTS + b"</a>", "hostile"),
        (b"<a>" + b"t" * 9_000 + b"</a>", "hostile"),
        (BOMB.decode().encode("utf-16"), "hostile"),
        (b"", "malformed"),
        (b"<a>&undefined;</a>", "malformed"),
        (b"<a><b></a></b>", "malformed"),
        (b"<a/><b/>", "malformed"),
        (b'<?xml version="1.0" encoding="no-such-code"?><a>\xff</a>', "malformed"),
    ],
)
def test_xml_that_attacks_or_is_none(data, word):
    assert refused(read_xml, data) == word


def test_xml_of_sloppy_cameras_is_read():
    """Undeclared prefixes, a wrong declaration of the encoding, NULs at the end."""
    root = read_xml(
        '<?xml version="1.0" encoding="gb2312"?><x:a><y:b>é</y:b><b/></x:a>\0\0'.encode()
    )
    assert (root.name, root.first("none", "b"), len(root.all("b"))) == ("a", "é", 2)


# --- WS-Discovery ---------------------------------------------------------------------------------


def matches(device, question=None):
    (answer,) = wsd_reply(device, question or wsd.probes()[0], "")
    return list(wsd.read_matches(answer, device.host))


@pytest.mark.parametrize("bare", [False, True], ids=["ProbeMatches", "bare ProbeMatch"])
def test_a_match_is_read_wrapped_or_bare(bare):
    (found,) = matches(
        SimulatedDevice(
            host=HOST,
            port=8080,
            epr="4D45-1",
            mac="A8BBCC000001",
            model="X 1",
            name="gate",
            bare=bare,
        )
    )
    assert found == Sighting(
        "ws-discovery",
        HOST,
        8080,
        kind="camera",
        why="ONVIF NetworkVideoTransmitter",
        protocol="onvif",
        address=f"http://{HOST}:8080/onvif/device_service",
        mac="a8bbcc000001",
        uuid="epr:4d45-1",
        model="X 1",
        name="gate",
    )


def soap(types="", scopes="", xaddrs=""):
    return (
        "<e><ProbeMatch><EndpointReference><Address>uuid:7</Address></EndpointReference>"
        f"<Types>{types}</Types><Scopes>{scopes}</Scopes><XAddrs>{xaddrs}</XAddrs></ProbeMatch></e>"
    ).encode()


def match(**parts):
    (found,) = wsd.read_matches(soap(**parts), HOST)
    return found


@pytest.mark.parametrize(
    ("xaddrs", "address"),
    [
        (f"http://[fe80::1]/o http://192.168.9.9/o http://{HOST}:81/o", f"http://{HOST}:81/o"),
        # Behind a port forwarding, or a lie: either way the sender is where it is.
        ("http://192.168.9.9:81/o", f"http://{HOST}:81/o"),
        ("http://169.254.169.254/latest", f"http://{HOST}/latest"),
        ("http://user:secret@10.0.0.7/o", ""),
        ("file:///etc/passwd javascript:x ::: http://[/", ""),
        ("", ""),
    ],
)
def test_a_device_speaks_for_its_own_address_only(xaddrs, address):
    assert match(types="dn:NetworkVideoTransmitter", xaddrs=xaddrs).address == address


@pytest.mark.parametrize(
    ("parts", "kind"),
    [
        ({"types": "dn:NetworkVideoTransmitter tds:Device"}, "camera"),
        ({"types": "tds:Device", "scopes": "onvif://www.onvif.org/type/video_encoder"}, "camera"),
        ({"types": "tds:Device", "scopes": "onvif://www.onvif.org/name/x"}, "unknown"),
        (
            {
                "types": "dn:NetworkVideoTransmitter",
                "scopes": "onvif://www.onvif.org/type/NetworkVideoRecorder",
            },
            "recorder",
        ),
        ({"types": "wsdp:Device pub:Computer"}, "other"),
        ({"types": "wprt:PrintDeviceType wsdp:Device"}, "other"),
        ({"types": "wsdp:Device"}, "other"),
        ({"types": "dn:NetworkVideoDisplay tds:Device"}, "other"),
    ],
)
def test_the_kind_of_a_match(parts, kind):
    assert match(**parts).kind == kind


def test_a_channel_of_a_recorder_is_read_from_scope_or_query():
    one = match(
        types="dn:NetworkVideoTransmitter",
        scopes="onvif://www.onvif.org/type/NVR onvif://www.onvif.org/channel/3",
    )
    other = match(types="dn:NetworkVideoTransmitter", xaddrs=f"http://{HOST}/onvif?channel=12")
    assert [(x.kind, x.channel) for x in (one, other)] == [("camera", 3), ("camera", 12)]


def test_somebody_elses_question_is_no_answer():
    assert refused(wsd.read_matches, wsd.probes()[0], HOST) == "malformed"
    assert list(wsd.read_matches(b"<e><ProbeMatches/></e>", HOST)) == []


def test_probes_ask_for_three_types_with_ids_of_their_own():
    probes = wsd.probes()
    assert [
        b"dn:NetworkVideoTransmitter<" in probes[0],
        b"tds:Device<" in probes[1],
        b"wsdp:Device<" in probes[2],
    ] == [True] * 3
    assert len({read_xml(one).first("MessageID") for one in probes}) == 3


# --- SSDP -----------------------------------------------------------------------------------------


def test_an_answer_of_ssdp():
    question = ssdp.search_message(ssdp.CAMERA, 2)
    (answer,) = ssdp_reply(
        SimulatedDevice(host=HOST, epr="AB"), question, f"http://{HOST}:49152/d.xml"
    )
    found, location = ssdp.read_answer(answer, HOST)
    assert location == f"http://{HOST}:49152/d.xml"
    assert (found.kind, found.uuid, found.port) == ("camera", "udn:ab", 49152)


@pytest.mark.parametrize(
    ("answer", "word"),
    [
        (b"NOTIFY * HTTP/1.1\r\nNT: x\r\n\r\n", "malformed"),
        (b"HTTP/1.1 404 no\r\nUSN: uuid:1\r\n\r\n", "malformed"),
        (b"HTTP/1.1 200 OK\r\nX: y\r\n\r\n", "malformed"),
        (b"HTTP/1.1 200 OK\r\nUSN: uuid:1\r\nLOCATION: file:///etc/passwd\r\n\r\n", "malformed"),
        (b"HTTP/1.1 200 OK\r\nUSN: uuid:1\r\nLOCATION: http://[\r\n\r\n", "malformed"),
        (b"HTTP/1.1 200 OK\r\nUSN: uuid:1\r\nLOCATION: http://a:b@10.0.0.7/\r\n\r\n", "malformed"),
        # Server-side request forgery by proxy: we would fetch it, in somebody else's name.
        (b"HTTP/1.1 200 OK\r\nUSN: uuid:1\r\nLOCATION: http://10.0.0.1/admin\r\n\r\n", "elsewhere"),
        (b"HTTP/1.1 200 OK\r\nUSN: uuid:1\r\nLOCATION: http://localhost/\r\n\r\n", "elsewhere"),
        (b"\xff\xfe" * 900, "malformed"),
    ],
)
def test_answers_of_ssdp_that_are_not_believed(answer, word):
    assert refused(ssdp.read_answer, answer, HOST) == word


def description(page="/", **said):
    inner = "".join(f"<{key}>{value}</{key}>" for key, value in said.items())
    return (
        f"<root><device>{inner}<presentationURL>{page}</presentationURL></device></root>".encode()
    )


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ({"deviceType": ssdp.CAMERA}, "camera"),
        (
            {
                "deviceType": "urn:schemas-upnp-org:device:Basic:1",
                "manufacturer": "AXIS",
                "modelName": "AXIS M3045",
            },
            "camera",
        ),
        (
            {"deviceType": "urn:schemas-upnp-org:device:Basic:1", "modelName": "DS-7608NI NVR"},
            "recorder",
        ),
        (
            {
                "deviceType": "urn:schemas-upnp-org:device:MediaServer:1",
                "friendlyName": "camera films",
            },
            "other",
        ),
        (
            {"deviceType": "urn:schemas-upnp-org:device:InternetGatewayDevice:2", "modelName": "x"},
            "other",
        ),
        (
            {
                "deviceType": "urn:schemas-upnp-org:device:Basic:1",
                "modelName": "Philips hue bridge",
            },
            "other",
        ),
        ({"deviceType": "urn:schemas-upnp-org:device:Printer:1", "modelName": "LaserJet"}, "other"),
        ({"deviceType": "urn:schemas-upnp-org:device:Basic:1"}, "unknown"),
    ],
)
def test_a_description_says_what_a_device_is(said, kind):
    found = ssdp.read_description(
        description(**said), Sighting("ssdp", HOST), f"http://{HOST}:1/d.xml"
    )
    assert found.kind == kind
    assert bool(found.address) == (kind in {"camera", "recorder"})


def test_a_page_elsewhere_is_not_taken():
    found = ssdp.read_description(
        description(
            page="http://10.0.0.1/",
            deviceType=ssdp.CAMERA,
            serialNumber="a8:bb:cc:00:00:01",
            UDN="uuid:Q-9",
        ),
        Sighting("ssdp", HOST, uuid="udn:old"),
        f"http://{HOST}:1/d.xml",
    )
    assert (found.address, found.mac, found.uuid) == ("", "a8bbcc000001", "udn:q-9")


# --- makers' broadcasts ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reply", "read", "question", "first"),
    [
        (
            sadp_reply,
            sadp.read_answer,
            sadp.inquiry(),
            f"http://{HOST}/ISAPI/Streaming/channels/101/picture",
        ),
        (
            dhip_reply,
            dhip.read_answer,
            dhip.pack(b'{"method":"DHDiscover.search"}'),
            f"http://{HOST}/cgi-bin/snapshot.cgi?channel=1",
        ),
    ],
    ids=["sadp", "dhip"],
)
def test_a_recorder_and_its_channels(reply, read, question, first):
    device = SimulatedDevice(
        host=HOST, model="NVR-16", serial="NV-90071", mac="a8bbcc000001", channels=3
    )
    (answer,) = reply(device, question, "")
    found = read(answer, HOST)
    assert (found.kind, found.mac, found.serial, found.model, found.channels) == (
        "recorder",
        "a8bbcc000001",
        "NV-90071",
        "NVR-16",
        3,
    )
    path = sadp.picture_path if read is sadp.read_answer else dhip.picture_path
    unit, *channels = with_channels(found, path, LIMITS.max_channels)
    assert unit == found
    assert [one.channel for one in channels] == [1, 2, 3]
    assert channels[0].address == first
    assert read(question, HOST) is None, "our own question, or another searcher's"
    assert refused(read, answer, "10.0.0.8") == "elsewhere"


def test_a_recorder_with_more_channels_than_there_are_gets_what_the_limits_allow():
    found = Sighting("sadp", HOST, 80, kind="recorder", channels=60_000)
    assert len(list(with_channels(found, sadp.picture_path, 256))) == 257


@pytest.mark.parametrize("device_class", ["VTO", "VTH"])
def test_door_stations_are_no_cameras(device_class):
    body = (
        b'{"mac":"a8:bb:cc:00:00:01","params":{"deviceInfo":{"DeviceClass":"%s"}}}'
        % device_class.encode()
    )
    assert dhip.read_answer(dhip.pack(body), HOST).kind == "other"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        dhip.pack(b""),
        dhip.pack(b"[" * 5_000),
        dhip.pack(b'{"params":{"deviceInfo":{"HttpPort":"80"}}}'),
        dhip.pack(b'{"params":{"deviceInfo":{"HttpPort":1e400}}}'),
        struct.pack("<I", 32) + b"PIHD" + bytes(24) + b"{}",
    ],
)
def test_packets_of_dhip_that_are_none(data):
    assert refused(dhip.read_answer, data, HOST) == "malformed"


def test_ports_and_counts_out_of_range_are_not_taken():
    body = b'{"params":{"deviceInfo":{"HttpPort":-1,"DeviceClass":"NVR","VideoInputChannels":-5}}}'
    found = dhip.read_answer(dhip.pack(body), HOST)
    assert (found.port, found.channels) == (80, 0)
    answer = b"<ProbeMatch><HttpPort>99999</HttpPort><DigitalChannelNum>-3</DigitalChannelNum></ProbeMatch>"
    assert sadp.read_answer(answer, HOST).port == 80


# --- mDNS -----------------------------------------------------------------------------------------


def service(service_type, name="x", port=80, host=HOST, **txt):
    return AsyncServiceInfo(
        service_type,
        f"{name}.{service_type}",
        port=port,
        addresses=[socket.inet_aton(host)],
        server="h.local.",
        properties=txt,
    )


@pytest.mark.parametrize(
    ("info", "kind", "address"),
    [
        (service(mdns.ONVIF), "camera", f"http://{HOST}/onvif/device_service"),
        (service(mdns.AXIS, "AXIS M3045"), "camera", f"http://{HOST}/"),
        (service(mdns.RTSP, port=8554, path="/cam"), "camera", f"rtsp://{HOST}:8554/cam"),
        (service(mdns.RTSP, "VLC media server", port=554), "other", ""),
        (service(mdns.HTTP, "HP LaserJet 400"), "other", ""),
        (service(mdns.HTTP, "Reolink front door", port=81), "camera", f"http://{HOST}:81/"),
        (service(mdns.HTTP, "Camera printer"), "other", ""),
        (service(mdns.ONVIF, "NVR-8"), "recorder", f"http://{HOST}/onvif/device_service"),
        # A path that would be another host's.
        (service(mdns.ONVIF, path="//10.0.0.1/x"), "camera", f"http://{HOST}/"),
        (service(mdns.ONVIF, path="http://10.0.0.1/x"), "camera", f"http://{HOST}/"),
    ],
)
def test_a_service(info, kind, address):
    (found,) = mdns.read_service(info.type, info)
    assert (found.kind, found.address) == (kind, address)


def test_what_a_txt_record_says():
    info = service(
        mdns.ONVIF,
        "NVR",
        macaddress="A8:BB:CC:00:00:01",
        model="M\x1b[31m",
        serial="S-900",
        channel="4",
    )
    (found,) = mdns.read_service(info.type, info)
    assert (found.mac, found.model, found.serial, found.channel, found.kind) == (
        "a8bbcc000001",
        "M [31m",
        "S-900",
        4,
        "camera",
    )


# --- words ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "mac"),
    [
        ("A8:BB:CC:00:00:01", "a8bbcc000001"),
        ("a8-bb-cc-00-00-01", "a8bbcc000001"),
        ("a8bb.cc00.0001", "a8bbcc000001"),
        ("00:00:00:00:00:00", ""),
        ("ff:ff:ff:ff:ff:ff", ""),
        ("01:00:5e:00:00:01", ""),
        ("a8:bb:cc:00:00", ""),
        ("camera", ""),
    ],
)
def test_mac_addresses(text, mac):
    assert mac_of(text) == mac


def test_serials_that_nobody_set_are_none():
    assert [serial_of(x) for x in ("00000000", "123456", "N/A", "", "ab", "DS-1")] == [
        "",
        "",
        "",
        "",
        "",
        "DS-1",
    ]


def test_identifiers_are_compared_in_one_form():
    assert uuid_of("urn:uuid:4D45-A") == uuid_of("uuid:4d45-a") == "4d45-a"
    assert uuid_of("urn:uuid:00000000-0000-0000-0000-000000000000") == ""


# --- anything at all ------------------------------------------------------------------------------

ANSWERS = [
    wsd_reply(SimulatedDevice(host=HOST), wsd.probes()[0], "")[0],
    ssdp_reply(
        SimulatedDevice(host=HOST), ssdp.search_message("upnp:rootdevice", 1), f"http://{HOST}/d"
    )[0],
    sadp_reply(SimulatedDevice(host=HOST), sadp.inquiry(), "")[0],
    dhip_reply(SimulatedDevice(host=HOST), dhip.pack(b"DHDiscover.search"), "")[0],
    description(deviceType=ssdp.CAMERA),
]
READERS = [
    lambda data: list(wsd.read_matches(data, HOST)),
    lambda data: ssdp.read_answer(data, HOST),
    lambda data: sadp.read_answer(data, HOST),
    lambda data: dhip.read_answer(data, HOST),
    lambda data: ssdp.read_description(data, Sighting("ssdp", HOST), f"http://{HOST}/"),
]


@st.composite
def damaged(draw):
    """A good answer with a piece replaced: what reaches further in than noise does."""
    data = draw(st.sampled_from(ANSWERS))
    low = draw(st.integers(0, len(data)))
    high = draw(st.integers(low, min(len(data), low + 40)))
    return (
        data[:low]
        + draw(st.binary(max_size=12) | st.sampled_from([b"<", b"http://[", b"99999999", b"\0"]))
        + data[high:]
    )


@given(st.binary(max_size=300) | damaged())
def test_no_answer_at_all_raises_anything_but_that_it_is_bad(data):
    """Issue 6: garbage and hostile replies are ignored and counted."""
    for read in READERS:
        try:
            found = read(data)
        except BadAnswerError:
            continue
        for one in found if isinstance(found, list) else [found]:
            sighting = one[0] if isinstance(one, tuple) else one
            if isinstance(sighting, Sighting):
                assert sighting.host == HOST
                assert HOST in sighting.address or not sighting.address
                assert all(
                    len(str(getattr(sighting, name))) <= 128
                    for name in ("name", "model", "serial", "maker", "mac")
                )


@given(st.text(max_size=600))
def test_text_of_others_is_one_bounded_line(text):
    found = text_of(text)
    assert len(found) <= 128
    assert found.isprintable()
