"""What must hold at a world's end, when all faults are over and nothing is wanted any more."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from world_memory import allowed_bytes, held_bytes

from schemas.records import (
    Accepted,
    AutoPaused,
    CaptureCommand,
    Ended,
    ScheduleUpserted,
    Skipped,
)
from streams.core import ids
from streams.core.recurrence import Recurrence
from streams.core.state_hash import state_hash
from streams.core.times import Times, is_once

if TYPE_CHECKING:
    from world import World

GRACE_MS = 60_000
"""How long after ``not_after`` a result may be written at a world's end."""


def final(world: World) -> None:
    """Run the checkers that need the whole."""
    _results(world)
    if world.watch.strict:
        _lost(world)
    _bounded(world)
    _hashes(world)


def _results(world: World) -> None:
    watch, now_ms = world.watch, world.true_ms()
    for command_id, command in watch.commands.items():
        over_ms = command.not_after_ms + command.capture_timeout_ms + GRACE_MS
        if command_id not in watch.results and over_ms < now_ms:
            watch.find("results", f"{command_id} never ended: {command}")
            return
    for command_id, attempts in watch.shutters.items():
        if command_id not in watch.results and watch.commands[command_id].not_after_ms < now_ms:
            watch.find("results", f"{command_id} has photos {attempts} and no end")


def _bounded(world: World) -> None:
    watch = world.watch
    waiting = [c for c in watch.commands if c not in watch.results]
    held = 0
    for process in world.processes.values():
        if process.loop_.dead:
            continue
        program: Any = process.program
        held_now, allowed = held_bytes(process), allowed_bytes(world, process)
        watch.held = max(watch.held, held_now / allowed)
        if held_now > allowed:
            watch.find("memory", f"{process.loop_.name} holds {held_now:,} of {allowed:,} bytes")
        batches = process.committer._batches()
        if sum(batch.records for batch in batches) > 10_000:
            watch.find("bounded", f"{process.loop_.name} has not committed")
        if process.settings.app == "captures":
            held += sum(book.open_count for book in program.books())
            if watch.strict:
                _executor(world, process, program)
    if held != len(waiting):
        watch.find("bounded", f"{held} captures are held, {len(waiting)} are open")


def _executor(world: World, process: Any, program: Any) -> None:
    admission = program.admission
    left = {
        "armed": len(program._shutters),
        "waiting": admission.waiting,
        "in flight": len(program._attempts),
        "seats": len(admission._seats),
        "busy": len(admission._busy),
        "hosts": len(admission._hosts),
        "preparations": len(program._preparation),
        "held": len(program._held),
        "rows": sum(len(book._rows) for book in program.books()),
        "pools": sum(pool.in_use for pool in admission._pools),
    }
    if world.watch.commands.keys() == world.watch.results.keys() and any(left.values()):
        world.watch.find("bounded", f"{process.loop_.name} keeps {left}")
    for book in program.books():
        if len(book._ended) > len(book._rows) + len(book._idle):
            world.watch.find("bounded", f"{len(book._ended)} ended of {len(book._idle)} devices")


def _hashes(world: World) -> None:
    """Compare the rows on the disks of owners with those of the fold, as one number."""
    for (app, _), process in world.processes.items():
        for number, partition in process.partitions.items():
            if process.loop_.dead or not partition.open:
                continue
            hashes = {
                state_hash(
                    (table, key, value)
                    for table in sorted(process.layout.changelogs)
                    for key, value in sorted(rows(table).items())
                )
                for rows in (
                    lambda table, p=process, n=number: p._store.rows.get((table, n), {}),
                    lambda table, a=app, n=number: world.watch.rows.get((a, table, n), {}),
                )
            }
            if len(hashes) > 1:
                world.watch.find("rows", f"{process.loop_.name}-{number} is not the fold's state")


# --- every time of a schedule ---------------------------------------------------------------------


class _Span:
    """An epoch of a schedule: its times from ``begin_ms`` until it ends."""

    def __init__(self, event: ScheduleUpserted, epoch: int, begin_ms: int, told_ms: int) -> None:
        self.event, self.epoch, self.begin_ms, self.told_ms = event, epoch, begin_ms, told_ms
        self.end_ms: int | None = None
        self.recurrence = Recurrence(event.spec, None)


