"""Device health: heartbeats and time in; online, offline and flapping out. A pure fold.

Theory
------
A device is **online** from its first heartbeat on, until none has come for ``timeout_ms``. Between
two heartbeats nothing is worked out: a heartbeat of a device that is online writes its row of
columns (``health_table.py``) and moves no timer. The timer of each device stays where it was, a
timeout after some earlier heartbeat. When the wheel hands it out, the device is either silent by
now, or was heard of since, and then the timer is set anew, a timeout after the last time. So a
device costs one timer a timeout, however often it speaks, and is found silent at the very first
look after its time.

**Order.** ``sequence`` counts a device's heartbeats. One that is not above the last is

* a *repeat*: the same number and no later by the device's own clock. Ignored.
* of before: a lower number and not later by the device's own clock. Ignored.
* of a *restart*: the device counts anew. Its own clock says that it is later; or, where that clock
  began anew as well, it is the second in a row that is of before, and newer than the first one was
  (RFC 3550, appendix A.1, believes a second in a row likewise).

**Flapping.** Each time a device goes off or on fills a bucket by one; the bucket holds
``flap_changes`` and runs out at ``flap_changes`` in ``flap_window_ms``. The change that makes it
run over is announced with ``flapping`` set, and from there on nothing is, until the device has been
on, or off, for ``stable_ms``: that is announced, with ``flapping`` not set. Two bounds, so that a
device at the edge of one does not flap between flapping and not.

**Blindness.** Silence means something only while somebody listens. ``advance`` is told up to when
the log is known to be read. Where that makes a leap of more than ``blind_ms`` (the worker was
away, the broker did not answer, so nobody's heartbeats came) every device is given a whole timeout
from its end on: a scalar (``floor``), not a million writes. So an outage of ours is no outage of a
fleet.

**Load.** Whoever ranks captures wants a device's load, and not 40,000 heartbeats a second. So it is
told when CPU and memory together have moved by ``LOAD_MOVE`` (of 0 to 2) since it was told last,
and again, of a busy device, as its row is written: whoever missed it hears it then. A device that
was never that busy is never told of.

What is **announced** (``DeviceOnline``, ``DeviceOffline``) stands in the same outputs as the row
that remembers it: written in one transaction, nothing is announced twice or left out, wherever a
worker dies. Between two events of a device, ``(online, flapping)`` has changed.

Worked example
--------------
Timeout 120 s. cam-7's first heartbeat at 0: online; timer at 120. Heartbeats at 30, 60, 90: columns
only. At 120 the timer is handed out: last seen 90, so it is set to 210. At 210: 210 - 90 is 120, it
is offline. Six changes within half an hour are announced so; the seventh with ``flapping``.

Cost: see ``./dev bench health`` (benchmarks/results/health.json).
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from schemas.errors import UsageError
from schemas.records import DeviceHealth, DeviceLoad, DeviceOffline, DeviceOnline
from streams.core.health_table import FLAPPING, LOAD_STEPS, ONLINE, HealthTable
from streams.core.wheel import Wheel

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

FRESH, FIRST, REPEAT, OLD, RESTART = "fresh", "first", "repeat", "old", "restart"
VERDICTS: Final = (FRESH, FIRST, REPEAT, OLD, RESTART)
"""What a heartbeat can turn out to be."""
PIECE: Final = 1_000
"""Timers looked at in one ``advance`` by default: about a millisecond, ten if all are news."""

LOAD_MOVE: Final = 0.25
"""Change of CPU and memory together that is told: an eighth of what a rank can rise by."""
_MOVED: Final = LOAD_MOVE * LOAD_STEPS


@dataclass(frozen=True, slots=True)
class HealthSettings:
    """When a device is on, off or flapping. Times are milliseconds."""

    timeout_ms: int = 120_000
    """Silence after which a device is offline (SPEC 4.3: 2 min). 1,000 to 86,400,000."""
    flap_changes: int = 6
    """Changes, off and on, that are announced one after the other: three times off and back. 1 to
    1,000."""
    flap_window_ms: int = 1_800_000
    """Time in which so many are forgotten. 1,000 to 86,400,000."""
    stable_ms: int = 600_000
    """A flapping device that was on, or off, for so long flaps no more. 1,000 to 86,400,000."""
    blind_ms: int = 5_000
    """A leap of what is known by more than this is an outage of ours. At least two looks."""
    row_every_ms: int = 900_000
    """A row is written anew when it is this much behind: what is known of a quiet device after a
    restart is at most so old. 0: only when it changes; at most 86,400,000."""
    forget_ms: int = 30 * 86_400_000
    """A device that has been offline for so long is forgotten. An hour to ten years."""

    def __post_init__(self) -> None:
        day = 86_400_000
        bounds = {
            "timeout_ms": (1_000, day),
            "flap_changes": (1, 1_000),
            "flap_window_ms": (1_000, day),
            "stable_ms": (1_000, day),
            "blind_ms": (100, day),
            "row_every_ms": (0, day),
            "forget_ms": (3_600_000, 3_650 * day),
        }
        for name, (low, high) in bounds.items():
            value: int = getattr(self, name)
            if not low <= value <= high:
                raise UsageError(f"{name} is {value:,} and must lie between {low:,} and {high:,}.")


@dataclass(slots=True)
class Outputs:
    """What has to be written, all in one step."""

    rows: dict[bytes, DeviceHealth | None] = field(default_factory=dict)
    """By the device's id; ``None``: the device is forgotten."""
    events: list[DeviceOnline | DeviceOffline] = field(default_factory=list)
    loads: list[DeviceLoad] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.rows or self.events or self.loads)


