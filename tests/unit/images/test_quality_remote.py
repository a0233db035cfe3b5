"""A server of models that errs: what is told, what judges instead, and the way back (SPEC 1.4, 4.4).

Issue 8 'Quality': by gRPC, "with local inference as the fallback when it is away".
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from quality_photos import Heard, jpeg

from connectors.images.quality import canary
from connectors.images.quality.gate import QualityGate
from connectors.images.quality.model import VARIANTS, ModelError, catalogue, load
from connectors.images.quality.reader import QualitySettings
from connectors.images.quality.remote import RemoteModel, RemoteSettings
from connectors.images.quality.remote_watch import RemoteWatch
from connectors.images.quality.v2 import KINDS, MESSAGES, RemoteError, message_classes
from schemas.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytest.importorskip("onnxruntime")
grpc = pytest.importorskip("grpc")
from connectors.images.quality.simulated_v2 import FAULTS, SimulatedV2  # noqa: E402 - needs grpc

HERE, THERE = "CPUExecutionProvider", "grpc:quality"
QUICK = {"probe_ms": 1, "most_probe_ms": 1, "room_ms": 0, "timeout_ms": 10_000}
KIND_OF = {
    "slow": "slow", "unready": "not_ready", "model_unready": "not_ready", "error": "refused",
    "garbage": "nonsense", "empty": "nonsense", "shape": "nonsense", "count": "nonsense",
    "doubles": "nonsense", "nan": "nonsense", "beyond": "nonsense", "version": "wrong_model",
    "name": "wrong_model", "weights": "wrong_model", "hash": "wrong_model",
    "takes": "wrong_model",
}  # fmt: skip


@asynccontextmanager
async def gate_of(
    server: SimulatedV2, **changes: int | str
) -> AsyncIterator[tuple[QualityGate, Heard]]:
    heard = Heard()
    settings = RemoteSettings(server.address, **{**QUICK, **changes})
    gate = QualityGate(QualitySettings(batch=4), remote=RemoteWatch(settings, heard))
    gate.start()
    try:
        yield gate, heard
    finally:
        await gate.aclose()


async def refusal(server: SimulatedV2, model: RemoteModel | None = None, **changes: object) -> str:
    mine = model or RemoteModel(RemoteSettings(server.address, **changes))
    with pytest.raises(RemoteError) as caught:
        await asyncio.to_thread(mine.verify)
    mine.close()
    assert caught.value.kind in KINDS
    return caught.value.kind


# --- what a server must show ----------------------------------------------------------------------


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_server_that_errs_is_not_taken_for_the_released_model(fault: str) -> None:
    async with SimulatedV2() as server:
        server.fault = fault
        assert await refusal(server, look_timeout_ms=300) == KIND_OF[fault]
        server.healed.set()


@pytest.mark.parametrize("variant", VARIANTS)
async def test_a_server_that_says_its_hash_is_compared_with_that_file(variant: str) -> None:
    async with SimulatedV2(variant=variant, says_hash=True) as server:
        model = RemoteModel(RemoteSettings(server.address))
        shown = await asyncio.to_thread(model.verify)
        model.close()
    assert (shown.sha256, shown.said, shown.compared) == (catalogue()[variant].sha256, True, True)


async def test_another_variant_that_does_not_say_so_is_not_taken_for_ours() -> None:
    """int8 judges otherwise: a verdict that names fp32 would not be true."""
    async with SimulatedV2(variant="int8") as server:
        assert await refusal(server) == "wrong_model"
    async with SimulatedV2(variant="fp16") as server:
        model = RemoteModel(RemoteSettings(server.address))
        assert not (await asyncio.to_thread(model.verify)).said, "it answers as ours does"
        model.close()


@pytest.mark.parametrize("says_hash", [False, True])
async def test_without_a_model_here_only_a_server_that_says_its_hash_is_used(says_hash) -> None:
    def nothing(_variant: str):
        raise ModelError("Judging pictures needs onnxruntime.")

    async with SimulatedV2(says_hash=says_hash) as server:
        model = RemoteModel(RemoteSettings(server.address), nothing)
        if says_hash:
            shown = await asyncio.to_thread(model.verify)
            assert (shown.said, shown.compared) == (True, False)
            model.close()
        else:
            assert await refusal(server, model) == "wrong_model"


@pytest.mark.parametrize(
    ("model", "version", "kind"),
    [
        ("quality", "", ""),
        ("quality", "1", ""),
        ("quality", "2", "no_model"),
        ("q", "", "no_model"),
    ],
)
async def test_name_and_version_are_the_ones_asked_for(model: str, version: str, kind: str) -> None:
    async with SimulatedV2() as server:
        if kind:
            mine = RemoteModel(RemoteSettings(server.address, model, version))
            assert await refusal(server, mine) == kind
            return
        mine = RemoteModel(RemoteSettings(server.address, model, version))
        assert (await asyncio.to_thread(mine.verify)).version == "1"
        mine.close()


async def test_nothing_listens_there() -> None:
    async with SimulatedV2() as server:
        pass
    assert await refusal(server) == "away"


def test_the_canary_tells_weights_apart() -> None:
    expected = load("fp32", ("CPUExecutionProvider",)).rows(canary.frames())
    assert canary.difference(expected, expected) == 0
    assert canary.difference(expected[:, :-1], expected) == float("inf")
    spoilt = expected.copy()
    spoilt[..., 4:] = expected[..., 4:][::-1]
    assert canary.difference(spoilt, expected) > canary.TOLERANCE
    spoilt[0, 0, 4] = np.nan
    assert not canary.difference(spoilt, expected) <= canary.TOLERANCE


# --- photos while it errs -------------------------------------------------------------------------


async def test_photos_are_judged_by_the_server_and_the_verdict_says_so() -> None:
    async with SimulatedV2() as server, gate_of(server) as (gate, heard):
        await heard.until("well")
        dark, fair, torn = await asyncio.gather(
            gate.judge(jpeg(0)), gate.judge(jpeg(120)), gate.judge(jpeg(120)[:200])
        )
    local = QualityGate()
    here = await local.judge(jpeg(0))
    await local.aclose()
    assert dark.provider == fair.provider == THERE
    assert here == replace_provider(dark, HERE)
    assert torn.provider in {"", THERE}
    assert torn.reason
    assert server.calls[1:] in ([1, 1], [2], [1]), "what cannot be read is not sent"


def replace_provider(verdict, provider: str):
    import msgspec

    scores = {name: pytest.approx(score, abs=1e-3) for name, score in verdict.scores.items()}
    return msgspec.structs.replace(verdict, provider=provider, scores=scores)


@pytest.mark.parametrize("fault", ["slow", "error", "garbage", "version"])
async def test_what_it_answers_wrongly_is_judged_here_and_it_comes_back(fault: str) -> None:
    """A fault in the answers makes it away at once, told once; healed, it is used again."""
    timeout_ms = 1_500 if fault == "slow" else 10_000
    async with SimulatedV2() as server, gate_of(server, timeout_ms=timeout_ms) as (gate, heard):
        await heard.until("well")
        server.fault = fault
        verdict = await gate.judge(jpeg(0))
        assert (verdict.faults, verdict.provider) == (("underexposure",), HERE)
        await heard.until("well", KIND_OF[fault])
        await heard.until_failures(2)  # it was looked at again, and is not told of again
        assert heard.changes == ["well", KIND_OF[fault]]
        assert (await gate.judge(jpeg(0))).provider == HERE
        server.fault = ""
        server.healed.set()
        await heard.until("well", KIND_OF[fault], "well")
        assert (await gate.judge(jpeg(0))).provider == THERE


@pytest.mark.parametrize("fault", ["unready", "weights"])
async def test_what_no_answer_shows_is_seen_by_the_next_look(fault: str) -> None:
    async with SimulatedV2() as server, gate_of(server, look_ms=1) as (gate, heard):
        await heard.until("well")
        server.fault = fault
        await heard.until("well", KIND_OF[fault])
        assert (await gate.judge(jpeg(0))).provider == HERE
        server.fault = ""
        await heard.until("well", KIND_OF[fault], "well")


async def test_a_batch_that_fails_is_judged_here_whole_and_nobody_waits_for_the_server() -> None:
    async with SimulatedV2() as server, gate_of(server, batch=8, most_probe_ms=600_000,
                                                probe_ms=600_000) as (gate, heard):  # fmt: skip
        await heard.until("well")
        server.fault = "error"
        levels = [0, 120] * 8
        verdicts = await asyncio.gather(*(gate.judge(jpeg(level)) for level in levels))
        calls = len(server.calls)
        await gate.judge(jpeg(0))
    assert [v.faults == ("underexposure",) for v in verdicts] == [not n for n in levels]
    assert {verdict.provider for verdict in verdicts} == {HERE}
    assert len(server.calls) == calls, "it is not asked while it is away"


async def test_batches_and_calls_under_way_are_bounded() -> None:
    async with SimulatedV2() as server:
        server.fault = "slow"
        async with gate_of(server, batch=3, in_flight=2) as (gate, heard):
            server.fault = ""
            await heard.until("well")
            server.calls.clear()
            server.most_under_way = 0
            server.fault = "slow"
            waits = [asyncio.create_task(gate.judge(jpeg(120))) for _ in range(11)]
            await server.until_under_way(2)
            server.fault = ""
            server.healed.set()
            verdicts = await asyncio.gather(*waits)
    assert {verdict.provider for verdict in verdicts} == {THERE}
    assert sum(server.calls) == 11
    assert max(server.calls) == 3
    assert server.most_under_way == 2


async def test_photos_without_time_say_nothing_of_the_server() -> None:
    """The photo's own deadline: a call gets what it leaves, less the room for judging here."""
    async with SimulatedV2() as server, gate_of(server, room_ms=2_000) as (gate, heard):
        await heard.until("well")
        server.fault = "slow"
        clock = asyncio.get_running_loop().time
        hurried = await gate.judge(jpeg(0), clock() + 2.1)
        no_time = await gate.judge(jpeg(0), clock() + 1.0)
        assert hurried.provider == no_time.provider == HERE
        assert heard.failures == ["hurried", "hurried"]
        assert heard.changes == ["well"]
        server.fault = ""
        server.healed.set()
        assert (await gate.judge(jpeg(0), clock() + 60)).provider == THERE


