"""The checker of shutters finds a planted one that had no lease."""

from __future__ import annotations

from shutter_checker import without_lease

from connectors.cameras.simulated import LogEntry
from schemas.records import CaptureResult, Transition

STATES = (
    ("", "PENDING", 100),
    ("PENDING", "RUNNING", 200),
    ("RUNNING", "PENDING", 300),
    ("PENDING", "RUNNING", 400),
    ("RUNNING", "SUCCESS", 500),
)


def result(command_id=7):
    return CaptureResult(
        *(command_id, "cam", "s", "", 1, 250, 250, "SUCCESS", "", 2, 500, 450, None, None),
        tuple(Transition(a, b, at_ms, 1, "", 0) for a, b, at_ms in STATES),
    )


def shutter(at_ms, command_id="7", opened=True):
    return LogEntry(0, "cam", at_ms, at_ms * 1000, "capture", opened, command_id, "")


def found(*times):
    return [e.at_ms for e in without_lease([result()], [shutter(at) for at in times])]


def test_a_shutter_in_each_running_has_its_lease():
    assert found(250, 450) == found(200, 500) == found(450) == found() == []


def test_a_shutter_outside_is_found():
    assert found(150, 350, 550) == [150, 350, 550]
    assert without_lease([], [shutter(250)]) == [shutter(250)]


def test_a_second_shutter_in_one_running_is_found():
    """The zombie's, beside the new owner's."""
    assert found(250, 440, 450) == [450]


def test_a_request_that_took_no_picture_is_none():
    assert without_lease([result()], [shutter(350, opened=False)]) == []
