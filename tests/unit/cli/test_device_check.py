"""``shutterwheel device check``: what is known of a device, for people (issue 6: visible)."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import simplejpeg
from typer.testing import CliRunner

from shutterwheel.cli import app

WORDS = ("device", "check", "new")


def run(*words):
    return CliRunner().invoke(app, [*WORDS, *words])


@pytest.fixture(scope="module")
def port():
    """A simulated ONVIF camera that wants WS-Security and is two hours off."""
    words = ("-m", "connectors.cameras.simulated_onvif", "--login", "wsse", "--skew-s", "7200")
    with subprocess.Popen([sys.executable, *words], stdout=subprocess.PIPE) as process:
        yield json.loads(process.stdout.readline())["port"]
        process.terminate()
        assert process.wait(20) == 0


@pytest.fixture
def login(monkeypatch):
    monkeypatch.setenv("CAMERA_GATE", "admin:secret")
    return ("--credentials", "env:CAMERA_GATE")


def test_what_is_known_of_an_onvif_camera(port, login):
    result = run(f"http://127.0.0.1:{port}/onvif/cam-00001/device_service", *login, "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert (found["protocol"], found["way"], found["login"]) == ("onvif", "snapshot", "WS-Security")
    assert abs(found["clock_ahead_ms"] - 7_200_000) < 60_000
    assert "width_px" not in found


def test_a_photo_is_written_where_it_is_wanted(port, login, tmp_path):
    file = tmp_path / "a.jpg"
    address = f"http://127.0.0.1:{port}/onvif/cam-00001/device_service"
    result = run(address, *login, "--photo", str(file))
    assert result.exit_code == 0, result.output
    assert simplejpeg.decode_jpeg(file.read_bytes()).shape == (240, 320, 3)
    assert "WS-Security" in result.stdout
    assert "secret" not in result.output


def test_a_refusal_is_one_line(port, monkeypatch):
    monkeypatch.setenv("CAMERA_GATE", "admin:secret-but-wrong")
    address = f"http://127.0.0.1:{port}/onvif/cam-00001/device_service"
    result = run(address, "--credentials", "env:CAMERA_GATE")
    assert result.exit_code == 1
    assert "refused access" in result.stderr
    assert "secret" not in result.output
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "words",
    [
        ("ftp://h/x",),
        ("http://h/x", "--protocol", "smoke-signals"),
        ("http://h/x", "--allow", "somewhere"),
        ("http://h/x", "--seconds", "0"),
    ],
    ids=" ".join,
)
def test_what_is_used_wrongly_ends_with_2(words):
    result = run(*words)
    assert result.exit_code == 2
    assert result.stdout == ""


def test_an_address_that_is_not_allowed():
    result = run("http://8.8.8.8/")
    assert result.exit_code == 1
    assert "may not be contacted" in result.stderr
