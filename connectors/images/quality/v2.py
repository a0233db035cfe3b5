"""The Open Inference Protocol, version 2, over gRPC: the calls that judging photos needs.

Triton, KServe, MLServer and OpenVINO's server speak it. The messages are those of
``open_inference_grpc.proto`` (KServe, github.com/kserve/open-inference-protocol, specification
2.0); here they are a table of fields from which protobuf makes classes, so that no code generated
for one version of protobuf lies in the tree, and in a pool of their own, so that they can stand
beside anybody's stubs. Fields that nothing here reads are left out, as protobuf passes over them.

::

    client = V2Client("10.0.0.7:8001")
    client.metadata("quality", timeout_s=1.0)          # Metadata(versions=("1",), inputs=…)
    client.infer("quality", "1", frames, timeout_s=0.5)  # Answer("quality", "1", "64a7…", rows)

Every call has a deadline, and raises :class:`RemoteError`, whose ``kind`` says what went wrong.
A client may be used by several threads. Tensors travel raw (little endian): 307,200 bytes a frame.
"""

from __future__ import annotations

import importlib
import os
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from connectors.images.quality.model import INPUT, OUTPUT
from connectors.images.quality.server_address import ServerAddress
from schemas.errors import ShutterwheelError, UsageError

if TYPE_CHECKING:
    from connectors.images.quality.boxes import Floats
    from connectors.images.quality.letterbox import Pixels

SERVICE: Final = "/inference.GRPCInferenceService/"
HASH_PARAMETER: Final = "sha256"
"""Parameter of an answer by which a server may say which file it runs."""
MESSAGES: Final[dict[str, str]] = {
    "ServerReadyRequest": "",
    "ServerReadyResponse": "ready=1 bool",
    "ModelReadyRequest": "name=1 string, version=2 string",
    "ModelReadyResponse": "ready=1 bool",
    "ModelMetadataRequest": "name=1 string, version=2 string",
    "TensorMetadata": "name=1 string, datatype=2 string, shape=3 int64*",
    "ModelMetadataResponse": "name=1 string, versions=2 string*, platform=3 string, "
    "inputs=4 TensorMetadata*, outputs=5 TensorMetadata*",
    "InferParameter": "bool_param=1 bool, int64_param=2 int64, string_param=3 string",
    "ParametersEntry": "key=1 string, value=2 InferParameter",
    "InferTensorContents": "fp32_contents=6 float*",
    "Tensor": "name=1 string, datatype=2 string, shape=3 int64*, contents=5 InferTensorContents",
    "InferRequestedOutputTensor": "name=1 string",
    "ModelInferRequest": "model_name=1 string, model_version=2 string, id=3 string, "
    "inputs=5 Tensor*, outputs=6 InferRequestedOutputTensor*, raw_input_contents=7 bytes*",
    "ModelInferResponse": "model_name=1 string, model_version=2 string, id=3 string, "
    "parameters=4 ParametersEntry*, outputs=5 Tensor*, raw_output_contents=6 bytes*",
}
"""Each message's fields: name, number, type, and a star for those that repeat. A map is a repeated
entry of key and value, as the encoding says; requested and returned tensors are alike."""
SCALARS: Final = {"bool": 8, "bytes": 12, "float": 2, "int64": 3, "string": 9}
"""Numbers of FieldDescriptorProto.Type."""
MESSAGE, OPTIONAL, REPEATED = 11, 1, 3
OPTIONS: Final = (
    ("grpc.enable_http_proxy", 0),  # a server of models is near: never by way of a web proxy
    ("grpc.use_local_subchannel_pool", 1),  # a new client is a new connection
)
KINDS: Final = {
    "away": "nothing answers there, or the connection broke",
    "slow": "no answer within the time that a call has",
    "not_ready": "the server, or its model, is not ready",
    "no_model": "it has no model, or no version, of that name",
    "wrong_model": "its model is not one that was released, or cannot be shown to be one",
    "nonsense": "its answer is not what was asked for",
    "denied": "it wants a token, or another one",
    "refused": "it answers with an error",
}
"""Every kind of a RemoteError."""


