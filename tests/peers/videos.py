"""Short sample videos, made at test time by ffmpeg: a test picture in which every frame differs.

``testsrc`` burns the seconds into the picture and moves a gradient, so no two frames are equal.
The group of pictures (frames from one key frame to the next) can be set; the codec is H.264, H.265
or MJPEG.
"""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from peer import program

if TYPE_CHECKING:
    from pathlib import Path

CODECS = {
    "h264": ["-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-bf", "0"],
    "h265": ["-c:v", "libx265", "-preset", "ultrafast", "-tag:v", "hvc1"],
    "mjpeg": ["-c:v", "mjpeg", "-q:v", "5"],
}


def sample_video(
    path: Path,
    *,
    codec: str = "h264",
    width_px: int = 640,
    height_px: int = 360,
    frames_per_s: int = 10,
    seconds: int = 10,
    gop_frames: int = 10,
) -> Path:
    """Write a video to ``path`` (its suffix says the container: .mp4, .mkv) unless it is there."""
    if path.exists():
        return path
    ffmpeg = program("ffmpeg", "ffmpeg")
    path.parent.mkdir(parents=True, exist_ok=True)
    encoder = list(CODECS[codec])
    if codec == "h265":
        keys = f"keyint={gop_frames}:min-keyint={gop_frames}:scenecut=0:bframes=0:log-level=error"
        encoder += ["-x265-params", keys]
    elif codec == "h264":
        encoder += ["-g", str(gop_frames), "-keyint_min", str(gop_frames), "-sc_threshold", "0"]
    source = f"testsrc=size={width_px}x{height_px}:rate={frames_per_s}:duration={seconds}"
    part = path.with_name(f"part-{path.name}")
    subprocess.run(
        [ffmpeg, "-v", "error", "-y", "-f", "lavfi", "-i", source, "-pix_fmt", "yuv420p",
         *encoder, "-an", str(part)],
        check=True, timeout=120, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    part.rename(path)
    return path
