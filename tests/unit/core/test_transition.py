"""The table of transitions, compare-and-set, and the CRC (SPEC 2.4)."""

from __future__ import annotations

import itertools
import re

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import ShutterwheelError
from schemas.records import CaptureCommand, CaptureResult, ImageRef, OpenCapture, Transition
from streams.core import transition as tr

T_MS = 1_795_000_000_000
COMMAND = CaptureCommand(
    7, "camera-1", "line-4", "", 3, T_MS, T_MS, T_MS + 60_000, 3_000, 0, T_MS - 5_000
)
IMAGE = ImageRef("file:///x", "ab" * 32, 9, 1, 1, "jpeg")
STATES = (tr.NEW, tr.PENDING, tr.RUNNING, tr.SUCCESS, tr.FAILED, tr.EXPIRED, tr.REVOKED)
INT64 = st.integers(-(2**63), 2**63 - 1)


def edges_drawn(text: str) -> set[tuple[str, str]]:
    """Follow each arrow of a picture back to the state it starts from ("": from outside)."""
    lines = [line for line in text.splitlines() if "▶" in line]
    edges: set[tuple[str, str]] = set()
    for row, line in enumerate(lines):
        for arrow in re.finditer("▶ ([A-Z]+)", line):
            column = arrow.start() - 1
            while column >= 0 and line[column] == "─":
                column -= 1
            above = row
            while column >= 0 and lines[above][column] in "│├└":
                above -= 1
            words = re.finditer("[A-Z]+", lines[above])
            source = [w.group() for w in words if w.start() <= column <= w.end()]
            assert len(source) <= 1
            edges.add((source[0] if source else tr.NEW, arrow.group(1)))
    return edges


def received() -> OpenCapture:
    blank = OpenCapture(COMMAND, tr.NEW, 0, COMMAND.scheduled_ms, ())
    return tr.step(blank, tr.NEW, tr.PENDING, T_MS - 5_000)


def test_the_picture_in_the_docstring_is_the_table() -> None:
    """SPEC 2.4: the diagram that people read is the table that the code obeys."""
    assert tr.__doc__ is not None
    assert edges_drawn(tr.__doc__) == tr.TRANSITIONS


def test_a_picture_with_an_arrow_too_many_is_not_the_table() -> None:
    """The parser sees a difference: this test's own picture is wrong by one arrow."""
    assert tr.__doc__ is not None
    wrong = tr.__doc__.replace("├──────▶ PENDING", "├──────▶ REVOKED", 1)
    assert (tr.RUNNING, tr.REVOKED) in edges_drawn(wrong)
    assert edges_drawn(wrong) != tr.TRANSITIONS


def test_nothing_leaves_a_terminal_state() -> None:
    """SPEC 2.4: terminal is terminal, and every other state has a way on."""
    starts = {a for a, _ in tr.TRANSITIONS}
    assert starts.isdisjoint(tr.TERMINAL)
    assert {b for _, b in tr.TRANSITIONS} - tr.TERMINAL <= starts


@pytest.mark.parametrize(("found", "asked", "to"), list(itertools.product(STATES, repeat=3)))
def test_compare_and_set(found: str, asked: str, to: str) -> None:
    """SPEC 2.4: a step is made only from the state that was expected, along an edge of the table."""
    capture = OpenCapture(COMMAND, found, 2, T_MS, ())
    if found == asked and (asked, to) in tr.TRANSITIONS:
        after = tr.step(capture, asked, to, T_MS, "because")
        assert (after.state, after.attempt) == (to, 3 if to == tr.RUNNING else 2)
        made = after.transitions[-1]
        assert (made.from_state, made.to_state, made.at_ms, made.cause) == (
            asked,
            to,
            T_MS,
            "because",
        )
        assert tr.crc_ok(COMMAND.command_id, made)
    else:
        with pytest.raises(tr.IllegalTransition) as error:
            tr.step(capture, asked, to, T_MS)
        assert (error.value.found_state, error.value.from_state, error.value.to_state) == (
            found,
            asked,
            to,
        )


