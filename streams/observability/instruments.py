"""The instruments that metrics are made of: counters, gauges, histogram, summary.

Hot paths count in plain Python (0.1 microseconds a count, where ``prometheus_client`` takes 0.6,
and 1.7 with a label look-up); each instrument turns itself into a Prometheus family when it is
scraped. Counting and scraping belong to one thread, the event loop's.

A label either lists its values or takes the first 64 it meets; all others are counted as
``other``, so that no input can make the series grow without bound.
"""

from __future__ import annotations

import bisect
import math
import time
from collections import Counter as Counted
from typing import TYPE_CHECKING

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

from streams.observability.sketch import QuantileSketch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

QUANTILES = (0.5, 0.9, 0.99, 0.999)
"""The quantiles that a summary shows."""
WINDOW_PARTS = 6
"""Parts of the window over which quantiles are told; the oldest is dropped as a new one begins."""
WINDOW_PART_S = 60.0
"""Length of one part, in seconds."""
FRESH = 512
"""Observations that wait to be added to a sketch together."""
MAX_LABEL_VALUES = 64
"""The most values an open label takes; further ones are counted as ``other``."""
OTHER = "other"
"""The label value of all that was not listed or came too late."""


class Counter:
    """A number that only grows. ``counter.inc()`` or, in a batch, ``counter.inc(n)``."""

    __slots__ = ("help_text", "name", "total")

    def __init__(self, name: str, help_text: str) -> None:
        self.name = name
        self.help_text = help_text
        self.total: float = 0

    def inc(self, amount: float = 1) -> None:
        """Add ``amount``, which is not negative."""
        self.total += amount

    def family(self) -> Metric:
        """Return the counter as Prometheus sees it."""
        return CounterMetricFamily(self.name, self.help_text, value=self.total)


class LabelledCounter:
    """A counter for each value of one label; the values are bounded."""

    __slots__ = ("_listed", "help_text", "label", "name", "totals")

    def __init__(self, name: str, help_text: str, label: str, values: Sequence[str] = ()) -> None:
        self.name = name
        self.help_text = help_text
        self.label = label
        self._listed = bool(values)
        self.totals: dict[str, float] = dict.fromkeys(values, 0)

    def inc(self, value: str, amount: float = 1) -> None:
        """Add ``amount`` to the counter of the label value ``value``."""
        try:
            self.totals[value] += amount
        except KeyError:
            room = not self._listed and len(self.totals) < MAX_LABEL_VALUES
            kept = value if room else OTHER
            self.totals[kept] = self.totals.get(kept, 0) + amount

    def __getitem__(self, value: str) -> float:
        """Return what was counted for ``value``; 0 where nothing was."""
        return self.totals.get(value, 0)

    def family(self) -> Metric:
        """Return the counters as Prometheus sees them."""
        family = CounterMetricFamily(self.name, self.help_text, labels=[self.label])
        for value, total in self.totals.items():
            family.add_metric([value], total)
        return family


class Gauge:
    """A number that goes up and down: set it, or bind a function that is asked at each scrape."""

    __slots__ = ("_read", "help_text", "name", "value")

    def __init__(self, name: str, help_text: str) -> None:
        self.name = name
        self.help_text = help_text
        self.value: float = 0
        self._read: Callable[[], float] | None = None

    def set(self, value: float) -> None:
        """Make the gauge show ``value``."""
        self.value = value

    def bind(self, read: Callable[[], float]) -> None:
        """Ask ``read`` at each scrape from now on; it must be quick and must not raise."""
        self._read = read

    def read(self) -> float:
        """Return what the gauge shows now."""
        return self.value if self._read is None else self._read()

    def family(self) -> Metric:
        """Return the gauge as Prometheus sees it."""
        return GaugeMetricFamily(self.name, self.help_text, value=self.read())


class LabelledGauge:
    """A gauge for each value of one label; a bound function is asked for each at each scrape."""

    __slots__ = ("_read", "_values", "help_text", "label", "name")

    def __init__(self, name: str, help_text: str, label: str, values: Sequence[str]) -> None:
        self.name = name
        self.help_text = help_text
        self.label = label
        self._values = tuple(values)
        self._read: Callable[[str], float] = lambda _value: 0.0

    def bind(self, read: Callable[[str], float]) -> None:
        """Ask ``read`` from now on; it must be quick and must not raise."""
        self._read = read

    def __getitem__(self, value: str) -> float:
        """Return what the gauge of ``value`` shows now."""
        return self._read(value)

    def family(self) -> Metric:
        """Return the gauges as Prometheus sees them."""
        family = GaugeMetricFamily(self.name, self.help_text, labels=[self.label])
        for value in self._values:
            family.add_metric([value], self._read(value))
        return family


