"""What is poured into a sandbox: the state as it stood, and what came from outside in the range.

Nothing is shifted: the sandbox's clock is (``streams/runtime/sandbox_clock.py``). So events go in
byte for byte, with the times they were published with, and a state is poured as the rows it was:

* **before the workers start**: the rows of the wheel's tables as the ticks before the range left
  them, into its changelogs, from which workers recover; commands that were out and whose time is to
  come, with what was revoked of them; the devices' profiles as they were;
* **in the range**, each as the clock comes to its time: schedule.events that no tick before had
  taken, device.profiles and device.events.

Every profile is given the address of a simulated camera, and no credentials, unless real cameras
are asked for. A profile whose older versions were compacted away is poured in the version that is
left, at the place that the fold knew.

**Bound**: what comes in the range is held in memory, :data:`MAX_TIMED` records; the rest is not.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from schemas.errors import UsageError
from schemas.records import CaptureCommand, DeviceFacts, DeviceProfile, ScheduleState
from shutterwheel.replay_run import PROFILES, published, read_profiles
from streams.core.schedule import REQUEST_PREFIX
from streams.replay.refold import Refold, fold_to, ticks_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from schemas.records import CaptureRevoked, ScheduleTick
    from shutterwheel.replay_run import Source
    from streams.core.shard import Outputs
    from streams.replay.start import Began
    from streams.replay.what_if_policy import WhatIf

    Commands = list[CaptureCommand | CaptureRevoked]
    Address = Callable[[str], str]
    """Returns the address of the camera that stands in for a device."""

EVENTS, DEVICE_EVENTS, COMMANDS = "schedule.events", "device.events", "capture.commands"
CHANGELOG: Final = "wheel.{}.changelog"
MAX_TIMED: Final = 1_000_000


class Poured(NamedTuple):
    """One record for the sandbox."""

    at_ms: int
    """When, by the sandbox's clock."""
    topic: str
    partition: int
    key: bytes | None
    value: bytes | None


@dataclass(slots=True)
class Plan:
    """All that is poured, and what the past made of it."""

    partitions: int
    first: list[Poured] = field(default_factory=list)
    """Before the workers start."""
    timed: list[Poured] = field(default_factory=list)
    """In the range, in the order of time."""
    past: Commands = field(default_factory=list)
    """What was issued for times in the range, and what was revoked of it."""
    devices: list[str] = field(default_factory=list)
    """Those with a profile."""
    schedules: int = 0
    began: list[Began] = field(default_factory=list)
    """Where the fold of each partition began."""
    ticks_before: int = 0
    """Folded to come to the range."""


def make_plan(source: Source, address: Address | None, policy: WhatIf | None = None) -> Plan:
    """Work out what to pour; ``address`` null: into the cameras that the profiles name."""
    log = source.log
    plan = Plan(log.partitions("schedule.ticks"))
    for number in source.partitions:
        out: Commands = []
        fold, following = _begin(source, number, plan, out)
        _pour_state(source, number, fold, out, plan)
        _pour_events(source, number, fold, plan, policy)
        _pour_profiles(source, number, fold, plan, address)
        plan.past += out
        if policy is not None:
            _pour_policy(source, number, fold, policy, plan)
        for _, tick in ticks_of(log, number, source.codec, following, source.to_ms):
            plan.past += fold.apply(tick).commands
    plan.timed.sort(key=lambda one: one.at_ms)
    plan.devices.sort()
    return plan


def _begin(source: Source, number: int, plan: Plan, out: Commands) -> tuple[Refold, int]:
    """Fold up to the range, and keep the commands that are out then."""

    def seen(_tick: ScheduleTick, outputs: Outputs) -> None:
        for command in outputs.commands:
            if not isinstance(command, CaptureCommand):
                if out:
                    out.append(command)
            elif command.scheduled_ms >= source.from_ms:
                out.append(command)

    fold, following = fold_to(
        source.log, number, source.codec, source.from_ms, seen, read_rows=source.read_rows
    )
    plan.began.append(fold.began)
    plan.ticks_before += fold.ticks
    plan.schedules += fold.state.schedule_count
    return fold, following


