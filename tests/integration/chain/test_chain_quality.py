"""The whole chain with a server of models that is killed and comes back (SPEC 1.4, 4.4, issue 8)."""

from __future__ import annotations

import urllib.request
from typing import TYPE_CHECKING

import pytest
from chain_harness import Chain, assert_kept
from simulated_v2_peer import SimulatedV2Peer

if TYPE_CHECKING:
    from pathlib import Path

    from schemas.records import CaptureResult

HERE, THERE = "CPUExecutionProvider", "grpc:quality"


@pytest.mark.long
@pytest.mark.timeout(300)
def test_photos_go_on_being_judged_when_the_server_is_killed(make_chain, tmp_path: Path) -> None:
    """Every photo has a verdict, and says by what it was judged; none is lost or doubled.

    What lies beside the photos is in their results, and was read back and hashed by the check.
    """
    pytest.importorskip("onnxruntime")
    pytest.importorskip("grpc")
    with SimulatedV2Peer(tmp_path / "server") as server:
        chain: Chain = make_chain(devices=6, quality_server=server.address, image_processes=1)
        chain.introduce()
        chain.wait_until("the server is well", lambda: told(chain, "server_well") == 1)
        chain.schedule(1_000, lead="5s", catch_up="10s", quality="mark", image="label thumbnail=32")
        chain.run_on(photos=12)
        server.kill()
        chain.wait_until("the server is away", lambda: told(chain, "server_well") == 0)
        chain.run_on(photos=12)
        server.again()
        chain.wait_until("the server is well again", lambda: told(chain, "server_well") == 1)
        chain.run_on(photos=12)
        report = chain.finish()
        assert_kept(report)
        taken = sorted(
            (r for r in chain.results() if r.state == "SUCCESS"), key=lambda r: r.scheduled_ms
        )
    assert len(taken) >= 30
    assert {r.verdict.model != "" for r in taken} == {True}, "none went without a verdict"
    assert order(taken) == [THERE, HERE, THERE]
    assert all(set(r.image.beside) == {"thumbnail.jpg"} for r in taken)


def order(results: list[CaptureResult]) -> list[str]:
    """Return which provider judged most photos of each second, repeats left out."""
    seconds: dict[int, list[str]] = {}
    for result in results:
        assert result.verdict is not None
        seconds.setdefault(result.scheduled_ms // 1_000, []).append(result.verdict.provider)
    found: list[str] = []
    for _, providers in sorted(seconds.items()):
        most = max(set(providers), key=providers.count)
        if found[-1:] != [most]:
            found.append(most)
    return found


def told(chain: Chain, name: str) -> float:
    """Return what the captures worker says of the server."""
    with urllib.request.urlopen(f"{chain.worker('captures').url}/metrics", timeout=5) as answer:
        lines = answer.read().decode().splitlines()
    (line,) = [one for one in lines if one.startswith(f"shutterwheel_quality_{name} ")]
    return float(line.split()[1])
