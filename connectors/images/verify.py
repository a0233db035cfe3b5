"""Is this file the photo it says it is? Asked of the file alone, without any network.

==========  ========================================================================================
Check       Well if
==========  ========================================================================================
structure   it is a JPEG, PNG or WebP whose parts are whole, with nothing behind its end
label       it has an XMP packet of ours, and every field of it can be
body        without the label its bytes have the SHA-256 that the label gives
source      untouched: the body is what the camera sent, by SHA-256 and length; else not to be told
            from the file, unless the camera's bytes are given
pixels      they decode to the end without a warning
command     the command id has the shard of the device, and was issued before the shutter opened
times       the shutter did not open early, nor more than a day late, nor in the future
exif        EXIF gives the same time, device and command
name        a file or folder that is named as in the blob store is named after this command
signature   the label was signed by one of the keys that are given; without keys: not to be told
==========  ========================================================================================

What this cannot say without a key: that the label is ours (infra/adr/0028-images.md).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING, Final

from connectors.blobs.keys import day_of, device_segment
from connectors.images import embed, pixels
from connectors.images.codec import pick_codec
from connectors.images.errors import ImageError
from connectors.images.facts import DEFAULT_MAX_PIXELS, read_facts
from connectors.images.label import (
    SIGNATURE,
    SIGNED_BY,
    read_exif,
    read_fields,
    read_xmp,
    rfc3339,
)
from schemas.errors import ShutterwheelError
from streams.core.ids import command_shard, command_time_ms, shard_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from connectors.images.embed import Contents
    from connectors.images.label import Label
    from connectors.images.signing import PublicKey

DAY_MS: Final = 86_400_000
SKEW_MS: Final = 2_000
"""The clocks of workers and of who verifies may differ by so much: DESIGN's ``max_skew``."""
CHECK_EIGHTHS: Final = 1


@dataclass(frozen=True, slots=True)
class Finding:
    """One check of one file."""

    check: str
    status: str
    """``ok``, ``fail`` or ``skip``: not to be told."""
    found: str


@dataclass(frozen=True, slots=True)
class Verified:
    """All that was found of a file."""

    file: str
    ok: bool
    """No check failed."""
    findings: tuple[Finding, ...]
    label: Label | None = None


def verify(
    data: bytes,
    name: str,
    now_ms: int,
    source: bytes | None = None,
    keys: tuple[PublicKey, ...] = (),
) -> Verified:
    """Check a photo. ``name``: its path; ``source``: the camera's bytes, if there.

    ``keys``: one of them must have signed the label; none: signatures are not looked at.
    Never raises for what is in the file.
    """
    findings: list[Finding] = []
    label: Label | None = None
    for finding in _all(data, name, now_ms, source, keys):
        if isinstance(finding, Finding):
            findings.append(finding)
        else:
            label = finding
    ok = all(finding.status != "fail" for finding in findings)
    return Verified(name, ok, tuple(findings), label)


def _all(
    data: bytes, name: str, now_ms: int, source: bytes | None, keys: tuple[PublicKey, ...]
) -> Iterator[Finding | Label]:
    try:
        facts = read_facts(data, DEFAULT_MAX_PIXELS)
        if facts.format in embed.CARRIERS and not embed.is_whole(data):
            raise ImageError("damaged", "Something stands behind its end, or its end is missing.")
        contents = embed.extract(data) if facts.format in embed.CARRIERS else embed.Contents(data)
    except ImageError as error:
        yield Finding("structure", "fail", str(error))
        return
    shape = f"{facts.format}, {facts.width_px} x {facts.height_px}, {len(data):,} bytes"
    yield Finding("structure", "ok", shape)
    yield _pixels(data)
    if not contents.xmp:
        yield Finding("label", "fail", "It has no label of ours.")
        return
    try:
        label = read_xmp(contents.xmp)
    except ImageError as error:
        yield Finding("label", "fail", str(error))
        return
    yield label
    yield Finding("label", "ok", f"command {label.command_id} of {label.device_id}")
    yield from _bytes(contents, label, source)
    yield _command(label)
    yield _times(label, now_ms)
    yield _exif(contents, label)
    yield _name(label, name)
    yield _signature(contents, keys)


def _pixels(data: bytes) -> Finding:
    try:
        facts = read_facts(data)
        if facts.format == "jpeg" and facts.colour != "cmyk":
            pick_codec().decode(data, facts, CHECK_EIGHTHS)
        else:
            pixels.decode_other(data, facts)
    except ImageError as error:
        return Finding("pixels", "fail", str(error))
    return Finding("pixels", "ok", "decoded to the end")


