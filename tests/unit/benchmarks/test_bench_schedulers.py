"""The schedulers' bench: one load for all, one arithmetic, and a peer that cannot be run says so."""

from __future__ import annotations

import os
import re
import sys
from array import array
from collections import Counter
from itertools import pairwise
from pathlib import Path

import psutil
import pytest

from benchmarks import fleet, seed
from benchmarks.lateness import BESIDE, FLEET, OURS, fleets
from benchmarks.load import PARTITIONS, Load, Rig
from benchmarks.options import Options
from benchmarks.schedulers import apscheduler3, bench, gocron, peers, postgres, quartz, work
from benchmarks.schedulers.bench import Run
from benchmarks.schedulers.peers import PEERS, Peer
from connectors.clients.kafka import make_codec
from infra.kafka.jars import load_lock
from schemas.errors import BrokerError
from schemas.records import Accepted, ScheduleState, ScheduleUpserted
from shutterwheel.check import Images, RunReport, Spread
from shutterwheel.expected import Plan
from streams.core import ids

HERE = Path(work.__file__).parent
REPORT = RunReport(
    ok=True, due=10, succeeded=9, failed=0, expired=1, lost=2, duplicated=0, early=0,
    lateness_ms=Spread(0, 1, 2, 3), images=Images(9, 900, 9, 0), first_photo_s=1.0, skipped=0,
    skipped_reasons={}, revoked=0, revoked_due=0, superseded=0, taken_after_cancel=0,
    taken_before=0, open=0, unexpected=0, illegal=0, unanswered=0, failed_causes={},
    captures_per_s=3_999.5, camera_lateness_ms=None, shutters=0, findings=(), command="",
    date="", machine={}, versions={},
)  # fmt: skip


# -- the load --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("jobs", "period_ms", "each"), [(100_000, 25_000, 4), (2_000, 2_000, 1)])
def test_phases_are_even_and_neighbours_far_apart(jobs, period_ms, each):
    job = work.Job(jobs, period_ms, 1_000, 0, 0, "")
    firsts = [job.first_ms(number) for number in range(jobs)]
    due = Counter(firsts)
    assert set(due) == set(range(1_000, 1_000 + period_ms))
    assert set(due.values()) == {each}
    gaps = [abs(after - before) for before, after in pairwise(firsts)]
    assert min(gaps) > period_ms // 50, "no store is handed a sorted list"


def test_the_programs_stride_alike():
    java = (HERE / "QuartzProgram.java").read_text(encoding="utf-8")
    go = (gocron.SOURCE / "main.go").read_text(encoding="utf-8")
    assert f"STRIDE = {work.STRIDE:_};" in java
    assert f"stride = {work.STRIDE} " in go


def test_loads_of_a_fleet_and_beside_peers():
    (beside,), (whole,) = fleets(Options(), BESIDE), fleets(Options(), FLEET)
    assert (beside.devices, beside.per_s, beside.every_ms) == (100_000, 4_000.0, 25_000)
    assert (whole.devices, whole.per_s, whole.every_ms) == (1_200_000, 4_000.0, 300_000)
    (asked,) = fleets(Options(devices=(600,), every_s=300.0, seconds=7.0), FLEET)
    assert (asked.devices, asked.per_s, asked.seconds, asked.every_ms) == (600, 2.0, 7.0, 300_000)
    several = fleets(Options(devices=(600, 700), rates=(10.0, 20.0)), BESIDE)
    assert [(load.devices, load.per_s) for load in several] == [
        (600, 10.0), (600, 20.0), (700, 10.0), (700, 20.0),
    ]  # fmt: skip


# -- what is locked --------------------------------------------------------------------------------


def test_every_file_of_the_peers_is_locked_by_its_hash():
    lock = load_lock(HERE / "jars.lock.json")
    assert {"quartz", "postgresql", "HikariCP", "ecj"} <= {jar.artifact_id for jar in lock}
    assert all(re.fullmatch(r"[0-9a-f]{64}", jar.sha256) for jar in lock)
    text = apscheduler3.REQUIREMENTS.read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.strip()]
    assert all("==" in line and "--hash=sha256:" in line for line in lines)
    sums = (gocron.SOURCE / "go.sum").read_text(encoding="utf-8")
    assert f"github.com/go-co-op/gocron/v2 v{gocron.version()} h1:" in sums