class RemoteError(ShutterwheelError):
    """A server of models cannot be used now. ``kind`` is one of :data:`KINDS`."""

    def __init__(self, kind: str, reason: str) -> None:
        if kind not in KINDS:
            raise ValueError(f"{kind} is no kind of a RemoteError")
        super().__init__(reason)
        self.kind = kind


@dataclass(frozen=True, slots=True)
class Tensor:
    """What a model takes or gives."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    """-1: any."""


@dataclass(frozen=True, slots=True)
class Metadata:
    """What a server says of a model."""

    name: str
    versions: tuple[str, ...]
    platform: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model says of frames."""

    model: str
    version: str
    sha256: str
    """Of the file it runs, if it says so; empty: it does not."""
    rows: Floats
    """Of the shape that the answer says, which nobody has compared with anything."""


@cache
def message_classes() -> dict[str, Any]:
    """Return protobuf's class of each message.

    Raises:
        UsageError: protobuf is not installed.

    """
    check_installed()
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    pool = descriptor_pool.DescriptorPool()
    file = descriptor_pb2.FileDescriptorProto(
        name="open_inference_v2.proto", package="inference", syntax="proto3"
    )
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        for field in filter(None, fields.split(", ")):
            text, kind = field.split(" ")
            label, number = text.split("=")
            one: Any = message.field.add(name=label, number=int(number))
            one.label = REPEATED if kind.endswith("*") else OPTIONAL
            kind = kind.removesuffix("*")
            one.type = SCALARS.get(kind, MESSAGE)
            if one.type == MESSAGE:
                one.type_name = f".inference.{kind}"
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"inference.{name}"))
        for name in MESSAGES
    }


def check_installed() -> None:
    """Raise UsageError where gRPC or protobuf is not installed."""
    try:
        for name in ("grpc", "google.protobuf.message_factory"):
            importlib.import_module(name)
    except ImportError as error:
        raise UsageError(
            "Asking a server of models needs grpcio and protobuf. Install "
            "shutterwheel[remote-quality]."
        ) from error


