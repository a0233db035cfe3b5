"""A server of models behind TLS and a token: how it is named, and what is told where it fails."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from own_certificate import own_certificate

from connectors.images.quality.server_address import ServerAddress
from schemas.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

pytest.importorskip("grpc")
pytest.importorskip("onnxruntime")
from connectors.images.quality.remote import RemoteModel, RemoteSettings
from connectors.images.quality.simulated_v2 import SimulatedV2
from connectors.images.quality.v2 import RemoteError, V2Client

TOKEN = "eyJ.abc-_.x"


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """A folder with a certificate and its key, and another certificate."""
    folder = tmp_path_factory.mktemp("site")
    for name in ("ours", "theirs"):
        made, key = own_certificate(name)
        (folder / f"{name}.pem").write_bytes(made.public_bytes(Encoding.PEM))
        (folder / f"{name}.key").write_bytes(key)
    return folder


def server_of(site: Path) -> SimulatedV2:
    return SimulatedV2(tls=((site / "ours.key").read_bytes(), (site / "ours.pem").read_bytes()))


async def ready(address: str) -> bool:
    """Ask once, by a new connection."""
    client = V2Client(address)
    try:
        return await asyncio.to_thread(client.server_ready, timeout_s=10)
    finally:
        client.close()


async def refusal(address: str) -> tuple[str, str]:
    with pytest.raises(RemoteError) as caught:
        await ready(address)
    return caught.value.kind, str(caught.value)


async def test_a_server_with_the_sites_certificate_is_shown_to_run_our_model(site: Path) -> None:
    async with server_of(site) as server:
        model = RemoteModel(RemoteSettings(f"grpcs://{server.address}?ca={site}/ours.pem"))
        shown = await asyncio.to_thread(model.verify)
        model.close()
    assert shown.compared


async def test_a_certificate_of_somebody_else_is_not_spoken_to(site: Path) -> None:
    async with server_of(site) as server:
        kind, said = await refusal(f"grpcs://{server.address}?ca={site}/theirs.pem")
        assert kind == "away"
        assert "CERTIFICATE_VERIFY_FAILED" in said
        assert (await refusal(f"grpcs://{server.address}"))[0] == "away"
        assert (await refusal(server.address))[0] == "away"
    async with SimulatedV2() as clear:
        assert (await refusal(f"grpcs://{clear.address}?ca={site}/ours.pem"))[0] == "away"


async def test_a_token_is_told_with_each_call_and_may_change(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SPEC 1.4; those that Kubernetes projects into a pod change every hour."""
    monkeypatch.setenv("MODELS_TOKEN", TOKEN)
    file = tmp_path / "token"
    file.write_text(TOKEN + "\n")
    async with server_of(site) as server:
        safe = f"grpcs://{server.address}?ca={site}/ours.pem"
        server.token = TOKEN
        assert await refusal(safe) == ("denied", f"{server.address}: ServerReady: who are you?")
        assert await ready(f"{safe}&token=env:MODELS_TOKEN")
        client = V2Client(f"{safe}&token=file:{file}")
        assert await asyncio.to_thread(client.server_ready, timeout_s=10)
        server.token = "another"
        with pytest.raises(RemoteError) as caught:
            await asyncio.to_thread(client.server_ready, timeout_s=10)
        assert caught.value.kind == "denied"
        file.write_text("another")
        assert await asyncio.to_thread(client.server_ready, timeout_s=10)
        file.unlink()
        with pytest.raises(RemoteError) as caught:
            await asyncio.to_thread(client.server_ready, timeout_s=10)
        client.close()
        assert TOKEN not in str(caught.value)


async def test_a_token_goes_to_no_server_that_is_not_trusted(site: Path, monkeypatch) -> None:
    """What a stranger at that address hears of us is the beginning of a handshake."""
    monkeypatch.setenv("MODELS_TOKEN", TOKEN)
    heard = bytearray()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(20)

        def listen() -> None:
            with listener.accept()[0] as connection:
                connection.settimeout(20)
                heard.extend(connection.recv(65_536))

        listening = asyncio.get_running_loop().run_in_executor(None, listen)
        port = listener.getsockname()[1]
        await refusal(f"grpcs://127.0.0.1:{port}?ca={site}/ours.pem&token=env:MODELS_TOKEN")
        await listening
    assert heard[:1] == b"\x16"
    assert TOKEN.encode() not in heard


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("models", "HOST:PORT"),
        (":8001", "HOST:PORT"),
        ("models:0", "HOST:PORT"),
        ("https://models:8001", "HOST:PORT"),
        ("grpcs://models", "HOST:PORT"),
        ("grpcs://models:8001?", None),
        ("grpcs://models:8001?x", "HOST:PORT"),
        ("grpcs://models:8001?key=k.pem", "HOST:PORT"),
        ("grpcs://models:8001?ca=", "HOST:PORT"),
        ("grpcs://models:8001?ca=/nowhere.pem", "No such file"),
        ("grpcs://models:8001?ca=/dev/null", "no certificate"),
        ("grpcs://models:8001?token=eyJ.secret", "expected"),
        ("grpcs://models:8001?token=env:NOT_SET_ANYWHERE", "not set"),
        ("grpcs://models:8001?token=file:/nowhere", "No such file"),
        ("grpcs://models:8001?token=file:/dev/null", "no token"),
        ("models:8001?token=env:HOME", "without TLS"),
    ],
)
def test_what_cannot_be_is_told_at_the_start(text: str, said: str | None) -> None:
    if said is None:
        assert ServerAddress.parse(text) == ServerAddress("models:8001", tls=True)
        return
    with pytest.raises(UsageError) as caught:
        ServerAddress.parse(text)
    assert said in str(caught.value)
