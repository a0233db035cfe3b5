"""Answers questions with croniter, cronsim, APScheduler 3, dateutil and astral, and times them.

Runs in an environment of its own (``peers.requirements.txt``) and imports nothing of the project.
One JSON object on standard input says what is asked; one on standard output answers.
"""

from __future__ import annotations

import contextlib
import json
import signal
import sys
import time
import warnings
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

warnings.simplefilter("ignore")

from apscheduler.triggers.cron import CronTrigger  # noqa: E402  # pyright: ignore[reportMissingImports]
from astral import LocationInfo  # noqa: E402  # pyright: ignore[reportMissingImports]
from astral.sun import sunrise  # noqa: E402  # pyright: ignore[reportMissingImports]
from croniter import croniter  # noqa: E402  # pyright: ignore[reportMissingImports]
from cronsim import CronSim  # noqa: E402  # pyright: ignore[reportMissingImports]
from dateutil.rrule import rrulestr  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def of_croniter(line: str, start: datetime) -> Iterator[datetime]:
    """Yield fires. The seconds come first, as in ours; a line of five fields has none."""
    fields = line.split()
    found = croniter(line, start, second_at_beginning=len(fields) == 6)
    while True:
        yield found.get_next(datetime)


def of_cronsim(line: str, start: datetime) -> Iterator[datetime]:
    """Yield fires."""
    return iter(CronSim(line, start))


def of_apscheduler(line: str, start: datetime) -> Iterator[datetime]:
    """Yield fires. Its days are written ``last`` and ``2nd fri``."""
    second, minute, hour, day, month, weekday = ["0", *line.split()][-6:]
    if day == "L":
        day = "last"
    if "#" in weekday:
        if day != "*":
            raise ValueError("a numbered weekday beside a day")
        name, number = weekday.split("#")
        day = f"{ {'1': '1st', '2': '2nd', '3': '3rd'}.get(number, number + 'th') } {name}"
        weekday = "*"
    trigger = CronTrigger(
        second=second, minute=minute, hour=hour, day=day, month=month, day_of_week=weekday,
        timezone=start.tzinfo,
    )  # fmt: skip
    before, now = None, start
    while True:
        found = trigger.get_next_fire_time(before, now)
        if found is None:
            return
        yield found
        later = found.astimezone(UTC) + timedelta(microseconds=1)
        before, now = found, later.astimezone(start.tzinfo)


RULE_S = 2.0

SYSTEMS: dict[str, Callable[[str, datetime], Iterator[datetime]]] = {
    "croniter": of_croniter,
    "cronsim": of_cronsim,
    "apscheduler": of_apscheduler,
}


def answer(system: str, line: str, zone: str, start_ms: int, fires: int) -> list[int] | str:
    """Return fires in UTC milliseconds, or why there are none."""
    start = datetime.fromtimestamp(start_ms / 1000, UTC).astimezone(ZoneInfo(zone))
    found: list[int] = []
    try:
        for fire in SYSTEMS[system](line, start):
            found.append(round(fire.timestamp() * 1000))
            if len(found) == fires:
                break
    except StopIteration:
        pass
    except Exception as error:  # noqa: BLE001 - whatever a peer says of a line is its answer
        return found or f"{type(error).__name__}: {error}"
    return found


def of_rule(text: str, zone: str, fires: int) -> list[int] | str:
    """Return dateutil's times of a calendar rule, read in the zone, or why there are none.

    A rule that never comes is walked through to year 9999: it is given ``RULE_S`` seconds.
    """
    found: set[int] = set()
    where = ZoneInfo(zone)
    signal.setitimer(signal.ITIMER_REAL, RULE_S)
    try:
        for local in rrulestr(text):
            found.add(round(local.replace(tzinfo=where).timestamp() * 1000))
            if len(found) == 4 * fires:  # what a gap moves comes out of order
                break
    except Exception as error:  # noqa: BLE001 - whatever a peer says of a rule is its answer
        return f"{type(error).__name__}: {error}"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    return sorted(found)[:fires]


def _give_up(_signal: int, _frame: object) -> None:
    raise TimeoutError("it goes on and on")


def cost(system: str, line: str, zone: str, start_ms: int, fires: int) -> dict[str, float]:
    """Return microseconds to read a line and find its first fire, and for each fire after."""
    start = datetime.fromtimestamp(start_ms / 1000, UTC).astimezone(ZoneInfo(zone))
    spent = []
    for _ in range(20):
        began = time.perf_counter()
        next(SYSTEMS[system](line, start))
        spent.append(time.perf_counter() - began)
    parse_s = min(spent)
    return {
        "first_us": parse_s * 1e6,
        "next_us": best_us(lambda: SYSTEMS[system](line, start), fires),
    }


def best_us(begin: Callable[[], Iterator[datetime]], fires: int) -> float:
    """Return microseconds a fire after the first: the least of five walks, as ours."""
    spent = []
    for _ in range(5):
        running = begin()
        next(running)
        began = time.perf_counter()
        for _ in range(fires):
            next(running)
        spent.append(time.perf_counter() - began)
    return min(spent) / fires * 1e6


def rule_cost(rule: str, fires: int) -> dict[str, float]:
    """Return dateutil's microseconds for each time of a calendar rule."""
    began = time.perf_counter()
    running = iter(rrulestr(rule))
    next(running)
    first_s = time.perf_counter() - began
    return {"first_us": first_s * 1e6, "next_us": best_us(lambda: iter(rrulestr(rule)), fires)}


def sun_cost(latitude: float, longitude: float, days: int) -> dict[str, float]:
    """Return astral's microseconds for a sunrise."""
    observer = LocationInfo(latitude=latitude, longitude=longitude).observer
    first = datetime(2026, 1, 1, tzinfo=UTC).date()
    all_days = [first + timedelta(days=day) for day in range(days)]
    return {
        "next_us": best_us(lambda: (sunrise(observer, d, tzinfo=UTC) for d in all_days), days - 1)
    }


def main() -> None:
    """Answer what is asked."""
    asked = json.load(sys.stdin)
    signal.signal(signal.SIGALRM, _give_up)
    answers = {
        system: [answer(system, *question) for question in asked["questions"]] for system in SYSTEMS
    }
    answers["dateutil"] = [
        of_rule(text, zone, asked["fires"]) for text, zone, _ in asked["rule_questions"]
    ]
    costs: dict[str, dict[str, dict[str, float]]] = {system: {} for system in SYSTEMS}
    for case, line in asked["lines"].items():
        for system in SYSTEMS:
            with contextlib.suppress(Exception):  # it does not take the line: no figure
                costs[system][case] = cost(system, line, asked["zone"], asked["start_ms"], 40)
    costs["dateutil"] = {
        case: rule_cost(rule, asked["rule_fires"]) for case, rule in asked["rules"].items()
    }
    costs["astral"] = {"sunrise": sun_cost(48.86, 2.35, 365)}
    json.dump({"answers": answers, "costs": costs}, sys.stdout)


if __name__ == "__main__":
    main()
