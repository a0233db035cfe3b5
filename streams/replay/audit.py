"""Audit: fold the ticks of a partition again, and compare all that came of them.

**What is compared**, of each partition, in one pass with its topics side by side:

1. schedule.ticks with schedule.events and dead.letters: every event is in one of them, once
   (``audit_events.py``);
2. what the fold makes of the ticks with schedule.decisions and capture.commands, byte for byte and
   in order (``audit_pairing.py``);
3. the state at each snapshot with its hash, and with its rows where they can be read
   (``audit_state.py``);
4. capture.commands with capture.results, and these with their transitions, checksums, times and
   pictures (``audit_results.py``).

**Where it starts.** The fold needs a state to start from: none at offset 0 of the ticks, else that
of a snapshot. Where there is no snapshot before the start, the fold begins at the next one; until
then commands are taken as they stand in their topic, and all but 2 and 3 is checked. The report
says so. The same goes on after a tick that cannot be folded here: made by rules that this release
does not know, or by time zone data that neither it nor the state has (``streams/core/tz.py``).

**Memory**: the partition's schedules, as in a wheel; the commands that are open; a few thousand
entries a topic. Nothing grows with the length of the log but what is lost in it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from schemas.errors import DecodeError
from schemas.records import PartitionSnapshot, ScheduleTick
from schemas.tick_reader import TickReader
from streams.core import tz
from streams.core.partition import PartitionState
from streams.core.schedule_table import device_of
from streams.core.shard import KNOWN_RULES, advance
from streams.core.state_hash import state_hash
from streams.replay.audit_cursor import Cursor, settled_ends
from streams.replay.audit_events import DECISIONS, EVENTS, LETTERS, TICKS, EventCheck, Letters
from streams.replay.audit_findings import Finding, Findings
from streams.replay.audit_pairing import Pairing, tick_time_ms
from streams.replay.audit_range import Range, Ticks, moment
from streams.replay.audit_report import AuditOptions, AuditTools, PartitionReport
from streams.replay.audit_results import COMMANDS, RESULTS, ResultCheck
from streams.replay.audit_runs import UNFOLDABLE, QuietRun
from streams.replay.audit_state import differences, rows_of, state_of, todays

if TYPE_CHECKING:
    from schemas.codec import Codec
    from streams.replay.audit_quiet import Fires
    from streams.replay.audit_state import Row
    from streams.replay.log import Log

    Spans = tuple[tuple[int, int], ...] | None

__all__ = ["TOPICS", "AuditOptions", "AuditTools", "PartitionReport", "audit_partition"]

TOPICS: Final = (EVENTS, TICKS, DECISIONS, COMMANDS, RESULTS, LETTERS)
SLACK_MS: Final = 60_000
"""How far the clocks of writers may be apart: entries are read from so long before a start."""
PROGRESS: Final = 500
"""Ticks between two calls of the progress."""


def audit_partition(
    log: Log, partition: int, options: AuditOptions, tools: AuditTools
) -> PartitionReport:
    """Audit one partition.

    Raises BrokerError where the log cannot be read, UsageError where it lacks a topic.
    """
    return _PartitionAudit(log, partition, options, tools).run()


class _PartitionAudit:
    def __init__(self, log: Log, partition: int, options: AuditOptions, tools: AuditTools) -> None:
        self._log = log
        self._partition = partition
        self._partitions = log.partitions(TICKS)
        self._options = options
        self._tools = tools
        self._codec = tools.codec
        self._findings = Findings(options.device_id)
        self._report = PartitionReport(
            partition, states={}, tz_upgrades=[], unchecked=[], findings=[]
        )
        self._state: PartitionState | None = None
        self._ticks = Ticks(
            log, partition, self._codec, tools.read_rows, self._findings, self._report.unchecked
        )
        self._range = Range(0, 0)
        self._last_ms = 0
        self._before_ms = 0
        """Time of the tick before; 0: not known."""
        self._told = self._told_ticks = 0
        self._run = QuietRun(tools.codec)
        self._devices: set[str] = set()
        self._tz_version = ""

    def run(self) -> PartitionReport:
        """Do all of it."""
        log, number, report = self._log, self._partition, self._report
        self._range = found = self._ticks.range(self._options.from_ms, self._options.to_ms)
        beside = (RESULTS, COMMANDS, DECISIONS, LETTERS, EVENTS)
        ends = settled_ends(log, TICKS, number, found.end, beside)
        since_ms, events_first = self._begin()
        self._open(ends, since_ms, events_first)
        cursor = Cursor(log, TICKS, number, found.first, found.end)
        self._cursors.append(cursor)
        reader = TickReader(self._codec)
        while (entry := cursor.peek()) is not None:
            cursor.pop()
            try:
                tick, events = reader.read(entry.value or b"")
            except DecodeError as error:
                self._fold_run()
                self._damaged(entry.offset, "corrupt", f"it cannot be read: {error}")
                continue
            if isinstance(tick, PartitionSnapshot):
                continue
            if not isinstance(tick, ScheduleTick):
                self._fold_run()
                self._damaged(entry.offset, "corrupt", f"it is a {type(tick).__name__}")
                continue
            self._chained(entry.offset, tick)
            fits = self._fits(tick)
            if not fits:
                self._fold_run()
                fits = self._fits(tick)  # the state has moved
            if fits:
                self._run.waiting.append((entry.offset, tick))
            else:
                self._tick(entry.offset, tick, entry.value, events)
            if entry.offset in found.snapshots:
                self._fold_run()
                self._snapshot(*found.snapshots[entry.offset])
            elif self._run.is_full:
                self._fold_run()
        self._fold_run()
        self._finish()
        report.records = sum(one.read for one in self._cursors)
        self._tell(everything=True)
        return report

    def _fits(self, tick: ScheduleTick) -> bool:
        """Say whether a tick can be folded with those that wait."""
        return self._run.fits(tick, self._state) and not self._why_not(tick)

    def _tell(self, *, everything: bool = False) -> None:
        """Tell how far it is, now and then."""
        if not everything and self._report.ticks - self._told_ticks < PROGRESS:
            return
        read = sum(one.read for one in self._cursors)
        self._tools.progress(self._partition, read - self._told, self._last_ms)
        self._told, self._told_ticks = read, self._report.ticks

    # -- where to begin --------------------------------------------------------------------------

    def _begin(self) -> tuple[int, int]:
        """Make the first state; return from when captures count, and the first event to look at."""
        found, report = self._range, self._report
        kept = self._log.firsts(EVENTS)[self._partition]
        if found.start is not None and self._load(found.start, found.rows):
            report.started = f"with the snapshot of {moment(found.start.time_ms)}"
            self._before_ms = found.start.time_ms
            return found.start.time_ms, max(kept, found.start.events_offset)
        if found.first == 0 and not found.copied:
            self._state = PartitionState(self._partition, self._partitions)
            report.started = "with nothing, at the beginning of the log"
            return 0, kept
        report.started = "at no known state"
        report.unchecked.append(
            "There is no snapshot to begin with whose rows can be read, and the ticks before are "
            "not kept: commands and decisions up to the next snapshot are taken as they stand; "
            "events, results and pictures are checked all the same."
        )
        first_ms, change = self._ticks.first_time_ms(found), self._ticks.first_change(found)
        if change is None:
            change = self._log.ends(EVENTS)[self._partition]
        return max(first_ms - 1, 0), max(kept, change)

    def _load(self, snapshot: PartitionSnapshot, rows: list[Row]) -> bool:
        try:
            self._state = state_of(rows, self._partition, self._partitions, self._codec)
        except (DecodeError, ValueError) as error:
            self._state = None
            self._report.unchecked.append(
                f"The rows of the snapshot of {moment(snapshot.time_ms)} make no state: {error}"
            )
            return False
        if self._tools.want_image_ids:
            self._devices.update(map(device_of, self._state.table.index))
        return True

    def _open(self, ends: dict[str, int], since_ms: int, events_first: int) -> None:
        """Open the topics beside the ticks at the place that belongs to the first tick."""
        codec, findings, number = self._codec, self._findings, self._partition

        trimmed: set[str] = set()
        """Topics that do not reach back as far as the ticks do."""

        def cursor(topic: str) -> Cursor:
            first = kept = self._log.firsts(topic)[number]
            if since_ms:
                first = max(kept, self._log.offset_at(topic, number, since_ms - SLACK_MS))
            if kept and first == kept:
                trimmed.add(topic)
            return Cursor(self._log, topic, number, first, ends[topic])

        events = Cursor(self._log, EVENTS, number, events_first, ends[EVENTS])
        letters, decisions, commands, results = map(cursor, (LETTERS, DECISIONS, COMMANDS, RESULTS))
        self._cursors = [events, letters, decisions, commands, results]
        self._letters = Letters(letters, codec, findings, events_first)
        self._events = EventCheck(events, self._letters, codec, findings, events_first)
        self._results = ResultCheck(
            results, codec, findings, since_ms, self._options.settle_ms, self._tools.check_images
        )
        if self._tools.want_image_ids:
            self._results.image_ids = []
        if RESULTS in trimmed and (entry := results.peek()) is not None:
            self._results.kept_from_ms = entry.timestamp_ms
        self._commands = Pairing(commands, codec, findings, self._results.issued)
        self._decisions = Pairing(
            decisions, codec, findings, lambda _r, _o: None, self._letters.refused
        )
        for pairing, one in ((self._commands, commands), (self._decisions, decisions)):
            pairing.aligning, pairing.aligned_ms = since_ms > 0, since_ms
            if one.topic in trimmed and (entry := one.peek()) is not None:
                pairing.kept_from_ms = _time_of(codec, entry.value)
                self._report.unchecked.append(
                    f"{one.topic} is kept from {moment(pairing.kept_from_ms)} on: what the ticks "
                    "made before that cannot be compared."
                )
        # A result whose command is not kept any more is no stray.
        self._results.since_ms = max(since_ms, self._commands.kept_from_ms)
        if since_ms:
            self._commands.as_they_are(since_ms)
            self._decisions.as_they_are(since_ms)

    def _chained(self, offset: int, tick: ScheduleTick) -> None:
        """Compare the tick before with the one that this names: one without outputs leaves no
        other trace.
        """
        before_ms, self._before_ms = self._before_ms, tick.time_ms
        if before_ms and tick.previous_ms not in {0, before_ms}:  # 0: of an older release
            self._fold_run()
            found, named = moment(before_ms), tick.previous_ms
            text = f"the tick before it was of {named} ms ({moment(named)}), and here is {found}"
            self._add("lost", offset, text)

    # -- many ticks at once ----------------------------------------------------------------------

    def _fold_run(self) -> None:
        """Fold the quiet ticks that wait: as many together as can be, the others one by one."""
        run, at = self._run.take(), 0
        while at < len(run):
            count, fires = 0, None
            self._note_tz(*run[at])
            if self._state is not None:
                count, fires = self._run.fold(run, at, self._state)
            if count:
                self._folded([tick for _, tick in run[at : at + count]], fires)
            else:
                self._tick(*run[at])
            at += count or 1

    def _folded(self, ticks: list[ScheduleTick], fires: Fires | None) -> None:
        """Take in ticks that were folded together, and compare what they made."""
        report, last_ms = self._report, ticks[-1].time_ms
        report.ticks += len(ticks)
        report.folded += len(ticks)
        report.first_ms = report.first_ms or ticks[0].time_ms
        self._last_ms = max(self._last_ms, last_ms)
        if fires is not None:
            self._commands.expect_run(fires, self._results.issued_run)
        self._results.advance(last_ms)
        self._tell()

    # -- tick by tick ----------------------------------------------------------------------------

    def _tick(
        self, offset: int, tick: ScheduleTick, data: bytes | None = None, events: Spans = None
    ) -> None:
        """Look at one tick, whose events stand in ``data`` at these places."""
        report = self._report
        report.ticks += 1
        report.first_ms = report.first_ms or tick.time_ms
        self._last_ms = max(self._last_ms, tick.time_ms)
        self._note_tz(offset, tick)
        self._results.advance(tick.time_ms)
        self._tell()
        self._events.tick(offset, tick, data, events)
        if self._tools.want_image_ids:
            self._devices.update(change.event.device_id for change in tick.changes)
        state = self._state
        if state is not None:
            why = self._why_not(tick)
            if why:
                self._lose_state(
                    f"Ticks from offset {offset} on cannot be folded again here: {why}"
                )
                state = None
        if state is None:
            self._commands.as_they_are(tick.time_ms)
            self._decisions.as_they_are(tick.time_ms)
            return
        version, behind = state.tz_version, state.behind
        try:
            outputs = advance(state, tick)
        except UNFOLDABLE as error:
            self._damaged(offset, "divergent", f"it cannot be folded: {error}")
            return
        report.folded += 1
        self._run.changed(outputs)
        if state.tz_version != version or behind is not None:
            self._run.forget()
        if outputs.decisions:
            self._decisions.expect(outputs.decisions)
        if outputs.commands:
            self._commands.expect(outputs.commands)

    def _why_not(self, tick: ScheduleTick) -> str:
        if tick.rules_version not in KNOWN_RULES:
            return f"rules version {tick.rules_version} is not known to this release."
        why = "" if self._state is None else tz.why_not(self._state, tick)
        return f"{why}; see --tz." if why else ""

    def _note_tz(self, offset: int, tick: ScheduleTick) -> None:
        """Tell of each upgrade of the tz data: a tick whose version is not that before it."""
        if self._tz_version not in {"", tick.tz_version}:
            self._report.tz_upgrades.append(
                f"from {self._tz_version} to {tick.tz_version} with the tick at offset {offset},"
                f" {moment(tick.time_ms)}"
            )
        self._tz_version = tick.tz_version

    def _damaged(self, offset: int, kind: str, text: str) -> None:
        self._add(kind, offset, text)
        self._before_ms = 0
        if self._state is not None:
            self._lose_state(f"Behind the tick at offset {offset} the state is not known.")

    def _lose_state(self, why: str) -> None:
        self._state = None
        self._report.unchecked.append(
            f"{why} Commands and decisions up to the next snapshot are taken as they stand."
        )

    def _snapshot(self, at: int, snapshot: PartitionSnapshot) -> None:
        """Compare the state with a snapshot of this very tick; or begin with it."""
        state, report = self._state, self._report
        rows = self._ticks.rows(snapshot)
        if state is None:
            if rows is not None and tz.at_hand(snapshot.tz_version, snapshot.rules_version):
                self._join(snapshot, rows)
            return
        report.snapshots += 1
        ours = list(rows_of(state, self._codec))
        if state_hash(ours) == snapshot.state_hash:
            return
        words = "its hash is not that of the state which the ticks make"
        if rows is not None:
            count, first = differences(ours, todays(rows, self._codec))
            if not count:
                return  # written by an older release, and the same
            words = f"{count:,} rows are not as the ticks make them: {'; '.join(first)}"
        self._add("divergent", at, f"the snapshot of the tick at {snapshot.tick_offset}: {words}")
        if rows is not None:
            self._load(snapshot, rows)  # as the wheel goes on with them

    def _join(self, snapshot: PartitionSnapshot, rows: list[Row]) -> None:
        """Begin to fold in the middle: what stands there of this tick is of before."""
        if self._load(snapshot, rows):
            for pairing in (self._commands, self._decisions):
                pairing.aligning, pairing.aligned_ms = True, snapshot.time_ms
            if not self._report.folded:
                self._report.started = f"with the snapshot of {moment(snapshot.time_ms)}"

    def _finish(self) -> None:
        report, last_ms = self._report, self._last_ms
        whole = self._options.to_ms is None
        if self._state is not None:
            self._decisions.finish(last_ms)
            self._commands.finish(last_ms)
        else:
            self._decisions.as_they_are(last_ms + 1)
            self._commands.as_they_are(last_ms + 1)
        self._results.finish(last_ms, whole=whole)
        settled_ms = last_ms - self._options.settle_ms
        self._events.finish(settled_ms)
        self._letters.finish(settled_ms)
        report.last_ms = last_ms
        report.events = self._events.checked
        report.decisions = self._decisions.checked
        report.commands = self._commands.checked
        report.results = self._results.checked
        report.images = self._results.images
        report.images_verified = self._tools.check_images is not None
        report.open = len(self._results.open)
        report.states = self._results.states
        report.late_ms_max = self._results.late_ms_max
        report.counts, report.findings = self._findings.counts, self._findings.all_first
        if self._results.image_ids is not None:
            report.image_ids = self._results.image_ids + self._results.open.ids
            report.images_from_ms = max(
                report.first_ms, self._results.kept_from_ms, self._results.since_ms + 1
            )
            report.devices = sorted(self._devices)

    def _add(self, kind: str, offset: int, text: str) -> None:
        self._findings.add(Finding(kind, TICKS, self._partition, offset, text))


def _time_of(codec: Codec, value: bytes | None) -> int:
    """Return the tick's time of the first entry that is kept; 0: it makes no sense."""
    try:
        return tick_time_ms(codec.decode(value or b""))
    except (DecodeError, AttributeError):
        return 0
