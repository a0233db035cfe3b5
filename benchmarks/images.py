"""Images: what a photo costs from bytes to stored file, beside Pillow, OpenCV and libvips.

Pictures are drawn with detail at every scale (``benchmarks/quality.py``), 1080p and 4K, quality 85,
4:2:0. Each case is done by each system as it is done best there:

- ``decode``: to RGB. ``encode``: from RGB at quality 85, 4:2:0. ``hash``: SHA-256 of the file.
- ``scale``: JPEG to JPEG of a third of the width. All scale in the DCT first (Pillow's ``draft``,
  OpenCV's reduced read, libvips' shrink on load).
- ``thumbnail``: the same to 320 pixels, at quality 75.
- ``label``: EXIF and XMP into a file whose pixels stay, and both hashes. Ours splices; a peer has
  no other way than to decode and encode (Pillow with the same tables).
- ``pass-through``: the whole pipeline for a photo that fits: header, label, both hashes.
- ``scaled photo``: the whole pipeline for one that does not: ``scale`` with label and hashes.
- ``verdict``, ``store``, ``end to end``, ``end to end scaled``: see ``images_whole.py``.

``copied_bytes`` are the bytes of pixels and files that our pipeline writes for a photo; what
libraries copy within themselves, ours or others', is not to be seen.

``ms`` is the median of one thread, ``images_per_core_s`` comes from the CPU time of the process,
``images_per_s`` from as many threads as there are cores. Peers' packages come by
``uv sync --group bench``; one that is not there is left out, with a note. ``--systems`` and
``--cases`` choose. No broker runs.
"""

from __future__ import annotations

import hashlib
import io
import os
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from PIL import Image

from benchmarks import images_whole
from benchmarks.options import chosen
from benchmarks.quality import drawn
from benchmarks.result import OURS, Row
from connectors.images import embed
from connectors.images.codec import SimpleCodec, pick_codec
from connectors.images.facts import read_facts
from connectors.images.label import Label, make_exif, make_xmp
from connectors.images.pipeline import process
from connectors.images.spec import CaptureSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.load import Rig
    from benchmarks.options import Options
    from connectors.images.codec import JpegCodec

    Work = Callable[[], object]
    Works = dict[str, Work]

SIZES: Final = {"1080p": (1_920, 1_080), "4K": (3_840, 2_160)}
CASES: Final = (
    *("decode", "encode", "scale", "thumbnail", "hash", "label", "pass-through", "scaled photo"),
    *images_whole.CASES,
)
SECONDS: Final = 0.9
QUICK_SECONDS: Final = 0.15
QUALITY: Final = 85
THUMBNAIL_PX: Final = 320
LABEL: Final = Label(
    "cam-00001", 97_000_000_000_000_123, "every-5-min", 7, 1_790_000_000_000, 1_790_000_000_045,
    source_sha256="1" * 64, body_sha256="2" * 64, treatment="untouched", quality="good",
)  # fmt: skip
PEERS: Final = (
    *("pillow", "opencv-python-headless", "pyvips", "pyvips-binary", "simplejpeg", "PyTurboJPEG"),
    *("av", "numpy", "onnxruntime", "obstore"),
)


def versions() -> dict[str, str]:
    """Return what the systems are made of."""
    found = {"libjpeg-turbo binding": pick_codec().name}
    for name in PEERS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


@dataclass(frozen=True, slots=True)
class Picture:
    """What is worked on."""

    jpeg: bytes
    pixels: Any
    """RGB, shape (height, width, 3)."""
    wide: int
    """Width to scale to."""


def ours(picture: Picture, codec: JpegCodec) -> Works:
    """Return our own way of every case."""
    jpeg, facts = picture.jpeg, read_facts(picture.jpeg)
    scaled = CaptureSpec(picture.wide, quality=QUALITY)
    thumbnail = CaptureSpec(THUMBNAIL_PX, THUMBNAIL_PX, quality=75)
    plain = CaptureSpec()

    def label() -> None:
        body = hashlib.sha256(jpeg).hexdigest()
        file = embed.embed(jpeg, make_exif(LABEL), make_xmp(LABEL))
        hashlib.sha256(file + body.encode())

    return {
        "decode": lambda: codec.decode(jpeg, facts),
        "encode": lambda: codec.encode(picture.pixels, QUALITY, "420"),
        "scale": lambda: process(jpeg, scaled, source_sha256="0", codec=codec),
        "thumbnail": lambda: process(jpeg, thumbnail, source_sha256="0", codec=codec),
        "hash": lambda: hashlib.sha256(jpeg).digest(),
        "label": label,
        "pass-through": lambda: process(jpeg, plain, LABEL, codec=codec),
        "scaled photo": lambda: process(jpeg, scaled, LABEL, codec=codec),
    }


