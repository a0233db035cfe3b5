"""A record changed, removed or added in an archive is found; issue 7, "Tampering".

Each case is done to an archive of three runs in which nothing was wrong before, and again by
somebody who makes the hashes of what was changed fit, as far as can be done without the next hash.
"""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import msgspec
import pytest
from archive_bench import NAMESPACE, TOPICS, archive, filled, kinds, look, same, three_runs

from connectors.blobs.objects import ObjectFiles
from schemas.errors import StoreError
from streams.replay.archive.container import ContainerWriter, metadata_of, read_entries
from streams.replay.archive.contents import load, run_numbers
from streams.replay.archive.log import ArchiveLog
from streams.replay.archive.manifest import (
    chain_value,
    decode,
    encode,
    manifest_key,
    sign,
)
from streams.replay.archive.port import MemoryObjects
from streams.replay.log import Entry

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

RESULTS = TOPICS[0]


def file_of(objects, number=1, partition=0, topic=RESULTS):
    """Return the entry of the file that a run wrote for a partition."""
    return load(objects).files[topic, partition][number]


def rewritten(objects, file, change: Callable[[list[Entry]], list[Entry]]) -> bytes:
    """Return a sound Avro file with other records, header as it was."""
    data = objects.files[file.key]
    header = {k: v for k, v in metadata_of(data).items() if not k.startswith("avro.")}
    made = ContainerWriter("zstandard", header)
    made.add(change(read_entries(data)))
    return made.finish()


