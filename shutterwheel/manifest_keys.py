"""The keys of a schedule in a manifest: when it is due, and how its photos are made.

What values may be is not written down here: the timing wheel's own rules
(``streams.core.schedule``) judge them, and each refusal is said at the key that it is about.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from connectors.clients.values import moment_ms
from schemas.records import CapturePolicy, ScheduleSpec
from shutterwheel.yaml_nodes import NodeReader

if TYPE_CHECKING:
    from ruamel.yaml.nodes import Node

    from streams.core.schedule import Refusal

SPEC: Final = ("every", "phase", "at")
"""Keys that say when."""
POLICY: Final = ("lead", "timeout", "catch_up", "spread", "priority")
"""Keys that say how; they may stand under ``defaults``, too."""

KEY_OF_CODE: Final = {
    "bad_device_id": "device_id",
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


@dataclass(slots=True)
class ScheduleKeys(NodeReader):
    """Reads the keys of schedules."""

    def judge(self, refusal: Refusal | None, part: dict[str, Node], node: Node) -> None:
        """Note what the timing wheel would refuse, at the key that it is about."""
        if refusal is not None:
            key = KEY_OF_CODE.get(refusal.code, "id")
            self.wrong(part.get(key, node), refusal.reason)

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
            for key in POLICY
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
