"""The scheduled times of one device: the nominal times of a recurrence, each moved by its shift.

``streams/core/recurrence`` says when a spec is due, for whomever; here is what a device adds:

* **spread**, the same for all its times (``spread.py``), and **jitter**, another one for each
  nominal time, both within their windows: scheduled = nominal + spread + jitter;
* **order**: a shift never reaches the next nominal time. Where the gap is shorter than the shift (a
  cron line with gaps of 5 minutes and 16 hours, spread over an hour) the shift is cut to one
  millisecond before it. So scheduled times are in the order of the nominal ones, each belongs to
  the last nominal time at or before it, and finding either from the other is two look-ups;
* the **end** that a maximum count has set (``ScheduleState.ends_at_ms``).

Example: nominal 12:00 and 12:05, spread 40 s, jitter 0 to 10 s: scheduled 12:00:43.1, 12:05:48.7.
Asked for the first at or after 12:00:44: the last nominal time by then is 12:00, scheduled before
it, so the answer is that of the next nominal time.

Cost: a plain interval without jitter is arithmetic on four integers. All else is one to three
look-ups in a recurrence, which evaluates each occurrence once and shares it among devices.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import islice
from typing import TYPE_CHECKING

from streams.core.misfire import NO_PERIOD_WINDOW_MS
from streams.core.spread import jitter_ms, offset_ms

if TYPE_CHECKING:
    from schemas.records import CapturePolicy, ScheduleSpec, ScheduleState
    from streams.core.recurrence import Recurrence

COUNT_MAX = 10_000
"""Times of a range are counted up to here; those of a period to the last one."""


def is_once(spec: ScheduleSpec) -> bool:
    """Say whether the spec is one single time."""
    return spec.kind == "once" and not spec.also


def is_plain(recurrence: Recurrence, policy: CapturePolicy) -> bool:
    """Say whether all scheduled times are as far apart as one period, without an end."""
    return recurrence.period_ms is not None and not policy.jitter_ms


def catch_up_window_ms(policy: CapturePolicy, gap_ms: int | None) -> int:
    """Return how old a late time may be to be issued still.

    The policy's window; by default the recurrence's typical gap, 60 s where it has none; never
    beyond the deadline.
    """
    window_ms = policy.catch_up_ms
    if window_ms is None:
        window_ms = gap_ms or NO_PERIOD_WINDOW_MS
    return window_ms if policy.deadline_ms is None else min(window_ms, policy.deadline_ms)


def not_after_ms(
    scheduled_ms: int, moved_ms: int, gap_ms: int | None, policy: CapturePolicy
) -> int:
    """Return until when the photo of a scheduled time is wanted.

    The catch-up window after the time, as moved; by default one typical gap but never less than
    one attempt takes, or 60 s; never beyond the deadline after the time before it was moved.
    """
    if policy.catch_up_ms is not None:
        window_ms = policy.catch_up_ms
    elif gap_ms is None:
        window_ms = NO_PERIOD_WINDOW_MS
    else:
        window_ms = max(gap_ms, policy.capture_timeout_ms)
    end_ms = scheduled_ms + moved_ms + window_ms
    if policy.deadline_ms is None:
        return end_ms
    return min(end_ms, scheduled_ms + policy.deadline_ms)


class Times:
    """The scheduled times of a row, in UTC milliseconds."""

    __slots__ = ("_device_id", "_ends_ms", "_jitter_ms", "_offset_ms", "_recurrence")

    def __init__(
        self,
        recurrence: Recurrence,
        policy: CapturePolicy,
        device_id: str,
        ends_at_ms: int | None = None,
    ) -> None:
        self._recurrence = recurrence
        self._device_id = device_id
        self._offset_ms = offset_ms(device_id, policy.spread_ms)
        self._jitter_ms = policy.jitter_ms
        self._ends_ms = ends_at_ms

    @classmethod
    def of(cls, recurrence: Recurrence, row: ScheduleState) -> Times:
        """Return the times of a row."""
        return cls(recurrence, row.policy, row.device_id, row.ends_at_ms)

    def scheduled(self, nominal_ms: int) -> int:
        """Return the scheduled time of a nominal one."""
        shift_ms = self._offset_ms
        if self._jitter_ms:
            shift_ms += jitter_ms(self._device_id, nominal_ms, self._jitter_ms)
        if shift_ms and self._recurrence.period_ms is None:  # a period is long enough: validate
            next_ms = self._recurrence.at_or_after(nominal_ms + 1)
            if next_ms is not None and nominal_ms + shift_ms >= next_ms:
                return next_ms - 1
        return nominal_ms + shift_ms

    def nominal(self, scheduled_ms: int) -> int:
        """Return the nominal time of a scheduled one."""
        nominal_ms = self._recurrence.before(scheduled_ms + 1)
        if nominal_ms is None:
            raise AssertionError(f"{scheduled_ms} ms is no scheduled time of {self._device_id!r}")
        return nominal_ms

    def of_nominal(self, nominal_ms: int) -> int | None:
        """Return the scheduled time of a nominal time, if this is one."""
        if self._recurrence.at_or_after(nominal_ms) != nominal_ms:
            return None
        return self.scheduled(nominal_ms)

    def at_or_after(self, time_ms: int) -> int | None:
        """Return the first scheduled time at or after another; null: there is none."""
        find = self._recurrence
        if not self._offset_ms and not self._jitter_ms:
            found = find.at_or_after(time_ms)
        else:
            nominal_ms = find.before(time_ms + 1)
            found = None if nominal_ms is None else self.scheduled(nominal_ms)
            if found is None or found < time_ms:
                nominal_ms = find.at_or_after(time_ms + 1)
                found = None if nominal_ms is None else self.scheduled(nominal_ms)
        if found is not None and self._ends_ms is not None and found >= self._ends_ms:
            return None
        return found

    def before(self, time_ms: int) -> int | None:
        """Return the last scheduled time strictly before another; null: there is none."""
        if self._ends_ms is not None and time_ms > self._ends_ms:
            time_ms = self._ends_ms
        nominal_ms = self._recurrence.before(time_ms)
        if nominal_ms is None:
            return None
        found = self.scheduled(nominal_ms)
        if found < time_ms:
            return found
        nominal_ms = self._recurrence.before(nominal_ms)
        return None if nominal_ms is None else self.scheduled(nominal_ms)

    def count(self, first_ms: int, last_ms: int) -> int:
        """Count from one scheduled time to another, both included; at most ``COUNT_MAX``.

        A recurrence with a period counts on, as it costs nothing.
        """
        if first_ms == last_ms:
            return 1
        return _count(self._recurrence, self.nominal(first_ms), self.nominal(last_ms))

    def end_after_count(self, starts_at_ms: int) -> int | None:
        """Return the end that the spec's ``max_count`` sets to an epoch with this start.

        Null: it has no count, or fewer times than that anyhow.
        """
        if self._recurrence.spec.max_count is None:
            return None
        first_ms = self.at_or_after(starts_at_ms)
        if first_ms is None:
            return None
        last_ms = self._recurrence.last_ms(self.nominal(first_ms))
        return None if last_ms is None else self.scheduled(last_ms) + 1


# What many devices ask of one recurrence at one moment is worked out once.


@lru_cache(maxsize=4_096)
def _count(recurrence: Recurrence, first_ms: int, last_ms: int) -> int:
    if recurrence.period_ms is not None:
        return (last_ms - first_ms) // recurrence.period_ms + 1
    return sum(1 for _ in islice(recurrence.between(first_ms, last_ms + 1), COUNT_MAX))


def first_scheduled(recurrence: Recurrence, row: ScheduleState, time_ms: int) -> int | None:
    """Return a row's first scheduled time at or after another; null: there is none."""
    period_ms, policy = recurrence.period_ms, row.policy
    if period_ms is not None and not policy.jitter_ms:
        wait_ms = offset_ms(row.device_id, policy.spread_ms) + row.spec.phase_ms - time_ms
        return time_ms + wait_ms % period_ms
    return Times.of(recurrence, row).at_or_after(time_ms)
