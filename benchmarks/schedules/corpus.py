"""The questions: cron lines and calendar rules x zones x starts, the same in every run.

Half the starts lie just before a change of the clock of their zone, the others anywhere from 2025
to 2034. Lines are made of the parts that people write, each with each, so most of them are odd
rather than common; numbers of weekdays are written as names, as the systems count them differently.
"""

from __future__ import annotations

from random import Random
from typing import Final, NamedTuple

from streams.core.recurrence.civil import DAY_MS, HOUR_MS, date_of, day_of
from streams.core.recurrence.zones import zone

FIRES: Final = 24
"""Asked for after each start."""
SEED: Final = 5
ZONES: Final = (
    *("UTC", "Europe/Paris", "America/New_York", "America/Sao_Paulo", "Asia/Kolkata"),
    *("Australia/Lord_Howe", "America/Havana", "Africa/Casablanca", "Asia/Beirut"),
    *("America/Santiago", "Pacific/Chatham", "Europe/Dublin", "America/Nuuk"),
)
"""Half-hour changes, changes at midnight, winter time below standard time, no changes."""
_SECONDS: Final = ("", "", "", "0", "*/15", "30")
_MINUTES: Final = ("*", "*/5", "0", "30", "7", "0,30", "10-50/20", "59")
_HOURS: Final = ("*", "*", "*/2", "2", "0", "1-3", "6-20", "8,17", "23", "0-23")
_DAYS: Final = ("*", "*", "*", "1", "15", "31", "*/2", "1-7", "29", "L", "15W", "LW")
_MONTHS: Final = ("*", "*", "*", "1,7", "mar,oct,nov", "2", "*/3")
_WEEKDAYS: Final = ("*", "*", "*", "mon-fri", "sun", "sat,sun", "fri#2", "wed#5")
FIRST_MS: Final = day_of(2025, 1, 1) * DAY_MS
LAST_MS: Final = day_of(2034, 1, 1) * DAY_MS


_RULES: Final = (
    ("DAILY", 300), ("WEEKLY", 900), ("MONTHLY", 1_800), ("YEARLY", 6_000), ("HOURLY", 20),
    ("MINUTELY", 2), ("SECONDLY", 1),
)  # fmt: skip
"""Frequencies, and days that a rule of it goes on for."""


class Question(NamedTuple):
    """When does this line fire after this moment?"""

    line: str
    zone: str
    start_ms: int


def questions(count: int) -> list[Question]:
    """Return so many questions."""
    random = Random(SEED)
    lines = [_line(random) for _ in range(max(count // 12, 1))]
    changes = {name: _changes(name) for name in ZONES}
    found = []
    for number in range(count):
        name = ZONES[number % len(ZONES)]
        start_ms = random.randrange(FIRST_MS, LAST_MS)
        if changes[name] and random.random() < 0.5:
            start_ms = random.choice(changes[name]) - random.randrange(1, 30) * HOUR_MS
        found.append(Question(random.choice(lines), name, start_ms // 60_000 * 60_000 + 1_000))
    return found


def rule_questions(count: int) -> list[Question]:
    """Return so many questions about calendar rules; their lines are whole, with start and end."""
    random = Random(SEED)
    changes = {name: _changes(name) for name in ZONES}
    found = []
    for number in range(count):
        name = ZONES[number % len(ZONES)]
        start_ms = random.randrange(FIRST_MS, LAST_MS)
        if changes[name] and random.random() < 0.5:
            start_ms = random.choice(changes[name]) - random.randrange(1, 30) * HOUR_MS
        start_ms = start_ms // 1_000 * 1_000
        frequency, days = random.choice(_RULES)
        local_ms = zone(name).local_ms(start_ms)
        rule = f"{_rule(random, frequency)};UNTIL={_wall(local_ms + days * DAY_MS)}"
        line = f"DTSTART:{_wall(local_ms)}\nRRULE:{rule}"
        found.append(Question(line, name, start_ms - 1))
    return found


def _rule(random: Random, frequency: str) -> str:
    short = frequency in {"HOURLY", "MINUTELY", "SECONDLY"}
    parts = [f"FREQ={frequency}"]

    def maybe(name: str, chance: float, *values: str) -> None:
        if random.random() < chance:
            parts.append(f"{name}={random.choice(values)}")

    maybe("INTERVAL", 0.5, *(("5", "7", "25", "90") if short else ("2", "3")))
    maybe("BYMONTH", 0.2, "3", "3,10,11", "1,2,3,4,5,6")
    if frequency == "YEARLY":
        maybe("BYWEEKNO", 0.4, "20", "1,53", "13,44", "-1")
    if frequency in {"MONTHLY", "YEARLY"} and "BYWEEKNO" not in parts[-1]:
        maybe("BYDAY", 0.5, "1SU", "-1FR,2MO", "SU", "MO,TU,WE,TH,FR")
    else:
        maybe("BYDAY", 0.5, "SU", "SA,SU", "MO,TU,WE,TH,FR")
    if frequency in {"MONTHLY", "YEARLY"} and len(parts) == 1:
        maybe("BYMONTHDAY", 0.5, "1", "-1", "13,31")
    maybe("BYHOUR", 0.5, "2", "0,2,23", "6,7,8,17")
    maybe("BYMINUTE", 0.4, "0", "30", "0,20,40")
    maybe("BYSECOND", 0.2, "0", "0,30")
    maybe("BYSETPOS", 0.15, "1", "-1", "1,2")
    maybe("WKST", 0.2, "SU", "MO")
    return ";".join(parts)


def _wall(local_ms: int) -> str:
    day, rest = divmod(local_ms // 1_000, DAY_MS // 1_000)
    year, month, of_month = date_of(day)
    time = f"{rest // 3_600:02}{rest // 60 % 60:02}{rest % 60:02}"
    return f"{year}{month:02}{of_month:02}T{time}"


def _line(random: Random) -> str:
    parts = [random.choice(part) for part in (_MINUTES, _HOURS, _DAYS, _MONTHS, _WEEKDAYS)]
    second = random.choice(_SECONDS)
    return " ".join([second, *parts] if second else parts)


def _changes(name: str) -> list[int]:
    return [start for start in zone(name).starts[1:] if FIRST_MS < start < LAST_MS]
