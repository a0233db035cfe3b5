"""What every system is given: so many timers, due over a window that begins a while from now.

Timer i is due ``1 + (i * 2654435761 mod 2**32) * window_ms / 2**32`` milliseconds (rounded down)
after the start: spread evenly and in no order, and the same in every language (Knuth's
multiplicative hash). Each program inserts them one by one, waits for the start, and lets time run.

A program prints one line of JSON: its figures by name. What is measured:

``insert_ns``: time of a loop that inserts all, over their number.
``expire_ns``: CPU of the whole process from the start until the last expired, over their number.
``bytes_per_timer``: memory that holding them takes, the object that is called included; of Python
by ``tracemalloc`` in a pass of its own, of Java and Go the heap after a collection.
``worst_tick_ms``: the longest time from the moment at which timers could expire (the end of the
slot they share, or their own millisecond) until the last of them was handed out.
``early_ms_max``: the most that one was handed out before its time; 0 where none was.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

_GOLDEN = 2_654_435_761
_MASK32 = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Job:
    """One run."""

    timers: int
    window_ms: int
    lead_ms: int
    """From the beginning of the inserting to the start of the window."""
    give_up_ms: int
    """Inserting is given up after so long; only ``insert_ns`` and ``inserted`` are told then."""

    def text(self) -> str:
        """Return it as a program's argument."""
        return json.dumps(asdict(self))


def offsets_ms(timers: int, window_ms: int) -> list[int]:
    """Return when each timer is due, in milliseconds after the start."""
    return [1 + (((i * _GOLDEN) & _MASK32) * window_ms >> 32) for i in range(timers)]
