"""What an audit is asked, what it is handed, and what it says of a partition."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from streams.replay.audit_findings import Finding

if TYPE_CHECKING:
    from schemas.codec import Codec
    from streams.replay.audit_results import CheckImages
    from streams.replay.start import ReadRows

Progress = Callable[[int, int, int], None]
"""Told the partition, and how many entries were read since it was told last, and the time of the
tick."""


@dataclass(frozen=True, slots=True)
class AuditOptions:
    """What of a log is audited, and how strictly."""

    from_ms: int | None = None
    """Ticks from this time on (a snapshot before it may be needed); None: from the beginning."""
    to_ms: int | None = None
    """Ticks before this time; None: to the end."""
    device_id: str = ""
    """Only findings of this device; empty: of all."""
    settle_ms: int = 60_000
    """How long after its deadline and time-out a capture may take to end. 0 to a day."""


@dataclass(frozen=True, slots=True)
class AuditTools:
    """What an audit is handed, because it is not its business where things are."""

    codec: Codec
    read_rows: ReadRows | None = None
    """None: there is no store, snapshots are compared by their hash."""
    check_images: CheckImages | None = None
    """None: pictures are not looked at."""
    progress: Progress = lambda _partition, _read, _time_ms: None
    want_image_ids: bool = False
    """Whether the report is to have the command ids of all pictures, 8 bytes each."""


class PartitionReport(msgspec.Struct):
    """What was checked of a partition, and what was found."""

    partition: int
    records: int = 0
    """Entries read of all topics."""
    ticks: int = 0
    folded: int = 0
    """Ticks that were folded again."""
    events: int = 0
    decisions: int = 0
    commands: int = 0
    results: int = 0
    images: int = 0
    images_verified: bool = False
    snapshots: int = 0
    """Snapshots that the state was compared with."""
    open: int = 0
    """Commands that may still have their result."""
    states: dict[str, int] = {}
    late_ms_max: int = 0
    """The greatest lateness of a shutter."""
    first_ms: int = 0
    last_ms: int = 0
    """Times of the first and the last tick."""
    started: str = ""
    """What the fold began with."""
    tz_upgrades: list[str] = []
    """Where the tz data changed, in words."""
    unchecked: list[str] = []
    """What could not be checked, a sentence each."""
    counts: dict[str, int] = {}
    findings: list[Finding] = []
    image_ids: list[int] = []
    """Commands that have a picture or may have one; only where they are wanted, as the next two."""
    images_from_ms: int = 0
    """Pictures of commands issued from then on must have a result."""
    devices: list[str] = []
    """All that had a schedule or a request."""
