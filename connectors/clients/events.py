"""Makes the records that upstream publishes, from what a caller writes.

The only maker, besides manifests, of schedule events and device profiles. Nothing is sent here.
"""

from __future__ import annotations

import difflib
import time
import uuid
from typing import TYPE_CHECKING, Final, TypedDict, Unpack

from connectors.clients.values import Duration, Moment, duration_ms, moment_ms
from schemas.errors import UsageError
from schemas.records import (
    CapturePolicy,
    CaptureRequested,
    DeviceProfile,
    ScheduleCancelled,
    SchedulePaused,
    ScheduleResumed,
    ScheduleSpec,
    ScheduleUpserted,
)
from streams.core.schedule import validate

if TYPE_CHECKING:
    from collections.abc import Mapping

    from schemas.records import ScheduleEvent

PROTOCOLS: Final = ("http-snapshot", "http-json", "onvif", "rtsp", "auto", "null-camera")
"""What a profile's protocol may be; a test holds it to the adapters there are."""
DEFAULT_PROTOCOL: Final = "http-snapshot"


class PolicyOptions(TypedDict, total=False):
    """How captures are made; each may be left out. See :class:`schemas.records.CapturePolicy`."""

    lead: Duration
    """How long before its time a command is issued; default 5 s."""
    catch_up: Duration
    """How late a photo is still wanted; default one period, or 60 s where there is none."""
    timeout: Duration
    """From the shutter over all I/O of one attempt; default 3 s."""
    spread: Duration
    """Window over which devices of one nominal time are spread; default none."""
    jitter: Duration
    """Window of an offset that differs from time to time; default none."""
    tolerance: Duration
    """How far a crowded time may be moved forward; default not at all."""
    deadline: Duration
    """How long after its time no photo is wanted any more, whatever the catch-up window."""
    priority: int
    """0 to 9; default 0."""
    misfire: str
    """Which late times are made up for: skip, latest, earliest or all; default latest."""
    overlap: str
    """When the last photo is not done yet: skip, buffer_one or allow; default allow."""
    pause_after_failures: int
    """Pause after so many failures of the device in a row; default 0: never."""
    quality: str
    """What becomes of a bad photo: off, mark, drop or retry; default off, it is not looked at."""
    keep: Duration
    """How long after its time a photo is kept; default for ever."""
    image: str
    """What is done with a photo's bytes, such as ``label width=1280``; default nothing."""


class ScheduleOptions(PolicyOptions, total=False):
    """When a schedule is due: one of the first five, narrowed down by the others; and how."""

    every: Duration
    """So often: phase + n * every since 1970, UTC."""
    at: Moment
    """At one time."""
    cron: str
    """A cron line of five fields, or six with the seconds first."""
    rrule: str
    """A rule of RFC 5545; it begins with its DTSTART, else with ``start``."""
    sun: str
    """An event of the sun at the device's place, such as ``sunrise+30m``."""
    phase: Duration
    """Moves the times of ``every``."""
    zone: str
    """IANA name of the time zone of ``cron`` and ``rrule``; default UTC."""
    daylight: str
    """Only within this window of the sun, such as ``sunrise-30m..sunset``."""
    start: Moment
    """No time before it."""
    until: Moment
    """No time at or after it."""
    count: int
    """Ends after so many times."""


def policy_of(options: PolicyOptions) -> CapturePolicy:
    """Return the policy; UsageError for an option that is no duration."""
    plain = CapturePolicy()
    return CapturePolicy(
        lead_ms=_option(options, "lead", plain.lead_ms),
        catch_up_ms=_perhaps(options, "catch_up"),
        capture_timeout_ms=_option(options, "timeout", plain.capture_timeout_ms),
        spread_ms=_option(options, "spread", plain.spread_ms),
        priority=options.get("priority", plain.priority),
        misfire=options.get("misfire", plain.misfire),
        overlap=options.get("overlap", plain.overlap),
        jitter_ms=_option(options, "jitter", plain.jitter_ms),
        tolerance_ms=_option(options, "tolerance", plain.tolerance_ms),
        deadline_ms=_perhaps(options, "deadline"),
        pause_after_failures=options.get("pause_after_failures", plain.pause_after_failures),
        quality=options.get("quality", plain.quality),
        keep_ms=_option(options, "keep", plain.keep_ms),
        image=_image(options.get("image", plain.image)),
    )


def _image(words: str) -> str:
    """Return the words of ``image``; UsageError for one that is not known."""
    from connectors.images.request import parse

    parse(words)
    return words


def _perhaps(options: Mapping[str, object], name: str) -> int | None:
    value = options.get(name)
    return None if value is None else duration_ms(value, name)  # type: ignore[arg-type]


def _option(options: Mapping[str, object], name: str, default_ms: int) -> int:
    value = _perhaps(options, name)
    return default_ms if value is None else value


def _check_names(options: Mapping[str, object], known: type) -> None:
    """Raise UsageError for an option that there is not: it would silently do nothing."""
    names = known.__annotations__
    for name in options:
        if name not in names:
            near = difflib.get_close_matches(name, names, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(names)}."
            raise UsageError(f"There is no option {name!r}; {hint}")


KINDS: Final = {
    "every": "interval",
    "at": "once",
    "cron": "cron",
    "rrule": "calendar",
    "sun": "sun",
}
"""What each source of times is called in a record."""


