"""A device's photos of some hours or days as a film: H.264 in MP4, by PyAV.

A photo's time is the one in its label (when the shutter opened); without a label it is the time in
its command's id (when the command was issued: a few seconds earlier). Photos are in the order of
their ids. Each is decoded at the smallest scale that will do, turned upright, and fitted into the
film's frame, with black beside it where its shape differs. One that cannot be read is left out and
counted. The film is written under a passing name: a run that fails leaves nothing.

Memory: one photo and the encoder's own frames. The keys of the time asked for are held: about 200
bytes a photo, at most :data:`MAX_PHOTOS`.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Final, NamedTuple

import av
import numpy as np

from connectors.images import embed, pixels
from connectors.images.codec import pick_codec
from connectors.images.errors import ImageError
from connectors.images.facts import read_facts
from connectors.images.label import read_xmp
from connectors.images.plan import Decode, Resize, Turn, plan
from connectors.images.spec import CaptureSpec, Overlay
from schemas.errors import StoreError, UsageError
from streams.core.ids import command_time_ms

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import Any

    from connectors.blobs.store import BlobStore
    from connectors.images.codec import Pixels

MAX_PHOTOS: Final = 1_000_000
"""11 hours of film at 25 a second."""
MAX_LEAD_MS: Final = 3_600_000
"""How much earlier than its shutter a command may have been issued."""
MIN_SIDE_PX: Final = 16


@dataclass(frozen=True, slots=True)
class FilmSettings:
    """How a film is made."""

    frames_per_s: int = 25
    """1 to 120."""
    width_px: int = 1_920
    """Greatest width; the first photo gives the shape. 16 to 7,680."""
    height_px: int = 1_080
    """Greatest height; 16 to 4,320."""
    every_ms: int = 0
    """At most one photo in so long; 0: all."""
    crf: int = 23
    """x264's constant rate factor, 0 to 51: less is better and larger."""

    def __post_init__(self) -> None:
        bounds = {
            "frames_per_s": (1, 120), "width_px": (MIN_SIDE_PX, 7_680),
            "height_px": (MIN_SIDE_PX, 4_320), "every_ms": (0, 1 << 40), "crf": (0, 51),
        }  # fmt: skip
        for name, (low, high) in bounds.items():
            if not low <= getattr(self, name) <= high:
                raise UsageError(f"{name} must be from {low:,} to {high:,}.")


class Shot(NamedTuple):
    """A photo in the store."""

    command_id: int
    uri: str


@dataclass(frozen=True, slots=True)
class Film:
    """What was made."""

    photos: int
    left_out: int
    """Photos that cannot be read."""
    first_ms: int
    last_ms: int
    width_px: int
    height_px: int
    seconds: float


async def shots(store: BlobStore, device_id: str, from_ms: int, to_ms: int) -> list[Shot]:
    """Return a device's photos whose commands are of this time, or shortly before, in order.

    Raises StoreError, or UsageError where there are too many.
    """
    found: list[Shot] = []
    async for entry in store.iterate(device_id):
        name = entry.key.rpartition("/")[2].partition(".")[0]
        if not name.isdecimal():
            continue
        identity = int(name)
        if from_ms - MAX_LEAD_MS <= command_time_ms(identity) < to_ms:
            found.append(Shot(identity, entry.uri))
            if len(found) > MAX_PHOTOS:
                raise UsageError(f"There are more than {MAX_PHOTOS:,} photos. Ask for less time.")
    return sorted(found)


async def make_film(
    store: BlobStore, device_id: str, from_ms: int, to_ms: int, out: Path, settings: FilmSettings
) -> Film:
    """Write the film of a device's photos from ``from_ms`` up to, not including, ``to_ms``.

    Raises StoreError, UsageError where there is no photo.
    """
    reel = _Reel(out, settings)
    next_ms, first_ms, last_ms = from_ms, 0, 0
    try:
        for shot in await shots(store, device_id, from_ms, to_ms):
            data = await store.read(shot.uri)
            at_ms = photo_time_ms(data, shot.command_id)
            if not next_ms <= at_ms < to_ms:
                continue
            if await asyncio.to_thread(reel.add, data):
                first_ms, last_ms = first_ms or at_ms, at_ms
                next_ms = at_ms + settings.every_ms if settings.every_ms else from_ms
        if not reel.photos:
            raise UsageError(f"There are no photos of {device_id} in this time.")
        await asyncio.to_thread(reel.close)
    except BaseException:
        reel.abandon()
        raise
    width, height = reel.size
    seconds = reel.photos / settings.frames_per_s
    return Film(reel.photos, reel.left_out, first_ms, last_ms, width, height, seconds)


