"""What MLServer runs: our ONNX model, by onnxruntime. In its environment, not in ours.

``parameters.extra.says_hash``: answers name the SHA-256 of the model's file.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import onnxruntime
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse, Parameters


class OnnxRuntime(MLModel):
    async def load(self) -> bool:
        data = Path(self.settings.parameters.uri).read_bytes()  # noqa: ASYNC240 - nothing runs yet
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(
            data, options, providers=["CPUExecutionProvider"]
        )
        self.digest = hashlib.sha256(data).hexdigest()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        frames = NumpyCodec.decode_input(payload.inputs[0])
        [rows] = self.session.run(["rows"], {"frames": frames})
        said = (self.settings.parameters.extra or {}).get("says_hash")
        return InferenceResponse(
            model_name=self.name,
            model_version=self.version,
            parameters=Parameters(sha256=self.digest) if said else None,
            outputs=[NumpyCodec.encode_output("rows", rows)],
        )
