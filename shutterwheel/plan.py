"""What applying a manifest would do: compared, not done.

::

    + add     what the file asks for and the timing wheel does not have
    ~ change  what it has otherwise: each field, before and after
    = leave   what is so already; it is not published again
    - remove  what the file owns and does not ask for; only with ``--prune``

**What a file owns**, and nothing else is ever removed:

- with ``owner: NAME`` the schedules whose ids begin with ``NAME/``, whatever their device;
- without it the schedules that bear an id the file names, on devices the file names too (listed,
  targeted, or in one of its groups). Whoever drops a whole schedule, or a device everywhere, from
  a file without an owner has to cancel it by hand: that such a schedule was this file's cannot be
  told from its not being so.

Requests for single photos belong to nobody's file.

**Over.** A schedule that has no time any more (``at`` is past) and that the wheel does not have is
left: it was done, and the file stays true. The wheel would refuse it. A schedule that a ``count``
has ended is gone, too, and nothing tells it from one that never was: applied again it begins anew.
Whoever applies a file again and again ends schedules by ``until``.

The wheel's table is what it has *decided*. A change that is published and not decided yet is not
seen; publishing once more what is so already does nothing (the fold keeps the epoch).

Cost: 2 to 5 µs a schedule, and 150 bytes a change.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

import msgspec

from connectors.clients import events
from connectors.clients.values import show_duration, show_moment
from shutterwheel.outlook import place_of
from streams.core.recurrence import compile_spec
from streams.core.schedule import REQUEST_PREFIX
from streams.core.times import Times

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from schemas.records import DeviceProfile, Record, ScheduleEvent, ScheduleState
    from shutterwheel.manifest import Manifest, ScheduleEntry

Kind = Literal["add", "change", "remove"]
Key = tuple[str, str]
"""Device and schedule."""

SIGNS: Final = {"add": "+", "change": "~", "remove": "-"}

_KEYS: Final = {"capture_timeout_ms": "timeout", "max_count": "count"}
"""What a field is called in a manifest, where that is not its name without the unit."""
_MOMENTS: Final = frozenset({"at_ms", "from_ms", "until_ms"})


@dataclass(frozen=True, slots=True)
class Change:
    """One schedule of one device that is to be otherwise."""

    kind: Kind
    device_id: str
    schedule_id: str
    entry: ScheduleEntry | None
    """What the file asks for; none where it is to be removed."""
    before: ScheduleState | None
    """What the wheel has; none where it is to be added."""

    def fields(self) -> dict[str, tuple[str, str]]:
        """Return what changes, in words: the manifest's key, before, and after."""
        if self.entry is None or self.before is None:
            return {}
        found = dict(differences(self.before.spec, self.entry.spec))
        return found | dict(differences(self.before.policy, self.entry.policy))

    def event(self) -> ScheduleEvent:
        """Return the event that makes it so."""
        if self.entry is None:
            return events.cancelled(self.device_id, self.schedule_id)
        return self.entry.event(self.device_id)


@dataclass(slots=True)
class Plan:
    """All that is to be done, in the order of the file; removals in the order of the table."""

    devices_added: list[DeviceProfile] = field(default_factory=list)
    devices_changed: list[DeviceProfile] = field(default_factory=list)
    devices_left: int = 0
    changes: list[Change] = field(default_factory=list)
    """Schedules to add and to change."""
    left: int = 0
    over: list[Key] = field(default_factory=list)
    """Schedules that have no time any more, and that the wheel does not have."""
    unasked: list[Change] = field(default_factory=list)
    """Schedules that the file owns and does not ask for."""

    @property
    def added(self) -> int:
        """How many schedules are new."""
        return sum(change.kind == "add" for change in self.changes)

    @property
    def changed(self) -> int:
        """How many schedules become otherwise."""
        return len(self.changes) - self.added

    def differs(self, *, prune: bool) -> bool:
        """Say whether applying it would do anything."""
        return bool(
            self.devices_added or self.devices_changed or self.changes or (prune and self.unasked)
        )

    def all_changes(self, *, prune: bool) -> Iterator[Change]:
        """Give each schedule that becomes otherwise; removals last, so a halt leaves too much."""
        yield from self.changes
        if prune:
            yield from self.unasked

    def counts(self, *, prune: bool) -> dict[str, dict[str, int]]:
        """Return how many of each there are."""
        unasked = {"remove" if prune else "unasked": len(self.unasked)}
        return {
            "devices": {
                "add": len(self.devices_added),
                "change": len(self.devices_changed),
                "leave": self.devices_left,
            },
            "schedules": {
                "add": self.added,
                "change": self.changed,
                "leave": self.left,
                "over": len(self.over),
                **unasked,
            },
        }