def test_an_illegal_step_says_what_it_was() -> None:
    """SPEC 2.4: the dead letter names the command and both states."""
    error = tr.IllegalTransition(7, tr.NEW, tr.PENDING, tr.RUNNING)
    assert isinstance(error, ShutterwheelError)
    assert not error.retryable
    assert error.code == "illegal_transition"
    assert str(error) == "command 7 is not known: PENDING to RUNNING is not allowed"


def test_times_in_a_list_never_decrease() -> None:
    """SPEC 2.4: a new owner whose clock is behind does not write history backwards."""
    running = tr.step(received(), tr.PENDING, tr.RUNNING, T_MS - 9_000)
    assert [t.at_ms for t in running.transitions] == [T_MS - 5_000, T_MS - 5_000]
    assert tr.verify(running) == ()


def test_a_step_keeps_the_next_attempt_unless_told() -> None:
    """SPEC 1.6: only a retry moves it."""
    running = tr.step(received(), tr.PENDING, tr.RUNNING, T_MS)
    assert running.next_attempt_ms == T_MS
    waiting = tr.step(running, tr.RUNNING, tr.PENDING, T_MS, next_attempt_ms=T_MS + 100)
    assert waiting.next_attempt_ms == T_MS + 100


def test_a_cause_is_bounded_and_can_be_written() -> None:
    """SPEC 2.4: a camera that answers with a page, or with bytes that are not text, is cut short."""
    long = tr.step(received(), tr.PENDING, tr.RUNNING, T_MS, "é" * 10_000)
    assert len(long.transitions[-1].cause) == tr.MAX_CAUSE_CHARS
    broken = tr.step(received(), tr.PENDING, tr.RUNNING, T_MS, "bad \udcff byte")
    assert broken.transitions[-1].cause.encode() == b"bad ? byte"
    assert tr.verify(long) == tr.verify(broken) == ()


@pytest.mark.parametrize("command_id", [-1, 0, 7, 2**62, 2**63 - 1])
def test_the_crc_is_the_documented_one(command_id: int) -> None:
    """SPEC 2.4: CRC-64/XZ over the documented bytes, by a bitwise computation of its own."""
    data = b"".join(n.to_bytes(8, "big", signed=True) for n in (command_id, T_MS, 1))
    expected = bitwise_crc64_xz(data + b"PENDING\0RUNNING\0worker 0")
    got = tr.transition_crc64(command_id, "PENDING", "RUNNING", T_MS, 1, "worker 0")
    assert got.to_bytes(8, "big", signed=True) == expected.to_bytes(8, "big")


def test_the_bitwise_crc_is_right() -> None:
    """The control of the test above: the check value of the CRC catalogue."""
    assert bitwise_crc64_xz(b"123456789") == 0x995DC9BBDF1939FA


def bitwise_crc64_xz(data: bytes) -> int:
    crc = 2**64 - 1
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0xC96C5795D7870F42 if crc & 1 else 0)
    return crc ^ (2**64 - 1)


@given(INT64, st.sampled_from(STATES), st.sampled_from(STATES), INT64, INT64, st.text())
def test_the_crc_is_a_signed_64_bit_integer(
    command_id: int, from_state: str, to_state: str, at_ms: int, attempt: int, cause: str
) -> None:
    """SPEC 2.4: whatever stands in a row, its CRC can be computed and written."""
    crc = tr.transition_crc64(command_id, from_state, to_state, at_ms, attempt, cause)
    assert -(2**63) <= crc < 2**63


@given(st.data())
def test_a_flipped_field_is_found(data: st.DataObject) -> None:
    """SPEC 2.4: a change of any field of any transition, the CRC's own included, is detected."""
    capture = tr.step(received(), tr.PENDING, tr.RUNNING, T_MS - 300, "worker 0")
    capture = tr.step(capture, tr.RUNNING, tr.PENDING, T_MS + 3_000, "timeout: no answer")
    n = data.draw(st.integers(0, len(capture.transitions) - 1))
    field = data.draw(st.sampled_from(Transition.__struct_fields__))
    was = capture.transitions[n]
    value = getattr(was, field)
    if isinstance(value, int):
        now: int | str = value ^ (1 << data.draw(st.integers(0, 62)))
    else:
        now = data.draw(st.text().filter(lambda text: text != value))
    changed = msgspec.structs.replace(was, **{field: now})
    assert not tr.crc_ok(COMMAND.command_id, changed)
    listed = (*capture.transitions[:n], changed, *capture.transitions[n + 1 :])
    damaged = msgspec.structs.replace(capture, transitions=listed)
    assert f"transition {n}: the CRC does not match" in tr.verify(damaged)
    assert tr.verify(capture) == ()


