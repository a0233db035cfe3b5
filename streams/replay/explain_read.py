"""What the log has of one device: reading as little of one partition as the question needs.

A device's records lie on one partition of each topic. Those of others are passed over unmade where
a range is long: what the broker sends is searched for the device's id as bytes (``scan.py``). What
is known to lie near a time is found by the topic's time index; only decisions are looked through
whole, as the change that made a schedule what it is may be as old as the log.

The device's place, and its schedules where their changes are not kept any more, are taken from the
last snapshot before the time (``start.py``), if its rows can be read.

Cost: see `bench explain`; what is read near a time is some thousand records.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar, cast

from schemas.encoders import varint
from schemas.errors import DecodeError, UsageError
from schemas.records import (
    Accepted,
    AlreadyKnown,
    AutoPaused,
    CaptureCommand,
    CaptureResult,
    CaptureRevoked,
    DeadLetter,
    Decision,
    DeviceEvent,
    DeviceProfile,
    Ended,
    Refused,
    ScheduleEvent,
    ScheduleState,
    ScheduleTick,
    Skipped,
)
from streams.core import ids
from streams.core.partition import BACKLOG_KEY
from streams.replay.scan import Scanner, needle
from streams.replay.start import Start, Starts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Self

    from schemas.codec import Codec
    from schemas.records import Record
    from streams.replay.log import Entry, Log
    from streams.replay.start import ReadRows

EVENTS, TICKS, DECISIONS = "schedule.events", "schedule.ticks", "schedule.decisions"
COMMANDS, RESULTS = "capture.commands", "capture.results"
LETTERS, PROFILES, DEVICE_EVENTS = "dead.letters", "device.profiles", "device.events"
ROWS = "wheel.schedules.changelog"
SHARDS = "wheel.shards.changelog"
CUT: Final = (RESULTS, COMMANDS, DECISIONS, TICKS, EVENTS)
"""Downstream first: what a record refers to lies in the cut as well (``log.py``). Where the other
topics end is asked when they are read."""
SKEW_MS: Final = 10_000
"""How far a record's time and its place in the log may be apart: max_skew, and a slow commit."""
FAR: Final = 500_000
"""Most records of others that are passed over for something that ought to lie near."""
BACK: Final = 20_000
"""Records of the first step backwards; each further one is twice as long."""
PEEK: Final = 200
"""Offsets looked back for the tick before: a second's ticks and their markers."""
MAX_LETTER_PARTITIONS: Final = 64
ENDLESS_MS: Final = 1 << 60

_ALL_DECISIONS = (Accepted, AlreadyKnown, Refused, Skipped, AutoPaused, Ended)
R = TypeVar("R")


class Placed(NamedTuple):
    """A record and where it stands in its topic."""

    offset: int
    timestamp_ms: int
    record: Record


class TickSeen(NamedTuple):
    """A tick and where it stands."""

    offset: int
    stamp_ms: int
    """When the broker took it."""
    tick: ScheduleTick


def partition_of_command(log: Log, command_id: int) -> int:
    """Return the partition that a command's records lie on."""
    return ids.command_shard(command_id) % log.partitions(COMMANDS)


