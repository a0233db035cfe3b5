"""The apps of the system as archive and restore know them: inputs, tables, what only they write."""

from __future__ import annotations

from streams.agents import capture_executor, capture_state, device_health, timing_wheel
from streams.replay.cut import App


def apps() -> tuple[App, ...]:
    """Return them downstream first."""
    return (
        App(
            capture_executor.APP,
            capture_executor.layout(1).inputs,
            dict(capture_executor.CHANGELOGS),
            (capture_state.RESULTS,),
        ),
        App(
            device_health.APP,
            device_health.layout(1).inputs,
            dict(device_health.CHANGELOGS),
            (device_health.LOADS,),
        ),
        App(
            timing_wheel.APP,
            timing_wheel.layout(1).inputs,
            dict(timing_wheel.CHANGELOGS),
            (timing_wheel.TICKS, timing_wheel.DECISIONS, timing_wheel.COMMANDS),
        ),
    )
