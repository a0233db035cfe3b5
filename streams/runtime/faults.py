"""Faults that a test asks for: the process kills or stops itself at a named step.

A fault is written ``[stop@]NAME[:PASS]``: at the PASS-th time (default: the first) that the step
NAME is reached the process gets SIGKILL, as by ``kill -9``, or with ``stop@`` SIGSTOP, as by a
machine that hangs. There are, in the order of a transaction's life::

    between-slices       a slice of a poll is worked on, the next one is not
    before-begin         a batch is to be sent
    mid-produce          batches are on their way to brokers, no answer is read
    before-send-offsets  everything is acknowledged, nothing is fenced yet
    before-commit        the offsets are sent
    after-commit         the broker has committed, the local state is not written yet
    mid-store            its rows are written, and its offsets are not

Settings of production name none; looking costs a look-up in an empty mapping.
"""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING

from schemas.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

STEPS = (
    "between-slices",
    "before-begin",
    "mid-produce",
    "before-send-offsets",
    "before-commit",
    "after-commit",
    "mid-store",
)
_STOP = "stop@"


class Faults:
    """The faults of one process; counts how often each step was reached."""

    def __init__(self, asked: Iterable[str]) -> None:
        self._signals: dict[str, signal.Signals] = {}
        self._left: dict[str, int] = {}
        for fault in asked:
            name, _, times = fault.removeprefix(_STOP).partition(":")
            if name not in STEPS or (times and not times.isdecimal()):
                raise UsageError(f"There is no fault {fault!r}; there are: {', '.join(STEPS)}.")
            stops = fault.startswith(_STOP)
            self._signals[name] = signal.SIGSTOP if stops else signal.SIGKILL
            self._left[name] = max(int(times or 1), 1)

    def at(self, name: str) -> None:
        """Strike if this step is one at which a test has asked for it, for the n-th time."""
        left = self._left.get(name)
        if left is None:
            return
        if left == 1:
            del self._left[name]
            # At this thread: a signal to the process is taken by the main thread, and until that
            # has a processor this one goes on beyond the step.
            signal.pthread_kill(threading.get_ident(), self._signals[name])
        else:
            self._left[name] = left - 1
