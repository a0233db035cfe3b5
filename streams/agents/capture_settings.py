"""The settings of the capture executor."""

from __future__ import annotations

from dataclasses import dataclass

from streams.core import capture
from streams.core.retry import DEFAULT_POLICY, RetryPolicy


@dataclass(frozen=True, slots=True)
class ExecutorSettings:
    """How captures are armed and tried."""

    arm_ms: int = 600
    """How long before its shutter a capture is armed: three commit intervals and a commit."""
    cover_ms: int = 1_000
    """How far ahead captures are armed as a rebalance begins: longer than its pause. At least
    ``arm_ms``."""
    max_in_flight: int = 1_000
    """Most shutters open at once; bounds sockets and memory. Those beyond wait their turn."""
    limits: capture.Limits = capture.DEFAULT_LIMITS
    """What bounds a device's row."""
    retry: RetryPolicy = DEFAULT_POLICY
    """How often a failed attempt is repeated."""
    recover_at_once: int = 64
    """Most look-ups in the blob store at a time while recovering."""
