"""The questions: cron lines x zones x starts, the same in every run.

Half the starts lie just before a change of the clock of their zone, the others anywhere from 2025
to 2034. Lines are made of the parts that people write, each with each, so most of them are odd
rather than common; numbers of weekdays are written as names, as the systems count them differently.
"""

from __future__ import annotations

from random import Random
from typing import Final, NamedTuple

from streams.core.recurrence.civil import DAY_MS, HOUR_MS, day_of
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


def _line(random: Random) -> str:
    parts = [random.choice(part) for part in (_MINUTES, _HOURS, _DAYS, _MONTHS, _WEEKDAYS)]
    second = random.choice(_SECONDS)
    return " ".join([second, *parts] if second else parts)


def _changes(name: str) -> list[int]:
    return [start for start in zone(name).starts[1:] if FIRST_MS < start < LAST_MS]
