"""What a photo says of its own origin: an EXIF block that every viewer shows, and an XMP packet.

EXIF: the shutter's time with sub-seconds and offset from UTC, the device (body serial number), the
schedule (image description), the command (unique image id); the camera's own entries are kept.
XMP, in a namespace of our own, has all of it, exactly:

    CommandId, DeviceId, ScheduleId, Epoch     which command it was
    ScheduledTime, ShutterTime                 RFC 3339, to the millisecond
    SourceSha256, SourceBytes                  of the bytes as the camera sent them
    BodySha256                                 of this file without what was put in
    Treatment, Notes                           untouched, lossless or encoded; errors.py's notes
    CertificateSha256                          fingerprint of the device's certificate, if known
    Quality                                    the verdict, if there is one
    SignedBy, Signature                        of all of these, if the site has a key (signing.py)

Without a signature whoever can write the file can write another one. That nobody has is what the
SHA-256 of the whole file in capture.results says.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Final
from xml.etree.ElementTree import Element, ParseError
from xml.sax.saxutils import quoteattr

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import fromstring
from PIL import Image

from connectors.images.errors import ImageError
from schemas.errors import UsageError

if TYPE_CHECKING:
    from connectors.images.signing import Signer

NAMESPACE: Final = "urn:shutterwheel:photo:1:"
RDF: Final = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
PACKET_ID: Final = "W5M0MpCehiHzreSzNTczkc9d"
"""Fixed by the XMP specification, part 1, 7.3.2."""
MAX_TEXT_CHARACTERS: Final = 512
MAX_OFFSET_MIN: Final = 14 * 60
SHA256_CHARACTERS: Final = 64
NOT_XML: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

IMAGE_DESCRIPTION, ORIENTATION, SOFTWARE, DATE_TIME = 0x010E, 0x0112, 0x0131, 0x0132
EXIF_IFD: Final = 0x8769
ORIGINAL, DIGITIZED = 0x9003, 0x9004
OFFSET, OFFSET_ORIGINAL, OFFSET_DIGITIZED = 0x9010, 0x9011, 0x9012
SUBSEC, SUBSEC_ORIGINAL, SUBSEC_DIGITIZED = 0x9290, 0x9291, 0x9292
UNIQUE_ID, BODY_SERIAL = 0xA420, 0xA431
PIXEL_WIDTH, PIXEL_HEIGHT = 0xA002, 0xA003
REQUIRED: Final = {0x011A: 72.0, 0x011B: 72.0, 0x0128: 2, 0x0213: 1}
"""What EXIF wants of every JPEG: 72 pixels an inch, meaning nothing; colour sited centrally."""
REQUIRED_INNER: Final = {0x9000: b"0232", 0x9101: b"\1\2\3\0", 0xA000: b"0100", 0xA001: 1}
"""Versions, Y Cb Cr in this order, sRGB."""
COMPONENTS: Final = b"\x91\x01\0\1\0\0\0\4\1\2\3\0"
COMPONENTS_UNDEFINED: Final = b"\x91\x01\0\7\0\0\0\4\1\2\3\0"
"""The entry as Pillow writes it (type 1, bytes) and as EXIF wants it (type 7, undefined)."""
SOFTWARE_NAME: Final = "shutterwheel"
"""EXIF's Software."""
SIGNED_BY, SIGNATURE = "SignedBy", "Signature"
"""Fields of the packet that a key adds."""


@dataclass(frozen=True, slots=True)
class Label:
    """The facts of one photo; times are UTC milliseconds."""

    device_id: str
    command_id: int
    schedule_id: str
    epoch: int
    scheduled_ms: int
    shutter_ms: int
    source_sha256: str = ""
    """64 lower-case hexadecimal digits; filled in by the pipeline, as are the next four."""
    source_bytes: int = 0
    body_sha256: str = ""
    treatment: str = ""
    notes: tuple[str, ...] = ()
    certificate_sha256: str = ""
    """Of the device's certificate in DER; empty: it has none, or it is not known."""
    quality: str = ""
    """``good``, or the faults with commas between; empty: not judged."""
    utc_offset_min: int = 0
    """Of the times as EXIF and the overlay show them; -840 to 840."""

    def __post_init__(self) -> None:
        if abs(self.utc_offset_min) > MAX_OFFSET_MIN:
            raise UsageError(f"utc_offset_min must be from -{MAX_OFFSET_MIN} to {MAX_OFFSET_MIN}.")


