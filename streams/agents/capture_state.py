"""The state machine of captures: the ``captures`` table, capture.results, and failing devices.

The only writer of capture.results, and of DeviceFailing and DeviceRecovered in device.events. What
happens to a capture is computed by ``streams.core.capture``; this file turns its answers into rows
(the write-ahead log is the table's changelog) and results, in the step of whoever caused the
change, and keeps the rows of devices that have open captures at hand.

The table has a row for each open capture (key: device id, NUL, command id), deleted when it ends,
and one a device with the captures that ended lately (key: device id), written when one ends. So a
change costs one small row however many captures the device has open, and a capture three.

It also answers where a capture stands, after everything written so far is committed, so that a
caller reads its own writes (SPEC 2.4).
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from schemas.records import DeviceCaptures, EndedCapture, OpenCapture
from schemas.spliced import CaptureWriter
from streams.core import capture

if TYPE_CHECKING:
    from schemas.codec import Codec
    from schemas.records import CaptureCommand
    from schemas.spliced import Cuts, Pieces
    from streams.observability.metrics import Metrics
    from streams.runtime.batch import StateKey
    from streams.runtime.partition import Partition, Step

TABLE = "captures"
RESULTS = "capture.results"
DEVICE_EVENTS = "device.events"
IDLE_ROWS = 20_000
"""Most rows without open captures kept decoded, a partition; about 0.8 kB each."""


class _Held:
    """What is kept of an open capture."""

    __slots__ = ("device_id", "entry", "key", "pieces")

    def __init__(self, device_id: str, command_id: int, pieces: Pieces) -> None:
        self.device_id = device_id
        self.key = _open_key(device_id, command_id)
        self.pieces = pieces
        self.entry: OpenCapture | None = None
        """None: it has no row yet."""


class CaptureState:
    """The rows of ``captures`` of one partition."""

    def __init__(self, partition: Partition, codec: Codec, metrics: Metrics) -> None:
        self.partition = partition
        self._codec = codec
        self._writer = CaptureWriter(codec)
        self._metrics = metrics
        self._rows: dict[str, DeviceCaptures] = {}
        """Rows of devices with open captures."""
        self._idle: OrderedDict[str, DeviceCaptures] = OrderedDict()
        """Rows lately written of devices without, oldest first: a read and a decode saved each."""
        self._held: dict[int, _Held] = {}
        """The open captures, by command id."""
        self._ended: dict[str, dict[int, bytes]] = {}
        """The same of what ended lately, by device and command id; of devices held above."""

    @property
    def open_count(self) -> int:
        """Captures that have not ended."""
        return len(self._held)

    @property
    def rows_open(self) -> int:
        """Decoded rows of devices with open captures."""
        return len(self._rows)

    @property
    def rows_idle(self) -> int:
        """Decoded rows of devices without; at most ``IDLE_ROWS``."""
        return len(self._idle)

    def load(self) -> list[OpenCapture]:
        """Read the table after a recovery; return the captures that are open."""
        opened: dict[str, list[OpenCapture]] = {}
        for key, value in self.partition.rows(TABLE):
            if b"\0" in key:
                entry = self._codec.decode_as(value, OpenCapture)
                opened.setdefault(entry.command.device_id, []).append(entry)
        for device_id, entries in opened.items():
            for entry in entries:
                self._hold(entry)
            row = self.row(device_id)
            self._keep(DeviceCaptures(device_id, tuple(entries), row.ended, row.failures))
        return [entry for entries in opened.values() for entry in entries]

    def row(self, device_id: str) -> DeviceCaptures:
        """Return a device's row as the steps so far have left it."""
        row = self._rows.get(device_id) or self._idle.get(device_id)
        if row is not None:
            return row
        value = self.partition.get(TABLE, device_id.encode())
        if value is None:
            return DeviceCaptures(device_id)
        return self._codec.decode_as(value, DeviceCaptures)

    def find_open(self, command_id: int) -> OpenCapture | None:
        """Return an open capture by its command id."""
        held = self._held.get(command_id)
        return None if held is None else held.entry

    def find(self, device_id: str, command_id: int) -> OpenCapture | EndedCapture | None:
        """Return what is known of a capture of this device."""
        return capture.find(self.row(device_id), command_id)

    def device_of(self, command_id: int) -> str | None:
        """Return the device of an open capture."""
        held = self._held.get(command_id)
        return None if held is None else held.device_id

    def holds(self, device_id: str) -> bool:
        """Say whether a device's row is at hand: its records have been found to belong here."""
        return device_id in self._rows or device_id in self._idle

    def keys_of(self, device_id: str, command_id: int) -> tuple[StateKey, ...]:
        """Return the keys of the rows that say where a capture stands."""
        number = self.partition.number
        return (
            (TABLE, number, _open_key(device_id, command_id)),
            (TABLE, number, device_id.encode()),
        )

    def received(
        self, command: CaptureCommand, value: bytes | None, cuts: Cuts | None = None
    ) -> None:
        """Keep a new command's bytes as they came: its records are made of them."""
        pieces = self._writer.pieces(command, value, cuts)
        self._held[command.command_id] = _Held(command.device_id, command.command_id, pieces)

    def write(self, step: Step, change: capture.Change) -> None:
        """Put a change into the step: what is open now, what ended, and the results.

        A change is made by the clock (armed, expired), so its commit compares the clock with the
        broker's: a worker whose clock is wrong opens no shutter and gives no capture up.
        """
        step.clocked(self.partition.changelogs[TABLE])
        row, device_id = change.state, change.state.device_id
        known = self._rows.get(device_id)
        before = known.open if known is not None else ()
        for entry in row.open:
            for other in before:
                if other is entry:
                    break
            else:
                held = self._held.get(entry.command.command_id) or self._hold(entry)
                held.entry = entry
                step.put(TABLE, held.key, self._writer.open_row(entry, held.pieces))
        if change.results:
            self._end(step, change)
        self._keep(row)

    def _end(self, step: Step, change: capture.Change) -> None:
        """Write the results, and the device's row of what ended lately."""
        row, device_id, writer = change.state, change.state.device_id, self._writer
        key = device_id.encode()
        old, new = self._ended.get(device_id, {}), {}
        for ended in row.ended:
            command_id = ended.command_id
            data = old.get(command_id)
            if data is None:
                held = self._held.get(command_id)
                data = writer.ended(ended, None if held is None else held.pieces)
            new[command_id] = data
        self._ended[device_id] = new
        step.put(TABLE, key, writer.ended_row(device_id, new.values(), row.failures))
        for result in change.results:
            held = self._held.pop(result.command_id, None)
            if held is None:
                value = self._codec.encode(result)
            else:
                value = writer.result(result, held.pieces)
                if held.entry is not None:
                    step.put(TABLE, held.key, None)
            step.produce(RESULTS, key, value)
            self._metrics.captures.inc(result.state)
        for event in change.events:
            step.produce(DEVICE_EVENTS, key, self._codec.encode(event))

    def _hold(self, entry: OpenCapture) -> _Held:
        command = entry.command
        self.received(command, None)
        held = self._held[command.command_id]
        held.entry = entry
        return held

    def _keep(self, row: DeviceCaptures) -> None:
        if row.open:
            self._idle.pop(row.device_id, None)
            self._rows[row.device_id] = row
            return
        self._rows.pop(row.device_id, None)
        self._idle.pop(row.device_id, None)
        self._idle[row.device_id] = row
        if len(self._idle) > IDLE_ROWS:
            oldest, _ = self._idle.popitem(last=False)
            self._ended.pop(oldest, None)


def _open_key(device_id: str, command_id: int) -> bytes:
    return f"{device_id}\0{command_id}".encode()
