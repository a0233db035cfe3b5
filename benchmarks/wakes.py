"""How late a process wakes on this machine that does nothing but sleep: the floor of any lateness.

A thread of the benchmark, which is idle within the window, sleeps ``SLEEP_S`` over and over. It
waits for a core as a shutter does, behind whatever else is running, and for the host where the
machine is a virtual one; it takes 0.005 of a core.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Final, Self

from shutterwheel.check import spread

if TYPE_CHECKING:
    from types import TracebackType

    from shutterwheel.check import Spread

SLEEP_S: Final = 0.005


class Wakes:
    """Measures from ``with`` to its end."""

    def __init__(self) -> None:
        self._late_us: list[int] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="wakes", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.is_set():
            due_s = time.monotonic() + SLEEP_S
            time.sleep(SLEEP_S)
            self._late_us.append(round((time.monotonic() - due_s) * 1e6))

    def late_ms(self) -> Spread | None:
        """Return how late it woke, in milliseconds; None before it has."""
        return spread(self._late_us, 1e-3)
