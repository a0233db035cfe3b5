"""Was every photo taken, once, on time, and is it there? An independent look at a run.

``check_run`` reads the topics and the blob folder anew. It asks no worker for its counters, and it
does not read through the client that drops repeats: a repeat is what it looks for. What should have
happened comes from ``expected.py``, what did happen from ``evidence.py``; :func:`judge` lays one
beside the other and is pure.

**What is counted.** For each due time of each schedule or request (see ``expected.py``) there must
be exactly one result that is not REVOKED::

    due = succeeded + failed + expired + lost + revoked_due + superseded

- ``lost``: no such result; or a command that has no result at all and could not wait any more.
- ``revoked_due``: the schedule was cancelled, paused or changed while the photo was overdue but
  still wanted (a worker was down); it ended REVOKED and says so. Not lost: it is on the record.
- ``superseded``: REVOKED because an armed command of the epoch before took the same nominal time.
- ``duplicated``: a second command, result or picture of one time, or more shutters than attempts.
- ``early``: a shutter before its scheduled millisecond, by the result or by the camera's own log.
- ``taken_after_cancel``: armed already when the schedule ended; not due, and allowed.
- ``unexpected``: a command, result or shutter that nobody asked for.
- ``illegal``: a result whose transitions are no walk through the table, or whose CRC is wrong.
- ``unanswered``: an event with neither acceptance nor refusal.

Lateness is the shutter's time less the scheduled one, over first attempts whose shutter opened.

Cost: about 60 microseconds a capture, and 500 bytes; a million take a minute or two.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import msgspec

from connectors.blobs.store import BlobStore
from schemas.records import CaptureCommand
from shutterwheel.evidence import Facts, gather, offsets_now
from shutterwheel.expected import TIME_BITS, Span, series_of
from shutterwheel.provenance import command_line, machine, now_text, versions
from streams.core.ids import command_time_ms
from streams.core.transition import EXPIRED, FAILED, REVOKED, SUCCESS, verify

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from schemas.records import CaptureResult
    from shutterwheel.evidence import Progress, Seen, Shutter
    from shutterwheel.expected import Plan, Series

__all__ = ["RunReport", "check_run", "judge", "offsets_now"]

MAX_FINDINGS: Final = 20
_TIME_MASK: Final = (1 << TIME_BITS) - 1
_COUNTED: Final = (SUCCESS, FAILED, EXPIRED)


class Spread(msgspec.Struct, frozen=True):
    """Percentiles, by nearest rank, in milliseconds."""

    p50: float
    p90: float
    p99: float
    max: float


class Images(msgspec.Struct, frozen=True):
    """The pictures of the results that ended in SUCCESS."""

    count: int
    bytes: int
    sha256_verified: int
    """How many were read back and had the size and the SHA-256 of their result."""
    strays: int
    """Pictures in the store whose command of this run did not end in SUCCESS."""


class RunReport(msgspec.Struct, frozen=True):
    """What a run came to. ``ok`` says whether it kept its promises."""

    ok: bool
    due: int
    succeeded: int
    failed: int
    expired: int
    lost: int
    duplicated: int
    early: int
    lateness_ms: Spread | None
    images: Images
    first_photo_s: float | None
    """From the start of the run to the end of the first SUCCESS."""
    skipped: int
    skipped_reasons: dict[str, int]
    revoked: int
    """Results that ended REVOKED, due or not."""
    revoked_due: int
    superseded: int
    taken_after_cancel: int
    taken_before: int
    """Photos of times before the start of the run, made up for in it."""
    open: int
    """Commands of schedules that still run, whose time has not come."""
    unexpected: int
    illegal: int
    unanswered: int
    failed_causes: dict[str, int]
    captures_per_s: float | None
    """SUCCESS a second, from the first to the last."""
    camera_lateness_ms: Spread | None
    """Scheduled time to the request's arrival at the camera, by the camera's log, where given."""
    shutters: int
    """Shutters in the cameras' logs."""
    findings: tuple[str, ...]
    """The first sentences about what is wrong."""
    command: str
    date: str
    machine: dict[str, str | int]
    versions: dict[str, str]

    def to_dict(self) -> dict[str, object]:
        """Return the report as plain values."""
        found: dict[str, object] = msgspec.to_builtins(self)
        return found

    def to_json(self) -> str:
        """Return the report as indented JSON."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2).decode()


def check_run(
    kafka: str,
    namespace: str,
    blobs: BlobStore | str,
    since: Mapping[tuple[str, int], int] | None,
    started_ms: int,
    camera_logs: Iterable[Shutter] | None = None,
    progress: Progress | None = None,
    *,
    settle_ms: int = 0,
    schema_registry: str = "",
) -> RunReport:
    """Check what happened on a cluster since a run began.

    ``since``: what :func:`offsets_now` said when the run began; None: all there is. Events and
    decisions are read from their beginning in any case, as older schedules still fire.
    ``started_ms``: when it began; times before are not due. ``camera_logs``: lines of simulated
    cameras' logs. ``progress``: told (what, done, total). ``settle_ms``: a schedule that still runs
    owes nothing for the last so many milliseconds; 0 for a run that was brought to its end.

    Raises :class:`BrokerError`, :class:`UsageError` (no such topics), :class:`StoreError`.
    """
    store = BlobStore.open(blobs) if isinstance(blobs, str) else blobs
    try:
        return judge(
            gather(
                kafka, namespace, store, since, started_ms, camera_logs, progress,
                settle_ms=settle_ms, schema_registry=schema_registry,
            )
        )  # fmt: skip
    finally:
        if store is not blobs:
            store.close()


def judge(facts: Facts) -> RunReport:
    """Return what the facts come to; each of their iterables is read once, in turn."""
    case = _Case(facts.plan, facts.started_ms)
    for text in facts.plan.strange:
        case.count("unexpected", text)
    for text in facts.plan.unanswered():
        case.count("unanswered", text)
    for command in facts.commands:
        if isinstance(command, CaptureCommand):
            case.command(command)
    for shutter in facts.shutters:
        case.shutter(shutter)
    for seen in facts.results:
        case.result(seen)
    for command_id in facts.blobs:
        case.blob(command_id)
    case.close()
    return case.report()


@dataclass(slots=True)
class _Case:
    """The ledger: one integer key a (series, scheduled time), and what became of it."""

    plan: Plan
    started_ms: int
    counts: dict[str, int] = field(default_factory=dict)
    findings: list[str] = field(default_factory=list)
    series: dict[Series, int] = field(default_factory=dict)
    names: list[Series] = field(default_factory=list)
    commands: dict[int, int] = field(default_factory=dict)
    """Key, by command id."""
    issued: dict[int, int] = field(default_factory=dict)
    """Latest epoch a command was issued for, by key."""
    ended: set[int] = field(default_factory=set)
    photographed: set[int] = field(default_factory=set)
    """Command ids that ended in SUCCESS."""
    pictured: set[int] = field(default_factory=set)
    """Keys with a picture in the store."""
    taken: dict[int, str] = field(default_factory=dict)
    """State of the result that counts, by key."""
    taken_nominal: dict[tuple[Series, int], str] = field(default_factory=dict)
    """State by nominal time, of epochs that were changed."""
    revoked: dict[int, str] = field(default_factory=dict)
    """Cause of the last REVOKED, by key."""
    opened: dict[int, int] = field(default_factory=dict)
    """Shutters the cameras saw, by command id."""
    early: set[int] = field(default_factory=set)
    causes: dict[str, int] = field(default_factory=dict)
    lateness_ms: array[int] = field(default_factory=lambda: array("q"))
    seen_us: array[int] = field(default_factory=lambda: array("q"))
    first_ms: int | None = None
    last_ms: int = 0
    image_bytes: int = 0

    def count(self, what: str, sentence: Callable[[], str] | str = "", n: int = 1) -> None:
        """Add to a count; keep the sentence if there is room."""
        self.counts[what] = self.counts.get(what, 0) + n
        if sentence and len(self.findings) < MAX_FINDINGS:
            self.findings.append(f"{what}: {sentence if isinstance(sentence, str) else sentence()}")

    def key(self, series: Series, scheduled_ms: int) -> int:
        """Return the key of a time, a number of 12 bytes or so."""
        number = self.series.get(series)
        if number is None:
            number = self.series[series] = len(self.names)
            self.names.append(series)
        return number << TIME_BITS | scheduled_ms

    def name(self, key: int) -> str:
        """Return a key in words."""
        device_id, schedule_id = self.names[key >> TIME_BITS]
        return f"{schedule_id!r} of {device_id!r} at {_clock(key & _TIME_MASK)}"

    # -- what is laid before it ------------------------------------------------------------------

    def command(self, command: CaptureCommand) -> None:
        """Look at a command: asked for, and only once."""
        key, command_id = self.key(series_of(command), command.scheduled_ms), command.command_id
        if command_id in self.commands:
            self.count("duplicated", lambda: f"command {command_id} ({self.name(key)}) twice")
            return
        self.commands[command_id] = key
        if self.issued.setdefault(key, command.epoch) != command.epoch:
            self.issued[key] = command.epoch  # a changed schedule issues its times again
        elif len(self.issued) + self.counts.get("reissued", 0) != len(self.commands):
            self.count("duplicated", lambda: f"two commands of one epoch for {self.name(key)}")
        objection = self.plan.objection(command, command.issued_at_ms)
        if objection:
            self.count("unexpected", lambda: f"command {command_id} ({self.name(key)}): {objection}")

    def shutter(self, shutter: Shutter) -> None:
        """Look at a photograph from the camera's side."""
        if not shutter.shutter or not shutter.command_id:
            return
        self.count("shutters")
        number = shutter.command_id
        command_id = int(number) if number.isdecimal() else -1
        key = self.commands.get(command_id)
        if key is None:
            if command_id < 0 or command_time_ms(command_id) >= self.started_ms:
                self.count(
                    "unexpected",
                    f"{shutter.device_id!r} opened its shutter for command {number[:40]}, unknown",
                )
            return
        late_us = shutter.at_us - (key & _TIME_MASK) * 1000
        if late_us < 0 and command_id not in self.early:
            self.early.add(command_id)
            self.count("early", lambda: f"{self.name(key)}: {-late_us} us, by the camera's log")
        if command_id not in self.opened:
            self.seen_us.append(late_us)
        self.opened[command_id] = self.opened.get(command_id, 0) + 1

    def result(self, seen: Seen) -> None:
        """Look at a result: its walk, its picture, and whether its time has one already."""
        result = seen.result
        command_id, series = result.command_id, series_of(result)
        key = self.key(series, result.scheduled_ms)
        if command_id in self.ended:
            self.count("duplicated", lambda: f"two results of command {command_id}")
            return
        self.ended.add(command_id)
        known = self.commands.get(command_id)
        if known is None:
            issued_ms = command_time_ms(command_id)
            objection = self.plan.objection(result, issued_ms)
            if issued_ms >= self.started_ms:
                objection = "nobody issued its command"
            if objection:
                text = f"result of {command_id} ({self.name(key)}): {objection}"
                self.count("unexpected", text)
        elif known != key:
            self.count("illegal", lambda: f"result of {command_id} names {self.name(key)}, but its "
                       f"command {self.name(known)}")  # fmt: skip
        wrong = [text for text in verify(result) if not text.startswith("early")]
        if wrong:
            self.count("illegal", lambda: f"result of {command_id} ({self.name(key)}): {wrong[0]}")
        self._state(result, key)
        self._shutter_of(result, key)
        if result.image is not None:
            self.image_bytes += result.image.image_bytes
            self.count("images")
            if seen.image:
                self.count("bad_images", lambda: f"{self.name(key)}: {seen.image}")

    def _state(self, result: CaptureResult, key: int) -> None:
        state = result.state
        if state == REVOKED:
            self.count("revoked")
            self.revoked[key] = result.cause
            return
        before = self.taken.get(key)
        if before is not None:
            self.count("duplicated", lambda: f"{self.name(key)} ended {before} and {state}")
        if before is None or state == SUCCESS:
            self.taken[key] = state
        span = self.plan.span_of(series_of(result), result.epoch)
        if span is not None and span.ends_ms is not None and result.scheduled_ms > span.ends_ms:
            self.taken_nominal[span.series, result.nominal_ms] = state
        if state == FAILED:
            cause = result.cause.partition(":")[0][:60]
            self.causes[cause] = self.causes.get(cause, 0) + 1
        elif state == SUCCESS:
            self.photographed.add(result.command_id)
            ended_ms = result.ended_at_ms
            self.first_ms = ended_ms if self.first_ms is None else min(self.first_ms, ended_ms)
            self.last_ms = max(self.last_ms, ended_ms)

    def _shutter_of(self, result: CaptureResult, key: int) -> None:
        command_id = result.command_id
        if result.shutter_at_ms is not None:
            late_ms = result.shutter_at_ms - result.scheduled_ms
            if late_ms < 0 and command_id not in self.early:
                self.early.add(command_id)
                self.count("early", lambda: f"{self.name(key)}: {-late_ms} ms, by its result")
            if result.attempt == 1:
                self.lateness_ms.append(late_ms)
        opened = self.opened.get(command_id, 0)
        if opened > result.attempt:
            self.count("duplicated", lambda: f"{self.name(key)}: the camera opened its shutter "
                       f"{opened} times in {result.attempt} attempts", opened - result.attempt)  # fmt: skip

    def blob(self, command_id: int) -> None:
        """Look at a picture in the store."""
        key = self.commands.get(command_id)
        if key is None:
            return  # of an earlier run, or of another namespace that shares the store
        if key in self.pictured:
            self.count("duplicated", lambda: f"{self.name(key)} has two pictures in the store")
        self.pictured.add(key)
        if command_id not in self.photographed:
            self.count("strays")

    # -- the verdict -----------------------------------------------------------------------------

    def close(self) -> None:
        """Go through what was due, then through what is left."""
        lost: set[int] = set()
        for span, scheduled_ms in self.plan.due(self.started_ms):
            key = self.key(span.series, scheduled_ms)
            self.count("due")
            state = self.taken.pop(key, None)
            if state is None:
                state = self._excuse(span, scheduled_ms, key)
            if state == "lost":
                lost.add(key)
            self.count(state, lambda: self._why_lost(key) if state == "lost" else "")
        for key, state in self.taken.items():
            if (key & _TIME_MASK) < self.started_ms:
                self.count("taken_before")
            elif state in _COUNTED:
                self.count("taken_after_cancel")
        self._commands_without_result(lost)

    def _excuse(self, span: Span, scheduled_ms: int, key: int) -> str:
        """Return what a due time without a result that counts comes to."""
        cause = self.revoked.get(key)
        if cause is None:
            return "lost"
        if cause.startswith("revoked:") and span.ends_ms is not None:
            wanted_ms = scheduled_ms + span.window_ms
            return "revoked_due" if span.ends_ms <= wanted_ms else "lost"
        nominal = (span.series, scheduled_ms - span.offset_ms)
        if cause.startswith("superseded:") and nominal in self.taken_nominal:
            return "superseded"
        return "lost"

    def _why_lost(self, key: int) -> str:
        cause = self.revoked.get(key)
        if cause is not None:
            return f"{self.name(key)} only ended REVOKED ({cause})"
        return f"{self.name(key)} has no result, and " + (
            "its command was issued" if key in self.issued else "no command was issued"
        )

    def _commands_without_result(self, lost: set[int]) -> None:
        for command_id, key in self.commands.items():
            if command_id in self.ended or key in lost:
                continue
            epoch = self.issued[key]
            span = self.plan.span_of(self.names[key >> TIME_BITS], epoch)
            if span is not None and (key & _TIME_MASK) > self.plan.end_ms(span):
                if span.ends_ms is None:
                    self.count("open")
                    continue
            self.count("lost", lambda c=command_id, k=key: f"command {c} ({self.name(k)}) has no result")  # type: ignore[misc]

    def report(self) -> RunReport:
        """Return the report."""
