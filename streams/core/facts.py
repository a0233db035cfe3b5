"""What a tick does with each fact about a device: where it stands, whether its captures fail.

The fold asks nobody. What it is to know of devices stands in its ticks (``ScheduleTick.facts``), is
applied before the changes, and is kept in the table ``facts``, a row a device of which anything is
known. A fact that says what is known already changes nothing.

* **place**: the device's schedules whose times depend on it (sun, daylight) begin a new epoch: what
  they have issued for times to come is void, and they are due anew from the next millisecond on.
* **failing**: schedules that ask for it (``pause_after_failures``) are paused by the fold, which
  says so (``AutoPaused``) and stands in the row as who paused it. Counted are the failures since
  the schedule was last accepted or resumed, so a resume gives it as many attempts as at first.
* **recovered**: the count begins anew. Nothing is resumed: who paused knows what was repaired.

Example: ``pause_after_failures`` 3. The device fails four times (facts 3, 4): paused at 3. Resumed
after 4, ``failures_from`` is 4: the facts 5 and 6 change nothing, 7 pauses it again.

A fact of a device of another partition, or one that ``check_fact`` refuses, changes nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from schemas.records import AutoPaused, DeviceFacts
from streams.core import ids
from streams.core.changes import rest, start, supersede
from streams.core.compiled import place_of
from streams.core.recurrence import needs_place
from streams.core.refusal import Refusal
from streams.core.schedule import validate_device_id
from streams.core.times import Times

if TYPE_CHECKING:
    from schemas.records import DeviceFact
    from streams.core.step import Step

PLACE, FAILING, RECOVERED = "place", "failing", "recovered"
PAUSED_BY = "shutterwheel"
"""Stands in the row of a schedule that the fold itself has paused."""
MAX_CAUSE_CHARS = 200
"""What is kept of a failure's cause in a reason."""


def check_fact(fact: DeviceFact) -> Refusal | None:
    """Return why a fact cannot be one; null: it can."""
    refusal = validate_device_id(fact.device_id)
    if refusal is not None:
        return refusal
    if fact.kind not in {PLACE, FAILING, RECOVERED}:
        return Refusal("bad_fact", f"there is no fact {fact.kind!r}.")
    if fact.failures < 0:
        return Refusal("bad_failures", f"{fact.failures} failures in a row cannot be.")
    return check_place(fact.latitude, fact.longitude)


def check_place(latitude: float | None, longitude: float | None) -> Refusal | None:
    """Return why a device cannot stand there; null: it can, or it is not known."""
    if latitude is None and longitude is None:
        return None
    if latitude is None or longitude is None:
        return Refusal("bad_place", "latitude and longitude belong together; give both or none.")
    if not (-90 <= latitude <= 90 and -180 <= longitude <= 180):  # NaN is not, either
        return Refusal(
            "bad_place",
            f"latitude {latitude} and longitude {longitude}: degrees from -90 to 90 (north) and"
            " from -180 to 180 (east) were expected.",
        )
    return None


def known_after(known: DeviceFacts, fact: DeviceFact) -> DeviceFacts:
    """Return what is known of a device after a fact; an equal value: it says nothing new."""
    if fact.kind == PLACE:
        return msgspec.structs.replace(known, latitude=fact.latitude, longitude=fact.longitude)
    return msgspec.structs.replace(known, failures=fact.failures if fact.kind == FAILING else 0)


def learn(step: Step, fact: DeviceFact) -> None:
    """Keep one fact and do what follows from it."""
    state, device_id = step.state, fact.device_id
    if check_fact(fact) is not None:
        return
    if ids.shard_of(device_id) % state.partitions != state.partition:
        return
    known = state.facts.get(device_id) or DeviceFacts(device_id)
    after = known_after(known, fact)
    if after == known:
        return
    step.know(after)
    watched = state.watched.get(device_id, ())
    for key in sorted(state.keys[index] for index in watched):  # indices differ after a restart
        if fact.kind == PLACE:
            if place_of(after) != place_of(known):  # else less than a recurrence tells apart
                _moved(step, key)
        elif fact.kind == FAILING:
            _failing(step, key, fact)
        else:
            _recovered(step, key)


def _moved(step: Step, key: str) -> None:
    """Let a schedule that depends on the place begin anew at another one."""
    found = step.state.find(key)
    if found is None or not needs_place(found[1].spec):
        return
    index, row = found
    number, spec = step.state.shard_number(index), row.spec
    starts_at_ms = step.now_ms + 1
    if row.paused:
        start(step, row, number)  # no timer; its times are those of the new place
        return
    epoch = step.next_epoch(number)
    supersede(step, found, "the device's place has changed", starts_at_ms)
    moved = msgspec.structs.replace(row, epoch=epoch, starts_at_ms=starts_at_ms)
    if row.ends_at_ms is None:
        recurrence = step.state.recurrence(spec, row.device_id, row.schedule_id)
        ends_at_ms = Times.of(recurrence, moved).end_after_count(starts_at_ms)
        moved = msgspec.structs.replace(moved, ends_at_ms=ends_at_ms)
    start(step, moved, number)


def _failing(step: Step, key: str, fact: DeviceFact) -> None:
    """Pause a schedule whose device has failed as often as it allows."""
    found = step.state.find(key)
    if found is None:
        return
    index, row = found
    allowed = row.policy.pause_after_failures
    failed = fact.failures - row.failures_from
    if row.paused or not allowed or failed < allowed:
        return
    cause = fact.cause[:MAX_CAUSE_CHARS]
    reason = f"{failed} captures of the device failed in a row, the last: {cause}"
    epoch = step.next_epoch(step.state.shard_number(index))
    step.decisions.append(AutoPaused(row.device_id, row.schedule_id, epoch, step.now_ms, reason))
    rest(step, found, epoch, "the schedule was paused: its device fails", reason, PAUSED_BY)


def _recovered(step: Step, key: str) -> None:
    """Count from nothing again."""
    found = step.state.find(key)
    if found is not None and found[1].failures_from:
        step.amend(found[0], msgspec.structs.replace(found[1], failures_from=0))
