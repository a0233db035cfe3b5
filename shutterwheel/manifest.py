"""Schedules and devices in a YAML file.

::

    version: 1
    defaults: {lead: 5s, timeout: 3s}
    devices:                      # optional: profiles to publish
      - id: cam-1
        address: http://127.0.0.1:8080/cam/cam-1/snapshot.jpg
        protocol: http-snapshot
    schedules:
      - id: every-5s
        devices: [cam-1, cam-2]   # or "*": every device of this file
        every: 5s
        spread: 5s
      - id: once
        device: cam-1
        at: 2026-12-01T08:00:00+01:00
      - id: line-3
        devices: {labels: {line: "3"}, site: north}   # or all: every device that is known
        every: 1m

A manifest says what is to be, not what is to be gone: what it does not name is left alone, unless
it is told to prune (``plan.py``). Durations have a unit (``every: 5`` is refused: seconds or
milliseconds?) and times have a zone.

**Groups** (``connectors/clients/targets.py``) are expanded when the file is applied, against the
profiles that are known then and those of the file itself: :meth:`Manifest.expand`. A device that
becomes known later is picked up by the next apply.

**owner: NAME** gives a file schedules of its own: the ids of its schedules become ``NAME/ID``.

All that is wrong is said at once, each as ``FILE:LINE:COLUMN: what was found, what was expected``
(``yaml_nodes.py``). The bounds of values are not written down here: they are those of the timing
wheel (``streams.core.schedule``), which says the same sentences when it refuses.

Cost: about 0.3 ms a device, nearly all of it the YAML parser's: 100,000 devices take half a minute.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from connectors.clients import events
from connectors.clients.targets import Group
from schemas.errors import UsageError
from schemas.records import ScheduleUpserted
from shutterwheel.manifest_keys import DEFAULTS, POLICY, SPEC, TERMS, ScheduleKeys
from shutterwheel.yaml_nodes import (
    EnoughError,
    ManifestError,
    compose,
    is_mapping,
    items_of,
    pairs_of,
    read_bounded,
    show,
)
from streams.core.recurrence import needs_place
from streams.core.schedule import validate, validate_device_id, validate_schedule

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from ruamel.yaml.nodes import Node

    from schemas.records import CapturePolicy, DeviceProfile, ScheduleSpec

__all__ = ["Manifest", "ManifestError", "ScheduleEntry", "load", "parse"]

MAX_FILE_BYTES: Final = 64 * 1024 * 1024
"""A line a device of a million devices fits."""
ALL: Final = "*"

EVERYTHING: Final = "all"

TOP: Final = ("version", "owner", "calendars", "defaults", "devices", "schedules")
DEVICE_TEXT: Final = ("id", "address", "protocol", "model", "site", "credentials")
PLACE: Final = ("latitude", "longitude")
DEVICE: Final = (*DEVICE_TEXT, "labels", *PLACE)
GROUP: Final = ("labels", "site", "model")
SCHEDULE: Final = ("id", "device", "devices", *SPEC, *POLICY)


@dataclass(frozen=True, slots=True)
class ScheduleEntry:
    """One schedule of the file, for one or more devices."""

    schedule_id: str
    device_ids: tuple[str, ...]
    spec: ScheduleSpec
    policy: CapturePolicy
    group: Group | None = None
    """Whom it is for, where that is asked of the profiles; ``device_ids`` is empty then."""
    place: str = field(default="", compare=False)
    """``FILE:LINE:COLUMN`` of its targets."""
    when: str = field(default="", compare=False)
    """The same of what says when it is due."""

    def event(self, device_id: str) -> ScheduleUpserted:
        """Return the event that makes it so for one device, with a new request id."""
        return ScheduleUpserted(
            events.new_request_id(),
            device_id,
            self.schedule_id,
            self.spec,
            self.policy,
            events.now_ms(),
        )


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a file asks for."""

    devices: tuple[DeviceProfile, ...]
    schedules: tuple[ScheduleEntry, ...]
    owner: str = ""
    """Begins the ids of its schedules, before a ``/``; empty: they are as they are written."""

    @property
    def schedule_count(self) -> int:
        """How many events :meth:`events` gives; groups that are not expanded count nothing."""
        return sum(len(entry.device_ids) for entry in self.schedules)

    @property
    def has_groups(self) -> bool:
        """Say whether profiles are needed to know whom it means."""
        return any(entry.group is not None for entry in self.schedules)

    @property
    def needs_places(self) -> bool:
        """Say whether any schedule hangs on where its device stands."""
        return any(needs_place(entry.spec) for entry in self.schedules)

    def expand(self, known: Iterable[DeviceProfile] = ()) -> tuple[Manifest, tuple[str, ...]]:
        """Return the manifest with devices in place of groups, and warnings in words.

        ``known`` are the profiles there are; those of the file come before them. Raises
        :class:`ManifestError` where two entries give a device the same schedule.
        """
        profiles = {one.device_id: one for one in known}
        profiles.update((one.device_id, one) for one in self.devices)
        warnings: list[str] = []
        entries: list[ScheduleEntry] = []
        for entry in self.schedules:
            if entry.group is None:
                entries.append(entry)
                continue
            members = entry.group.members(profiles.values())
            if not members:
                which = "no device is known" if entry.group == Group() else "no known device is in"
                of = "" if entry.group == Group() else f" this group ({entry.group})"
                warnings.append(
                    f"{entry.place}: {which}{of}; schedule {entry.schedule_id!r} is for nobody. "
                    "`shutterwheel device list` shows labels and sites."
                )
            entries.append(replace(entry, device_ids=members, group=None))
        _refuse_doubles(entries)
        return replace(self, schedules=tuple(entries)), tuple(warnings)

    def events(self) -> Iterator[ScheduleUpserted]:
        """Give an event for each schedule of each device, with new request ids.

        Groups are expanded before. An unchanged schedule is answered Accepted with its old epoch:
        nothing changes. Ids made from the content would be answered AlreadyKnown instead, and would
        do nothing where the schedule was cancelled in between (ADR 0007).
        """
        for entry in self.schedules:
            for device_id in entry.device_ids:
                yield entry.event(device_id)