def test_versions_are_those_that_are_locked():
    found = peers.versions()
    assert {"quartz", "gocron", "apscheduler"} <= set(found)
    assert all(re.match(r"\d+(\.\d+)*", version) for version in found.values())


def test_the_peers_are_those_of_the_issue():
    assert [peer.name for peer in PEERS] == [
        "quartz-ram", "gocron", "apscheduler", "quartz-postgres", "quartz-postgres-clustered",
        "quartz-postgres-no-fsync",
    ]  # fmt: skip
    assert OURS == ("shutterwheel", "shutterwheel-x2")


def test_quartz_is_told_to_batch_and_never_to_fire_ahead(tmp_path):
    settings = quartz.on_postgres(5_432, "me", clustered=True)
    assert settings["jobStore.isClustered"] == "true"
    threads = settings["threadPool.threadCount"]
    assert settings["scheduler.batchTriggerAcquisitionMaxCount"] == threads
    assert settings["scheduler.batchTriggerAcquisitionFireAheadTimeWindow"] == "0"
    most = int(postgres.SETTINGS["max_connections"])
    assert 10 <= int(settings["dataSource.bench.maxConnections"]) < most
    job = work.Job(7, 70, 1, 2, 3, "answer")
    told = Path(quartz.argument(job, settings, tmp_path)).read_text().splitlines()
    assert {"jobs=7", "period_ms=70", "to_ms=3", "answer=answer"} <= set(told)
    assert "org.quartz.jobStore.dataSource=bench" in told


# -- figures ---------------------------------------------------------------------------------------


def test_figures_of_a_run():
    late_us = (-2_000, -1, *range(100, 10_000, 100))
    run = Run(late_us, 2.0, 0.5, 1.0, None, 3 * 1024 * 1024)
    found = {row.metric: row.value for row in bench.rows("c", "peer", run)}
    assert found == {
        "fires_per_s": 50.5,
        "lateness_ms_p50": 4.9,
        "lateness_ms_p90": 8.9,
        "lateness_ms_p99": 9.8,
        "lateness_ms_max": 9.9,
        "early": 2,
        "early_ms_worst": 2.0,
        "cpu": 0.5,
        "rss_mb": 3.0,
        "setup_s": 0.5,
    }


def test_a_run_in_which_nothing_fired_has_no_lateness():
    found = {row.metric for row in bench.rows("c", "p", Run((), 1.0, 0.5, 1.0, 0.25, 0))}
    assert "cpu_database" in found
    assert not any(metric.startswith("lateness") for metric in found)


def test_figures_of_a_fleet_leave_out_what_was_not_awaited():
    of = fleet.Fleet(
        REPORT, drained=False, window_s=2.0, setup_s=9.0, restarts=0, stages_s={"arm": 0.5},
        cpu_s={"captures": 1.0, "broker": 0.5, "elsewhere": 8.0}, rss_bytes={"captures": 1 << 20},
        ahead_ms={"armed": array("q", [-5, *range(500, 701)])}, wakes_ms=Spread(0.1, 0.5, 3.0, 20.0),
    )  # fmt: skip
    rows = fleet.rows("c", 2, of)
    found = {row.metric: row.value for row in rows}
    assert {row.system for row in rows} == {"shutterwheel-x2"}
    assert found["cpu"] == 0.75, "what others took is not ours"
    assert found["stage_arm"] == 0.25
    assert (found["ahead_ms_p50_armed"], found["ahead_ms_p1_armed"]) == (599, 501)
    assert (found["rss_mb"], found["lateness_ms_p99"]) == (1.0, 2)
    assert (found["sleeper_late_ms_p90"], found["sleeper_late_ms_max"]) == (0.5, 20.0)
    assert "lost" not in found


# -- running ---------------------------------------------------------------------------------------

PROGRAM = """
import time
from benchmarks.schedulers.work import given_job, say, write_answer
job = given_job()
say("ready")
time.sleep(max(0, job.from_ms / 1000 - time.time()))
say("first")
time.sleep(max(0, job.to_ms / 1000 - time.time()))
say("last")
write_answer(job.answer, 0.25, [3_000, 1_000, -500])
say("written")
time.sleep(60)
"""


@pytest.fixture
def _quick(monkeypatch, tmp_path):
    monkeypatch.setattr(bench, "START_S", 2.0)
    monkeypatch.setattr(bench, "WARM_UP_S", 0.05)


