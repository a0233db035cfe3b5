"""From samples of several time servers to one offset and its error bound.

**Theory.** Three steps, those of NTP (RFC 5905, sections 10 and 11.2; Marzullo 1984):

1. *Filter.* The error of a sample is at most half its delay, so of the last eight samples of a
   server the one with the least distance (``delay / 2`` + dispersion) speaks for it. A sample ages
   by 100 ppm in this comparison, so that a lucky one does not rule for ever, and is moved to the
   present by the drift that is known. How far the others are from it is the server's jitter.
2. *Select.* Each server claims that the truth lies within offset ± root distance. Find the smallest
   number f of liars, less than half of the servers, with which there is a point that n - f claims
   share. The truth lies between the first and the last such point; a server whose claim has
   nothing of that is *false*. If f would have to be half or more, nobody is believed. (NTP also
   wants n - f of the *offsets* in there; two honest servers of unequal distance fail that.)
3. *Combine.* The offsets of the others are averaged, weighted by 1 / root distance. The error bound
   does not believe that liars show themselves: whichever minority of the servers lies, the truth is
   between the first and the last point that enough claims share, which is more than half of them
   where all servers claim something, and fewer where some are silent: these may be honest ones. The
   bound is how far the average is from the further of the two.

Offsets are *UTC minus monotonic time*, so they stand still while nothing drifts, and what the
worker's clock does about them is not in them. A line through those of the last rounds gives the
drift of the machine's oscillator (``drift_of``).

**Example.** Three servers: A 10.000 ± 0.004, B 10.003 ± 0.005, C 14.000 ± 0.002. With f = 0 no
point is in all three. With f = 1, [9.998, 10.004] is in A and B; C is false. The average is 10 +
0.003 x 200 / (250 + 200) = 10.00133, the bound max(10.004 - 10.00133, 10.00133 - 9.998) = 0.00333.

**Cost.** n log n in a handful of servers: tens of microseconds, every half a minute.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streams.core.ntp_packet import Answer

DRIFT: Final = 15e-6
"""Seconds a second by which a clock that is kept may wander (RFC 5905, PHI)."""
FREE_DRIFT: Final = 100e-6
"""The same for an oscillator whose drift is not known yet: what cheap crystals keep to."""
MOST_DRIFT: Final = 300e-6
"""A drift beyond this is not believed: the line goes through something else than an oscillator."""
STAGES: Final = 8
"""Samples that are kept of each server (RFC 5905, NSTAGE)."""
LEAST_DELAY_S: Final = 0.005
"""Servers are not told apart by less than half of this (RFC 5905, MINDISP)."""
ROUNDS: Final = 16
"""Rounds through which the line of the drift is drawn: 8 minutes at 30 s."""
LEAST_ROUNDS: Final = 4


@dataclass(frozen=True, slots=True)
class Sample:
    """One question and its answer. Times in seconds."""

    at_s: float
    """Monotonic time at which the answer came."""
    offset_s: float
    """UTC minus monotonic time."""
    delay_s: float
    """Round trip between us and the server, at least the server's precision."""
    dispersion_s: float
    """What the grain of the clocks and their drift during the exchange may have added."""
    root_delay_s: float
    root_dispersion_s: float

    def distance_s(self, now_s: float, growth: float) -> float:
        """Return by how much the offset to the server may be wrong at monotonic ``now_s``."""
        age_s = max(now_s - self.at_s, 0.0)
        return self.delay_s / 2.0 + self.dispersion_s + growth * age_s


@dataclass(frozen=True, slots=True)
class Candidate:
    """What one server claims of now: UTC is monotonic time + offset, give or take the distance."""

    name: str
    offset_s: float
    distance_s: float
    """Error bound: root delay / 2, root dispersion, own delay / 2, dispersion, age, jitter."""
    sample_s: float
    """Monotonic time of the sample that speaks for it."""

    @property
    def width_s(self) -> float:
        """Half the width of the interval that takes part in the vote."""
        return max(self.distance_s, LEAST_DELAY_S / 2.0)


@dataclass(frozen=True, slots=True)
class Agreement:
    """What a majority of the servers agrees on."""

    offset_s: float
    """UTC minus monotonic time at ``at_s``."""
    error_s: float
    """The truth is within this of the offset, if more than half of the servers are right."""
    at_s: float
    """Monotonic time of which all this is told."""
    newest_s: float
    """Monotonic time of the newest sample that takes part."""
    true: tuple[str, ...]
    """The servers that agree."""
    false: tuple[str, ...]
    """The servers that were outvoted."""


def sample_of(answer: Answer, sent_s: float, came_s: float, grain_s: float = 1e-6) -> Sample:
    """Return the sample of an answer; ``sent_s``, ``came_s``: monotonic T1 and T4.

    ``grain_s``: of our own clock. A delay below the server's precision is measured wrong, not short
    (RFC 5905, section 8).
    """
    there_s, back_s = answer.receive_s - sent_s, answer.transmit_s - came_s
    delay_s = (came_s - sent_s) - (answer.transmit_s - answer.receive_s)
    return Sample(
        at_s=came_s,
        offset_s=(there_s + back_s) / 2.0,
        delay_s=max(delay_s, answer.precision_s, grain_s),
        dispersion_s=answer.precision_s + grain_s + DRIFT * max(came_s - sent_s, 0.0),
        root_delay_s=answer.root_delay_s,
        root_dispersion_s=answer.root_dispersion_s,
    )


