"""Typed records: what moves on the topics and what stands in the tables.

Each class is the twin of ``schemas/avro/<ClassName>.avsc``: the same fields in the same order,
with the same names. A test holds the two together. The classes are frozen ``msgspec.Struct``s,
which are made five times faster than frozen dataclasses and are otherwise used like them.

Units stand last in a name: ``_ms`` is UTC milliseconds since the Unix epoch (a point in time) or
a duration in milliseconds, as the field's doc says. A text id is UTF-8, 1 to 256 bytes.
"""

from __future__ import annotations

from typing import NewType

import msgspec

CommandId = NewType("CommandId", int)
"""41 bits of milliseconds since 2026-01-01, 10 bits of shard, 12 bits of sequence."""


class Record(msgspec.Struct, frozen=True, gc=False):
    """The base of every record: immutable, compared by value."""


# --- schedule.events: what upstream asks for -------------------------------------------------


class Term(Record, frozen=True, gc=False):
    """A further source of times of a schedule; its fields are read as those of the spec."""

    kind: str
    every_ms: int | None = None
    phase_ms: int = 0
    at_ms: int | None = None
    expression: str = ""


class Exclusion(Record, frozen=True, gc=False):
    """Times of the wall clock that are left out: on ``dates`` and ``weekdays`` within ``hours``.

    What is empty does not narrow; all empty is refused.
    """

    name: str = ""
    """For people, such as the calendar that the dates were taken from; decides nothing."""
    dates: tuple[int, ...] = ()
    """One number a day: 20261224 is 24 December 2026."""
    weekdays: str = ""
    """Such as ``sat,sun`` or ``mon-fri``."""
    hours: str = ""
    """Such as ``12:00-13:00,22:00-06:00``."""


class ScheduleSpec(Record, frozen=True, gc=False):
    """When a schedule is due. ``kind`` says which of the next four fields are read.

    ``interval``: nominal times are ``phase_ms + n * every_ms``. ``once``: the one time ``at_ms``.
    ``cron``, ``calendar`` and ``sun``: see ``streams/core/recurrence``.
    """

    kind: str
    every_ms: int | None = None
    phase_ms: int = 0
    at_ms: int | None = None
    expression: str = ""
    """A cron line, an RFC 5545 rule, or a sun event such as ``sunrise+30m``."""
    zone: str = ""
    """IANA name, of ``expression``, ``also`` and ``exclude``; empty: UTC."""
    also: tuple[Term, ...] = ()
    """The schedule is due at the union of all terms' times."""
    exclude: tuple[Exclusion, ...] = ()
    from_ms: int | None = None
    """No time before it."""
    until_ms: int | None = None
    """Every time is before it."""
    max_count: int | None = None
    """Ends after so many times from its epoch's start on; those passed while paused count."""
    daylight: str = ""
    """Only within this window at the device's place, such as ``sunrise-30m..sunset``."""


class CapturePolicy(Record, frozen=True, gc=False):
    """How the captures of a schedule or request are to be made."""

    lead_ms: int = 5_000
    """How long before its scheduled time a command is issued."""
    catch_up_ms: int | None = None
    """How late a photo is still wanted; null: one period, or 60 s where there is no period."""
    capture_timeout_ms: int = 3_000
    """From the shutter over all I/O of one attempt."""
    spread_ms: int = 0
    """Window over which devices of the same nominal time are spread; 0: no spread."""
    priority: int = 0
    misfire: str = "latest"
    """Which times that could not be issued in time are made up for: ``skip``, ``latest``,
    ``earliest`` or ``all``; always within the catch-up window and the deadline."""
    overlap: str = "allow"
    """What a capture does whose time comes while one of its schedule has begun and not ended:
    ``allow`` (both run), ``skip`` (it is not taken) or ``buffer_one`` (one waits)."""
    jitter_ms: int = 0
    """Window of an offset that differs from time to time, beside the spread; 0: none."""
    tolerance_ms: int = 0
    """How far the herd rule may move a capture forward; 0: never."""
    deadline_ms: int | None = None
    """How long after its scheduled time no photo is wanted any more, whatever the catch-up window;
    null: no such bound."""
    pause_after_failures: int = 0
    """After so many failed captures of the device in a row the schedule is paused; 0: never."""
    quality: str = "off"
    """What becomes of a photo that is blurred, covered, over- or underexposed: ``off`` (it is not
    looked at), ``mark`` (kept, and the verdict stands in the result), ``drop`` (not kept) or
    ``retry`` (not kept while another attempt fits; then marked)."""
    keep_ms: int = 0
    """How long after its scheduled time a photo is kept in the blob store; 0: for ever."""
    image: str = ""
    """What is done with a photo's bytes, in words such as ``label width=1280``
    (``connectors/images/request.py``); empty: nothing."""


