"""Durations and points in time, as people and programs write them.

A duration is whole milliseconds (``int``), a ``timedelta``, or text of numbers with units:
``"5s"``, ``"300ms"``, ``"1h30m"``, ``"0.5s"``. A point in time is UTC milliseconds since the Unix
epoch (``int``), an aware ``datetime``, or ISO 8601 text with a zone. What has no zone is refused:
the same text would mean another moment on another machine.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Final

from schemas.errors import UsageError

Duration = str | int | timedelta
"""A length of time; an ``int`` is milliseconds."""
Moment = str | int | datetime
"""A point in time; an ``int`` is UTC milliseconds."""

MAX_DURATION_MS: Final = 10**12
"""About 31 years; more is a mistake of units."""
MIN_MOMENT_MS: Final = 10**11
"""March 1973. A smaller number is a time in seconds, taken for milliseconds."""

_UNITS_MS: Final = {
    "ms": 1,
    "s": 1_000,
    "m": 60_000,
    "min": 60_000,
    "h": 3_600_000,
    "d": 86_400_000,
}
_PART: Final = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,9})?)\s*(ms|s|min|m|h|d)\s*")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)


def duration_ms(value: Duration, name: str = "the duration") -> int:
    """Return a duration in whole milliseconds; ``name`` is what the message calls it.

    Raises :class:`UsageError` for what is no duration, negative, longer than
    :data:`MAX_DURATION_MS` or not a whole number of milliseconds.
    """
    if isinstance(value, timedelta):
        whole, rest = divmod(value, _MILLISECOND)
        if rest:
            raise UsageError(f"{name} is {value}, which is no whole number of milliseconds.")
        found = whole
    elif isinstance(value, str):
        found = _duration_of_text(value, name)
    elif isinstance(value, int) and not isinstance(value, bool):
        found = value
    else:
        raise UsageError(
            f"{name} is {value!r}; expected text such as '5s' or '300ms', a timedelta, or an int "
            "of milliseconds."
        )
    if not 0 <= found <= MAX_DURATION_MS:
        raise UsageError(f"{name} is {_short(value)}; expected 0 to {MAX_DURATION_MS:,} ms.")
    return found


def _duration_of_text(text: str, name: str) -> int:
    total = Decimal(0)
    rest = text.strip()
    while rest:
        part = _PART.match(rest)
        if part is None:
            break
        total += Decimal(part[1]) * _UNITS_MS[part[2]]
        rest = rest[part.end() :]
    if rest or not text.strip():
        raise UsageError(
            f"{name} is {_short(text)}; expected a number with a unit, such as '300ms', '5s', "
            "'15m', '1h30m' or '1d'."
        )
    if total != int(total):
        raise UsageError(f"{name} is {_short(text)}, which is no whole number of milliseconds.")
    return int(total)


def moment_ms(value: Moment, name: str = "the time") -> int:
    """Return a point in time in UTC milliseconds, rounded up: never early.

    Raises :class:`UsageError` for what is no time, has no zone, or is an int that can only be
    seconds.
    """
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value.strip())
        except ValueError:
            raise UsageError(
                f"{name} is {_short(value)}; expected an ISO 8601 time with its zone, such as "
                "2026-12-01T08:00:00+01:00 or 2026-12-01T07:00:00Z."
            ) from None
    if isinstance(value, datetime):
        if value.utcoffset() is None:
            raise UsageError(
                f"{name} is {value.isoformat()}, which has no time zone; add one, such as "
                f"{value.isoformat()}Z for UTC or {value.isoformat()}+01:00."
            )
        return -((_EPOCH - value) // _MILLISECOND)
    if not isinstance(value, int) or isinstance(value, bool):
        raise UsageError(
            f"{name} is {value!r}; expected an aware datetime, ISO 8601 text with its zone, or an "
            "int of UTC milliseconds."
        )
    if value < MIN_MOMENT_MS:
        raise UsageError(
            f"{name} is {value}, which is in the year 1973 or before in UTC milliseconds; give "
            "milliseconds, not seconds."
        )
    return value


def show_duration(duration_ms: int) -> str:
    """Return a duration as text that :func:`duration_ms` reads: ``90000`` is ``1m30s``."""
    parts: list[str] = []
    rest = duration_ms
    for unit in ("d", "h", "m", "s", "ms"):
        count, rest = divmod(rest, _UNITS_MS[unit])
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"


def show_moment(at_ms: int) -> str:
    """Return UTC milliseconds as ISO 8601 text, or as a number where that cannot be."""
    try:
        return (_EPOCH + at_ms * _MILLISECOND).isoformat(timespec="milliseconds")[:-6] + "Z"
    except OverflowError:
        return f"{at_ms} ms"


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}…"
