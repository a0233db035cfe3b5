"""What is known of the devices of one partition: columns by a dense index.

A million devices must cost what a million small records cost. A row of columns is 62 bytes and its
timer 12 (``wheel.py``); the device's id, its place in the dictionary and its number are the rest,
as they are in ``schedule_table.py``. A free index is used again.

Loads and offsets are kept as 32-bit floats: seven digits, where two are known.
"""

from __future__ import annotations

from array import array
from typing import Final

from schemas.records import DeviceHealth

ONLINE, FLAPPING = 1, 2
"""Bits of a state."""
LOAD_STEPS: Final = 8
"""Steps of load in one unit; CPU and memory together are 0 to 2."""
DOUBTS_MAX: Final = 4_096
"""The most devices of which a heartbeat of before is remembered; then all of it is forgotten."""


class HealthTable:
    """Devices by index, their ids in UTF-8."""

    __slots__ = (
        "_free",
        "ats",
        "cpus",
        "doubts",
        "flapping",
        "flaps",
        "index",
        "keys",
        "memories",
        "offsets",
        "online",
        "seen",
        "sequences",
        "since",
        "states",
        "told",
        "written",
    )

    def __init__(self) -> None:
        self.index: dict[bytes, int] = {}
        self.keys: list[bytes | None] = []
        """Id by index; ``None`` where the index is free."""
        self.states = bytearray()
        self.seen: array[int] = array("q")
        """When the device was last heard of, milliseconds."""
        self.sequences: array[int] = array("q")
        self.ats: array[int] = array("q")
        """When it sent its last heartbeat, by its own clock, milliseconds."""
        self.since: array[int] = array("q")
        """When it went on or off, milliseconds."""
        self.flaps: array[int] = array("q")
        """When its bucket of changes is empty, milliseconds."""
        self.written: array[int] = array("q")
        """``seen`` as it stands in the row."""
        self.cpus: array[float] = array("f")
        self.memories: array[float] = array("f")
        self.offsets: array[float] = array("f")
        self.told = bytearray()
        """Load (CPU and memory together) as it was told last, in ``LOAD_STEPS`` a unit."""
        self.doubts: dict[int, tuple[int, int]] = {}
        """(sequence, at) of a heartbeat of before, by index: the next one may prove a restart."""
        self.online = self.flapping = 0
        self._free: list[int] = []

    def add(self, key: bytes) -> int:
        """Give a new device an index. It is offline, and nothing is known of it."""
        if self._free:
            index = self._free.pop()
            self.keys[index] = key
            self.told[index] = 0
            for times in (self.seen, self.ats, self.since, self.flaps, self.written):
                times[index] = 0
        else:
            index = len(self.keys)
            self.keys.append(key)
            self.states.append(0)
            self.told.append(0)
            for times in (self.seen, self.ats, self.since, self.flaps, self.written):
                times.append(0)
            self.sequences.append(0)
            for values in (self.cpus, self.memories, self.offsets):
                values.append(0.0)
        self.index[key] = index
        return index

    def put(self, row: DeviceHealth) -> int:
        """Take a device in as its row says, which must not be there yet; return its index."""
        index = self.add(row.device_id.encode())
        self.mark(index, (ONLINE if row.online else 0) | (FLAPPING if row.flapping else 0))
        self.seen[index] = self.written[index] = row.last_seen_ms
        self.sequences[index] = row.sequence
        self.ats[index] = row.at_ms
        self.since[index] = row.since_ms
        self.flaps[index] = row.flap_ms
        self.cpus[index] = row.cpu
        self.memories[index] = row.memory
        self.offsets[index] = row.clock_offset_ms
        return index

    def row(self, index: int) -> DeviceHealth:
        """Return the row of an index in use."""
        state = self.states[index]
        return DeviceHealth(
            device_id=self.key(index).decode(),
            online=bool(state & ONLINE),
            flapping=bool(state & FLAPPING),
            since_ms=self.since[index],
            last_seen_ms=self.seen[index],
            sequence=self.sequences[index],
            at_ms=self.ats[index],
            cpu=self.cpus[index],
            memory=self.memories[index],
            clock_offset_ms=self.offsets[index],
            flap_ms=self.flaps[index],
        )

    def key(self, index: int) -> bytes:
        """Return the id of an index in use."""
        key = self.keys[index]
        if key is None:
            raise AssertionError(f"index {index} is not in use")
        return key

    def mark(self, index: int, state: int) -> None:
        """Set a device's state, and count it."""
        old = self.states[index]
        self.states[index] = state
        self.online += (state & ONLINE) - (old & ONLINE)
        self.flapping += (state >> 1 & 1) - (old >> 1 & 1)

    def doubt(self, index: int, sequence: int, at_ms: int) -> None:
        """Remember a heartbeat of before."""
        if len(self.doubts) >= DOUBTS_MAX:
            self.doubts.clear()
        self.doubts[index] = (sequence, at_ms)

    def remove(self, index: int) -> bytes:
        """Forget a device and return its id; its index is free."""
        key = self.key(index)
        self.mark(index, 0)
        del self.index[key]
        self.doubts.pop(index, None)
        self.keys[index] = None
        self._free.append(index)
        return key
