"""``./dev bench schedules``: the cost of a next fire beside its peers, and agreement with them.

**Cost.** ``next_us`` is one evaluation on its own, ``first_us`` reading the expression and finding
the first fire. ``next_us_a_device`` is what the wheel pays: many devices of one recurrence, each
with its own spread offset, walk through time together, evaluations included.

Ours and the peers' are each the least of several walks; the Java program warms up first.

**Agreement.** See ``corpus.py`` for the questions and ``agreement.py`` for the classes.
``agree_pct`` is of the times compared; each class of difference is a metric with a count, and its
explanation is printed once. ``unexplained`` must be 0.
"""

from __future__ import annotations

import time
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from benchmarks.result import OURS, Row
from benchmarks.schedules.agreement import CLASSES, UNEXPLAINED, Tally, differences, our_fires
from benchmarks.schedules.corpus import FIRES, Question, questions, rule_questions
from benchmarks.schedules.peers import Quartz, ask_python
from schemas.records import CapturePolicy, Exclusion, ScheduleSpec, Term
from streams.core.recurrence import TZ_VERSION, Place, Recurrence
from streams.core.recurrence.civil import DAY_MS, day_of
from streams.core.recurrence.zones import zone
from streams.core.spread import offset_ms

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.load import Rig
    from benchmarks.options import Options

ZONE: Final = "Europe/Paris"
START_MS: Final = day_of(2026, 1, 1) * DAY_MS
PARIS: Final = Place(48.86, 2.35)
PYTHON: Final = ("croniter", "cronsim", "apscheduler")
SYSTEMS: Final = (*PYTHON, "quartz")
LINES: Final = {
    "*/5 * * * *": "cron */5 * * * *",
    "30 8 * * mon-fri": "cron 30 8 * * mon-fri",
    "0 12 29 2 *": "cron 0 12 29 2 *",
    "0 9 LW * *": "cron 0 9 LW * *",
    "0 17 * * fri#2": "cron 0 17 * * fri#2",
}
RULES: Final = {
    "calendar last workday": "FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-1",
    "calendar every 2nd week": "FREQ=WEEKLY;INTERVAL=2;BYDAY=MO,WE,FR",
    "calendar every 5 hours": "FREQ=HOURLY;INTERVAL=5",
    "calendar every 25 minutes at night": "FREQ=MINUTELY;INTERVAL=25;BYHOUR=22,23,0,1,2,3,4,5",
    "calendar every 100 seconds": "FREQ=SECONDLY;INTERVAL=100",
    "calendar week 20": "FREQ=YEARLY;BYWEEKNO=20;BYDAY=MO,FR;BYHOUR=6,18",
    "calendar last of the times": "FREQ=MONTHLY;BYDAY=MO,TU;BYHOUR=6,12,18;BYSETPOS=-1",
}
RULE_START: Final = "DTSTART:20260101T090000\nRRULE:"
RULE_FIRES: Final = 200
DEVICES: Final = 10_000
STEPS: Final = 20
"""Fires of each device."""