async def test_a_server_well_for_looks_and_ill_for_photos_is_asked_ever_more_seldom() -> None:
    async with SimulatedV2() as server:
        settings = RemoteSettings(server.address, probe_ms=1_000, most_probe_ms=60_000)
        watch = RemoteWatch(settings)
        rests = []
        for watch._failures in (1, 2, 3, 6, 7, 50):
            rests.append(watch._rest_s())
        await watch.aclose()
    assert rests == [1, 2, 4, 32, 60, 60]


async def test_a_success_makes_failures_forgotten_and_a_look_does_not() -> None:
    async with SimulatedV2() as server, gate_of(server) as (gate, heard):
        await heard.until("well")
        server.fault = "error"
        await gate.judge(jpeg(0))
        await heard.until_failures(3)
        server.fault = ""
        await heard.until("well", "refused", "well")
        assert gate._remote is not None
        assert gate._remote._failures >= 3
        assert (await gate.judge(jpeg(0))).provider == THERE
        assert gate._remote._failures == 0


async def test_a_server_that_begins_away_keeps_nobody_waiting() -> None:
    async with SimulatedV2() as server:
        pass
    async with gate_of(server) as (gate, heard):
        assert (await gate.judge(jpeg(0))).provider == HERE
        await heard.until("away")
        await heard.until_failures(3)
        assert heard.changes == ["away"]


