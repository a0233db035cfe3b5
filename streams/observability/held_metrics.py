"""What a worker holds in memory that could grow: queues, overlays, what is in flight; by name.

A part of ``Metrics``. Each is bounded where it is kept; here one can see how full it is. A test
(``test_held_is_exported.py``) names every collection of runtime and agents with its metric, or the
reason why it has none.
"""

from __future__ import annotations

from typing import Final

from streams.observability.instruments import Gauge, LabelledGauge

HELD: Final = (
    *("arming", "held_back", "ending", "searched", "preparing"),
    *("device_lines", "host_lines", "rows_open", "rows_idle", "profiles", "loads"),
)
"""What is told of a captures worker:

``arming`` pending captures, by the time that they are to be armed; ``held_back`` due while their
partition was paused; ``ending`` ended and not yet written; ``searched`` looked for again in the
blob store; ``preparing`` cameras being made ready;
``device_lines``, ``host_lines`` devices and hosts at which captures wait for one another;
``rows_open`` decoded rows of devices with open captures, ``rows_idle`` of those without;
``profiles``, ``loads`` of devices, decoded.
"""


class HeldMetrics:
    """How much of everything there is."""

    def _held(self) -> None:
        """Define it."""
        self.held = LabelledGauge(
            "shutterwheel_held",
            "What a captures worker holds in memory, by what it is.",
            "what",
            HELD,
        )
        self.cached_rows = Gauge(
            "shutterwheel_cached_rows", "Committed rows that are read without asking RocksDB."
        )
        self.unwritten_rows = Gauge(
            "shutterwheel_unwritten_rows", "Committed rows that RocksDB does not have yet."
        )
        self.overlay_rows = Gauge(
            "shutterwheel_overlay_rows", "Rows written and not yet committed."
        )
        self.queued_records = Gauge(
            "shutterwheel_queued_records", "Records received and not yet worked on."
        )
        self.queued_outputs = Gauge(
            "shutterwheel_queued_outputs", "Outputs that wait for the producer."
        )
