"""A policy file: what ``replay --with-policy`` lays over the past.

::

    version: 1
    spread: 60s                 # keys of a manifest's policy: for every schedule and request
    misfire: skip
    capacity_per_shard: 4       # captures a second of each logical shard
    notice: 2500ms              # how long after its acceptance a new schedule starts
    schedules:                  # for some only; the later ones say the last word
      - id: "line-*"            # a pattern, or a list of them
        devices: {site: north, labels: {line: "3"}}    # or a list of ids; without: every device
        spread: 5m
        lead: 10s

Everything is optional but the version; a file that changes nothing is refused. Groups of devices
are asked of the profiles that the log holds. All that is wrong is said at once, with file, line and
column (``yaml_nodes.py``); values are judged by the timing wheel's own rules.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from connectors.clients.targets import Group
from schemas.records import ScheduleSpec
from shutterwheel.manifest_keys import DURATIONS, NUMBERS, POLICY, ScheduleKeys
from shutterwheel.yaml_nodes import (
    EnoughError,
    ManifestError,
    compose,
    is_mapping,
    items_of,
    read_bounded,
    show,
)
from streams.core.schedule import validate_device_id, validate_schedule
from streams.replay.what_if_policy import Rule, WhatIf

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from ruamel.yaml.nodes import Node

    from schemas.records import DeviceProfile

MAX_FILE_BYTES: Final = 1024 * 1024
SETTINGS: Final = {"capacity_per_shard": (0, 100_000), "max_fires": (1, 100_000)}
"""Whole numbers of a tick, and their bounds (``WheelSettings``)."""
NOTICE: Final = "notice"
MAX_NOTICE_MS: Final = 60_000
TOP: Final = ("version", *POLICY, *SETTINGS, NOTICE, "schedules")
RULE: Final = ("id", "devices", *POLICY)
GROUP: Final = ("labels", "site", "model")
FIELDS: Final = {key: {**DURATIONS, **NUMBERS}.get(key, key) for key in POLICY}
"""Fields of ``CapturePolicy`` by key."""


A_DAY: Final = ScheduleSpec("interval", every_ms=86_400_000)
"""Whose bounds a policy is judged by here; a schedule with narrower ones refuses it in the fold."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One rule of the file: groups are not resolved yet."""

    rule: Rule
    group: Group | None = None


@dataclass(frozen=True, slots=True)
class WhatIfFile:
    """What a file asks for."""

    asked: tuple[Asked, ...]
    settings: dict[str, int]
    words: str
    """The changes, in the file's own words: ``spread 60s, misfire skip``."""

    @property
    def needs_profiles(self) -> bool:
        """Say whether profiles are needed to know whom it means."""
        return any(one.group is not None for one in self.asked)

    def resolved(self, profiles: Iterable[DeviceProfile] = ()) -> WhatIf:
        """Return the rules with devices in place of groups."""
        known = tuple(profiles)
        rules = [
            one.rule
            if one.group is None
            else Rule(one.rule.fields, one.rule.schedules, frozenset(one.group.members(known)))
            for one in self.asked
        ]
        return WhatIf(tuple(rules), self.settings)


def load(path: Path) -> WhatIfFile:
    """Read a policy file; :class:`ManifestError` with all that is wrong with it."""
    return parse(read_bounded(path, MAX_FILE_BYTES), str(path))


def parse(data: bytes, name: str) -> WhatIfFile:
    """Read a policy file's text; ``name`` stands in the findings."""
    reading = _Reading(name)
    try:
        found = reading.file(compose(data, name))
    except EnoughError:
        found = None
    if reading.findings or found is None:
        raise ManifestError(tuple(text for _, _, text in sorted(reading.findings)))
    return found


