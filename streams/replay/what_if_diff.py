"""Two ways to have photographed the same range, compared capture by capture, as they come.

A capture is wanted by *(device, schedule, request, nominal time)*; its command says when the
shutter opens. Each side issues commands and revokes some of them before their time. What was not
revoked **stands**; once its time has passed it stands for good, and is sought on the other side:

    before = same + moved + gone         after = same + moved + added

``same`` opens at the same millisecond, ``moved`` at another one; ``gone`` and ``added`` stand on
one side only. A nominal time that stands twice on a side (a schedule was cancelled and published
again within a moment) is two captures, and they are compared in their order.

A revocation counts where it comes ``ARM_MS`` before the shutter: later the capture is armed, and
its photo is taken.

**Bounds.** A side keeps what has not come to its time yet. What stands and was not found on the
other side is kept for as long as times can be moved (``reach_ms``), and a minute for a backlog;
then it is gone or added for good.
"""

from __future__ import annotations

import heapq
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

from schemas.records import CaptureCommand, Skipped

if TYPE_CHECKING:
    from collections.abc import Iterable

    from schemas.records import CaptureRevoked

ARM_MS: Final = 600
"""How long before its shutter a capture is armed and not to be revoked any more."""
EXAMPLES: Final = 5
"""Kept of each kind, the first ones."""
SKIPS_KEPT: Final = 10_000
"""The latest words about times that were skipped, to say why a capture is gone."""
SECOND_MS: Final = 1_000
BACKLOG_MS: Final = 60_000
"""A side that has more to issue than a tick holds may be this much later than the other."""
NOT_DUE: Final = "not due"
NEVER_MS: Final = 1 << 60

Key = tuple[str, str, str, int]
"""Device, schedule, request, nominal time."""


class Wanted(NamedTuple):
    """A command, as far as it is compared."""

    key: Key
    scheduled_ms: int
    epoch: int
    time_ms: int
    """Before the herd rule moved it: what a revocation goes by."""
    terms: tuple[object, ...]
    """The rest of what it says: until when, how, how important."""


Waiting = deque[tuple[int, Wanted]]


def wanted_of(command: CaptureCommand) -> Wanted:
    """Return what is compared of a command."""
    c = command
    return Wanted(
        (c.device_id, c.schedule_id, c.request_id, c.nominal_ms),
        c.scheduled_ms,
        c.epoch,
        c.scheduled_ms - c.moved_ms,
        (
            *(c.not_after_ms, c.capture_timeout_ms, c.priority, c.overlap, c.over_capacity),
            *(c.quality, c.image, c.keep_ms),
        ),
    )


@dataclass(frozen=True, slots=True)
class Example:
    """One capture of a kind, for people to look at."""

    device_id: str
    schedule_id: str
    request_id: str
    nominal_ms: int
    before_ms: int | None
    """When its shutter opened; null: it did not."""
    after_ms: int | None
    why: str = ""


