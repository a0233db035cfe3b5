"""A story for each reason: what happened, what is asked, and what the answer must say."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec
from explain_world import (
    CODEC,
    DEVICE,
    IMAGE,
    PARTITION,
    PARTITIONS,
    T0,
    Shot,
    World,
)

from schemas.records import (
    ClockCorrection,
    ClockState,
    DeviceFact,
    Exclusion,
    ScheduleSpec,
)
from streams.core import breaker, ids
from streams.core.recurrence import zones
from streams.core.recurrence.civil import HOUR_MS
from streams.core.spread import offset_ms
from streams.replay.explain_reasons import Code

Play = Callable[[World], tuple[int, dict[str, Any]]]
MINUTE = 60_000


@dataclass
class Scenario:
    """``play`` lets it happen and returns the time that is asked for, after T0, and options."""

    play: Play
    words: tuple[str, ...]
    settings: dict[str, Any] = field(default_factory=dict)


SCENARIOS: dict[Code, list[Scenario]] = defaultdict(list)


def story(code: Code, *words: str, **settings: Any) -> Callable[[Play], Play]:
    """Register the scenario of a reason; a reason may have several."""

    def register(play: Play) -> Play:
        SCENARIOS[code].append(Scenario(play, words, settings))
        return play

    return register


def every_minute(world: World, **policy: Any) -> None:
    """A schedule every minute, accepted at once."""
    world.publish(world.upsert(**policy))
    world.run(2_000)


def failing(cause: str, message: str = "no", *, retry: bool = True) -> Any:
    """A camera that fails each attempt."""
    return lambda _command, _attempt: Shot(cause, message, retry)


# --- a photo ----------------------------------------------------------------------------------------


@story(Code.PHOTO_THERE, "shutter 0 ms after")
def there(world):
    every_minute(world)
    world.run(3 * MINUTE)
    return 2 * MINUTE, {}


@story(Code.PHOTO_THERE)
def asked_for(world):
    world.run(10_000)
    world.publish(world.request())
    world.run(15_000)
    return 11_000, {}


@story(Code.PHOTO_RECOVERED, "its worker was lost")
def recovered(world):
    world.camera = lambda _c, _a: Shot(lost=True)
    every_minute(world)
    world.run(MINUTE + 3_000)
    world.recover(world.command_at(MINUTE), MINUTE + 3_000, IMAGE)
    return MINUTE, {}


@story(Code.PHOTO_LATE, "at attempt 2")
def late(world):
    world.camera = lambda _c, attempt: (
        Shot("timeout", "slow", took_ms=3_000) if attempt == 1 else Shot()
    )
    every_minute(world)
    world.run(MINUTE + 10_000)
    return MINUTE, {}


@story(Code.SPREAD, "into the window of its nominal time")
def spread(world):
    every_minute(world, spread_ms=30_000)
    world.run(3 * MINUTE)
    assert offset_ms(DEVICE, 30_000) > 1_000
    return 2 * MINUTE, {}


@story(Code.MOVED_BY_CAPACITY, "capacity moved it forward by", capacity_per_shard=1)
def moved(world):
    for number in range(4):
        world.publish(world.upsert(schedule=f"s{number}", tolerance_ms=20_000))
    world.run(2 * MINUTE)
    return MINUTE, {"schedule_id": "s3"}


@story(Code.PHOTO_GONE, "which was kept until 2026-12-01T12:03:00Z")
def gone(world):
    every_minute(world, keep_ms=2 * MINUTE)
    world.run(4 * MINUTE)
    return MINUTE, {}


@story(Code.NOT_YET, "it is due at")
def not_yet(world):
    every_minute(world)
    world.run(MINUTE + 10_000)
    return 2 * MINUTE, {}


@story(Code.COMMAND_WAITS, "waits for")
def waits(world):
    every_minute(world)
    world.run(MINUTE - 3_000)
    return MINUTE, {}


@story(Code.CAPTURE_RUNS, "is open")
def runs(world):
    world.camera = lambda _c, _a: Shot(lost=True)
    every_minute(world)
    world.run(MINUTE + 1_000)
    return MINUTE, {}


# --- not asked for ----------------------------------------------------------------------------------


@story(Code.NO_SUCH_DEVICE, "'cam-77'")
def no_such_device(world):
    every_minute(world)
    return MINUTE, {"device_id": "cam-77"}


@story(Code.NO_SCHEDULE, "no schedule then")
def no_schedule(world):
    world.profile()
    world.run(2 * MINUTE)
    return MINUTE, {}


@story(Code.NO_SCHEDULE, "the first change after it")
def only_later(world):
    world.run(5 * MINUTE)
    world.publish(world.upsert())
    world.run(6 * MINUTE)
    return MINUTE, {}


@story(Code.NO_SCHEDULE, "the device was removed")
def removed(world):
    world.profile(removed=True)
    world.run(MINUTE)
    return MINUTE, {}


@story(Code.NOT_DUE, "the time before it is", "the next is")
def not_due(world):
    every_minute(world)
    world.run(3 * MINUTE)
    return MINUTE + 30_000, {"window_ms": 10_000}


@story(Code.NOT_STARTED, "started at", notice_ms=5_000)
def not_started(world):
    world.run(MINUTE - 3_000)
    world.publish(world.upsert())
    world.run(3 * MINUTE)
    return MINUTE, {"window_ms": 10_000}


@story(Code.NOT_VALID_YET, "it is valid from")
def not_valid_yet(world):
    world.publish(world.upsert(ScheduleSpec("interval", every_ms=MINUTE, from_ms=T0 + 600_000)))
    world.run(5 * MINUTE)
    return 3 * MINUTE, {}


@story(Code.VALIDITY_OVER, "its validity is over")
def validity_over(world):
    world.publish(world.upsert(ScheduleSpec("interval", every_ms=MINUTE, until_ms=T0 + 150_000)))
    world.run(10 * MINUTE)
    return 8 * MINUTE, {}


@story(Code.COUNT_REACHED, "2 times")
def count_reached(world):
    world.publish(world.upsert(ScheduleSpec("interval", every_ms=MINUTE, max_count=2)))
    world.run(10 * MINUTE)
    return 8 * MINUTE, {}


@story(Code.TIME_OVER, "its time is over")
def time_over(world):
    world.publish(world.upsert(ScheduleSpec("once", at_ms=T0 + MINUTE)))
    world.run(10 * MINUTE)
    return 8 * MINUTE, {}


@story(Code.NO_FURTHER_TIME, "it has no further time")
def no_further_time(world):
    two = ScheduleSpec("calendar", expression="FREQ=DAILY;COUNT=1;BYHOUR=12;BYMINUTE=2;BYSECOND=0",
                       from_ms=T0)  # fmt: skip
    world.publish(world.upsert(two))
    world.run(10 * MINUTE)
    return 8 * MINUTE, {}


@story(Code.CANCELLED, "'door' was cancelled at", "by request r2")
def cancelled(world):
    every_minute(world)
    world.run(2 * MINUTE)
    world.publish(world.cancel())
    world.run(6 * MINUTE)
    return 5 * MINUTE, {}


@story(Code.CANCELLED, "REVOKED", "ScheduleCancelled by request r2")
def cancelled_in_time(world):
    every_minute(world)
    world.run(MINUTE - 3_000)
    world.publish(world.cancel())
    world.run(2 * MINUTE)
    return MINUTE, {}


@story(Code.PAUSED, "by request r2", "reason: rain")
def paused(world):
    every_minute(world)
    world.run(2 * MINUTE)
    world.publish(world.pause())
    world.run(6 * MINUTE)
    return 5 * MINUTE, {}


@story(Code.PAUSED, "REVOKED", "reason: rain")
def paused_in_time(world):
    every_minute(world)
    world.run(MINUTE - 3_000)
    world.publish(world.pause())
    world.run(2 * MINUTE)
    return MINUTE, {}


@story(Code.PAUSED, "by request r2", "reason: rain")
def paused_a_moment_after_a_photo(world):
    """There is a photo within the window, but another time was nearer."""
    every_minute(world)
    world.run(2 * MINUTE + 2_000)
    world.publish(world.pause())
    world.run(6 * MINUTE)
    return 3 * MINUTE, {}


@story(Code.CANCELLED, "by request r2")
def cancelled_a_moment_after_a_photo(world):
    every_minute(world)
    world.run(2 * MINUTE + 2_000)
    world.publish(world.cancel())
    world.run(6 * MINUTE)
    return 3 * MINUTE, {}


@story(Code.PAUSED, "by request r2")
def changed_while_paused(world):
    """An upsert does not unpause."""
    every_minute(world)
    world.publish(world.pause())
    world.run(MINUTE)
    world.publish(world.upsert(ScheduleSpec("interval", every_ms=30_000)))
    world.run(6 * MINUTE)
    return 5 * MINUTE, {}


@story(Code.PAUSED, "by request r2")
def paused_over_a_single_time(world):
    world.publish(world.upsert(ScheduleSpec("once", at_ms=T0 + 2 * MINUTE)))
    world.run(5_000)
    world.publish(world.pause())
    world.run(4 * MINUTE)
    world.publish(world.resume())
    world.run(5 * MINUTE)
    return 2 * MINUTE, {}


@story(
    Code.AUTO_PAUSED, "the wheel paused 'door'", "3 captures of the device failed in a row", "auth"
)
def auto_paused(world):
    world.camera = failing("auth", "401", retry=False)
    every_minute(world, pause_after_failures=3)
    world.run(8 * MINUTE)
    return 7 * MINUTE, {}


@story(Code.EXCLUDED, "its exclusion on 2026-12-01 (holidays)")
def excluded(world):
    spec = ScheduleSpec("cron", expression="*/5 * * * *", zone="Europe/Paris", exclude=(
        Exclusion("holidays", (20261201,)), Exclusion("nights", hours="22:00-06:00"),
    ))  # fmt: skip
    world.publish(world.upsert(spec))
    world.run(10 * MINUTE)
    return 5 * MINUTE, {}


@story(Code.EXCLUDED, "(noon)", "outside of sunset..sunrise")
def excluded_and_dark(world):
    spec = ScheduleSpec("interval", every_ms=MINUTE, daylight="sunset..sunrise",
                        exclude=(Exclusion("noon", hours="11:00-14:00"),))  # fmt: skip
    world.facts.append(DeviceFact(DEVICE, "place", 48.86, 2.35))
    world.publish(world.upsert(spec))
    world.run(10 * MINUTE)
    return 5 * MINUTE, {}


@story(Code.EXCLUDED, "from 12:05 to 12:06 (lunch)")
def excluded_between_photos(world):
    """There is a photo a minute before and after: the time asked for is the nearer one."""
    lunch = Exclusion("lunch", hours="12:05-12:06")
    world.publish(world.upsert(ScheduleSpec("interval", every_ms=MINUTE, exclude=(lunch,))))
    world.run(10 * MINUTE)
    return 5 * MINUTE, {}


@story(Code.OUTSIDE_DAYLIGHT, "sunset..sunrise was not open", "next: 2026-12-01T15:")
def outside_daylight(world):
    world.facts.append(DeviceFact(DEVICE, "place", 48.86, 2.35))
    world.publish(
        world.upsert(ScheduleSpec("interval", every_ms=MINUTE, daylight="sunset..sunrise"))
    )
    world.run(10 * MINUTE)
    return 5 * MINUTE, {}


@story(Code.PLACE_UNKNOWN, "place (latitude, longitude) was not known")
def place_unknown(world):
    world.publish(
        world.upsert(ScheduleSpec("interval", every_ms=MINUTE, daylight="sunrise..sunset"))
    )
    world.run(10 * MINUTE)
    return 5 * MINUTE, {}


# --- it did not come in -----------------------------------------------------------------------------


@story(Code.REFUSED, "choose a value from 0 to 9")
def refused(world):
    world.publish(world.upsert(priority=12))
    world.run(6 * MINUTE)
    return 5 * MINUTE, {}


@story(Code.REFUSED, "no schedule 'door'")
def refused_by_the_fold(world):
    world.publish(world.resume())
    world.run(6 * MINUTE)
    return 5 * MINUTE, {}


@story(Code.REFUSED, "was over when the request was taken")
def refused_request(world):
    world.run(5 * MINUTE)
    world.publish(world.request(4 * MINUTE))
    world.run(6 * MINUTE)
    return 4 * MINUTE, {}


@story(Code.REFUSED, "choose a value from 0 to 9")
def the_change_was_refused(world):
    """It was to be due each second from now on."""
    every_minute(world)
    world.publish(world.upsert(ScheduleSpec("interval", every_ms=1_000), priority=12))
    world.run(6 * MINUTE)
    return 5 * MINUTE + 30_000, {"window_ms": 10_000}


@story(Code.NOT_DUE, "the next is")
def not_due_and_the_refused_change_would_not_have_been(world):
    every_minute(world)
    world.publish(world.upsert(ScheduleSpec("interval", every_ms=20 * MINUTE), priority=12))
    world.run(6 * MINUTE)
    return 5 * MINUTE + 30_000, {"window_ms": 10_000}


@story(Code.PAUSED, "by request r2")
def paused_and_a_cancel_was_refused(world):
    every_minute(world)
    world.publish(world.pause())
    world.run(MINUTE)
    world.publish(msgspec.structs.replace(world.cancel(), request_id=""))
    world.run(6 * MINUTE)
    return 5 * MINUTE, {}


@story(Code.REFUSED, "request_id")
def the_resume_was_refused(world):
    every_minute(world)
    world.publish(world.pause())
    world.run(MINUTE)
    world.publish(world.resume(request=" "))
    world.run(6 * MINUTE)
    return 5 * MINUTE, {}


@story(Code.REQUEST_REPEATED, "asked for something else than")
def request_repeated(world):
    world.publish(world.upsert(request="once-more"))
    world.run(MINUTE)
    world.publish(world.upsert(ScheduleSpec("interval", every_ms=1_000), request="once-more"))
    world.run(6 * MINUTE)
    return 5 * MINUTE + 30_000, {"window_ms": 10_000}


@story(Code.DEAD_LETTERED, "became a dead letter (not_avro)")
def dead_lettered(world):
    world.raw("schedule.events", b'{"every": "1m"}')
    world.run(6 * MINUTE)
    return 5 * MINUTE, {}


@story(Code.DEAD_LETTERED, "became a dead letter (wrong_partition)")
def on_a_wrong_partition(world):
    """The letter lies where the record came to lie: on another partition."""
    elsewhere = (PARTITION + 1) % PARTITIONS
    offset = world.append("schedule.events", world.upsert(), partition=elsewhere)
    world.letter("schedule.events", offset, "wrong_partition", "It belongs elsewhere.", elsewhere)
    world.run(6 * MINUTE)
    return 5 * MINUTE, {}


@story(Code.EVENT_UNREAD, "no tick has taken it yet")
def unread(world):
    world.run(MINUTE)
    world.wheel = False
    world.publish(world.upsert())
    world.run(6 * MINUTE)
    return 5 * MINUTE, {}


# --- no command -------------------------------------------------------------------------------------


@story(Code.WHEEL_DOWN, "no wheel worked on partition", "on.")
def wheel_down(world):
    every_minute(world)
    world.run(2 * MINUTE + 10_000)
    world.wheel = False
    world.run(6 * MINUTE)
    return 5 * MINUTE, {}


@story(Code.CLOCK_STOPPED, "its clock was off by +30,000 ms")
def clock_stopped(world):
    every_minute(world)
    world.run(MINUTE + 30_000)
    world.wheel = False
    world.run(6 * MINUTE)
    correction = ClockCorrection("start", 30_000.0, T0)
    world.clock = ClockState("ntp", 0.0, 1.0, (correction,))
    world.wheel = True
    world.run(7 * MINUTE)
    return 3 * MINUTE, {}


@story(Code.WHEEL_BEHIND, "still waits", max_fires=1)
def wheel_behind(world):
    """A herd of other shards goes first, one command a tick."""
    others = [f"x-{n}" for n in range(400) if ids.partition_of(f"x-{n}", PARTITIONS) == PARTITION]
    mine = ids.shard_of(DEVICE)
    for name in [one for one in others if ids.shard_of(one) < mine][:60]:
        event = msgspec.structs.replace(world.upsert(), device_id=name)
        world.append("schedule.events", event, key=name)
    every_minute(world)
    world.run(MINUTE + 5_000)
    return MINUTE, {}


def _outage(world, begin, end, **policy):
    every_minute(world, **policy)
    world.run(begin)
    world.wheel = False
    world.run(end)
    world.wheel = True
    world.run(end + MINUTE)


@story(Code.MISFIRE_SKIP, "makes up for none", "no wheel worked on partition")
def misfire_skip(world):
    _outage(world, 90_000, 400_000, misfire="skip")
    return 5 * MINUTE, {}


@story(Code.MISFIRE_WINDOW, "within the window of 5000 ms")
def misfire_window(world):
    _outage(world, 90_000, 400_000, catch_up_ms=5_000)
    return 5 * MINUTE, {}


@story(Code.MISFIRE_WINDOW, "more than 100 to make up for")
def misfire_all(world):
    _outage(world, 90_000, 400_000, misfire="all", catch_up_ms=100_000)
    return 4 * MINUTE, {}


@story(Code.MISFIRE_OTHER, "only the latest is made up for", "with 3 more")
def misfire_other(world):
    _outage(world, 90_000, 400_000)
    return 3 * MINUTE, {"window_ms": 20_000}


@story(Code.MISFIRE_OTHER, "only the earliest is made up for")
def misfire_earliest(world):
    _outage(world, 90_000, 400_000, misfire="earliest", catch_up_ms=10 * MINUTE)
    return 5 * MINUTE, {"window_ms": 20_000}


@story(Code.CHANGED_BEFORE_ISSUE, "the schedule was changed before this was issued")
def changed_before_issue(world):
    every_minute(world)
    world.run(90_000)
    world.wheel = False
    world.run(5 * MINUTE)
    world.publish(world.upsert(ScheduleSpec("interval", every_ms=30_000)))
    world.wheel = True
    world.run(6 * MINUTE)
    return 3 * MINUTE, {"window_ms": 20_000}


@story(Code.LOST, "left no command and no reason")
def lost(world):
    """Somebody took the command out of the log."""
    every_minute(world)
    world.run(6 * MINUTE)
    entries = world.log.entries("capture.commands", PARTITION)
    gone = CODEC.encode(world.command_at(3 * MINUTE))
    entries[:] = [one for one in entries if one.value != gone]
    return 3 * MINUTE, {"window_ms": 20_000}


def forget(world, topic, before_ms):
    entries = world.log.entries(topic, PARTITION)
    entries[:] = [one for one in entries if one.timestamp_ms >= T0 + before_ms]


@story(Code.LOG_TOO_SHORT, "the ticks of partition")
def log_too_short(world):
    every_minute(world)
    world.run(6 * MINUTE)
    for topic in ("schedule.events", "schedule.ticks", "schedule.decisions", "capture.commands"):
        forget(world, topic, 4 * MINUTE)
    return MINUTE, {}


@story(Code.LOG_TOO_SHORT, "has nothing so old")
def commands_forgotten(world):
    every_minute(world)
    world.run(6 * MINUTE)
    forget(world, "capture.commands", 4 * MINUTE)
    return 2 * MINUTE, {"window_ms": 20_000}


@story(Code.LOG_TOO_SHORT, "is not known any more")
def results_forgotten(world):
    every_minute(world)
    world.run(6 * MINUTE)
    forget(world, "capture.results", 4 * MINUTE)
    return 2 * MINUTE, {"window_ms": 20_000}


@story(Code.LOG_TOO_SHORT, "the log ends at 2026-12-01T12:02:00Z")
def the_archive_ends(world):
    every_minute(world)
    world.run(2 * MINUTE)
    world.now = 60 * MINUTE
    return 5 * MINUTE, {"live": False, "window_ms": 20_000}


@story(Code.LOG_TOO_SHORT, "does not hold what schedule 'door' of epoch 3")
def change_forgotten(world):
    """A pause is kept, what it paused is older than the log."""
    every_minute(world)
    world.run(2 * MINUTE)
    world.publish(world.pause())
    world.run(3 * MINUTE)
    world.publish(world.resume())
    world.run(4 * MINUTE)
    for topic in ("schedule.events", "schedule.ticks", "schedule.decisions", "capture.commands"):
        forget(world, topic, 90_000)
    world.log.entries("wheel.schedules.changelog", PARTITION).clear()
    return 3 * MINUTE + 30_000, {"window_ms": 5_000}


# --- a command, and no shutter ----------------------------------------------------------------------


@story(Code.CHANGED, "revoked: the schedule was changed", "ScheduleUpserted by request r2")
def changed(world):
    every_minute(world)
    world.run(MINUTE - 3_000)
    world.publish(world.upsert(ScheduleSpec("interval", every_ms=50 * MINUTE)))
    world.run(3 * MINUTE)
    return MINUTE, {}


@story(Code.PLACE_CHANGED, "the device's place has changed")
def place_changed(world):
    world.facts.append(DeviceFact(DEVICE, "place", 48.86, 2.35))
    world.publish(
        world.upsert(ScheduleSpec("interval", every_ms=MINUTE, daylight="sunrise..sunset"))
    )
    world.run(MINUTE - 3_000)
    world.facts.append(DeviceFact(DEVICE, "place", -30.0, -170.0))
    world.run(3 * MINUTE)
    return MINUTE, {"window_ms": 20_000}


@story(Code.TZ_CHANGED, "the tz data have changed from thought to later")
def tz_changed(world):
    """The clock of Paris is an hour behind what was thought: 00:01 is to come again."""
    where = zones.zone("Europe/Paris")
    later = zones.Zone(where.name, [(start, offset - HOUR_MS) for start, offset in where.changes()])
    zones.know(zones.KeptTzData("later", {where.name: later}, zones.PINNED))
    world.tz_version = "thought"
    local_ms = where.local_ms(T0 + MINUTE)
    line = f"{local_ms // MINUTE % 60} {local_ms // HOUR_MS % 24} * * *"
    world.publish(world.upsert(ScheduleSpec("cron", expression=line, zone=where.name)))
    world.run(MINUTE - 3_000)
    world.tz_version = "later"
    world.run(3 * MINUTE)
    del zones._others["later"]
    return MINUTE, {}


@story(Code.WHEEL_DOWN, "no wheel worked")
def wheel_down_under_other_tz_data(world):
    """A time is worked out by the data of the ticks at that time, not by those of today."""
    where = zones.zone("Europe/Paris")
    other = zones.Zone(where.name, [(start, offset + HOUR_MS) for start, offset in where.changes()])
    # It stays known, as the question comes after the story; nobody else has data of this name.
    zones.know(zones.KeptTzData("before", {where.name: other}, zones.PINNED))
    world.tz_version = "before"
    local_ms = other.local_ms(T0 + 10 * MINUTE)
    line = f"{local_ms // MINUTE % 60} {local_ms // HOUR_MS % 24} * * *"
    spec = ScheduleSpec("cron", expression=line, zone=where.name)
    world.publish(world.upsert(spec, misfire="skip"))
    world.run(9 * MINUTE)
    world.wheel = False
    world.run(12 * MINUTE)
    return 10 * MINUTE, {}


@story(Code.SUPERSEDED, "superseded: command", "is RUNNING")
def superseded(world):
    """The first is armed as the change comes; the second one of the same time has to yield."""
    world.camera = lambda _c, _a: Shot(lost=True)
    every_minute(world, lead_ms=5_000)
    world.run(MINUTE)
    first = world.command_at(MINUTE)
    again = msgspec.structs.replace(first, command_id=first.command_id + 1, epoch=first.epoch + 1)
    world.append("capture.commands", again)
    world.run(MINUTE + 1_000)
    return MINUTE, {"command_id": again.command_id, "schedule_id": "door"}


@story(Code.OVERFLOW, "overflow: 128 captures")
def overflow(world):
    world.held.add(DEVICE)
    world.publish(*[world.upsert(schedule=f"s{n:03}") for n in range(130)])
    world.run(MINUTE - 1_000)
    return MINUTE, {"schedule_id": "s129"}


@story(Code.OVERLAP, "overlap: skip, and not ended at its time")
def overlapped(world):
    world.camera = lambda _c, _a: Shot(lost=True)
    every_minute(world, overlap="skip", catch_up_ms=600_000)
    world.run(2 * MINUTE + 2_000)
    return 2 * MINUTE, {"window_ms": 20_000}


@story(Code.COMMAND_DEAD_LETTERED, "became a dead letter (unknown_schema)")
def command_dead_lettered(world):
    world.captures = False
    every_minute(world)
    world.run(2 * MINUTE)
    (offset,) = [
        e.offset for e in world.log.entries("capture.commands", PARTITION)
        if e.value == CODEC.encode(world.command_at(MINUTE))
    ]  # fmt: skip
    world.letter("capture.commands", offset, "unknown_schema", "The writer is a newer release.")
    return MINUTE, {"window_ms": 20_000}


@story(Code.ARRIVED_LATE, "it arrived", "after not_after")
def arrived_late(world):
    world.captures = False
    every_minute(world, catch_up_ms=10_000)
    world.run(2 * MINUTE)
    world.captures = True
    world.run(3 * MINUTE)
    return MINUTE, {"window_ms": 20_000}


@story(Code.ARMED_LATE, "before arming")
def armed_late(world):
    every_minute(world, catch_up_ms=10_000)
    world.run(MINUTE - 2_000)
    world.captures = False
    world.run(2 * MINUTE)
    world.captures = True
    world.run(3 * MINUTE)
    return MINUTE, {"window_ms": 20_000}


@story(Code.SHUTTER_LATE, "the shutter could not open before not_after")
def shutter_late(world):
    world.held.add(DEVICE)
    every_minute(world, catch_up_ms=10_000)
    world.run(MINUTE + 12_000)
    world.give_up(
        world.command_at(MINUTE),
        "late: the shutter could not open before not_after",
        MINUTE + 11_000,
    )
    return MINUTE, {}


@story(Code.LOST_AND_LATE, "not_after passed while its worker was lost")
def lost_and_late(world):
    world.camera = lambda _c, _a: Shot(lost=True)
    every_minute(world, catch_up_ms=10_000)
    world.run(MINUTE + 12_000)
    world.recover(world.command_at(MINUTE), MINUTE + 12_000)
    return MINUTE, {}


@story(Code.SHED, "shed: 900 go before it")
def shed(world):
    world.held.add(DEVICE)
    every_minute(world)
    world.run(MINUTE)
    world.give_up(world.command_at(MINUTE), "shed: 900 go before it, which takes 70,000 ms", MINUTE)
    return MINUTE, {}


@story(Code.BREAKER_OPEN, "breaker_open: failure 5 in a row was 'timeout'")
def breaker_open(world):
    opened = breaker.Breaker()
    for n in range(5):
        opened = breaker.on_failure(opened, T0 + n, "timeout")
    world.held.add(DEVICE)
    every_minute(world)
    world.run(MINUTE)
    world.give_up(world.command_at(MINUTE), breaker.describe(opened, T0), MINUTE)
    return MINUTE, {}


@story(Code.NO_RESULT, "has no result")
def no_result(world):
    world.captures = False
    every_minute(world)
    world.run(10 * MINUTE)
    return 3 * MINUTE, {"window_ms": 20_000}


# --- a shutter, and no photo ------------------------------------------------------------------------


@story(Code.FAILED, "timeout: no answer", "attempt 4 of 4", "it hung")
def failed(world):
    world.camera = failing("timeout", "no answer")
    every_minute(world)
    world.run(2 * MINUTE)
    return MINUTE, {"window_ms": 20_000}


@story(Code.FAILED, "http_503: busy", "it answered with an HTTP error")
def failed_by_status(world):
    world.camera = failing("http_503", "busy")
    every_minute(world)
    world.run(2 * MINUTE)
    return MINUTE, {"window_ms": 20_000}


@story(Code.BAD_PHOTO, "quality: blur", "its photo was bad")
def bad_photo(world):
    world.camera = failing("quality", "blur 0.93")
    every_minute(world, quality="drop")
    world.run(2 * MINUTE)
    return MINUTE, {"window_ms": 20_000}


@story(Code.WORKER_LOST, "worker lost: attempt 16 of 16")
def worker_lost(world):
    world.camera = lambda _c, _a: Shot(lost=True)
    every_minute(world, catch_up_ms=600_000)
    for second in range(40):
        world.run(MINUTE + second * 1_000)
        for entry in world.row().open:
            if entry.state == "RUNNING" and entry.command.scheduled_ms == T0 + MINUTE:
                world.recover(entry.command, world.now)
    return MINUTE, {"window_ms": 20_000}


@story(Code.DEVICE_UNKNOWN, "unknown_device: there is no device 'cam-1'")
def device_unknown(world):
    world.camera = failing("unknown_device", "there is no device 'cam-1'", retry=False)
    every_minute(world)
    world.run(2 * MINUTE)
    return MINUTE, {"window_ms": 20_000}


@story(Code.PROFILE_REFUSED, "its profile became a dead letter (bad_address)")
def profile_refused(world):
    offset = world.raw("device.profiles", b"\0")
    world.letter("device.profiles", offset, "bad_address", "ftp:// is no way to a photo.")
    return device_unknown(world)
