"""``shutterwheel discover``: wrong use, exit codes, what is shown (issue 6, 'Discovery'; SPEC 3.1)."""

from __future__ import annotations

import json

import pytest
from simulated_devices import SimulatedDevices
from typer.testing import CliRunner

from connectors.discovery.dhip import Dhip
from connectors.discovery.ssdp import Ssdp
from infra.kafka.ports import free_port
from shutterwheel.cli import app

CAMERA, RECORDER, MEDIA = "127.78.1.1", "127.78.1.2", "127.78.1.3"
DEVICES = [
    {
        "host": CAMERA,
        "speaks": ["dhip"],
        "model": "IPC\x1b[31m-HFW",
        "serial": "4E00071",
        "mac": "a8bbcc000001",
        "maker": "Dahua",
    },
    {
        "host": RECORDER,
        "speaks": ["dhip"],
        "model": "NVR5216",
        "serial": "NV-90071",
        "mac": "a8bbcc000002",
        "channels": 2,
    },
    {
        "host": MEDIA,
        "speaks": ["ssdp"],
        "upnp_type": "urn:schemas-upnp-org:device:MediaServer:1",
        "name": "Films",
    },
]


@pytest.fixture(autouse=True)
def _nothing_runs_here(monkeypatch, tmp_path):
    for name in ("KAFKA", "NAMESPACE", "DATA", "SCHEMA_REGISTRY"):
        monkeypatch.delenv(f"SHUTTERWHEEL_{name}", raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """Simulated devices on loopback, on ports of their own; ``discover`` asks there."""
    ports = {"dhip": free_port(), "ssdp": free_port()}
    with SimulatedDevices(tmp_path_factory.mktemp("network"), "127.0.0.1", DEVICES, ports=ports):
        yield ports


@pytest.fixture
def there(network, monkeypatch):
    sources = (Dhip(network["dhip"]), Ssdp(network["ssdp"]))
    monkeypatch.setattr("connectors.discovery.search.all_sources", lambda: sources)


def discover(*words):
    return CliRunner().invoke(app, ["discover", *words])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--interface", "eth77"], "no interface that is up has this name"),
        (["--timeout", "0.5s"], "expected 1s to 120s"),
        (["--timeout", "5"], "--timeout"),
        (["--host", "camera.plant"], "is no IPv4 address"),
        (["--host", "8.8.8.8"], "outside the networks that count"),
        (["--host", "169.254.169.254", "--allow", "0.0.0.0/0"], "outside the networks that count"),
        (["--allow", "10.0.0.0/99"], "--allow"),
        (["--label", "line"], "expected KEY=VALUE"),
        (["--label", "discovered.mac=1"], "discovery's own"),
        (["--credentials-ref", "hunter2"], "credentials are named, not given"),
        (["--add"], "No cluster is known here"),
    ],
)
def test_wrong_use_is_told_before_anything_is_searched(words, said):
    result = discover(*words)
    assert (result.exit_code, result.stdout) == (2, "")
    assert said in result.stderr
    assert result.stderr.count("\n") == 1, "one line"


@pytest.mark.usefixtures("there")
def test_a_table_and_what_else_answered():
    result = discover("--interface", "lo", "--timeout", "1s", "--ignored", "--site", "plant")
    assert result.exit_code == 0
    rows = [line.split() for line in result.stdout.splitlines()[2:]]
    assert sorted(row[0] for row in rows) == [
        "mac-a8bbcc000001",
        "mac-a8bbcc000002-ch1",
        "mac-a8bbcc000002-ch2",
    ]
    assert f"http://{RECORDER}/cgi-bin/snapshot.cgi?channel=2" in result.stdout
    assert "searching lo (127.0.0.1) for 1 s" in result.stderr
    assert f"ignored: {MEDIA} Films (ssdp): a media server (UPnP MediaServer)" in result.stderr
    assert "\x1b" not in result.stdout + result.stderr


@pytest.mark.usefixtures("there")
def test_json_holds_profiles_and_counts():
    result = discover(
        "--interface",
        "lo",
        "--timeout",
        "1s",
        "--json",
        "--site",
        "plant",
        "--label",
        "line=3",
        "--credentials-ref",
        "env:CAMERA_P",
    )
    assert (result.exit_code, result.stderr) == (0, "")
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    by_host = {
        line["host"]: line
        for line in lines
        if line["record"] == "Discovered" and line["kind"] == "camera"
    }
    assert by_host[CAMERA]["state"] == "found"
    profile = by_host[CAMERA]["profile"]
    assert (profile["record"], profile["site"], profile["credentials_ref"]) == (
        "DeviceProfile",
        "plant",
        "env:CAMERA_P",
    )
    assert profile["labels"] == {
        "discovered.mac": "a8bbcc000001",
        "discovered.serial": "4E00071",
        "line": "3",
    }
    assert [line["host"] for line in lines if line["record"] == "Ignored"] == [RECORDER, MEDIA]
    assert set(lines[-1]["sources"]) == {"dhip", "ssdp"}


def test_nothing_found_is_exit_code_1_with_what_to_try(monkeypatch):
    monkeypatch.setattr("connectors.discovery.search.all_sources", lambda: (Dhip(free_port()),))
    result = discover("--interface", "lo", "--timeout", "1s")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "No camera answered" in result.stderr
    assert "--host" in result.stderr


def test_where_nothing_can_be_asked_it_is_an_error(monkeypatch):
    class Broken:
        name = "broken"

        async def search(self, scope, tally):
            raise OSError(101, "Network is unreachable")
            yield

    monkeypatch.setattr("connectors.discovery.search.all_sources", lambda: (Broken(),))
    result = discover("--interface", "lo", "--timeout", "1s")
    assert result.exit_code == 1
    assert "broken could not be asked: Network is unreachable" in result.stderr
    assert "None of the ways of searching worked" in result.stderr