def _pour_state(source: Source, number: int, fold: Refold, out: Commands, plan: Plan) -> None:
    encode, at_ms = source.codec.encode, source.from_ms
    for (table, key), row in fold.rows.items():
        plan.first.append(Poured(at_ms, CHANGELOG.format(table), number, key, encode(row)))
    for command in out:
        key = command.device_id.encode()
        plan.first.append(Poured(at_ms, COMMANDS, number, key, encode(command)))


def _pour_policy(source: Source, number: int, fold: Refold, policy: WhatIf, plan: Plan) -> None:
    """Publish the schedules that stand under their other policy as the range begins."""
    for row in fold.rows.values():
        if not isinstance(row, ScheduleState) or row.schedule_id.startswith(REQUEST_PREFIX):
            continue
        changed = policy.policy(row.device_id, row.schedule_id, row.policy)
        if changed != row.policy:
            event = published(row, changed, f"replay/{row.schedule_id}")
            value, key = source.codec.encode(event), row.device_id.encode()
            _timed(plan, Poured(source.from_ms, EVENTS, number, key, value))


def _pour_events(
    source: Source, number: int, fold: Refold, plan: Plan, policy: WhatIf | None
) -> None:
    """Take the events that no tick before the range had, and what was told of devices."""
    log = source.log
    first = max(fold.events_end, log.firsts(EVENTS)[number])
    for batch in log.read(EVENTS, number, first, log.ends(EVENTS)[number]):
        for entry in batch:
            if entry.timestamp_ms >= source.to_ms:
                continue
            value = entry.value
            if policy is not None and value is not None:
                value = _under(policy, source, value)
            at_ms = max(entry.timestamp_ms, source.from_ms)
            _timed(plan, Poured(at_ms, EVENTS, number, entry.key, value))
    for at_ms, key, value in _within(source, DEVICE_EVENTS, number):
        _timed(plan, Poured(at_ms, DEVICE_EVENTS, number, key, value))


def _under(policy: WhatIf, source: Source, value: bytes) -> bytes:
    from schemas.errors import DecodeError

    try:
        event = source.codec.decode(value)
    except DecodeError:
        return value  # a dead letter then, and now
    changed = policy.event(event)  # type: ignore[arg-type]
    return value if changed is event else source.codec.encode(changed)


def _within(
    source: Source, topic: str, number: int
) -> Iterator[tuple[int, bytes | None, bytes | None]]:
    """Yield what was stamped within the range."""
    log = source.log
    first = log.offset_at(topic, number, source.from_ms)
    for batch in log.read(topic, number, first, log.ends(topic)[number]):
        for entry in batch:
            if source.from_ms <= entry.timestamp_ms < source.to_ms:
                yield entry.timestamp_ms, entry.key, entry.value


def _pour_profiles(
    source: Source, number: int, fold: Refold, plan: Plan, address: Address | None
) -> None:
    encode = source.codec.encode
    for profile in read_profiles(source, (number,), source.from_ms):
        facts = fold.rows.get(("facts", profile.device_id.encode()))
        known = facts if isinstance(facts, DeviceFacts) else DeviceFacts(profile.device_id)
        placed = msgspec.structs.replace(
            profile, latitude=known.latitude, longitude=known.longitude
        )
        state = encode(stand_in(placed, address))
        key = profile.device_id.encode()
        plan.devices.append(profile.device_id)
        plan.first.append(Poured(source.from_ms, PROFILES, number, key, state))
    for at_ms, own_key, value in _within(source, PROFILES, number):
        poured = value
        if value is not None:
            profile = source.codec.decode_as(value, DeviceProfile)
            poured = encode(stand_in(profile, address))
        _timed(plan, Poured(at_ms, PROFILES, number, own_key, poured))


def stand_in(profile: DeviceProfile, address: Address | None) -> DeviceProfile:
    """Return the profile with a simulated camera in place of its own, without its credentials."""
    if address is None:
        return profile
    return msgspec.structs.replace(
        profile,
        address=address(profile.device_id),
        protocol="http-snapshot",
        credentials_ref="",
    )


def _timed(plan: Plan, one: Poured) -> None:
    if len(plan.timed) >= MAX_TIMED:
        raise UsageError(
            f"More than {MAX_TIMED:,} events lie in this range: replay a shorter one, or with "
            "--speed max."
        )
    plan.timed.append(one)
