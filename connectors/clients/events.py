"""Makes the records that upstream publishes, from what a caller writes.

The only maker, besides manifests, of schedule events and device profiles. Nothing is sent here.
"""

from __future__ import annotations

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

PROTOCOLS: Final = ("http-snapshot", "http-json", "null-camera")
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
    priority: int
    """0 to 9; default 0."""


def policy_of(options: PolicyOptions) -> CapturePolicy:
    """Return the policy; UsageError for an option that is no duration."""
    plain = CapturePolicy()
    return CapturePolicy(
        lead_ms=_option(options, "lead", plain.lead_ms),
        catch_up_ms=(
            duration_ms(options["catch_up"], "catch_up") if "catch_up" in options else None
        ),
        capture_timeout_ms=_option(options, "timeout", plain.capture_timeout_ms),
        spread_ms=_option(options, "spread", plain.spread_ms),
        priority=options.get("priority", plain.priority),
    )


def _option(options: Mapping[str, object], name: str, default_ms: int) -> int:
    value = options.get(name)
    return default_ms if value is None else duration_ms(value, name)  # type: ignore[arg-type]


def spec_of(
    every: Duration | None = None, at: Moment | None = None, phase: Duration = 0
) -> ScheduleSpec:
    """Return when a schedule is due: ``every`` a period, or ``at`` one time; UsageError else."""
    if (every is None) == (at is None):
        raise UsageError("A schedule is due every so often or at one time: give 'every' or 'at'.")
    if every is not None:
        every_ms = duration_ms(every, "every")
        return ScheduleSpec("interval", every_ms=every_ms, phase_ms=duration_ms(phase, "phase"))
    assert at is not None
    return ScheduleSpec("once", at_ms=moment_ms(at, "at"))


def upserted(
    device_id: str,
    schedule_id: str,
    *,
    every: Duration | None = None,
    at: Moment | None = None,
    phase: Duration = 0,
    request_id: str | None = None,
    **policy: Unpack[PolicyOptions],
) -> ScheduleUpserted:
    """Return the event 'this schedule is to be so, from now on'."""
    return ScheduleUpserted(
        request_id or new_request_id(),
        device_id,
        schedule_id,
        spec_of(every, at, phase),
        policy_of(policy),
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
    from connectors.cameras.policy import AddressPolicy
    from schemas.errors import CameraError

    check_event(paused(found.device_id, "any"))  # the same rule for ids everywhere
    if found.protocol not in PROTOCOLS:
        known = ", ".join(PROTOCOLS)
        raise UsageError(f"protocol {found.protocol!r} is not known; use one of {known}.")
    if found.credentials_ref and found.credentials_ref.partition(":")[0] not in {"env", "file"}:
        raise UsageError(
            "credentials are named, not given: env:NAME of a variable of the workers, or file:NAME."
        )
    _check_place(found)
    if found.protocol == "null-camera":
        return
    try:
        AddressPolicy(("0.0.0.0/0", "::/0")).target(found.address)
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