class PartitionGauge:
    """A gauge for each partition that a bound function tells of; at most 1,024 have one."""

    __slots__ = ("_read", "help_text", "name")

    def __init__(self, name: str, help_text: str) -> None:
        self.name = name
        self.help_text = help_text
        self._read: Callable[[], Mapping[int, float]] = dict

    def bind(self, read: Callable[[], Mapping[int, float]]) -> None:
        """Ask ``read`` at each scrape from now on; it must be quick and must not raise."""
        self._read = read

    def __getitem__(self, partition: int) -> float:
        """Return what the gauge of a partition shows now. KeyError: it is not shown."""
        return self._read()[partition]

    def family(self) -> Metric:
        """Return the gauges as Prometheus sees them."""
        family = GaugeMetricFamily(self.name, self.help_text, labels=["partition"])
        for number, value in sorted(self._read().items()):
            family.add_metric([str(number)], value)
        return family


class Histogram:
    """Counts of observations by upper bounds; ``bounds`` ascend."""

    __slots__ = ("_bounds", "counts", "help_text", "name", "total")

    def __init__(self, name: str, help_text: str, bounds: Sequence[float]) -> None:
        self.name = name
        self.help_text = help_text
        self._bounds = tuple(bounds)
        self.counts = [0] * (len(self._bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count one observation; a value equal to a bound belongs under that bound."""
        self.counts[bisect.bisect_left(self._bounds, value)] += 1
        self.total += value

    @property
    def count(self) -> int:
        """How many observations there were."""
        return sum(self.counts)

    def family(self) -> Metric:
        """Return the histogram as Prometheus sees it: counts up to and including each bound."""
        running = 0
        buckets: list[tuple[str, float]] = []
        for bound, count in zip((*self._bounds, math.inf), self.counts, strict=True):
            running += count
            buckets.append(("+Inf" if bound == math.inf else repr(bound), running))
        return HistogramMetricFamily(
            self.name, self.help_text, buckets=buckets, sum_value=self.total
        )


class Summary:
    """Quantiles over the last minutes, with sum and count since the start.

    ``clock`` gives monotonic seconds.
    """

    __slots__ = ("_clock", "_fresh", "_parts", "_retired", "_turn_s", "help_text", "name")

    def __init__(
        self, name: str, help_text: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.name = name
        self.help_text = help_text
        self._clock = clock
        self._parts = [QuantileSketch()]
        self._retired = QuantileSketch()
        self._fresh: list[float] = []
        self._turn_s = clock() + WINDOW_PART_S

    def observe(self, value: float) -> None:
        """Count one observation: 0.15 microseconds, as equal ones reach the sketch together."""
        if self._clock() >= self._turn_s:
            self._turn()
        fresh = self._fresh
        fresh.append(value)
        if len(fresh) >= FRESH:
            self._fold()

    def _fold(self) -> None:
        """Add what was observed to the part that it belongs to."""
        part = self._parts[-1]
        for value, count in Counted(self._fresh).items():
            part.add(value, count)
        self._fresh.clear()

    def window(self) -> QuantileSketch:
        """Return a sketch of what was observed in the window (five to six minutes)."""
        if self._clock() >= self._turn_s:
            self._turn()
        self._fold()
        return _merged(self._parts)

    def total(self) -> QuantileSketch:
        """Return a sketch of everything observed since the start."""
        self._fold()
        return _merged([self._retired, *self._parts])

    def _turn(self) -> None:
        """Begin a new part for each one that has passed; keep what leaves the window."""
        self._fold()
        passed = int((self._clock() - self._turn_s) // WINDOW_PART_S) + 1
        self._turn_s += passed * WINDOW_PART_S
        self._parts.extend(QuantileSketch() for _ in range(min(passed, WINDOW_PARTS)))
        while len(self._parts) > WINDOW_PARTS:
            self._retired.merge(self._parts.pop(0))

    def family(self) -> Metric:
        """Return the summary as Prometheus sees it; a quantile of nothing is NaN."""
        window = self.window()
        total = self.total()
        family = Metric(self.name, self.help_text, "summary")
        for share in QUANTILES:
            answer = window.quantile(share)
            value = math.nan if answer is None else answer
            family.add_sample(self.name, {"quantile": str(share)}, value)
        family.add_sample(self.name + "_sum", {}, total.total)
        family.add_sample(self.name + "_count", {}, total.count)
        return family


def _merged(sketches: Iterable[QuantileSketch]) -> QuantileSketch:
    """Return one sketch of all that ``sketches`` have counted."""
    whole = QuantileSketch()
    for sketch in sketches:
        whole.merge(sketch)
    return whole


Instrument = (
    Counter | LabelledCounter | Gauge | LabelledGauge | PartitionGauge | Histogram | Summary
)
