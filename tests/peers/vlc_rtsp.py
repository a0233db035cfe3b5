"""VLC as an RTSP server: H.264 (or MJPEG) over UDP only; TCP is answered 461.

    with VlcRtspServer(tmp_path) as peer:
        peer.url        # rtsp://127.0.0.1:N/cam

VLC refuses to run as root, so there it runs as ``nobody``, in a folder that nobody may read.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from peer import HOST, Peer, free_port, program, rtsp_answers
from videos import sample_video

MOUNT = "/cam"


class VlcRtspServer(Peer):
    """The server; its stream runs whether or not there are viewers."""

    name = "vlc"

    def __init__(self, folder: Path, codec: str = "h264", *, gop_frames: int = 10) -> None:
        super().__init__(folder)
        vlc = program("cvlc", "vlc-bin vlc-plugin-base")
        video = sample_video(folder / "vlc.mp4", codec=codec, gop_frames=gop_frames)
        # pytest's folders are closed to others.
        self._open = Path(tempfile.mkdtemp(prefix="vlc-"))
        self._open.chmod(0o755)
        shutil.copy(video, self._open / "vlc.mp4")
        (self._open / "home").mkdir()
        (self._open / "home").chmod(0o777)
        as_nobody = []
        if os.geteuid() == 0:
            as_nobody = [
                *(program("setpriv", "util-linux"), "--reuid", "nobody", "--regid", "nogroup"),
                *("--clear-groups", "--pdeathsig", "KILL", "--"),
            ]
        self.port = free_port()
        sdp = f"rtsp://{HOST}:{self.port}{MOUNT}"
        self.start(
            [
                *(*as_nobody, vlc, "--no-audio", "--loop", "--rtsp-host", HOST),
                *(str(self._open / "vlc.mp4"), "--sout", f"#rtp{{sdp={sdp}}}", "--sout-keep"),
            ],
            environment={"HOME": str(self._open / "home"), "XDG_RUNTIME_DIR": str(self._open)},
        )

    @property
    def url(self) -> str:
        return f"rtsp://{HOST}:{self.port}{MOUNT}"

    def ready(self) -> bool:
        """Its stream describes itself."""
        return rtsp_answers(self.port, MOUNT)

    def close(self) -> None:
        super().close()
        shutil.rmtree(self._open, ignore_errors=True)
