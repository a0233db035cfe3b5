"""Schedules: which are valid.

The kinds of schedule are a table, :data:`KINDS`: what of the policy is checked. The spec itself is
the business of ``recurrence``, what a device's scheduled times are that of ``times.py``.

``interval``: nominal times are ``phase_ms + n * every_ms`` for every whole n, in UTC milliseconds,
so a period of a day with phase 0 is midnight UTC and devices of one period share their times.
``once``: the one time ``at_ms``. A **scheduled** time is nominal plus the device's spread offset
(``spread.py``), which is always less than the spread window, and that is at most one period: the
scheduled times of a device are in the order of the nominal ones.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

from schemas.records import (
    CapturePolicy,
    CaptureRequested,
    ScheduleEvent,
    SchedulePaused,
    ScheduleSpec,
    ScheduleUpserted,
)
from streams.core.policy import check_choices
from streams.core.recurrence import check, compile_spec
from streams.core.recurrence.rule_text import LANGUAGE
from streams.core.recurrence.zones import PINNED
from streams.core.refusal import Refusal, check_range, show
from streams.core.times import Times

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from streams.core.recurrence import Place
    from streams.core.recurrence.zones import TzData

DAY_MS = 86_400_000
HOUR_MS = 3_600_000
MAX_ID_BYTES = 256
MIN_EVERY_MS = check.MIN_EVERY_MS
MAX_EVERY_MS = check.MAX_EVERY_MS
MAX_AHEAD = 100
"""The most commands of one schedule that its lead may hold ahead: they all stand in one row."""
MAX_LEAD_MS = HOUR_MS
MIN_TIMEOUT_MS = 100
MAX_TIMEOUT_MS = 60_000
MAX_CATCH_UP_MS = 7 * DAY_MS
MAX_SPREAD_ONCE_MS = HOUR_MS
MAX_PRIORITY = 9
MAX_REASON_BYTES = 1_000
HORIZON_MS = check.HORIZON_MS
REQUEST_PREFIX = "request/"
"""Begins the schedule id of a CaptureRequested that waits for its time."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def _check_id(name: str, value: str) -> Refusal | None:
    """Check a device, schedule or request id."""
    if len(value) <= MAX_ID_BYTES and value.isascii() and value.isprintable() and value.strip():
        return None  # as a rule
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        return Refusal(f"bad_{name}", f"{name} {show(value)} is not valid Unicode; correct it.")
    if size > MAX_ID_BYTES:
        return Refusal(
            f"bad_{name}",
            f"{name} {show(value)} has {size} bytes in UTF-8; at most {MAX_ID_BYTES} are allowed:"
            " shorten it.",
        )
    if not value.strip():
        return Refusal(f"bad_{name}", f"{name} {show(value)} is empty or blank; give a name.")
    if _CONTROL.search(value):
        return Refusal(f"bad_{name}", f"{name} {show(value)} holds a control character; remove it.")
    return None


def _check_reason(reason: str) -> Refusal | None:
    """Check the reason of a pause: it may be empty, but it is kept."""
    try:
        size = len(reason.encode())
    except UnicodeEncodeError:
        return Refusal("bad_reason", f"reason {show(reason)} is not valid Unicode; correct it.")
    if size > MAX_REASON_BYTES:
        return Refusal(
            "bad_reason",
            f"the reason has {size} bytes; at most {MAX_REASON_BYTES} are kept: shorten it.",
        )
    return None


def _check_policy(policy: CapturePolicy, spread_max_ms: int, spread_why: str) -> Refusal | None:
    """Check a policy; ``spread_max_ms`` depends on the kind of schedule."""
    return (
        check_range("lead_ms", policy.lead_ms, 0, MAX_LEAD_MS)
        or check_range(
            "capture_timeout_ms", policy.capture_timeout_ms, MIN_TIMEOUT_MS, MAX_TIMEOUT_MS
        )
        or (
            check_range("catch_up_ms", policy.catch_up_ms, 0, MAX_CATCH_UP_MS)
            if policy.catch_up_ms is not None
            else None
        )
        or check_range("spread_ms", policy.spread_ms, 0, spread_max_ms, spread_why)
        or check_range("priority", policy.priority, 0, MAX_PRIORITY)
        or check_choices(policy)
    )


