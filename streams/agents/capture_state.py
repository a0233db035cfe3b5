"""The state machine of captures: the ``captures`` table and capture.results.

The only writer of capture.results. What happens to a capture is computed by
``streams.core.capture``; this file turns its answers into rows (the write-ahead log is the
table's changelog) and results, in the step of whoever caused the change, and keeps the rows of
devices that have open captures at hand.

It also answers where a capture stands, after everything written so far is committed, so that a
caller reads its own writes (SPEC 2.4).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from schemas.records import DeviceCaptures, EndedCapture, OpenCapture
from streams.core import capture

if TYPE_CHECKING:
    from schemas.codec import Codec
    from streams.observability.metrics import Metrics
    from streams.runtime.partition import Partition, Step

TABLE = "captures"
RESULTS = "capture.results"


class CaptureState:
    """The rows of ``captures`` of one partition."""

    def __init__(self, partition: Partition, codec: Codec, metrics: Metrics) -> None:
        self.partition = partition
        self._codec = codec
        self._metrics = metrics
        self._rows: dict[str, DeviceCaptures] = {}
        """Rows of devices with open captures; all others are read from the table."""
        self._devices: dict[int, str] = {}
        """Device of each open capture, by command id."""

    @property
    def open_count(self) -> int:
        """Captures that have not ended."""
        return len(self._devices)

    def load(self) -> list[OpenCapture]:
        """Read the table after a recovery; return the captures that are open."""
        found: list[OpenCapture] = []
        for _, value in self.partition.rows(TABLE):
            row = self._codec.decode_as(value, DeviceCaptures)
            if row.open:
                self._keep(row)
                found.extend(row.open)
        return found

    def row(self, device_id: str) -> DeviceCaptures:
        """Return a device's row as the steps so far have left it."""
        row = self._rows.get(device_id)
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

    def write(self, step: Step, change: capture.Change) -> None:
        """Put a change into the step: the device's row and the results of what ended."""
        row = change.state
        key = row.device_id.encode()
        empty = capture.is_empty(row)
        step.put(TABLE, key, None if empty else self._codec.encode(row))
        for result in change.results:
            step.produce(RESULTS, key, self._codec.encode(result))
            self._metrics.captures.inc(result.state)
            self._devices.pop(result.command_id, None)
        self._keep(row)

    def _keep(self, row: DeviceCaptures) -> None:
        if not row.open:
            self._rows.pop(row.device_id, None)
            return
        self._rows[row.device_id] = row
        for entry in row.open:
            self._devices[entry.command.command_id] = row.device_id
