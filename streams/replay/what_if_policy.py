"""Another policy, laid over the past: which schedules it is for, and what it changes of theirs.

A :class:`WhatIf` has rules; each names fields of the policy and whom they are for. All rules that
fit a schedule are applied in their order, so the later ones say the last word. Beside them stand
settings of the tick itself: the capacity of a shard, the notice, the most fires.

What it means for schedules that stand already as the range begins is said in ``what_if.py``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

import msgspec

from schemas.records import CaptureRequested, ScheduleUpserted, TickChange

if TYPE_CHECKING:
    from collections.abc import Mapping

    from schemas.records import CapturePolicy, ScheduleEvent, ScheduleTick, TickSettings


@dataclass(frozen=True, slots=True)
class Rule:
    """What is changed, and of which schedules."""

    fields: Mapping[str, object]
    """Fields of ``CapturePolicy`` and their values."""
    schedules: tuple[str, ...] = ()
    """Patterns of schedule ids (``line-*``); none: every schedule, and requests for one photo."""
    devices: frozenset[str] | None = None
    """Ids; null: every device."""

    def fits(self, device_id: str, schedule_id: str) -> bool:
        """Say whether a schedule is meant; a request for one photo has the id ""."""
        if self.devices is not None and device_id not in self.devices:
            return False
        if not self.schedules:
            return True
        return bool(schedule_id) and any(fnmatchcase(schedule_id, one) for one in self.schedules)


@dataclass(frozen=True, slots=True)
class WhatIf:
    """Rules, and settings of ticks."""

    rules: tuple[Rule, ...] = ()
    settings: Mapping[str, int] = field(default_factory=dict)
    """Fields of ``TickSettings`` and their values."""

    def policy(self, device_id: str, schedule_id: str, policy: CapturePolicy) -> CapturePolicy:
        """Return the policy that a schedule would have had."""
        fields: dict[str, object] = {}
        for rule in self.rules:
            if rule.fits(device_id, schedule_id):
                fields.update(rule.fields)
        return msgspec.structs.replace(policy, **fields) if fields else policy

    def event(self, event: ScheduleEvent) -> ScheduleEvent:
        """Return the event as it would have been published."""
        if isinstance(event, ScheduleUpserted):
            policy = self.policy(event.device_id, event.schedule_id, event.policy)
        elif isinstance(event, CaptureRequested):
            policy = self.policy(event.device_id, "", event.policy)
        else:
            return event
        return msgspec.structs.replace(event, policy=policy)

    def tick(self, tick: ScheduleTick, first: tuple[TickChange, ...] = ()) -> ScheduleTick:
        """Return the tick under these rules, with further changes before its own."""
        changes = tuple(TickChange(one.offset, self.event(one.event)) for one in tick.changes)
        return msgspec.structs.replace(
            tick, settings=self.tick_settings(tick.settings), changes=first + changes
        )

    def tick_settings(self, settings: TickSettings) -> TickSettings:
        """Return a tick's settings under these rules."""
        return msgspec.structs.replace(settings, **self.settings) if self.settings else settings