def _lost(world: World) -> None:
    """Compare the times of each epoch with what was issued and skipped."""
    watch = world.watch
    spans = _spans(world)
    issued: dict[tuple[str, str, int], set[int]] = {}
    for command in watch.commands.values():
        if command.schedule_id:
            key = (command.device_id, command.schedule_id, command.epoch)
            issued.setdefault(key, set()).add(command.scheduled_ms - command.moved_ms)
    skipped: dict[tuple[str, str, int], list[tuple[int, int]]] = {}
    for _, decisions in watch.ticks:
        for d in decisions:
            if isinstance(d, Skipped) and d.count:
                key = (d.device_id, d.schedule_id, d.epoch)
                skipped.setdefault(key, []).append((d.first_ms, d.last_ms))
    clocks = {n: s.time_ms for n, s in watch.shadows.items()}
    first_ms, after_ms, restarted = _tz(world)
    for key in restarted:
        issued.pop(key, None)  # the audit folds these again, under the data of then and of now
    for key, span in spans.items():
        over = span.end_ms is not None and span.end_ms < first_ms
        if span.event.spec.zone and not over and span.told_ms <= after_ms:
            issued.pop(key, None)
            continue  # its times are others now than they were
        mine, ranges = issued.pop(key, set()), skipped.get(key, [])
        last_ms = clocks[ids.partition_of(key[0], world.partitions)]
        if not _compare(world, key, span, mine, ranges, last_ms):
            return
    if issued:
        watch.find("lost", f"issued of no epoch: {next(iter(issued.items()))}")


def _tz(world: World) -> tuple[float, float, set[tuple[str, str, int]]]:
    """Return from when and until when tz data have changed, and the epochs that began by that."""
    versions: dict[int, str] = {}
    times: list[float] = [since_s * 1000.0 for since_s, _ in world.zones.changes]
    restarted = set()
    for tick, decisions in world.watch.ticks:
        if versions.setdefault(tick.partition, tick.tz_version) != tick.tz_version:
            versions[tick.partition] = tick.tz_version
            times.append(tick.time_ms)
        restarted |= {
            (d.device_id, d.schedule_id, d.epoch)
            for d in decisions
            if isinstance(d, Skipped) and not d.count and d.reason.startswith("the tz data")
        }
    return min(times, default=math.inf), max(times, default=-math.inf), restarted


def _compare(
    world: World,
    key: tuple[str, str, int],
    span: _Span,
    issued: set[int],
    skipped: list[tuple[int, int]],
    last_ms: int,
) -> bool:
    policy = span.event.policy
    times = Times(span.recurrence, policy, key[0])
    lead_ms = policy.lead_ms
    until_ms = span.end_ms if span.end_ms is not None else last_ms + lead_ms
    at_ms = times.at_or_after(span.begin_ms)
    while at_ms is not None and at_ms <= until_ms:
        told = at_ms in issued or any(first <= at_ms <= last for first, last in skipped)
        if not told:
            world.watch.find("lost", f"{key}: {at_ms} was neither issued nor skipped, {span.event}")
            return False
        at_ms = times.at_or_after(at_ms + 1)
    for at_ms in issued:
        if times.at_or_after(at_ms) != at_ms or at_ms < span.begin_ms:
            world.watch.find("lost", f"{key}: {at_ms} was issued and is none of its times")
            return False
    return True


def _spans(world: World) -> dict[tuple[str, str, int], _Span]:
    """Return the epochs of all schedules, by device, schedule and epoch."""
    spans: dict[tuple[str, str, int], _Span] = {}
    now: dict[tuple[str, str], _Span] = {}
    rows: dict[tuple[str, str], ScheduleUpserted] = {}
    paused: set[tuple[str, str]] = set()
    for tick, decisions in world.watch.ticks:
        events = {entry.event.request_id: entry.event for entry in reversed(tick.changes)}
        for d in decisions:
            if not isinstance(d, Accepted | AutoPaused | Ended) or not d.schedule_id:
                continue
            key = (d.device_id, d.schedule_id)
            before = now.get(key)
            if isinstance(d, Accepted) and before is not None and d.epoch == before.epoch:
                continue  # nothing changed
            if before is not None:
                before.end_ms = tick.time_ms
                del now[key]
            if isinstance(d, Ended):
                rows.pop(key, None)
                paused.discard(key)
                continue
            change = d.change if isinstance(d, Accepted) else "SchedulePaused"
            if change == "ScheduleUpserted":
                rows[key] = events[d.request_id]  # type: ignore[assignment,union-attr]
            elif change == "SchedulePaused":
                paused.add(key)
            elif change == "ScheduleResumed":
                paused.discard(key)
            else:
                rows.pop(key, None)
                paused.discard(key)
            if key in rows and key not in paused:
                begin_ms = d.starts_at_ms  # type: ignore[union-attr]
                if is_once(rows[key].spec):
                    begin_ms = 0
                span = _Span(rows[key], d.epoch, begin_ms, tick.time_ms)
                now[key] = spans[*key, d.epoch] = span
    return spans


__all__ = ["CaptureCommand", "final"]
