"""motion: a surveillance program whose pictures are fetched over HTTP, with Digest or Basic.

    with MotionPeer(tmp_path) as peer:
        peer.snapshot_url       # http://127.0.0.1:N/current: a JPEG
        peer.stream_url         # http://127.0.0.1:N/stream: multipart MJPEG

Its camera is a sample video; motion writes the time into each picture, so no two are equal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from peer import HOST, Peer, answers, free_port, program
from videos import sample_video

if TYPE_CHECKING:
    from pathlib import Path

METHODS = {"": 0, "basic": 1, "digest": 2}
CONFIG = """\
daemon off
setup_mode off
log_level 6
target_dir {folder}
netcam_url file://{video}
width 640
height 352
framerate 10
text_left CAMERA
text_right %Y-%m-%d %T-%q
emulate_motion off
picture_output off
movie_output off
webcontrol_port 0
stream_port {port}
stream_localhost on
stream_auth_method {method}
{login}
stream_quality 80
stream_maxrate 10
stream_grey off
"""


class MotionPeer(Peer):
    """The program; ``auth`` is digest, basic or empty."""

    name = "motion"

    def __init__(
        self,
        folder: Path,
        *,
        auth: str = "digest",
        user: str = "admin",
        password: str = "secret-of-motion",
    ) -> None:
        super().__init__(folder)
        self.auth, self.user, self.password = auth, user, password
        motion = program("motion", "motion")
        video = sample_video(folder / "motion.mkv", seconds=90, frames_per_s=5, height_px=352)
        self.port = free_port()
        (folder / "motion.conf").write_text(
            CONFIG.format(
                folder=folder,
                video=video,
                port=self.port,
                method=METHODS[auth],
                login=f"stream_authentication {user}:{password}" if auth else "",
            )
        )
        self.start([motion, "-n", "-c", str(folder / "motion.conf")])

    @property
    def snapshot_url(self) -> str:
        return f"http://{HOST}:{self.port}/current"

    @property
    def stream_url(self) -> str:
        return f"http://{HOST}:{self.port}/stream"

    def ready(self) -> bool:
        """Its camera has connected, and it answers: with a picture, or (who are you?) with a 401."""
        request = b"GET /current HTTP/1.0\r\nHost: camera\r\n\r\n"
        wanted = b" 401 " if self.auth else b"\xff\xd9"
        return ") connected" in self.log_tail() and answers(self.port, request, wanted)
