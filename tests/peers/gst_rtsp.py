"""The GStreamer RTSP server: H.264, H.265 and MJPEG over TCP and UDP, with Basic and Digest.

    with GstRtspServer(tmp_path, [Mount("/main", gop_frames=100, warm=True),
                                  Mount("/sub", codec="mjpeg", width_px=320, height_px=240)],
                       auth=("digest",)) as peer:
        peer.url("/sub")        # rtsp://127.0.0.1:N/sub
        peer.user, peer.password

``warm``: all viewers share one stream, which a viewer of the server's own keeps running, so that
who comes comes in the middle of a group of pictures, as at a camera. Without it each viewer starts
a stream of its own, at a key frame; nothing runs in between. (A shared stream that nobody watches
is torn down, and who asks for it meanwhile gets a 503.)
"""

from __future__ import annotations

import json
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from peer import HOST, Peer, PeerMissing, program, rtsp_answers

if TYPE_CHECKING:
    from collections.abc import Sequence

SYSTEM_PYTHON = "/usr/bin/python3"
PACKAGES = (
    "gir1.2-gst-rtsp-server-1.0 python3-gi gstreamer1.0-plugins-base gstreamer1.0-plugins-good "
    "gstreamer1.0-plugins-bad gstreamer1.0-plugins-ugly"
)
ELEMENTS = {
    "h264": ("x264enc", "rtph264pay"),
    "h265": ("x265enc", "rtph265pay"),
    "mjpeg": ("jpegenc", "rtpjpegpay"),
}
PROBE = """
import gi, sys
gi.require_version("GstRtspServer", "1.0")
from gi.repository import Gst, GstRtspServer
Gst.init(None)
sys.exit(" ".join(n for n in sys.argv[1:] if not Gst.ElementFactory.find(n)) or 0)
"""


@dataclass(frozen=True, slots=True)
class Mount:
    """One stream."""

    path: str = "/cam"
    codec: str = "h264"
    """h264, h265 or mjpeg."""
    gop_frames: int = 10
    """Frames from one key frame to the next (H.264, H.265)."""
    width_px: int = 640
    height_px: int = 360
    frames_per_s: int = 10
    transports: tuple[str, ...] = ("tcp", "udp")
    """What SETUP accepts; others are answered 461."""
    parameter_sets_s: int = 0
    """SPS and PPS in the stream: 0 never (only in the SDP), -1 with each key frame, N each N s."""
    pattern: str = "ball"
    warm: bool = False


class GstRtspServer(Peer):
    """The server; ``auth`` holds the methods it offers: () none, ("basic",), ("digest",), both."""

    name = "gst-rtsp-server"

    def __init__(
        self,
        folder: Path,
        mounts: Sequence[Mount] = (Mount(),),
        *,
        auth: Sequence[str] = (),
        user: str = "admin",
        password: str = "secret-of-gst",
    ) -> None:
        super().__init__(folder)
        self.mounts = tuple(mounts)
        self.user, self.password = user, password
        _check_installed({name for mount in mounts for name in ELEMENTS[mount.codec]})
        gate = {"methods": list(auth), "user": user, "password": password} if auth else None
        settings = json.dumps({"mounts": [asdict(mount) for mount in mounts], "auth": gate})
        script = Path(__file__).with_name("gst_rtsp_program.py")
        self.log_path.unlink(missing_ok=True)
        self.start([SYSTEM_PYTHON, str(script), settings])

    def ready(self) -> bool:
        """Listening, and the first stream describes itself."""
        if not self.port:
            for line in self.log_tail().splitlines():
                if line.startswith("{"):
                    self.port = json.loads(line)["port"]
        return bool(self.port) and all(rtsp_answers(self.port, m.path) for m in self.mounts)

    def url(self, path: str = "") -> str:
        """Return the RTSP address of a mount, without credentials; the first one by default."""
        return f"rtsp://{HOST}:{self.port}{path or self.mounts[0].path}"


def _check_installed(elements: set[str]) -> None:
    program(SYSTEM_PYTHON, "python3")
    probe = subprocess.run(
        [SYSTEM_PYTHON, "-c", PROBE, *sorted(elements)],
        capture_output=True, text=True, check=False, timeout=60, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    if probe.returncode:
        what = probe.stderr.strip().splitlines()[-1:] or ["?"]
        raise PeerMissing(
            f"GStreamer's RTSP server is not (wholly) installed here: {what[0]} "
            f"(Debian, Ubuntu: apt-get install {PACKAGES})"
        )
