"""The label: EXIF and XMP beside the pixels, and the camera's bytes back to the bit (SPEC 1.7)."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from image_files import make, saved, scene, tagged
from PIL import Image

from connectors.images import embed, jpeg
from connectors.images.embed import APP9, KEPT, extract
from connectors.images.errors import ImageError
from connectors.images.facts import read_facts
from connectors.images.label import Label, make_exif, make_xmp, read_exif, read_xmp, rfc3339
from connectors.images.pipeline import process
from connectors.images.spec import CaptureSpec
from schemas.errors import UsageError

LABEL = Label(
    device_id="cam-00001",
    command_id=97_000_000_000_000_123,
    schedule_id="every-5-min",
    epoch=7,
    scheduled_ms=1_790_000_000_000,
    shutter_ms=1_790_000_000_045,
    certificate_sha256="ab" * 32,
    quality="blur,occlusion",
    utc_offset_min=120,
)
FULL = replace(
    LABEL, source_sha256="1" * 64, source_bytes=9, body_sha256="2" * 64, treatment="encoded",
    notes=("turned", "flattened"),
)  # fmt: skip


def with_xmp(data: bytes) -> bytes:
    packet = b"<x:xmpmeta xmlns:x='adobe:ns:meta/'><camera/></x:xmpmeta>"
    return data[:20] + jpeg.make_segment(jpeg.APP1, jpeg.XMP + packet) + data[20:]


def exif_first(data: bytes) -> bytes:
    """As the EXIF specification wants it: no JFIF segment."""
    longer = tagged(data, 1)
    return longer[:2] + longer[20:]


SOURCES = {
    "plain": make(),
    "gray": make(sampling="gray"),
    "exif": tagged(make(), 6),
    "xmp": with_xmp(make()),
    "exif and xmp": with_xmp(tagged(make(), 3)),
    "no JFIF": make()[:2] + make()[20:],
    "EXIF first": exif_first(make()),
    "png": saved(scene(64, 48), "PNG"),
    "webp": saved(scene(64, 48), "WEBP"),
    "webp, odd length": saved(scene(33, 17), "WEBP", quality=41),
    "webp without loss": saved(scene(64, 48), "WEBP", lossless=True),
    "webp with EXIF": saved(scene(64, 48), "WEBP", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\0"),
    "webp with EXIF and XMP": saved(
        scene(64, 48), "WEBP", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\0", xmp=b"<x:xmpmeta/>"
    ),
    "png with EXIF": saved(scene(64, 48), "PNG", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\0"),
}


@pytest.mark.parametrize("name", SOURCES)
def test_what_is_put_in_is_taken_out_to_the_byte(name):
    data = SOURCES[name]
    labelled = embed.embed(data, b"MM\0*exif", make_xmp(FULL))
    found = extract(labelled)
    assert found.body == data
    assert (found.exif, found.xmp) == (b"MM\0*exif", make_xmp(FULL))
    assert extract(data) == embed.Contents(data), "what has no label is left as it is"


@pytest.mark.parametrize("name", SOURCES)
def test_a_second_label_keeps_the_first(name):
    once = embed.embed(SOURCES[name], b"MM\0*1", make_xmp(FULL))
    second = make_xmp(replace(FULL, epoch=8))
    twice = embed.embed(once, b"MM\0*2", second)
    assert extract(twice) == embed.Contents(once, b"MM\0*2", second)
    assert extract(once).body == SOURCES[name]


@pytest.mark.parametrize("name", SOURCES)
def test_pixels_are_untouched_and_one_exif_and_one_xmp_is_there(name):
    data = SOURCES[name]
    kind = name.split()[0].rstrip(",")
    wish = CaptureSpec(format=kind if kind in {"png", "webp"} else "jpeg")
    done = process(data, wish, LABEL)
    assert done.treatment == "untouched"
    before, after = Image.open(io.BytesIO(data)), Image.open(io.BytesIO(done.data))
    assert before.tobytes() == after.tobytes()
    if wish.format == "jpeg":
        app1 = [
            jpeg.payload(done.data, s)[:5]
            for s in jpeg.segments(done.data)
            if s.marker == jpeg.APP1
        ]
        assert app1 == [b"Exif\0", b"http:"]
    assert after.getexif().get_ifd(0x8769)[0x9291] == "045"


def test_exif_says_what_every_viewer_shows():
    exif = Image.open(io.BytesIO(process(make(), CaptureSpec(), LABEL).data)).getexif()
    inner = exif.get_ifd(0x8769)
    assert exif[0x0131] == "shutterwheel"
    assert exif[0x010E] == "schedule every-5-min, epoch 7"
    assert inner[0x9003] == "2026:09:21 16:13:20", "local time…"
    assert (inner[0x9291], inner[0x9011]) == ("045", "+02:00"), "… sub-seconds and offset"
    assert inner[0xA431] == "cam-00001"
    assert int(inner[0xA420], 16) == LABEL.command_id


def test_entries_of_the_camera_are_kept():
    exif = Image.open(io.BytesIO(process(tagged(make(), 6), CaptureSpec(), LABEL).data)).getexif()
    assert (exif[0x010F], exif[0x0112]) == ("Acme", 6)
    assert float(exif.get_ifd(0x8769)[0x829A]) == 0.01


def test_exif_of_a_camera_that_cannot_be_read_is_kept_aside_and_counts_as_none():
    for block in (b"MM\0*\0\0\xff\xff", b"rubbish", b"II*\0\x08\0\0\0\xff\xff" + b"\x12\x01" * 40):
        data = make()
        data = data[:20] + jpeg.make_segment(jpeg.APP1, jpeg.EXIF + block) + data[20:]
        done = process(data, CaptureSpec(), LABEL)
        assert extract(done.data).body == data
        assert read_exif(extract(done.data).exif)["device_id"] == "cam-00001"


def test_the_label_is_read_back_whole():
    assert read_xmp(make_xmp(FULL)) == FULL
    done = process(make(), CaptureSpec(), LABEL)
    found = read_xmp(extract(done.data).xmp)
    assert found == replace(
        LABEL, source_sha256=done.source_sha256, source_bytes=len(make()),
        body_sha256=done.source_sha256, treatment="untouched",
    )  # fmt: skip


@settings(max_examples=40)
@given(
    st.text(max_size=40).filter(lambda t: not any("\ud800" <= c <= "\udfff" for c in t)),
    st.integers(-840, 840),
    st.integers(0, 4_000_000_000_000),
)
def test_any_text_and_time_goes_there_and_back(text, offset_min, at_ms):
    label = replace(FULL, device_id="d" + text, utc_offset_min=offset_min, shutter_ms=at_ms)
    found = read_xmp(make_xmp(label))
    kept = "".join(c for c in text if (c >= " " or c in "\t\n\r") and c not in "\ufffe\uffff")
    assert found == replace(label, device_id="d" + kept)
    assert read_exif(make_exif(label))["shutter_ms"] == str(at_ms)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('CommandId="97', 'CommandId="x'), ('s:SourceSha256="1', 's:SourceSha256="G'),
        ("ShutterTime", "ShutterDay"), ("+02:00", ""), ("</rdf:RDF>", ""),
        ("<x:xmpmeta", "<!DOCTYPE a [<!ENTITY e 'x'>]><x:xmpmeta"),
    ],
)  # fmt: skip
def test_a_packet_that_says_what_cannot_be_is_damaged(old, new):
    packet = make_xmp(FULL).decode()
    assert old in packet
    with pytest.raises(ImageError) as caught:
        read_xmp(packet.replace(old, new).encode())
    assert caught.value.code == "damaged"


def test_a_photo_is_never_lost_for_its_label():
    data = make()
    long = jpeg.make_segment(jpeg.APP1, jpeg.EXIF + bytes(65_520))
    data = data[:20] + long + data[20:]
    done = process(data, CaptureSpec(), LABEL)
    assert done.data is data
    assert done.notes == ("no_label",)


def test_segments_of_others_with_our_number_stay():
    data = make()
    data = data[:20] + jpeg.make_segment(APP9, b"Media Jukebox\0") + data[20:]
    assert KEPT not in data
    assert extract(embed.embed(data, b"MM\0*", make_xmp(FULL))).body == data


def test_the_pixels_bytes_are_copied_once():
    data = make()
    done = process(data, CaptureSpec(), LABEL)
    assert done.copied_bytes == len(done.data) < len(data) + 4_000


def test_times_and_offsets():
    assert rfc3339(1_790_000_000_045, -210) == "2026-09-21T10:43:20.045-03:30"
    with pytest.raises(UsageError):
        replace(LABEL, utc_offset_min=900)


def test_facts_of_a_labelled_file_are_those_of_the_file():
    data = tagged(make(), 6)
    before, after = read_facts(data), read_facts(process(data, CaptureSpec(), LABEL).data)
    assert (after.width_px, after.orientation, after.subsampling) == (
        before.width_px, before.orientation, before.subsampling,
    )  # fmt: skip
