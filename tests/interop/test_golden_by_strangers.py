"""Golden files of every record version, read and written by others' Avro (SPEC 1.9; issue 7)."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from golden_records import BY_HAND, GOLDEN, full
from interop_json import plain
from strangers import ROOT, SCHEMAS, heard, languages

from schemas.catalogue import current_schemas
from schemas.codec import Codec
from schemas.ids import FingerprintIds

GOLDEN_DIR = ROOT / "tests" / "unit" / "schemas" / "golden"
IDS = FingerprintIds()
CODEC = Codec(IDS)


@pytest.mark.parametrize("language", languages("java", "node"))
def test_every_golden_file_is_the_same_to_others(stranger, language, tmp_path):
    """Field by field as ours, from the schema files alone; and ours reads what they write of it.

    Beside the files: the records that were made by hand, again with every field filled. Without
    those of an older release, whose schemas are not among today's files.

    The ids they find by their own Parsing Canonical Form are ours, too. Bytes may differ: Avro lets
    an array be written in blocks that say their size, as hamba/avro does.
    """
    shutil.copytree(GOLDEN_DIR, tmp_path, dirs_exist_ok=True)
    todays = {IDS.id_of(name) for name in current_schemas()}
    for path in tmp_path.glob("*.hex"):
        if int.from_bytes(bytes.fromhex(path.read_text())[1:5], "big") not in todays:
            path.unlink()
    for name, record in BY_HAND.items():
        filled = CODEC.encode(full(type(record), name))
        (tmp_path / f"{name}.filled.hex").write_text(filled.hex())
    said = heard(stranger(language), "golden", str(SCHEMAS), str(tmp_path))
    ids, files = said[0]["ids"], {line["file"]: line for line in said[1:]}
    assert {name: ids.get(name) for name in current_schemas()} == {
        name: IDS.id_of(name) for name in current_schemas()
    }
    assert set(files) == {path.name for path in tmp_path.glob("*.hex")}
    assert len(files) > len(BY_HAND)
    for name, line in files.items():
        ours = CODEC.decode(bytes.fromhex((tmp_path / name).read_text()))
        assert line["value"] == plain(ours), name
        assert CODEC.decode(bytes.fromhex(line["again"])) == ours, name


def test_json_of_a_record_names_only_what_must_be_named():
    """What the others are compared with: a union of records says which, bytes are digits."""
    tick = plain(GOLDEN["ScheduleTick"])
    assert list(tick["changes"][1]["event"]) == ["shutterwheel.SchedulePaused"]
    assert plain(GOLDEN["DeadLetter"])["value"] == "00ff"
    assert plain(GOLDEN["CaptureResult"])["image"]["width_px"] == 1_920


def test_a_client_that_fails_fails_its_test(stranger, tmp_path):
    """A golden file that is cut off ends the program in an error, not in a shorter list."""
    path = Path(tmp_path) / "DeviceOnline.1.hex"
    path.write_text(CODEC.encode(GOLDEN["DeviceOnline"]).hex()[:-8])
    with pytest.raises(AssertionError, match="truncated"):
        heard(stranger("node"), "golden", str(SCHEMAS), str(tmp_path))
