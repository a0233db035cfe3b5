"""What becomes of a photo besides pixels: its verdict, its place in the store, and all of it.

- ``verdict``: JPEG to 320 x 320 by each system as it does that best, then the released network
  (fp32, onnxruntime on one core): the network is the same for all.
- ``store``: a new file in a folder, whole or not there, never over another. Ours writes its line of
  the index, too. ``obstore`` is the library's conditional put; ``Python`` is a new file, and a
  rename that would replace. The file of the put before is deleted, as a part of every one.
- ``end to end``: a camera's bytes to verdict, label, hashes and file, its pixels untouched;
  ``end to end scaled``: to a third, with a thumbnail. A peer does the same in its way, without a
  verdict of its own: it prepares the picture and asks the same network.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import os
import queue
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import obstore
from obstore.store import LocalStore
from PIL import Image

from benchmarks.result import OURS
from connectors.blobs.index import BlobMetadata, LocalIndex, line_of
from connectors.blobs.writer import Put, perform
from connectors.images.codec import SimpleCodec, pick_codec
from connectors.images.pipeline import process
from connectors.images.quality.boxes import CONFIDENCE, IOU, decode
from connectors.images.quality.letterbox import SIDE_PX
from connectors.images.quality.reader import QualityReader
from connectors.images.spec import CaptureSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from benchmarks.images import Picture
    from connectors.images.codec import JpegCodec
    from connectors.images.label import Label

    Work = Callable[[], object]
    Works = dict[str, Work]

CASES: Final = ("verdict", "store", "end to end", "end to end scaled")
GREY: Final = 114
BUNDLED: Final = f"{OURS} (simplejpeg)"
KEYS: Final = itertools.count(1)


class Readers:
    """A reader a core: one thread at a time has each."""

    def __init__(self) -> None:
        self._free: queue.SimpleQueue[QualityReader] = queue.SimpleQueue()
        for _ in range(os.cpu_count() or 1):
            self._free.put(QualityReader())

    @contextmanager
    def one(self) -> Iterator[QualityReader]:
        """Lend a reader."""
        reader = self._free.get()
        try:
            yield reader
        finally:
            self._free.put(reader)

    def judge(self, jpeg: bytes) -> object:
        """Judge a picture as workers do."""
        with self.one() as reader:
            return reader.judge([jpeg])

    def judge_prepared(self, small: Any) -> object:
        """Judge a picture of at most 320 x 320, RGB, that a peer has made small."""
        frame = np.full((1, SIDE_PX, SIDE_PX, 3), GREY, np.uint8)
        frame[0, : small.shape[0], : small.shape[1]] = small
        with self.one() as reader:
            return decode(reader.model.rows(frame)[0], CONFIDENCE, IOU)


class Folder:
    """Where files go; each put deletes the file of the put before."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._index = LocalIndex(path)
        self._objects = LocalStore(path)
        self._days = path / "cam-00001" / "2026-11-28"
        self._days.mkdir(parents=True)

    def ours(self, data: bytes, sha256: str) -> None:
        """Put as a worker's process does."""
        number = next(KEYS)
        key = f"cam-00001/2026-11-28/{number}.jpg"
        metadata = BlobMetadata(sha256, len(data), 1, 1, "jpeg", "cam-00001", number, number)
        outcome = perform(self._index, Put(key, data, line_of(metadata), replace=False))
        assert outcome.errno == 0
        (self.path / key).unlink()

    def obstore(self, data: bytes) -> None:
        """Put by obstore."""
        key = f"cam-00001/2026-11-28/{next(KEYS)}.jpg"
        obstore.put(self._objects, key, data, mode="create", use_multipart=False)
        (self.path / key).unlink()

    def python(self, data: bytes) -> None:
        """Write, and rename."""
        path = self._days / f"{next(KEYS)}.jpg"
        passing = path.with_suffix(".part")
        passing.write_bytes(data)
        passing.replace(path)
        path.unlink()


