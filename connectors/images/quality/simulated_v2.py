"""A server of models that does what a test wants of it: the Open Inference Protocol V2 by gRPC.

::

    async with SimulatedV2() as server:             # runs the released model, on the CPU
        server.address                              # 127.0.0.1:40133
        server.fault = "shape"                      # from now on; one of FAULTS; "": none
    python -m connectors.images.quality.simulated_v2 --port 40133     # as a program of its own

What is asked is answered by the real model, so that a client's contract tests hold with it as with
a server of somebody else's. Faults are of what it says; to be slow it can be stopped as well.
"""

from __future__ import annotations

import argparse
import asyncio
from functools import cache
from typing import TYPE_CHECKING, Any, Final, Self

import grpc
import numpy as np

from connectors.images.quality.letterbox import SIDE_PX
from connectors.images.quality.model import INPUT, OUTPUT, PROVIDERS, load
from connectors.images.quality.v2 import HASH_PARAMETER, message_classes

if TYPE_CHECKING:
    from types import TracebackType

    from connectors.images.quality.boxes import Floats
    from connectors.images.quality.model import Model

SERVICE: Final = "inference.GRPCInferenceService"
HOST: Final = "127.0.0.1"
UNAUTHENTICATED: Final = grpc.StatusCode.UNAUTHENTICATED
PERMISSION_DENIED: Final = grpc.StatusCode.PERMISSION_DENIED
FAULTS: Final = {
    "slow": "answers no photo for as long as the fault lasts",
    "unready": "the server says it is not ready",
    "model_unready": "the model is not ready",
    "error": "answers with an error of its own",
    "garbage": "answers with bytes that are no message",
    "empty": "answers without a tensor",
    "shape": "answers with a row too few of numbers",
    "count": "answers for a frame less",
    "doubles": "answers with doubles, and calls them so",
    "nan": "answers with what is no number",
    "beyond": "answers with probabilities above 1",
    "version": "another version of the model answers",
    "name": "another model answers",
    "weights": "other weights answer: their scores are 0.2 lower",
    "hash": "says it runs a model that nobody has released",
    "takes": "the model takes frames of another size",
}
"""What can be wrong with it."""


