"""`shutterwheel up --demo` as a user has it: its report, Ctrl-C, and its sudden death (issue 3)."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest
from chain_harness import PATIENCE_S

from infra.kafka.admin import drop_topics

REPORT = {
    *("due", "succeeded", "failed", "expired", "lost", "duplicated", "early", "lateness_ms"),
    *("images", "first_photo_s"),
}
GONE_S = 40.0
"""How long children may outlive a parent that was killed: draining, leaving, and the broker."""


def up(data, *arguments):
    """Return the command of a demo that keeps its data in a folder."""
    command = [sys.executable, "-m", "shutterwheel", "up", "--demo", "--data", str(data)]
    return [*command, "--partitions", "4", *arguments]


def test_the_demo_against_a_broker_started_apart_writes_its_report(kafka, namespace, tmp_path):
    """By --kafka; exit code 0, and the fields that the issue names."""
    file = tmp_path / "report.json"
    try:
        done = subprocess.run(
            up(
                tmp_path / "data",
                *("--kafka", kafka, "--namespace", namespace),
                *("--devices", "20", "--every", "1s", "--for", "6s", "--json", str(file)),
            ),
            capture_output=True,
            text=True,
            timeout=2 * PATIENCE_S,
            check=False,
        )
    finally:
        drop_topics(kafka, namespace)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    report = json.loads(file.read_text())
    assert report.keys() >= REPORT
    assert (report["lost"], report["duplicated"], report["early"]) == (0, 0, 0)
    assert report["succeeded"] > 20
    assert report["lateness_ms"].keys() >= {"p50", "p90", "p99", "max"}
    assert report["images"]["count"] == report["images"]["sha256_verified"] >= report["succeeded"]
    assert report["images"]["bytes"] > 0
    assert report["first_photo_s"] > 0


class Demo:
    """A demo in a session of its own, as in a terminal, and the processes it started."""

    def __init__(self, data, log, *arguments):
        self._log = log
        self._photos = data / "blobs"
        with log.open("wb") as out:
            self.process = subprocess.Popen(
                up(data, "--devices", "4", "--every", "1s", *arguments),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        self.children: list[psutil.Process] = []

    def await_photos(self):
        """Wait for a first photo; note its children."""
        deadline_s = time.monotonic() + 2 * PATIENCE_S
        while not any(self._photos.rglob("*.jpg")):
            assert self.process.poll() is None, self.said()
            assert time.monotonic() < deadline_s, self.said()
            time.sleep(0.1)
        self.children = psutil.Process(self.process.pid).children(recursive=True)
        names = " ".join(" ".join(child.cmdline()) for child in self.children)
        for part in ("kafka.Kafka", "worker wheel", "worker captures", "cameras.simulated"):
            assert part in names, part

    def said(self):
        return self._log.read_text(errors="replace")

    def end(self):
        """Leave nothing behind, whatever the test found."""
        for process in (*self.children, self.process):
            try:
                process.kill()
            except (psutil.NoSuchProcess, ProcessLookupError):
                continue
        self.process.wait()


@pytest.fixture
def demo(prepared, tmp_path):
    made = Demo(tmp_path / "data", tmp_path / "said.log")
    yield made
    made.end()


def left(children):
    """Return the command lines of those that still run after a bounded wait."""
    _, alive = psutil.wait_procs(children, timeout=GONE_S)
    return [" ".join(c.cmdline())[-200:] for c in alive if c.status() != psutil.STATUS_ZOMBIE]


@pytest.mark.kafka
def test_ctrl_c_stops_everything_in_order(demo, tmp_path):
    """No traceback, no child left, and the file that tells where it runs is gone."""
    demo.await_photos()
    assert (tmp_path / "data" / "run.json").exists()
    os.killpg(demo.process.pid, signal.SIGINT)
    assert demo.process.wait(PATIENCE_S) == 130
    assert left(demo.children) == []
    assert "Traceback" not in demo.said()
    assert "stopping" in demo.said()
    assert not (tmp_path / "data" / "run.json").exists()


@pytest.mark.kafka
def test_the_answers_of_a_wheel_that_is_slow_are_awaited(prepared, tmp_path):
    """A wheel that stands still while the schedules are cancelled: every cancellation is answered."""
    demo = Demo(tmp_path / "data", tmp_path / "said.log", "--for", "3s")
    try:
        demo.await_photos()
        wheel = next(c for c in demo.children if "worker wheel" in " ".join(c.cmdline()))
        wheel.suspend()
        deadline_s = time.monotonic() + PATIENCE_S
        while "cancelling" not in demo.said():
            assert time.monotonic() < deadline_s, demo.said()
            time.sleep(0.05)
        time.sleep(2.5)  # longer than the last commands take
        assert "checking" not in demo.said()
        wheel.resume()
        assert demo.process.wait(2 * PATIENCE_S) == 0, demo.said()
    finally:
        demo.end()


@pytest.mark.kafka
def test_nothing_outlives_a_front_door_that_is_killed(demo):
    """kill -9 of it: workers, broker and cameras end by themselves."""
    demo.await_photos()
    demo.process.kill()
    demo.process.wait()
    assert left(demo.children) == []