def _check_interval(spec: ScheduleSpec, policy: CapturePolicy, _data: TzData) -> Refusal | None:
    every_ms = spec.every_ms
    assert every_ms is not None, "check_spec wants it"
    refusal = _check_policy(policy, every_ms, " (one period)")
    if refusal is None and policy.spread_ms + policy.jitter_ms > every_ms:
        return Refusal(
            "bad_jitter_ms",
            f"spread_ms {policy.spread_ms} and jitter_ms {policy.jitter_ms} together are longer"
            f" than every_ms {every_ms}, so times would change places; shorten one of them.",
        )
    if refusal is None and policy.lead_ms > MAX_AHEAD * every_ms:
        return Refusal(
            "bad_lead_ms",
            f"lead_ms {policy.lead_ms} with every_ms {every_ms} would hold more than {MAX_AHEAD}"
            f" captures ahead; choose a lead of at most {MAX_AHEAD * every_ms} ms.",
        )
    return refusal


def _check_once(_spec: ScheduleSpec, policy: CapturePolicy, _data: TzData) -> Refusal | None:
    return _check_policy(policy, MAX_SPREAD_ONCE_MS, "")


def _check_irregular(spec: ScheduleSpec, policy: CapturePolicy, data: TzData) -> Refusal | None:
    """Check what has no fixed period: a spread of one distance, and a lead that holds few ahead."""
    recurrence = compile_spec(spec, data=data)
    gap_ms = recurrence.typical_gap_ms
    refusal = (
        _check_policy(policy, MAX_SPREAD_ONCE_MS, "")
        if gap_ms is None or gap_ms >= MAX_SPREAD_ONCE_MS
        else _check_policy(policy, gap_ms, " (the usual distance of two times)")
    )
    crowd_ms = recurrence.crowd_ms(MAX_AHEAD)
    if refusal is None and crowd_ms is not None and policy.lead_ms > crowd_ms:
        return Refusal(
            "bad_lead_ms",
            f"lead_ms {policy.lead_ms} would hold more than {MAX_AHEAD} captures of this schedule"
            f" ahead; choose a lead of at most {crowd_ms} ms.",
        )
    return refusal


KINDS: Mapping[str, Callable[[ScheduleSpec, CapturePolicy, TzData], Refusal | None]] = {
    "interval": _check_interval,
    "once": _check_once,
    "cron": _check_irregular,
    "calendar": _check_irregular,
    "sun": _check_irregular,
}
"""What of the policy is checked, by the kind of schedule; the spec itself is ``check_spec``'s."""


def validate_device_id(device_id: str) -> Refusal | None:
    """Return why no device can have this id, wherever the id stands; None: one can."""
    return _check_id("device_id", device_id)


def validate(
    event: ScheduleEvent, data: TzData = PINNED, language: int = LANGUAGE
) -> Refusal | None:
    """Return why an event cannot be taken whatever the state and time; null if it can.

    By a version of the tz data, and by the language of a version of the fold's rules.
    What needs the time (``past``, ``too_far``) or the state (``unknown_schedule``) is the fold's.
    """
    refusal = _check_id("device_id", event.device_id) or _check_id("request_id", event.request_id)
    if refusal is not None:
        return refusal
    if isinstance(event, CaptureRequested):
        at = None if event.at_ms is None else check.check_at(event.at_ms)
        return at or _check_policy(event.policy, MAX_SPREAD_ONCE_MS, "")
    refusal = _check_id("schedule_id", event.schedule_id)
    if refusal is not None:
        return refusal
    if event.schedule_id.startswith(REQUEST_PREFIX):
        return Refusal(
            "bad_schedule_id",
            f"schedule_id {show(event.schedule_id)} begins with {REQUEST_PREFIX!r}, which is kept"
            " for requests; choose another name.",
        )
    if isinstance(event, ScheduleUpserted):
        return validate_schedule(event.spec, event.policy, data, language)
    if isinstance(event, SchedulePaused):
        return _check_reason(event.reason)
    return None


@lru_cache(maxsize=256)
def validate_schedule(
    spec: ScheduleSpec, policy: CapturePolicy, data: TzData = PINNED, language: int = LANGUAGE
) -> Refusal | None:
    """Return why a schedule with this spec and policy cannot be; null if it can."""
    refusal = check.check_spec(spec, data, language)
    if refusal is not None:
        return refusal
    return (_check_irregular if spec.also else KINDS[spec.kind])(spec, policy, data)


def first_scheduled_at_or_after(
    spec: ScheduleSpec,
    policy: CapturePolicy,
    device_id: str,
    time_ms: int,
    place: Place | None = None,
) -> int | None:
    """Return a device's first scheduled time at or after ``time_ms``; null if there is none.

    For those who show schedules: the end after a count is that of a row, see ``times.Times``.
    """
    return Times(compile_spec(spec, place), policy, device_id).at_or_after(time_ms)
