"""ExifTool, which everybody believes, reads our labels and finds nothing wrong with them (SPEC 1.7)."""

from __future__ import annotations

import json
import shutil
import subprocess

import pytest
from image_files import make, saved, scene, tagged

from connectors.images.label import Label
from connectors.images.pipeline import process
from connectors.images.spec import CaptureSpec

pytestmark = pytest.mark.skipif(
    shutil.which("exiftool") is None,
    reason="ExifTool (Debian package libimage-exiftool-perl) is not installed",
)
LABEL = Label(
    "cam-00001", 97_000_000_000_000_123, "every-5-min", 7, 1_790_000_000_000, 1_790_000_000_045,
    certificate_sha256="ab" * 32, quality="good", utc_offset_min=120,
)  # fmt: skip


@pytest.mark.parametrize(
    ("data", "wish"),
    [
        (make(), CaptureSpec()),
        (make(), CaptureSpec(320)),
        (tagged(make(), 6), CaptureSpec()),
        (tagged(make(), 6), CaptureSpec(upright=True)),
        (make(sampling="gray"), CaptureSpec()),
        (saved(scene(64, 48), "PNG"), CaptureSpec(format="png")),
    ],
    ids=["plain", "scaled", "tagged", "turned", "gray", "png"],
)
def test_exiftool_reads_the_label_and_finds_nothing_wrong(data, wish, tmp_path):
    file = tmp_path / "photo"
    file.write_bytes(process(data, wish, LABEL).data)
    done = subprocess.run(
        ["exiftool", "-json", "-validate", "-a", "-G1", "-warning", "-all", str(file)],
        capture_output=True,
        check=True,
        timeout=60,
    )
    (found,) = json.loads(done.stdout)
    warning = found.get("ExifTool:Warning")  # one alone is a text, several are a list
    # The camera's own EXIF, kept aside: it does not know what that is, and says that it is minor.
    assert warning in {None, "[minor] Unknown APP9 'shutterwheel kept' segment"}
    assert (found["ExifTool:Validate"] == "OK") == (warning is None)
    assert found["ExifIFD:DateTimeOriginal"] == "2026:09:21 16:13:20"
    assert str(found["ExifIFD:SubSecTimeOriginal"]) in {"045", "45"}
    assert found["ExifIFD:OffsetTimeOriginal"] == "+02:00"
    assert found["ExifIFD:SerialNumber"] == "cam-00001"
    assert found["XMP-s:CommandId"] == str(LABEL.command_id)
    assert found["XMP-s:ShutterTime"] == "2026:09:21 16:13:20.045+02:00"
    assert found["XMP-s:CertificateSha256"] == "ab" * 32