def make_exif(
    label: Label, camera: bytes = b"", size: tuple[int, int] = (0, 0), *, upright: bool = False
) -> bytes:
    """Return a TIFF block: the entries of the camera's own, and ours over them.

    ``size``: width and height as stored, if known. ``upright``: the pixels were turned, so the
    orientation is 1. A block that cannot be read counts as none: its bytes are kept elsewhere
    (``embed.py``).
    """
    exif = _read_exif(camera)
    for tag, value in REQUIRED.items():
        exif.setdefault(tag, value)
    if upright and ORIENTATION in exif:
        exif[ORIENTATION] = 1
    local, offset = _local(label.shutter_ms, label.utc_offset_min)
    text, milliseconds = f"{local:%Y:%m:%d %H:%M:%S}", f"{label.shutter_ms % 1000:03d}"
    exif[DATE_TIME] = text
    exif[SOFTWARE] = SOFTWARE_NAME
    exif[IMAGE_DESCRIPTION] = _ascii(f"schedule {label.schedule_id}, epoch {label.epoch}")
    inner = exif.get_ifd(EXIF_IFD)
    for tag, content in REQUIRED_INNER.items():
        inner.setdefault(tag, content)
    if all(size):
        inner |= {PIXEL_WIDTH: size[0], PIXEL_HEIGHT: size[1]}
    inner |= {ORIGINAL: text, DIGITIZED: text}
    inner |= dict.fromkeys((OFFSET, OFFSET_ORIGINAL, OFFSET_DIGITIZED), offset)
    inner |= dict.fromkeys((SUBSEC, SUBSEC_ORIGINAL, SUBSEC_DIGITIZED), milliseconds)
    inner |= {UNIQUE_ID: f"{label.command_id:032x}", BODY_SERIAL: _ascii(label.device_id)}
    try:
        block = exif.tobytes().removeprefix(b"Exif\0\0")
        return block.replace(COMPONENTS, COMPONENTS_UNDEFINED, 1)
    except (ValueError, TypeError, struct.error, KeyError, AttributeError):
        if not camera:
            raise
        return make_exif(label, b"", size)  # an entry of the camera's that cannot be written again


def _read_exif(block: bytes) -> Image.Exif:
    exif = Image.Exif()
    if not block:
        return exif
    try:
        exif.load(b"Exif\0\0" + block)
        exif.get_ifd(EXIF_IFD)
    except Exception:  # noqa: BLE001  # whatever Pillow says of bytes from outside
        return Image.Exif()
    return exif


def read_exif(block: bytes) -> dict[str, str]:
    """Return what our EXIF says: ``shutter_ms``, ``device_id``, ``command_id``; what is there."""
    exif = _read_exif(block)
    inner = exif.get_ifd(EXIF_IFD)
    found: dict[str, str] = {}
    if BODY_SERIAL in inner:
        found["device_id"] = str(inner[BODY_SERIAL])
    try:
        found["command_id"] = str(int(str(inner.get(UNIQUE_ID)), 16))
        local = datetime.strptime(
            f"{inner.get(ORIGINAL)} {inner.get(OFFSET_ORIGINAL)}", "%Y:%m:%d %H:%M:%S %z"
        )
        milliseconds = int(str(inner.get(SUBSEC_ORIGINAL)))
        found["shutter_ms"] = str(int(local.timestamp()) * 1_000 + milliseconds)
    except ValueError:
        pass
    return found


def make_xmp(label: Label, signer: Signer | None = None) -> bytes:
    """Return an XMP packet, UTF-8; signed, where there is a key."""
    fields = {
        "CommandId": str(label.command_id),
        "DeviceId": label.device_id,
        "ScheduleId": label.schedule_id,
        "Epoch": str(label.epoch),
        "ScheduledTime": rfc3339(label.scheduled_ms, label.utc_offset_min),
        "ShutterTime": rfc3339(label.shutter_ms, label.utc_offset_min),
        "SourceSha256": label.source_sha256,
        "SourceBytes": str(label.source_bytes),
        "BodySha256": label.body_sha256,
        "Treatment": label.treatment,
        "Notes": ",".join(label.notes),
        "CertificateSha256": label.certificate_sha256,
        "Quality": label.quality,
    }
    fields = {name: _xml(value) for name, value in fields.items() if value}
    if signer is not None:
        fields[SIGNED_BY] = signer.key_id
        fields[SIGNATURE] = signer.sign(fields)
    lines = "".join(f"\n   s:{name}={quoteattr(value)}" for name, value in fields.items())
    created = rfc3339(label.shutter_ms, label.utc_offset_min)
    return (
        f'<?xpacket begin="\ufeff" id="{PACKET_ID}"?>\n'
        '<x:xmpmeta xmlns:x="adobe:ns:meta/">\n'
        f' <rdf:RDF xmlns:rdf="{RDF}">\n'
        '  <rdf:Description rdf:about=""\n'
        '   xmlns:xmp="http://ns.adobe.com/xap/1.0/"\n'
        f'   xmlns:s="{NAMESPACE}"\n'
        f'   xmp:CreateDate="{created}"\n'
        f'   xmp:CreatorTool="{SOFTWARE_NAME}"{lines}/>\n'
        " </rdf:RDF>\n"
        "</x:xmpmeta>\n"
        '<?xpacket end="r"?>'
    ).encode()


