"""``shutterwheel doctor`` and the options about time servers (SPEC 1.5)."""

from __future__ import annotations

import json
import re

import pytest
from fake_ntp import FakeNtpServer
from typer.testing import CliRunner

from shutterwheel.cli import app
from shutterwheel.context import RunFile
from shutterwheel.time_check import check_time


@pytest.fixture(autouse=True)
def nothing_from_outside(monkeypatch):
    monkeypatch.delenv("SHUTTERWHEEL_NTP", raising=False)


def found(tmp_path, *servers):
    return list(check_time(tmp_path, servers))


def test_without_servers_it_says_whose_clock_counts(tmp_path):
    (check,) = found(tmp_path)
    assert check.status == "ok"
    assert "the machine's own clock counts" in check.found


def test_servers_that_agree(tmp_path):
    with FakeNtpServer(offset_s=-0.5) as a, FakeNtpServer(offset_s=-0.5) as b:
        (check,) = found(tmp_path, a.address, b.address)
    assert check.status == "ok"
    said = r"2 of 2 NTP servers agree: this machine's clock is \+(49|50)\d\.\d{3} ms of theirs"
    assert re.match(said, check.found)


def test_a_machine_that_is_hours_off_is_a_warning(tmp_path):
    with FakeNtpServer(offset_s=7_200.0) as a:
        (check,) = found(tmp_path, a.address)
    assert check.status == "warn"
    assert "-7,200,0" in check.found or "-7,199,9" in check.found


def test_a_liar_and_a_dead_one_are_named(tmp_path):
    with FakeNtpServer() as a, FakeNtpServer() as b, FakeNtpServer(offset_s=9.0) as liar:
        liar_said, dead_said, check = found(
            tmp_path, a.address, liar.address, b.address, "127.0.0.1:9"
        )
    assert (liar_said.status, dead_said.status, check.status) == ("warn", "warn", "ok")
    assert liar_said.found == f"{liar.address}: is outvoted by the others"
    assert dead_said.found.startswith("127.0.0.1:9: ")


def test_no_agreement_and_no_answer_are_warnings(tmp_path):
    with FakeNtpServer() as a, FakeNtpServer(offset_s=9.0) as b:
        (check,) = found(tmp_path, a.address, b.address)
    assert (check.status, "they do not agree" in check.found) == ("warn", True)
    *_, check = found(tmp_path, "127.0.0.1:9")
    assert (check.status, "none answers" in check.found) == ("warn", True)


def test_the_servers_of_what_runs_are_asked(tmp_path):
    with FakeNtpServer() as a:
        RunFile("k:1", "", 8, (), "file:///b", ntp=(a.address,)).save(tmp_path)
        (check,) = found(tmp_path)
    assert "1 of 1 NTP servers agree" in check.found


@pytest.mark.parametrize("named", ["--ntp", "environment"])
def test_doctor_takes_them_by_option_and_by_environment(tmp_path, monkeypatch, named):
    with FakeNtpServer() as a, FakeNtpServer() as b:
        words = ["doctor", "--json", "--data", str(tmp_path)]
        if named == "--ntp":
            words += ["--ntp", a.address, "--ntp", b.address]
        else:
            monkeypatch.setenv("SHUTTERWHEEL_NTP", f"{a.address} {b.address}")
        result = CliRunner().invoke(app, words)
    checks = {one["name"]: one for one in json.loads(result.stdout)["checks"]}
    assert "2 of 2 NTP servers agree" in checks["time"]["found"]


@pytest.mark.parametrize("command", [["up"], ["worker", "wheel"]])
def test_a_server_that_is_none_is_refused_before_anything_starts(tmp_path, command):
    result = CliRunner().invoke(app, [*command, "--data", str(tmp_path), "--ntp", "ntp-1:x"])
    assert (result.exit_code, "'ntp-1:x'" in result.stderr) == (2, True)
    assert list(tmp_path.iterdir()) == []
