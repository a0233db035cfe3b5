"""When schedules are due: the language of schedules, read and evaluated, purely.

==========  ===================================================================  ===============
kind        a term is                                                            file
==========  ===================================================================  ===============
interval    every so many milliseconds, with a phase                             ``terms.py``
once        one moment                                                           ``terms.py``
cron        five or six fields, names, ``L W #``, ``@daily``, in a zone              ``cron.py``
calendar    a rule of RFC 5545 (a subset)                                        ``rrule.py``
sun         sunrise, sunset, dawn, dusk, noon, with an offset, at a place        ``sun.py``
==========  ===================================================================  ===============

A spec is the union of its terms, narrowed down by what it excludes, by daylight and by a window
of validity (``gates.py``). Wall-clock times become moments by one rule (``zones.py``,
``wall.py``), from a pinned tz database. ``recurrence.py`` puts it together and remembers;
``check.py`` refuses; ``words.py`` says it in words, ``surprises.py`` what may surprise.

>>> from schemas.records import ScheduleSpec
>>> weekdays = ScheduleSpec("cron", expression="30 8 * * mon-fri", zone="Europe/Paris")
>>> recurrence = compile_spec(weekdays)
>>> recurrence.at_or_after(1_790_000_000_000)
1790058600000
"""

from __future__ import annotations

from streams.core.recurrence.check import check_spec
from streams.core.recurrence.errors import ExpressionError
from streams.core.recurrence.recurrence import Recurrence, compile_spec, needs_place
from streams.core.recurrence.sun import Place
from streams.core.recurrence.surprises import warnings
from streams.core.recurrence.words import describe
from streams.core.recurrence.zones import TZ_VERSION

__all__ = [
    "TZ_VERSION",
    "ExpressionError",
    "Place",
    "Recurrence",
    "check_spec",
    "compile_spec",
    "describe",
    "needs_place",
    "warnings",
]