@pytest.fixture
def rig(tmp_path):
    """A rig without a broker."""
    made = Rig(lambda _text: None, "127.0.0.1:1")
    made.folder = tmp_path
    return made


@pytest.mark.usefixtures("_quick")
def test_a_peer_is_run_and_its_answer_read(rig):
    peer = Peer("fake", lambda _folder: [sys.executable, "-c", PROGRAM], 1.0, "none")
    found = {r.metric: r.value for r in bench.measure(rig, peer, Load(10, 100.0, 0.2), "c")}
    assert found["early"] == 1
    assert found["early_ms_worst"] == 0.5
    assert found["lateness_ms_p50"] == 1.0
    assert found["fires_per_s"] == pytest.approx(15.0, rel=0.5)
    assert found["setup_s"] == 0.25


def _fails(_folder: Path) -> list[str]:
    raise BrokerError("No compiler here.")


@pytest.mark.usefixtures("_quick")
@pytest.mark.parametrize(
    ("prepare", "missing", "why"),
    [
        (_fails, lambda: "no Go on PATH", "no Go on PATH"),
        (_fails, lambda: "", "No compiler here."),
        (lambda _folder: [sys.executable, "-c", "raise SystemExit('broken')"], str, "broken"),
    ],
)
def test_a_peer_that_cannot_be_run_has_a_row_that_says_why(rig, prepare, missing, why):
    peer = Peer("fake", prepare, 1.0, "none", missing=missing)
    (row,) = bench.measure(rig, peer, Load(10, 100.0, 0.1), "c")
    assert row.metric.startswith("not run: ")
    assert why in row.metric
    assert (row.system, row.value) == ("fake", 1.0)


def test_without_postgres_or_go_it_is_said(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(postgres, "DEBIAN", Path("/nowhere"))
    assert "no PostgreSQL" in postgres.missing()
    assert "no Go" in gocron.missing()
    assert (postgres.version(), gocron.go_version()) == ("", "")


@pytest.mark.skipif(bool(postgres.missing()), reason=postgres.missing())
def test_a_postgres_is_started_unprivileged_and_nothing_of_it_is_left():
    with postgres.Postgres() as server:
        process = psutil.Process(server.pid)
        assert process.uids().effective != 0 or os.geteuid() != 0
        folder = Path(process.cwd()).parent
        assert folder.exists()
        (port,) = {c.laddr.port for c in process.net_connections() if c.status == "LISTEN"}
        assert port == server.port
    assert not process.is_running()
    assert not folder.exists()


# -- a fleet that was written ----------------------------------------------------------------------


def test_a_written_fleet_is_what_the_checker_expects(monkeypatch, rig):
    put: dict[str, list[tuple[bytes, bytes, int]]] = {}

    class Recorder:
        def __init__(self, *_args):
            pass

        def put(self, topic, key, value, partition):
            put.setdefault(topic, []).append((key, value, partition))

        def flush(self):
            pass

    monkeypatch.setattr(seed, "Writer", Recorder)
    monkeypatch.setattr(seed, "_commit", lambda *_args: None)
    starts_at_ms = 2_000_000_000_000
    seed.write_schedules(rig, "ns", 50, 10_000, starts_at_ms)
    decode, plan = make_codec().decode, Plan(dict.fromkeys(range(PARTITIONS), starts_at_ms + 9999))
    for topic, cls in (("schedule.events", ScheduleUpserted), ("schedule.decisions", Accepted)):
        for key, value, partition in put[topic]:
            found = decode(value)
            assert isinstance(found, cls)
            assert found.device_id.encode() == key
            assert partition == ids.partition_of(found.device_id, PARTITIONS)
            (plan.event if cls is ScheduleUpserted else plan.decision)(partition, found)
    assert list(plan.unanswered()) == []
    assert plan.strange == []
    due = [time_ms for _, time_ms in plan.due(0)]
    assert len(due) == 50, "each has one time in a period, none before its start"
    rows = [decode(value) for _, value, _ in put["wheel.schedules.changelog"]]
    spans = {span.series: span for span in plan.spans}
    for row in rows:
        assert isinstance(row, ScheduleState)
        span = spans[row.device_id, row.schedule_id]
        assert (row.epoch, row.starts_at_ms) == (span.epoch, starts_at_ms)
    assert len(put["wheel.shards.changelog"]) == PARTITIONS
