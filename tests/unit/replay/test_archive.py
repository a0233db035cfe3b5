"""Archives: what goes in comes out, runs go on where the last ended; issue 7, SPEC 1.9."""

from __future__ import annotations

import io

import fastavro
import pytest
from archive_bench import (
    NAMESPACE,
    PARTITIONS,
    TOPICS,
    archive,
    everything,
    filled,
    look,
    same,
    three_runs,
)
from hypothesis import given
from hypothesis import strategies as st

from connectors.blobs.objects import ObjectFiles
from schemas.codec import Codec
from schemas.errors import BrokerError, StoreError, UsageError
from schemas.ids import FingerprintIds
from schemas.records import DeviceOnline
from streams.replay.archive import container, filing, writer
from streams.replay.archive.contents import load
from streams.replay.archive.log import ArchivedIds, ArchiveLog
from streams.replay.archive.manifest import decode, manifest_key
from streams.replay.archive.port import MemoryObjects
from streams.replay.log import Entry, MemoryLog

RESULTS = TOPICS[0]


@pytest.mark.parametrize("codec", container.CODECS)
def test_what_went_in_comes_out_byte_for_byte(codec):
    objects, log = MemoryObjects(), filled()
    report = archive(objects, log, codec=codec)
    assert report.records == 40 * len(TOPICS) * PARTITIONS
    assert same(objects, log)
    assert look(objects, head=report.head).ok


def test_a_run_goes_on_where_the_last_ended():
    objects, log, heads = three_runs()
    assert same(objects, log)
    files = load(objects).files[RESULTS, 1]
    assert [(file.first, file.end) for file in files] == [(0, 40), (40, 80), (80, 120)]
    for head in heads:  # any run's head is in the chain
        assert look(objects, head=head).ok


def test_a_run_with_nothing_new_leaves_the_archive_as_it_is():
    objects, log, heads = three_runs()
    before = dict(objects.files)
    assert archive(objects, log).head == heads[-1]
    assert objects.files == before


def test_it_reads_as_a_log_in_a_folder_too(tmp_path):
    objects, log = ObjectFiles.open(tmp_path / "archive", make=True), filled()
    archive(objects, log)
    archive(objects, filled(5, log, 40))
    assert same(objects, log)
    assert look(objects).ok


def test_any_avro_library_reads_a_file():
    """Object container files (Avro 1.12): read here by nothing of ours."""
    objects, log = MemoryObjects(), filled()
    archive(objects, log, codec="deflate")
    file = load(objects).files[RESULTS, 0][0]
    rows = list(fastavro.reader(io.BytesIO(objects.files[file.key])))
    first = everything(log, RESULTS, 0)[0]
    assert len(rows) == 40
    assert rows[0] == first._asdict()


def test_large_partitions_become_files_and_blocks(monkeypatch):
    """Bounds of memory: a block and a file end at their size, a manifest at its files."""
    monkeypatch.setattr(filing, "BLOCK_RECORDS", 7)
    monkeypatch.setattr(filing, "FILE_BYTES", 1_000)
    monkeypatch.setattr(writer, "FILES_A_MANIFEST", 3)
    objects, log = MemoryObjects(), filled(100)
    archive(objects, log)
    contents = load(objects)
    assert contents.run > 3
    assert max(b.records for f in contents.files[RESULTS, 0] for b in f.blocks) == 7
    assert len(contents.files[RESULTS, 0]) > 2
    assert same(objects, log)
    assert look(objects).ok
    archived = ArchiveLog(objects)
    for first, end in ((0, 1), (13, 15), (6, 8), (50, 100), (99, 100), (20, 20)):
        got = [e.offset for batch in archived.read(RESULTS, 0, first, end) for e in batch]
        assert got == list(range(first, end))
    for at_ms in (0, 1_000, 1_355, 1_990, 5_000):
        assert archived.offset_at(RESULTS, 1, at_ms) == log.offset_at(RESULTS, 1, at_ms)


def test_files_are_the_same_whoever_puts_them(monkeypatch):
    """Several processes: a part of a partition each, in turns; the chains are as ever."""
    monkeypatch.setattr(filing, "BLOCK_RECORDS", 7)
    monkeypatch.setattr(filing, "FILE_BYTES", 1_000)
    monkeypatch.setattr(writer, "FILES_A_MANIFEST", 5)
    alone, together, log = MemoryObjects(), MemoryObjects(), filled(100)
    archive(alone, log)

    def filer(tasks):
        waiting = list(tasks)
        while waiting:
            found, rest = filing.put_some(together, log, waiting.pop(0), 2)
            assert len(found) <= 2
            if rest is not None:
                waiting.append(rest)
            yield from found

    ends = {topic: log.ends(topic) for topic in TOPICS}
    wanted = writer.Wanted(NAMESPACE, ends)
    run = writer.ArchiveRun(together, log, FingerprintIds(), wanted, filer=filer)
    report = run.run()
    assert report.records == 100 * len(TOPICS) * PARTITIONS
    files = {key: data for key, data in together.files.items() if key.startswith("files/")}
    assert files == {k: data for k, data in alone.files.items() if k.startswith("files/")}
    assert same(together, log)
    assert look(together, head=report.head).ok