def pillow(picture: Picture) -> Works:
    """Return Pillow's way."""
    jpeg, image = picture.jpeg, Image.fromarray(picture.pixels)
    exif, xmp = b"Exif\0\0" + make_exif(LABEL), make_xmp(LABEL)

    def smaller(side: int, quality: int, **options: Any) -> bytes:
        opened = Image.open(io.BytesIO(jpeg))
        size = side, round(side * opened.height / opened.width)
        opened.draft("RGB", size)
        out = io.BytesIO()
        opened.resize(size, Image.Resampling.BICUBIC).save(out, "JPEG", quality=quality, **options)
        return out.getvalue()

    def saved(**options: Any) -> bytes:
        out = io.BytesIO()
        Image.open(io.BytesIO(jpeg)).save(out, "JPEG", **options)
        return out.getvalue()

    def written(found: bytes) -> str:
        return hashlib.sha256(found).hexdigest() + hashlib.sha256(jpeg).hexdigest()

    def encode() -> None:
        image.save(io.BytesIO(), "JPEG", quality=QUALITY)

    labelled = {"quality": "keep", "exif": exif, "xmp": xmp}
    return {
        "decode": lambda: np.asarray(Image.open(io.BytesIO(jpeg))),
        "encode": encode,
        "scale": lambda: smaller(picture.wide, QUALITY),
        "thumbnail": lambda: smaller(THUMBNAIL_PX, 75),
        "file": lambda: saved(**labelled),
        "scaled file": lambda: smaller(picture.wide, QUALITY, exif=exif, xmp=xmp),
        "label": lambda: written(saved(**labelled)),
        "pass-through": lambda: written(saved(**labelled)),
        "scaled photo": lambda: written(smaller(picture.wide, QUALITY, exif=exif, xmp=xmp)),
    }


