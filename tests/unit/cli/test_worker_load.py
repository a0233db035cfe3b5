"""What a worker is given of its machine: files for the captures in flight, and whose turn it is."""

from __future__ import annotations

import subprocess
import sys

LIMITED = """
import resource
from shutterwheel.worker import _allow_sockets
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (100, hard))
_allow_sockets()
print(resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard))
"""


def test_a_worker_may_open_as_many_files_as_the_machine_lets_it() -> None:
    """Issue 6: thousands of captures in flight are thousands of sockets."""
    done = subprocess.run([sys.executable, "-c", LIMITED], capture_output=True, check=True)
    assert done.stdout.strip() == b"True"


YIELDING = """
import os
from pathlib import Path
from shutterwheel.worker import YIELD_NICE, _yield_cpu
before, group = os.nice(0), Path("/proc/self/autogroup")
_yield_cpu()
said = group.read_text().split()[-1] if group.exists() else str(YIELD_NICE)
print(os.nice(0) == min(before + YIELD_NICE, 19), said == str(YIELD_NICE))
"""


def test_a_worker_without_shutters_yields_to_those_that_have_some() -> None:
    """Issue 5: what the wheel takes hides in the lead; its session yields, too (sched(7))."""
    done = subprocess.run(
        [sys.executable, "-c", YIELDING], capture_output=True, check=True, start_new_session=True
    )
    assert done.stdout.split() == [b"True", b"True"], done.stderr
