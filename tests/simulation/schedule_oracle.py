"""The rules of schedules in the plainest words, and slowly: the oracle that the fold is held to.

It keeps every time it ever settled, walks over each nominal time one by one, and knows nothing of
wheels, clocks of shards, periods or rows. What it shares with the fold are the answers of a
recurrence to 'what comes next' (which have tests of their own) and the spread and jitter hashes.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace

from schemas.records import (
    CapturePolicy,
    CaptureRequested,
    ScheduleCancelled,
    SchedulePaused,
    ScheduleSpec,
    ScheduleTick,
    ScheduleUpserted,
)
from streams.core import ids
from streams.core.recurrence import Place, Recurrence, compile_spec, needs_place
from streams.core.schedule import HORIZON_MS
from streams.core.spread import jitter_ms, offset_ms

Key = tuple[str, str]
REQUEST = "request/"
FAR_MS = 1 << 62


@dataclass
class Book:
    """One schedule: ``settled`` are the times of this epoch that were issued or skipped."""

    key: Key
    epoch: int
    spec: ScheduleSpec
    policy: CapturePolicy
    starts: int
    ends: int = FAR_MS
    paused: bool = False
    failures_from: int = 0
    settled: set[int] = field(default_factory=set)


class Oracle:
    """One fleet. ``horizon_ms``: no tick and no lead goes beyond it."""

    def __init__(self, from_ms: int, horizon_ms: int) -> None:
        self.from_ms, self.horizon_ms = from_ms, horizon_ms
        self.books: dict[Key, Book] = {}
        self.epochs: Counter[int] = Counter()
        self.known: dict[tuple[str, str], int] = {}
        self.places: dict[str, Place] = {}
        self.failures: Counter[str] = Counter()
        self.walks: dict[tuple, list[tuple[int, int]]] = {}
        self.now = 0

    def tick(self, tick: ScheduleTick) -> None:
        """Take one tick; afterwards the lists hold what it must have given out."""
        self.now = tick.time_ms
        self.issued: list[tuple[str, str, int, int]] = []
        self.skipped: list[tuple[str, str, int, int]] = []
        self.revoked: list[tuple[str, str, int]] = []
        self.ended: list[tuple[str, str, int]] = []
        self.auto_paused: list[tuple[str, str, int]] = []
        self.waiting: list[tuple[str, str, int]] = []
        self.answers: list[str] = []
        self.memory_ms = tick.settings.request_memory_ms
        self.notice_ms = tick.settings.notice_ms
        for fact in tick.facts:
            self.learn(fact)
        for change in tick.changes:
            self.answers.append(self.change(change.event))
        for book in list(self.books.values()):
            self.settle(book)

    # --- times ----------------------------------------------------------------------------------

    def walk(self, spec: ScheduleSpec, policy: CapturePolicy, device: str) -> list[tuple[int, int]]:
        """Every (nominal, scheduled) time up to the horizon, one after the other."""
        place = self.places.get(device) if needs_place(spec) else None
        what = (spec, policy.spread_ms, policy.jitter_ms, device, place)
        if what not in self.walks:
            recurrence = Recurrence(spec, place)  # its own: nothing remembered by the fold
            nominal, at = [], recurrence.find_at_or_after(self.from_ms)
            while at is not None and at <= self.horizon_ms:
                nominal.append(at)
                at = recurrence.find_at_or_after(at + 1)
            found = []
            for n, following in zip(nominal, [*nominal, at or FAR_MS][1:], strict=True):
                shift = offset_ms(device, policy.spread_ms)
                if policy.jitter_ms:
                    shift += jitter_ms(device, n, policy.jitter_ms)
                found.append((n, min(n + shift, following - 1)))
            self.walks[what] = found
        return self.walks[what]

    def times(self, book: Book) -> list[int]:
        """Every scheduled time of this epoch up to the horizon."""
        walked = self.walk(book.spec, book.policy, book.key[0])
        return [s for _, s in walked if book.starts <= s < book.ends]

    def is_endless(self, book: Book) -> bool:
        spec = book.spec
        if self.lacks_place(spec, book.key[0]):
            return True
        bounded = spec.until_ms is not None or book.ends != FAR_MS
        terms = [spec, *spec.also]
        return not bounded and any(term.kind != "once" for term in terms)

    def lacks_place(self, spec: ScheduleSpec, device: str) -> bool:
        return needs_place(spec) and device not in self.places

    def window_ms(self, book: Book) -> int:
        policy = book.policy
        window = policy.catch_up_ms
        if window is None:
            place = self.places.get(book.key[0]) if needs_place(book.spec) else None
            window = compile_spec(book.spec, place).typical_gap_ms or 60_000
        return window if policy.deadline_ms is None else min(window, policy.deadline_ms)

    def made_up(self, book: Book, late: list[int]) -> list[int]:
        """Which of the late times are issued all the same."""
        wanted = [s for s in late if self.now - s <= self.window_ms(book)]
        match book.policy.misfire:
            case "latest":
                return wanted[-1:]
            case "earliest":
                return wanted[:1]
            case "all":
                return wanted[-100:]
        return []

    def settle(self, book: Book) -> None:
        if book.paused:
            return
        times = self.times(book)
        due = [s for s in times if s - book.policy.lead_ms <= self.now and s not in book.settled]
        late = [s for s in due if s < self.now]
        made_up = self.made_up(book, late)
        for s in due:
            taken = s >= self.now or s in made_up
            (self.issued if taken else self.skipped).append((*book.key, book.epoch, s))
            book.settled.add(s)
        last = max(times, default=book.starts - 1)
        if not self.is_endless(book) and last < self.now:
            self.end(book)

    # --- what happens to schedules ----------------------------------------------------------------

    def end(self, book: Book) -> None:
        del self.books[book.key]
        if not book.key[1].startswith(REQUEST):
            self.ended.append((*book.key, book.epoch))

    def epoch(self, device: str) -> int:
        self.epochs[ids.shard_of(device)] += 1
        return self.epochs[ids.shard_of(device)]

    def supersede(self, book: Book) -> None:
        """Void an epoch: what it had due and not issued is skipped."""
        if not book.paused:
            missed = [s for s in self.times(book) if s <= self.now and s not in book.settled]
            self.skipped += [(*book.key, book.epoch, s) for s in missed]
        self.revoked.append((*book.key, book.epoch))

    def begin(self, book: Book) -> None:
        self.books[book.key] = book
        if not book.paused and self.lacks_place(book.spec, book.key[0]):
            self.waiting.append((*book.key, book.epoch))

    def end_after(self, spec: ScheduleSpec, policy: CapturePolicy, device: str, starts: int) -> int:
        """The moment after the last time that the count allows."""
        times = [s for _, s in self.walk(spec, policy, device) if s >= starts]
        if spec.max_count is None or len(times) < spec.max_count:
            return FAR_MS
        return times[spec.max_count - 1] + 1

    def learn(self, fact) -> None:
        device = fact.device_id
        mine = [book for key, book in sorted(self.books.items()) if key[0] == device]
        if fact.kind == "place":
            before = self.places.pop(device, None)
            after = None
            if fact.latitude is not None:
                after = self.places[device] = Place(fact.latitude, fact.longitude)
            for book in mine:
                if needs_place(book.spec) and before != after and not book.paused:
                    self.moved(book, before)
            return
        failures = fact.failures if fact.kind == "failing" else 0
        if failures == self.failures[device]:
            return
        self.failures[device] = failures
        for book in mine:
            if fact.kind == "recovered":
                book.failures_from = 0
                continue
            allowed = book.policy.pause_after_failures
            if not book.paused and allowed and failures - book.failures_from >= allowed:
                epoch = self.epoch(device)
                self.supersede(book)
                self.begin(replace(book, epoch=epoch, starts=self.now, paused=True, settled=set()))
                self.auto_paused.append((*book.key, epoch))

    def moved(self, book: Book, before: Place | None) -> None:
        device, after = book.key[0], self.places.pop(book.key[0], None)
        epoch = self.epoch(device)
        if before is not None:
            self.places[device] = before
        self.supersede(book)  # at the old place
        self.places.pop(device, None)
        if after is not None:
            self.places[device] = after
        starts, ends = self.now + 1, book.ends
        if ends == FAR_MS:
            ends = self.end_after(book.spec, book.policy, device, starts)
        self.begin(replace(book, epoch=epoch, starts=starts, ends=ends, settled=set()))

    def change(self, event) -> str:
        now, device = self.now, event.device_id
        request = (device, event.request_id)
        if request in self.known and now - self.known[request] < self.memory_ms:
            return "known"
        if isinstance(event, CaptureRequested):
            key = (device, REQUEST + event.request_id)
            if key in self.books:
                return "known"
            self.known[request] = now
            return self.request(event, key)
        key = (device, event.schedule_id)
        self.known[request] = now
        book = self.books.get(key)
        if isinstance(event, ScheduleUpserted):
            return self.upsert(event, key, book)
        if book is None:
            return "refused"
        if isinstance(event, ScheduleCancelled):
            self.epoch(device)
            self.supersede(book)
            del self.books[key]
            return "accepted"
        pause = isinstance(event, SchedulePaused)
        if book.paused == pause:
            return "accepted"
        epoch, once = self.epoch(device), is_once(book.spec)
        if pause:
            self.supersede(book)
            self.begin(replace(book, epoch=epoch, starts=self.now, paused=True, settled=set()))
            return "accepted"
        resumed = replace(
            book,
            epoch=epoch,
            paused=False,
            starts=now if once else max(now + 1, book.starts),
            failures_from=self.failures[device],
            settled=set(),
        )
        if not self.is_endless(resumed) and not self.times(resumed):
            if once:
                at = self.walk(book.spec, book.policy, device)[0][1]
                self.skipped.append((*key, epoch, at))
            self.end(resumed)
            return "accepted"
        self.begin(resumed)
        return "accepted"

    def upsert(self, event: ScheduleUpserted, key: Key, book: Book | None) -> str:
        spec, policy, device = event.spec, event.policy, event.device_id
        if book and (book.spec, book.policy) == (spec, policy):
            return "accepted"
        starts = self.now + (1 if book else self.notice_ms)
        walked = self.walk(spec, policy, device)
        if is_once(spec):
            starts = self.now
        elif book:
            starts = self.with_the_same(book, walked, starts, policy)
        if not self.lacks_place(spec, device):
            made = Book(key, 0, spec, policy, starts)
            if not self.is_endless(made) and not self.times(made):
                return "refused"
            later = [s for _, s in walked if s >= starts]
            if spec.kind == "once" and later and later[0] > self.now + HORIZON_MS:
                return "refused"
        epoch = self.epoch(device)
        if book:
            self.supersede(book)
        ends = self.end_after(spec, policy, device, starts)
        paused = book.paused if book else False
        failures = self.failures[device]
        self.begin(Book(key, epoch, spec, policy, starts, ends, paused, failures))
        return "accepted"

    def with_the_same(self, book: Book, walked: list[tuple[int, int]], starts: int, policy) -> int:
        """Each nominal time that both epochs have is to happen once, wherever it lies.

        What was over by the old epoch stays over, if it had it or was begun too late for it.
        """
        old = self.walk(book.spec, book.policy, book.key[0])
        if not any(p.spread_ms or p.jitter_ms for p in (book.policy, policy)):
            return starts
        if book.paused:
            over = {n for n, s in old if s < book.starts}
            return max([starts, *(s + 1 for n, s in walked if s >= starts and n in over)])
        ahead = [n for n, s in old if s >= starts and book.starts <= s < book.ends][:1]
        for n, s in walked:
            if n in ahead and s < starts and policy.misfire != "skip":
                return s
        over = {n for n, s in old if s < starts and (s < book.starts or s in book.settled)}
        return max([starts, *(s + 1 for n, s in walked if s >= starts and n in over)])

    def request(self, event: CaptureRequested, key: Key) -> str:
        at, policy = event.at_ms, event.policy
        if at is None:
            at, policy = self.now, msgspec_replace(policy, spread_ms=0, jitter_ms=0)
        if at < self.now:
            return "refused"
        epoch, spec = self.epoch(event.device_id), ScheduleSpec("once", at_ms=at)
        ((_, scheduled),) = self.walk(spec, policy, event.device_id)
        if scheduled - policy.lead_ms <= self.now:
            self.issued.append((*key, epoch, scheduled))
        else:
            self.books[key] = Book(key, epoch, spec, policy, self.now)
        return "accepted"


def is_once(spec: ScheduleSpec) -> bool:
    return spec.kind == "once" and not spec.also


def msgspec_replace(policy: CapturePolicy, **changes: int) -> CapturePolicy:
    import msgspec

    return msgspec.structs.replace(policy, **changes)
