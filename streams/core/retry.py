"""When a failed attempt may be followed by another one (SPEC 1.6, 3.2).

The wait grows as ``2**n * 100 ms``, where n is the number of retries made before this one: 100,
200 and 400 ms after the first, second and third failed attempt. It carries no jitter: fleets are
spread by ``spread_ms`` already, and the same failure must be followed by the same decision in a
replay. Arithmetic on four integers; about half a microsecond.

How many retries a device is worth is told by its history of success (``answers.py``), which the
executor knows: :func:`weighted` lowers the policy by it and says so, and the sentence stands in the
record. So what is written follows from what was handed in, whatever a worker remembers.
"""

from __future__ import annotations

import msgspec

from streams.core import answers

BASE_MS = 100
MAX_RETRIES = 3


class RetryPolicy(msgspec.Struct, frozen=True):
    """How often, and with how much time left, an attempt is repeated."""

    retries: int = MAX_RETRIES
    """Attempts after the first; 0 to 3 (SPEC 3.2). A caller that knows the device's health lowers
    it for a device that rarely answers."""
    reserve_ms: int = 100
    """What must be left between the retry's earliest shutter and ``not_after_ms``; 0 to 60,000.
    One commit interval: RUNNING must be committed before the shutter may open."""
    because: str = ""
    """Why there are fewer retries than could be, for the record; empty: there are not."""

    def __post_init__(self) -> None:
        """Raise ValueError where a value is out of its bounds."""
        if not 0 <= self.retries <= MAX_RETRIES:
            raise ValueError(f"retries is {self.retries}; it must be 0 to {MAX_RETRIES}")
        if not 0 <= self.reserve_ms <= 60_000:
            raise ValueError(f"reserve_ms is {self.reserve_ms}; it must be 0 to 60000")


DEFAULT_POLICY = RetryPolicy()


def weighted(policy: RetryPolicy, history: answers.Answers, attempt: int) -> RetryPolicy:
    """Return the policy for a device whose ``attempt``-th attempt at a capture just failed."""
    retries = answers.retries(history, attempt)
    if retries >= policy.retries:
        return policy
    photos = answers.photos_before(history, attempt)
    because = f"{photos} of its {answers.WEIGHED} attempts before gave a photo"
    return RetryPolicy(retries, policy.reserve_ms, because)


def backoff_ms(attempt: int) -> int:
    """Return how long to wait after attempt number ``attempt`` (1, 2, …) failed: 100, 200, 400 ms.

    An attempt beyond the last that is ever retried waits as long as that one.
    """
    return BASE_MS << min(max(attempt - 1, 0), MAX_RETRIES - 1)


def obstacle(
    attempt: int,
    now_ms: int,
    not_after_ms: int,
    *,
    retryable: bool = True,
    policy: RetryPolicy = DEFAULT_POLICY,
) -> str:
    """Return why attempt ``attempt``, failed at ``now_ms``, is the last one; "": a retry fits."""
    if not retryable:
        return "a retry cannot help"
    if attempt > policy.retries:
        because = f": {policy.because}" if policy.because else ""
        return f"attempt {attempt} of {policy.retries + 1}{because}"
    if now_ms + backoff_ms(attempt) + policy.reserve_ms > not_after_ms:
        return "no retry fits before not_after"
    return ""
