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

A manifest says what is to be, not what is to be gone: what it does not name is left alone.
Durations have a unit (``every: 5`` is refused: seconds or milliseconds?) and times have a zone.

All that is wrong is said at once, each as ``FILE:LINE:COLUMN: what was found, what was expected``
(``yaml_nodes.py``). The bounds of values are not written down here: they are those of the timing
wheel (``streams.core.schedule``), which says the same sentences when it refuses.

Cost: about 0.3 ms a device, nearly all of it the YAML parser's: 100,000 devices take half a minute.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from connectors.clients import events
from connectors.clients.values import moment_ms
from schemas.errors import UsageError
from schemas.records import CapturePolicy, ScheduleSpec, ScheduleUpserted
from shutterwheel.yaml_nodes import (
    EnoughError,
    ManifestError,
    NodeReader,
    compose,
    items_of,
    pairs_of,
    show,
)
from streams.core.schedule import validate, validate_schedule

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ruamel.yaml.nodes import Node

    from schemas.records import DeviceProfile
    from streams.core.refusal import Refusal

__all__ = ["Manifest", "ManifestError", "ScheduleEntry", "load", "parse"]

MAX_FILE_BYTES: Final = 64 * 1024 * 1024
"""A line a device of a million devices fits."""
ALL: Final = "*"

_POLICY: Final = ("lead", "timeout", "catch_up", "spread", "priority")
_TOP: Final = ("version", "defaults", "devices", "schedules")
_DEVICE: Final = ("id", "address", "protocol", "model", "site", "labels", "credentials")
_SCHEDULE: Final = ("id", "device", "devices", "every", "phase", "at", *_POLICY)

_KEY_OF_CODE: Final = {
    "bad_schedule_id": "id",
    "bad_every_ms": "every",
    "bad_phase_ms": "phase",
    "bad_at_ms": "at",
    "bad_lead_ms": "lead",
    "bad_capture_timeout_ms": "timeout",
    "bad_catch_up_ms": "catch_up",
    "bad_spread_ms": "spread",
    "bad_priority": "priority",
}
"""Which key of a schedule a refusal of the wheel is about."""


