"""Discovery across a real link: two namespaces joined by a veth pair, real multicast (issue 6, 'How it is shown').

The quick test has simulated devices of every protocol; the long ones real programs of others.
"""

from __future__ import annotations

import contextlib
import json
import re
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from ipycam_peer import IpycamPeer
from network import Lan
from network_peers import AvahiCamera, GssdpCamera, MinidlnaServer, WsddComputer
from peer import program
from simulated_devices import SimulatedDevices

SHUTTERWHEEL = Path(sys.executable).with_name("shutterwheel")


def simulated(folder, lan, peer, devices):
    """Simulated devices on one side of the link."""
    return SimulatedDevices(folder, lan.address(peer), devices, prefix=lan.prefix(peer))


@dataclass
class Found:
    devices: list[dict]
    ignored: list[dict]
    searched: dict

    def by(self, **fields):
        """Return the devices whose fields are these."""
        return [
            one for one in self.devices if all(one[key] == value for key, value in fields.items())
        ]

    @property
    def ids(self):
        return {
            one["host"]: one["profile"]["device_id"] for one in self.devices if not channel(one)
        }

    @property
    def reasons(self):
        return {one["host"]: one["reason"] for one in self.ignored}


def channel(one):
    return one["profile"]["labels"].get("discovered.channel", "")


def discover(lan, *words, timeout="2s"):
    """Run ``shutterwheel discover --json`` on the searcher's side."""
    out = lan.run(
        [str(SHUTTERWHEEL), "discover", "--json", "--timeout", timeout, *words], timeout_s=120
    )
    lines = [json.loads(line) for line in out.splitlines()]
    kinds = {
        kind: [one for one in lines if one["record"] == kind]
        for kind in ("Discovered", "Ignored", "Searched")
    }
    return Found(kinds["Discovered"], kinds["Ignored"], kinds["Searched"][0]["sources"])


def test_every_protocol_across_a_veth_pair(tmp_path):
    """SPEC 3.1: mDNS, SSDP, WS-Discovery and UDP broadcast in parallel, merged, identified → DeviceProfile."""
    with Lan("cameras") as lan:
        first = lan.address("cameras")
        bare, announced, upnp, recorder, dahua, media, hostile = lan.add_addresses("cameras", 7)
        devices = [
            {
                "host": first,
                "speaks": ["ws-discovery", "ssdp", "mdns", "sadp"],
                "mac": "a8bbcc000001",
                "serial": "DS-90071",
                "model": "DS-2CD2042",
                "maker": "Hikvision",
                "epr": "4d454930-0000-1000-8000-a8bbcc000001",
            },
            {
                "host": bare,
                "bare": True,
                "epr": "00000000-0000-4000-8000-000000000002",
                "port": 8080,
            },
            {
                "host": announced,
                "speaks": ["mdns"],
                "service": "_rtsp._tcp.local.",
                "port": 8554,
                "mac": "a8bbcc000003",
            },
            {
                "host": upnp,
                "speaks": ["ssdp"],
                "upnp_type": "urn:schemas-upnp-org:device:Basic:1",
                "maker": "AXIS",
                "model": "AXIS M3045",
                "serial": "a8bbcc000004",
            },
            {
                "host": recorder,
                "speaks": ["sadp"],
                "channels": 4,
                "model": "DS-7604NI",
                "serial": "DS-7604-1",
                "mac": "a8bbcc000005",
            },
            *(
                {
                    "host": recorder,
                    "channel": n,
                    "epr": f"00000000-0000-4000-8000-00000000010{n}",
                    "model": "DS-7604NI",
                }
                for n in (1, 2)
            ),
            {
                "host": dahua,
                "speaks": ["dhip"],
                "model": "IPC-HFW",
                "serial": "4E00071",
                "mac": "a8bbcc000006",
                "maker": "Dahua",
            },
            {
                "host": media,
                "speaks": ["ssdp"],
                "upnp_type": "urn:schemas-upnp-org:device:MediaServer:1",
                "name": "Films",
            },
            {"host": hostile, "speaks": ["ws-discovery", "ssdp", "sadp", "dhip"], "fault": "bomb"},
        ]
        with simulated(tmp_path, lan, "cameras", devices):
            found = discover(lan)
    (camera,) = found.by(host=first)
    assert camera["seen_by"] == ["mdns", "sadp", "ssdp", "ws-discovery"]
    profile = camera["profile"]
    assert (profile["device_id"], profile["protocol"], profile["model"]) == (
        "mac-a8bbcc000001",
        "onvif",
        "Hikvision DS-2CD2042",
    )
    assert profile["address"] == f"http://{first}/onvif/device_service"
    addresses = {
        one["host"]: one["profile"]["address"] for one in found.devices if not channel(one)
    }
    assert addresses == {
        first: profile["address"],
        bare: f"http://{bare}:8080/onvif/device_service",
        announced: f"rtsp://{announced}:8554/",
        upnp: f"http://{upnp}/",
        dahua: f"http://{dahua}/",
    }
    channels = {channel(one): one for one in found.by(host=recorder)}
    assert set(channels) == {"1", "2", "3", "4"}, "each channel is a device of its own, once"
    assert [channels[n]["profile"]["device_id"] for n in "1234"] == [
        f"mac-a8bbcc000005-ch{n}" for n in "1234"
    ]
    assert [channels[n]["seen_by"] for n in "13"] == [["sadp", "ws-discovery"], ["sadp"]]
    assert found.reasons == {
        media: "a media server (UPnP MediaServer)",
        recorder: "a recorder; each of its channels is a device",
    }
    refused = {name: set(tally["refused"]) for name, tally in found.searched.items()}
    assert all(refused[name] for name in ("ws-discovery", "ssdp", "sadp", "dhip"))


