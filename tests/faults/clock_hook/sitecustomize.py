"""Shifts the wall clock of single workers, for ``tests/faults/test_fault_clock.py`` only.

Python imports this module at its start where the folder is on ``PYTHONPATH``. The folder named by
``SHUTTERWHEEL_TEST_CLOCKS`` holds a file ``APP-SLOT`` for each worker whose clock is wrong: the
seconds to add to ``time.time``. Monotonic clocks are left alone, as by a real jump. The comparison
with wall time is made each second, so that a test need not wait half a minute for it.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

folder = os.environ.get("SHUTTERWHEEL_TEST_CLOCKS", "")
words = sys.orig_argv
if folder and "worker" in words and "--slot" in words:
    app, slot = words[words.index("worker") + 1], words[words.index("--slot") + 1]
    shift = Path(folder) / f"{app}-{slot}"
    right_time = time.time

    def shifted_time() -> float:
        clock = sys.modules.get("streams.runtime.clock")
        if clock is not None:
            clock.COMPARE_EVERY_S = 1.0  # type: ignore[attr-defined]
        try:
            return right_time() + float(shift.read_text())
        except OSError:
            return right_time()

    time.time = shifted_time