@dataclass(slots=True)
class _Reading(ScheduleKeys):
    """One file being read."""

    words: list[str] = field(default_factory=list)

    def file(self, root: Node | None) -> WhatIfFile | None:
        """Read the whole."""
        if root is None:
            self.wrong(None, "the file is empty; expected 'version: 1' and a policy.")
            return None
        top = self.mapping(root, "a policy file", TOP)
        if top is None:
            return None
        version = top.get("version")
        if version is None:
            self.wrong(root, "'version' is missing; expected 'version: 1'.")
        elif self.text(version, "version") not in {"1", None}:
            self.wrong(version, f"version {show(version)} is not known; expected 1.")
        asked: list[Asked] = []
        fields = self.fields(root, top)
        if fields:
            asked.append(Asked(Rule(fields)))
        settings = self.settings(top)
        for node in self.sequence(top.get("schedules"), "schedules"):
            one = self.rule(node)
            if one is not None:
                asked.append(one)
        if not self.findings and not asked and not settings:
            known = ", ".join((*POLICY, *SETTINGS, NOTICE))
            self.wrong(root, f"the file changes nothing; expected one of {known} or 'schedules:'.")
        return WhatIfFile(tuple(asked), settings, ", ".join(self.words))

    def fields(self, node: Node, part: dict[str, Node]) -> dict[str, object]:
        """Return the fields of the policy that are given, judged by the wheel's rules."""
        before = len(self.findings)
        given = {key: part[key] for key in POLICY if key in part}
        policy = self.policy(given)
        if len(self.findings) == before:
            self.judge(validate_schedule(A_DAY, policy), part, node)
        self.words += [f"{key} {value.value}" for key, value in given.items()]
        return {FIELDS[key]: getattr(policy, FIELDS[key]) for key in given}

    def settings(self, top: dict[str, Node]) -> dict[str, int]:
        """Return the settings of ticks that are given."""
        found: dict[str, int] = {}
        for key, (least, most) in SETTINGS.items():
            if key not in top:
                continue
            found[key] = self.number(top[key], key)
            self.words.append(f"{key} {top[key].value}")
            if not least <= found[key] <= most:
                self.wrong(top[key], f"'{key}' is {found[key]}; expected {least} to {most:,}.")
        if NOTICE in top:
            notice_ms = self.duration(top[NOTICE], NOTICE)
            self.words.append(f"{NOTICE} {top[NOTICE].value}")
            if notice_ms is not None and notice_ms > MAX_NOTICE_MS:
                self.wrong(top[NOTICE], f"'{NOTICE}' is over {MAX_NOTICE_MS // 1_000} s.")
            found["notice_ms"] = notice_ms or 0
        return found

    def rule(self, node: Node) -> Asked | None:
        """Read a rule for some schedules."""
        part = self.mapping(node, "a rule", RULE)
        if part is None:
            return None
        if "id" not in part and "devices" not in part:
            self.wrong(node, "a rule is for some: expected 'id: PATTERN' or 'devices:'.")
        ids: tuple[str, ...] = ()
        if "id" in part:
            nodes = items_of(part["id"]) or [part["id"]]
            ids = tuple(text for one in nodes if (text := self.text(one, "id")) is not None)
        fields = self.fields(node, part)
        if not fields and not self.findings:
            self.wrong(node, f"the rule changes nothing; expected one of {', '.join(POLICY)}.")
        if ids and fields:
            self.words[-1] += f" ({', '.join(ids)})"
        if "devices" not in part:
            return Asked(Rule(fields, ids))
        if is_mapping(part["devices"]):
            return Asked(Rule(fields, ids), self.group(part["devices"]))
        devices: list[str] = []
        for one in self.sequence(part["devices"], "devices"):
            device_id = self.text(one, "a device id")
            if device_id is not None:
                self.judge(validate_device_id(device_id), {"device_id": one}, one)
                devices.append(device_id)
        return Asked(Rule(fields, ids, frozenset(devices)))

    def group(self, node: Node) -> Group:
        """Read a group of devices."""
        part = self.mapping(node, "a group", GROUP) or {}
        labels = self.mapping(part["labels"], "labels", None) or {} if "labels" in part else {}
        if not part:
            self.wrong(node, "the group names nothing; leave 'devices' out for every device.")
        words = {key: self.text(part[key], key) or "" for key in ("site", "model") if key in part}
        named = {key: self.text(value, f"label {key}") or "" for key, value in labels.items()}
        return Group.of(named, words.get("site", ""), words.get("model", ""))