class ScheduleUpserted(Record, frozen=True, gc=False):
    """Upstream wants this schedule to be so, from now on."""

    request_id: str
    device_id: str
    schedule_id: str
    spec: ScheduleSpec
    policy: CapturePolicy
    published_at_ms: int


class ScheduleCancelled(Record, frozen=True, gc=False):
    """Upstream wants this schedule gone."""

    request_id: str
    device_id: str
    schedule_id: str
    published_at_ms: int


class SchedulePaused(Record, frozen=True, gc=False):
    """Upstream wants this schedule to fire no more until it is resumed."""

    request_id: str
    device_id: str
    schedule_id: str
    reason: str
    published_at_ms: int


class ScheduleResumed(Record, frozen=True, gc=False):
    """Upstream wants this paused schedule to fire again."""

    request_id: str
    device_id: str
    schedule_id: str
    published_at_ms: int


class CaptureRequested(Record, frozen=True, gc=False):
    """Upstream wants one photo, at ``at_ms`` or, where that is null, as soon as can be."""

    request_id: str
    device_id: str
    at_ms: int | None
    policy: CapturePolicy
    published_at_ms: int


ScheduleEvent = (
    ScheduleUpserted | ScheduleCancelled | SchedulePaused | ScheduleResumed | CaptureRequested
)


# --- schedule.ticks: the journal --------------------------------------------------------------


class TickChange(Record, frozen=True, gc=False):
    """One accepted event and where it stood in schedule.events."""

    offset: int
    event: ScheduleEvent


class TickSettings(Record, frozen=True, gc=False):
    """The settings that decide; they stand in every tick so that a replay needs no other source."""

    notice_ms: int = 1_000
    """A new schedule starts this long after the tick that accepted it."""
    request_memory_ms: int = 1_800_000
    """How long a request id is remembered (SPEC 2.2)."""
    max_fires: int = 10_000
    """The most commands one tick issues; what is left over is issued by the next."""
    capacity_per_shard: int = 0
    """Captures a second that a logical shard is to have at most; what exceeds it is moved forward
    within each schedule's tolerance. 0: no bound."""


class DeviceFact(Record, frozen=True, gc=False):
    """What the fold is told about a device; ``kind`` says which of the other fields are read.

    ``place``: where it stands, both null: not known any more. ``failing``: ``failures`` captures in
    a row have failed, the last for ``cause``. ``recovered``: one has succeeded again.
    """

    device_id: str
    kind: str
    latitude: float | None = None
    longitude: float | None = None
    failures: int = 0
    cause: str = ""


class ClockCorrection(Record, frozen=True, gc=False):
    """One correction of a wheel's clock."""

    kind: str
    """``start``, ``slew`` or ``step``."""
    amount_ms: float
    at_ms: int
    """The clock's own time before it was corrected."""


class ClockState(Record, frozen=True, gc=False):
    """What a wheel knew of its clock as it made a tick. For audit only: it decides nothing."""

    source: str
    """``ntp`` or ``machine``."""
    offset_ms: float
    """What the source is ahead of the clock: what is still to be slewed."""
    error_ms: float | None = None
    """Bound of the clock's error; null: not known, as no server ever set it."""
    corrections: tuple[ClockCorrection, ...] = ()
    """Those since the partition's last tick by this wheel."""


class ScheduleTick(Record, frozen=True, gc=False):
    """One step of time of one partition: all that the decision needs."""

    partition: int
    partitions: int
    time_ms: int
    rules_version: int
    tz_version: str
    settings: TickSettings
    changes: tuple[TickChange, ...]
    facts: tuple[DeviceFact, ...] = ()
    """What became known about devices; applied before the changes."""
    clock: ClockState | None = None
    """What was known of the clock that gave the time; decides nothing."""
    previous_ms: int = 0
    """The time of the partition's last tick before this one; 0: there was none. Decides nothing: a
    tick that is missing is seen by it."""


class PartitionSnapshot(Record, frozen=True, gc=False):
    """All rows of a partition of the timing wheel as one of its ticks left them, by claim check.

    Written beside the ticks, some time after the tick that it is of.
    """

    partition: int
    partitions: int
    tick_offset: int
    """Of the last tick whose outcome the rows hold."""
    events_offset: int
    """The next of schedule.events that was not taken into a tick, or refused, by then."""
    time_ms: int
    """The time of that tick."""
    rules_version: int
    tz_version: str
    state_hash: bytes
    """Over the rows, as ``streams/core/state_hash.py`` lays them out."""
    uri: str
    """Where the rows are: a URI of the blob store."""
    file_bytes: int
    row_count: int
    schedule_count: int


