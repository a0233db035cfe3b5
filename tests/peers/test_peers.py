"""The real camera servers start, answer, and leave nothing behind (issue 6, 'How it is shown').

What they say is looked at with means of their own here, not with our adapters.
"""

from __future__ import annotations

import base64
import os
import socket
import time
import urllib.error
import urllib.request
from email.utils import parsedate_to_datetime

import peer as peer_module
import psutil
import pytest
from aio_rtsp import AioRtspServer
from gst_rtsp import GstRtspServer, Mount
from ipycam_peer import IpycamPeer
from motion_peer import MotionPeer
from peer import HOST, Peer, PeerError, PeerMissing, program
from vlc_rtsp import VlcRtspServer


class Rtsp:
    """One RTSP connection, spoken by hand."""

    def __init__(self, port):
        self.socket = socket.create_connection((HOST, port), timeout=20)
        self.number = 0

    def ask(self, *lines):
        """Send one request; return its answer's head and body."""
        self.number += 1
        self.socket.sendall("\r\n".join([*lines, f"CSeq: {self.number}", "", ""]).encode())
        head = self._until(lambda got: got.endswith(b"\r\n\r\n")).decode()
        lengths = [x for x in head.lower().split("\r\n") if x.startswith("content-length:")]
        length = int(lengths[0].partition(":")[2]) if lengths else 0
        return head, self._until(lambda got: len(got) == length).decode()

    def _until(self, enough):
        got = b""
        while not enough(got):
            part = self.socket.recv(1)
            assert part, got
            got += part
        return got

    def describe(self, url):
        return self.ask(f"DESCRIBE {url} RTSP/1.0", "Accept: application/sdp")

    def __enter__(self):
        return self

    def __exit__(self, *_error):
        self.socket.close()


def describe(url, port):
    with Rtsp(port) as rtsp:
        return rtsp.describe(url)


def set_up(url, port, transport):
    """Return the status of a SETUP of the first stream."""
    with Rtsp(port) as rtsp:
        head, sdp = rtsp.describe(url)
        assert " 200 " in head.partition("\r\n")[0], head
        control = [x[10:] for x in sdp.split("\r\n") if x.startswith("a=control:")][-1]
        base = [x[13:].strip() for x in head.split("\r\n") if x.lower().startswith("content-base:")]
        place = control if "://" in control else f"{(base or [url])[0].rstrip('/')}/{control}"
        answer, _ = rtsp.ask(f"SETUP {place} RTSP/1.0", f"Transport: {transport}")
        return int(answer.split(" ")[1])


TCP = "RTP/AVP/TCP;unicast;interleaved=0-1"
UDP = "RTP/AVP;unicast;client_port=45000-45001"


@pytest.mark.parametrize(("codec", "name"), [("h264", "H264"), ("h265", "H265"), ("mjpeg", "JPEG")])
def test_gstreamer_describes_each_codec_and_refuses_a_transport(tmp_path, codec, name):
    mounts = [
        Mount("/both", codec=codec),
        Mount("/tcp", codec=codec, transports=("tcp",)),
        Mount("/udp", codec=codec, transports=("udp",)),
    ]
    with GstRtspServer(tmp_path, mounts) as peer:
        _, sdp = describe(peer.url("/both"), peer.port)
        assert f"{name}/90000" in sdp or "m=video 0 RTP/AVP 26" in sdp
        got = [
            set_up(peer.url(p), peer.port, t) for p in ("/both", "/tcp", "/udp") for t in (TCP, UDP)
        ]
    assert got == [200, 200, 200, 461, 461, 200]


@pytest.mark.parametrize(
    ("auth", "challenges"),
    [
        (("basic",), ["Basic"]),
        (("digest",), ["Digest"]),
        (("basic", "digest"), ["Basic", "Digest"]),
    ],
)
def test_gstreamer_asks_who_we_are(tmp_path, auth, challenges):
    with GstRtspServer(tmp_path, auth=auth) as peer:
        head, _ = describe(peer.url(), peer.port)
    assert head.startswith("RTSP/1.0 401")
    asked = [
        line.split(" ")[1] for line in head.split("\r\n") if line.startswith("WWW-Authenticate:")
    ]
    assert sorted(asked) == challenges