def spec_of(options: ScheduleOptions) -> ScheduleSpec:
    """Return when a schedule is due; UsageError unless it has one source of times."""
    given = [name for name in KINDS if options.get(name) is not None]
    if len(given) != 1:
        found = f", not {' and '.join(given)}" if given else ""
        raise UsageError(
            "A schedule is due every so often, at one time, or by a rule: give one of 'every', "
            f"'at', 'cron', 'rrule' and 'sun'{found}."
        )
    (name,) = given
    every = _perhaps(options, "every")
    at, start, until = options.get("at"), options.get("start"), options.get("until")
    return ScheduleSpec(
        KINDS[name],
        every_ms=every,
        phase_ms=_option(options, "phase", 0) if name == "every" else 0,
        at_ms=None if at is None else moment_ms(at, "at"),
        expression=options.get("cron") or options.get("rrule") or options.get("sun") or "",
        zone=options.get("zone", ""),
        from_ms=None if start is None else moment_ms(start, "start"),
        until_ms=None if until is None else moment_ms(until, "until"),
        max_count=options.get("count"),
        daylight=options.get("daylight", ""),
    )


def upserted(
    device_id: str,
    schedule_id: str,
    *,
    request_id: str | None = None,
    **options: Unpack[ScheduleOptions],
) -> ScheduleUpserted:
    """Return the event 'this schedule is to be so, from now on'; UsageError for a wrong option."""
    _check_names(options, ScheduleOptions)
    return ScheduleUpserted(
        request_id or new_request_id(),
        device_id,
        schedule_id,
        spec_of(options),
        policy_of(options),
        now_ms(),
    )


def cancelled(
    device_id: str, schedule_id: str, *, request_id: str | None = None
) -> ScheduleCancelled:
    """Return the event 'this schedule is to be gone'."""
    return ScheduleCancelled(request_id or new_request_id(), device_id, schedule_id, now_ms())


def paused(
    device_id: str, schedule_id: str, reason: str = "", *, request_id: str | None = None
) -> SchedulePaused:
    """Return the event 'this schedule is to rest until it is resumed'."""
    return SchedulePaused(request_id or new_request_id(), device_id, schedule_id, reason, now_ms())


def resumed(device_id: str, schedule_id: str, *, request_id: str | None = None) -> ScheduleResumed:
    """Return the event 'this schedule is to go on'."""
    return ScheduleResumed(request_id or new_request_id(), device_id, schedule_id, now_ms())


def requested(
    device_id: str,
    at: Moment | None = None,
    *,
    request_id: str | None = None,
    **policy: Unpack[PolicyOptions],
) -> CaptureRequested:
    """Return the event 'one photo of this device', at a time or as soon as can be."""
    _check_names(policy, PolicyOptions)
    at_ms = None if at is None else moment_ms(at, "at")
    return CaptureRequested(
        request_id or new_request_id(), device_id, at_ms, policy_of(policy), now_ms()
    )


def profile(
    device_id: str,
    address: str,
    *,
    protocol: str = DEFAULT_PROTOCOL,
    model: str = "",
    site: str = "",
    labels: Mapping[str, str] | None = None,
    credentials: str = "",
    latitude: float | None = None,
    longitude: float | None = None,
) -> DeviceProfile:
    """Return a device's profile; ``credentials`` names where they are: ``env:NAME``.

    ``latitude`` (degrees north) and ``longitude`` (degrees east) are where schedules that follow
    the sun take it from.
    """
    return DeviceProfile(
        device_id,
        address,
        protocol,
        model=model,
        site=site,
        labels=dict(labels or {}),
        credentials_ref=credentials,
        updated_at_ms=now_ms(),
        latitude=latitude,
        longitude=longitude,
    )


def check_event(event: ScheduleEvent) -> None:
    """Raise UsageError, with the sentence the timing wheel would answer, for a bad event."""
    refusal = validate(event)
    if refusal is not None:
        raise UsageError(refusal.reason)


def check_profile(found: DeviceProfile) -> None:
    """Raise UsageError for a profile that no worker can use, whatever its settings.

    Which networks may be contacted is a setting of the workers: it is not asked here.
    """
    from connectors.cameras.credentials import KINDS
    from connectors.cameras.policy import AddressPolicy, schemes_of
    from schemas.errors import CameraError

    check_event(paused(found.device_id, "any"))  # the same rule for ids everywhere
    if found.protocol not in PROTOCOLS:
        known = ", ".join(PROTOCOLS)
        raise UsageError(f"protocol {found.protocol!r} is not known; use one of {known}.")
    if found.credentials_ref and found.credentials_ref.partition(":")[0] not in KINDS:
        raise UsageError(
            "credentials are named, not given: env:NAME of a variable of the workers, file:NAME, "
            "keyring:NAME or vault:NAME."
        )
    _check_place(found)
    if found.protocol == "null-camera":
        return
    try:
        AddressPolicy(("0.0.0.0/0", "::/0")).target(found.address, schemes_of(found.protocol))
    except CameraError as error:
        raise UsageError(str(error)) from None


def _check_place(found: DeviceProfile) -> None:
    """Raise UsageError unless a device has a place on Earth, or none."""
    if (found.latitude is None) != (found.longitude is None):
        given, other = ("latitude", "longitude")[:: 1 if found.longitude is None else -1]
        raise UsageError(f"{given} is given and {other} is not; a place has both.")
    for name, value, bound in (
        ("latitude", found.latitude, 90.0),
        ("longitude", found.longitude, 180.0),
    ):
        if value is not None and not -bound <= value <= bound:
            raise UsageError(f"{name} is {value:g}; expected degrees from {-bound:g} to {bound:g}.")


def new_request_id() -> str:
    """Return a request id that nobody else has."""
    return str(uuid.uuid4())


def now_ms() -> int:
    """Return this machine's wall time in UTC milliseconds."""
    return time.time_ns() // 1_000_000
