"""The settings of the capture executor."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from streams.core import breaker, capture
from streams.core.pools import PoolPolicy
from streams.core.retry import DEFAULT_POLICY, RetryPolicy

if TYPE_CHECKING:
    from streams.runtime.settings import RuntimeSettings

SLICE_RECORDS = 12
"""Commands taken in at once: shutters wait for no more than half a millisecond of it."""
COMMIT_INTERVAL_MS = 150
"""A commit takes the interpreter and the broker from shutters, whatever is in it; ``arm_ms`` has
room for three of these."""
ARM_MS = 600
"""The default of ``ExecutorSettings.arm_ms``."""
TOPICS_A_COMMIT = 2
"""Topics that a commit touches in each of its partitions: the table's changelog and results."""
FETCH_BYTES = 512 * 1024
"""Most bytes of commands fetched of a partition at once, a second's work or less: so much is a
partition ahead of another one while a backlog is worked off."""


def suited(runtime: RuntimeSettings) -> RuntimeSettings:
    """Return a worker's settings as this app wants them: nothing that shutters wait for is long."""
    return replace(
        runtime,
        slice_records=SLICE_RECORDS,
        commit_interval_ms=COMMIT_INTERVAL_MS,
        max_partition_fetch_bytes=FETCH_BYTES,
    )


def for_partitions(
    executor: ExecutorSettings, runtime: RuntimeSettings, partitions: int
) -> ExecutorSettings:
    """Return settings that arm in time where commits of so many partitions gather for longer.

    What is armed as a commit begins waits for the next one: a gathering and its half, as it takes.
    """
    gather_ms = 1.5 * runtime.gather_ms(TOPICS_A_COMMIT * partitions)
    longer = max(1.0, (gather_ms + runtime.commit_interval_ms) / ARM_MS)
    return replace(
        executor,
        arm_ms=round(executor.arm_ms * longer),
        cover_ms=round(executor.cover_ms * longer),
    )


@dataclass(frozen=True, slots=True)
class AdmissionSettings:
    """Who may open a shutter, and who waits for whom."""

    hot: PoolPolicy = field(default_factory=lambda: PoolPolicy(least=1_000, most=4_096))
    """Permits for devices that answer well. 1,000 before anybody waits hold 4,000 captures/s of
    250 ms each; a permit that is idle costs nothing."""
    cold: PoolPolicy = field(default_factory=PoolPolicy)
    """Permits for devices that are slow or fail: the formula of SPEC 2.5, 2 to 200. 200 hold 100
    captures/s of 2 s each. Raise ``most`` where all cameras take over ``slow_ms``."""
    hot_share: float = 0.25
    """Share of ``max_in_flight`` that slow attempts, and those of devices which have not given a
    photo lately, cannot take; 0 to 1."""
    slow_ms: int = 1_000
    """An attempt that takes longer is slow, and is counted with the cold pool from then on."""
    per_host: int = 8
    """Most requests at a time to one host: the channels of a recorder share its few sessions.
    Hosts are told by ``Photos.host``."""
    max_waiting: int = 10_000
    """Most captures that wait for a pool; about 300 bytes each."""
    max_wait_ms: int = 5_000
    """Where the worker's CPU is spent, no more may wait than are served in this time."""
    max_troubled: int = 100_000
    """Devices whose failures are remembered, the latest; about 400 bytes each. Those that answer
    are not among them. Kept in memory only: a worker that starts again knows of none, but for the
    captures in a row that FAILED, which stand in the device's row."""
    breaker: breaker.BreakerPolicy = breaker.DEFAULT_POLICY
    """When a device is left alone, and for how long."""
    prepare_at_once: int = 256
    """Most devices made ready at a time in the lead; those beyond are not."""

    def __post_init__(self) -> None:
        for name in ("slow_ms", "per_host", "max_waiting", "max_wait_ms", "max_troubled"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1")
        if not 0.0 <= self.hot_share <= 1.0 or self.prepare_at_once < 0:
            raise ValueError("hot_share must be 0 to 1, and prepare_at_once not negative")


@dataclass(frozen=True, slots=True)
class ExecutorSettings:
    """How captures are armed and tried."""

    arm_ms: int = ARM_MS
    """How long before its shutter a capture is armed: three commit intervals and a commit."""
    cover_ms: int = 1_000
    """How far ahead captures are armed as a rebalance begins: longer than its pause. At least
    ``arm_ms``."""
    gather_ms: int = 20
    """How long a capture that ended waits for others, to be written in one step with them."""
    max_in_flight: int = 4_096
    """Most shutters open at once; bounds sockets and memory (18 kB each, a picture not counted).
    Those beyond wait their turn."""
    limits: capture.Limits = capture.DEFAULT_LIMITS
    """What bounds a device's row."""
    retry: RetryPolicy = DEFAULT_POLICY
    """How often a failed attempt is repeated."""
    recover_at_once: int = 64
    """Most look-ups in the blob store at a time while recovering."""
    admission: AdmissionSettings = field(default_factory=AdmissionSettings)
    """Pools, breakers, and who waits."""