def test_a_warm_stream_runs_and_a_stopped_server_is_continued(tmp_path):
    with GstRtspServer(tmp_path, [Mount("/cam", warm=True)]) as peer:
        assert set_up(peer.url(), peer.port, TCP) == 200
        peer.pause()
        with pytest.raises(TimeoutError), socket.create_connection((HOST, peer.port)) as one:
            one.settimeout(0.2)
            one.sendall(b"OPTIONS * RTSP/1.0\r\nCSeq: 1\r\n\r\n")
            one.recv(1)
        peer.resume()
        assert set_up(peer.url(), peer.port, TCP) == 200


def test_aio_rtsp_toolkit_speaks_tcp_only(tmp_path):
    with AioRtspServer(tmp_path, ("h264", "h265")) as peer:
        for codec in ("h264", "h265"):
            _, sdp = describe(peer.url(codec), peer.port)
            assert f"{codec.upper()}/90000" in sdp
        assert set_up(peer.url(), peer.port, TCP) == 200
        assert set_up(peer.url(), peer.port, UDP) == 461


def test_vlc_speaks_udp_only(tmp_path):
    with VlcRtspServer(tmp_path) as peer:
        assert set_up(peer.url, peer.port, UDP) == 200
        assert set_up(peer.url, peer.port, TCP) == 461


def test_ipycam_gives_a_snapshot_to_whom_it_knows(tmp_path):
    with IpycamPeer(tmp_path) as peer:
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(peer.snapshot_url, timeout=20)
        refused.value.close()
        assert refused.value.code == 401
        login = base64.b64encode(f"{peer.user}:{peer.password}".encode()).decode()
        request = urllib.request.Request(
            peer.snapshot_url, headers={"Authorization": f"Basic {login}"}
        )
        with urllib.request.urlopen(request, timeout=20) as answer:
            assert answer.read().startswith(b"\xff\xd8")


def test_a_camera_two_hours_off(tmp_path):
    """Issue 6: a camera two hours off by faketime."""
    with (
        IpycamPeer(tmp_path, clock="+2h", user="", password="") as peer,
        urllib.request.urlopen(peer.snapshot_url, timeout=20) as answer,
    ):
        said_s = parsedate_to_datetime(answer.headers["Date"]).timestamp()
    assert abs(said_s - time.time() - 7_200) < 600


def test_motion_asks_for_a_digest(tmp_path):
    with MotionPeer(tmp_path) as peer:
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(peer.snapshot_url, timeout=20)
        refused.value.close()
        assert refused.value.headers["WWW-Authenticate"].startswith("Digest ")


# --- the starters themselves ----------------------------------------------------------------------


def test_a_missing_program_skips_and_says_what_to_install():
    with pytest.raises(PeerMissing, match="apt-get install what-has-it"):
        program("no-such-program-anywhere", "what-has-it")


class _Broken(Peer):
    name = "broken"


def test_one_that_does_not_start_shows_its_log(tmp_path):
    with pytest.raises(PeerError, match=r"broken ended:\nno camera here"):
        _Broken(tmp_path).start(["/bin/sh", "-c", "echo no camera here; exit 3"])


class _Parent(Peer):
    name = "parent"

    def ready(self):
        return "child" in self.log_tail()


def test_children_go_with_it(tmp_path, monkeypatch):
    monkeypatch.setattr(peer_module, "STOP_S", 0.2)
    with _Parent(tmp_path) as peer:
        peer.start(["/bin/sh", "-c", "trap '' TERM; sleep 600 & echo child $!; wait; wait"])
        child = int(peer.log_tail().split()[1])
        os.kill(child, 0)
    patience = time.monotonic() + 30  # it is killed by now, and perhaps not gone yet
    while not _is_over(child) and time.monotonic() < patience:
        time.sleep(0.02)
    assert _is_over(child)


def _is_over(pid):
    """Whether the process `pid` runs no more. Where nobody reaps it, a zombie stays."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
