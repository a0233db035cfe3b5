"""The devices that gave a reason to be remembered: their breakers and how they answered.

In memory, of this worker, bounded: the device whose last attempt lies back the longest goes first,
and is trusted again. A device that answers well is not in here, so most of a fleet costs a look-up
in a small table. After a restart it is empty, but for what the ``captures`` table says: a device
whose last captures FAILED begins with that (:meth:`Troubled.recall`).
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, NamedTuple

from streams.core import answers, breaker

if TYPE_CHECKING:
    from streams.agents.capture_settings import AdmissionSettings
    from streams.observability.metrics import Metrics


class Record(NamedTuple):
    """What is held against a device."""

    breaker: breaker.Breaker
    answers: answers.Answers


CLEAN = Record(breaker.CLOSED, answers.TRUSTED)


class Troubled:
    """The records of devices that are not clean."""

    def __init__(self, settings: AdmissionSettings, metrics: Metrics) -> None:
        """Begin with nobody in trouble."""
        self._settings = settings
        self._metrics = metrics
        self._records: OrderedDict[str, Record] = OrderedDict()
        self._open = 0
        self.find = self._records.get
        """Return a device's record; None: there is nothing against it."""
        metrics.open_breakers.bind(lambda: self._open)
        metrics.troubled_devices.bind(lambda: len(self._records))

    def __len__(self) -> int:
        return len(self._records)

    def recall(self, device_id: str, failures: int) -> Record:
        """Return the record of a device of which the table says how many captures FAILED."""
        known = self._records.get(device_id)
        if known is not None:
            return known
        before = min(failures, self._settings.breaker.failures - 1)
        record = Record(breaker.Breaker(before), answers.after_failures(failures))
        self._keep(device_id, CLEAN, record)
        return record

    def photo(self, device_id: str, *, quick: bool) -> None:
        """Note an attempt that gave a photo."""
        before = self._records.get(device_id)
        if before is None:
            if quick:
                return
            before = CLEAN
        after = answers.noted(before.answers, photo=True, quick=quick)
        self._keep(device_id, before, Record(breaker.on_success(before.breaker), after))

    def failure(self, device_id: str, cause: str, now_ms: int, *, quick: bool) -> None:
        """Note an attempt that failed, for a cause that says something of the device."""
        if cause in breaker.NOT_THE_DEVICE:
            return
        before = self._records.get(device_id, CLEAN)
        after = breaker.on_failure(before.breaker, now_ms, cause, self._settings.breaker)
        if after.trips > before.breaker.trips:
            self._metrics.breaker_trips.inc()
        noted = answers.noted(before.answers, photo=False, quick=quick)
        self._keep(device_id, before, Record(after, noted))

    def forgive(self, device_id: str) -> None:
        """Forget what is held against a device: it was changed, reset, or has come back."""
        record = self._records.get(device_id)
        if record is not None:
            self._keep(device_id, record, CLEAN)

    def _keep(self, device_id: str, before: Record, after: Record) -> None:
        self._open += (after.breaker.trips > 0) - (before.breaker.trips > 0)
        if after == CLEAN:
            self._records.pop(device_id, None)
            return
        self._records[device_id] = after
        self._records.move_to_end(device_id)
        if len(self._records) > self._settings.max_troubled:
            _, oldest = self._records.popitem(last=False)
            self._open -= oldest.breaker.trips > 0
