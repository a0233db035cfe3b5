"""What a worker is given of its machine: files for the captures in flight."""

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
