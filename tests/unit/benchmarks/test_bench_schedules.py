"""The schedules' bench: its questions, and each class of difference shown to be told apart."""

from __future__ import annotations

import pytest

from benchmarks.schedules import peers
from benchmarks.schedules.agreement import CLASSES, Tally, differences, our_fires
from benchmarks.schedules.corpus import FIRES, ZONES, Question, questions, rule_questions
from schemas.records import ScheduleSpec
from streams.core.recurrence import check_spec
from streams.core.recurrence.civil import DAY_MS, END_MS, HOUR_MS, day_of
from streams.core.recurrence.zones import zone


def test_the_questions_are_the_same_in_every_run_and_over_all_zones():
    asked = questions(600)
    assert asked == questions(600)
    assert {question.zone for question in asked} == set(ZONES)
    assert len({question.line for question in asked}) > 40


def test_half_the_starts_lie_before_a_change_of_the_clock():
    asked = [question for question in questions(1_300) if len(zone(question.zone).starts) > 200]
    near = sum(
        any(0 < start - q.start_ms <= 30 * HOUR_MS for start in zone(q.zone).starts) for q in asked
    )
    assert 0.4 < near / len(asked) < 0.75


def test_every_line_is_one_of_ours():
    bad = [
        q
        for q in questions(2_000)
        if check_spec(ScheduleSpec("cron", expression=q.line, zone=q.zone))
    ]
    assert {check_spec(ScheduleSpec("cron", expression=q.line)).code for q in bad} <= {"never_due"}


@pytest.mark.parametrize(
    ("line", "quartz"),
    [
        ("*/5 * * * *", "0 */5 * * * ?"),
        ("30 8 * * mon-fri", "0 30 8 ? * MON-FRI"),
        ("15 0 9 LW * *", "15 0 9 LW * ?"),
        ("0 0 1 * sun", "0 0 0 1 * SUN"),
    ],
)
def test_a_line_as_quartz_writes_it(line, quartz):
    assert peers.quartz_line(line) == quartz


def at(name: str, year: int, month: int, day: int, hour: int = 0, minute: int = 0) -> int:
    return zone(name).moment_ms(
        day_of(year, month, day) * DAY_MS + hour * HOUR_MS + minute * 60_000
    )


PARIS, NEW_YORK = "Europe/Paris", "America/New_York"


def rule(text: str, name: str) -> Question:
    where = "DTSTART:20260301T000000" if "HOURLY" in text else "DTSTART:20260101T000000"
    first_ms = at(name, 2026, 3, 28) if "HOURLY" in text else at(name, 2026, 1, 1) - 1
    return Question(f"{where}\nRRULE:{text}", name, first_ms)


def test_rules_are_the_same_in_every_run_and_each_is_one_of_ours():
    asked = rule_questions(600)
    assert asked == rule_questions(600)
    assert {question.zone for question in asked} == set(ZONES)
    refused = {
        check_spec(ScheduleSpec("calendar", expression=q.line, zone=q.zone)) for q in asked
    } - {None}
    assert {refusal.code for refusal in refused if refusal} <= {"never_due"}