def _bytes(contents: Contents, label: Label, source: bytes | None) -> Iterator[Finding]:
    digest = hashlib.sha256(contents.body).hexdigest()
    if digest == label.body_sha256:
        yield Finding("body", "ok", f"sha256 {digest}")
    else:
        text = f"sha256 {digest}, but the label says {label.body_sha256}"
        yield Finding("body", "fail", text)
    if label.treatment == "untouched":
        source = contents.body
    elif source is None:
        text = f"{label.treatment}: the camera's bytes are needed to check {label.source_sha256}"
        yield Finding("source", "skip", text)
        return
    digest, size = hashlib.sha256(source).hexdigest(), len(source)
    if (digest, size) == (label.source_sha256, label.source_bytes):
        yield Finding("source", "ok", f"{label.treatment}: {size:,} bytes as the camera sent them")
    else:
        text = f"{size:,} bytes of sha256 {digest}, but the label says {label.source_bytes:,} bytes"
        yield Finding("source", "fail", f"{text} of {label.source_sha256}")


def _command(label: Label) -> Finding:
    command, shard = label.command_id, shard_of(label.device_id)
    if command <= 0 or command >> 63:
        return Finding("command", "fail", f"{command} is no command id")
    if command_shard(command) != shard:
        text = f"it is of shard {command_shard(command)}, the device of shard {shard}"
        return Finding("command", "fail", text)
    issued_ms = command_time_ms(command)
    text = f"shard {shard}, issued {rfc3339(issued_ms)}"
    if issued_ms > label.shutter_ms + SKEW_MS:
        return Finding("command", "fail", f"{text}, after the shutter opened")
    return Finding("command", "ok", text)


def _times(label: Label, now_ms: int) -> Finding:
    late_ms = label.shutter_ms - label.scheduled_ms
    text = f"scheduled {rfc3339(label.scheduled_ms)}, shutter {late_ms:+,} ms"
    if late_ms < 0:
        return Finding("times", "fail", f"{text}: early")
    if late_ms > DAY_MS:
        return Finding("times", "fail", f"{text}: more than a day late")
    if label.shutter_ms > now_ms + SKEW_MS:
        return Finding("times", "fail", f"{text}: in the future")
    return Finding("times", "ok", text)


def _exif(contents: Contents, label: Label) -> Finding:
    said = read_exif(contents.exif)
    wanted = {"shutter_ms": str(label.shutter_ms), "command_id": str(label.command_id)}
    if label.device_id.isascii() and label.device_id.isprintable():
        wanted["device_id"] = label.device_id
    for name, value in wanted.items():
        if said.get(name) != value:
            text = f"{name} is {said.get(name, 'missing')} in EXIF, {value} in XMP"
            return Finding("exif", "fail", text)
    return Finding("exif", "ok", "says the same")


def _name(label: Label, name: str) -> Finding:
    path = PurePath(name)
    if not path.stem.isdecimal():
        return Finding("name", "skip", "it is not named as in a blob store")
    if path.stem != str(label.command_id):
        return Finding("name", "fail", f"it is named after command {path.stem}")
    try:
        wanted = (device_segment(label.device_id), day_of(label.scheduled_ms))
    except ShutterwheelError as error:
        return Finding("name", "fail", str(error))
    folders = path.parts[-3:-1]
    if len(folders) == 2 and _is_day(folders[1]) and folders != wanted:
        return Finding("name", "fail", f"it lies in {'/'.join(folders)}, not {'/'.join(wanted)}")
    return Finding("name", "ok", "as in the blob store")


def _signature(contents: Contents, keys: tuple[PublicKey, ...]) -> Finding:
    fields = read_fields(contents.xmp)
    signature, key_id = fields.pop(SIGNATURE, ""), fields.get(SIGNED_BY, "")
    if not keys:
        text = f"signed by key {key_id}: give it to check that" if signature else "it is not signed"
        return Finding("signature", "skip", text)
    if not signature:
        return Finding("signature", "fail", "it is not signed")
    known = [key for key in keys if key.key_id == key_id]
    if not known:
        return Finding("signature", "fail", f"signed by key {key_id}, which is none of those given")
    if not known[0].signed(fields, signature):
        return Finding("signature", "fail", f"not signed by key {key_id}, though it says so")
    return Finding("signature", "ok", f"signed by key {key_id}")


def _is_day(text: str) -> bool:
    return len(text) == 10 and text.replace("-", "").isdecimal() and text[4] == text[7] == "-"