def ours(
    picture: Picture, codec: JpegCodec, readers: Readers, folder: Folder, label: Label
) -> Works:
    """Return our own way of every case."""
    jpeg = picture.jpeg

    def whole(spec: CaptureSpec) -> None:
        readers.judge(jpeg)
        done = process(jpeg, spec, label, codec=codec)
        if done.thumbnail is not None:
            folder.ours(done.thumbnail, "")
        folder.ours(done.data, done.sha256)

    return {
        "verdict": lambda: readers.judge(jpeg),
        "store": lambda: folder.ours(jpeg, "1" * 64),
        "end to end": lambda: whole(CaptureSpec()),
        "end to end scaled": lambda: whole(scaled_spec(picture)),
    }


def scaled_spec(picture: Picture) -> CaptureSpec:
    """Return the wish of ``end to end scaled``."""
    return CaptureSpec(picture.wide, quality=85, thumbnail_px=320)


def peer(
    prepare: Callable[[], Any], works: Works, picture: Picture, readers: Readers, folder: Folder
) -> Works:
    """Return a peer's way, by its works ``file``, ``scaled file`` and ``thumbnail``: bytes."""

    def whole(*makes: Work) -> None:
        readers.judge_prepared(prepare())
        hashlib.sha256(picture.jpeg).hexdigest()
        for make in makes:
            data = make()
            assert isinstance(data, bytes)
            hashlib.sha256(data).hexdigest()
            folder.python(data)

    found: Works = {"verdict": lambda: readers.judge_prepared(prepare())}
    if "file" in works:
        found["end to end"] = lambda: whole(works["file"])
    if "scaled file" in works:
        found["end to end scaled"] = lambda: whole(works["scaled file"], works["thumbnail"])
    return found


def of_all(picture: Picture, found: dict[str, Works], path: Path, label: Label) -> None:
    """Add these cases to the works of every system; the stores are systems of their own."""
    readers, folder, jpeg = Readers(), Folder(path), picture.jpeg
    wide = picture.pixels.shape[1]
    for system, codec in ((OURS, pick_codec()), (BUNDLED, SimpleCodec())):
        if system in found:
            found[system] |= ours(picture, codec, readers, folder, label)
    prepares: dict[str, Callable[[], Any]] = {
        "Pillow": lambda: pillow_small(jpeg),
        "OpenCV": lambda: opencv_small(jpeg, wide),
        "pyvips": lambda: vips_small(jpeg),
    }
    for system, prepare in prepares.items():
        if system in found:
            found[system] |= peer(prepare, found[system], picture, readers, folder)
    found["obstore"] = {"store": lambda: folder.obstore(jpeg)}
    found["Python"] = {"store": lambda: folder.python(jpeg)}


def pillow_small(jpeg: bytes) -> Any:
    """Return RGB of at most 320 x 320 by Pillow."""
    opened = Image.open(io.BytesIO(jpeg))
    opened.draft("RGB", (SIDE_PX, SIDE_PX))
    opened.thumbnail((SIDE_PX, SIDE_PX), Image.Resampling.BILINEAR)
    return np.asarray(opened.convert("RGB"))


def opencv_small(jpeg: bytes, width: int) -> Any:
    """Return the same by OpenCV, of a picture that is wider than high."""
    cv2: Any = import_module("cv2")
    factor = next((n for n in (8, 4, 2) if width // n >= SIDE_PX), 1)
    flag = cv2.IMREAD_COLOR if factor == 1 else getattr(cv2, f"IMREAD_REDUCED_COLOR_{factor}")
    found = cv2.imdecode(np.frombuffer(jpeg, np.uint8), flag)
    size = SIDE_PX, round(found.shape[0] * SIDE_PX / found.shape[1])
    return cv2.cvtColor(cv2.resize(found, size, interpolation=cv2.INTER_AREA), cv2.COLOR_BGR2RGB)


def vips_small(jpeg: bytes) -> Any:
    """Return the same by libvips."""
    vips: Any = import_module("pyvips")
    found = vips.Image.thumbnail_buffer(jpeg, SIDE_PX, height=SIDE_PX)
    raw = np.frombuffer(found.write_to_memory(), np.uint8)
    return raw.reshape(found.height, found.width, found.bands)[:, :, :3]
