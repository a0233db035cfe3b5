"""Local state deleted, damaged, old or taken; its changelog compacted; its disk full (issue 4)."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest
from fault_bench import IN_DOUBT
from runtime_harness import LOG

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.timeout(240)
COMPACTED = {
    "segment.ms": "500",
    "min.cleanable.dirty.ratio": "0.0",
    "delete.retention.ms": "0",
    "max.compaction.lag.ms": "500",
}
DISK_MIB = 64


def state_of(bench, slot, data_dir=None) -> Path:
    """Return the folder of a slot's tables."""
    return (data_dir or bench.site.data_dir) / f"{bench.site.namespace}.captures-{slot}" / "state"


def test_local_state_deleted(bench):
    """Killed, and its folder is gone when it comes again: rebuilt from the changelog."""
    bench.start().settle()
    bench.hurt()
    bench.kill("a")
    shutil.rmtree(state_of(bench, "a"))
    bench.settle()
    bench.finish("local-state-deleted")


@pytest.mark.long
def test_local_state_truncated(bench):
    """Every file cut in half, once after an end in order (tables), once after kill -9 (its log)."""
    bench.start().settle()
    bench.hurt()
    bench.remove("a")
    assert truncated(state_of(bench, "a"))
    bench.add("a")
    bench.settle()
    bench.kill("b")
    assert truncated(state_of(bench, "b"))
    bench.settle()
    bench.finish("local-state-truncated")


def truncated(folder: Path) -> int:
    """Cut every file of a folder in half; return how many bytes are gone."""
    gone = 0
    for path in folder.iterdir():
        size = path.stat().st_size
        os.truncate(path, size // 2)
        gone += size - size // 2
    return gone


@pytest.mark.long
def test_local_state_from_an_older_offset(bench, tmp_path):
    """A backup put back: what is missing is read from the changelog."""
    bench.start().settle()
    bench.remove("a")
    shutil.copytree(state_of(bench, "a"), tmp_path / "backup")
    bench.add("a")
    bench.settle()
    bench.hurt()
    bench.kill("a")
    shutil.rmtree(state_of(bench, "a"))
    shutil.copytree(tmp_path / "backup", state_of(bench, "a"))
    bench.settle()
    bench.finish("local-state-older")


@pytest.mark.long
def test_the_changelog_compacted_and_every_local_state_deleted(make_bench, kafka):
    """Compaction leaves gaps of offsets; all workers rebuild from what it has left."""
    bench = make_bench(kafka, {"changelog": COMPACTED}).start()
    bench.settle()

    def compacted() -> bool:
        reader = bench.site.reader
        left = sum(map(len, reader.read(LOG).values()))
        return left < reader.written(LOG) / 2

    bench.until("the broker has compacted", compacted)
    bench.hurt()
    for slot in "abc":
        bench.kill(slot)
        shutil.rmtree(state_of(bench, slot))
    bench.settle()
    bench.finish("changelog-compacted")


@pytest.mark.long
def test_a_data_folder_owned_by_another_process(bench):
    """A second worker of a slot ends with a clear line; the first does not notice."""
    bench.start().settle()
    bench.hurt()
    second = bench.site.worker("a")
    assert second.exit_code() == 1
    (failed,) = second.all("failed")
    assert failed["error"] == "StoreError"
    assert "in use by another process" in failed["line"]
    bench.settle()
    assert bench.ends == []
    bench.finish("data-folder-taken")


@pytest.fixture
def small_disk(tmp_path, report) -> Iterator[Path]:
    """A file system of its own, small enough to be filled."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        reason = "a small file system can be mounted by root only"
        report.skipped["disk-full"] = reason
        pytest.skip(reason)
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.long
def test_a_full_disk(small_disk, bench):
    """The commit is made, the local write fails: it stops with a clear line until there is room."""
    bench.place("a", small_disk)
    bench.start().settle()
    bench.hurt()
    filler = small_disk / "filler"
    fill(filler)
    bench.until("it stops", lambda: bench.ends)
    bench.until("it cannot start", lambda: len(bench.ends) > 1)
    assert set(bench.ends) == {("a", IN_DOUBT, "StoreError")}
    filler.unlink()
    bench.settle()
    bench.finish("disk-full")


def fill(path: Path) -> None:
    """Write until there is no room left."""
    with path.open("wb", buffering=0) as file:
        for size in (1 << 20, 1 << 12, 1):
            try:
                while file.write(b"\0" * size) == size:
                    pass
            except OSError:
                continue
