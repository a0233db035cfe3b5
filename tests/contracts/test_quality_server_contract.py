"""A server of models, ours that is made up and MLServer's real one: the same contract (SPEC 1.4, 4.4).

Each is a process of its own, and is really killed, stopped and started again.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import numpy as np
import pytest
from mlserver_peer import MlServer
from quality_photos import Heard, jpeg
from simulated_v2_peer import SimulatedV2Peer

from connectors.images.quality import canary, model
from connectors.images.quality.gate import QualityGate
from connectors.images.quality.reader import QualitySettings
from connectors.images.quality.remote import RemoteModel, RemoteSettings
from connectors.images.quality.remote_watch import RemoteWatch
from connectors.images.quality.v2 import RemoteError, V2Client

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytest.importorskip("onnxruntime")
pytest.importorskip("grpc")

HERE, THERE = "CPUExecutionProvider", "grpc:quality"
PATIENT = {"timeout_ms": 10_000, "look_timeout_ms": 20_000, "room_ms": 0}
"""For a busy machine: what is asserted is what is said, not how soon."""


Server = SimulatedV2Peer | MlServer


@pytest.fixture(
    scope="module", params=["simulated", pytest.param("mlserver", marks=pytest.mark.long)]
)
def server(request, tmp_path_factory) -> Iterator[Server]:
    kind = SimulatedV2Peer if request.param == "simulated" else MlServer
    with kind(tmp_path_factory.mktemp(request.param)) as peer:
        yield peer


def test_it_says_what_its_model_takes_and_gives(server: Server) -> None:
    client = V2Client(server.address)
    assert client.server_ready(timeout_s=20)
    assert client.model_ready("quality", timeout_s=20)
    said = client.metadata("quality", timeout_s=20)
    client.close()
    [frames], [rows] = said.inputs, said.outputs
    assert (said.name, frames.name, frames.datatype) == ("quality", "frames", "UINT8")
    assert frames.shape == (-1, 320, 320, 3)
    assert (rows.name, rows.datatype, rows.shape[-1]) == ("rows", "FP32", 9)


def test_its_rows_are_those_of_the_local_model(server: Server) -> None:
    remote = RemoteModel(RemoteSettings(server.address, **PATIENT))
    shown = remote.verify()
    assert shown.sha256 == model.catalogue()["fp32"].sha256
    assert shown.compared
    frames = np.concatenate([canary.frames(), canary.frames()[::-1]])
    rows = remote.rows(frames, shown, timeout_s=20)
    remote.close()
    local = model.load("fp32", model.PROVIDERS[-1:]).rows(frames)
    assert rows.shape == local.shape
    assert np.abs(rows - local).max() < 0.01


@pytest.mark.parametrize(("name", "version"), [("nobody", ""), ("quality", "77")])
def test_a_model_that_it_has_not_is_told_from_a_server_that_is_away(
    server: Server, name: str, version: str
) -> None:
    remote = RemoteModel(RemoteSettings(server.address, name, version, **PATIENT))
    with pytest.raises(RemoteError) as caught:
        remote.verify()
    remote.close()
    assert caught.value.kind == "no_model"


async def test_photos_go_there_in_batches_and_the_verdict_says_so(server: Server) -> None:
    heard = Heard()
    watch = RemoteWatch(RemoteSettings(server.address, **PATIENT), heard)
    gate = QualityGate(remote=watch)
    gate.start()
    await heard.until("well")
    levels = [0, 120] * 10
    verdicts = await asyncio.gather(*(gate.judge(jpeg(level)) for level in levels))
    await gate.aclose()
    assert [v.faults == ("underexposure",) for v in verdicts] == [not n for n in levels]
    assert {verdict.provider for verdict in verdicts} == {THERE}
    assert {v.model for v in verdicts} == {model.catalogue()["fp32"].sha256[:12]}
    assert heard.failures == []


@pytest.mark.parametrize("how", ["kill -9", "SIGSTOP"])
async def test_photos_are_judged_here_while_it_is_away_and_there_again_afterwards(
    server: Server, how: str
) -> None:
    """Issue 8: 'with local inference as the fallback when it is away'."""
    heard = Heard()
    patience = PATIENT | ({"timeout_ms": 1_500, "look_timeout_ms": 5_000} if "STOP" in how else {})
    settings = RemoteSettings(server.address, probe_ms=50, most_probe_ms=200, **patience)
    gate = QualityGate(QualitySettings(batch=4), remote=RemoteWatch(settings, heard))
    gate.start()
    try:
        await heard.until("well")
        assert (await gate.judge(jpeg(0))).provider == THERE
        if how == "SIGSTOP":
            server.pause()
        else:
            server.kill()
        verdicts = await asyncio.gather(*(gate.judge(jpeg(level)) for level in (0, 120, 0)))
        assert {verdict.provider for verdict in verdicts} == {HERE}
        assert [v.faults for v in verdicts[::2]] == [("underexposure",)] * 2
        away = "slow" if how == "SIGSTOP" else "away"
        await heard.until("well", away)
        if how == "SIGSTOP":
            server.resume()
        else:
            server.again()
        await heard.until("well", away, "well")
        assert (await gate.judge(jpeg(0))).provider == THERE
    finally:
        server.resume()
        await gate.aclose()


@pytest.mark.parametrize("kind", ["simulated", pytest.param("mlserver", marks=pytest.mark.long)])
def test_another_variant_under_our_name_is_found_out(kind: str, tmp_path: Path) -> None:
    """It serves int8 under the name of what should be fp32."""
    if kind == "simulated":
        peer: Server = SimulatedV2Peer(tmp_path, "int8")
    else:
        peer = MlServer(tmp_path, model.MODELS / "quality-int8.onnx")
    with peer:
        remote = RemoteModel(RemoteSettings(peer.address, **PATIENT))
        with pytest.raises(RemoteError, match="scores differ") as caught:
            remote.verify()
        remote.close()
    assert caught.value.kind == "wrong_model"


@pytest.mark.long
def test_mlserver_can_say_which_file_it_runs(tmp_path: Path) -> None:
    with MlServer(tmp_path, model.MODELS / "quality-int8.onnx", says_hash=True) as peer:
        remote = RemoteModel(RemoteSettings(peer.address, **PATIENT))
        shown = remote.verify()
        remote.close()
    assert (shown.sha256, shown.said) == (model.catalogue()["int8"].sha256, True)


def test_a_message_that_is_too_large_for_it_is_refused_not_away(server: Server) -> None:
    """A server takes 4 MiB a message, which is gRPC's default: fourteen frames are more."""
    client = V2Client(server.address)
    frames = np.zeros((14, 320, 320, 3), np.uint8)
    with pytest.raises(RemoteError, match="larger than max") as caught:
        client.infer("quality", "", frames, timeout_s=20)
    assert caught.value.kind == "refused"
    twelve = frames[: RemoteSettings("h:1").batch]
    assert len(client.infer("quality", "", twelve, timeout_s=20).rows) == 12
    client.close()