async def test_where_nothing_can_judge_the_verdict_says_so_and_the_server_may_come(
    tmp_path, monkeypatch
) -> None:
    """No model here, a server that says its hash: photos are judged while it is there."""
    async with SimulatedV2(says_hash=True) as server:
        heard = Heard()
        settings = RemoteSettings(server.address, **QUICK)

        def connect(settings: RemoteSettings) -> RemoteModel:
            def nothing(_variant: str):
                raise ModelError("no onnxruntime")

            return RemoteModel(settings, nothing)

        watch = RemoteWatch(settings, heard, connect)
        gate = QualityGate(QualitySettings(folder=tmp_path), remote=watch)
        before = await gate.judge(jpeg(0))
        gate.start()
        await heard.until("well")
        there = await gate.judge(jpeg(0))
        server.fault = "error"
        after = await gate.judge(jpeg(0))
        await gate.aclose()
    assert before.reason.startswith("not judged")
    assert (there.provider, there.faults) == (THERE, ("underexposure",))
    assert after.reason.startswith("not judged: The list of quality models cannot be read")
    assert after.provider == ""


async def test_closing_breaks_off_what_is_under_way() -> None:
    async with SimulatedV2() as server:
        heard = Heard()
        gate = QualityGate(remote=RemoteWatch(RemoteSettings(server.address), heard))
        gate.start()
        await heard.until("well")
        server.fault = "slow"
        wait = asyncio.create_task(gate.judge(jpeg(0)))
        await server.until_under_way(1)
        await gate.aclose()
        assert (await wait).provider == HERE
        assert (await gate.judge(jpeg(0))).reason == "not judged: the worker is ending"


