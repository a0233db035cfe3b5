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

from typing import TYPE_CHECKING

from schemas.records import DeviceCaptures, EndedCapture, OpenCapture
from schemas.spliced import CaptureWriter
from streams.core import capture

if TYPE_CHECKING:
    from schemas.codec import Codec
    from schemas.records import CaptureCommand
    from schemas.spliced import Pieces
    from streams.observability.metrics import Metrics
    from streams.runtime.batch import StateKey
    from streams.runtime.partition import Partition, Step

TABLE = "captures"
RESULTS = "capture.results"
DEVICE_EVENTS = "device.events"
IDLE_ROWS = 20_000
"""Most rows without open captures kept decoded, a partition; about 0.8 kB each."""


class CaptureState:
    """The rows of ``captures`` of one partition."""

    def __init__(self, partition: Partition, codec: Codec, metrics: Metrics) -> None:
        self.partition = partition
        self._codec = codec
        self._writer = CaptureWriter(codec)
        self._metrics = metrics
        self._rows: dict[str, DeviceCaptures] = {}
        """Rows of devices with open captures."""
        self._idle: dict[str, DeviceCaptures] = {}
        """Rows lately written of devices without, oldest first: a read and a decode saved each."""
        self._devices: dict[int, str] = {}
        """Device of each open capture, by command id."""
        self._pieces: dict[int, Pieces] = {}
        """What is encoded already of each open capture, by command id."""
        self._ended: dict[str, dict[int, bytes]] = {}
        """The same of what ended lately, by device and command id; of devices held above."""

    @property
    def open_count(self) -> int:
        """Captures that have not ended."""
        return len(self._devices)

    def load(self) -> list[OpenCapture]:
        """Read the table after a recovery; return the captures that are open."""
        opened: dict[str, list[OpenCapture]] = {}
        for key, value in self.partition.rows(TABLE):
            if b"\0" in key:
                entry = self._codec.decode_as(value, OpenCapture)
                opened.setdefault(entry.command.device_id, []).append(entry)
        for device_id, entries in opened.items():
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
        device_id = self._devices.get(command_id)
        if device_id is None:
            return None
        found = capture.find(self._rows[device_id], command_id)
        return found if isinstance(found, OpenCapture) else None

    def find(self, device_id: str, command_id: int) -> OpenCapture | EndedCapture | None:
        """Return what is known of a capture of this device."""
        return capture.find(self.row(device_id), command_id)

    def device_of(self, command_id: int) -> str | None:
        """Return the device of an open capture."""
        return self._devices.get(command_id)

    def keys_of(self, device_id: str, command_id: int) -> tuple[StateKey, ...]:
        """Return the keys of the rows that say where a capture stands."""
        number = self.partition.number
        return (
            (TABLE, number, _open_key(device_id, command_id)),
            (TABLE, number, device_id.encode()),
        )

    def received(self, command: CaptureCommand, value: bytes | None) -> None:
        """Keep a new command's bytes as they came: its records are made of them."""
        self._pieces[command.command_id] = self._writer.pieces(command, value)

    def _pieces_of(self, command: CaptureCommand) -> Pieces:
        pieces = self._pieces.get(command.command_id)
        if pieces is None:
            pieces = self._pieces[command.command_id] = self._writer.pieces(command)
        return pieces

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
                command = entry.command
                value = self._writer.open_row(entry, self._pieces_of(command))
                step.put(TABLE, _open_key(device_id, command.command_id), value)
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
                data = writer.ended(ended, self._pieces.get(command_id))
            new[command_id] = data
        self._ended[device_id] = new
        step.put(TABLE, key, writer.ended_row(device_id, new.values(), row.failures))
        for result in change.results:
            command_id = result.command_id
            pieces = self._pieces.pop(command_id, None)
            value = self._codec.encode(result) if pieces is None else writer.result(result, pieces)
            step.produce(RESULTS, key, value)
            self._metrics.captures.inc(result.state)
            if self._devices.pop(command_id, None) is not None:
                step.put(TABLE, _open_key(device_id, command_id), None)
        for event in change.events:
            step.produce(DEVICE_EVENTS, key, self._codec.encode(event))

    def _keep(self, row: DeviceCaptures) -> None:
        if not row.open:
            self._rows.pop(row.device_id, None)
            self._idle.pop(row.device_id, None)
            self._idle[row.device_id] = row
            if len(self._idle) > IDLE_ROWS:
                oldest = next(iter(self._idle))
                del self._idle[oldest]
                self._ended.pop(oldest, None)
            return
        self._idle.pop(row.device_id, None)
        self._rows[row.device_id] = row
        for entry in row.open:
            self._devices[entry.command.command_id] = row.device_id


def _open_key(device_id: str, command_id: int) -> bytes:
    return f"{device_id}\0{command_id}".encode()