class Health:
    """The devices of one partition."""

    __slots__ = ("_due", "_floor", "_outputs", "_settings", "_wheel", "blind_spells", "table")

    def __init__(self, settings: HealthSettings, now_ms: int) -> None:
        """Begin at ``now_ms``: before that nobody listened."""
        self._settings = settings
        self._wheel = Wheel(now_ms)
        self._floor = now_ms
        self._due = array("I")  # handed out by the wheel and not looked at yet
        self._outputs = Outputs()
        self.table = HealthTable()
        self.blind_spells = 0
        """Leaps so far that were taken for an outage of ours."""

    def __len__(self) -> int:
        return len(self.table.index)

    @property
    def clock_ms(self) -> int:
        """Up to when everybody's silence is known."""
        return self._wheel.clock_ms

    def load(self, rows: Iterable[DeviceHealth]) -> None:
        """Take up where earlier rows left off; every device that is online has a whole timeout."""
        silent_ms = self._floor + self._settings.timeout_ms
        indices: list[int] = []
        dues_ms: list[int] = []
        for row in rows:
            index = self.table.put(row)
            indices.append(index)
            dues_ms.append(silent_ms if row.online and not row.flapping else self._next(index))
        self._wheel.grow(len(self.table.keys))
        self._wheel.insert_many(indices, dues_ms)

    # -- heartbeats ----------------------------------------------------------------------------

    def beat(
        self,
        key: bytes,
        sequence: int,
        at_ms: int,
        cpu: float,
        memory: float,
        offset_ms: float,
        seen_ms: int,
    ) -> str:
        """Take a heartbeat of the device with this id (UTF-8), which came at ``seen_ms``.

        The numbers are those of a ``DeviceHeartbeat``, good ones. Returns its verdict.
        """
        table = self.table
        index = table.index.get(key)
        if index is None:
            index, verdict = self._first(key, seen_ms), FIRST
        elif sequence > table.sequences[index]:
            verdict = FRESH
        else:
            verdict = self._judge(index, sequence, at_ms)
            if verdict is not RESTART:
                return verdict
        table.sequences[index] = sequence
        table.ats[index] = at_ms
        table.cpus[index] = cpu
        table.memories[index] = memory
        table.offsets[index] = offset_ms
        if seen_ms > table.seen[index]:  # noqa: PLR1730  # a call is a tenth of all this
            table.seen[index] = seen_ms
        if not table.states[index] & ONLINE:
            self._change(index, seen_ms, first=verdict is FIRST)
        moved = (cpu + memory) * LOAD_STEPS - table.told[index]
        if moved >= _MOVED or moved <= -_MOVED:  # neither, where it is not known
            self._tell_load(index)
        return verdict

    def _first(self, key: bytes, seen_ms: int) -> int:
        index = self.table.add(key)
        self._wheel.grow(index + 1)
        self.table.since[index] = seen_ms
        return index

    def _judge(self, index: int, sequence: int, at_ms: int) -> str:
        """Return what a heartbeat is whose number is not above the last."""
        table = self.table
        last, last_at_ms = table.sequences[index], table.ats[index]
        if at_ms > last_at_ms:
            table.doubts.pop(index, None)
            return RESTART
        if sequence == last and at_ms == last_at_ms:
            return REPEAT
        before = table.doubts.get(index)
        if before is not None and sequence > before[0] and at_ms > before[1]:
            del table.doubts[index]
            return RESTART
        if before is None or sequence < before[0]:
            table.doubt(index, sequence, at_ms)
        return OLD

    # -- time ----------------------------------------------------------------------------------

    def advance(self, now_ms: int, most: int = PIECE) -> bool:
        """Let time be known up to ``now_ms``; return whether there is more to do at that time.

        Looks at ``most`` timers at a time, so that a fleet that falls silent at once is announced
        in pieces. A time before the clock is the clock's.
        """
        settings = self._settings
        clock_ms = self._wheel.clock_ms
        now_ms = max(now_ms, clock_ms)
        if now_ms - clock_ms > settings.blind_ms:
            self._floor = now_ms
            self.blind_spells += 1
        if not self._due:
            self._due = self._wheel.advance(now_ms)
        piece = self._due[-most:]
        del self._due[-most:]
        if piece:
            self._look(piece, now_ms)
        return bool(self._due)

    def _look(self, indices: Sequence[int], now_ms: int) -> None:
        """See what has become of devices whose timers were handed out; set the timers anew."""
        table, settings = self.table, self._settings
        states, seen, rows_at = table.states, table.seen, table.written
        timeout_ms, floor_ms = settings.timeout_ms, self._floor
        stale_ms = settings.row_every_ms or 1 << 62
        again: list[int] = []
        dues_ms: list[int] = []
        for index in indices:
            state, seen_ms = states[index], seen[index]
            due_ms = max(seen_ms, floor_ms) + timeout_ms
            if state == ONLINE and due_ms > now_ms:
                if seen_ms - rows_at[index] >= stale_ms:
                    self._write(index)
                    if table.told[index] >= _MOVED:
                        self._tell_load(index)
                again.append(index)
                dues_ms.append(due_ms)
            elif table.keys[index] is not None:
                self._look_closely(index, now_ms, due_ms)
                if table.keys[index] is not None:
                    again.append(index)
                    dues_ms.append(self._next(index))
        self._wheel.insert_many(again, dues_ms)

    def _look_closely(self, index: int, now_ms: int, silent_ms: int) -> None:
        table, settings = self.table, self._settings
        state, since_ms = table.states[index], table.since[index]
        if state & ONLINE and silent_ms <= now_ms:
            self._change(index, now_ms)
        elif state & FLAPPING and since_ms + settings.stable_ms <= now_ms:
            table.mark(index, state & ~FLAPPING)
            table.flaps[index] = 0
            self._announce(index, now_ms)
        elif not state & ONLINE and since_ms + settings.forget_ms <= now_ms:
            self._outputs.rows[table.remove(index)] = None

    def _next(self, index: int) -> int:
        """Return when a device has to be looked at next."""
        table, settings = self.table, self._settings
        state, since_ms = table.states[index], table.since[index]
        due_ms = since_ms + settings.forget_ms
        if state & ONLINE:
            due_ms = max(table.seen[index], self._floor) + settings.timeout_ms
        if state & FLAPPING:
            due_ms = min(due_ms, since_ms + settings.stable_ms)
        # A row of long ago, or a change in a record of before: at the next look.
        return max(due_ms, self._wheel.clock_ms)

    def _change(self, index: int, at_ms: int, *, first: bool = False) -> None:
        """Turn a device on or off, and its timer with it unless ``_look`` sets that."""
        table = self.table
        state = table.states[index] ^ ONLINE
        at_ms = max(at_ms, table.since[index])
        was_flapping = state & FLAPPING
        if not first and self._runs_over(index, at_ms):
            state |= FLAPPING
        table.mark(index, state)
        table.since[index] = at_ms
        if was_flapping:
            self._write(index)
        else:
            self._announce(index, at_ms)
        if state & ONLINE:
            self._wheel.insert(index, self._next(index))

    def _runs_over(self, index: int, at_ms: int) -> bool:
        """Fill a device's bucket by one change; tell whether it runs over."""
        settings, flaps = self._settings, self.table.flaps
        drop_ms = settings.flap_window_ms // settings.flap_changes
        empty_ms = flaps[index] = max(flaps[index], at_ms) + drop_ms
        return empty_ms > at_ms + drop_ms * settings.flap_changes

    # -- what comes out ------------------------------------------------------------------------

    def _announce(self, index: int, at_ms: int) -> None:
        row = self._write(index)
        self._outputs.events.append(
            DeviceOnline(row.device_id, at_ms, row.flapping)
            if row.online
            else DeviceOffline(row.device_id, at_ms, row.last_seen_ms, row.flapping)
        )

    def _tell_load(self, index: int) -> None:
        table = self.table
        cpu, memory = table.cpus[index], table.memories[index]
        told = DeviceLoad(table.key(index).decode(), table.seen[index], cpu, memory)
        self._outputs.loads.append(told)
        table.told[index] = round((cpu + memory) * LOAD_STEPS)

    def _write(self, index: int) -> DeviceHealth:
        table = self.table
        row = self._outputs.rows[table.key(index)] = table.row(index)
        table.written[index] = row.last_seen_ms
        return row

    def take(self) -> Outputs:
        """Return what has to be written since the last call."""
        outputs, self._outputs = self._outputs, Outputs()
        return outputs

    def row(self, device_id: str) -> DeviceHealth | None:
        """Return what is known of a device now."""
        index = self.table.index.get(device_id.encode())
        return None if index is None else self.table.row(index)

    def rows(self, after: int, most: int) -> Iterator[tuple[int, DeviceHealth]]:
        """Yield (number, row) of up to ``most`` devices with numbers above ``after``."""
        for index in range(max(after + 1, 0), len(self.table.keys)):
            if most <= 0:
                return
            if self.table.keys[index] is not None:
                most -= 1
                yield index, self.table.row(index)
