"""Every reason that the system can have for a photo that is not there, in one table.

A reason has a **code** for programs, **words** that hold whatever the case, and **what to do**. The
sentence that names request, time and cause of the case at hand is made by ``explain_judge.py`` and
stands beside. The codes are sorted by how far the photo got: asked for, decided, commanded, taken.

A test shows each of them by a story that the real fold and the real state machine have written.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping


class Code(StrEnum):
    """The reasons, for programs."""

    # There is a photo, or one is under way.
    PHOTO_THERE = "photo_there"
    PHOTO_RECOVERED = "photo_recovered"
    PHOTO_LATE = "photo_late"
    SPREAD = "spread"
    MOVED_BY_CAPACITY = "moved_by_capacity"
    PHOTO_GONE = "photo_gone"
    NOT_YET = "not_yet"
    COMMAND_WAITS = "command_waits"
    CAPTURE_RUNS = "capture_runs"
    # It was not asked for, as the wheel knew it.
    NO_SUCH_DEVICE = "no_such_device"
    NO_SCHEDULE = "no_schedule"
    NOT_DUE = "not_due"
    NOT_STARTED = "not_started"
    NOT_VALID_YET = "not_valid_yet"
    VALIDITY_OVER = "validity_over"
    COUNT_REACHED = "count_reached"
    TIME_OVER = "time_over"
    NO_FURTHER_TIME = "no_further_time"
    CANCELLED = "cancelled"
    PAUSED = "paused"
    AUTO_PAUSED = "auto_paused"
    EXCLUDED = "excluded"
    OUTSIDE_DAYLIGHT = "outside_daylight"
    PLACE_UNKNOWN = "place_unknown"
    # It was asked for, and that did not come in.
    REFUSED = "refused"
    REQUEST_REPEATED = "request_repeated"
    DEAD_LETTERED = "dead_lettered"
    EVENT_UNREAD = "event_unread"
    # It was due, and no command came of it.
    WHEEL_DOWN = "wheel_down"
    CLOCK_STOPPED = "clock_stopped"
    WHEEL_BEHIND = "wheel_behind"
    MISFIRE_SKIP = "misfire_skip"
    MISFIRE_WINDOW = "misfire_window"
    MISFIRE_OTHER = "misfire_other"
    CHANGED_BEFORE_ISSUE = "changed_before_issue"
    LOST = "lost"
    LOG_TOO_SHORT = "log_too_short"
    # There was a command, and no shutter opened.
    CHANGED = "changed"
    PLACE_CHANGED = "place_changed"
    TZ_CHANGED = "tz_changed"
    SUPERSEDED = "superseded"
    OVERFLOW = "overflow"
    OVERLAP = "overlap"
    COMMAND_DEAD_LETTERED = "command_dead_lettered"
    ARRIVED_LATE = "arrived_late"
    ARMED_LATE = "armed_late"
    SHUTTER_LATE = "shutter_late"
    LOST_AND_LATE = "lost_and_late"
    SHED = "shed"
    BREAKER_OPEN = "breaker_open"
    NO_RESULT = "no_result"
    # A shutter was to open, and no photo came of it.
    FAILED = "failed"
    BAD_PHOTO = "bad_photo"
    WORKER_LOST = "worker_lost"
    DEVICE_UNKNOWN = "device_unknown"
    PROFILE_REFUSED = "profile_refused"


class Reason(NamedTuple):
    """One of the reasons."""

    words: str
    advice: str
    """What to do; empty: nothing. ``{device}``, ``{schedule}`` and ``{command}`` are filled in."""
    photo: bool = False
    """There is a photo."""


C = Code
REASONS: Final[Mapping[Code, Reason]] = {
    C.PHOTO_THERE: Reason("The photo is there, nothing is wrong.", "", photo=True),
    C.PHOTO_RECOVERED: Reason(
        "The photo is there: its worker was lost in the middle, and the next one found it.",
        "Nothing, if workers are not lost often.",
        photo=True,
    ),
    C.PHOTO_LATE: Reason(
        "The photo is there, but late.",
        "The attempts say what held it up: a retry, a busy device, a full pool, a lost worker.",
        photo=True,
    ),
    C.SPREAD: Reason(
        "The photo is there, at this device's own moment of the spread or jitter window.",
        "Look for it there; a schedule with a spread of 0 has no such window.",
        photo=True,
    ),
    C.MOVED_BY_CAPACITY: Reason(
        "The photo is there, but was moved forward: its shard had no room in that second.",
        "Raise --capacity, spread the schedules, or lower the schedule's tolerance_ms.",
        photo=True,
    ),
    C.PHOTO_GONE: Reason(
        "The photo was taken, and was to be kept no longer.",
        "A longer `keep`, or 0 for ever, keeps those to come.",
    ),
    C.NOT_YET: Reason("Its time has not come.", "Wait."),
    C.COMMAND_WAITS: Reason("Its command is out and waits for its time.", "Wait."),
    C.CAPTURE_RUNS: Reason(
        "Its command has come due and has not ended: an attempt runs, or it waits for one.",
        "`shutterwheel capture show {command}` asks its worker.",
    ),
    C.NO_SUCH_DEVICE: Reason(
        "Nothing is known of such a device: no profile, no schedule, no request.",
        "Check its id and the namespace; `shutterwheel device list` shows the devices.",
    ),
    C.NO_SCHEDULE: Reason(
        "The device had no schedule then, and nobody asked for a photo.",
        "`shutterwheel schedule list {device}` shows its schedules; `schedule apply` makes them.",
    ),
    C.NOT_DUE: Reason(
        "The schedule was not due then.",
        "`shutterwheel schedule preview {device}` shows its times, `--window` looks further here.",
    ),
    C.NOT_STARTED: Reason(
        "The schedule was accepted, but had not started: a new one starts after a notice.",
        "Publish a schedule some seconds before its first time.",
    ),
    C.NOT_VALID_YET: Reason(
        "The schedule's validity had not begun.", "Change its `from` if that is wrong."
    ),
    C.VALIDITY_OVER: Reason(
        "The schedule's validity was over.", "Change its `until` if that is wrong."
    ),
    C.COUNT_REACHED: Reason(
        "The schedule had been due as often as it was to be.",
        "Publish it again, or without `count`, if there are to be more.",
    ),
    C.TIME_OVER: Reason(
        "The schedule was for a single time, which was over.", "Publish another time."
    ),
    C.NO_FURTHER_TIME: Reason(
        "The schedule had no further time.", "Check its expression, its dates and exclusions."
    ),
    C.CANCELLED: Reason("The schedule was cancelled.", "Publish it again if that was wrong."),
    C.PAUSED: Reason(
        "The schedule was paused.",
        "`shutterwheel schedule resume {device} {schedule}`, if the reason is over.",
    ),
    C.AUTO_PAUSED: Reason(
        "The schedule was paused by the wheel itself, as its device failed too often in a row.",
        "`shutterwheel device check {device}`; once it is repaired, "
        "`shutterwheel schedule resume {device} {schedule}`.",
    ),
    C.EXCLUDED: Reason(
        "One of the schedule's exclusions (a calendar, a blackout) leaves that time out.",
        "Change its `exclude` if that is wrong.",
    ),
    C.OUTSIDE_DAYLIGHT: Reason(
        "The time lies outside of the schedule's daylight window.",
        "Change its `daylight`, or the device's place, if that is wrong.",
    ),
    C.PLACE_UNKNOWN: Reason(
        "The schedule hangs on the sun, and nobody knows where the device stands.",
        "Give the device a latitude and longitude: `shutterwheel device add {device} ...`.",
    ),
    C.REFUSED: Reason(
        "What upstream asked for was refused.",
        "Correct what the reason names and publish it with a new request id.",
    ),
    C.REQUEST_REPEATED: Reason(
        "What upstream asked for came under a request id that was known already.",
        "Publish it again with a request id of its own.",
    ),
    C.DEAD_LETTERED: Reason(
        "What upstream published could not be read, and became a dead letter.",
        "Correct the writer: its schema, its key, its partitioner; then publish again.",
    ),
    C.EVENT_UNREAD: Reason(
        "What upstream published has not been read: the wheel is behind or down.",
        "`shutterwheel doctor`; then look at the wheel's workers and their lag.",
    ),
    C.WHEEL_DOWN: Reason(
        "No wheel worked on this partition at that time, and none has since.",
        "`shutterwheel doctor`; start a wheel: what is missed goes by the misfire policy.",
    ),
    C.CLOCK_STOPPED: Reason(
        "No wheel worked at that time, and its clock was wrong: such a wheel stops.",
        "Set up time synchronisation (`--ntp HOST`) on the wheel's machine.",
    ),
    C.WHEEL_BEHIND: Reason(
        "The wheel has passed that time, but its shard still waits for its commands.",
        "Wait, or spread the herd: more was due at once than the wheel issues in a tick.",
    ),
    C.MISFIRE_SKIP: Reason(
        "It could not be issued in time, and the schedule makes up for no missed time.",
        "Find out why the wheel was late; `misfire: latest` makes up for the latest.",
    ),
    C.MISFIRE_WINDOW: Reason(
        "It could not be issued in time, nor within the catch-up window.",
        "Find out why the wheel was late; a longer `catch_up` makes up for more.",
    ),
    C.MISFIRE_OTHER: Reason(
        "It could not be issued in time, and the schedule makes up for another missed time only.",
        "Find out why the wheel was late; `misfire: all` makes up for all.",
    ),
    C.CHANGED_BEFORE_ISSUE: Reason(
        "The wheel was late, and before it issued this the schedule was changed.",
        "Find out why the wheel was late.",
    ),
    C.LOST: Reason(
        "It was due, and the log has neither a command nor a reason for none.",
        "This must not be: run `shutterwheel audit`, and keep the log.",
    ),
    C.LOG_TOO_SHORT: Reason(
        "The log does not reach back so far.",
        "Ask an archive, if there is one; or keep the topics longer.",
    ),
    C.CHANGED: Reason(
        "The schedule was changed after the command was out, and the change voided it.",
        "See the times of the schedule as it is now.",
    ),
    C.PLACE_CHANGED: Reason(
        "The device's place changed after the command was out, and so did its times.",
        "See the times of the schedule as it is now.",
    ),
    C.TZ_CHANGED: Reason(
        "Other time zone data came into force, by which the schedule's time is another one.",
        "See the times of the schedule as they are now; the runbook `tz-upgrade` says more.",
    ),
    C.SUPERSEDED: Reason(
        "Another command had the same time: one photo is taken, not two.",
        "Look at the other command.",
    ),
    C.OVERFLOW: Reason(
        "Too many captures of the device were open at once.",
        "Lengthen the schedule's period, or shorten its lead.",
    ),
    C.OVERLAP: Reason(
        "An earlier capture of the schedule had not ended, and its overlap policy gave this up.",
        "A longer period, a shorter timeout, or `overlap: allow`.",
    ),
    C.COMMAND_DEAD_LETTERED: Reason(
        "The captures app could not read the command, and it became a dead letter.",
        "Run the same release in wheel and captures workers.",
    ),
    C.ARRIVED_LATE: Reason(
        "The command was read after its last moment.",
        "The captures workers were down or behind: `shutterwheel doctor`.",
    ),
    C.ARMED_LATE: Reason(
        "The last moment passed before the capture was armed.",
        "The captures workers were down or behind, or the device's breaker was open.",
    ),
    C.SHUTTER_LATE: Reason(
        "The last moment passed while the capture was armed and waited.",
        "It had no lease (broker away), or an earlier capture, the device, its host or a pool was"
        " busy: see the log of the captures worker.",
    ),
    C.LOST_AND_LATE: Reason(
        "Its worker was lost in the middle, and the last moment passed before the next had it.",
        "Run a second captures worker, or lengthen the schedule's catch_up.",
    ),
    C.SHED: Reason(
        "The captures worker was overloaded and gave up what was less important.",
        "Add captures workers, spread the schedules, or raise this one's priority.",
    ),
    C.BREAKER_OPEN: Reason(
        "The device had failed so often that it was left alone for a while.",
        "`shutterwheel device check {device}`.",
    ),
    C.NO_RESULT: Reason(
        "The command's last moment is over, and no captures worker has said how it ended.",
        "The captures workers are down: `shutterwheel doctor`. It will be ended as they start.",
    ),
    C.FAILED: Reason(
        "The camera or the store gave no photo.", "`shutterwheel device check {device}`."
    ),
    C.BAD_PHOTO: Reason(
        "The photo was bad (blurred, covered, over- or underexposed), and such are not kept.",
        "Look at the camera; `quality: mark` keeps what is bad and says so.",
    ),
    C.WORKER_LOST: Reason(
        "Its worker was lost in the middle, at every attempt.",
        "See the log of the captures workers: does this device's photo kill them?",
    ),
    C.DEVICE_UNKNOWN: Reason(
        "The captures worker knew of no such device.",
        "Make it known: `shutterwheel device add {device} ADDRESS`.",
    ),
    C.PROFILE_REFUSED: Reason(
        "The captures worker knew of no such device: its profile became a dead letter.",
        "Correct what the reason names and write the profile again.",
    ),
}