def filtered(
    name: str, samples: Sequence[Sample], now_s: float, drift: float | None = None
) -> Candidate:
    """Return what the server's last samples say of ``now_s``; there is at least one of them.

    ``drift``: that of the oscillator, ``None`` while it is not known.
    """
    kept = sorted(samples[-STAGES:], key=lambda one: one.distance_s(now_s, FREE_DRIFT))
    offsets = [one.offset_s + (drift or 0.0) * (now_s - one.at_s) for one in kept]
    best = kept[0]
    jitter_s = 0.0
    if len(kept) > 1:
        squares = sum((offset_s - offsets[0]) ** 2 for offset_s in offsets[1:])
        jitter_s = math.sqrt(squares / (len(kept) - 1))
    own_s = best.distance_s(now_s, FREE_DRIFT if drift is None else DRIFT)
    distance_s = best.root_delay_s / 2.0 + best.root_dispersion_s + own_s + jitter_s
    return Candidate(name, offsets[0], distance_s, best.at_s)


def select(
    candidates: Sequence[Candidate], now_s: float, asked: int | None = None
) -> Agreement | None:
    """Return what the majority agrees on at ``now_s``, or ``None`` if there is none.

    ``asked``: how many servers there are, with those that claim nothing now; default: no others.
    """
    shared = _shared_interval(candidates)
    if shared is None:
        return None
    low_s, high_s = shared
    true = [
        one
        for one in candidates
        if one.offset_s - one.width_s <= high_s and one.offset_s + one.width_s >= low_s
    ]
    weights = [1.0 / one.width_s for one in true]
    # Differences are averaged, not the offsets: those are large and would lose their last digits.
    base_s = true[0].offset_s
    mean_s = base_s + sum(
        weight * (one.offset_s - base_s) for weight, one in zip(weights, true, strict=True)
    ) / sum(weights)
    # Whichever minority of all servers lies: a silent one is none that agrees.
    liars = (max(asked or 0, len(candidates)) - 1) // 2
    honest = max(len(candidates) - liars, 1)
    bound = _shared_by(honest, [(one.offset_s, one.distance_s) for one in candidates])
    first_s, last_s = bound or shared
    return Agreement(
        offset_s=mean_s,
        error_s=max(last_s - mean_s, mean_s - first_s),
        at_s=now_s,
        newest_s=max(one.sample_s for one in true),
        true=tuple(one.name for one in true),
        false=tuple(one.name for one in candidates if one not in true),
    )


def _shared_interval(candidates: Sequence[Candidate]) -> tuple[float, float] | None:
    """Return what is shared if as few servers as possible lie, less than half of them."""
    claims = [(one.offset_s, one.width_s) for one in candidates]
    for liars in range((len(claims) + 1) // 2):
        shared = _shared_by(len(claims) - liars, claims)
        if shared is not None:
            return shared
    return None


def _shared_by(wanted: int, claims: Sequence[tuple[float, float]]) -> tuple[float, float] | None:
    """Return the first and the last point that is in ``wanted`` of the claims (middle, half)."""
    # Intervals that only touch share a point: one that begins there comes before one that ends.
    edges = sorted(
        edge for middle, half in claims for edge in ((middle - half, -1), (middle + half, 1))
    )
    first = _reached(edges, wanted)
    last = _reached([(-at_s, -kind) for at_s, kind in reversed(edges)], wanted)
    return None if first is None or last is None else (first, -last)


def _reached(edges: Sequence[tuple[float, int]], wanted: int) -> float | None:
    """Return where, from the left, ``wanted`` intervals are open at once for the first time."""
    open_now = 0
    for at_s, kind in edges:
        open_now -= kind
        if open_now >= wanted:
            return at_s
    return None


def drift_of(rounds: Sequence[tuple[float, float]]) -> float | None:
    """Return the drift of the machine's oscillator, or ``None`` while it cannot be told.

    ``rounds``: (monotonic seconds, offset) of the last agreements. The slope of the least-squares
    line, in seconds a second; it counts only if its own standard error is below ``DRIFT``, and if
    it is one that an oscillator can have.
    """
    count = len(rounds)
    if count < LEAST_ROUNDS:
        return None
    first_s, base_s = rounds[0]
    times = [at_s - first_s for at_s, _ in rounds]
    offsets = [offset_s - base_s for _, offset_s in rounds]
    mean_time, mean_offset = sum(times) / count, sum(offsets) / count
    spread = sum((time - mean_time) ** 2 for time in times)
    if spread <= 0.0:
        return None
    slope = (
        sum((t - mean_time) * (o - mean_offset) for t, o in zip(times, offsets, strict=True))
        / spread
    )
    rest = sum(
        (o - mean_offset - slope * (t - mean_time)) ** 2
        for t, o in zip(times, offsets, strict=True)
    )
    deviation = math.sqrt(rest / (count - 2) / spread)
    return slope if deviation < DRIFT and abs(slope) <= MOST_DRIFT else None
