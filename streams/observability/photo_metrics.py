"""What is told of judging photos, and of deleting them; a part of ``Metrics``."""

from __future__ import annotations

from streams.observability.instruments import Counter, Gauge, LabelledCounter

REMOTE_FAILURES = (
    *("away", "slow", "hurried", "not_ready", "no_model", "wrong_model", "nonsense", "denied"),
    "refused",
)
"""Kinds of ``connectors/images/quality/v2.py``, and ``hurried``: the photos had no time for it."""


class PhotoMetrics:
    """Judged by what, the server's failures, and photos whose time is over."""

    def _quality(self) -> None:
        """Define what is told of a server of models that judges photos (SPEC 4.4)."""
        self.quality_server = Gauge(
            "shutterwheel_quality_server_well",
            "1: the server of models judges photos; 0: they are judged here, as it is away or none "
            "is named.",
        )
        self.quality_failures = LabelledCounter(
            "shutterwheel_quality_server_failures_total",
            "Calls of the server of models that gave no use, photos' and looks, by kind.",
            "kind",
            REMOTE_FAILURES,
        )
        self.verdicts = LabelledCounter(
            "shutterwheel_verdicts_total",
            "Photos that were to be judged, by what judged them.",
            "by",
            ("server", "here", "nobody"),
        )

    def _photos(self) -> None:
        """Define what is counted where photos are deleted whose time is over."""
        self.pruned_photos = Counter(
            "shutterwheel_pruned_photos_total", "Photos deleted, as their schedule's keep was over."
        )
        self.pruned_bytes = Counter(
            "shutterwheel_pruned_bytes_total", "Bytes of these, and of what lay beside them."
        )
        self.prune_failures = Counter(
            "shutterwheel_prune_failures_total", "Times that the blob store was not gone through."
        )
        self.pruned_at = Gauge(
            "shutterwheel_pruned_timestamp_seconds",
            "When the blob store was last gone through to its end; 0: not yet.",
        )
