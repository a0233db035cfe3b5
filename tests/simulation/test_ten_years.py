"""Ten simulated years of a small fleet, in seconds: every kind of schedule, each time once.

SPEC 2.1, issue 5 'Decided purely'. The wheel is asked when it is due next and is ticked then, as a
worker would; each New Year the state is built anew from its rows.
"""

from __future__ import annotations

import time
from collections import defaultdict

from test_schedule_orders import of, rebuilt, write

from schemas.records import (
    CaptureCommand,
    CapturePolicy,
    DeviceFact,
    Ended,
    Exclusion,
    Refused,
    ScheduleSpec,
    ScheduleTick,
    ScheduleUpserted,
    Skipped,
    TickChange,
    TickSettings,
)
from streams.core import ids
from streams.core.recurrence import Place, Recurrence
from streams.core.shard import RULES_VERSION, PartitionState, advance

DAY_MS = 86_400_000
YEAR_MS = 365 * DAY_MS
START_MS = ids.EPOCH_MS + DAY_MS
END_MS = START_MS + 10 * YEAR_MS + 3 * DAY_MS
PARIS = Place(48.86, 2.35)
DEVICES = [f"cam-{n}" for n in range(6)]
SPECS = {
    "every 3 h": ScheduleSpec("interval", every_ms=10_800_000),
    "from six to sunset": ScheduleSpec(
        "interval",
        every_ms=7_200_000,
        zone="Europe/Paris",
        exclude=(Exclusion(hours="00:00-06:00"), Exclusion(dates=(20301224, 20301225))),
        daylight="sunrise..sunset",
    ),
    "02:30, which is not always": ScheduleSpec(
        "cron", expression="30 2 * * *", zone="Europe/Paris", until_ms=START_MS + 8 * YEAR_MS
    ),
    "last Friday": ScheduleSpec("calendar", expression="FREQ=MONTHLY;BYDAY=-1FR;BYHOUR=9;BYMINUTE=0;BYSECOND=0", from_ms=START_MS),
    "sunrise": ScheduleSpec("sun", expression="sunrise+30m"),
    "a thousand times": ScheduleSpec("cron", expression="0 12 * * mon-fri", max_count=1_000),
}  # fmt: skip


def test_ten_years_in_seconds():
    state, tables = PartitionState(0, 1), {}
    begun_s = time.perf_counter()
    changes = tuple(
        TickChange(n, ScheduleUpserted(f"r-{device}-{n}", device, name, spec, policy, 0))
        for device in DEVICES
        for n, (name, spec) in enumerate(SPECS.items())
        for policy in [CapturePolicy(lead_ms=5_000, spread_ms=60_000)]
    )
    facts = tuple(DeviceFact(device, "place", *PARIS) for device in DEVICES)
    fires: dict[tuple[str, str], list[int]] = defaultdict(list)
    ended, ticks, now_ms, year = set(), 0, START_MS, 0
    while now_ms < END_MS:
        tick = ScheduleTick(
            0, 1, now_ms, RULES_VERSION, "", TickSettings(notice_ms=0), changes, facts
        )
        outputs = advance(state, tick)
        write(tables, outputs)
        changes, facts, ticks = (), (), ticks + 1
        for command in of(outputs, CaptureCommand):
            assert command.issued_at_ms == command.scheduled_ms - 5_000
            fires[command.device_id, command.schedule_id].append(command.nominal_ms)
        assert of(outputs, Skipped) == of(outputs, Refused) == []
        ended |= {(e.device_id, e.schedule_id, e.reason) for e in of(outputs, Ended)}
        if (now_ms - START_MS) // YEAR_MS > year:
            year += 1
            state = rebuilt(tables)
        now_ms = state.next_due_ms() or END_MS
    took_s = time.perf_counter() - begun_s
    total = sum(map(len, fires.values()))
    print(f"\n{total:,} fires in {ticks:,} ticks of ten years: {took_s:.1f} s")
    for name, spec in SPECS.items():
        walked, at = [], START_MS
        recurrence = Recurrence(spec, PARIS)
        while (found := recurrence.find_at_or_after(at)) is not None and found < END_MS:
            walked.append(found)
            at = found + 1
        for device in DEVICES:
            got = fires[device, name]
            assert got == walked[: spec.max_count][: len(got)]
            assert len(walked[: spec.max_count]) - len(got) <= 1  # the last is issued at the end
    reasons = {(name, reason) for _, name, reason in ended}
    assert reasons == {
        ("02:30, which is not always", "its validity is over"),
        ("a thousand times", "it was due 1000 times"),
    }
    assert total > 250_000
