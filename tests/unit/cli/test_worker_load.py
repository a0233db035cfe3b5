"""What a worker is given of its machine: its load, and files for the captures in flight."""

from __future__ import annotations

import subprocess
import sys

from shutterwheel.worker import WorkerLoads
from streams.agents.ports import Load
from streams.observability.load import LoadSampler

LIMITED = """
import resource
from shutterwheel.worker import _allow_sockets
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (100, hard))
_allow_sockets()
print(resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard))
"""


def test_the_load_is_what_was_sampled_last() -> None:
    """SPEC 2.3: the worker's own load; that of devices is not known without heartbeats."""
    sampler = LoadSampler(memory=lambda: 0.25)
    loads = WorkerLoads(sampler)
    assert loads.own() == Load(0.0, 0.0)
    sampler.sample()
    sampler.cpu = 0.5
    assert loads.own() == Load(0.5, 0.25)
    assert loads.of("cam-1") == Load()


def test_a_worker_may_open_as_many_files_as_the_machine_lets_it() -> None:
    """Issue 6: thousands of captures in flight are thousands of sockets."""
    done = subprocess.run([sys.executable, "-c", LIMITED], capture_output=True, check=True)
    assert done.stdout.strip() == b"True"
