"""No adapter shows a secret: not in a log at its loudest, an error, its causes, or a repr (issue 6).

The secret is planted in the environment of the worker; the simulated camera wants it, or another
one. What an integration test finds in topics and files (test_chain_secrets.py) comes from here.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import logging
import secrets
import traceback
import urllib.parse

import pytest

from connectors.cameras import Cameras
from connectors.cameras.faults import Fault
from connectors.cameras.simulated import SimulatedCameras
from connectors.cameras.simulated_http import REALM
from connectors.cameras.simulated_onvif import SimulatedOnvif, Traits
from connectors.cameras.simulated_rtsp import Camera, SimulatedRtsp
from schemas.errors import CameraError
from schemas.records import CaptureCommand, DeviceProfile

DEVICE = "cam-00001"
USER = "admin"


@contextlib.asynccontextmanager
async def camera(protocol, kind, password):
    """Run a camera that lets in who has the password; yield its address."""
    if protocol.startswith("http"):
        fault = Fault(kind, user=USER, password=password)
        async with SimulatedCameras(1, faults={DEVICE: fault}) as fleet:
            yield fleet.url(DEVICE, protocol=protocol)
    elif protocol in {"onvif", "auto"}:
        login = "wsse" if kind == "basic" else "digest"
        async with SimulatedOnvif(traits=Traits(login=login, user=USER, password=password)) as one:
            yield one.service(DEVICE)
    elif protocol == "rtsp":
        async with SimulatedRtsp(Camera(auth=(kind,), user=USER, password=password)) as one:
            yield one.url
    else:
        pytest.fail(f"no camera with a login is known here for {protocol}: write one")


def traces(secret):
    """How a secret would look in what was written."""
    login = f"{USER}:{secret}"
    hashes = [f"{USER}:{realm}:{secret}" for realm in (REALM, "simulated camera", "camera")]
    return [
        secret,
        urllib.parse.quote(secret, safe=""),
        base64.b64encode(login.encode()).decode(),
        base64.b64encode(secret.encode()).decode().rstrip("="),
        *(hashlib.md5(text.encode()).hexdigest() for text in hashes),
    ]


@pytest.mark.parametrize("known", [True, False], ids=["right", "wrong"])
@pytest.mark.parametrize("kind", ["basic", "digest"])
@pytest.mark.parametrize("protocol", sorted(Cameras().protocols - {"null-camera"}))
async def test_a_secret_is_in_no_log_no_error_and_no_repr(
    protocol, kind, known, monkeypatch, caplog
):
    secret = f"s3cr3t/{secrets.token_hex(12)}+="
    monkeypatch.setenv("CAMERA_GATE", f"{USER}:{secret}")
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.DEBUG, logger="asyncio")
    shown, ends = [], set()
    async with camera(protocol, kind, secret if known else "another") as address:
        profile = DeviceProfile(DEVICE, address, protocol, credentials_ref="env:CAMERA_GATE")
        command = CaptureCommand(7, DEVICE, "s", "", 1, 0, 0, 0, 3_000, 0, 0)
        async with Cameras() as cameras:
            deadline_s = asyncio.get_running_loop().time() + 30
            for work in (
                lambda: cameras.prepare(profile, deadline_s=deadline_s),
                lambda: cameras.connect(profile, deadline_s=deadline_s),
                lambda: cameras.capture(profile, command, deadline_s=deadline_s),
            ):
                try:
                    shown.append(repr(await work()))
                    ends.add("well")
                except CameraError as error:
                    shown += [repr(error), *traceback.format_exception(error)]
                    ends.add(error.cause)
            shown += [repr(cameras), repr(profile), repr(vars(cameras))]
    assert ends == ({"well"} if known else ends)
    assert known or "auth" in ends, ends
    everything = "\n".join([*shown, caplog.text, *(str(r.__dict__) for r in caplog.records)])
    assert [trace for trace in traces(secret) if trace in everything] == []
