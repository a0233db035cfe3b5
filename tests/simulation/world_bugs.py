"""Bugs to be planted: each shows that a checker bites.

A bug is an edit of a real function's source (it must fit, so a bug cannot silently be none when the
code changes) or something put in a function's place, for as long as :func:`planted` lasts.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import textwrap
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from world_plan import make

if TYPE_CHECKING:
    from collections.abc import Iterator

    from world_plan import Plan


@dataclass(frozen=True)
class Bug:
    """One planted bug."""

    where: str
    """``module:name`` or ``module:Class.name``, below ``streams``."""
    old: str
    new: str
    found_by: tuple[str, ...]
    """The checkers, one of which must find it."""
    also: tuple[tuple[str, str, str], ...] = ()
    """Further edits: where, old, new."""
    seed: int | None = None
    """A squall that finds it; none: it takes longer."""
    names: dict[str, str] = field(default_factory=dict)
    """Other modules that have the function by name: ``module``: name."""
    world: tuple[str, int, tuple[int, ...], tuple[int, ...], float] | None = None
    """Where no squall finds it soon: kind, seed, faults, devices and seconds of one that does."""

    def plans(self, most: int) -> Iterator[Plan]:
        """Yield worlds that may find it, the surest first."""
        if self.world is not None:
            kind, seed, *cut = self.world
            yield make(seed, kind).cut(*cut)
        for seed in [*([] if self.seed is None else [self.seed]), *range(most)]:
            yield make(seed, "squall")


BUGS: dict[str, Bug] = {
    "early_by_1_ms": Bug(
        "core.capture:not_before_ms",
        "return max(capture.command.scheduled_ms, capture.next_attempt_ms)",
        "return max(capture.command.scheduled_ms, capture.next_attempt_ms) - 1",
        ("early", "retry"),
        seed=0,
    ),
    "late_is_open": Bug(
        "core.capture:shutter_decision",
        'return "expired"',
        'return "open"',
        ("late",),
        seed=3,
    ),
    "lease_not_checked": Bug(
        "runtime.group:Group.lease_alive",
        "return self._known and self.lease_age_ms() < self._valid_ms",
        "return True",
        ("lease", "record", "doubled"),
        seed=74,
    ),
    "lease_renewed_ahead": Bug(
        "runtime.group:Group.renew",
        "max(self._renewed_at_ms, sent_at_ms)",
        "sent_at_ms + 60_000",
        ("lease", "record", "doubled"),
        seed=74,
    ),
    "deletes_not_logged": Bug(
        "runtime.committer:Committer._perform",
        "changelog.append((key, value, partition))",
        "changelog.append((key, value, partition)) if value else None",
        ("rows",),
        seed=0,
    ),
    "store_forgets_a_commit": Bug(
        "runtime.committer:Committer._perform",
        "self._store.apply(batch.writes, offsets)",
        "self._store.apply({}, offsets)",
        ("rows",),
        seed=0,
    ),
    "offsets_without_outputs": Bug(
        "runtime.committer:Committer._perform",
        "done = self._transactor.perform(batch, marks)",
        'batch.outputs.pop("schedule.ticks", None)\n'
        "    done = self._transactor.perform(batch, marks)",
        ("inputs", "refold", "results"),
        seed=0,
    ),
    "outputs_without_offsets": Bug(
        "runtime.partition:Step.__exit__",
        "batch.offsets[topic, partition.number] = offset",
        "pass",
        ("fence", "inputs", "refold", "rows", "ids", "results", "record"),
        seed=0,
    ),
    "only_offsets_that_moved": Bug(
        "runtime.partition:Step.__exit__",
        "batch.offsets[topic, partition.number] = offset",
        "if offset != getattr(Step, '_sent', {}).get((id(partition), topic), 0):\n"
        "            Step._sent = {**getattr(Step, '_sent', {}), (id(partition), topic): offset}\n"
        "            batch.offsets[topic, partition.number] = offset",
        ("fence", "inputs", "refold", "rows", "ids", "results", "record", "bug"),
        also=(
            (
                "runtime.committer:Committer.commit",
                "self._group.membership != batch.membership",
                "False",
            ),
        ),
        seed=1,
    ),
    "shutter_before_commit": Bug(
        "runtime.partition:Step.after_commit",
        "self._batch.committed.append(call)",
        "call()",
        ("record",),
        seed=0,
    ),
    "sequence_not_carried": Bug(
        "core.ids:next_command_id",
        "if last_id < first or first <= 0:",
        "if True:",
        ("ids",),
        seed=0,
    ),
    "request_memory_off": Bug(
        "core.requests:RequestMemory.find",
        "return row if row is not None",
        "return None if row is not None",
        ("requests", "doubled"),
        seed=1,
    ),
    "retry_ignores_not_after": Bug(
        "core.retry:obstacle",
        "if now_ms + backoff_ms(attempt) + policy.reserve_ms > not_after_ms:",
        "if False:",
        ("retry", "late"),
        seed=3,
    ),
    "retry_at_once": Bug(
        "core.capture:on_failure",
        "next_attempt_ms=next_ms",
        "next_attempt_ms=now_ms - 10_000",
        ("retry", "early", "bug"),
        seed=0,
    ),
    "picture_not_looked_for": Bug(
        "agents.capture_search:PhotoSearch._look",
        "image = await self._photos.find(command)",
        "image = None",
        ("picture",),
        seed=1,
    ),
    "revoke_ignores_epoch": Bug(
        "core.capture:on_revoked",
        "and c.epoch <= revoked.epoch",
        "",
        ("revoked",),
        seed=53,
    ),
    "revoke_ignores_times": Bug(
        "core.capture:on_revoked",
        "and c.scheduled_ms - c.moved_ms >= revoked.from_ms",
        "",
        ("revoked",),
        seed=3,
    ),
    "revoked_all_the_same": Bug(
        "core.capture:on_revoked",
        "if not revoked.schedule_id:",
        "if True:",
        ("revoked",),
        seed=0,
    ),
    "misfire_drops": Bug(
        "core.shard:_settle_interval",
        "if late.skipped_count:",
        "if False:",
        ("lost",),
        seed=5,
    ),
    "misfire_skips_too_much": Bug(
        "core.misfire:late_intervals",
        "next_ms = last_ms + every_ms",
        "next_ms = last_ms + 2 * every_ms",
        ("lost",),
        names={"core.shard": "late_intervals"},
        seed=1,
    ),
    "herd_loses_one": Bug(
        "core.herd:place",
        "return [entry for _, _, entry in placed]",
        "return [entry for _, _, entry in placed][:1]",
        ("lost",),
        names={"core.step": "place"},
        seed=1,
    ),
    "dedupe_off": Bug(
        "core.capture:on_command",
        "if find(state, command.command_id) is not None:",
        "if False:",
        ("results", "record", "doubled", "bug", "bounded"),
        seed=1,
    ),
    "rivals_allowed": Bug(
        "core.capture:on_command",
        "refusal, pending = rivals(state, command)",
        'refusal, pending = "", []',
        ("doubled",),
        seed=3,
    ),
    "clock_not_compared": Bug(
        "runtime.partition:Step.clocked",
        "self._batch.clocked.add(topic)",
        "pass",
        ("clock",),
        seed=4,
    ),
    "clock_goes_back": Bug(
        "agents.timing_wheel:TimingWheel._tick_time",
        "return max(now_ms, state.clock_ms)",
        "return now_ms",
        ("bug",),
        seed=3,
    ),
    "issued_again_after_a_restart": Bug(
        "core.partition:PartitionState._schedule",
        "after_ms = issued_ms + lead_ms + 1",
        "after_ms = issued_ms + 1",
        ("doubled", "refold", "results", "ids", "lost"),
        also=(
            (
                "core.partition:PartitionState._load",
                "self.floor_ms + lead_ms + 1",
                "self.floor_ms + 1",
            ),
        ),
        seed=0,
    ),
    "handover_always_unopened": Bug(
        "runtime.handover:Handover.unopened",
        "return generation == self.generation + 1 and not_before_ms > self.until_ms",
        "return True",
        ("doubled", "record", "results"),
        seed=1,
    ),
    "search_does_not_wait": Bug(
        "agents.capture_search:PhotoSearch._look",
        "if now_ms < over_ms:",
        "if False:",
        ("record", "doubled", "results"),
        seed=83,
    ),
    "untrimmed": Bug(
        "runtime.partition:Partition.trimmed",
        "if not records or records[0].offset >= position:",
        "if True:",
        ("bug", "inputs", "requests"),
        seed=0,
    ),
    "device_stays_busy": Bug(
        "agents.admission:Admission.leave",
        "self._busy.discard(seat.device_id)",
        "",
        ("results", "bounded"),
        seed=0,
    ),
    "seat_not_given_back": Bug(
        "agents.attempts:Attempts._on_done",
        "if seat is not None:",
        "if False:",
        ("results", "bounded", "bug"),
        seed=0,
    ),
    "ends_get_lost": Bug(
        "agents.capture_executor:CaptureExecutor._write_ends",
        "for command_id, decide in ends:",
        "for command_id, decide in ends[:1]:",
        ("results", "bounded"),
        seed=3,
    ),
    "held_back_for_ever": Bug(
        "agents.capture_executor:CaptureExecutor.resumed",
        "for timed in mine:",
        "for timed in []:",
        ("results", "bounded"),
        seed=3,
    ),
    "paused_fires_after_a_restart": Bug(
        "core.partition:PartitionState._schedule",
        "if row.paused:",
        "if False:",
        ("lost", "refold"),
        also=(("core.partition:PartitionState._load", "if like.paused", "if False"),),
        seed=0,
    ),
    "silence_too_soon": Bug(
        "core.health:Health._look",
        "due_ms = max(seen_ms, floor_ms) + timeout_ms",
        "due_ms = max(seen_ms, floor_ms) + 3_000",
        ("health",),
        seed=2,
    ),
    "ended_never_forgotten": Bug(
        "core.capture_row:forget",
        "if len(kept) == len(state.ended) <= limits.max_ended:",
        "if True:",
        ("bounded",),
        names={"core.capture": "forget"},
        seed=0,
    ),
    "attempt_not_counted": Bug(
        "core.transition:step",
        "attempt = capture.attempt + 1 if to_state == RUNNING else capture.attempt",
        "attempt = max(capture.attempt, 1) if to_state == RUNNING else capture.attempt",
        ("results", "doubled"),
        names={"core.capture": "step"},
        seed=0,
    ),
    "slew_left_not_in_the_bound": Bug(
        "runtime.clock:Clock.error_s",
        "+ abs(self._course.left_at(now_s))",
        "",
        ("time",),
        seed=31,
    ),
    "delay_not_in_the_bound": Bug(
        "core.ntp_select:Sample.distance_s",
        "return self.delay_s / 2.0 + self.dispersion_s + growth * age_s",
        "return self.dispersion_s + growth * age_s",
        ("time",),
        seed=31,
    ),
    "picture_of_another": Bug(
        "core.capture:_end",
        "image, timings, capture.transitions",
        "image and __import__('msgspec').structs.replace(image, sha256='0' * 64), timings, capture.transitions",
        ("audit",),
        seed=0,
    ),
    "letter_cut_short": Bug(
        "runtime.dead_letters:DeadLetters.write",
        "value=value,",
        "value=value and value[:9],",
        ("audit",),
        seed=0,
    ),
    "change_not_as_published": Bug(
        "agents.timing_wheel:TimingWheel.on_events",
        "changes.append(TickChange(record.offset, event))",
        "import msgspec\n"
        "            changed = msgspec.structs.replace(event, published_at_ms=now_ms)\n"
        "            changes.append(TickChange(record.offset, changed))",
        ("audit",),
        seed=0,
    ),
    "refused_without_an_answer": Bug(
        "agents.timing_wheel:TimingWheel._event",
        "step.produce(DECISIONS, refused.device_id.encode(), self._codec.encode(refused))",
        "pass",
        ("audit",),
        seed=0,
    ),
    "attempts_are_kept": Bug(
        "agents.attempts:Attempts._on_done",
        "self._owner.room()",
        "self._kept = [*getattr(self, '_kept', ()), bytearray(4_000)]\n    self._owner.room()",
        ("memory",),
        seed=0,
    ),
    "ticks_are_kept": Bug(
        "agents.timing_wheel:TimingWheel._tick",
        "metrics.ticks.inc()",
        "metrics.ticks.inc()\n    self._kept = [*getattr(self, '_kept', ()), encode(tick), bytearray(2_000)]",
        ("memory",),
        seed=0,
    ),
    "snapshot_of_another_tick": Bug(
        "agents.snapshots:Snapshots._publish",
        "tick_offset=point.next_offset - 1,",
        "tick_offset=point.next_offset - 4,",
        ("audit",),
        seed=14,
    ),
    "zones_not_noted": Bug(
        "core.step:Step.note_zone",
        'self.rows["shards", zone_key(name)] = zone_row(state.tz_version, name, zone)',
        "pass",
        ("audit", "refold", "rows"),
        seed=6,
    ),
    "another_spread_forgets_what_was_over": Bug(
        "core.changes:_behind_what_is_over",
        "while first_ms is not None:",
        "while False:",
        ("doubled",),
        world=("storm", 501016, (), (4,), 60.0),
    ),
    "silent_servers_agree": Bug(
        "core.ntp_select:select",
        "honest = max(len(candidates) - liars, 1)",
        "honest = len(candidates) // 2 + 1",
        ("time",),
        names={"runtime.ntp": "select"},
        world=("storm", 500023, (56, 78), (14,), 190.0),
    ),
    "silence_of_two_beats": Bug(
        "core.health:Health._look",
        "due_ms = max(seen_ms, floor_ms) + timeout_ms",
        "due_ms = max(seen_ms, floor_ms) + 13_000",
        ("health",),
    ),
    "one_way_counts": Bug(
        "core.ntp_select:sample_of",
        "offset_s=(there_s + back_s) / 2.0",
        "offset_s=there_s",
        ("time",),
        seed=31,
    ),
    "majority_of_one": Bug(
        "core.ntp_select:select",
        "bound = _shared_by(honest,",
        "bound = _shared_by(len(candidates),",
        ("time",),
        names={"runtime.ntp": "select"},
        seed=87,
    ),
}


def _target(where: str) -> tuple[Any, str, Any]:
    """Return the module or class, the name and the function."""
    module_name, _, path = where.partition(":")
    owner: Any = importlib.import_module(f"streams.{module_name}")
    *parents, name = path.split(".")
    for parent in parents:
        owner = getattr(owner, parent)
    return owner, name, inspect.getattr_static(owner, name)


def _edited(function: Any, old: str, new: str) -> Any:
    """Return a function with one piece of its source replaced."""
    plain = inspect.unwrap(function)
    source = textwrap.dedent(inspect.getsource(plain))
    if source.count(old) != 1:
        raise ValueError(f"{old!r} is {source.count(old)} times in {plain.__qualname__}")
    lines = source.replace(old, new).splitlines()
    while not lines[0].startswith(("def ", "async def ")):
        del lines[0]  # decorators
    space = dict(plain.__globals__)
    if plain.__closure__:
        space.update(
            zip(
                plain.__code__.co_freevars,
                [c.cell_contents for c in plain.__closure__],
                strict=True,
            )
        )
    code = "from __future__ import annotations\n" + "\n".join(lines)
    exec(compile(code, f"<{plain.__qualname__} with a bug>", "exec"), space)
    return space[plain.__name__]


@contextlib.contextmanager
def planted(name: str | None) -> Iterator[None]:
    """Have a bug in the code."""
    if not name:
        yield
        return
    bug = BUGS[name]
    edits = [(bug.where, bug.old, bug.new), *bug.also]
    undo: list[tuple[Any, str, Any]] = []
    try:
        for where, old, new in edits:
            owner, attribute, function = _target(where)
            edited = _edited(function, old, new)
            undo.append((owner, attribute, function))
            setattr(owner, attribute, edited)
            if where == bug.where:
                for module_name, other in bug.names.items():
                    module = importlib.import_module(f"streams.{module_name}")
                    undo.append((module, other, getattr(module, other)))
                    setattr(module, other, edited)
        yield
    finally:
        for owner, attribute, function in reversed(undo):
            setattr(owner, attribute, function)