def make_plan(
    asked: Manifest,
    profiles: Iterable[DeviceProfile],
    rows: Iterable[ScheduleState],
    now_ms: int,
    *,
    force: bool = False,
) -> Plan:
    """Compare an expanded manifest with what there is.

    ``rows`` may hold more than the manifest is about. ``force``: what is so already is a change.
    """
    plan = Plan()
    known = {one.device_id: one for one in profiles}
    _plan_devices(plan, asked, known, force=force)
    known.update((one.device_id, one) for one in asked.devices)
    there: dict[Key, ScheduleState] = {(row.device_id, row.schedule_id): row for row in rows}
    wanted: set[Key] = set()
    alike: dict[tuple[int, int, int], bool] = {}  # rows share their specs and policies
    for entry in asked.schedules:
        for device_id in entry.device_ids:
            key = (device_id, entry.schedule_id)
            wanted.add(key)
            row = there.get(key)
            if row is None:
                if not force and _is_over(entry, device_id, known.get(device_id), now_ms):
                    plan.over.append(key)
                else:
                    plan.changes.append(Change("add", *key, entry, None))
                continue
            which = (id(entry), id(row.spec), id(row.policy))
            same = alike.get(which)
            if same is None:
                same = alike[which] = row.spec == entry.spec and row.policy == entry.policy
            if force or not same:
                plan.changes.append(Change("change", *key, entry, row))
            else:
                plan.left += 1
    owns = Ownership.of(asked)
    plan.unasked = [
        Change("remove", *key, None, row)
        for key, row in there.items()
        if key not in wanted and owns.has(*key)
    ]
    return plan


@dataclass(frozen=True, slots=True)
class Ownership:
    """Which schedules are a file's, whether it asks for them or not."""

    prefix: str
    """How the ids begin; empty: there is no owner, and the two sets decide."""
    schedule_ids: frozenset[str]
    device_ids: frozenset[str]

    @classmethod
    def of(cls, asked: Manifest) -> Ownership:
        """Return what an expanded manifest owns."""
        devices = {one.device_id for one in asked.devices}
        for entry in asked.schedules:
            devices.update(entry.device_ids)
        return cls(
            f"{asked.owner}/" if asked.owner else "",
            frozenset(entry.schedule_id for entry in asked.schedules),
            frozenset(devices),
        )

    def has(self, device_id: str, schedule_id: str) -> bool:
        """Say whether a schedule of a device is the file's."""
        if schedule_id.startswith(REQUEST_PREFIX):
            return False
        if self.prefix:
            return schedule_id.startswith(self.prefix)
        return schedule_id in self.schedule_ids and device_id in self.device_ids

    def concerns(self, key: bytes) -> bool:
        """Say whether a row of the wheel's table, by its key, has to be looked at at all."""
        device_id, _, schedule_id = key.decode("utf-8", "replace").partition("\0")
        return schedule_id in self.schedule_ids or self.has(device_id, schedule_id)


def _plan_devices(
    plan: Plan, asked: Manifest, there: Mapping[str, DeviceProfile], *, force: bool
) -> None:
    for one in asked.devices:
        known = there.get(one.device_id)
        if known is None:
            plan.devices_added.append(one)
        elif force or known != msgspec.structs.replace(one, updated_at_ms=known.updated_at_ms):
            plan.devices_changed.append(one)
        else:
            plan.devices_left += 1


def _is_over(
    entry: ScheduleEntry, device_id: str, profile: DeviceProfile | None, now_ms: int
) -> bool:
    """Say whether a schedule has no time any more; one that waits for a place has."""
    recurrence = compile_spec(entry.spec, place_of(profile))
    if recurrence.lacks_place:
        return False
    return Times(recurrence, entry.policy, device_id).at_or_after(now_ms) is None


def differences(before: Record, after: Record) -> Iterator[tuple[str, tuple[str, str]]]:
    """Give the fields that differ: the manifest's key, and both values in words."""
    for name in type(before).__struct_fields__:
        old, new = getattr(before, name), getattr(after, name)
        if old != new:
            key = _KEYS.get(name, name.removesuffix("_ms"))
            yield key, (show_value(name, old), show_value(name, new))


def show_value(name: str, value: object) -> str:
    """Return a field's value as a person reads it."""
    if value is None or value in {"", ()}:
        return "-"
    if isinstance(value, int) and not isinstance(value, bool) and name.endswith("_ms"):
        return show_moment(value) if name in _MOMENTS else show_duration(value)
    if isinstance(value, tuple):
        return "; ".join(show_value("", part) for part in value)
    if isinstance(value, msgspec.Struct):
        parts = ((part, getattr(value, part)) for part in type(value).__struct_fields__)
        return " ".join(f"{key}={show_value(key, found)}" for key, found in parts if found)
    return str(value)