def test_ctrl_c_shows_what_was_found_and_adds_nothing(tmp_path):
    with (
        Lan("cameras") as lan,
        simulated(tmp_path, lan, "cameras", [{"host": lan.address("cameras")}]) as peer,
    ):
        searching = subprocess.Popen(
            [*lan.prefix(), str(SHUTTERWHEEL), "discover", "--timeout", "2m"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            assert "searching eth0" in searching.stderr.readline()
            # It has asked, so it listens; its answer is there a moment after the question.
            peer.await_question()
            searching.send_signal(signal.SIGINT)
            _, err = searching.communicate(timeout=60)
        finally:
            searching.kill()
    assert searching.returncode == 130, err
    assert "Traceback" not in err


# --- real programs of others ----------------------------------------------------------------------

PEERS = ("avahi", "gssdp", "ipycam", "minidlna", "wsdd")


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """A network with three cameras and two others, each of them somebody else's program."""
    folder = tmp_path_factory.mktemp("network")
    with Lan(*PEERS) as lan, contextlib.ExitStack() as stack:
        stack.enter_context(AvahiCamera(folder / "avahi", lan.prefix("avahi")))
        stack.enter_context(
            GssdpCamera(folder / "gssdp", lan.prefix("gssdp"), lan.address("gssdp"))
        )
        stack.enter_context(MinidlnaServer(folder / "minidlna", lan.prefix("minidlna")))
        stack.enter_context(WsddComputer(folder / "wsdd", lan.prefix("wsdd")))
        ipycam = {"address": lan.address("ipycam"), "prefix": lan.prefix("ipycam"), "port": 8080}
        stack.enter_context(IpycamPeer(folder / "ipycam", **ipycam))
        yield lan


@pytest.mark.long
def test_real_cameras_are_found_and_what_is_none_is_ignored_with_its_reason(real):
    """Issue 6: avahi (mDNS), GSSDP (SSDP), ipycam (WS-Discovery) found; minidlna and wsdd ignored."""
    found = discover(real, timeout="4s")
    where = {name: real.address(name) for name in PEERS}
    seen = {
        one["host"]: (one["seen_by"], one["profile"]["protocol"], one["profile"]["address"])
        for one in found.devices
    }
    assert seen == {
        where["avahi"]: (["mdns"], "onvif", f"http://{where['avahi']}:8080/onvif/device_service"),
        where["gssdp"]: (["ssdp"], "auto", f"http://{where['gssdp']}:49200/"),
        where["ipycam"]: (
            ["ws-discovery"],
            "onvif",
            f"http://{where['ipycam']}:8080/onvif/device_service",
        ),
    }
    assert found.reasons == {
        where["minidlna"]: "a media server (UPnP MediaServer)",
        where["wsdd"]: "a computer (WS-Discovery type Computer)",
    }
    assert {one["name"] for one in found.ignored} >= {"Films"}


@pytest.mark.long
def test_ids_are_the_same_at_the_next_search(real):
    first, second = discover(real, timeout="4s"), discover(real, timeout="4s")
    assert first.ids == second.ids
    assert all(one.startswith("mac-") for one in first.ids.values()), (
        "what answers by ARP has a MAC address"
    )


@pytest.mark.long
def test_an_independent_client_finds_as_many_onvif_devices(tmp_path):
    """onvif-util -a (Debian: onvif-tools) is somebody else's WS-Discovery. It tells how many there are."""
    util = program("onvif-util", "onvif-tools")
    with Lan("ipycam", "cameras") as lan:
        hosts = lan.add_addresses("cameras", 20)
        devices = [
            {"host": host, "epr": f"00000000-0000-4000-8000-{n:012d}"}
            for n, host in enumerate(hosts)
        ]
        ipycam = IpycamPeer(
            tmp_path / "ipycam",
            address=lan.address("ipycam"),
            prefix=lan.prefix("ipycam"),
            port=8080,
        )
        with ipycam, simulated(tmp_path / "simulated", lan, "cameras", devices):
            # Its exit code is not asked for: it counts, and then may crash over a camera's answer.
            words = [*lan.prefix(), util, "-a"]
            said = subprocess.run(
                words, capture_output=True, text=True, input="", timeout=60, check=False
            ).stdout
            found = discover(lan, timeout="4s")
    assert {one["host"] for one in found.devices} == {*hosts, "10.77.1.1"}
    assert re.findall(r"Found (\d+) cameras", said) == ["21"]


@pytest.mark.long
def test_a_camera_that_moves_and_restarts_keeps_its_id(tmp_path):
    """DHCP gave it another address, and it makes a new endpoint reference at each start."""
    with Lan("cameras", "others") as lan:
        ids = []
        for number, address in enumerate(("10.77.1.1", "10.77.9.9")):
            lan.change_address("cameras", address)
            device = {"host": address, "epr": f"00000000-0000-4000-8000-00000000000{number}"}
            with simulated(tmp_path / str(number), lan, "cameras", [device]):
                ids.append(discover(lan).ids[address])
    assert ids[0] == ids[1]
    assert ids[0].startswith("mac-")


@pytest.mark.long
def test_a_host_is_asked_by_itself_where_multicast_does_not_reach(tmp_path):
    """``--host``: no interface is searched, only this address is asked."""
    with Lan("cameras") as lan:
        host = lan.address("cameras")
        with simulated(
            tmp_path,
            lan,
            "cameras",
            [
                {
                    "host": host,
                    "speaks": ["ws-discovery", "ssdp", "sadp", "dhip"],
                    "mac": "a8bbcc000001",
                }
            ],
        ):
            lan.run(["ip", "route", "replace", "blackhole", "224.0.0.0/4"])
            found = discover(lan, "--host", host)
    (camera,) = found.by(host=host)
    assert camera["seen_by"] == ["dhip", "sadp", "ssdp", "ws-discovery"]


@pytest.mark.long
def test_five_hundred_cameras_are_found_and_none_is_merged_with_another(tmp_path):
    """A fleet that answers at once; the time it takes is ``./dev bench discover``'s."""
    with Lan("cameras") as lan:
        hosts = lan.add_addresses("cameras", 500)
        devices = [
            {"host": host, "epr": f"00000000-0000-4000-8000-{n:012d}"}
            for n, host in enumerate(hosts)
        ]
        with simulated(tmp_path, lan, "cameras", devices):
            found = discover(lan, timeout="6s")
    assert {one["host"] for one in found.devices} == set(hosts)
    assert len(found.devices) == 500