class V2Client:
    """A server of models. Blocking: an event loop calls it in threads."""

    def __init__(self, address: str) -> None:
        """Take ``HOST:PORT`` or ``grpcs://…``; nothing is connected before the first call.

        Raises UsageError: the address is none, or the files it names are not there.
        """
        where = ServerAddress.parse(address)
        self.address = where.place
        self._classes = message_classes()
        os.environ.setdefault("GRPC_VERBOSITY", "ERROR")  # what it would print, errors say
        import grpc

        self._grpc = grpc
        self._channel = self._open(where)
        # The answers' bytes are read below: what is no message is told from what is no connection.
        self._calls = {
            name: self._channel.unary_unary(f"{SERVICE}{name}")
            for name in ("ServerReady", "ModelReady", "ModelMetadata", "ModelInfer")
        }

    def _open(self, where: ServerAddress) -> Any:
        grpc = self._grpc
        if not where.tls:
            return grpc.insecure_channel(where.place, OPTIONS)
        trust = grpc.ssl_channel_credentials(where.roots())
        if where.token:

            def tell(_context: Any, answer: Any) -> None:
                try:
                    answer((("authorization", f"Bearer {where.bearer()}"),), None)
                except UsageError as error:
                    answer((), error)

            plugin: Any = tell  # gRPC calls it; its own class is not at hand before it is loaded
            token = grpc.metadata_call_credentials(plugin)
            trust = grpc.composite_channel_credentials(trust, token)
        return grpc.secure_channel(where.place, trust, OPTIONS)

    def close(self) -> None:
        """Break off what is under way and let the connection go."""
        self._channel.close()

    def server_ready(self, *, timeout_s: float) -> bool:
        """Ask whether it is ready to infer."""
        return bool(self._ask("ServerReady", {}, timeout_s).ready)

    def model_ready(self, model: str, version: str = "", *, timeout_s: float) -> bool:
        """Ask whether a model is ready to infer; ``version`` empty: the server's choice."""
        return bool(self._ask("ModelReady", {"name": model, "version": version}, timeout_s).ready)

    def metadata(self, model: str, version: str = "", *, timeout_s: float) -> Metadata:
        """Ask what a model takes and gives."""
        said = self._ask("ModelMetadata", {"name": model, "version": version}, timeout_s)
        inputs, outputs = (
            tuple(Tensor(t.name, t.datatype, tuple(t.shape)) for t in tensors)
            for tensors in (said.inputs, said.outputs)
        )
        return Metadata(said.name, tuple(said.versions), said.platform, inputs, outputs)

    def infer(self, model: str, version: str, frames: Pixels, *, timeout_s: float) -> Answer:
        """Have a model look at (n, 320, 320, 3) bytes."""
        request = {
            "model_name": model,
            "model_version": version,
            "inputs": [{"name": INPUT, "datatype": "UINT8", "shape": frames.shape}],
            "outputs": [{"name": OUTPUT}],
            "raw_input_contents": [frames.tobytes()],
        }
        said = self._ask("ModelInfer", request, timeout_s)
        told = [one.value.string_param for one in said.parameters if one.key == HASH_PARAMETER]
        return Answer(said.model_name, said.model_version, "".join(told), _rows(said))

    def _ask(self, name: str, fields: dict[str, Any], timeout_s: float) -> Any:
        request = self._classes[f"{name}Request"](**fields)
        try:
            answer = self._calls[name](request.SerializeToString(), timeout=timeout_s)
        except self._grpc.RpcError as error:
            raise self._explained(name, error, timeout_s) from error
        except ValueError as error:  # the channel was closed meanwhile
            raise RemoteError("away", f"{self.address}: {error}.") from error
        try:
            return self._classes[f"{name}Response"].FromString(answer)
        except Exception as error:  # DecodeError, which needs an import of its own
            raise RemoteError("nonsense", f"{name} answers with no message: {error}.") from error

    def _explained(self, name: str, error: Any, timeout_s: float) -> RemoteError:
        status, code = self._grpc.StatusCode, error.code()
        said = f"{self.address}: {name}: {error.details() or code.name}"
        if code is status.DEADLINE_EXCEEDED:
            return RemoteError("slow", f"{said} after {timeout_s * 1e3:,.0f} ms")
        kinds = {
            status.UNAVAILABLE: "away",
            status.CANCELLED: "away",
            status.NOT_FOUND: "no_model",
            status.UNAUTHENTICATED: "denied",
            status.PERMISSION_DENIED: "denied",
        }
        return RemoteError(kinds.get(code, "refused"), said)


def _rows(said: Any) -> Floats:
    """Return the tensor ``rows`` of an answer; raises RemoteError ``nonsense``."""
    names = [tensor.name for tensor in said.outputs]
    if OUTPUT not in names:
        raise RemoteError("nonsense", f"Its answer has no tensor {OUTPUT}, but {names[:8]}.")
    at = names.index(OUTPUT)
    tensor = said.outputs[at]
    if tensor.datatype != "FP32":
        raise RemoteError("nonsense", f"Its rows are {tensor.datatype[:20]}, not FP32.")
    raw = said.raw_output_contents
    try:
        flat = (
            np.frombuffer(raw[at], "<f4")
            if raw
            else np.array(tensor.contents.fp32_contents, np.float32)
        )
        rows: Floats = flat.astype(np.float32, copy=False).reshape(tuple(tensor.shape))
    except (ValueError, IndexError) as error:
        shape = list(tensor.shape)[:8]
        raise RemoteError("nonsense", f"Its rows are not of the shape {shape}: {error}.") from error
    return rows