def run(options: Options, rig: Rig) -> Iterator[Row]:
    """Measure; see above."""
    count, steps = (600, 4) if options.quick else (8_000, STEPS)
    rig.say("ours: cost")
    yield from _our_costs(steps)
    rig.say(f"{count:,} questions, {FIRES} fires each: ours")
    asked = questions(count)
    began = time.perf_counter()
    mine = [our_fires(question, FIRES) for question in asked]
    yield Row("agreement", OURS, "answered_in", round(time.perf_counter() - began, 3), "s")
    rules = rule_questions(count // 2)
    began = time.perf_counter()
    my_rules = [our_fires(question, FIRES) for question in rules]
    spent = round(time.perf_counter() - began, 3)
    yield Row("agreement", OURS, "rules_answered_in", spent, "s")
    rig.say("croniter, cronsim, APScheduler, dateutil, astral (some minutes)")
    said = ask_python(
        {
            "questions": [[*question, FIRES] for question in asked],
            "lines": {case: line for line, case in LINES.items()},
            "zone": ZONE,
            "start_ms": START_MS,
            "rules": {case: RULE_START + rule for case, rule in RULES.items()},
            "rule_fires": RULE_FIRES,
            "rule_questions": [list(question) for question in rules],
            "fires": FIRES,
        }
    )
    yield from _peer_costs(said["costs"])
    rig.say("Quartz")
    quartz = Quartz(rig.folder)
    figures = quartz.costs([Question(line, ZONE, START_MS) for line in LINES])
    for case, found in zip(LINES.values(), figures, strict=True):
        if found is not None:
            yield Row(case, "quartz", "first_us", round(found[0], 3), "us")
            yield Row(case, "quartz", "next_us", round(found[1], 3), "us")
    answers = {**said["answers"], "quartz": quartz.fires(asked, FIRES)}
    rig.say(f"Java's time zones are {quartz.tz_version}, ours {TZ_VERSION}")
    offsets = _quartz_offsets(quartz, asked, mine, answers["quartz"])
    for system in SYSTEMS:
        tally = Tally(system)
        for question, ours, theirs in zip(asked, mine, answers[system], strict=True):
            known = offsets[question.zone] if system == "quartz" else {}
            tally.add(question, ours, theirs, FIRES, known)
        yield from _tally_rows(tally, rig)
    tally = Tally("dateutil")
    for question, ours, theirs in zip(rules, my_rules, said["answers"]["dateutil"], strict=True):
        tally.add(question, ours, theirs, FIRES, {})
    yield from _tally_rows(tally, rig)


def _quartz_offsets(
    quartz: Quartz, asked: list[Question], mine: list[list[int]], theirs: list[list[int] | str]
) -> dict[str, dict[int, int]]:
    """Ask for Java's own offset at each time that differs."""
    times: dict[str, set[int]] = {question.zone: set() for question in asked}
    for question, ours, its in zip(asked, mine, theirs, strict=True):
        if not isinstance(its, str):
            found = differences("quartz", question, ours, its, FIRES)[1]
            times[question.zone].update(one.time_ms for one in found)
    return {name: quartz.offsets(name, sorted(wanted)) for name, wanted in times.items()}


def _tally_rows(tally: Tally, rig: Rig) -> Iterator[Row]:
    differ = sum(tally.classes.values())
    agree = 100 * (1 - differ / tally.compared) if tally.compared else 0.0
    yield Row("agreement", tally.system, "questions", tally.asked, "1")
    yield Row("agreement", tally.system, "lines_not_taken", tally.refused, "1")
    yield Row("agreement", tally.system, "times_compared", tally.compared, "1")
    yield Row("agreement", tally.system, "agree_pct", round(agree, 3), "%")
    for name in CLASSES:
        count = tally.classes[name]
        if count or name == UNEXPLAINED:
            yield Row("agreement", tally.system, name, count, "1")
    for name, one in tally.examples.items():
        who = "only ours" if one.is_ours else f"only {tally.system}"
        local_ms = zone(one.question.zone).local_ms(one.time_ms)
        day, rest = divmod(local_ms, DAY_MS)
        rig.say(
            f"{tally.system}: {tally.classes[name]:,} {name}, as {one.question.line!r} in"
            f" {one.question.zone}, day {day} + {rest / 3_600_000:.3f} h, {who}: {CLASSES[name]}"
        )


def _peer_costs(costs: dict[str, dict[str, dict[str, float]]]) -> Iterator[Row]:
    for system, cases in costs.items():
        for case, metrics in cases.items():
            for metric, value in metrics.items():
                yield Row(case, system, metric, round(value, 3), "us")


def _specs() -> dict[str, ScheduleSpec]:
    specs = {
        "interval 5 min": ScheduleSpec("interval", every_ms=300_000),
        **{case: ScheduleSpec("cron", expression=line, zone=ZONE) for line, case in LINES.items()},
        **{
            case: ScheduleSpec("calendar", expression=RULE_START + rule)
            for case, rule in RULES.items()
        },
        "sunrise": ScheduleSpec("sun", expression="sunrise"),
    }
    nights = (Exclusion(hours="22:00-06:00"), Exclusion(weekdays="sat,sun"))
    specs["5 min, nights and weekends left out"] = ScheduleSpec(
        "interval", every_ms=300_000, exclude=nights, zone=ZONE
    )
    specs["5 min in daylight"] = ScheduleSpec(
        "interval", every_ms=300_000, daylight="sunrise-30m..sunset"
    )
    specs["4 terms"] = ScheduleSpec(
        "cron",
        expression="*/5 6-20 * * mon-fri",
        zone=ZONE,
        also=(
            Term("cron", expression="0 */2 * * sat,sun"),
            Term("sun", expression="sunrise"),
            Term("interval", every_ms=6 * 3_600_000),
        ),
    )
    return specs


def _our_costs(steps: int) -> Iterator[Row]:
    for case, spec in _specs().items():
        yield Row(case, OURS, "first_us", round(_timed(partial(_first, spec), 50), 3), "us")
        fires = 40 if "29 2" in case else 400
        recurrence = Recurrence(spec, PARIS)
        walk = _timed(partial(_walk, recurrence, fires), 5)
        yield Row(case, OURS, "next_us", round(walk / fires, 3), "us")
        yield Row(case, OURS, "next_us_a_device", round(_shared(spec, steps), 3), "us")


def _timed(work: Callable[[], object], times: int) -> float:
    """Return the least microseconds of several runs."""
    spent = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        spent.append(time.perf_counter() - began)
    return min(spent) * 1e6


def _first(spec: ScheduleSpec) -> int | None:
    return Recurrence(spec, PARIS).find_at_or_after(START_MS)


def _walk(recurrence: Recurrence, fires: int) -> None:
    time_ms = START_MS
    for _ in range(fires):
        found = recurrence.find_at_or_after(time_ms)
        time_ms = START_MS if found is None else found + 1


def _shared(spec: ScheduleSpec, steps: int) -> float:
    """Return microseconds a fire of a device, of 10,000 that share a recurrence."""
    recurrence = Recurrence(spec, PARIS)
    policy = CapturePolicy(spread_ms=60_000)
    moved = [offset_ms(f"cam-{n:05}", policy.spread_ms) for n in range(DEVICES)]
    times = [START_MS]
    while len(times) <= steps:
        found = recurrence.find_at_or_after(times[-1] + 1)
        times.append(START_MS if found is None else found)
    recurrence = Recurrence(spec, PARIS)
    next_fire = recurrence.at_or_after
    began = time.perf_counter()
    for now_ms, _ in pairwise(times):
        for offset in moved:
            scheduled_ms = now_ms + offset
            next_fire(scheduled_ms + 1 - offset)
    return (time.perf_counter() - began) / (steps * DEVICES) * 1e6
