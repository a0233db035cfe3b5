"""Our own server of models, as a program: with it faults of processes cost a second, not ten.

with SimulatedV2Peer(tmp_path) as peer:
    peer.address            # 127.0.0.1:N, gRPC; the model is called quality, its version 1
    peer.kill(); peer.again()
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from peer import HOST, Peer, connects, free_port

ROOT = Path(__file__).parents[2]
PROGRAM = "connectors.images.quality.simulated_v2"


class SimulatedV2Peer(Peer):
    """The server; ``variant``: of the model that it runs."""

    name = "simulated_v2"

    def __init__(self, folder: Path, variant: str = "fp32") -> None:
        super().__init__(folder)
        self.port = free_port()
        self._variant = variant
        self.again()

    def again(self) -> None:
        """Start it, at the port it had before. In the main thread: it ends with its starter."""
        command = [sys.executable, "-m", PROGRAM, "--port", str(self.port)]
        self.start([*command, "--variant", self._variant], environment={"PYTHONPATH": str(ROOT)})

    def kill(self) -> None:
        """End it by kill -9."""
        os.killpg(self.pid, signal.SIGKILL)
        self.close()

    @property
    def address(self) -> str:
        return f"{HOST}:{self.port}"

    def ready(self) -> bool:
        """It listens."""
        return connects(self.port)
