"""What ``/metrics`` says: names, windows, bounded labels (SPEC 1.8)."""

from __future__ import annotations

import math
import re

import pytest
from prometheus_client.parser import text_string_to_metric_families

from streams.observability.instruments import (
    MAX_LABEL_VALUES,
    OTHER,
    QUANTILES,
    WINDOW_PART_S,
    WINDOW_PARTS,
    Histogram,
    LabelledCounter,
)
from streams.observability.metrics import Metrics
from streams.observability.sketch import QuantileSketch


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def metrics(clock: Clock) -> Metrics:
    return Metrics("captures", "0", "1.2.3", clock)


def samples(metrics: Metrics) -> dict[tuple[str, ...], float]:
    """Read the exposition as Prometheus does: (name, label values…) to value."""
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(metrics.exposition().decode())
        for sample in family.samples
    }


def test_the_names_that_were_asked_for_are_there(metrics: Metrics):
    """SPEC 1.8 names two metrics; their names are not ours to change."""
    for _ in range(100):
        metrics.task_delay.observe(0.004)
    metrics.online_devices.set(7)
    text = metrics.exposition().decode()
    assert re.search(r'^camera_task_delay_seconds\{quantile="0.99"\} 0\.004', text, re.MULTILINE)
    assert re.search(r"^agent_online_devices_total 7\.0$", text, re.MULTILINE)
    assert "# TYPE camera_task_delay_seconds summary" in text


def test_every_metric_has_a_sentence_a_unit_and_a_sound_name(metrics: Metrics):
    for instrument in metrics.instruments().values():
        family = instrument.family()
        assert re.fullmatch(r"(shutterwheel|camera|agent)_[a-z_]+", instrument.name)
        assert len(instrument.help_text.split()) >= 4
        if family.type == "counter":
            assert instrument.name.endswith("_total")
        if family.type in {"summary", "histogram"}:
            assert instrument.name.endswith("_seconds")


def test_counts_arrive(metrics: Metrics):
    metrics.ticks.inc()
    metrics.commands_issued.inc(250)
    metrics.captures.inc("SUCCESS", 3)
    metrics.transactions.inc("committed")
    metrics.open_captures.bind(lambda: 12)
    got = samples(metrics)
    assert got["shutterwheel_ticks_total",] == 1
    assert got["shutterwheel_commands_issued_total",] == 250
    assert got["shutterwheel_captures_total", "SUCCESS"] == 3
    assert got["shutterwheel_captures_total", "FAILED"] == 0
    assert got["shutterwheel_transactions_total", "committed"] == 1
    assert got["shutterwheel_open_captures",] == 12
    assert got["shutterwheel_worker_info", "captures", "1.2.3", "0"] == 1


def test_quantiles_tell_of_the_window_and_sums_of_all(metrics: Metrics, clock: Clock):
    metrics.task_delay.observe(60.0)
    clock.now_s += WINDOW_PART_S * WINDOW_PARTS
    metrics.task_delay.observe(0.001)
    got = samples(metrics)
    assert got["camera_task_delay_seconds", "0.999"] == pytest.approx(0.001, rel=0.01)
    assert got["camera_task_delay_seconds_count",] == 2
    assert got["camera_task_delay_seconds_sum",] == pytest.approx(60.001)


def test_what_is_one_part_younger_is_still_in_the_window(metrics: Metrics, clock: Clock):
    metrics.task_delay.observe(60.0)
    clock.now_s += WINDOW_PART_S * (WINDOW_PARTS - 1)
    assert metrics.task_delay.window().count == 1
    clock.now_s += WINDOW_PART_S
    assert metrics.task_delay.window().count == 0


def test_a_long_silence_empties_the_window_once(metrics: Metrics, clock: Clock):
    metrics.task_delay.observe(1.0)
    clock.now_s += 1e6
    got = samples(metrics)
    assert all(math.isnan(got["camera_task_delay_seconds", str(share)]) for share in QUANTILES)
    metrics.task_delay.observe(2.0)
    assert metrics.task_delay.window().count == 1
    assert metrics.task_delay.total().count == 2


def test_workers_merge_exactly(clock: Clock):
    """SPEC 1.1: the delay of a fleet is not an average of quantiles."""
    workers = [Metrics("captures", str(n), "", clock) for n in range(3)]
    for n, worker in enumerate(workers):
        for _ in range(100):
            worker.task_delay.observe(0.001 * 10**n)
    fleet = QuantileSketch()
    for worker in workers:
        texts = worker.sketches()["camera_task_delay_seconds"]
        assert texts["window"] == texts["total"]
        fleet.merge(QuantileSketch.from_text(texts["window"]))
    assert fleet.count == 300
    assert fleet.quantile(0.5) == pytest.approx(0.01, rel=0.01)
    assert fleet.quantile(0.99) == pytest.approx(0.1, rel=0.01)


def test_label_values_are_bounded():
    open_label = LabelledCounter("x_total", "help", "code")
    for n in range(10 * MAX_LABEL_VALUES):
        open_label.inc(f"code-{n}")
    assert len(open_label.totals) == MAX_LABEL_VALUES + 1
    assert open_label[OTHER] == 9 * MAX_LABEL_VALUES
    listed = LabelledCounter("y_total", "help", "state", ("a", "b"))
    listed.inc("a")
    listed.inc("cam-17")
    assert listed.totals == {"a": 1, "b": 0, OTHER: 1}


def test_no_label_is_an_id(metrics: Metrics):
    labels = {
        label
        for family in metrics.collect()
        for sample in family.samples
        for label in sample.labels
    }
    assert not labels & {"device", "device_id", "schedule_id", "request_id", "command_id"}


def test_a_histogram_counts_up_to_and_including_a_bound():
    histogram = Histogram("z_seconds", "help", (0.1, 1.0))
    for value in (0.05, 0.1, 0.5, 5.0):
        histogram.observe(value)
    family = histogram.family()
    buckets = {
        sample.labels["le"]: sample.value
        for sample in family.samples
        if sample.name.endswith("_bucket")
    }
    assert buckets == {"0.1": 2, "1.0": 3, "+Inf": 4}
    assert histogram.count == 4
    assert histogram.total == pytest.approx(5.65)


def test_what_the_executor_does_with_load_is_visible(metrics: Metrics):
    """Issue 6: pools, breakers, shedding and waits, all of it visible as metrics."""
    metrics.pool_size.bind({"hot": 1_000, "new": 500, "cold": 20}.__getitem__)
    metrics.shed_captures.inc("full")
    metrics.capture_waits.inc("host", 3)
    found = samples(metrics)
    assert found["shutterwheel_pool_size", "hot"] == 1_000
    assert found["shutterwheel_pool_size", "cold"] == 20
    assert found["shutterwheel_pool_queue", "cold"] == 0
    assert found["shutterwheel_shed_captures_total", "full"] == 1
    assert found["shutterwheel_capture_waits_total", "host"] == 3
    assert found["shutterwheel_breaker_holds_total", "given_up"] == 0
    assert ("shutterwheel_open_breakers",) in found
    assert ("shutterwheel_cold_pool_cut",) in found
