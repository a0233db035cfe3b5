"""The clock of a sandbox: it begins at a moment of the past, and may go faster.

A replay does not shift the times in events: cron lines, exclusions, validity and the change to
summer time would mean something else. It shifts the clock. All workers of a sandbox stand on one
file::

    {"begin_ms": 1790058600000, "speed": 10.0, "anchor_s": 12345.678}

    now = begin + (CLOCK_BOOTTIME - anchor) * speed

While ``anchor_s`` is null the clock **stands** at ``begin_ms``: workers join, recover and wait. The
replay writes the anchor when they are ready, and every clock of the machine starts at once. A
worker that dies and is started again reads the same anchor and is where the others are.

Such a clock is never compared with the broker's or the machine's, so a worker takes it only in a
namespace that is marked as a sandbox (:func:`check_sandbox`). What goes by real time stays: leases,
sessions, commits, and what a camera takes. At x10 a lead of 5 s is half a second of real time.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import msgspec

from schemas.errors import StoreError, UsageError
from streams.runtime.clock import Clock

if TYPE_CHECKING:
    from pathlib import Path

MARK: Final = "-replay-"
"""What a namespace of a sandbox has in its name."""
MIN_SPEED: Final = 1.0
MAX_SPEED: Final = 1_000.0
LOOK_S: Final = 0.02
"""How often a clock that stands looks whether it was started."""
NO_SKEW_MS: Final = 1 << 52
"""``max_skew_ms`` of a sandbox: the broker's clock is of another time."""


class SandboxTime(msgspec.Struct, frozen=True):
    """What stands in the file."""

    begin_ms: int
    speed: float
    anchor_s: float | None = None
    """CLOCK_BOOTTIME at ``begin_ms``; null: the clock stands."""

    def at(self, now_s: float) -> float:
        """Return UTC seconds at a moment of CLOCK_BOOTTIME."""
        passed_s = 0.0 if self.anchor_s is None else now_s - self.anchor_s
        return self.begin_ms / 1000.0 + max(passed_s, 0.0) * self.speed

    def save(self, path: Path) -> None:
        """Write the file at once and whole."""
        new = path.with_suffix(".new")
        try:
            new.write_bytes(msgspec.json.encode(self))
            new.replace(path)
        except OSError as error:
            raise StoreError(f"{path} cannot be written: {error.strerror or error}.") from error

    @classmethod
    def load(cls, path: Path) -> SandboxTime:
        """Read the file; UsageError for one that cannot be."""
        try:
            found = msgspec.json.decode(path.read_bytes(), type=cls)
        except (OSError, msgspec.MsgspecError) as error:
            raise UsageError(f"{path} is no clock of a sandbox: {error}.") from None
        if not MIN_SPEED <= found.speed <= MAX_SPEED:
            raise UsageError(f"A sandbox's clock goes x1 to x1,000, not x{found.speed:g}.")
        return found


def boottime_s() -> float:
    """Return the seconds that sandbox clocks stand on."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def check_sandbox(namespace: str) -> str:
    """Return the namespace if it is a sandbox's; UsageError if it is not."""
    if MARK not in namespace:
        raise UsageError(
            f"The namespace {namespace!r} is no sandbox (NAME{MARK}NAME): a worker of production "
            "goes by the real time."
        )
    return namespace


class SandboxClock(Clock):
    """A wall clock of another time."""

    def __init__(self, path: Path) -> None:
        """Take the file, which must be there."""
        super().__init__(monotonic_s=boottime_s)
        self._path = path
        self._time = SandboxTime.load(path)
        self._looked_s = boottime_s()

    @property
    def speed(self) -> float:
        """How many seconds pass in one of real time."""
        return self._time.speed

    def now_s(self) -> float:
        """Return UTC seconds, of the sandbox."""
        now_s = boottime_s()
        if self._time.anchor_s is None and now_s - self._looked_s > LOOK_S:
            self._looked_s = now_s
            self._time = SandboxTime.load(self._path)
        return self._time.at(now_s)

    def behind_wall_ms(self) -> float:
        """Return 0: no other clock tells the time of a sandbox."""
        return 0.0

    def wait_s(self, span_s: float) -> float:
        """Return the real seconds in which so many pass; while the clock stands, a short while."""
        if self._time.anchor_s is None:
            return min(span_s, LOOK_S)
        return span_s / self._time.speed