@pytest.mark.parametrize(
    ("system", "question", "change", "name"),
    [
        # what the peer's list lacks (negative) or has besides (positive)
        ("quartz", Question("30 2 * * *", PARIS, at(PARIS, 2026, 3, 27)), -at(PARIS, 2026, 3, 29, 3), "gap"),
        ("croniter", Question("30 2 * * *", PARIS, at(PARIS, 2026, 10, 23)), at(PARIS, 2026, 10, 25, 2, 30) + HOUR_MS, "overlap"),
        ("apscheduler", Question("0 0 1-7 * *", PARIS, at(PARIS, 2026, 3, 28)), -at(PARIS, 2026, 4, 1), "crossed-change"),
        ("quartz", Question("0 0 1-7 * *", PARIS, at(PARIS, 2026, 3, 28)), -at(PARIS, 2026, 4, 1), "unexplained"),
        ("croniter", Question("0 0 15W * mon", "UTC", at("UTC", 2026, 5, 1)), -at("UTC", 2026, 5, 4), "special-days"),
        ("quartz", Question("0 2,4 * * *", PARIS, at(PARIS, 2026, 3, 28, 12)), -at(PARIS, 2026, 3, 29, 4), "unexplained"),
        ("apscheduler", Question("0 0 13 * fri", "UTC", at("UTC", 2026, 5, 1)), -at("UTC", 2026, 5, 8), "both-days"),
        ("cronsim", Question("0 0 13 * fri", "UTC", at("UTC", 2026, 5, 1)), -at("UTC", 2026, 5, 8), "unexplained"),
        ("croniter", Question("0 0 13 * fri#2", "UTC", at("UTC", 2026, 5, 1)), -at("UTC", 2026, 5, 13), "special-days"),
        ("croniter", Question("0 0 */2 * fri", "UTC", at("UTC", 2026, 5, 1)), at("UTC", 2026, 5, 5), "star-step"),
        ("quartz", Question("0 8,17 LW * *", "UTC", at("UTC", 2026, 5, 28, 9)), -at("UTC", 2026, 5, 29, 8), "weekday-hour"),
        ("cronsim", Question("0 8 * * *", "UTC", at("UTC", 2026, 5, 28)), at("UTC", 2026, 5, 29, 9), "unexplained"),
        ("dateutil", rule("FREQ=YEARLY;BYWEEKNO=20", "UTC"), at("UTC", 2026, 5, 13), "week-day"),
        ("dateutil", rule("FREQ=YEARLY;BYWEEKNO=1;BYDAY=SU", "UTC"), at("UTC", 2039, 1, 2), "last-week"),
        ("dateutil", rule("FREQ=WEEKLY;BYDAY=MO,SU;BYSETPOS=1", "UTC"), at("UTC", 2026, 1, 4), "first-week"),
        ("dateutil", rule("FREQ=WEEKLY;BYDAY=MO,SU;BYSETPOS=1", "UTC"), at("UTC", 2026, 2, 1), "unexplained"),
        ("dateutil", rule("FREQ=HOURLY;INTERVAL=5;UNTIL=20260330T000000", PARIS), at(PARIS, 2026, 3, 29, 3, 30), "gap"),
        ("dateutil", rule("FREQ=DAILY;BYHOUR=8", "UTC"), at("UTC", 2026, 1, 9, 9), "unexplained"),
        ("cronsim", Question("0 0 29 2 *", "UTC", at("UTC", 2090, 1, 1)), END_MS + 4 * 365 * DAY_MS, "horizon"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_a_planted_difference_is_found_and_told_apart(system, question, change, name):
    mine = our_fires(question, FIRES)
    theirs = sorted({*mine, change}) if change > 0 else [time for time in mine if time != -change]
    assert theirs != mine
    tally = Tally(system)
    tally.add(question, mine, theirs, FIRES, {})
    assert dict(tally.classes) == {name: 1}
    assert name in CLASSES


def test_a_peer_with_other_zones_is_told_apart_by_its_own_offset():
    question = Question("0 8 * * *", "UTC", at("UTC", 2026, 5, 28))
    mine = our_fires(question, FIRES)
    tally = Tally("quartz")
    tally.add(
        question,
        mine,
        [*mine[:5], mine[5] + HOUR_MS, *mine[6:]],
        FIRES,
        {mine[5]: HOUR_MS, mine[5] + HOUR_MS: HOUR_MS},
    )
    assert dict(tally.classes) == {"tz-data": 2}


def test_lists_are_compared_only_as_far_as_both_reach():
    question = Question("0 8 * * *", "UTC", 0)
    mine = list(range(0, 24 * DAY_MS, DAY_MS))
    assert differences("cronsim", question, mine, [time * 2 for time in mine[:12]], 12)[0] > 0
    compared, found = differences("cronsim", question, mine, mine[:5] + mine[6:20], FIRES)
    assert (compared, [one.time_ms for one in found]) == (24, [5 * DAY_MS, *mine[20:]])


def test_what_a_peer_does_not_take_is_counted():
    tally = Tally("croniter")
    tally.add(Question("0 0 LW * *", "UTC", 0), [1], "not acceptable", FIRES, {})
    assert (tally.asked, tally.refused, tally.compared) == (1, 1, 0)


def test_the_versions_of_the_peers_are_those_that_are_locked():
    found = peers.versions()
    assert found["croniter"] == "7.0.0"
    assert found["quartz"].startswith("2.5")
    assert len(found) == 7
