"""Every metric of a worker, in one place: its name, help text, unit and labels.

``camera_task_delay_seconds`` is a summary. Its quantiles tell of the last five to six minutes,
as those of other Prometheus clients do: since the start of the process they would hide a bad hour
behind a good month. ``_sum`` and ``_count`` are since the start. Quantiles of several workers
cannot be averaged; ``GET /sketches`` gives the sketches, which merge exactly (``sketch.py``).

No device, schedule or request id is ever a label value. Counting belongs to the event loop's
thread, and so does scraping; an instrument costs 0.1 microseconds a count (``instruments.py``).
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from streams.observability.instruments import (
    Counter,
    Gauge,
    Histogram,
    Instrument,
    LabelledCounter,
    LabelledGauge,
    Summary,
)
from streams.observability.photo_metrics import PhotoMetrics
from streams.observability.snapshot_metrics import SnapshotMetrics

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

COMMIT_BUCKETS_S = (0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12)
"""Upper bounds of the commit histogram, in seconds; a commit takes 10 to 60 ms when all is well."""
STAGES = (
    *("commands", "arm", "open", "decide"),  # on the event loop; see capture_executor.py
    *("produce", "flush", "end", "store"),  # of a commit, in its thread; see committer.py
)
"""The stages whose time is counted."""
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""The media type of :meth:`Metrics.exposition`."""