def load(path: Path) -> Manifest:
    """Read a manifest; :class:`ManifestError` with all that is wrong with it."""
    return parse(read_bounded(path, MAX_FILE_BYTES), str(path))


def parse(data: bytes, name: str) -> Manifest:
    """Read a manifest's text; ``name`` stands in the findings. Raises :class:`ManifestError`."""
    reading = _Reading(name)
    try:
        found = reading.manifest(compose(data, name))
    except EnoughError:
        found = None
    if reading.findings or found is None:
        raise ManifestError(tuple(text for _, _, text in sorted(reading.findings)))
    return found


@dataclass(slots=True)
class _Reading(ScheduleKeys):
    """One file being read: what was found so far."""

    places: dict[tuple[str, str], Node] = field(default_factory=dict)
    """Where each (device, schedule) stands."""
    owner: str = ""

    # --- the parts of the file ------------------------------------------------------------------

    def manifest(self, root: Node | None) -> Manifest | None:
        """Read the whole."""
        if root is None:
            self.wrong(None, "the file is empty; expected 'version: 1' and 'schedules:'.")
            return None
        top = self.mapping(root, "the manifest", TOP)
        if top is None:
            return None
        version = top.get("version")
        if version is None:
            self.wrong(root, "'version' is missing; expected 'version: 1'.")
        elif self.text(version, "version") not in {"1", None}:
            self.wrong(version, f"version {show(version)} is not known; expected 1.")
        if "owner" in top:
            self.owner = self.text(top["owner"], "owner") or ""
        if "calendars" in top:
            self.read_calendars(top["calendars"])
        defaults: dict[str, Node] = {}
        if "defaults" in top:
            defaults = self.mapping(top["defaults"], "defaults", DEFAULTS) or {}
        profiles = [self.device(node) for node in self.sequence(top.get("devices"), "devices")]
        devices = tuple(one for one in profiles if one is not None)
        self.check_doubled_devices(top.get("devices"))
        known = tuple(device.device_id for device in devices)
        nodes = self.sequence(top.get("schedules"), "schedules")
        entries = [self.schedule(node, defaults, known) for node in nodes]
        schedules = tuple(one for one in entries if one is not None)
        if not self.findings and "devices" not in top and "schedules" not in top:
            self.wrong(root, "there is nothing to apply; expected 'schedules:' or 'devices:'.")
        return Manifest(devices, schedules, self.owner)

    def device(self, node: Node) -> DeviceProfile | None:
        """Read one device."""
        part = self.mapping(node, "a device", DEVICE)
        if part is None or not self.has(node, part, "a device", ("id", "address")):
            return None
        words = {key: self.text(part[key], key) for key in DEVICE_TEXT if key in part}
        labels = self.labels(part["labels"]) if "labels" in part else {}
        place = {key: self.degrees(part[key], key) for key in PLACE if key in part}
        if None in words.values() or None in place.values():
            return None
        found = events.profile(
            words["id"] or "",
            words["address"] or "",
            protocol=words.get("protocol") or events.DEFAULT_PROTOCOL,
            model=words.get("model") or "",
            site=words.get("site") or "",
            labels=labels,
            credentials=words.get("credentials") or "",
            latitude=place.get("latitude"),
            longitude=place.get("longitude"),
        )
        try:
            events.check_profile(found)
        except UsageError as error:
            said = str(error)
            said_of = ("protocol", "credentials", *PLACE)
            about = next((key for key in said_of if said.startswith(key)), "")
            about = about or ("id" if said.startswith("device_id") else "address")
            self.wrong(part.get(about, node), said)
        return found

    def check_doubled_devices(self, node: Node | None) -> None:
        """Find device ids that stand in the file twice."""
        first: dict[str, int] = {}
        for one in items_of(node):
            for key, value in pairs_of(one):
                if key.value == "id" and isinstance(value.value, str):
                    line = first.setdefault(value.value, value.start_mark.line + 1)
                    if line != value.start_mark.line + 1:
                        self.wrong(value, f"device {show(value)} stands in line {line} already.")

    def schedule(
        self, node: Node, defaults: dict[str, Node], known: tuple[str, ...]
    ) -> ScheduleEntry | None:
        """Read one schedule."""
        before = len(self.findings)
        part = self.mapping(node, "a schedule", SCHEDULE)
        if part is None or not self.has(node, part, "a schedule", ("id",)):
            return None
        schedule_id = self.text(part["id"], "id")
        device_ids, group = self.targets(node, part, known)
        spec = self.spec(node, part, defaults)
        merged: dict[str, Node] = defaults | {key: part[key] for key in DEFAULTS if key in part}
        policy = self.policy(merged)
        if schedule_id is None or spec is None or len(self.findings) > before:
            return None
        if self.owner:
            schedule_id = f"{self.owner}/{schedule_id}"
        self.judge(validate_schedule(spec, policy), merged | part, node)
        event = events.paused("any", schedule_id, request_id="any")
        self.judge(validate(event), part, node)
        for device_id, place in device_ids:
            first = self.places.setdefault((device_id, schedule_id), place)
            if first is not place:
                self.wrong(place, _doubled(device_id, schedule_id, first.start_mark.line + 1))
            self.judge(validate_device_id(device_id), part | {"device_id": place}, node)
        targets = part.get("devices", part.get("device", node))
        term = next((part[key] for key in TERMS if key in part), node)
        return ScheduleEntry(
            schedule_id,
            tuple(d for d, _ in device_ids),
            spec,
            policy,
            group,
            self.place(targets),
            self.place(term),
        )

    def targets(
        self, node: Node, part: dict[str, Node], known: tuple[str, ...]
    ) -> tuple[list[tuple[str, Node]], Group | None]:
        """Return the devices of a schedule and where each is named, or the group."""
        if ("device" in part) == ("devices" in part):
            self.wrong(node, f"expected one of 'device: ID' or {_TARGETS}.")
            return [], None
        if "device" in part:
            one = self.text(part["device"], "device")
            return ([] if one is None else [(one, part["device"])]), None
        asked = part["devices"]
        value = getattr(asked, "value", None)
        if value == ALL:
            if not known:
                self.wrong(asked, "'*' means every device of this file, but it has none.")
            return [(device_id, asked) for device_id in known], None
        if value == EVERYTHING:
            return [], Group()
        if isinstance(value, str):
            self.wrong(asked, f"'devices' is {show(asked)}; expected a list: {_TARGETS}.")
            return [], None
        if is_mapping(asked):
            return [], self.group(asked)
        nodes = self.sequence(asked, "devices")
        found = [(self.text(item, "a device id"), item) for item in nodes]
        return [(device_id, item) for device_id, item in found if device_id is not None], None

    def group(self, node: Node) -> Group:
        """Read a group of devices."""
        part = self.mapping(node, "a group", GROUP) or {}
        if not pairs_of(node):
            self.wrong(node, "the group names nothing; 'devices: all' is every device there is.")
        return Group.of(
            self.labels(part["labels"]) if "labels" in part else {},
            (self.text(part["site"], "site") or "") if "site" in part else "",
            (self.text(part["model"], "model") or "") if "model" in part else "",
        )

    def labels(self, node: Node) -> dict[str, str]:
        """Read labels."""
        found = self.mapping(node, "labels", None) or {}
        return {key: self.text(value, f"label {key}") or "" for key, value in found.items()}


_TARGETS: Final = "'devices: [ID, …]', '\"*\"', 'all' or '{labels: {KEY: VALUE}, site: NAME}'"


def _doubled(device_id: str, schedule_id: str, line: int) -> str:
    return f"device {device_id!r} has a schedule {schedule_id!r} already, in line {line}."


def _refuse_doubles(entries: Iterable[ScheduleEntry]) -> None:
    """Raise where expanded entries of one schedule id share a device."""
    by_id: dict[str, list[ScheduleEntry]] = {}
    for entry in entries:
        by_id.setdefault(entry.schedule_id, []).append(entry)
    findings: list[str] = []
    for schedule_id, same in by_id.items():
        if len(same) == 1:
            continue
        first: dict[str, str] = {}
        for entry in same:
            shared = [one for one in entry.device_ids if one in first]
            if shared:
                more = f" and {len(shared) - 1} more" if len(shared) > 1 else ""
                findings.append(
                    f"{entry.place}: device {shared[0]!r}{more} has a schedule {schedule_id!r} "
                    f"already, at {first[shared[0]]}."
                )
            first.update((one, entry.place) for one in entry.device_ids if one not in first)
    if findings:
        raise ManifestError(tuple(findings))
