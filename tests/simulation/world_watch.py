"""The checkers of a world: they see each commit and each shutter, and know the true time.

========  ==========================================================================================
name      what must hold
========  ==========================================================================================
early     no shutter before its scheduled time, nor before the time of its retry
late      no shutter after ``not_after``
lease     no shutter by a worker that is in no group
record    a shutter opens only once RUNNING is committed, for a command of the log, not after its end
doubled   at most one shutter for an attempt, at most one command with a photo for a nominal time
ids       command ids are unique, of their device's shard, and grow in the order of issue
refold    ticks folded again give the same commands, decisions and rows, byte for byte
inputs    offsets are committed with what was made of the records: each event in one tick or letter
rows      what a worker recovers is what was committed
results   one terminal result a command, sound, with a reason, and a picture where it says so
revoked   a capture ends REVOKED for its revocation's epoch only; a revoked one is not armed later
lost      each time of a schedule was issued or skipped, and nothing else was issued
retry     an attempt follows its forerunner's backoff, and none follows ``not_after``
picture   whoever lost its worker is not tried again where its picture is in the store
requests  a request id is accepted once in half an hour
time      a clock that servers have set is within the bound that it states (``world_ntp``)
clock     no tick is ahead of the true time by more than is allowed
bounded   what is kept is what is open or lately ended
memory    the bytes that a process holds at the end are so many a partition and a row
health    online and offline take turns, and nobody is offline who was heard of
fence     no older generation writes after a newer one (``world_log``)
audit     the real audit, by the topics alone, finds nothing (``world_audit``)
bug       a worker fails as workers may: fenced, its clock wrong, no broker
========  ==========================================================================================
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import defaultdict, deque
from typing import TYPE_CHECKING, Any

from world_ntp import look_at_clock

from schemas.codec import Codec
from schemas.ids import FingerprintIds
from schemas.records import (
    Accepted,
    CaptureCommand,
    CaptureResult,
    CaptureRevoked,
    DeadLetter,
    DeviceOffline,
    DeviceOnline,
    PartitionSnapshot,
    Refused,
    ScheduleTick,
)
from streams.core import ids
from streams.core.partition import PartitionState
from streams.core.shard import advance
from streams.core.transition import RUNNING, verify

if TYPE_CHECKING:
    from collections.abc import Mapping

    from world_plan import Plan

    from streams.runtime.batch import Batch

CODEC = Codec(FingerprintIds())
TRACE_LINES = 400
SILENCE_MS = 20_000
"""After which a device is offline."""
AHEAD_MS = 2_100
"""``max_skew_ms`` and the grain of a clock."""


class FoundError(Exception):
    """A checker has found something."""


class Watch:
    """What was seen, and what is wrong with it."""

    def __init__(self, plan: Plan, partitions: int) -> None:
        self.plan, self.partitions = plan, partitions
        self.strict = plan.kind != "fleet"
        self.world: Any = None
        self.findings: list[str] = []
        self.trace: deque[str] = deque(maxlen=TRACE_LINES)
        self.digest = hashlib.sha256()
        self.shadows = {n: PartitionState(n, partitions) for n in range(partitions)}
        self.rows: dict[tuple[str, str, int], dict[bytes, bytes]] = {}
        """Committed rows by (app, table, partition)."""
        self.seen: dict[tuple[str, str, int], int] = {}
        """Committed offsets by (group, topic, partition)."""
        self.commands: dict[int, CaptureCommand] = {}
        self.revoked: dict[tuple[str, str], list[tuple[int, CaptureRevoked]]] = {}
        """By device and schedule; with the offset in capture.commands."""
        self.last_ids: dict[int, int] = {}
        self.running: dict[int, int] = {}
        """The latest attempt of an open capture whose RUNNING is committed."""
        self.retry_ms: dict[int, int] = {}
        self.shutters: dict[int, list[int]] = defaultdict(list)
        """Attempts that opened a shutter, by command."""
        self.opened_s: dict[int, float] = {}
        self.nominal: dict[tuple[str, str, int], int] = {}
        self.results: dict[int, str] = {}
        self.ticks: list[tuple[ScheduleTick, list[Any]]] = []
        """With the decisions of each."""
        self.requests: dict[tuple[str, str], int] = {}
        self.online: dict[str, bool] = {}
        self.beaten: dict[str, list[int]] = defaultdict(list)
        """When the broker stored heartbeats."""
        self.counts: dict[str, int] = defaultdict(int)
        self.held = 0.0
        """The most that a process held at the end, as a share of what it may."""
        self.met: dict[str, int] = defaultdict(int)
        """How often each fault had an effect: see README.md."""

    def find(self, checker: str, text: str) -> None:
        """Note a finding; the world ends."""
        self.findings.append(f"{checker}: {text}")
        self.note(f"FOUND {checker}: {text}")

    def note(self, text: str) -> None:
        """Put a line into the trace."""
        line = f"{self.world.schedule.now_s:10.4f} {text}"
        self.trace.append(line)
        self.digest.update(line.encode())

    # -- shutters ------------------------------------------------------------------------------

    def shutter(self, process: Any, command: CaptureCommand) -> None:
        """A camera was asked for a picture."""
        attempt = self._attempt(process, command)
        own_ms = process.clock.now_ms()
        command_id = command.command_id
        self.counts["shutters"] += 1
        self.note(f"shutter {process.loop_.name} {command_id} attempt {attempt} at {own_ms}")
        look_at_clock(self.world, process)
        if own_ms < command.scheduled_ms:
            self.find("early", f"{command_id} by {command.scheduled_ms - own_ms} ms")
        if own_ms > command.not_after_ms:
            self.find("late", f"{command_id} by {own_ms - command.not_after_ms} ms")
        if process.member_id not in process.coordinator.members:
            self.find("lease", f"{command_id} by {process.loop_.name}, which is in no group")
        if command_id not in self.commands:
            self.find("record", f"{command_id} is not in the log")
        if command_id in self.results:
            self.find("record", f"{command_id} has ended {self.results[command_id]}")
        if self.strict:
            if self.running.get(command_id) != attempt:
                self.find("record", f"{command_id}: RUNNING of attempt {attempt} is not committed")
            if own_ms < self.retry_ms.get(command_id, 0):
                self.find("retry", f"{command_id}: attempt {attempt} before its time")
        before = self.shutters[command_id]
        if attempt in before:
            self.find("doubled", f"{command_id} attempt {attempt}")
        before.append(attempt)
        self.opened_s[command_id] = self.world.schedule.now_s
        if command.schedule_id and not (command.schedule_id == "c" and self.counts["tz"]):
            # Two times of a clock by its hour may be at one moment: by the data of then and of now.
            key = (command.device_id, command.schedule_id, command.nominal_ms)
            if self.nominal.setdefault(key, command_id) != command_id:
                self.find("doubled", f"{command_id} and {self.nominal[key]} are of {key}")

    def _attempt(self, process: Any, command: CaptureCommand) -> int:
        tasks = process.program._attempts._tasks
        own, _ = tasks.get(asyncio.current_task(), (None, None))
        # Shutters of a partition that was given up may still open: its book is the last one had.
        for book in reversed(process.books) if own is None else [own]:
            entry = book.find_open(command.command_id)
            if entry is not None:
                return int(entry.attempt)
        return 0

    # -- commits -------------------------------------------------------------------------------

    def committed(self, process: Any, batch: Batch, outputs: Mapping[str, list[Any]]) -> None:
        """A transaction became visible."""
        app = process.settings.app
        count = sum(map(len, outputs.values()))
        update = self.digest.update
        for topic, messages in outputs.items():
            update(topic.encode())
            for key, value, partition in messages:
                update(b"%d %b " % (partition, key or b""))
                update(value or b"-")
        self.note(f"commit {process.loop_.name} {batch.membership.generation}: {count} records")
        self.counts["commits"] += 1
        look_at_clock(self.world, process)
        before = {}
        for (topic, partition), offset in batch.offsets.items():
            at = (app, topic, partition)
            before[topic, partition] = self.seen.get(at, 0)
            if offset < before[topic, partition]:
                self.find("inputs", f"{at} went back from {before[topic, partition]} to {offset}")
            self.seen[at] = offset
        if app == "wheel":
            self._wheel(batch, outputs, before)
        elif app == "captures":
            self._captures(batch, outputs, before)
        else:
            self._devices(outputs)
        for (table, partition, key), value in batch.writes.items():
            rows = self.rows.setdefault((app, table, partition), {})
            if value is None:
                rows.pop(key, None)
            else:
                rows[key] = value

    # -- the wheel -----------------------------------------------------------------------------

    def _wheel(
        self, batch: Batch, outputs: Mapping[str, list[Any]], before: dict[tuple[str, int], int]
    ) -> None:
        told = {
            t: _by_partition(outputs.get(t, [])) for t in ("capture.commands", "schedule.decisions")
        }
        folded: dict[tuple[str, int, bytes], bytes | None] = {}
        offsets: dict[int, set[int]] = defaultdict(set)
        encode = CODEC.encode
        for _, value, partition in outputs.get("schedule.ticks", []):
            tick = CODEC.decode(value)
            if isinstance(tick, PartitionSnapshot):
                self.counts["snapshots"] += 1
                continue
            assert isinstance(tick, ScheduleTick)
            made = advance(self.shadow(partition, tick), tick)
            self.counts["ticks"] += 1
            if self.strict:
                self.ticks.append((tick, made.decisions))
            if tick.time_ms > self.world.true_ms() + AHEAD_MS:
                ahead_ms = tick.time_ms - self.world.true_ms()
                self.find("clock", f"a tick of partition {partition} is {ahead_ms} ms ahead")
            for decision in made.decisions:
                if isinstance(decision, Accepted):
                    self._accepted(decision)
            offsets[partition] |= {entry.offset for entry in tick.changes}
            self._compare(partition, told["capture.commands"], list(map(encode, made.commands)), {})
            refused = told["schedule.decisions"]
            self._compare(partition, refused, list(map(encode, made.decisions)), {Refused})
            for command in made.commands:
                self._command(partition, command)
            for (table, key), row in made.rows.items():
                folded[table, partition, key] = None if row is None else encode(row)
        for left in told["capture.commands"].values():
            if left:
                self.find("refold", f"a command that no tick gives: {CODEC.decode(left[0])}")
        if folded != batch.writes:
            wrong = [k for k in {**folded, **batch.writes} if folded.get(k) != batch.writes.get(k)]
            self.find("refold", f"rows differ: {wrong[:3]}")
        letters = [CODEC.decode_as(v, DeadLetter) for _, v, _ in outputs.get("dead.letters", [])]
        for letter in letters:
            if letter.topic == "schedule.events":
                offsets[letter.partition].add(letter.offset)
        for (topic, partition), first in before.items():
            if topic == "schedule.events":
                end = batch.offsets[topic, partition]
                records = self.world.broker.read(topic, partition, first, 1_000_000)
                wanted = {r.offset for r in records if r.offset < end}
                if wanted != offsets[partition]:
                    odd = sorted(wanted ^ offsets[partition])[:5]
                    self.find("inputs", f"schedule.events-{partition}: {odd} of {first} to {end}")

    def _accepted(self, decision: Accepted) -> None:
        key = (decision.device_id, decision.request_id)
        before_ms = self.requests.get(key)
        if before_ms is not None and decision.tick_time_ms - before_ms < 1_800_000:
            self.find("requests", f"{decision} was accepted at {before_ms} already")
        self.requests[key] = decision.tick_time_ms

    def shadow(self, partition: int, tick: ScheduleTick) -> PartitionState:
        """Return the state that ticks are folded into again, under the tz data of this tick."""
        return self.world.shadow_for(partition, tick)  # type: ignore[no-any-return]

    def _compare(
        self,
        partition: int,
        told: dict[int, deque[bytes]],
        wanted: list[bytes],
        others: Any,
    ) -> None:
        """Take what a tick gives out of what was written, which may hold records of ``others``."""
        found = told.get(partition, deque())
        for value in wanted:
            while found and found[0] != value and type(CODEC.decode(found[0])) in others:
                found.popleft()
            if not found or found.popleft() != value:
                self.find("refold", f"partition {partition}: missing {CODEC.decode(value)}")
                return

    def _command(self, partition: int, command: CaptureCommand | CaptureRevoked) -> None:
        if isinstance(command, CaptureRevoked):
            offset = self.world.broker.shelf("capture.commands", partition).end
            key = (command.device_id, command.schedule_id)
            self.revoked.setdefault(key, []).append((offset, command))
            return
        command_id = command.command_id
        shard = ids.shard_of(command.device_id) if self.strict else ids.command_shard(command_id)
        if command_id in self.commands:
            self.find("ids", f"{command_id} twice")
        if ids.command_shard(command_id) != shard or shard % self.partitions != partition:
            self.find("ids", f"{command_id} is not of shard {shard}")
        if command_id <= self.last_ids.get(shard, 0):
            self.find("ids", f"{command_id} after {self.last_ids[shard]}")
        self.last_ids[shard] = command_id
        self.commands[command_id] = command
        self.counts["commands"] += 1

    def read_again(self, value: bytes | None, offset: int) -> None:
        """Note where a revocation stands now, which was copied and not read yet."""
        revoked = CODEC.decode(value or b"")
        if isinstance(revoked, CaptureRevoked):
            key = (revoked.device_id, revoked.schedule_id)
            kept = [(at, r) for at, r in self.revoked.get(key, []) if r != revoked]
            self.revoked[key] = [*kept, (offset, revoked)]

    # -- captures ------------------------------------------------------------------------------

    def _captures(
        self, batch: Batch, outputs: Mapping[str, list[Any]], before: dict[tuple[str, int], int]
    ) -> None:
        if self.strict:
            for (table, partition, key), value in batch.writes.items():
                if table == "captures" and value is not None:
                    self._row(partition, key, value, before)
        for _, value, _ in outputs.get("capture.results", []):
            self._result(CODEC.decode_as(value, CaptureResult))

    def _row(
        self, partition: int, key: bytes, value: bytes, before: dict[tuple[str, int], int]
    ) -> None:
        entry: Any = CODEC.decode(value)
        if b"\0" not in key:
            newest_ms = max((e.ended_at_ms for e in entry.ended), default=0)
            old = [
                e for e in entry.ended
                if max(e.ended_at_ms + 20_000, e.not_after_ms) < newest_ms - 1_000
            ]  # fmt: skip
            if old or len(entry.ended) > 64:
                self.find("bounded", f"{key!r} remembers {len(entry.ended)}, {len(old)} in vain")
            return
        command = entry.command
        command_id = command.command_id
        if problems := verify(entry):
            self.find("results", f"{command_id}: {problems}")
        if entry.state != RUNNING:
            self.retry_ms[command_id] = entry.next_attempt_ms
            cause = entry.transitions[-1].cause
            if entry.attempt and cause == "worker lost":
                site = self.world.site
                opened = entry.attempt in self.shutters.get(command_id, ())
                if opened and command_id in site.blobs and self._was_told(command_id):
                    self.find("picture", f"{command_id} is to be taken again: {entry}")
            elif (
                entry.attempt
                and cause != "overlap"
                and entry.transitions[-1].at_ms > entry.transitions[-2].at_ms  # no clock set back
                and (entry.next_attempt_ms < entry.transitions[-1].at_ms + (50 << entry.attempt))
            ):
                self.find("retry", f"{command_id}: its next attempt is too soon")
            elif entry.attempt and entry.next_attempt_ms > command.not_after_ms:
                self.find("retry", f"{command_id}: its next attempt is after not_after")
            return
        self.running[command_id] = entry.attempt
        if entry.attempt != 1:
            return
        read = before.get(("capture.commands", partition), 0)
        for offset, revoked in self.revoked.get((command.device_id, command.schedule_id), []):
            if offset < read and _is_meant(command, revoked):
                self.find("revoked", f"{command_id} was armed after its revocation was read")

    def _was_told(self, command_id: int) -> bool:
        """Tell whether whoever tries it again found its picture, or did not look."""
        looked_s, found = self.world.site.looked.get(command_id, (-1.0, False))
        return found or looked_s < self.opened_s[command_id]

    def _result(self, result: CaptureResult) -> None:
        command_id = result.command_id
        self.counts[result.state] += 1
        command = self.commands.get(command_id)
        if command is None:
            self.find("results", f"{command_id} is no command")
            return
        if command_id in self.results:
            self.find("results", f"{command_id} ended twice: {self.results[command_id]}, {result}")
        self.results[command_id] = result.state
        if problems := verify(result):
            checker = "early" if any("early" in p for p in problems) else "results"
            self.find(checker, f"{command_id}: {problems}")
        if result.state != "SUCCESS" and not result.cause:
            self.find("results", f"{command_id} ended {result.state} without a reason")
        attempts = self.shutters.get(command_id, [])
        if result.state == "SUCCESS":
            if command_id not in self.world.site.blobs or not attempts:
                self.find("results", f"{command_id} has no picture")
            if result.cause == "recovered":
                self.counts["recovered"] += 1
        if attempts and max(attempts) > result.attempt:
            self.find("results", f"{command_id} names {result.attempt} of {attempts}")
        if result.attempt > 1 and result.state == "SUCCESS":
            self.counts["repeated"] += 1
        if result.cause.startswith("revoked:"):
            key = (command.device_id, command.schedule_id)
            if not any(_is_meant(command, r) for _, r in self.revoked.get(key, [])):
                self.find("revoked", f"{command_id} of epoch {command.epoch}: nobody revoked it")

    # -- health --------------------------------------------------------------------------------

    def _devices(self, outputs: Mapping[str, list[Any]]) -> None:
        for _, value, _ in outputs.get("device.events", []):
            event = CODEC.decode(value)
            if not isinstance(event, DeviceOnline | DeviceOffline):
                continue
            online, device_id = isinstance(event, DeviceOnline), event.device_id
            self.counts["online" if online else "offline"] += 1
            if self.online.get(device_id) == online and not event.flapping:
                self.find("health", f"{device_id} is told twice: {event}")
            self.online[device_id] = online
            if not online:
                # Told by a clock that may be ahead: what came just before it came after.
                heard = [at for at in self.beaten[device_id] if at <= event.at_ms - AHEAD_MS]
                if heard and event.at_ms - heard[-1] < SILENCE_MS - 3_000:
                    self.find("health", f"{device_id} was heard of: {event}, {heard[-1]}")

    # -- recovery ------------------------------------------------------------------------------

    def opened(self, process: Any, partition: Any) -> None:
        """A worker has opened a partition with what it has on its disk."""
        if not process.coordinator.knows(partition.membership):
            return  # it was stopped while it recovered, and will be fenced
        app = process.settings.app
        for table in process.layout.changelogs:
            found = process._store.rows.get((table, partition.number), {})
            wanted = self.rows.get((app, table, partition.number), {})
            if found != wanted:
                odd = [k for k in {**found, **wanted} if found.get(k) != wanted.get(k)]
                self.find("rows", f"{process.loop_.name} {table}-{partition.number}: {odd[:3]}")


def _by_partition(messages: list[Any]) -> dict[int, deque[bytes]]:
    found: dict[int, deque[bytes]] = {}
    for _, value, partition in messages:
        found.setdefault(partition, deque()).append(value)
    return found


def _is_meant(command: CaptureCommand, revoked: CaptureRevoked) -> bool:
    return (
        command.epoch <= revoked.epoch
        and command.scheduled_ms - command.moved_ms >= revoked.from_ms
    )


__all__ = ["CODEC", "Accepted", "Watch"]
