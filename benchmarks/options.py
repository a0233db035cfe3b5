"""What every benchmark can be told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from schemas.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class Options:
    """The command line; empty values leave the choice to the benchmark."""

    quick: bool = False
    """A minute instead of many."""
    devices: tuple[int, ...] = ()
    rates: tuple[float, ...] = ()
    """Captures a second."""
    seconds: float = 0.0
    """Length of a window."""
    every_s: float = 0.0
    """Period of a schedule (``lateness``)."""
    records: int = 0
    """Records of an input (``streams``)."""
    keys: tuple[int, ...] = ()
    """Distinct keys in it."""
    partitions: tuple[int, ...] = ()
    """Of the input."""
    workers: tuple[int, ...] = ()
    """Captures workers that work a backlog off (``capacity``)."""
    systems: tuple[str, ...] = ()
    """Which of the systems that are compared."""
    cases: tuple[str, ...] = ()


def chosen(wanted: Sequence[str], known: Sequence[str], what: str) -> list[str]:
    """Return what was asked for, in the order of ``known``; all where nothing was.

    Raises:
        UsageError: something is not known.

    """
    strange = [name for name in wanted if name not in known]
    if strange:
        raise UsageError(f"No {what} {', '.join(strange)}; there are {', '.join(known)}.")
    return [name for name in known if not wanted or name in wanted]
