"""When a schedule that many devices share is due first on each: for building a wheel of a million.

Only for the plain case, which is the common one: an interval, and a policy without jitter.
With t the time to start from, p the period, f the phase and o a device's offset, the first nominal
time at or after t - o is t - o + (f - t + o) mod p, so the first scheduled one is

    t + (f - t + o) mod p

Whatever else a spec holds, now or in a release to come, makes it not plain, and the devices are
asked one by one (``times.first_scheduled``). Of a policy only spread and jitter move times.

Worked example: every 10 s, t = 12 s, an offset of 3 s: 12 + (0 - 12 + 3) mod 10 = 13 s, nominal
10 s. Cost: 0.6 us a device, against 2 us one by one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from schemas.records import ScheduleSpec
from streams.core.spread import offsets_ms

if TYPE_CHECKING:
    from collections.abc import Iterable

    from schemas.records import CapturePolicy


def first_times(
    spec: ScheduleSpec, policy: CapturePolicy, device_ids: Iterable[bytes], time_ms: int
) -> list[int] | None:
    """Return each device's first scheduled time at or after ``time_ms``; null if it is not plain.

    ``device_ids`` are UTF-8.
    """
    every_ms, phase_ms = spec.every_ms, spec.phase_ms
    plain = spec == ScheduleSpec("interval", every_ms, phase_ms) and not policy.jitter_ms
    if not plain or not every_ms:
        return None
    from_ms = phase_ms - time_ms
    return [
        time_ms + (from_ms + offset) % every_ms
        for offset in offsets_ms(device_ids, policy.spread_ms)
    ]