# --- the protocol and the settings ----------------------------------------------------------------


def test_the_messages_are_those_of_the_specification() -> None:
    """Bytes written by hand from open_inference_grpc.proto's field numbers."""
    classes = message_classes()
    assert set(classes) == set(MESSAGES)
    ready = classes["ModelReadyRequest"](name="q", version="2")
    assert ready.SerializeToString() == b"\x0a\x01q\x12\x012"
    infer = classes["ModelInferRequest"](
        model_name="q", inputs=[{"name": "f", "datatype": "UINT8", "shape": [1, 2]}],
        outputs=[{"name": "r"}], raw_input_contents=[b"ab"],
    )  # fmt: skip
    assert infer.SerializeToString() == (
        b"\x0a\x01q\x2a\x0e\x0a\x01f\x12\x05UINT8\x1a\x02\x01\x02\x32\x03\x0a\x01r\x3a\x02ab"
    )
    answer = classes["ModelInferResponse"].FromString(
        b"\x0a\x01q"
        b"\x22\x0d\x0a\x06sha256\x12\x03\x1a\x01f"
        b"\x2a\x17\x0a\x01r\x12\x04FP32\x1a\x02\x01\x01\x2a\x08\x32\x04\0\0\x80\x3f\x3a\0"
    )
    assert answer.parameters[0].value.string_param == "f"
    assert list(answer.outputs[0].contents.fp32_contents) == [1.0]


def test_settings_in_words_and_out_of_bounds() -> None:
    assert RemoteSettings.parse("h:1") == RemoteSettings("h:1")
    assert RemoteSettings.parse("[::1]:8001", "q:3") == RemoteSettings("[::1]:8001", "q", "3")
    for wrong in ("", "h", ":1", "h:", "h:x", "h:70000"):
        with pytest.raises(UsageError, match="HOST:PORT"):
            RemoteSettings.parse(wrong)
    for name, value in (("batch", 65), ("in_flight", 0), ("timeout_ms", 1), ("most_probe_ms", 1)):
        with pytest.raises(UsageError, match=name):
            replace(RemoteSettings("h:1"), **{name: value})
    with pytest.raises(UsageError, match="name"):
        RemoteSettings.parse("h:1", ":3")
