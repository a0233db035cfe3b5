"""What a caller writes becomes the right records, and what cannot be is said early."""

from __future__ import annotations

import pytest

from connectors.cameras.registry import Cameras
from connectors.clients import events
from connectors.clients.kafka import check_bootstrap
from schemas.errors import UsageError
from schemas.records import CapturePolicy, ScheduleSpec


def test_an_interval_with_every_option():
    event = events.upserted(
        "cam-1",
        "s",
        every="5s",
        phase="1s",
        lead="2s",
        catch_up="10s",
        timeout="1s",
        spread="4s",
        priority=3,
        request_id="r",
    )
    assert (event.request_id, event.device_id, event.schedule_id) == ("r", "cam-1", "s")
    assert event.spec == ScheduleSpec("interval", every_ms=5_000, phase_ms=1_000)
    assert event.policy == CapturePolicy(2_000, 10_000, 1_000, 4_000, 3)
    events.check_event(event)


def test_what_is_left_out_is_as_the_records_say():
    event = events.upserted("cam-1", "s", at="2026-12-01T07:00:00Z")
    assert event.spec == ScheduleSpec("once", at_ms=1_796_108_400_000)
    assert event.policy == CapturePolicy()


def test_request_ids_are_ones_own():
    """SPEC 2.2: two requests are never taken for one."""
    made = {events.requested("cam-1").request_id for _ in range(100)}
    assert len(made) == 100


@pytest.mark.parametrize("due", [{}, {"every": "5s", "at": 1_796_108_400_000}])
def test_a_schedule_has_a_period_or_a_time(due):
    with pytest.raises(UsageError, match="give one of 'every', 'at', 'cron', 'rrule' and 'sun'"):
        events.upserted("cam-1", "s", **due)


def test_a_schedule_by_a_rule():
    event = events.upserted(
        "cam-1",
        "s",
        cron="30 8 * * mon-fri",
        zone="Europe/Paris",
        start="2026-12-01T00:00:00Z",
        until=1_800_000_000_000,
        count=9,
        daylight="sunrise..sunset",
        jitter="1s",
        tolerance="2s",
        deadline="1m",
        misfire="skip",
        overlap="buffer_one",
        pause_after_failures=3,
    )
    assert event.spec == ScheduleSpec(
        "cron",
        expression="30 8 * * mon-fri",
        zone="Europe/Paris",
        from_ms=1_796_083_200_000,
        until_ms=1_800_000_000_000,
        max_count=9,
        daylight="sunrise..sunset",
    )
    assert event.policy == CapturePolicy(
        jitter_ms=1_000,
        tolerance_ms=2_000,
        deadline_ms=60_000,
        misfire="skip",
        overlap="buffer_one",
        pause_after_failures=3,
    )
    events.check_event(event)
    rule = events.upserted("c", "s", rrule="FREQ=DAILY;BYHOUR=8", start="2026-12-01T00:00:00Z")
    sun = events.upserted("c", "s", sun="sunset-1h")
    assert [(one.spec.kind, one.spec.expression) for one in (rule, sun)] == [
        ("calendar", "FREQ=DAILY;BYHOUR=8"),
        ("sun", "sunset-1h"),
    ]
    events.check_event(rule)
    events.check_event(sun)


def test_an_option_that_there_is_not_is_no_option():
    with pytest.raises(UsageError, match="no option 'evry'; did you mean 'every'"):
        events.upserted("c", "s", evry="5s")
    with pytest.raises(UsageError, match="no option 'zone'"):
        events.requested("c", zone="UTC")


@pytest.mark.parametrize(
    ("event", "words"),
    [
        (events.upserted("", "s", every="5s"), "device_id '' is empty"),
        (events.upserted("c" * 10_000, "s", every="5s"), "10000 bytes"),
        (events.upserted("c", "", every="5s"), "schedule_id '' is empty"),
        (events.upserted("c", "request/1", every="5s"), "kept for requests"),
        (events.upserted("c", "s", every=0), "every_ms 0 is below 100"),
        (events.upserted("c", "s", every="3653d"), "every_ms .* is above"),
        (events.upserted("c", "s", every="5s", lead="2h"), "lead_ms 7200000 is above"),
        (events.cancelled("c\n", "s"), "control character"),
        (events.requested("c", priority=10), "priority 10 is above 9"),
    ],
)
def test_what_the_wheel_would_refuse_is_refused_here(event, words):
    with pytest.raises(UsageError, match=words):
        events.check_event(event)


def test_the_protocols_are_those_of_the_adapters():
    assert set(events.PROTOCOLS) == Cameras().protocols


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"device_id": ""}, "device_id '' is empty"),
        ({"address": "ftp://h/x"}, "must begin with http"),
        ({"address": "http://u:secret@h/x"}, "holds credentials"),
        ({"address": ""}, "cannot be used"),
        ({"protocol": "smoke-signals"}, "protocol 'smoke-signals' is not known"),
        ({"credentials": "secret"}, "credentials are named, not given"),
    ],
)
def test_a_profile_that_cannot_work_is_refused(fields, words):
    good = {"device_id": "cam-1", "address": "http://127.0.0.1/x"}
    events.check_profile(events.profile(**good))
    with pytest.raises(UsageError, match=words) as caught:
        events.check_profile(events.profile(**(good | fields)))
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("address", ["h:9092", "127.0.0.1:1,b:2", "[::1]:9092", "kafka.example"])
def test_addresses_of_kafka(address):
    assert check_bootstrap(address) == address


@pytest.mark.parametrize("address", ["", "h:", "h:0", "h:70000", "http://h:1", "a b:1", "h:1,,g:2"])
def test_what_is_no_address_of_kafka(address):
    with pytest.raises(UsageError, match="HOST:PORT"):
        check_bootstrap(address)
