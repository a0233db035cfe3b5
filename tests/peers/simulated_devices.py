"""Our own simulated devices (connectors/discovery/simulated.py) as a program of their own.

with SimulatedDevices(folder, "127.0.0.1", [{"host": "127.77.1.1"}], ports={"dhip": 40000}): ...
with SimulatedDevices(folder, lan.address("x"), devices, prefix=lan.prefix("x")): ...
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from peer import START_S, Peer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ROOT = Path(__file__).parents[2]


class SimulatedDevices(Peer):
    """Devices that answer discovery; each is the fields of a SimulatedDevice."""

    name = "simulated"

    def __init__(
        self,
        folder: Path,
        interface: str,
        devices: Sequence[Mapping[str, object]],
        *,
        prefix: Sequence[str] = (),
        ports: Mapping[str, int] | None = None,
        delay_s: float = 0.0,
    ) -> None:
        super().__init__(folder)
        listed = folder / "devices.json"
        listed.write_text(json.dumps(devices))
        words = ["--interface", interface, "--devices", str(listed), "--delay", str(delay_s)]
        for name, port in (ports or {}).items():
            words += ["--port", f"{name}={port}"]
        command = [sys.executable, "-m", "connectors.discovery.simulated", *words]
        self.start([*prefix, *command], environment={"PYTHONPATH": str(ROOT)})

    def ready(self) -> bool:
        return "ready" in self.log_tail()

    def await_question(self) -> None:
        """Return when a first question was heard."""
        deadline_s = time.monotonic() + START_S
        while "heard" not in self.log_tail():
            assert time.monotonic() < deadline_s, self.log_tail()
            time.sleep(0.02)
