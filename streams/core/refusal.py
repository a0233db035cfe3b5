"""Why something asked for is not taken: a word for programs, a sentence for people."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request is not taken: a short word, and a sentence a person can act on."""

    code: str
    reason: str


def show(value: str) -> str:
    """Return a value for a message: quoted, escaped and of bounded length."""
    return repr(value) if len(value) <= 60 else f"{value[:60]!r}… ({len(value)} characters)"


def check_range(name: str, value: int, low: int, high: int, why: str = "") -> Refusal | None:
    """Check a number against its bounds, both included."""
    if low <= value <= high:
        return None
    side = f"below {low}" if value < low else f"above {high}"
    return Refusal(
        f"bad_{name}", f"{name} {value} is {side}{why}; choose a value from {low} to {high}."
    )