def opencv(picture: Picture) -> Works:
    """Return OpenCV's way; it labels nothing here."""
    cv2: Any = import_module("cv2")
    cv2.setNumThreads(1)
    source = np.frombuffer(picture.jpeg, np.uint8)
    bgr = np.ascontiguousarray(picture.pixels[:, :, ::-1])
    height, width = bgr.shape[:2]

    def smaller(side: int, quality: int) -> bytes:
        factor = next((n for n in (8, 4, 2) if width // n >= side), 1)
        flag = cv2.IMREAD_COLOR if factor == 1 else getattr(cv2, f"IMREAD_REDUCED_COLOR_{factor}")
        found = cv2.imdecode(source, flag)
        size = side, round(side * height / width)
        if found.shape[1] != side:
            found = cv2.resize(found, size, interpolation=cv2.INTER_AREA)
        jpeg: bytes = cv2.imencode(".jpg", found, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()
        return jpeg

    return {
        "decode": lambda: cv2.imdecode(source, cv2.IMREAD_COLOR),
        "encode": lambda: cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, QUALITY]),
        "scale": lambda: smaller(picture.wide, QUALITY),
        "thumbnail": lambda: smaller(THUMBNAIL_PX, 75),
        "scaled file": lambda: smaller(picture.wide, QUALITY),
    }


def libvips(picture: Picture) -> Works:
    """Return libvips' way, one thread a picture."""
    os.environ.setdefault("VIPS_CONCURRENCY", "1")
    vips: Any = import_module("pyvips")
    jpeg = picture.jpeg
    image = vips.Image.new_from_memory(
        np.ascontiguousarray(picture.pixels).data, picture.pixels.shape[1],
        picture.pixels.shape[0], 3, "uchar",
    )  # fmt: skip
    xmp = make_xmp(LABEL)

    def smaller(side: int, quality: int) -> bytes:
        found: bytes = vips.Image.thumbnail_buffer(jpeg, side).jpegsave_buffer(
            Q=quality, subsample_mode="on"
        )
        return found

    def file() -> bytes:
        copy = vips.Image.new_from_buffer(jpeg, "", access="sequential").copy()
        copy.set_type(vips.GValue.blob_type, "xmp-data", xmp)
        found: bytes = copy.jpegsave_buffer(Q=QUALITY, subsample_mode="on")
        return found

    def labelled() -> str:
        return hashlib.sha256(file()).hexdigest() + hashlib.sha256(jpeg).hexdigest()

    return {
        "decode": lambda: vips.Image.new_from_buffer(jpeg, "").write_to_memory(),
        "encode": lambda: image.jpegsave_buffer(Q=QUALITY, subsample_mode="on"),
        "scale": lambda: smaller(picture.wide, QUALITY),
        "thumbnail": lambda: smaller(THUMBNAIL_PX, 75),
        "file": file,
        "scaled file": lambda: smaller(picture.wide, QUALITY),
        "label": labelled,
        "pass-through": labelled,
    }


SYSTEMS: Final[dict[str, Callable[[Picture], Works]]] = {
    OURS: lambda picture: ours(picture, pick_codec()),
    images_whole.BUNDLED: lambda picture: ours(picture, SimpleCodec()),
    "Pillow": pillow,
    "OpenCV": opencv,
    "pyvips": libvips,
}


def run(options: Options, rig: Rig) -> Iterator[Row]:
    """Measure every case of every system."""
    cases = chosen(options.cases, CASES, "case")
    systems = chosen(options.systems, tuple(SYSTEMS), "system")
    seconds = options.seconds or (QUICK_SECONDS if options.quick else SECONDS)
    for size, (width, height) in SIZES.items():
        jpeg = coloured(width, height)
        picture = Picture(jpeg, np.asarray(Image.open(io.BytesIO(jpeg))), width // 3)
        yield Row(f"{size} decode", OURS, "jpeg_bytes", float(len(jpeg)), "bytes")
        found: dict[str, Works] = {}
        for system in systems:
            try:
                found[system] = SYSTEMS[system](picture)
            except (ImportError, OSError) as error:
                rig.say(f"{system}: left out, {error}. Install it by 'uv sync --group bench'.")
        with TemporaryDirectory(prefix="photos-") as folder:
            if set(cases) & set(images_whole.CASES):
                images_whole.of_all(picture, found, Path(folder), LABEL)
            for case in cases:
                for system, works in found.items():
                    if case in works:
                        yield from _rows(f"{size} {case}", system, works[case], seconds)
                if OURS in found and case in WISHES:
                    done = process(jpeg, WISHES[case](picture), LABEL)
                    copied = float(done.copied_bytes)
                    yield Row(f"{size} {case}", OURS, "copied_bytes", copied, "bytes")


def coloured(width_px: int, height_px: int) -> bytes:
    """Return a JPEG with detail in brightness and, less of it, in colour."""
    grey = Image.open(io.BytesIO(drawn(width_px, height_px, 1))).convert("L")
    colours = [
        Image.open(io.BytesIO(drawn(width_px // 4, height_px // 4, seed)))
        .convert("L")
        .resize(grey.size)
        for seed in (2, 3)
    ]
    out = io.BytesIO()
    Image.merge("YCbCr", (grey, *colours)).save(out, "JPEG", quality=QUALITY)
    return out.getvalue()


WISHES: Final[dict[str, Callable[[Picture], CaptureSpec]]] = {
    "pass-through": lambda _picture: CaptureSpec(),
    "scaled photo": lambda picture: CaptureSpec(picture.wide, quality=QUALITY),
    "end to end": lambda _picture: CaptureSpec(),
    "end to end scaled": images_whole.scaled_spec,
}
"""What the whole of it asks of the pipeline."""


def _rows(case: str, system: str, work: Work, seconds: float) -> Iterator[Row]:
    work()
    elapsed: list[float] = []
    began_s, cpu_s = time.perf_counter(), time.process_time()
    while not elapsed or time.perf_counter() - began_s < seconds:
        at_s = time.perf_counter()
        work()
        elapsed.append(time.perf_counter() - at_s)
    each_cpu_s = (time.process_time() - cpu_s) / len(elapsed)
    median_s = statistics.median(elapsed)
    yield Row(case, system, "ms", round(median_s * 1e3, 3), "ms")
    yield Row(case, system, "images_per_core_s", round(1 / each_cpu_s, 1), "1/s")
    threads = os.cpu_count() or 1
    count = max(threads * 2, int(seconds / median_s * threads / 2))
    with ThreadPoolExecutor(threads) as pool:
        began_s = time.perf_counter()
        list(pool.map(lambda _: work(), range(count)))
        rate = count / (time.perf_counter() - began_s)
    yield Row(case, system, "images_per_s", round(rate, 1), "1/s")