@dataclass(slots=True)
class Side:
    """What one way of doing it gave."""

    issued: int = 0
    revoked: int = 0
    stand: int = 0
    over_capacity: int = 0
    per_second: Counter[int] = field(default_factory=Counter)
    """Shutters by second."""
    skipped: Counter[str] = field(default_factory=Counter)
    """Times given up, by reason."""
    revocations: Counter[str] = field(default_factory=Counter)
    """Commands revoked in time, by reason."""
    refused: Counter[str] = field(default_factory=Counter)
    """Events, by code."""
    accepted: int = 0
    paused: int = 0
    ended: int = 0

    def add(self, other: Side) -> None:
        """Count another partition's in."""
        for name in ("issued", "revoked", "stand", "over_capacity", "accepted", "paused", "ended"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name in ("per_second", "skipped", "revocations", "refused"):
            getattr(self, name).update(getattr(other, name))

    @property
    def peak(self) -> tuple[int, int]:
        """The most shutters of one second, and the first such second."""
        if not self.per_second:
            return 0, 0
        second, count = min(self.per_second.items(), key=lambda pair: (-pair[1], pair[0]))
        return count, second


@dataclass(slots=True)
class Difference:
    """What differs, in numbers and examples."""

    before: Side = field(default_factory=Side)
    after: Side = field(default_factory=Side)
    same: int = 0
    other_terms: int = 0
    """Of the same, how many say otherwise until when, how, or how important."""
    moved: int = 0
    moved_ms: Counter[int] = field(default_factory=Counter)
    """Captures by how much later their shutter opens."""
    gone: int = 0
    gone_why: Counter[str] = field(default_factory=Counter)
    added: int = 0
    examples: dict[str, list[Example]] = field(default_factory=dict)

    @property
    def empty(self) -> bool:
        """Say whether nothing at all differs."""
        return not (self.moved or self.gone or self.added or self.other_terms) and (
            self.before == self.after
        )

    def example(self, kind: str, one: Example) -> None:
        """Keep an example, if there is room."""
        kept = self.examples.setdefault(kind, [])
        if len(kept) < EXAMPLES:
            kept.append(one)

    def add(self, other: Difference) -> None:
        """Count another partition's in."""
        self.before.add(other.before)
        self.after.add(other.after)
        for name in ("same", "other_terms", "moved", "gone", "added"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.moved_ms.update(other.moved_ms)
        self.gone_why.update(other.gone_why)
        for kind, kept in other.examples.items():
            both = [*self.examples.get(kind, ()), *kept]
            both.sort(key=lambda one: (one.nominal_ms, one.device_id, one.schedule_id))
            self.examples[kind] = both[:EXAMPLES]

    def moved_percentile(self, share: float) -> int:
        """Return by how much later at most this share of the moved ones is, 0 to 1."""
        rest = max(1, round(share * self.moved))
        for late_ms in sorted(self.moved_ms):
            rest -= self.moved_ms[late_ms]
            if rest <= 0:
                return late_ms
        return 0


class _Open:
    """The commands of one side whose time has not come."""

    def __init__(self, side: Side) -> None:
        self.side = side
        self._by_schedule: dict[tuple[str, str], dict[int, Wanted]] = {}
        self._due: list[tuple[int, int]] = []
        self._all: dict[int, Wanted] = {}
        self._number = 0
        self.revoked: dict[Key, tuple[int, str]] = {}
        """Of what was revoked, when it was to open and why."""

    def issue(self, wanted: Wanted) -> None:
        self.side.issued += 1
        self._number += 1
        number = self._number
        self._all[number] = wanted
        self._by_schedule.setdefault(wanted.key[:2], {})[number] = wanted
        heapq.heappush(self._due, (wanted.scheduled_ms, number))

    def revoke(self, revoked: CaptureRevoked) -> None:
        mine = self._by_schedule.get((revoked.device_id, revoked.schedule_id))
        for number, one in list((mine or {}).items()):
            if (
                one.epoch <= revoked.epoch
                and one.time_ms >= revoked.from_ms
                and one.scheduled_ms - ARM_MS >= revoked.tick_time_ms
            ):
                self._forget(number)
                self.side.revoked += 1
                self.side.revocations[revoked.reason] += 1
                self.revoked[one.key] = (one.scheduled_ms, revoked.reason)

    def _forget(self, number: int) -> Wanted:
        one = self._all.pop(number)
        mine = self._by_schedule[one.key[:2]]
        del mine[number]
        if not mine:
            del self._by_schedule[one.key[:2]]
        return one

    def passed(self, now_ms: int) -> Iterable[Wanted]:
        """Take out those whose time has passed, in its order."""
        while self._due and self._due[0][0] < now_ms:
            _, number = heapq.heappop(self._due)
            if number in self._all:
                yield self._forget(number)


class Accounting:
    """Compares two sides of one partition as their outputs come."""

    def __init__(self, from_ms: int, to_ms: int) -> None:
        """Take the range of nominal times that count."""
        self.found = Difference()
        self.reach_ms = 0
        """How far any policy seen so far can move a time; whoever sees a wider one says so."""
        self._from_ms, self._to_ms = from_ms, to_ms
        self._open = (_Open(self.found.before), _Open(self.found.after))
        # What stands for good, with the time at which that was seen.
        self._waiting: tuple[dict[Key, Waiting], dict[Key, Waiting]] = ({}, {})
        self._skips: tuple[dict[tuple[str, str], deque[Skipped]], ...] = ({}, {})
        self._skips_kept = [0, 0]
        self._swept_ms = from_ms

    def issued(self, after: bool, commands: Iterable[CaptureCommand | CaptureRevoked]) -> None:
        """Take the commands of one tick of one side."""
        mine = self._open[after]
        for command in commands:
            if not isinstance(command, CaptureCommand):
                mine.revoke(command)
            elif self._from_ms <= command.nominal_ms < self._to_ms:
                mine.side.over_capacity += command.over_capacity
                mine.issue(wanted_of(command))

    def skipped(self, after: bool, skipped: Skipped) -> None:
        """Take times that one side gave up."""
        side = self._open[after].side
        side.skipped[skipped.reason] += skipped.count
        if self._skips_kept[after] < SKIPS_KEPT:
            self._skips_kept[after] += 1
            key = (skipped.device_id, skipped.schedule_id)
            self._skips[after].setdefault(key, deque()).append(skipped)

    def side(self, after: bool) -> Side:
        """Return what one side gave."""
        return self._open[after].side

    def pass_to(self, now_ms: int) -> None:
        """Settle all whose time has passed on both sides."""
        for after in (False, True):
            mine = self._open[after]
            for one in mine.passed(now_ms):
                mine.side.stand += 1
                mine.side.per_second[one.scheduled_ms // SECOND_MS] += 1
                self._settle(after, one, now_ms)
        kept_ms = self.reach_ms + BACKLOG_MS
        if now_ms - self._swept_ms > kept_ms:
            self._sweep(now_ms - kept_ms)
            self._swept_ms = now_ms

    def _settle(self, after: bool, one: Wanted, now_ms: int) -> None:
        waiting = self._waiting[not after].get(one.key)
        if not waiting:
            self._waiting[after].setdefault(one.key, deque()).append((now_ms, one))
            return
        _, other = waiting.popleft()
        if not waiting:
            del self._waiting[not after][one.key]
        before, then = (other, one) if after else (one, other)
        found = self.found
        if before.scheduled_ms == then.scheduled_ms:
            found.same += 1
            found.other_terms += before.terms != then.terms
            return
        found.moved += 1
        found.moved_ms[then.scheduled_ms - before.scheduled_ms] += 1
        found.example("moved", Example(*one.key, before.scheduled_ms, then.scheduled_ms))

    def _sweep(self, until_ms: int) -> None:
        """Give up finding the others of those that are older than times can be moved."""
        for after in (False, True):
            waiting = self._waiting[after]
            old = [key for key, many in waiting.items() if many[-1][0] < until_ms]
            for key in old:
                for _, one in waiting.pop(key):
                    self._alone(after, one)
        for mine in self._open:
            for key in [k for k, (at_ms, _) in mine.revoked.items() if at_ms < until_ms]:
                del mine.revoked[key]

    def _alone(self, after: bool, one: Wanted) -> None:
        found = self.found
        if after:
            found.added += 1
            why = self._why(False, one)
            found.example("added", Example(*one.key, None, one.scheduled_ms, why))
            return
        found.gone += 1
        why = self._why(True, one)
        found.gone_why[why] += 1
        found.example("gone", Example(*one.key, one.scheduled_ms, None, why))

    def _why(self, after: bool, one: Wanted) -> str:
        """Say why a capture of the other side does not stand on this one."""
        revoked = self._open[after].revoked.get(one.key)
        if revoked is not None:
            return f"revoked: {revoked[1]}"
        # There its time is another one, if not further from the nominal one than times can be.
        first_ms, last_ms = one.key[3], one.key[3] + self.reach_ms
        for skipped in self._skips[after].get(one.key[:2], ()):
            if skipped.first_ms <= last_ms and skipped.last_ms >= first_ms:
                return f"skipped: {skipped.reason}"
        return NOT_DUE

    def close(self) -> Difference:
        """Settle everything and return what differs."""
        self.pass_to(NEVER_MS)
        self._sweep(NEVER_MS + 1)
        return self.found
