"""ipycam: an ONVIF camera (WSSE), with a snapshot behind HTTP Basic, MJPEG, RTSP, WS-Discovery.

    with IpycamPeer(tmp_path) as peer:
        peer.onvif_url          # http://127.0.0.1:N/onvif/device_service
        peer.snapshot_url       # what GetSnapshotUri answers
        peer.rtsp_url           # its own RTSP server (needs ffmpeg)
    with IpycamPeer(tmp_path, clock="+2h") as peer: ...     # a camera whose clock is wrong

It listens on every address of the machine (or network namespace) and on UDP 3702. ``user=""``:
it asks nobody who they are. ``address``: what it says of itself in its answers; 127.0.0.1.
``prefix``: a command that starts the program elsewhere (``ip netns exec NAME``).

Of PyPI, in an environment of its own beside ours (camera-servers.requirements.txt, hashes): OpenCV
is no part of this project.
"""

from __future__ import annotations

import json
from base64 import b64encode
from pathlib import Path
from typing import TYPE_CHECKING

from peer import HOST, Peer, PeerMissing, answers, free_port, program, rtsp_answers
from videos import sample_video

from benchmarks.streams.environment import locked_environment
from schemas.errors import BrokerError

if TYPE_CHECKING:
    from collections.abc import Sequence

REQUIREMENTS = Path(__file__).with_name("camera-servers.requirements.txt")


def servers_python() -> Path:
    """Return the Python of the environment that the PyPI peers share; made at the first call."""
    try:
        return locked_environment("camera-servers", REQUIREMENTS, exact=True)
    except BrokerError as error:
        raise PeerMissing(f"the peers of PyPI are not to be had here: {error}") from error


class IpycamPeer(Peer):
    """The camera."""

    name = "ipycam"

    def __init__(
        self,
        folder: Path,
        *,
        user: str = "admin",
        password: str = "secret-of-ipycam",
        clock: str = "",
        address: str = HOST,
        port: int = 0,
        serial: str = "PY-000001",
        camera_name: str = "Virtual Camera",
        prefix: Sequence[str] = (),
    ) -> None:
        super().__init__(folder)
        self.user, self.password, self.address = user, password, address
        program("ffmpeg", "ffmpeg")  # its RTSP server wants it
        faketime = [program("faketime", "faketime"), "-f", clock] if clock else []
        video = sample_video(folder / "source.mp4", width_px=640, height_px=360, seconds=10)
        self.port, self.rtsp_port = port or free_port(), free_port()
        self._elsewhere = bool(prefix)
        (folder / "camera.json").write_text(
            json.dumps(
                {
                    "name": camera_name,
                    "serial_number": serial,
                    "local_ip": address,
                    "onvif_port": self.port,
                    "rtsp_port": self.rtsp_port,
                    "rtmp_port": free_port(),
                    "web_port": free_port(),
                    "go2rtc_api_port": free_port(),
                    "username": user,
                    "password": password,
                    "main_width": 640,
                    "main_height": 360,
                    "main_fps": 10,
                    "main_bitrate": "1M",
                    "sub_width": 320,
                    "sub_height": 180,
                    "sub_fps": 10,
                    "sub_bitrate": "500K",
                    "hw_accel": "cpu",
                    # No date in it: a picture differs by the video's own seconds, too.
                    "show_timestamp": True,
                    "timestamp_format": "%H:%M:%S",
                }
            )
        )
        self.start(
            [
                *(*prefix, *faketime, str(servers_python()), "-m", "ipycam"),
                *("--config", "camera.json", "--source", str(video)),
            ]
        )

    @property
    def onvif_url(self) -> str:
        return f"http://{self.address}:{self.port}/onvif/device_service"

    @property
    def snapshot_url(self) -> str:
        return f"http://{self.address}:{self.port}/snapshot.jpg"

    @property
    def rtsp_url(self) -> str:
        return f"rtsp://{self.address}:{self.rtsp_port}/video_main"

    def ready(self) -> bool:
        """It says so, its snapshot is a picture, and its RTSP server describes itself."""
        if "IP Camera is running!" not in self.log_tail():
            return False
        if self._elsewhere:  # not reached from here
            return True
        login = b64encode(f"{self.user}:{self.password}".encode())
        request = b"GET /snapshot.jpg HTTP/1.0\r\nHost: c\r\nAuthorization: Basic %b\r\n\r\n"
        return answers(self.port, request % login, b"\xff\xd9") and rtsp_answers(
            self.rtsp_port, "/video_main"
        )