def test_reading_a_range_fetches_a_part_of_the_file(monkeypatch):
    """Bounded memory: an index, not the whole file."""
    monkeypatch.setattr(filing, "BLOCK_RECORDS", 10)
    objects, log = MemoryObjects(), filled(1_000)
    archive(objects, log)
    asked: list[int] = []
    real = objects.get_range

    def get_range(key: str, start: int, end: int) -> bytes | None:
        asked.append(end - start)
        return real(key, start, end)

    monkeypatch.setattr(objects, "get_range", get_range)
    monkeypatch.setattr(objects, "get", lambda _key: pytest.fail("a whole file was read"))
    archived = ArchiveLog(objects, load_once(objects, real))
    assert len(everything_between(archived, 500, 505)) == 5
    size = archived.contents.files[RESULTS, 0][0].size_bytes
    assert sum(asked) < size / 10


def load_once(objects, real):
    whole = MemoryObjects()
    whole.files = objects.files
    return load(whole)


def everything_between(log, first, end):
    return [e for batch in log.read(RESULTS, 0, first, end) for e in batch]


def test_from_counts_where_nothing_is_archived_yet():
    objects, log = MemoryObjects(), filled()
    archive(objects, log, from_ms=1_300)
    assert ArchiveLog(objects).firsts(RESULTS) == {0: 30, 1: 30}
    filled(10, log, 40)
    archive(objects, log, from_ms=0)
    assert ArchiveLog(objects).firsts(RESULTS) == {0: 30, 1: 30}
    assert ArchiveLog(objects).ends(RESULTS) == {0: 50, 1: 50}
    assert look(objects).ok


def test_schemas_stand_in_the_manifest_that_first_needs_them():
    """An archive is read where no registry is."""
    codec, log, objects = Codec(FingerprintIds()), MemoryLog(PARTITIONS), MemoryObjects()
    for topic in TOPICS:
        for partition in range(PARTITIONS):
            log.append(topic, partition, b"d", codec.encode(DeviceOnline("d", 1)), 1)
    archive(objects, log)
    filled(3, log)
    archive(objects, log)
    schema_id = FingerprintIds().id_of("shutterwheel.DeviceOnline")
    first, second = (decode(objects.files[manifest_key(run)])[0] for run in (1, 2))
    assert set(first.schemas) == {schema_id}
    assert second.schemas == {}
    ids = ArchivedIds(load(objects), Nothing())
    assert Codec(ids).decode(codec.encode(DeviceOnline("d", 1))) == DeviceOnline("d", 1)


class Nothing(FingerprintIds):
    """Knows today's ids for writing, and none for reading."""

    def schema_of(self, schema_id):
        return None


def test_another_system_is_refused():
    objects, log = MemoryObjects(), filled()
    archive(objects, log)
    with pytest.raises(UsageError, match="not the topic that was archived"):
        archive(objects, filled(10))
    ends = {RESULTS: log.ends(RESULTS)}
    with pytest.raises(UsageError, match="an archive of its own"):
        writer.ArchiveRun(objects, log, FingerprintIds(), writer.Wanted("other", ends))


def test_two_runs_at_a_time_cannot_both_put_a_manifest():
    """Conditional puts: the second says so and the archive is the first one's."""
    objects, log = MemoryObjects(), filled()
    ends = {topic: log.ends(topic) for topic in TOPICS}
    first, second = (
        writer.ArchiveRun(objects, log, FingerprintIds(), writer.Wanted(NAMESPACE, ends))
        for _ in range(2)
    )
    first.run()
    with pytest.raises(StoreError, match="Another run"):
        second.run()
    assert same(objects, log)


def test_what_the_cluster_dropped_before_is_said():
    objects, log = MemoryObjects(), filled()
    archive(objects, log)
    filled(20, log, 40)
    del log.entries(RESULTS, 0)[:50]
    assert len(archive(objects, log).gaps) == 1
    assert "offsets 40 to 49" in load(objects).gaps[0]
    assert look(objects).ok


def test_beyond_the_end_is_an_error_not_an_end():
    objects, log = MemoryObjects(), filled()
    archive(objects, log)
    with pytest.raises(BrokerError, match="not to 41"):
        list(ArchiveLog(objects).read(RESULTS, 0, 0, 41))
    with pytest.raises(StoreError, match="no archive"):
        ArchiveLog(MemoryObjects())


def test_a_changed_block_is_never_handed_on():
    objects, log = MemoryObjects(), filled()
    archive(objects, log)
    key = load(objects).files[RESULTS, 0][0].key
    data = objects.files[key]
    entries = everything(log, RESULTS, 0)
    entries[7] = entries[7]._replace(value=b"forged")
    made = container.ContainerWriter("zstandard", {})
    made.add(entries)
    forged = made.finish()
    objects.files[key] = (
        data[: load(objects).files[RESULTS, 0][0].blocks[0].position]
        + forged[made.blocks[0].position :]
    )
    with pytest.raises(StoreError, match=r"offset 0|cannot be read"):
        everything(ArchiveLog(objects), RESULTS, 0)


entry_bytes = st.none() | st.binary(max_size=40)


@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(-5, 2**45), entry_bytes, entry_bytes)),
    st.sampled_from(container.CODECS),
)
def test_any_bytes_are_kept_as_they_are(rows, codec):
    """Null and empty, keys and values, gaps between offsets, times in no order."""
    offset, entries = 0, []
    for gap, at_ms, key, value in rows:
        offset += gap + 1
        entries.append(Entry(offset, at_ms, key, value))
    made = container.ContainerWriter(codec, {"a": "b"})
    if entries:
        made.add(entries)
    assert container.read_entries(made.finish()) == entries
    assert [block.digest for block in made.blocks] == [container.digest_of(entries)] * bool(entries)