@dataclass(frozen=True, slots=True)
class ScheduleEntry:
    """One schedule of the file, for one or more devices."""

    schedule_id: str
    device_ids: tuple[str, ...]
    spec: ScheduleSpec
    policy: CapturePolicy


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a file asks for."""

    devices: tuple[DeviceProfile, ...]
    schedules: tuple[ScheduleEntry, ...]

    @property
    def schedule_count(self) -> int:
        """How many events :meth:`events` gives."""
        return sum(len(entry.device_ids) for entry in self.schedules)

    def events(self) -> Iterator[ScheduleUpserted]:
        """Give an event for each schedule of each device, with new request ids.

        Applied again, an unchanged schedule is answered Accepted with its old epoch: nothing
        changes. Ids made from the content would be answered AlreadyKnown instead, and would do
        nothing where the schedule was cancelled in between (ADR 0007).
        """
        now_ms = events.now_ms()
        for entry in self.schedules:
            for device_id in entry.device_ids:
                yield ScheduleUpserted(
                    events.new_request_id(),
                    device_id,
                    entry.schedule_id,
                    entry.spec,
                    entry.policy,
                    now_ms,
                )


def load(path: Path) -> Manifest:
    """Read a manifest; :class:`ManifestError` with all that is wrong with it."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}.") from None
    if len(data) > MAX_FILE_BYTES:
        raise UsageError(f"{path} is longer than {MAX_FILE_BYTES} bytes; split it.")
    return parse(data, str(path))


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
class _Reading(NodeReader):
    """One file being read: what was found so far."""

    places: dict[tuple[str, str], Node] = field(default_factory=dict)
    """Where each (device, schedule) stands."""

    # --- the parts of the file ------------------------------------------------------------------

    def manifest(self, root: Node | None) -> Manifest | None:
        """Read the whole."""
        if root is None:
            self.wrong(None, "the file is empty; expected 'version: 1' and 'schedules:'.")
            return None
        top = self.mapping(root, "the manifest", _TOP)
        if top is None:
            return None
        version = top.get("version")
        if version is None:
            self.wrong(root, "'version' is missing; expected 'version: 1'.")
        elif self.text(version, "version") not in {"1", None}:
            self.wrong(version, f"version {show(version)} is not known; expected 1.")
        defaults: dict[str, Node] = {}
        if "defaults" in top:
            defaults = self.mapping(top["defaults"], "defaults", _POLICY) or {}
        profiles = [self.device(node) for node in self.sequence(top.get("devices"), "devices")]
        devices = tuple(one for one in profiles if one is not None)
        self.check_doubled_devices(top.get("devices"))
        known = tuple(device.device_id for device in devices)
        nodes = self.sequence(top.get("schedules"), "schedules")
        entries = [self.schedule(node, defaults, known) for node in nodes]
        schedules = tuple(one for one in entries if one is not None)
        if not self.findings and "devices" not in top and "schedules" not in top:
            self.wrong(root, "there is nothing to apply; expected 'schedules:' or 'devices:'.")
        return Manifest(devices, schedules)

    def device(self, node: Node) -> DeviceProfile | None:
        """Read one device."""
        part = self.mapping(node, "a device", _DEVICE)
        if part is None or not self.has(node, part, "a device", ("id", "address")):
            return None
        words = {
            key: self.text(part[key], key) for key in _DEVICE if key in part and key != "labels"
        }
        labels: dict[str, str] = {}
        if "labels" in part:
            for key, value in (self.mapping(part["labels"], "labels", None) or {}).items():
                labels[key] = self.text(value, f"label {key}") or ""
        if None in words.values():
            return None
        found = events.profile(
            words["id"] or "",
            words["address"] or "",
            protocol=words.get("protocol") or events.DEFAULT_PROTOCOL,
            model=words.get("model") or "",
            site=words.get("site") or "",
            labels=labels,
            credentials=words.get("credentials") or "",
        )
        try:
            events.check_profile(found)
        except UsageError as error:
            words_of = str(error)
            about = next((k for k in ("protocol", "credentials") if words_of.startswith(k)), "")
            about = about or ("id" if words_of.startswith("device_id") else "address")
            self.wrong(part.get(about, node), words_of)
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
        part = self.mapping(node, "a schedule", _SCHEDULE)
        if part is None or not self.has(node, part, "a schedule", ("id",)):
            return None
        schedule_id = self.text(part["id"], "id")
        device_ids = self.targets(node, part, known)
        spec = self.spec(node, part)
        merged: dict[str, Node] = defaults | {key: part[key] for key in _POLICY if key in part}
        policy = self.policy(merged)
        if schedule_id is None or spec is None or len(self.findings) > before:
            return None
        self.judge(validate_schedule(spec, policy), merged | part, node)
        for device_id, place in device_ids:
            first = self.places.setdefault((device_id, schedule_id), place)
            if first is not place:
                self.wrong(
                    place,
                    f"device {device_id!r} has a schedule {schedule_id!r} already, in line "
                    f"{first.start_mark.line + 1}.",
                )
            event = events.paused(device_id, schedule_id, request_id="any")
            self.judge(validate(event), part | {"device_id": place}, node)
        return ScheduleEntry(schedule_id, tuple(d for d, _ in device_ids), spec, policy)

    def judge(self, refusal: Refusal | None, part: dict[str, Node], node: Node) -> None:
        """Note what the timing wheel would refuse, at the key that it is about."""
        if refusal is not None:
            key = "device_id" if refusal.code == "bad_device_id" else ""
            key = key or _KEY_OF_CODE.get(refusal.code, "id")
            self.wrong(part.get(key, node), refusal.reason)

    def targets(
        self, node: Node, part: dict[str, Node], known: tuple[str, ...]
    ) -> list[tuple[str, Node]]:
        """Return the devices of a schedule and where each is named."""
        if ("device" in part) == ("devices" in part):
            self.wrong(
                node, "expected one of 'device: ID', 'devices: [ID, …]' or 'devices: \"*\"'."
            )
            return []
        if "device" in part:
            one = self.text(part["device"], "device")
            return [] if one is None else [(one, part["device"])]
        listed = part["devices"]
        if getattr(listed, "value", None) == ALL:
            if not known:
                self.wrong(listed, "'*' means every device of this file, but it has none.")
            return [(device_id, listed) for device_id in known]
        nodes = self.sequence(listed, "devices")
        found = [(self.text(item, "a device id"), item) for item in nodes]
        return [(device_id, item) for device_id, item in found if device_id is not None]

    def spec(self, node: Node, part: dict[str, Node]) -> ScheduleSpec | None:
        """Return when a schedule is due."""
        if ("every" in part) == ("at" in part):
            self.wrong(node, "expected one of 'every: 5s' or 'at: 2026-12-01T08:00:00+01:00'.")
            return None
        if "every" in part:
            every_ms = self.duration(part["every"], "every")
            phase_ms = self.duration(part["phase"], "phase") if "phase" in part else 0
            return ScheduleSpec("interval", every_ms=every_ms, phase_ms=phase_ms or 0)
        if "phase" in part:
            self.wrong(part["phase"], "'phase' belongs to 'every'; a single time has none.")
        text = self.text(part["at"], "at")
        if text is None:
            return None
        return self.convert(part["at"], lambda: ScheduleSpec("once", at_ms=moment_ms(text, "at")))

    def policy(self, part: dict[str, Node]) -> CapturePolicy:
        """Return how photos are made."""
        plain = CapturePolicy()
        found = {
            key: self.duration(part[key], key)
            for key in _POLICY
            if key in part and key != "priority"
        }
        return CapturePolicy(
            lead_ms=_or(found.get("lead"), plain.lead_ms),
            catch_up_ms=found.get("catch_up"),
            capture_timeout_ms=_or(found.get("timeout"), plain.capture_timeout_ms),
            spread_ms=_or(found.get("spread"), plain.spread_ms),
            priority=self.number(part["priority"], "priority") if "priority" in part else 0,
        )


def _or(value: int | None, other: int) -> int:
    return other if value is None else value