# --- schedule.decisions: the answers ----------------------------------------------------------


class Accepted(Record, frozen=True, gc=False):
    """The request was taken; from ``starts_at_ms`` on the schedule is as it asked."""

    request_id: str
    device_id: str
    schedule_id: str
    epoch: int
    tick_time_ms: int
    starts_at_ms: int
    change: str
    """The name of the event's record."""
    command_id: int | None = None
    """The command of a CaptureRequested."""


class AlreadyKnown(Record, frozen=True, gc=False):
    """The request id was seen within the memory window; ``first`` tells what became of it."""

    request_id: str
    device_id: str
    schedule_id: str
    tick_time_ms: int
    first: str
    """``accepted`` or ``refused``."""
    first_tick_time_ms: int
    epoch: int | None = None
    reason: str = ""
    command_id: int | None = None


class Refused(Record, frozen=True, gc=False):
    """The request was not taken; ``reason`` is a sentence a person can act on."""

    request_id: str
    device_id: str
    schedule_id: str
    tick_time_ms: int
    code: str
    reason: str


class Skipped(Record, frozen=True, gc=False):
    """Nominal times that were not turned into commands, and why."""

    device_id: str
    schedule_id: str
    epoch: int
    tick_time_ms: int
    first_ms: int
    last_ms: int
    count: int
    reason: str


class AutoPaused(Record, frozen=True, gc=False):
    """The fold itself paused a schedule."""

    device_id: str
    schedule_id: str
    epoch: int
    tick_time_ms: int
    reason: str


class Ended(Record, frozen=True, gc=False):
    """A schedule has no further time and is gone."""

    device_id: str
    schedule_id: str
    epoch: int
    tick_time_ms: int
    reason: str


Decision = Accepted | AlreadyKnown | Refused | Skipped | AutoPaused | Ended


# --- capture.commands ---------------------------------------------------------------------------


class CaptureCommand(Record, frozen=True, gc=False):
    """Take one photo of this device at ``scheduled_ms``, never before, not after ``not_after_ms``.

    The idempotency key is (device_id, schedule_id, epoch, scheduled_ms).
    """

    command_id: int
    device_id: str
    schedule_id: str
    """Empty for a CaptureRequested."""
    request_id: str
    """Empty for a schedule."""
    epoch: int
    nominal_ms: int
    scheduled_ms: int
    not_after_ms: int
    capture_timeout_ms: int
    priority: int
    issued_at_ms: int
    overlap: str = "allow"
    """``allow``, ``skip`` or ``buffer_one``: see ``CapturePolicy``."""
    moved_ms: int = 0
    """How far the herd rule has moved ``scheduled_ms`` forward."""
    over_capacity: bool = False
    """The herd rule found no room for it within its tolerance: it keeps its time all the same."""
    quality: str = "off"
    """``off``, ``mark``, ``drop`` or ``retry``: see ``CapturePolicy``."""
    keep_ms: int = 0
    """How long after ``scheduled_ms`` its photo is kept; 0: for ever."""
    image: str = ""
    """What is done with its photo's bytes: see ``CapturePolicy``."""


class CaptureRevoked(Record, frozen=True, gc=False):
    """Commands of this schedule with an epoch up to ``epoch`` that are not armed yet are void.

    Those whose time (``scheduled_ms - moved_ms``) is before ``from_ms`` are not: the next epoch
    does not issue their times again.
    """

    device_id: str
    schedule_id: str
    epoch: int
    tick_time_ms: int
    reason: str
    from_ms: int = 0


# --- capture.results ----------------------------------------------------------------------------


class Transition(Record, frozen=True, gc=False):
    """One change of a capture's state (SPEC 2.4).

    ``crc64`` covers the command id and the other fields; it is the signed form of 64 bits.
    """

    from_state: str
    to_state: str
    at_ms: int
    attempt: int
    cause: str
    crc64: int


class ImageRef(Record, frozen=True, gc=False):
    """A claim check for image bytes in the blob store."""

    uri: str
    sha256: str
    """64 lower-case hexadecimal digits over the stored bytes."""
    image_bytes: int
    width_px: int
    height_px: int
    format: str
    frame_at_ms: int | None = None
    """The frame's own time, where the camera gives one."""
    keep_until_ms: int | None = None
    """From when on the blob may be gone; null: never."""
    beside: dict[str, str] = {}
    """What was stored beside it: the end of each name (``thumbnail.jpg``, ``original.jpg``) and
    the SHA-256 of its bytes."""


