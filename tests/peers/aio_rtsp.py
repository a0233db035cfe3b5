"""aio-rtsp-toolkit's server: H.264 and H.265 from files, over TCP only (UDP is refused).

with AioRtspServer(tmp_path, codecs=("h264", "h265")) as peer:
    peer.url("h265")        # rtsp://127.0.0.1:N/h265.mp4, played for ever
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipycam_peer import servers_python
from peer import HOST, Peer, free_port, rtsp_answers
from videos import sample_video

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


class AioRtspServer(Peer):
    """The server; each viewer gets a stream of its own from the beginning of the file."""

    name = "aio-rtsp-toolkit"

    def __init__(
        self, folder: Path, codecs: Sequence[str] = ("h264",), *, gop_frames: int = 10
    ) -> None:
        super().__init__(folder)
        self.codecs = tuple(codecs)
        for codec in codecs:
            sample_video(folder / "media" / f"{codec}.mp4", codec=codec, gop_frames=gop_frames)
        python = servers_python()
        self.port = free_port()
        self.start(
            [
                *(str(python.with_name("rtsp-server")), "--dir", str(folder / "media")),
                *("--host", HOST, "--port", str(self.port), "--control-port", str(free_port())),
            ]
        )

    def path(self, codec: str) -> str:
        return f"/{codec}.mp4/play_count_0"

    def url(self, codec: str = "") -> str:
        return f"rtsp://{HOST}:{self.port}{self.path(codec or self.codecs[0])}"

    def ready(self) -> bool:
        """Every file describes itself."""
        return all(rtsp_answers(self.port, self.path(codec)) for codec in self.codecs)