def flip(objects):
    file = file_of(objects)
    data = bytearray(objects.files[file.key])
    data[len(data) // 2] ^= 1
    objects.files[file.key] = bytes(data)


def flip_header(objects):
    file = file_of(objects)
    data = bytearray(objects.files[file.key])
    data[data.index(file.previous.encode())] ^= 1
    objects.files[file.key] = bytes(data)


def change(objects):
    file = file_of(objects)
    objects.files[file.key] = rewritten(
        objects, file, lambda e: [*e[:9], e[9]._replace(value=b"forged"), *e[10:]]
    )


def change_time(objects):
    file = file_of(objects)
    objects.files[file.key] = rewritten(
        objects, file, lambda e: [*e[:9], e[9]._replace(timestamp_ms=1), *e[10:]]
    )


def remove(objects):
    file = file_of(objects)
    objects.files[file.key] = rewritten(objects, file, lambda e: [*e[:9], *e[10:]])


def add(objects):
    file = file_of(objects)
    objects.files[file.key] = rewritten(objects, file, lambda e: [*e[:9], e[9], *e[9:]])


def append(objects):
    file = file_of(objects)
    objects.files[file.key] = rewritten(objects, file, lambda e: [*e, Entry(500, 1, b"k", b"v")])


def reorder(objects):
    file = file_of(objects)
    objects.files[file.key] = rewritten(objects, file, lambda e: [*e[:9], e[10], e[9], *e[11:]])


def drop(objects):
    del objects.files[file_of(objects).key]


def drop_last(objects):
    del objects.files[file_of(objects, 2).key]


def swap_runs(objects):
    one, other = file_of(objects, 0), file_of(objects, 1)
    files = objects.files
    files[one.key], files[other.key] = files[other.key], files[one.key]


def swap_partitions(objects):
    one, other = file_of(objects), file_of(objects, partition=1)
    files = objects.files
    files[one.key], files[other.key] = files[other.key], files[one.key]


def truncate(objects):
    file = file_of(objects)
    objects.files[file.key] = objects.files[file.key][: file.size_bytes * 2 // 3]


def empty(objects):
    objects.files[file_of(objects).key] = b""


def lengthen(objects):
    file = file_of(objects)
    objects.files[file.key] += objects.files[file.key][file.blocks[0].position :]


def edit_manifest(objects):
    key = manifest_key(2)
    objects.files[key] = objects.files[key].replace(b'"records":40', b'"records":39', 1)


def drop_manifest(objects):
    del objects.files[manifest_key(2)]


def swap_manifests(objects):
    files, one, other = objects.files, manifest_key(1), manifest_key(2)
    files[one], files[other] = files[other], files[one]


def rewrite_file_and_manifest(objects):
    """A forger who makes the manifest fit the file, and the second line fit the first."""
    file = file_of(objects)
    data = rewritten(objects, file, lambda e: e[:-1])
    objects.files[file.key] = data
    sha256 = hashlib.sha256(data).hexdigest()
    span = (file.first, file.end, 39)
    forged = msgspec.structs.replace(
        file,
        sha256=sha256,
        size_bytes=len(data),
        records=39,
        chain=chain_value(file.previous, sha256, file.place, span),
    )
    replace_in_manifest(objects, 2, file, forged)


def replace_in_manifest(objects, run, file, forged):
    manifest, _ = decode(objects.files[manifest_key(run)])
    files = tuple(forged if one == file else one for one in manifest.files)
    data, _ = encode(msgspec.structs.replace(manifest, files=files))
    objects.files[manifest_key(run)] = data


def drop_from_manifest(objects):
    """A file and its entry are gone; the line's hash fits."""
    file = file_of(objects)
    manifest, _ = decode(objects.files[manifest_key(2)])
    files = tuple(one for one in manifest.files if one != file)
    del objects.files[file.key]
    objects.files[manifest_key(2)] = encode(msgspec.structs.replace(manifest, files=files))[0]


CASES = [
    (flip, {"records removed", "file truncated"}),
    (flip_header, {"file changed"}),
    (change, {"records changed"}),
    (change_time, {"records changed"}),
    (remove, {"records removed"}),
    (add, {"records added"}),
    (append, {"records added"}),
    (reorder, {"records reordered"}),
    (drop, {"file missing"}),
    (drop_last, {"file missing"}),
    (swap_runs, {"file swapped"}),
    (swap_partitions, {"file swapped"}),
    (truncate, {"file truncated"}),
    (empty, {"file truncated"}),
    (lengthen, {"records added"}),
    (edit_manifest, {"manifest changed"}),
    (drop_manifest, {"manifest missing"}),
    (swap_manifests, {"chain broken"}),
    (rewrite_file_and_manifest, {"chain broken"}),
    (drop_from_manifest, {"chain broken"}),
]


@pytest.mark.parametrize(
    ("tamper", "expected"), CASES, ids=lambda one: getattr(one, "__name__", "")
)
def test_what_was_tampered_with_is_found(tamper, expected):
    objects, _, heads = three_runs()
    assert look(objects, head=heads[-1]).ok
    tamper(objects)
    verdict = look(objects)
    assert kinds(verdict) <= expected, verdict.findings
    assert verdict.findings
    assert all(finding.text for finding in verdict.findings)


@pytest.mark.parametrize("tamper", [change, remove, add, reorder, drop, truncate, swap_partitions])
def test_the_range_is_named(tamper):
    """Which file, which offsets: those of the second run's file, and no other's."""
    objects, _, _ = three_runs()
    tamper(objects)
    verdict = look(objects)
    assert {(f.first, f.end) for f in verdict.findings} == {(40, 80)}
    assert all(f"{RESULTS}, partition " in f.text for f in verdict.findings)


def test_one_block_of_many_is_named(monkeypatch):
    monkeypatch.setattr("streams.replay.archive.filing.BLOCK_RECORDS", 10)
    objects, log = MemoryObjects(), filled(100)
    archive(objects, log)
    file = file_of(objects, 0)
    data = objects.files[file.key]
    header = {k: v for k, v in metadata_of(data).items() if not k.startswith("avro.")}
    made = ContainerWriter("zstandard", header)
    entries = read_entries(data)
    del entries[34]
    for low in range(0, 99, 10):
        made.add(entries[low : low + 10])
    objects.files[file.key] = made.finish()
    [finding] = look(objects).findings
    assert (finding.kind, finding.first, finding.end) == ("records removed", 30, 40)
    assert "1 of 10 records are missing" in finding.text


def cut_tail(objects):
    """The newest run and all its files are gone: what is left is a sound, older archive."""
    manifest, _ = decode(objects.files.pop(manifest_key(3)))
    for file in manifest.files:
        del objects.files[file.key]


def test_a_tail_that_was_cut_is_found_by_the_head_kept_elsewhere():
    """And by nothing else: no chain can say what came after its end (ADR 0024)."""
    objects, _, heads = three_runs()
    cut_tail(objects)
    assert look(objects).ok
    assert kinds(look(objects, head=heads[-1])) == {"head unknown"}
    assert look(objects, head=heads[1]).ok


def test_files_of_a_tail_that_was_cut_are_strays():
    objects, _, _ = three_runs()
    del objects.files[manifest_key(3)]
    assert len(look(objects).strays) == 4


def test_a_newest_manifest_made_to_fit_is_found_by_head_or_signature():
    objects, log, _ = three_runs()
    filled(5, log, 120)
    head = archive(objects, log, secret="s3cret").head
    file = file_of(objects, 3)
    forged = msgspec.structs.replace(file, end=file.end + 1)
    forged = msgspec.structs.replace(
        forged,
        chain=chain_value(file.previous, file.sha256, file.place, (file.first, 126, 5)),
    )
    replace_in_manifest(objects, 4, file, forged)
    assert look(objects).ok
    assert kinds(look(objects, head=head)) == {"head unknown"}
    # The first three were made without a key: all four are found.
    found = look(objects, secret="s3cret").findings
    assert [f.key for f in found if f.kind == "signature wrong"] == list(
        map(manifest_key, (1, 2, 3, 4))
    )


def test_a_signature_is_the_key_s():
    objects, log = MemoryObjects(), filled()
    archive(objects, log, secret="s3cret")
    assert look(objects, secret="s3cret").signed == 1
    assert kinds(look(objects, secret="another")) == {"signature wrong"}
    # Whoever has no key cannot sign what was made up.
    manifest, _ = decode(objects.files[manifest_key(1)])
    objects.files[manifest_key(1)] = encode(sign(manifest, "guessed"))[0]
    assert kinds(look(objects, secret="s3cret")) == {"signature wrong"}


@pytest.mark.parametrize(
    "tamper", [edit_manifest, drop_manifest, swap_manifests, drop_from_manifest]
)
def test_a_log_is_not_opened_on_manifests_that_do_not_hang_together(tamper):
    objects, _, _ = three_runs()
    tamper(objects)
    with pytest.raises(StoreError, match="--verify"):
        ArchiveLog(objects)


@pytest.mark.parametrize("kind", ["flipped", "truncated", "gone"])
def test_in_a_folder_too(tmp_path, kind):
    objects, log = ObjectFiles.open(tmp_path / "archive", make=True), filled()
    archive(objects, log)
    path = tmp_path / "archive" / file_of(objects, 0).key
    data = bytearray(path.read_bytes())
    if kind == "gone":
        path.unlink()
    elif kind == "truncated":
        path.write_bytes(data[:-50])
    else:
        data[-40] ^= 8
        path.write_bytes(data)
    assert len(look(objects).findings) == 1


# -- a run that is killed --------------------------------------------------------------------------

KILLED = """
import sys, time
from archive_bench import archive, filled
from connectors.blobs.objects import ObjectFiles
from streams.replay.archive import writer

objects = ObjectFiles.open(sys.argv[1], make=True)
log = filled(20, filled(40), 40)
put, left = objects.put_new, int(sys.argv[2])

def put_new(key, data):
    global left
    if not left:
        print("now", flush=True)
        time.sleep(60)
    left -= 1
    return put(key, data)

objects.put_new = put_new
archive(objects, log)
"""


@pytest.mark.parametrize("puts", [0, 1, 3, 4])
def test_a_run_that_is_killed_leaves_the_archive_before_it(tmp_path: Path, puts: int):
    """kill -9 after so many of four files and a manifest; then the next run goes on."""
    objects, log = ObjectFiles.open(tmp_path, make=True), filled(40)
    head = archive(objects, log).head
    folder = os.path.dirname(__file__)  # noqa: PTH120
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path), str(puts)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([folder, os.getcwd()])},  # noqa: PTH109
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "now\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert run_numbers(objects) == [1]
    verdict = look(objects, head=head)
    assert verdict.ok
    assert len(verdict.strays) == puts
    assert same(objects, log)  # as it was before
    filled(20, log, 40)
    filled(10, log, 60)  # more has come meanwhile
    archive(objects, log)
    assert look(objects, head=head).ok
    assert same(objects, log)
    assert ArchiveLog(objects).namespace == NAMESPACE
