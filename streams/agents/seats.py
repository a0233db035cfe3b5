"""A permit in use, and a pool of them; who gets one is decided in ``admission.py``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streams.core import pools
from streams.core.priority import Line

if TYPE_CHECKING:
    import asyncio

    from streams.agents.capture_search import Timed


class Seat:
    """The permission for one attempt, from its shutter to its end."""

    __slots__ = ("began_ms", "device_id", "host", "overdue", "pool", "task", "until_ms")

    def __init__(self, device_id: str, host: str, pool: Pool, began_ms: int, until_ms: int) -> None:
        self.device_id = device_id
        self.host = host
        self.pool = pool
        self.began_ms = began_ms
        self.until_ms = until_ms
        self.task: asyncio.Task[None] | None = None
        self.overdue = False
        """It was cancelled because its adapter did not end by its deadline."""


class Pool:
    """One pool: its permits and those who wait for one."""

    __slots__ = ("hold_ms", "in_use", "line", "name", "policy", "size")

    def __init__(self, name: str, policy: pools.PoolPolicy, hold_ms: float) -> None:
        self.name = name
        self.policy = policy
        self.size = pools.workers(0, policy)
        self.in_use = 0
        self.line: Line[Timed] = Line()
        self.hold_ms = hold_ms

    def signals(self, cpu: float, error_rate: float) -> pools.Signals:
        """Return what it is sized by."""
        return pools.Signals(len(self.line), self.in_use, cpu, error_rate)
