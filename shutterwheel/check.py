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
  still wanted (a worker was down), or its overlap policy gave it up; it ended REVOKED and says so.
  Not lost: it is on the record.
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

from typing import TYPE_CHECKING

import msgspec

from connectors.blobs.store import BlobStore
from schemas.records import CaptureCommand
from shutterwheel.evidence import Facts, gather, offsets_now
from shutterwheel.ledger import Ledger
from shutterwheel.provenance import command_line, machine, now_text, versions
from streams.core.transition import EXPIRED, FAILED, SUCCESS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from shutterwheel.evidence import Progress, Shutter

__all__ = ["Images", "RunReport", "Spread", "check_run", "judge", "offsets_now", "spread"]


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
    """Commands and photos of schedules that still run, for times after the last one due."""
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
    ledger = Ledger(facts.plan, facts.started_ms)
    for text in facts.plan.strange:
        ledger.count("unexpected", text)
    for text in facts.plan.unanswered():
        ledger.count("unanswered", text)
    for command in facts.commands:
        if isinstance(command, CaptureCommand):
            ledger.command(command)
    for shutter in facts.shutters:
        ledger.shutter(shutter)
    for seen in facts.results:
        ledger.result(seen)
    for command_id in facts.blobs:
        ledger.blob(command_id)
    for text in facts.unreadable:
        ledger.count("illegal", text)
    ledger.close()
    return _report(ledger)


def spread(values: Sequence[int], unit: float = 1.0) -> Spread | None:
    """Return percentiles by nearest rank, each times ``unit``; None where there are no values."""
    if not values:
        return None
    ordered = sorted(values)

    def rank(percent: int) -> float:
        return ordered[-(-len(ordered) * percent // 100) - 1] * unit

    return Spread(rank(50), rank(90), rank(99), ordered[-1] * unit)


def _report(ledger: Ledger) -> RunReport:
    counts, plan = ledger.counts, ledger.plan
    wrong = ("lost", "duplicated", "early", "unexpected", "illegal", "unanswered", "bad_images")
    first_ms, photos = ledger.first_ms, counts.get("photos", 0)
    seconds = (ledger.last_ms - (first_ms or 0)) / 1000
    return RunReport(
        ok=not any(counts.get(name) for name in wrong),
        due=counts.get("due", 0),
        succeeded=counts.get(SUCCESS, 0),
        failed=counts.get(FAILED, 0),
        expired=counts.get(EXPIRED, 0),
        lost=counts.get("lost", 0),
        duplicated=counts.get("duplicated", 0),
        early=counts.get("early", 0),
        lateness_ms=spread(ledger.lateness_ms),
        images=Images(
            count=counts.get("images", 0),
            bytes=ledger.image_bytes,
            sha256_verified=counts.get("verified", 0),
            strays=counts.get("strays", 0),
        ),
        first_photo_s=None if first_ms is None else (first_ms - ledger.started_ms) / 1000,
        skipped=plan.skipped,
        skipped_reasons=plan.skipped_reasons,
        revoked=counts.get("revoked", 0),
        revoked_due=counts.get("revoked_due", 0),
        superseded=counts.get("superseded", 0),
        taken_after_cancel=counts.get("taken_after_cancel", 0),
        taken_before=counts.get("taken_before", 0),
        open=counts.get("open", 0),
        unexpected=counts.get("unexpected", 0),
        illegal=counts.get("illegal", 0),
        unanswered=counts.get("unanswered", 0),
        failed_causes=ledger.causes,
        captures_per_s=(photos - 1) / seconds if photos > 1 and seconds > 0 else None,
        camera_lateness_ms=spread(ledger.seen_us, 0.001),
        shutters=counts.get("shutters", 0),
        findings=tuple(ledger.findings),
        command=command_line(),
        date=now_text(),
        machine=machine(),
        versions=versions(),
    )
