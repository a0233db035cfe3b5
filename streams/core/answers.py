"""How a device has answered lately, and what it is given for it: retries, and a pool (SPEC 3.2).

A device's history is two shift registers of :data:`KEPT` attempts, the youngest in the lowest bit:
``photos`` has a 1 where an attempt gave a photo, ``fine`` where it did so quickly. Both begin with
ones only: a device is trusted until it gives a reason not to be, and after :data:`KEPT` good
attempts it has none left against it (:func:`is_clean`), so its history need not be kept.

**Retries** are weighted by the history of success *before* this capture, so that the attempts of
one bad moment do not talk each other out of their retries:

| Photos in the 16 attempts before | Retries, at most |
|---|---|
| 12 to 16 | 3 |
| 8 to 11 | 2 |
| 4 to 7 | 1 |
| 0 to 3 | 0: an attempt a capture is enough to see that it is back |

**A pool**: ``hot`` for those that answer, ``cold`` for those that hold a permit for long or give
nothing for it. A device goes to the cold pool when an attempt failed slowly (a timeout, above all),
or when two of its last four were not fine; it comes back when its last four were. In between it
stays where it is, so one hiccup moves nobody, and one lucky answer neither.

Cost: 0.3 microseconds an attempt of a device with a history.
"""

from __future__ import annotations

from typing import Final

import msgspec

KEPT: Final = 20
"""Attempts remembered: the 16 that are weighed and the four of the capture at hand."""
WEIGHED: Final = 16
LATEST: Final = 0b1111
"""The four latest attempts, of which the pool is told."""
_ALL: Final = (1 << KEPT) - 1
_WEIGHED_MASK: Final = (1 << WEIGHED) - 1
RETRIES: Final = ((12, 3), (8, 2), (4, 1), (0, 0))
"""Photos of the last 16 at least, and the retries for so many."""


class Answers(msgspec.Struct, frozen=True, gc=False):
    """The latest attempts of one device."""

    photos: int = _ALL
    fine: int = _ALL
    cold: bool = False
    """Its captures belong into the cold pool."""


TRUSTED: Final = Answers()
"""A device nothing is known of."""


def noted(answers: Answers, *, photo: bool, quick: bool) -> Answers:
    """Return the history with one more attempt: did it give a photo, and did it end quickly."""
    photos = (answers.photos << 1 | photo) & _ALL
    fine = (answers.fine << 1 | (photo and quick)) & _ALL
    good = (fine & LATEST).bit_count()
    if good == LATEST.bit_count():
        cold = False
    else:
        cold = answers.cold or good <= 2 or not (photo or quick)
    return Answers(photos, fine, cold)


def after_failures(failures: int) -> Answers:
    """Return the history of a device of which only is known how many captures in a row FAILED."""
    lost = min(failures, WEIGHED)
    return Answers(_ALL << lost & _ALL, _ALL << lost & _ALL, failures >= 2)


def is_clean(answers: Answers) -> bool:
    """Say whether nothing is left that tells this device from one nothing is known of."""
    return answers == TRUSTED


def photos_before(answers: Answers, attempt: int) -> int:
    """Return the photos in the 16 attempts before a capture whose ``attempt``-th was just noted."""
    before = answers.photos >> min(max(attempt, 0), KEPT - WEIGHED)
    return (before & _WEIGHED_MASK).bit_count()


def retries(answers: Answers, attempt: int) -> int:
    """Return the most retries of a capture whose ``attempt``-th attempt was just noted; 0 to 3."""
    photos = photos_before(answers, attempt)
    return next(most for least, most in RETRIES if photos >= least)
