"""From a camera's bytes to the photo that is stored: checked, sized, labelled, hashed.

::

    pipeline = ImagePipeline(CaptureSpec(width_px=1280))
    done = pipeline.process(frame.data, label)          # blocks: a thread's work
    done.data, done.sha256, done.width_px, done.treatment

``process`` is one pure function of its arguments (:func:`process` of this module, which a process
pool can be sent). ``executor.py`` runs it in threads with bounds. What becomes of odd input stands
in :mod:`connectors.images.errors`.

Cost, 1080p at quality 85 on one core: ``benchmarks/results/images.json``.
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from connectors.images import embed, jpeg, pixels
from connectors.images.codec import PLANAR, encode_planes, pick_codec
from connectors.images.errors import ImageError
from connectors.images.facts import DEFAULT_MAX_PIXELS, Facts, read_facts
from connectors.images.label import make_exif, make_xmp
from connectors.images.plan import (
    Crop,
    Decode,
    Encode,
    Lossless,
    Plan,
    Resize,
    Turn,
    Write,
    plan,
)
from connectors.images.spec import CaptureSpec

if TYPE_CHECKING:
    from connectors.images.codec import JpegCodec, Pixels
    from connectors.images.label import Label
    from connectors.images.signing import Signer

CHECK_EIGHTHS: Final = 1
"""A scan is checked at an eighth: all of its Huffman codes are read, few pixels are made."""
THUMBNAIL_QUALITY: Final = 75
PLANES_PX: Final = 128
"""Smaller photos are scaled as RGB: at an odd side, planes of half the colour are off by up to half
a pixel, which is seen in small ones."""


@dataclass(frozen=True, slots=True)
class Timings:
    """Where the time went, in milliseconds of this thread."""

    header_ms: float = 0.0
    pixels_ms: float = 0.0
    """Decode to encode, and moving blocks."""
    label_ms: float = 0.0
    hash_ms: float = 0.0
    thumbnail_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class Processed:
    """The photo. The first five fields after the bytes are those of an ImageRef."""

    data: bytes
    """What is to be stored."""
    sha256: str
    """Over ``data``, 64 lower-case hexadecimal digits."""
    image_bytes: int
    width_px: int
    height_px: int
    format: str
    source_sha256: str
    """Over the camera's bytes."""
    body_sha256: str
    """Over ``data`` without the label."""
    treatment: str
    """``untouched``, ``lossless`` or ``encoded``."""
    notes: tuple[str, ...] = ()
    original: bytes | None = None
    """The camera's bytes, where they are wanted and are not within ``data`` to the byte."""
    source_format: str = "jpeg"
    """Of the camera's bytes."""
    thumbnail: bytes | None = None
    """A JPEG."""
    copied_bytes: int = 0
    """Bytes written to memory on the way: buffers of pixels and files, not what libraries hide."""
    timings: Timings = field(default_factory=Timings)


class ImagePipeline:
    """A wish and a codec. Without state: any number of threads call it."""

    def __init__(
        self,
        spec: CaptureSpec | None = None,
        *,
        max_pixels: int = DEFAULT_MAX_PIXELS,
        codec: JpegCodec | None = None,
    ) -> None:
        """Take the wish; ``max_pixels``: of a picture that is taken at all."""
        self.spec = spec or CaptureSpec()
        self.max_pixels = max_pixels
        self.codec = codec or pick_codec()

    def process(
        self, data: bytes, label: Label | None = None, source_sha256: str = ""
    ) -> Processed:
        """Make the photo; see :func:`process`."""
        return process(
            data, self.spec, label, source_sha256, max_pixels=self.max_pixels, codec=self.codec
        )


def process(
    data: bytes,
    spec: CaptureSpec,
    label: Label | None = None,
    source_sha256: str = "",
    *,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    codec: JpegCodec | None = None,
    signer: Signer | None = None,
) -> Processed:
    """Make the photo that ``spec`` wants of a camera's bytes.

    ``label``: what is put into the file; None: nothing, and no overlay's text. ``source_sha256``:
    of ``data``, where it is known already. ``signer`` signs the label. Raises ImageError.
    """
    run = _Run(data, spec, label, codec or pick_codec(), max_pixels)
    run.signer = signer
    return run.all(source_sha256)