def photo_time_ms(data: bytes, command_id: int) -> int:
    """Return when a photo was taken, by its label; else when its command was issued."""
    try:
        xmp = embed.extract(data).xmp
        if xmp:
            return read_xmp(xmp).shutter_ms
    except ImageError:
        pass
    return command_time_ms(command_id)


def fitted(data: bytes, width_px: int, height_px: int) -> Pixels:
    """Return a photo upright, RGB, fitted into a size; raises ImageError."""
    facts = read_facts(data)
    wish = CaptureSpec(width_px, height_px, overlay=Overlay())  # so that pixels are made at all
    picture: Pixels | None = None
    for step in plan(facts, wish).steps:
        match step:
            case Decode(eighths):
                if facts.format == "jpeg" and facts.colour != "cmyk":
                    picture = pick_codec().decode(data, facts, eighths)
                else:
                    picture = pixels.decode_other(data, facts)
            case Resize(width, height) if picture is not None:
                picture = pixels.resize(picture, width, height)
            case Turn(orientation) if picture is not None:
                picture = pixels.turn(picture, orientation)
    if picture is None:
        raise ImageError("unsupported", "It is larger than what was asked for by no step.")
    return picture.repeat(3, axis=2) if picture.shape[2] == 1 else picture


class _Reel:
    """A film in the making. Blocking; one thread at a time."""

    def __init__(self, out: Path, settings: FilmSettings) -> None:
        self._out, self._settings = out, settings
        self._passing = out.with_name(f"{out.name}.part")
        self._container: Any = None
        self._stream: Any = None
        self._canvas: Pixels | None = None
        self.size = (0, 0)
        self.photos = 0
        self.left_out = 0

    def add(self, data: bytes) -> bool:
        """Add a photo; False: it cannot be read. Raises StoreError."""
        wide, high = self.size if self._canvas is not None else self._most()
        try:
            picture = fitted(data, wide, high)
        except ImageError:
            self.left_out += 1
            return False
        canvas = self._canvas
        if canvas is None:
            canvas = self._begin(picture)
        canvas[:] = 0
        height, width = min(picture.shape[0], self.size[1]), min(picture.shape[1], self.size[0])
        top, left = (self.size[1] - height) // 2, (self.size[0] - width) // 2
        canvas[top : top + height, left : left + width] = picture[:height, :width]
        frame = av.VideoFrame.from_ndarray(canvas, "rgb24")
        frame.pts = self.photos
        self._writing(lambda: self._container.mux(self._stream.encode(frame)))
        self.photos += 1
        return True

    def _most(self) -> tuple[int, int]:
        return self._settings.width_px, self._settings.height_px

    def _begin(self, first: Pixels) -> Pixels:
        """Open the file in the shape of the first photo, its sides made even for 4:2:0."""
        height, width = first.shape[0] // 2 * 2, first.shape[1] // 2 * 2
        if min(width, height) < MIN_SIDE_PX:
            raise UsageError(f"The first photo is smaller than {MIN_SIDE_PX} pixels.")
        self.size = (width, height)
        self._writing(self._open)
        self._canvas = np.zeros((height, width, 3), np.uint8)
        return self._canvas

    def _open(self) -> None:
        rate = self._settings.frames_per_s
        self._container = av.open(
            str(self._passing), "w", format="mp4", options={"movflags": "+faststart"}
        )
        stream = self._container.add_stream("libx264", rate=rate)
        stream.width, stream.height, stream.pix_fmt = *self.size, "yuv420p"
        stream.options = {"crf": str(self._settings.crf), "preset": "veryfast"}
        stream.codec_context.time_base = Fraction(1, rate)
        self._stream = stream

    def close(self) -> None:
        """Write what the encoder holds, and give the film its name. Raises StoreError."""
        self._writing(lambda: self._container.mux(self._stream.encode(None)))
        self._writing(self._container.close)
        self._container = None
        self._writing(lambda: self._passing.replace(self._out))

    def abandon(self) -> None:
        """Leave nothing behind."""
        if self._container is not None:
            with contextlib.suppress(OSError, ValueError):  # it failed for the same reason before
                self._container.close()
            self._container = None
        self._passing.unlink(missing_ok=True)

    def _writing(self, work: Callable[[], object]) -> None:
        try:
            work()
        except OSError as error:  # PyAV's errors are of this kind, too
            reason = error.strerror or error
            raise StoreError(f"{self._out} cannot be written: {reason}.") from error