class SimulatedV2:
    """One server on 127.0.0.1."""

    def __init__(
        self,
        model: str = "quality",
        version: str = "1",
        variant: str = "fp32",
        *,
        says_hash: bool = False,
        port: int = 0,
        tls: tuple[bytes, bytes] | None = None,
    ) -> None:
        """Take what it runs; ``port`` 0: any. ``says_hash``: its answers name the model's file.

        ``tls``: key and certificate, as PEM.
        """
        self.model, self.version, self.fault = model, version, ""
        self.calls: list[int] = []
        """Frames of each call, faults included."""
        self.under_way = self.most_under_way = 0
        """Calls for frames, now and at most."""
        self._moved = asyncio.Event()
        self.healed = asyncio.Event()
        """Set by who ends the fault ``slow``."""
        self._runs = _loaded(variant)
        self._says_hash = says_hash
        self._classes = message_classes()
        self._server: Any = None
        self.port = port
        self._tls = tls
        self.token = ""
        """What each call must bring from now on; empty: nothing."""

    @property
    def address(self) -> str:
        """HOST:PORT."""
        return f"{HOST}:{self.port}"

    async def start(self) -> None:
        """Listen."""
        calls = {
            "ServerReady": self._server_ready,
            "ModelReady": self._model_ready,
            "ModelMetadata": self._metadata,
            "ModelInfer": self._infer,
        }
        handlers = {
            name: grpc.unary_unary_rpc_method_handler(
                self._guarded(call),
                request_deserializer=self._classes[f"{name}Request"].FromString,
                response_serializer=_bytes,
            )
            for name, call in calls.items()
        }
        self._server = grpc.aio.server(options=(("grpc.so_reuseport", 0),))
        self._server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(SERVICE, handlers),)
        )
        if self._tls is None:
            self.port = self._server.add_insecure_port(self.address)
        else:
            trust = grpc.ssl_server_credentials([self._tls])
            self.port = self._server.add_secure_port(self.address, trust)
        await self._server.start()

    def _guarded(self, call: Any) -> Any:
        async def answer(request: Any, context: Any) -> Any:
            told = dict(context.invocation_metadata()).get("authorization")
            if self.token and told != f"Bearer {self.token}":
                code = PERMISSION_DENIED if told else UNAUTHENTICATED
                await context.abort(code, "who are you?")
            return await call(request, context)

        return answer

    async def stop(self) -> None:
        """Break off what is under way, and close the port."""
        self.healed.set()
        await self._server.stop(None)

    async def wait(self) -> None:
        """Serve until the process is ended."""
        await self._server.wait_for_termination()

    async def until_under_way(self, count: int) -> None:
        """Wait until so many calls for frames are under way."""
        while self.under_way < count:
            self._moved.clear()
            await self._moved.wait()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()

    async def _server_ready(self, _request: Any, _context: Any) -> Any:
        return self._classes["ServerReadyResponse"](ready=self.fault != "unready")

    async def _known(self, name: str, version: str, context: Any) -> None:
        if name != self.model or version not in {"", self.version}:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"model {name}:{version} not found")

    async def _model_ready(self, request: Any, context: Any) -> Any:
        await self._known(request.name, request.version, context)
        return self._classes["ModelReadyResponse"](ready=self.fault != "model_unready")

    async def _metadata(self, request: Any, context: Any) -> Any:
        await self._known(request.name, request.version, context)
        side = 640 if self.fault == "takes" else SIDE_PX
        return self._classes["ModelMetadataResponse"](
            name=self.model,
            versions=[self.version],
            platform="onnxruntime",
            inputs=[{"name": INPUT, "datatype": "UINT8", "shape": (-1, side, side, 3)}],
            outputs=[{"name": OUTPUT, "datatype": "FP32", "shape": (-1, -1, 9)}],
        )

    async def _infer(self, request: Any, context: Any) -> Any:
        await self._known(request.model_name, request.model_version, context)
        shape = tuple(request.inputs[0].shape)
        frames = np.frombuffer(request.raw_input_contents[0], np.uint8).reshape(shape)
        self.calls.append(len(frames))
        self.under_way += 1
        self._moved.set()
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            if self.fault == "slow":
                await self.healed.wait()
            if self.fault == "error":
                await context.abort(grpc.StatusCode.INTERNAL, "out of memory")
            rows = await asyncio.get_running_loop().run_in_executor(None, self._runs.rows, frames)
        finally:
            self.under_way -= 1
        return self._answer(rows)

    def _answer(self, rows: Floats) -> Any:
        """Return the answer, or what the fault makes of it."""
        fault = self.fault
        if fault == "garbage":
            return b"\xff\xff\xff"
        rows = _spoilt(rows, fault)
        name, version = (
            "cats" if fault == "name" else self.model,
            "2" if fault == "version" else self.version,
        )
        answer = self._classes["ModelInferResponse"](model_name=name, model_version=version)
        if self._says_hash or fault == "hash":
            sha256 = "0f" * 32 if fault == "hash" else self._runs.sha256
            answer.parameters.add(key=HASH_PARAMETER, value={"string_param": sha256})
        if fault != "empty":
            kind = "FP64" if fault == "doubles" else "FP32"
            answer.outputs.add(name=OUTPUT, datatype=kind, shape=rows.shape)
            answer.raw_output_contents.append(rows.tobytes())
        return answer


@cache
def _loaded(variant: str) -> Model:
    return load(variant, PROVIDERS[-1:])


def _spoilt(rows: Floats, fault: str) -> Any:
    rows = rows.copy()
    match fault:
        case "shape":
            return np.ascontiguousarray(rows[..., :-1])
        case "count":
            return rows[1:]
        case "doubles":
            return rows.astype(np.float64)
        case "nan":
            rows[0, 0, 4] = np.nan
        case "beyond":
            rows[..., 4] = 7.5
        case "weights":
            rows[..., 4] *= 0.8
    return rows


def _bytes(answer: Any) -> bytes:
    data: bytes = answer if isinstance(answer, bytes) else answer.SerializeToString()
    return data


async def _serve(port: int, model: str, variant: str) -> None:
    async with SimulatedV2(model, variant=variant, port=port) as server:
        print(f"serves {model} at {server.address}", flush=True)
        await server.wait()


def main() -> None:
    """Run it as a program."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--model", default="quality")
    parser.add_argument("--variant", default="fp32")
    chosen = parser.parse_args()
    asyncio.run(_serve(chosen.port, chosen.model, chosen.variant))


if __name__ == "__main__":
    main()