class Metrics(SnapshotMetrics, PhotoMetrics, Collector):
    """The metrics of one worker, on a registry of its own. The attributes are all there are.

    ``app`` and ``worker`` name the worker in ``shutterwheel_worker_info``.
    """

    def __init__(
        self, app: str, worker: str, version: str = "", clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._info = {"app": app, "worker": worker, "version": version}
        self._captures(clock)
        self._admission()
        self._schedules()
        self._runtime()
        self._clock()
        self._devices()
        self._photos()
        self._quality()
        self._kafka()
        self.registry = CollectorRegistry(auto_describe=False)
        self.registry.register(self)
        ProcessCollector(registry=self.registry)

    def _captures(self, clock: Callable[[], float]) -> None:
        """Define what is counted about photos and devices."""
        self.task_delay = Summary(
            "camera_task_delay_seconds",
            "Scheduled time to the opening of the shutter, in seconds, by quantile over the last "
            "minutes; negative: early, which must never be.",
            clock,
        )
        self.online_devices = Gauge(
            "agent_online_devices_total",
            "Devices that device health takes to be online now: heard of within the timeout.",
        )
        self.captures = LabelledCounter(
            "shutterwheel_captures_total",
            "Captures that ended, by final state.",
            "state",
            ("SUCCESS", "FAILED", "EXPIRED", "REVOKED"),
        )
        self.attempts = Counter(
            "shutterwheel_capture_attempts_total", "Attempts begun: a shutter was to open."
        )
        self.attempt_failures = LabelledCounter(
            "shutterwheel_capture_attempt_failures_total",
            "Attempts that gave no photo, by cause.",
            "cause",
        )
        self.early_shutters = Counter(
            "shutterwheel_early_shutters_total",
            "Shutters that opened before their scheduled time; anything but 0 is a bug.",
        )
        self.recovered_captures = Counter(
            "shutterwheel_recovered_captures_total",
            "Captures decided after a restart by the blob that was found.",
        )
        self.open_captures = Gauge(
            "shutterwheel_open_captures", "Captures that have not ended, pending and running."
        )
        self.armed_captures = Gauge(
            "shutterwheel_armed_captures",
            "Captures whose RUNNING is written and whose shutter is still to open.",
        )
        self.in_flight_captures = Gauge(
            "shutterwheel_in_flight_captures",
            "Captures between the opening of the shutter and the end of their input and output.",
        )
        self.illegal_transitions = Counter(
            "shutterwheel_illegal_transitions_total",
            "Changes of a capture's state that its table does not allow; dead-lettered.",
        )
        self.duplicates_ignored = Counter(
            "shutterwheel_duplicates_ignored_total",
            "Commands and events that were known already and changed nothing.",
        )
        self.blob_bytes = Counter(
            "shutterwheel_blob_bytes_total", "Image bytes handed to the blob store."
        )

    def _admission(self) -> None:
        """Define what is told of pools, breakers and those that wait (SPEC 2.3, 2.5, 3.2)."""
        pool = ("pool", ("hot", "new", "cold"))
        self.pool_size = LabelledGauge(
            "shutterwheel_pool_size", "Captures that a pool lets be under way at once.", *pool
        )
        self.pool_in_use = LabelledGauge(
            "shutterwheel_pool_in_use",
            "Captures under way, by the pool they count with; more than its size: it has shrunk, "
            "or attempts of the hot pool became slow.",
            *pool,
        )
        self.pool_queue = LabelledGauge(
            "shutterwheel_pool_queue", "Captures whose time has come that wait for a pool.", *pool
        )
        self.cold_pool_cut = Gauge(
            "shutterwheel_cold_pool_cut", "1: the cold pool is cut, as too many attempts fail."
        )
        self.cold_pool_cuts = Counter(
            "shutterwheel_cold_pool_cuts_total", "Times that the cold pool was cut."
        )
        self.error_rate = Gauge(
            "shutterwheel_attempt_error_ratio",
            "Share of the attempts of about the last ten seconds that gave no photo.",
        )
        self.moved_attempts = Counter(
            "shutterwheel_moved_attempts_total",
            "Attempts that became slow and were counted with the cold pool from then on.",
        )
        self.capture_waits = LabelledCounter(
            "shutterwheel_capture_waits_total",
            "Times that a capture whose time had come had to wait, by what for.",
            "for",
            ("device", "host", "hot", "new", "cold"),
        )
        self.shed_captures = LabelledCounter(
            "shutterwheel_shed_captures_total",
            "Captures given up because there was more to do than could be done, by reason.",
            "reason",
            ("hopeless", "full", "overload"),
        )
        self.open_breakers = Gauge(
            "shutterwheel_open_breakers", "Devices whose circuit breaker is open or half open."
        )
        self.troubled_devices = Gauge(
            "shutterwheel_troubled_devices", "Devices whose slow or failed attempts are remembered."
        )
        self.breaker_trips = Counter(
            "shutterwheel_breaker_trips_total", "Times that a device's circuit breaker opened."
        )
        self.breaker_holds = LabelledCounter(
            "shutterwheel_breaker_holds_total",
            "Captures that met an open breaker, by what became of them.",
            "outcome",
            ("waited", "given_up"),
        )
        self.retry_budgets = LabelledCounter(
            "shutterwheel_retry_budgets_total",
            "Failed attempts, by the most retries that the device's health allowed.",
            "retries",
            ("0", "1", "2", "3"),
        )
        self.preparations = LabelledCounter(
            "shutterwheel_preparations_total",
            "Devices that were to be made ready in the lead, by outcome.",
            "outcome",
            ("ready", "failed", "left_out"),
        )
        self.worker_cpu = Gauge(
            "shutterwheel_worker_cpu_ratio", "This worker's share of a core, over five seconds."
        )
        self.worker_mem = Gauge(
            "shutterwheel_machine_memory_ratio", "Share of the machine's memory not available."
        )

    def _schedules(self) -> None:
        """Define what is counted about schedules."""
        self.ticks = Counter("shutterwheel_ticks_total", "Ticks written to the journal.")
        self.decisions = LabelledCounter(
            "shutterwheel_decisions_total",
            "Decisions on events and schedules, by kind.",
            "kind",
            ("Accepted", "AlreadyKnown", "Refused", "Skipped", "AutoPaused", "Ended"),
        )
        self.commands_issued = Counter(
            "shutterwheel_commands_issued_total", "Capture commands issued by the wheel."
        )
        self.commands_revoked = Counter(
            "shutterwheel_commands_revoked_total", "Revocations of capture commands issued."
        )
        self.schedules = Gauge(
            "shutterwheel_schedules", "Schedules of this worker's partitions, paused ones included."
        )
        self.wheel_timers = Gauge("shutterwheel_wheel_timers", "Timers that wait in the wheels.")
        self._snapshots()

    def _runtime(self) -> None:
        """Define what is counted about the worker itself."""
        self.lease_age = Gauge(
            "shutterwheel_lease_age_seconds",
            "Seconds since the last successful heartbeat or commit; old enough, no shutter opens.",
        )
        self.fenced_exits = Counter(
            "shutterwheel_fenced_exits_total", "Times that this worker was fenced and left."
        )
        self.stage_seconds = LabelledCounter(
            "shutterwheel_stage_seconds_total",
            "Where a captures worker's time goes: seconds by stage, elapsed, not CPU.",
            "stage",
            STAGES,
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
        self.restarts = Counter(
            "shutterwheel_restarts_total", "Times that the supervisor started this worker again."
        )

    def _clock(self) -> None:
        """Define what is told of the worker's clock (SPEC 1.5)."""
        self.clock_offset = Gauge(
            "shutterwheel_clock_offset_seconds",
            "What the reference (NTP servers, else the machine's own clock) is ahead of this "
            "worker's clock, in seconds; negative: behind.",
        )
        self.clock_error = Gauge(
            "shutterwheel_clock_error_bound_seconds",
            "Bound of the clock's error in seconds; NaN: no NTP server ever set it.",
        )
        self.clock_drift = Gauge(
            "shutterwheel_clock_drift_ratio",
            "Seconds a second by which the machine's oscillator is slow, as servers have shown.",
        )
        self.clock_disciplined = Gauge(
            "shutterwheel_clock_disciplined",
            "1: the clock is set by NTP servers; 0: it is the machine's own.",
        )
        self.clock_jumps = Counter(
            "shutterwheel_clock_jumps_total", "Jumps of wall time against monotonic time."
        )
        self.clock_corrections = LabelledCounter(
            "shutterwheel_clock_corrections_total",
            "Corrections of the clock by 10 microseconds and more, by kind.",
            "kind",
            ("start", "slew", "step"),
        )
        self.ntp_servers = Gauge(
            "shutterwheel_ntp_servers", "NTP servers configured; 0: the machine's own clock counts."
        )
        self.ntp_reachable = Gauge(
            "shutterwheel_ntp_servers_reachable",
            "NTP servers that gave a usable answer when they were asked last.",
        )
        self.ntp_false = Gauge(
            "shutterwheel_ntp_servers_false", "NTP servers that a majority of the others outvotes."
        )
        self.ntp_answer_age = Gauge(
            "shutterwheel_ntp_answer_age_seconds",
            "Seconds since the last usable answer of any NTP server; NaN: there was none.",
        )
        self.ntp_refusals = LabelledCounter(
            "shutterwheel_ntp_refusals_total",
            "Answers of NTP servers that could not be used, by reason.",
            "reason",
            ("short", "not_an_answer", "origin", "kiss", "alarm", "stratum", "times", "distance"),
        )

    def _devices(self) -> None:
        """Define what is counted about heartbeats and the health of devices."""
        self.known_devices = Gauge(
            "shutterwheel_known_devices", "Devices that have sent a heartbeat and are remembered."
        )
        self.flapping_devices = Gauge(
            "shutterwheel_flapping_devices",
            "Devices that went on and off too often: announced again when they are stable.",
        )
        self.heartbeats = LabelledCounter(
            "shutterwheel_heartbeats_total",
            "Good heartbeats, by what they turned out to be.",
            "verdict",
            ("fresh", "first", "repeat", "old", "restart"),
        )
        self.device_changes = LabelledCounter(
            "shutterwheel_device_changes_total",
            "Devices announced to be online or offline.",
            "event",
            ("DeviceOnline", "DeviceOffline"),
        )
        self.blind_spells = Gauge(
            "shutterwheel_blind_spells",
            "Times that heartbeats could not be read, so that nobody's silence counted.",
        )
        self.polls = LabelledCounter(
            "shutterwheel_polls_total", "Devices asked for a sign of life, by outcome.", "outcome"
        )

    def _kafka(self) -> None:
        """Define what is counted about topics and transactions."""
        self.records_consumed = LabelledCounter(
            "shutterwheel_records_consumed_total", "Records consumed, by topic.", "topic"
        )
        self.records_produced = LabelledCounter(
            "shutterwheel_records_produced_total",
            "Records handed to the producer, by topic.",
            "topic",
        )
        self.dead_letters = LabelledCounter(
            "shutterwheel_dead_letters_total", "Records that could not be worked on.", "code"
        )
        self.transactions = LabelledCounter(
            "shutterwheel_transactions_total",
            "Kafka transactions ended, by outcome.",
            "outcome",
            ("committed", "aborted"),
        )
        self.commit_seconds = Histogram(
            "shutterwheel_commit_seconds",
            "Time that committing a transaction took, in seconds.",
            COMMIT_BUCKETS_S,
        )
        self.partitions_owned = Gauge(
            "shutterwheel_partitions_owned", "Partitions assigned to this worker."
        )
        self.partitions_kept = Counter(
            "shutterwheel_partitions_kept_total",
            "Partitions that stayed in a rebalance and needed no recovery.",
        )
        self.partitions_moved = Counter(
            "shutterwheel_partitions_moved_total",
            "Partitions that were taken over or lost in a rebalance.",
        )
        self.rebalance_pause = Histogram(
            "shutterwheel_rebalance_pause_seconds",
            "How long partitions that stayed could not be worked on in a rebalance, in seconds.",
            COMMIT_BUCKETS_S,
        )
        self.recovery_records = Counter(
            "shutterwheel_recovery_records_total", "Changelog records read to rebuild tables."
        )
        self.recovery_seconds = Counter(
            "shutterwheel_recovery_seconds_total", "Seconds spent on rebuilding tables."
        )

    def instruments(self) -> dict[str, Instrument]:
        """Return every instrument by the name of its attribute."""
        return {name: value for name, value in vars(self).items() if isinstance(value, Instrument)}

    def collect(self) -> Iterator[Metric]:
        """Yield all families, as ``prometheus_client`` asks for them."""
        yield InfoMetricFamily("shutterwheel_worker", "Which worker this is.", self._info)
        for instrument in self.instruments().values():
            yield instrument.family()

    def exposition(self) -> bytes:
        """Return the metrics in Prometheus' text format 0.0.4."""
        return generate_latest(self.registry)

    def sketches(self) -> dict[str, dict[str, str]]:
        """Return the sketches behind the summaries, to be merged with those of other workers.

        ``{"camera_task_delay_seconds": {"window": TEXT, "total": TEXT}}``, each text for
        ``QuantileSketch.from_text``.
        """
        return {
            summary.name: {"window": summary.window().to_text(), "total": summary.total().to_text()}
            for summary in self.instruments().values()
            if isinstance(summary, Summary)
        }
