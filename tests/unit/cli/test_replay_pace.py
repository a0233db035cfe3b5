"""Whether a sandbox kept up with its clock, in words (issue 7: 'replay' at x1 to x1000)."""

from __future__ import annotations

import pytest

from shutterwheel.replay_pace import Pace, leads_of, warning


def pace(**other: float) -> Pace:
    fields: dict[str, float] = {
        "asked": 10.0,
        "reached": 9.8,
        "took_s": 10.2,
        "commands": 4_000,
        "too_late": 0,
        "way_ms": 60.0,
        "lead_ms": 5_000,
    }
    return Pace(**(fields | other))  # type: ignore[arg-type]


def test_a_sandbox_that_kept_up_says_its_speed_and_nothing_else():
    assert pace().kept_up
    assert pace().words() == "x10 asked, x9.8 reached"
    assert pace(too_late=40).kept_up  # one in a hundred: a commit that took long


def test_leads_that_are_too_short_are_said_to_be_with_the_speed_that_they_allow():
    found = pace(asked=100.0, reached=92.0, too_late=3_900, way_ms=85.0)
    assert not found.kept_up
    assert found.sensible == 10
    words = found.words()
    assert words.startswith("x100 asked, x92 reached: IT DID NOT KEEP UP. 3,900 of 4,000 captures")
    assert "a lead of 5.0 s is 50 ms at x100; such leads allow about x10. What differs" in words


def test_more_work_than_can_be_done_is_said_by_the_speed_reached():
    found = pace(asked=1_000.0, reached=110.0, took_s=27.0)
    assert found.behind
    assert not found.late
    assert "x1000 asked, x110 reached: IT DID NOT KEEP UP. The last results came long" in (
        found.words()
    )
    both = pace(asked=100.0, reached=42.0, took_s=14.0, too_late=4_000, way_ms=4_700.0)
    assert both.sensible == 10  # the way was waiting in line
    short = pace(asked=1_000.0, reached=500.0, took_s=2.0)
    assert short.kept_up  # of two seconds the last result takes one


@pytest.mark.parametrize(
    ("speed", "leads", "told"),
    [
        (10.0, [5_000] * 9, ""),
        (10.0, [], ""),
        (100.0, [5_000] * 9, "a lead of 5.0 s is 50 ms of real time, and workers need some 500"),
        (1_000.0, [3_600_000] * 9, ""),
        (100.0, [0, 0, 0], "About x1 fits"),
    ],
)
def test_what_cannot_fit_is_said_before(speed: float, leads: list[int], told: str):
    assert told in warning(speed, leads)
    assert bool(told) == bool(warning(speed, leads))


def test_the_lead_of_a_command_is_counted_before_capacity_moved_it():
    from schemas.records import CaptureCommand

    command = CaptureCommand(1, "d", "s", "", 1, 9_000, 12_000, 60_000, 3_000, 0, 4_000)
    moved = CaptureCommand(
        2, "d", "s", "", 1, 9_000, 12_000, 60_000, 3_000, 0, 4_000, moved_ms=3_000
    )
    assert leads_of([command, moved, object()]) == [5_000, 8_000]
