"""MLServer: a server of models by somebody else, which speaks the Open Inference Protocol V2.

    with MlServer(tmp_path) as peer:
        peer.address            # 127.0.0.1:N, gRPC; the model is called quality, its version v1
    with MlServer(tmp_path, model_file=other, says_hash=True) as peer: ...

Of PyPI, in an environment of its own beside ours (model-server.requirements.txt, hashes; 315 MB): it
wants an old starlette. The model is run by ``mlserver_runtime.py``. To renew the list:

    uv pip compile --universal --generate-hashes --no-annotate --no-header --python-version 3.11 \
        <(printf 'mlserver==1.7.1\nonnxruntime\nnumpy\n')
"""

from __future__ import annotations

import json
import os
import signal
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

from peer import HOST, Peer, PeerMissing, free_port

from benchmarks.streams.environment import locked_environment
from connectors.images.quality.model import MODELS
from schemas.errors import BrokerError

if TYPE_CHECKING:
    from collections.abc import Sequence

REQUIREMENTS = Path(__file__).with_name("model-server.requirements.txt")
MODEL = "quality"
VERSION = "v1"


def server_python() -> Path:
    """Return the Python of the environment that has MLServer; made at the first call."""
    try:
        return locked_environment("model-server", REQUIREMENTS, exact=True)
    except BrokerError as error:
        raise PeerMissing(f"MLServer is not to be had here: {error}") from error


class MlServer(Peer):
    """The server."""

    name = "mlserver"

    def __init__(
        self,
        folder: Path,
        model_file: Path = MODELS / "quality-fp32.onnx",
        *,
        says_hash: bool = False,
    ) -> None:
        super().__init__(folder)
        self.port, self.http_port = free_port(), free_port()
        settings = {
            "host": HOST, "http_port": self.http_port, "grpc_port": self.port,
            "metrics_port": free_port(), "parallel_workers": 0, "debug": False,
        }  # fmt: skip
        model = {
            "name": MODEL,
            "implementation": "mlserver_runtime.OnnxRuntime",
            "parameters": {
                "uri": str(model_file), "version": VERSION, "extra": {"says_hash": says_hash},
            },
            "inputs": [{"name": "frames", "datatype": "UINT8", "shape": [-1, 320, 320, 3]}],
            "outputs": [{"name": "rows", "datatype": "FP32", "shape": [-1, -1, 9]}],
        }  # fmt: skip
        place = folder / "models" / MODEL
        place.mkdir(parents=True)
        (folder / "models" / "settings.json").write_text(json.dumps(settings))
        (place / "model-settings.json").write_text(json.dumps(model))
        self._command: Sequence[str] = (
            str(server_python().with_name("mlserver")), "start", str(folder / "models"),
        )  # fmt: skip
        self.again()

    def again(self) -> None:
        """Start it, at the ports it had before."""
        self.start([*self._command], environment={"PYTHONPATH": str(Path(__file__).parent)})

    def kill(self) -> None:
        """End it by kill -9."""
        os.killpg(self.pid, signal.SIGKILL)
        self.close()

    @property
    def address(self) -> str:
        return f"{HOST}:{self.port}"

    def ready(self) -> bool:
        """Its model is."""
        url = f"http://{HOST}:{self.http_port}/v2/models/{MODEL}/ready"
        try:
            with urllib.request.urlopen(url, timeout=3) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False