class _Run:
    """One photo on its way."""

    def __init__(
        self, data: bytes, spec: CaptureSpec, label: Label | None, codec: JpegCodec, max_pixels: int
    ) -> None:
        self.data, self.spec, self.label, self.codec = data, spec, label, codec
        self.signer: Signer | None = None
        began = time.perf_counter()
        self.facts = read_facts(data, max_pixels)
        self.plan: Plan = plan(self.facts, spec, lossless=codec.lossless)
        self.notes = list(self.plan.notes)
        self.copied = 0
        self.spent = {"header_ms": (time.perf_counter() - began) * 1e3}

    def all(self, source_sha256: str) -> Processed:
        """Take every step."""
        at = time.perf_counter()
        body = self._body()
        at = self._lap("pixels_ms", at)
        source = source_sha256 or hashlib.sha256(self.data).hexdigest()
        same = body is self.data
        body_sha256 = source if same else hashlib.sha256(body).hexdigest()
        at = self._lap("hash_ms", at)
        stored = self._labelled(body, source, body_sha256)
        at = self._lap("label_ms", at)
        sha256 = body_sha256 if stored is body else hashlib.sha256(stored).hexdigest()
        at = self._lap("hash_ms", at)
        thumbnail = self._thumbnail(body) if self.spec.thumbnail_px else None
        self._lap("thumbnail_ms", at)
        return Processed(
            stored, sha256, len(stored), self.plan.width_px, self.plan.height_px,
            self.spec.format, source, body_sha256, self.plan.treatment, tuple(self.notes),
            original=self.data if self.spec.keep_original and not same else None,
            source_format=self.facts.format, thumbnail=thumbnail, copied_bytes=self.copied,
            timings=Timings(**self.spent),
        )  # fmt: skip

    def _lap(self, name: str, since: float) -> float:
        now = time.perf_counter()
        self.spent[name] = self.spent.get(name, 0.0) + (now - since) * 1e3
        return now

    def _body(self) -> bytes:
        """Carry the plan out."""
        if self.plan.treatment == "untouched":
            if self.spec.check == "scan":
                self._decode(CHECK_EIGHTHS)
            return self.data
        first = self.plan.steps[0]
        if isinstance(first, Lossless):
            moved = self.codec.move(self.data, first.box, first.orientation)
            self.copied += len(moved)
            return jpeg.untagged(moved) if first.orientation != 1 else moved
        return self._scaled() if self._planes_do() else self._worked()

    def _planes_do(self) -> bool:
        """Say whether the pixels need not become RGB: they are scaled, and nothing else."""
        last = self.plan.steps[-1]
        return (
            self.codec.planar
            and min(self.plan.width_px, self.plan.height_px) >= PLANES_PX
            and self.facts.format == "jpeg"
            and self.facts.subsampling in PLANAR
            and isinstance(last, Encode)
            and (last.format, last.subsampling) == ("jpeg", self.facts.subsampling)
            and all(isinstance(step, Decode | Resize) for step in self.plan.steps[:-1])
        )

    def _scaled(self) -> bytes:
        """Decode to planes, scale each, encode: half of the colour is never made up and thrown."""
        planes: list[Pixels] = []
        body = b""
        for step in self.plan.steps:
            match step:
                case Decode(eighths):
                    planes = self.codec.decode_planes(self.data, self.facts, eighths)
                    self.copied += sum(plane.nbytes for plane in planes)
                case Resize(width_px, height_px):
                    planes = pixels.resize_planes(
                        planes, width_px, height_px, self.facts.subsampling
                    )
                    self.copied += sum(plane.nbytes for plane in planes)
                case Encode(_, quality, _):
                    body = self._with_profile(encode_planes(planes, quality))
        self.copied += len(body)
        return body

    def _worked(self) -> bytes:
        """Decode, change and encode."""
        picture: Pixels | None = None
        body = b""
        for step in self.plan.steps:
            if isinstance(step, Decode):
                picture = self._decode(step.eighths)
                continue
            assert picture is not None, "a plan decodes before all else"
            match step:
                case Resize(width_px, height_px):
                    picture = pixels.resize(picture, width_px, height_px)
                    self.copied += picture.nbytes
                case Turn(orientation):
                    picture = pixels.turn(picture, orientation)
                case Crop(box):
                    picture = pixels.crop(picture, box)
                case Write():
                    picture = self._written(picture)
                case Encode(name, quality, subsampling):
                    body = self._encode(picture, name, quality, subsampling)
        self.copied += len(body)
        return body

    def _decode(self, eighths: int) -> Pixels:
        facts = self.facts
        if facts.format == "jpeg" and facts.colour != "cmyk":
            picture = self.codec.decode(self.data, facts, eighths)
        else:
            picture = pixels.decode_other(self.data, facts)
        self.copied += picture.nbytes
        return picture

    def _written(self, picture: Pixels) -> Pixels:
        label, overlay = self.label, self.spec.overlay
        if label is None or overlay is None:
            return picture
        at_ms, offset_min = label.shutter_ms, label.utc_offset_min
        text = pixels.overlay_text(overlay, label.device_id, at_ms, offset_min)
        self.copied += picture.nbytes
        return pixels.write(picture, text)

    def _encode(self, picture: Pixels, name: str, quality: int, subsampling: str) -> bytes:
        if name != "jpeg":
            return pixels.encode_other(picture, name, quality)
        return self._with_profile(self.codec.encode(picture, quality, subsampling))

    def _with_profile(self, body: bytes) -> bytes:
        if self.facts.icc and self.facts.colour != "cmyk":
            profile = b"".join(jpeg.make_segment(jpeg.APP2, part) for part in self.facts.icc)
            body = body[:2] + profile + body[2:]
        return body

    def _labelled(self, body: bytes, source: str, body_sha256: str) -> bytes:
        """Put the label in; a photo is never lost for its label."""
        if self.label is None:
            return body
        if self.spec.format not in embed.CARRIERS:
            self.notes.append("no_label")
            return body
        label = replace(
            self.label, source_sha256=source, source_bytes=len(self.data), body_sha256=body_sha256,
            treatment=self.plan.treatment, notes=tuple(self.notes),
        )  # fmt: skip
        upright = "turned" in self.notes
        try:
            size = self.plan.width_px, self.plan.height_px
            exif = make_exif(label, self.facts.exif, size, upright=upright)
            stored = embed.embed(body, exif, make_xmp(label, self.signer))
        except ImageError:
            self.notes.append("no_label")
            return body
        self.copied += len(stored)
        return stored

    def _thumbnail(self, body: bytes) -> bytes:
        """Return a JPEG of the photo's own making, from an eighth of it where that will do."""
        facts = read_facts(body)
        side = self.spec.thumbnail_px
        small = CaptureSpec(width_px=side, height_px=side, quality=THUMBNAIL_QUALITY)
        run = _Run(body, replace(small, upright=True), None, self.codec, facts.pixels)
        found = run._body()
        self.copied += run.copied
        return found


__all__ = ["Facts", "ImagePipeline", "Processed", "Timings", "process"]