def test_a_transition_of_another_command_is_found() -> None:
    """SPEC 2.4: the CRC covers the command id, so a list cannot be moved."""
    stolen = msgspec.structs.replace(
        received(), command=msgspec.structs.replace(COMMAND, command_id=8)
    )
    assert tr.verify(stolen) == ("transition 0: the CRC does not match",)


def sealed(from_state: str, to_state: str, at_ms: int, attempt: int) -> Transition:
    crc = tr.transition_crc64(COMMAND.command_id, from_state, to_state, at_ms, attempt, "")
    return Transition(from_state, to_state, at_ms, attempt, "", crc)


def result(*transitions: Transition, **changes: object) -> CaptureResult:
    last = transitions[-1] if transitions else sealed("", "", 0, 0)
    values: dict[str, object] = {
        "state": last.to_state,
        "cause": "",
        "attempt": last.attempt,
        "ended_at_ms": last.at_ms,
        "shutter_at_ms": T_MS,
        "image": IMAGE if last.to_state == tr.SUCCESS else None,
        "timings": None,
        "transitions": transitions,
    } | changes
    head = (7, "camera-1", "line-4", "", 3, T_MS, T_MS)
    return CaptureResult(*head, *values.values())  # type: ignore[arg-type]


SOUND = (
    sealed("", "PENDING", T_MS - 5_000, 0),
    sealed("PENDING", "RUNNING", T_MS - 300, 1),
    sealed("RUNNING", "SUCCESS", T_MS + 50, 1),
)


def test_a_sound_result_has_no_findings() -> None:
    """SPEC 2.4: the control of the tests below."""
    assert tr.verify(result(*SOUND)) == ()


@pytest.mark.parametrize(
    ("bad", "finding"),
    [
        (result(*SOUND[:2]), "the result's state 'RUNNING' is not a terminal one"),
        (result(), "the result's state '' is not a terminal one"),
        (result(SOUND[0], SOUND[2]), "it starts from 'RUNNING', not from 'PENDING'"),
        (
            result(SOUND[0], sealed("PENDING", "SUCCESS", T_MS, 0)),
            "'PENDING' to 'SUCCESS' is not allowed",
        ),
        (
            result(SOUND[0], sealed("PENDING", "RUNNING", T_MS - 6_000, 1), SOUND[2]),
            "transition 1: it is older than the one before",
        ),
        (
            result(*SOUND[:2], sealed("RUNNING", "SUCCESS", T_MS, 2)),
            "transition 2: it names attempt 2, not 1",
        ),
        (result(*SOUND, attempt=2), "the attempt is 2, but 1 were begun"),
        (result(*SOUND, state="FAILED", image=None), "the state is 'FAILED', but"),
        (result(*SOUND, cause="lie"), "the result's end and cause"),
        (result(*SOUND, ended_at_ms=T_MS), "the result's end and cause"),
        (result(*SOUND, image=None), "an image belongs to SUCCESS"),
        (result(*SOUND, shutter_at_ms=T_MS - 2), "early: the shutter opened 2 ms"),
    ],
)
def test_what_is_wrong_with_a_result_is_named(bad: CaptureResult, finding: str) -> None:
    """SPEC 2.4: an auditor reads what is wrong, not only that it is."""
    findings = tr.verify(bad)
    assert any(finding in line for line in findings), findings


def test_an_open_capture_is_not_terminal() -> None:
    """SPEC 2.4: what has ended does not stand among the open."""
    ended = tr.step(received(), tr.PENDING, tr.REVOKED, T_MS)
    assert tr.verify(ended) == ("an open capture is REVOKED",)
