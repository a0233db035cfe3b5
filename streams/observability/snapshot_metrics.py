"""What is told of the wheel's snapshots; a part of ``Metrics``."""

from __future__ import annotations

from streams.observability.instruments import Counter, PartitionGauge


class SnapshotMetrics:
    """Age, size, number and failures of snapshots."""

    def _snapshots(self) -> None:
        """Define them."""
        self.snapshot_age = PartitionGauge(
            "shutterwheel_snapshot_age_seconds",
            "Seconds since the last snapshot of a partition of this worker, or since it came here "
            "where there is none; more than twice --snapshot-every: they fail.",
        )
        self.snapshot_bytes = PartitionGauge(
            "shutterwheel_snapshot_bytes",
            "Size of the file of the last snapshot that this worker has written of a partition.",
        )
        self.snapshots = Counter(
            "shutterwheel_snapshots_total", "Snapshots of partitions written beside the ticks."
        )
        self.snapshot_failures = Counter(
            "shutterwheel_snapshot_failures_total",
            "Snapshots that could not be made, as the blob store failed; the wheel goes on.",
        )