class Reader:
    """One partition of each topic, up to a cut that is made when the reader is. Close it."""

    def __init__(
        self, log: Log, codec: Codec, partition: int, read_rows: ReadRows | None = None
    ) -> None:
        """Take the parts and make the cut; UsageError where the log has no such topics."""
        self.log = log
        self.codec = codec
        self.partition = partition
        self.start: Start | None = None
        """The snapshot that was begun with, or why none; null: none was needed."""
        self._scanner = Scanner(log)
        self._starts = Starts(log, codec, partition, read_rows, self._scanner)
        self.records_read = 0
        self._ends: dict[str, int] = {}
        self._firsts: dict[str, int] = {}
        self._offsets: dict[tuple[str, int], int] = {}
        self._around: dict[int, tuple[TickSeen | None, TickSeen | None]] = {}
        log.partitions(TICKS)
        for topic in CUT:
            self.end(topic)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._scanner.close()

    def first(self, topic: str) -> int:
        """Return the first offset that is kept."""
        if topic not in self._firsts:
            self._firsts[topic] = self._asked(self.log.firsts, topic)
        return self._firsts[topic]

    def end(self, topic: str) -> int:
        """Return the end of the cut."""
        if topic not in self._ends:
            self._ends[topic] = self._asked(self.log.ends, topic)
        return self._ends[topic]

    def _asked(self, offsets: Callable[[str], dict[int, int]], topic: str) -> int:
        try:
            return offsets(topic)[self.partition]
        except UsageError:
            return 0  # an archive need not have all of them

    def at(self, topic: str, time_ms: int) -> int:
        """Return the first offset of a time or later, within the cut."""
        key = topic, time_ms
        if key not in self._offsets:
            first, end = self.first(topic), self.end(topic)
            found = end
            if first < end:
                found = self.log.offset_at(topic, self.partition, max(time_ms, 0))
            self._offsets[key] = min(max(found, first), end)
        return self._offsets[key]

    def _batches(self, topic: str, first: int, end: int) -> Iterator[list[Entry]]:
        first, end = max(first, self.first(topic)), min(end, self.end(topic))
        if first >= end:
            return
        for batch in self.log.read(topic, self.partition, first, end):
            self.records_read += len(batch)
            yield batch

    def entries(self, topic: str, first: int, end: int) -> Iterator[Entry]:
        """Yield the entries of a range, within the cut."""
        for batch in self._batches(topic, first, end):
            yield from batch

    def holding(self, topic: str, wanted: bytes, first: int, end: int) -> Iterator[Entry]:
        """Yield the entries of a range, within the cut, that have these bytes in key or value."""
        first, end = max(first, self.first(topic)), min(end, self.end(topic))
        if first >= end:
            return
        for looked in self._scanner.holding(topic, self.partition, first, end, wanted):
            self.records_read += looked.records
            yield from looked.found

    def back(self, topic: str, end: int, wanted: bytes = b"", first: int = 0) -> Iterator[Entry]:
        """Yield the entries before an offset that have these bytes, the newest first."""
        step = BACK
        end, first = min(end, self.end(topic)), max(first, self.first(topic))
        while end > first:
            low = max(end - step, first)
            yield from reversed(list(self.holding(topic, wanted, low, end)))
            end, step = low, step * 2

    def decode(self, entry: Entry, *kinds: type[R]) -> R | None:
        """Return an entry's record if it is one of these kinds; null: it is not, or unreadable."""
        if entry.value is None:
            return None
        try:
            record = self.codec.decode(entry.value)
        except DecodeError:
            return None
        return record if isinstance(record, kinds) else None

    def of_key(
        self, topic: str, key: bytes, first: int, end: int, *kinds: type[R]
    ) -> Iterator[tuple[Entry, R]]:
        """Yield what stands under a key in a range."""
        for entry in self.holding(topic, key, first, end):
            record = self.decode(entry, *kinds) if entry.key == key else None
            if record is not None:
                yield entry, record

    # --- ticks ----------------------------------------------------------------------------------

    def around(self, time_ms: int) -> tuple[TickSeen | None, TickSeen | None]:
        """Return the last tick before a time, and the first at it or later; null: there is none."""
        if time_ms not in self._around:
            self._around[time_ms] = self._find_around(time_ms)
        return self._around[time_ms]

    def _find_around(self, time_ms: int) -> tuple[TickSeen | None, TickSeen | None]:
        low = self.at(TICKS, time_ms - SKEW_MS)
        before: TickSeen | None = None
        for entry in self.entries(TICKS, low, self.end(TICKS)):
            tick = self.decode(entry, ScheduleTick)
            if tick is None:
                continue
            seen = TickSeen(entry.offset, entry.timestamp_ms, tick)
            if tick.time_ms >= time_ms:
                return before or self._before(low), seen
            before = seen
        return before or self._before(low), None

    def _before(self, offset: int) -> TickSeen | None:
        """Return the last tick before an offset."""
        for reach in (PEEK, PEEK * 100):
            entries = list(self.entries(TICKS, offset - reach, offset))
            for entry in reversed(entries):
                tick = self.decode(entry, ScheduleTick)
                if tick is not None:
                    return TickSeen(entry.offset, entry.timestamp_ms, tick)
        return None

    def first_tick(self) -> TickSeen | None:
        """Return the oldest tick that is kept."""
        for entry in self.entries(TICKS, self.first(TICKS), self.end(TICKS)):
            tick = self.decode(entry, ScheduleTick)
            if tick is not None:
                return TickSeen(entry.offset, entry.timestamp_ms, tick)
        return None

    def last_tick_ms(self) -> int:
        """Return the time of the newest tick; 0: there is none."""
        for entry in self.back(TICKS, self.end(TICKS)):
            tick = self.decode(entry, ScheduleTick)
            if tick is not None:
                return tick.time_ms
        return 0

    def ticks_at(self, time_ms: int, holding: str = "") -> list[TickSeen]:
        """Return the ticks of a time; with ``holding`` only those that have this text in them."""
        wanted, found = needle(holding) if holding else b"", list[TickSeen]()
        low = self.at(TICKS, time_ms - SKEW_MS)
        for entry in self.entries(TICKS, low, self.end(TICKS)):
            if entry.timestamp_ms > time_ms + SKEW_MS * 6:
                break
            if wanted and wanted not in (entry.value or b""):
                continue
            tick = self.decode(entry, ScheduleTick)
            if tick is not None and tick.time_ms > time_ms:
                break
            if tick is not None and tick.time_ms == time_ms:
                found.append(TickSeen(entry.offset, entry.timestamp_ms, tick))
        return found

    def ticks_back(self, holding: str, time_ms: int, first: int = 0) -> Iterator[TickSeen]:
        """Yield the ticks from an offset up to a time that hold a text, the newest first."""
        end = self.at(TICKS, time_ms + SKEW_MS)
        for entry in self.back(TICKS, end, needle(holding), first):
            tick = self.decode(entry, ScheduleTick)
            if tick is not None and tick.time_ms <= time_ms:
                yield TickSeen(entry.offset, entry.timestamp_ms, tick)

    def kept_from_ms(self, topic: str) -> int:
        """Return from which time on a topic is kept as a whole; 0: always was."""
        first = self.first(topic)
        if not first:
            return 0
        kept = next(self.entries(topic, first, self.end(topic)), None)
        return ENDLESS_MS if kept is None else kept.timestamp_ms + SKEW_MS

    def begin(self, at_ms: int) -> Start:
        """Return the last snapshot up to a time whose rows can be read, or why there is none."""
        self.start = self._starts.at(at_ms, self.at(TICKS, at_ms + SKEW_MS))
        return self.start

    # --- what is keyed by device ----------------------------------------------------------------

    def decisions(self, key: bytes, until_ms: int) -> list[tuple[int, Decision]]:
        """Return all decisions about a device up to a time, and later ones if they are at hand."""
        end = self.at(DECISIONS, until_ms)
        if self.end(DECISIONS) - end <= FAR:
            end = self.end(DECISIONS)
        found = self.of_key(DECISIONS, key, self.first(DECISIONS), end, *_ALL_DECISIONS)
        return [(entry.offset, cast("Decision", record)) for entry, record in found]

    def commands(
        self, key: bytes, first: int, end: int
    ) -> list[tuple[int, CaptureCommand | CaptureRevoked]]:
        """Return the commands and revocations of a device in a range of offsets."""
        found = self.of_key(COMMANDS, key, first, end, CaptureCommand, CaptureRevoked)
        return [
            (entry.offset, cast("CaptureCommand | CaptureRevoked", record))
            for entry, record in found
        ]

    def results(
        self, key: bytes, wanted: set[int], from_ms: int, until_ms: int
    ) -> Iterator[Placed]:
        """Yield the results of commands; what is not there until a time is not looked for."""
        left = set(wanted)
        first = self.at(RESULTS, from_ms - SKEW_MS)
        for entry in self.entries(RESULTS, first, self.end(RESULTS)):
            if not left or entry.timestamp_ms > until_ms:
                return
            if entry.key != key:
                continue
            result = self.decode(entry, CaptureResult)
            if result is not None and result.command_id in left:
                left.discard(result.command_id)
                yield Placed(entry.offset, entry.timestamp_ms, result)

    def command(self, command_id: int) -> CaptureCommand | CaptureResult | None:
        """Return a command by its id, or what its result tells of it."""
        wanted = varint(command_id)
        issued_ms = ids.command_time_ms(command_id)
        for topic in (COMMANDS, RESULTS):
            first = self.at(topic, issued_ms - SKEW_MS)
            for entry in self.holding(topic, wanted, first, first + FAR):
                if (entry.value or b"")[5 : 5 + len(wanted)] == wanted:
                    record = self.decode(entry, CaptureCommand) or self.decode(entry, CaptureResult)
                    if record is not None and record.command_id == command_id:
                        return record
        return None

    def events_before(self, key: bytes, time_ms: int) -> list[tuple[Entry, ScheduleEvent]]:
        """Return the latest events of a device up to a time, the newest first."""
        end = self.at(EVENTS, time_ms + 1)
        found = list(self.of_key(EVENTS, key, end - FAR // 10, end, *ScheduleEvent.__args__))
        found.reverse()
        return cast("list[tuple[Entry, ScheduleEvent]]", found)

    def profile(self, key: bytes) -> tuple[bool, int, DeviceProfile | None]:
        """Return whether a device has ever had a profile, when it was written, and the newest."""
        for entry in self.back(PROFILES, self.end(PROFILES), key):
            if entry.key == key:
                return True, entry.timestamp_ms, self.decode(entry, DeviceProfile)
        return False, 0, None

    def device_events(self, key: bytes, from_ms: int, until_ms: int) -> list[DeviceEvent]:
        """Return what was told of a device's health between two times."""
        first, end = self.at(DEVICE_EVENTS, from_ms), self.at(DEVICE_EVENTS, until_ms + 1)
        first = max(first, end - FAR)
        found = self.of_key(DEVICE_EVENTS, key, first, end, *DeviceEvent.__args__)
        return [record for _, record in found]

    def rows(self, device_id: str) -> list[ScheduleState]:
        """Return the schedules of a device as they are now, from the wheel's own table."""
        begin = f"{device_id}\0".encode()
        found: dict[bytes, Entry] = {}
        for entry in self.holding(ROWS, begin, self.first(ROWS), self.end(ROWS)):
            if entry.key is not None and entry.key.startswith(begin):
                found[entry.key] = entry
        rows = [self.decode(entry, ScheduleState) for entry in found.values()]
        return [row for row in rows if row is not None]

    def waits(self) -> bool:
        """Say whether shards of the partition wait for commands, by the wheel's own table."""
        for entry in self.back(SHARDS, self.end(SHARDS), BACKLOG_KEY):
            if entry.key == BACKLOG_KEY:
                return entry.value is not None
        return False

    def letters(self, device_id: str) -> list[DeadLetter]:
        """Return the dead letters about a device, on whatever partition they came to lie."""
        key = device_id.encode()
        found: list[DeadLetter] = []
        try:
            firsts, ends = self.log.firsts(LETTERS), self.log.ends(LETTERS)
        except UsageError:
            return found
        filled = [number for number, end in ends.items() if end > firsts[number]]
        filled.sort(key=lambda number: number != self.partition)
        for number in filled[:MAX_LETTER_PARTITIONS]:
            first = max(firsts[number], ends[number] - FAR)
            for looked in self._scanner.holding(LETTERS, number, first, ends[number], key):
                self.records_read += looked.records
                for entry in looked.found:
                    letter = self.decode(entry, DeadLetter)
                    if letter is not None and (letter.key == key or _holds(letter, device_id)):
                        found.append(letter)
        return found


def _holds(letter: DeadLetter, device_id: str) -> bool:
    return needle(device_id) in (letter.value or b"")
