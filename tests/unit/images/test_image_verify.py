"""``shutterwheel verify``: what is well is said to be, and each thing that is not is found."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from image_files import cut, make, saved, scene, tagged
from typer.testing import CliRunner

from connectors.images import embed
from connectors.images.label import Label, make_xmp, read_xmp
from connectors.images.pipeline import process
from connectors.images.spec import CaptureSpec
from connectors.images.verify import verify
from shutterwheel.cli import app
from streams.core.ids import command_id, shard_of

SCHEDULED_MS = 1_790_000_000_000
NOW_MS = SCHEDULED_MS + 60_000
ID = command_id(SCHEDULED_MS - 5_000, shard_of("cam-1"), 3)
LABEL = Label("cam-1", ID, "s1", 3, SCHEDULED_MS, SCHEDULED_MS + 2)
DAY = "2026-09-21"


def photo(data: bytes | None = None, label: Label = LABEL, **wish: object) -> bytes:
    return process(data or make(), CaptureSpec(**wish), label).data


def failed(data: bytes, name: str = "photo.jpg", source: bytes | None = None) -> set[str]:
    found = verify(data, name, NOW_MS, source)
    assert found.ok == (not any(f.status == "fail" for f in found.findings))
    return {f.check for f in found.findings if f.status == "fail"}


def relabelled(**change: object) -> bytes:
    """A photo whose label was made anew by somebody, with its EXIF left as it was."""
    contents = embed.extract(photo())
    label = replace(read_xmp(contents.xmp), **change)
    return embed.embed(contents.body, contents.exif, make_xmp(label))


@pytest.mark.parametrize(
    "data",
    [
        photo(), photo(tagged(make(), 6)), photo(width_px=100), photo(tagged(make(), 6), upright=True),
        photo(saved(scene(64, 48), "PNG"), format="png"), photo(width_px=100, height_px=100, fit="crop"),
        photo(label=replace(LABEL, utc_offset_min=-330)),
    ],
    ids=["plain", "exif", "encoded", "turned", "png", "crop", "offset"],
)  # fmt: skip
def test_a_photo_as_it_was_made_is_well(data):
    assert failed(data) == set()
    assert failed(data, f"blobs/cam-1/{DAY}/{ID}.jpg") == set()


def test_the_source_of_what_was_encoded_is_checked_where_it_is_given():
    data = photo(width_px=100)
    skipped = [f.check for f in verify(data, "p.jpg", NOW_MS).findings if f.status == "skip"]
    assert "source" in skipped
    assert failed(data, source=make()) == set()
    assert failed(data, source=make(seed=2)) == {"source"}


def test_a_byte_of_the_scan_that_was_changed_is_found():
    data = bytearray(photo())
    data[-600] ^= 0x01
    assert failed(bytes(data)) >= {"body", "source"}


def test_another_picture_under_the_same_label_is_found():
    contents = embed.extract(photo())
    assert failed(embed.embed(make(seed=2), contents.exif, contents.xmp)) == {"body", "source"}


def test_a_comment_that_was_added_is_found():
    data = photo()
    assert failed(data[:2] + b"\xff\xfe\0\x04hi" + data[2:]) >= {"body", "source"}


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (make(), {"label"}),
        (photo()[:-40], {"structure"}),
        (b"<html>", {"structure"}),
        (photo() + b"more", {"structure"}),
        (cut(photo(), 0.8), {"pixels", "body", "source"}),
        (photo().replace(b"s:CommandId", b"s:CommandNo"), {"label"}),
    ],
    ids=["no label", "no end", "no picture", "more behind it", "scan cut", "field missing"],
)
def test_what_is_no_whole_photo_of_ours_is_found(data, found):
    assert failed(data) == found


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"device_id": "cam-2"}, {"command", "exif"}),
        ({"command_id": ID + (1 << 12)}, {"command", "exif"}),
        ({"command_id": 0}, {"command", "exif"}),
        ({"shutter_ms": SCHEDULED_MS - 1}, {"times", "exif"}),
        ({"shutter_ms": NOW_MS + 5_000}, {"times", "exif"}),
        ({"scheduled_ms": SCHEDULED_MS - 90_000_000}, {"times"}),
        ({"shutter_ms": SCHEDULED_MS + 3}, {"exif"}),
        ({"shutter_ms": SCHEDULED_MS - 60_000, "scheduled_ms": SCHEDULED_MS - 60_000}, {"command", "exif"}),
        ({"source_sha256": "0" * 64}, {"source"}),
        ({"source_bytes": 1}, {"source"}),
        ({"body_sha256": "0" * 64}, {"body"}),
    ],
    ids=str,
)  # fmt: skip
def test_a_label_that_cannot_be_true_is_found(change, found):
    assert failed(relabelled(**change)) == found


@pytest.mark.parametrize(
    ("name", "found"),
    [
        (f"{ID}.jpg", set()), (f"{ID + 1}.jpg", {"name"}), (f"cam-2/{DAY}/{ID}.jpg", {"name"}),
        (f"cam-1/2026-09-22/{ID}.jpg", {"name"}), (f"a/b/{ID}.jpg", set()), ("x.jpg", set()),
    ],
)  # fmt: skip
def test_a_name_as_of_the_blob_store_must_be_the_photos(name, found):
    assert failed(photo(), name) == found


# --- the command ----------------------------------------------------------------------------------


def test_the_command_says_well_and_ends_with_0(tmp_path):
    (tmp_path / "a.jpg").write_bytes(photo())
    answer = CliRunner().invoke(app, ["verify", str(tmp_path / "a.jpg")])
    assert answer.exit_code == 0, answer.output
    assert "1 photos, 0 not well" in answer.output


def test_the_command_finds_the_one_of_a_folder_that_is_not_well(tmp_path):
    folder = tmp_path / "cam-1" / DAY
    folder.mkdir(parents=True)
    (folder / f"{ID}.jpg").write_bytes(photo())
    (folder / f"{ID + 1}.jpg").write_bytes(photo())
    answer = CliRunner().invoke(app, ["verify", str(tmp_path), "--json"])
    assert answer.exit_code == 1
    found = json.loads(answer.output)
    assert found["ok"] is False
    assert [one["ok"] for one in found["files"]] == [True, False]
    assert found["files"][0]["label"]["command_id"] == ID
    quiet = CliRunner().invoke(app, ["verify", str(tmp_path), "--quiet"])
    assert "named after command" in quiet.output
    assert "decoded" not in quiet.output


@pytest.mark.parametrize(
    "arguments", [["none.jpg"], ["."], ["a.jpg", "b.jpg", "--source", "c.jpg"]]
)
def test_the_command_used_wrongly_ends_with_2(arguments, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert CliRunner().invoke(app, ["verify", *arguments]).exit_code == 2