class QualityVerdict(Record, frozen=True, gc=False):
    """What was said of a photo, by a model (SPEC 4.4)."""

    model: str
    """The first 12 hexadecimal digits of the SHA-256 of the model's file; empty: not judged."""
    faults: tuple[str, ...]
    """``blur``, ``occlusion``, ``overexposure``, ``underexposure``, the surest first; empty: good,
    or not judged."""
    scores: dict[str, float]
    """The best score of each, 0 to 1."""
    reason: str = ""
    """Why it was not judged, or could not be."""
    provider: str = ""
    """What the model ran on: ``CPUExecutionProvider`` and others of onnxruntime, or ``grpc:NAME``,
    a server's model; empty: nothing ran, or not known."""


class CaptureTimings(Record, frozen=True, gc=False):
    """How long the parts of the last attempt took, in milliseconds."""

    grab_ms: float
    """Shutter to the last byte of the image."""
    store_ms: float
    """Handing the bytes to the blob store."""


class CaptureResult(Record, frozen=True, gc=False):
    """How a command ended: one a command, with the whole list of its transitions."""

    command_id: int
    device_id: str
    schedule_id: str
    request_id: str
    epoch: int
    nominal_ms: int
    scheduled_ms: int
    state: str
    """SUCCESS, FAILED, EXPIRED or REVOKED."""
    cause: str
    attempt: int
    ended_at_ms: int
    shutter_at_ms: int | None
    """When the shutter of the last attempt opened; null: it never did."""
    image: ImageRef | None
    timings: CaptureTimings | None
    transitions: tuple[Transition, ...]
    verdict: QualityVerdict | None = None
    """Of the photo; null: nobody asked for one."""


# --- devices ------------------------------------------------------------------------------------


class DeviceProfile(Record, frozen=True, gc=False):
    """What is known of a device; the newest one a device counts (compacted)."""

    device_id: str
    address: str
    """URL of the device, without credentials."""
    protocol: str
    """``onvif``, ``rtsp``, ``http-snapshot`` or ``http-json``; ``auto``: by its first bytes."""
    model: str = ""
    site: str = ""
    labels: dict[str, str] = {}
    credentials_ref: str = ""
    """Where the credentials are to be had (``env:NAME``, ``file:PATH``), never themselves."""
    removed: bool = False
    updated_at_ms: int = 0
    latitude: float | None = None
    """Degrees north, -90 to 90; null: not known."""
    longitude: float | None = None
    """Degrees east, -180 to 180."""


class DeviceHeartbeat(Record, frozen=True, gc=False):
    """A sign of life of a device or terminal; NaN in ``cpu``, ``memory`` or offset: not known."""

    device_id: str
    sequence: int
    at_ms: int
    cpu: float
    memory: float
    clock_offset_ms: float


class DeviceLoad(Record, frozen=True, gc=False):
    """How busy a device's terminal is, told when it has changed by much."""

    device_id: str
    at_ms: int
    cpu: float
    memory: float


class DeviceOnline(Record, frozen=True, gc=False):
    """A device came back."""

    device_id: str
    at_ms: int
    flapping: bool = False
    """It goes on and off too often: nothing more is said of it until it is stable."""


class DeviceOffline(Record, frozen=True, gc=False):
    """A device was not heard of for too long."""

    device_id: str
    at_ms: int
    last_seen_ms: int
    flapping: bool = False
    """It goes on and off too often: nothing more is said of it until it is stable."""


class DeviceFailing(Record, frozen=True, gc=False):
    """Captures of a device fail again and again."""

    device_id: str
    at_ms: int
    failures: int
    cause: str


class DeviceReset(Record, frozen=True, gc=False):
    """A device was told to start again."""

    device_id: str
    at_ms: int
    cause: str


class DeviceRecovered(Record, frozen=True, gc=False):
    """A capture of a failing device has succeeded."""

    device_id: str
    at_ms: int
    failures: int
    """How many in a row had failed before."""


DeviceEvent = DeviceOnline | DeviceOffline | DeviceFailing | DeviceReset | DeviceRecovered


# --- dead.letters -------------------------------------------------------------------------------