def read_xmp(packet: bytes) -> Label:
    """Return the label of a packet of ours; raises ImageError ``damaged``."""
    texts = read_fields(packet)
    try:
        scheduled_ms, offset_min = _instant(texts["ScheduledTime"])
        label = Label(
            device_id=texts["DeviceId"],
            command_id=int(texts["CommandId"]),
            schedule_id=texts.get("ScheduleId", ""),
            epoch=int(texts.get("Epoch", "0")),
            scheduled_ms=scheduled_ms,
            shutter_ms=_instant(texts["ShutterTime"])[0],
            utc_offset_min=offset_min,
        )
        return replace(
            label,
            source_sha256=_digest(texts["SourceSha256"]),
            source_bytes=int(texts["SourceBytes"]),
            body_sha256=_digest(texts["BodySha256"]),
            treatment=texts["Treatment"],
            notes=tuple(filter(None, texts.get("Notes", "").split(","))),
            certificate_sha256=_digest(texts.get("CertificateSha256", "")),
            quality=texts.get("Quality", ""),
        )
    except KeyError as error:
        raise ImageError("damaged", f"Its XMP packet does not give {error}.") from error
    except (ValueError, OverflowError, UsageError) as error:
        raise ImageError("damaged", f"Its XMP packet says what cannot be: {error}.") from error


def read_fields(packet: bytes) -> dict[str, str]:
    """Return the fields of our own in a packet, by name; raises ImageError ``damaged``."""
    try:
        root: Element = fromstring(packet.decode().strip("\ufeff"))
    except (ParseError, DefusedXmlException, UnicodeDecodeError) as error:
        raise ImageError("damaged", f"Its XMP packet cannot be read: {error}.") from error
    found = root.find(f".//{{{RDF}}}Description")
    return {
        name.removeprefix(f"{{{NAMESPACE}}}"): value
        for name, value in (found.attrib if found is not None else {}).items()
        if name.startswith(f"{{{NAMESPACE}}}")
    }


def rfc3339(at_ms: int, utc_offset_min: int = 0) -> str:
    """Return a time to the millisecond, ``2026-11-28T06:30:00.125+00:00``."""
    local, offset = _local(at_ms, utc_offset_min)
    return f"{local:%Y-%m-%dT%H:%M:%S}.{at_ms % 1000:03d}{offset}"


def _local(at_ms: int, utc_offset_min: int) -> tuple[datetime, str]:
    """Return the wall time to the second and its offset as text."""
    zone = timezone(timedelta(minutes=utc_offset_min))
    local = datetime.fromtimestamp(at_ms // 1_000, UTC).astimezone(zone)
    hours, minutes = divmod(abs(utc_offset_min), 60)
    return local, f"{'-' if utc_offset_min < 0 else '+'}{hours:02d}:{minutes:02d}"


def _instant(text: str) -> tuple[int, int]:
    """Return a time in UTC milliseconds and its offset in minutes; raises ValueError."""
    at = datetime.fromisoformat(text)
    offset = at.utcoffset()
    if offset is None:
        raise ValueError(f"{text} has no offset from UTC")
    milliseconds = (at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
    return milliseconds, int(offset.total_seconds() // 60)


def _digest(text: str) -> str:
    if text and (len(text) != SHA256_CHARACTERS or text.strip("0123456789abcdef")):
        raise ValueError("a SHA-256 has 64 lower-case hexadecimal digits")
    return text


def _ascii(text: str) -> str:
    return "".join(c if " " <= c <= "~" else "?" for c in text)[:MAX_TEXT_CHARACTERS]


def _xml(text: str) -> str:
    """Leave out what XML cannot say."""
    return NOT_XML.sub("", text)
