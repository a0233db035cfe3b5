"""The bounds of a capture policy: each has a name, a unit and a reason.

What depends on the schedule (how long a spread may be, how far a lead may reach) is checked by
``schedule.py``.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from streams.core.misfire import POLICIES as MISFIRES
from streams.core.refusal import Refusal, check_range, show

if TYPE_CHECKING:
    from schemas.records import CapturePolicy

OVERLAPS = ("allow", "skip", "buffer_one")
MAX_KEEP_MS = 36_525 * 86_400_000
"""A hundred years."""
MAX_WORDS_CHARS = 200
WORDS = re.compile(r"[a-z]+(=[a-z0-9]+)?( [a-z]+(=[a-z0-9]+)?)*")
QUALITIES = ("off", "mark", "drop", "retry")
MAX_JITTER_MS = 3_600_000
MAX_TOLERANCE_MS = 3_600_000
"""As far as a lead: a shard's row holds a number for each second from now to both."""
MIN_DEADLINE_MS = 100
"""Less than the wheel's slot and no photo would ever be in time."""
MAX_DEADLINE_MS = 7 * 86_400_000
MIN_PAUSE_AFTER = 3
"""Failures in a row are told from this number on: one or two may be chance."""
MAX_PAUSE_AFTER = 100
"""Failures are told one by one up to this number."""


def check_choices(policy: CapturePolicy) -> Refusal | None:
    """Return why the words and windows of a policy cannot be; null: they can."""
    return (
        _check_word("misfire", policy.misfire, MISFIRES)
        or _check_word("overlap", policy.overlap, OVERLAPS)
        or _check_word("quality", policy.quality, QUALITIES)
        or _check_words("image", policy.image)
        or check_range("keep_ms", policy.keep_ms, 0, MAX_KEEP_MS)
        or check_range("jitter_ms", policy.jitter_ms, 0, MAX_JITTER_MS)
        or check_range("tolerance_ms", policy.tolerance_ms, 0, MAX_TOLERANCE_MS)
        or (
            check_range(
                "pause_after_failures",
                policy.pause_after_failures,
                MIN_PAUSE_AFTER,
                MAX_PAUSE_AFTER,
                " (0: never)",
            )
            if policy.pause_after_failures
            else None
        )
        or (
            check_range("deadline_ms", policy.deadline_ms, MIN_DEADLINE_MS, MAX_DEADLINE_MS)
            if policy.deadline_ms is not None
            else None
        )
    )


def _check_words(name: str, text: str) -> Refusal | None:
    """Look at the form of words whose meaning is the executor's business."""
    if len(text) > MAX_WORDS_CHARS:
        return Refusal(f"bad_{name}", f"{name} has more than {MAX_WORDS_CHARS} characters.")
    if text and WORDS.fullmatch(text) is None:
        return Refusal(f"bad_{name}", f"{name} {show(text)} is not words such as 'label width=9'.")
    return None


def _check_word(name: str, value: str, known: tuple[str, ...]) -> Refusal | None:
    if value in known:
        return None
    words = ", ".join(repr(word) for word in known)
    return Refusal(f"bad_{name}", f"{name} {show(value)} is not known; use one of {words}.")
