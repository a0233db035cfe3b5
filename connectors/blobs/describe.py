"""What is said of a picture: from a command and a frame to metadata, attributes and references."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec

from connectors.blobs.index import DECODER, Beside, BlobMetadata
from connectors.blobs.keys import beside_end
from connectors.cameras.frame import SOI, read_jpeg
from schemas.errors import CameraError
from schemas.records import ImageRef

if TYPE_CHECKING:
    from connectors.cameras.base import Frame
    from schemas.records import CaptureCommand

CONTENT_TYPES: Final = {
    "jpeg": "image/jpeg", "png": "image/png", "webp": "image/webp", "gif": "image/gif",
    "avif": "image/avif", "heif": "image/heif",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Extra:
    """What is to be stored beside a photo."""

    kind: str
    """``thumbnail`` or ``original``."""
    data: bytes
    format: str = "jpeg"


def keep_until_ms(command: CaptureCommand) -> int | None:
    """Return from when on a command's photo may go; None: never.

    Not before its time is over by its schedule, nor while another attempt might look for it: one
    that did not find it would open the shutter again.
    """
    if not command.keep_ms:
        return None
    needed_ms = command.not_after_ms + command.capture_timeout_ms
    return max(command.scheduled_ms + command.keep_ms, needed_ms)


def describe(
    command: CaptureCommand, frame: Frame, extras: tuple[Extra, ...] = ()
) -> tuple[BlobMetadata, tuple[BlobMetadata, ...]]:
    """Return the metadata of a photo, and of each file beside it."""
    until_ms = keep_until_ms(command) if command.keep_ms else None
    beside = _named(extras) if extras else ()
    photo = BlobMetadata(
        sha256=frame.sha256,
        image_bytes=len(frame.data),
        width_px=frame.width_px,
        height_px=frame.height_px,
        format=frame.format,
        device_id=command.device_id,
        command_id=command.command_id,
        scheduled_ms=command.scheduled_ms,
        frame_at_ms=frame.frame_at_ms,
        keep_until_ms=until_ms,
        beside=beside,
    )
    if not beside:
        return photo, ()
    return photo, tuple(
        BlobMetadata(
            sha256=one.sha256,
            image_bytes=one.image_bytes,
            width_px=0,
            height_px=0,
            format=one.format,
            device_id=command.device_id,
            command_id=command.command_id,
            scheduled_ms=command.scheduled_ms,
            keep_until_ms=until_ms,
            beside_of=frame.sha256,
        )
        for one in beside
    )


def _named(extras: tuple[Extra, ...]) -> tuple[Beside, ...]:
    return tuple(
        Beside(extra.kind, hashlib.sha256(extra.data).hexdigest(), len(extra.data), extra.format)
        for extra in extras
    )


def reference(uri: str, metadata: BlobMetadata) -> ImageRef:
    """Return what a result says of a photo."""
    return ImageRef(
        uri=uri,
        sha256=metadata.sha256,
        image_bytes=metadata.image_bytes,
        width_px=metadata.width_px,
        height_px=metadata.height_px,
        format=metadata.format,
        frame_at_ms=metadata.frame_at_ms,
        keep_until_ms=metadata.keep_until_ms,
        beside=hashes_beside(metadata) if metadata.beside else {},
    )


def hashes_beside(metadata: BlobMetadata) -> dict[str, str]:
    """Return what a result says of the files beside a photo."""
    return {beside_end(one.kind, one.format): one.sha256 for one in metadata.beside}


def attributes(metadata: BlobMetadata) -> dict[str, str]:
    """One attribute with the JSON (ASCII only: S3 sends it as a header), one with the hash."""
    text = json.dumps(msgspec.to_builtins(metadata), separators=(",", ":"))
    content_type = CONTENT_TYPES.get(metadata.format, "application/octet-stream")
    return {"Content-Type": content_type, "sha256": metadata.sha256, "capture": text}


def from_attributes(found: dict[str, str]) -> BlobMetadata | None:
    """Return the metadata that an object carries; None: none of ours."""
    try:
        return DECODER.decode(found.get("capture", ""))
    except msgspec.MsgspecError:
        return None


def read_picture(data: bytes) -> Frame | None:
    """Return what a stored picture is, by its bytes; None: it is not a whole picture."""
    if data[:2] == SOI:
        try:
            frame = read_jpeg(data)
        except CameraError:
            return None
        return frame if len(frame.data) == len(data) else None
    return _read_other(data)


def _read_other(data: bytes) -> Frame | None:
    # Here: few photos are no JPEG, and what reads them takes a while to import.
    from connectors.cameras.base import Frame
    from connectors.images.embed import is_whole
    from connectors.images.errors import ImageError
    from connectors.images.facts import read_facts

    if not is_whole(data):
        return None
    try:
        facts = read_facts(data)
    except ImageError:
        return None
    digest = hashlib.sha256(data).hexdigest()
    return Frame(data, facts.format, facts.width_px, facts.height_px, digest)
