"""How many captures may be under way at once: the hot pool and the cold one (SPEC 2.5).

A worker of a pool is a **permit**: one attempt between its shutter and the end of its I/O. Permits
cost nothing while idle, so resizing is changing a number: it blocks nobody, and a pool that has
become smaller than what is in use lets those end. What a permit bounds is sockets and memory.

**Two pools, so that slow devices wait for slow devices.** The hot pool serves devices that answer,
the cold one those that are slow or fail (``answers.py`` says which). An attempt in the hot pool
that lasts longer than a device of that pool may is counted with the cold one from then on.

| Rule | When | Hot | Cold |
|---|---|---|---|
| formula | always | at least ``clamp(queue / 5 + 10, least, most)`` | the same |
| grow | more than 100 wait | doubles, up to ``most`` | the same, unless cut |
| prewarm | CPU ≥ 70 % | half as many again as are in use; never smaller | no change |
| cut | error rate > 5 % | no change | ``most`` becomes a quarter, until it is below 4 % |
| shrink | none of these | a sixteenth a step, not below 5/4 of what is in use | the same |

**What the formula alone holds.** By Little's law 4,000 captures a second of t seconds each need
4,000 t permits: 200 are enough for devices that answer in 50 ms. To hold more than its lower bound
the formula needs a queue to show for it: 400 permits (100 ms) stand for 1,950 captures waiting,
half a second late each. So its bounds are settings, the lower one is where a pool may begin without
any queue, and *grow* finds the size that leaves none (infra/adr/0016-calm-executor.md).

**Shedding** (:func:`hopeless`, :func:`room_for`): a capture that cannot have its turn before
``not_after`` by twice the estimate is given up at once; a line has a bound; and where the worker's
CPU is spent, so that more permits would help nobody, a line holds no more than is served within
``max_wait_ms``: the least important go, with a record, instead of all being late.

Cost: a resize is 1 microsecond, ten times a second.
"""

from __future__ import annotations

from typing import Final

import msgspec

GROW_QUEUE: Final = 100
"""A pool for which more than so many wait grows at once (SPEC 2.5)."""
PREWARM_CPU: Final = 0.70
"""From this share of CPU on the hot pool is made larger ahead of need (SPEC 2.5)."""
CUT_ERROR_RATE: Final = 0.05
"""Above this share of attempts that fail the cold pool is cut (SPEC 2.5)."""
MEND_ERROR_RATE: Final = 0.04
"""Below this share it is whole again; the gap keeps it from flapping."""
CUT_PART: Final = 4
"""A cut pool has this part of its upper bound."""
SPENT_CPU: Final = 0.95
"""From this share of CPU on the worker is overloaded: more permits would help nobody."""


class PoolPolicy(msgspec.Struct, frozen=True):
    """The bounds of a pool; the defaults are the formula of SPEC 2.5. Permits, 1 to 65,535."""

    least: int = 2
    most: int = 200
    base: int = 10
    """Permits without a queue."""
    queue_per_permit: int = 5

    def __post_init__(self) -> None:
        """Raise ValueError where a value is out of its bounds."""
        if not 1 <= self.least <= self.most <= 65_535:
            raise ValueError(
                f"least, most must be 1 to 65535 and ascend: {self.least}, {self.most}"
            )
        if self.base < 0 or self.queue_per_permit < 1:
            raise ValueError(f"base, queue_per_permit are {self.base}, {self.queue_per_permit}")


class Signals(msgspec.Struct, frozen=True, gc=False):
    """What a pool is sized by."""

    queue: int
    """Captures that wait for this pool."""
    in_use: int
    """Permits of this pool that are in use."""
    cpu: float = 0.0
    """The worker's share of CPU, 0 to 1."""
    error_rate: float = 0.0
    """Share of the worker's latest attempts that failed, 0 to 1."""


def workers(queue: int, policy: PoolPolicy) -> int:
    """Return what the formula gives: ``clamp(queue / 5 + 10, least, most)``."""
    wanted = queue // policy.queue_per_permit + policy.base
    return min(max(wanted, policy.least), policy.most)


def hot_size(size: int, signals: Signals, policy: PoolPolicy) -> int:
    """Return the next size of the hot pool, whose size is ``size`` now."""
    prewarm = signals.cpu >= PREWARM_CPU
    return _size(size, signals, policy, prewarm=prewarm)


def is_cut(signals: Signals, *, was_cut: bool) -> bool:
    """Say whether the cold pool is cut."""
    return signals.error_rate > (MEND_ERROR_RATE if was_cut else CUT_ERROR_RATE)


def cold_size(size: int, signals: Signals, policy: PoolPolicy, *, cut: bool) -> int:
    """Return the next size of the cold pool, whose size is ``size`` now."""
    if not cut:
        return _size(size, signals, policy)
    return min(_size(size, signals, policy), cut_bound(policy))


def cut_bound(policy: PoolPolicy) -> int:
    """Return the most permits of a pool that is cut."""
    return max(policy.most // CUT_PART, policy.least)


def _size(size: int, signals: Signals, policy: PoolPolicy, *, prewarm: bool = False) -> int:
    """Return the size by the rules that both pools share."""
    wanted = workers(signals.queue, policy)
    if signals.queue > GROW_QUEUE:
        wanted = max(wanted, size * 2)
    elif prewarm:
        wanted = max(wanted, size, signals.in_use * 3 // 2)
    elif size > wanted:
        smaller = max(signals.in_use * 5 // 4, size - max(size // 16, 1))
        wanted = max(wanted, min(size, smaller))
    return min(wanted, policy.most)


def wait_ms(ahead: int, size: int, hold_ms: float) -> int:
    """Return about how long a capture waits with ``ahead`` before it: each holds ``hold_ms``."""
    return int(ahead * hold_ms / max(size, 1))


def hopeless(now_ms: int, not_after_ms: int, expected_wait_ms: int) -> bool:
    """Say whether even half of the wait that is expected is too long.

    Half, because the estimate is one: pools grow, and devices come back.
    """
    return now_ms + expected_wait_ms // 2 > not_after_ms


def room_for(size: int, hold_ms: float, cpu: float, *, max_waiting: int, max_wait_ms: int) -> int:
    """Return how many may wait: ``max_waiting``, fewer where the worker's CPU is spent."""
    if cpu < SPENT_CPU:
        return max_waiting
    served = int(max_wait_ms * max(size, 1) / max(hold_ms, 1.0))
    return min(max_waiting, max(served, GROW_QUEUE))