class DeadLetter(Record, frozen=True, gc=False):
    """A record that could not be worked on: as it was, where it came from, and why."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    code: str
    reason: str
    app: str
    at_ms: int


# --- tables (changelogs) ------------------------------------------------------------------------


class ScheduleState(Record, frozen=True, gc=False):
    """A row of ``schedules``: a schedule as the last accepted change left it."""

    device_id: str
    schedule_id: str
    epoch: int
    spec: ScheduleSpec
    policy: CapturePolicy
    starts_at_ms: int
    """No scheduled time before this one is ever issued for this epoch."""
    paused: bool
    pause_reason: str = ""
    paused_by: str = ""
    """The request id of the pause, or ``shutterwheel`` where the fold itself paused it."""
    ends_at_ms: int | None = None
    """No scheduled time at or after this one is issued for this epoch; null: no such end."""
    failures_from: int = 0
    """Failures in a row that the device had when the schedule was last accepted or resumed: those
    do not count for ``pause_after_failures``."""


class TzTable(Record, frozen=True, gc=False):
    """The tz data by which a partition was last folded: its version, or one zone of it."""

    version: str
    zone: str = ""
    """Empty in the row that holds the version alone."""
    starts_ms: tuple[int, ...] = ()
    """When the zone's offset changes, in order."""
    offsets_ms: tuple[int, ...] = ()
    """Offsets from UTC: before the first change, and from each on."""


class ShardState(Record, frozen=True, gc=False):
    """A row of ``shards``: the counters of one logical shard, or what a partition has in common."""

    shard: int
    clock_ms: int
    """Time of the last tick that changed this row."""
    last_id: int
    epoch: int
    booked_from_s: int = 0
    """The second (UTC, since the Unix epoch) of the first number of ``booked``."""
    booked: tuple[int, ...] = ()
    """Captures that the herd rule has let into each second from there on."""
    tz: TzTable | None = None
    """Of rows that hold tz data, and no counters (``streams/core/tz.py``)."""


class RequestState(Record, frozen=True, gc=False):
    """A row of ``requests``: what became of a request id, kept for the memory window."""

    device_id: str
    request_id: str
    tick_time_ms: int
    outcome: str
    epoch: int | None = None
    reason: str = ""
    command_id: int | None = None


class DeviceFacts(Record, frozen=True, gc=False):
    """A row of ``facts``: what the ticks have told of a device."""

    device_id: str
    latitude: float | None = None
    longitude: float | None = None
    failures: int = 0
    """Captures in a row that have failed, as last told; 0: none."""


class DeviceHealth(Record, frozen=True, gc=False):
    """A row of ``health``, written as a device goes on or off, and now and then in between."""

    device_id: str
    online: bool
    flapping: bool
    since_ms: int
    """When it went on or off the last time."""
    last_seen_ms: int
    sequence: int
    at_ms: int
    """When it sent its last heartbeat, by its own clock."""
    cpu: float
    memory: float
    clock_offset_ms: float
    flap_ms: int = 0
    """When its changes so far will count no more; see ``streams/core/health.py``."""


class OpenCapture(Record, frozen=True, gc=False):
    """A capture that has not ended yet; a row of ``captures`` by itself."""

    command: CaptureCommand
    state: str
    """PENDING or RUNNING."""
    attempt: int
    """Attempts begun so far; 0 before the first arming."""
    next_attempt_ms: int
    """Not before this time may the (next) attempt open the shutter."""
    transitions: tuple[Transition, ...]


class EndedCapture(Record, frozen=True, gc=False):
    """What is remembered of a capture that ended."""

    command_id: int
    schedule_id: str
    epoch: int
    nominal_ms: int
    scheduled_ms: int
    state: str
    ended_at_ms: int
    not_after_ms: int
    """Until then a command for the same time could still open a shutter."""


class DeviceCaptures(Record, frozen=True, gc=False):
    """The open captures of a device, and those that ended lately: the latter stand in its row."""

    device_id: str
    open: tuple[OpenCapture, ...] = ()
    ended: tuple[EndedCapture, ...] = ()
    failures: int = 0
    """Captures in a row that ended FAILED; a SUCCESS begins anew."""


RECORDS: tuple[type[Record], ...] = (
    ScheduleUpserted,
    ScheduleCancelled,
    SchedulePaused,
    ScheduleResumed,
    CaptureRequested,
    ScheduleTick,
    PartitionSnapshot,
    Accepted,
    AlreadyKnown,
    Refused,
    Skipped,
    AutoPaused,
    Ended,
    CaptureCommand,
    CaptureRevoked,
    CaptureResult,
    DeviceProfile,
    DeviceHeartbeat,
    DeviceLoad,
    DeviceOnline,
    DeviceOffline,
    DeviceFailing,
    DeviceReset,
    DeviceRecovered,
    DeadLetter,
    ScheduleState,
    ShardState,
    RequestState,
    DeviceFacts,
    DeviceHealth,
    OpenCapture,
    DeviceCaptures,
)
"""Every record that is written to a topic or a table by itself."""
