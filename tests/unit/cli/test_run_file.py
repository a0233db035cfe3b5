"""How commands find the cluster: option, environment, or what is running (issue 3, point 7)."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from schemas.errors import StoreError, UsageError
from shutterwheel.context import Cluster, RunFile, WorkerEntry, data_dir_of, find_cluster


@pytest.fixture
def run() -> RunFile:
    worker = WorkerEntry("captures", "0", "http://127.0.0.1:1")
    return RunFile("127.0.0.1:9999", "sandbox", 8, (worker,), "file:///photos")


@pytest.fixture
def dead_pid() -> int:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    return child.pid


def test_what_is_saved_is_loaded(run, tmp_path):
    run.save(tmp_path / "new" / "folder")
    assert RunFile.load(tmp_path / "new" / "folder") == run
    assert run.pid == os.getpid()
    assert os.listdir(tmp_path / "new" / "folder") == ["run.json"]  # noqa: PTH208 - hidden ones, too


def test_what_is_not_there_is_none(tmp_path):
    assert RunFile.load(tmp_path) is None
    RunFile.remove(tmp_path)


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"kafka": 1}', "\xff"])
def test_a_damaged_file_is_one_clear_line(text, tmp_path):
    RunFile.path(tmp_path).write_text(text, encoding="latin-1")
    with pytest.raises(UsageError, match=r"run\.json cannot be read: .* pass --kafka"):
        find_cluster(data=tmp_path, environment={})


def test_a_folder_that_cannot_be_written(run, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be written"):
        run.save(tmp_path / "file")


def test_nothing_says_where(tmp_path):
    with pytest.raises(UsageError, match=r"start one with `shutterwheel up`, or pass --kafka"):
        find_cluster(data=tmp_path, environment={})


def test_what_runs_is_found(run, tmp_path):
    run.save(tmp_path)
    assert find_cluster(data=tmp_path, environment={}) == Cluster(
        "127.0.0.1:9999", "sandbox", "", run
    )


def test_what_ran_and_is_gone_is_said(tmp_path, dead_pid):
    RunFile("127.0.0.1:9999", "", 8, (), "", dead_pid).save(tmp_path)
    with pytest.raises(UsageError, match=f"names process {dead_pid}, which is gone"):
        find_cluster(data=tmp_path, environment={})


def test_the_order_is_option_environment_file(run, tmp_path):
    run.save(tmp_path)
    environment = {"SHUTTERWHEEL_KAFKA": "env:1", "SHUTTERWHEEL_NAMESPACE": "n"}
    assert find_cluster("opt:1", "m", tmp_path, environment=environment) == Cluster("opt:1", "m")
    assert find_cluster(data=tmp_path, environment=environment) == Cluster("env:1", "n")


def test_a_run_of_the_named_cluster_is_known(run, tmp_path):
    """Its workers can be asked though Kafka was named by hand."""
    run.save(tmp_path)
    assert find_cluster(run.kafka, "sandbox", tmp_path, environment={}).run == run
    assert find_cluster(run.kafka, None, tmp_path, environment={}).run is None


def test_the_data_folder(tmp_path):
    assert str(data_dir_of(environment={})) == ".shutterwheel"
    assert data_dir_of(environment={"SHUTTERWHEEL_DATA": str(tmp_path)}) == tmp_path
    assert data_dir_of("x", {"SHUTTERWHEEL_DATA": str(tmp_path)}).name == "x"
