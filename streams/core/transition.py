"""One change of a capture's state: the table, compare-and-set, and the CRC (SPEC 2.4).

::

    ──▶ PENDING ──▶ RUNNING ──▶ SUCCESS   (the image is in the blob store)
           │           ├──────▶ PENDING   (attempt failed and a retry fits, or worker lost)
           │           └──────▶ FAILED    (attempt failed, no retry fits)
           ├──────────────────▶ REVOKED   (before arming only)
           └──────────────────▶ EXPIRED   (not_after passed)

A test parses this picture and compares it with ``TRANSITIONS``.

Every walk along an edge goes through :func:`step`, which compares the state that was found with the
state that was expected and looks the edge up in the table; anything else is an
:class:`IllegalTransition`, and nothing has changed. What makes a capture walk is in ``capture.py``.

**Each transition carries a CRC-64/XZ**, so that a damaged row of the changelog, or a transition
that was changed or moved to another capture, is found by whoever reads it (:func:`verify`). It
covers, in this order: command_id, at_ms and attempt as big-endian signed 64-bit integers, then
from_state, NUL, to_state, NUL and cause in UTF-8. It is kept as the signed 64-bit integer of the
same bits, as Avro has no other.

**Times in a list never decrease**: where a new owner's clock is a little behind the old one's, the
transition takes the time of the one before it.

Cost: a step is 1.2 microseconds, of which the CRC and its layout are 0.6.
"""

from __future__ import annotations

from struct import Struct as _Layout
from typing import Final

from fastcrc import crc64

from schemas.errors import ShutterwheelError
from schemas.records import CaptureResult, OpenCapture, Transition

NEW: Final = ""
PENDING: Final = "PENDING"
RUNNING: Final = "RUNNING"
SUCCESS: Final = "SUCCESS"
FAILED: Final = "FAILED"
EXPIRED: Final = "EXPIRED"
REVOKED: Final = "REVOKED"

TRANSITIONS: Final[frozenset[tuple[str, str]]] = frozenset(
    {
        (NEW, PENDING),
        (PENDING, RUNNING),
        (PENDING, REVOKED),
        (PENDING, EXPIRED),
        (RUNNING, SUCCESS),
        (RUNNING, PENDING),
        (RUNNING, FAILED),
    }
)
TERMINAL: Final[frozenset[str]] = frozenset({SUCCESS, FAILED, EXPIRED, REVOKED})

MAX_CAUSE_CHARS: Final = 300
"""A cause is a sentence; a camera that answers with a page must not fill the log."""


class IllegalTransition(ShutterwheelError):  # noqa: N818 - it names what was asked for
    """The table has no such edge, or the capture is not in the state that was expected.

    Nothing has changed. The runtime counts it and writes a dead letter with ``code``; trying again
    cannot help. ``found_state`` is "" for a capture that is not known (any more).
    """

    code: Final = "illegal_transition"

    def __init__(self, command_id: int, found_state: str, from_state: str, to_state: str) -> None:
        super().__init__(
            f"command {command_id} is {found_state or 'not known'}: "
            f"{from_state or 'NEW'} to {to_state} is not allowed"
        )
        self.command_id = command_id
        self.found_state = found_state
        self.from_state = from_state
        self.to_state = to_state


_NUMBERS: Final = _Layout(">qqq")


def transition_crc64(
    command_id: int, from_state: str, to_state: str, at_ms: int, attempt: int, cause: str
) -> int:
    """Return the CRC-64/XZ of a transition, as this module's docstring lays it out."""
    text = f"{from_state}\0{to_state}\0{cause}".encode("utf-8", "surrogatepass")
    crc = crc64.xz(_NUMBERS.pack(command_id, at_ms, attempt) + text)
    return crc if crc < 1 << 63 else crc - (1 << 64)


def crc_ok(command_id: int, transition: Transition) -> bool:
    """Say whether the transition is as it was written, and written for this command."""
    t = transition
    return t.crc64 == transition_crc64(
        command_id, t.from_state, t.to_state, t.at_ms, t.attempt, t.cause
    )


def step(
    capture: OpenCapture,
    from_state: str,
    to_state: str,
    at_ms: int,
    cause: str = "",
    *,
    next_attempt_ms: int | None = None,
) -> OpenCapture:
    """Return the capture one transition further; RUNNING begins the next attempt.

    :raises IllegalTransition: the capture is not in ``from_state``, or the table has no such edge.
    """
    command = capture.command
    if capture.state != from_state or (from_state, to_state) not in TRANSITIONS:
        raise IllegalTransition(command.command_id, capture.state, from_state, to_state)
    transitions = capture.transitions
    if transitions and at_ms < transitions[-1].at_ms:
        at_ms = transitions[-1].at_ms
    attempt = capture.attempt + 1 if to_state == RUNNING else capture.attempt
    if cause:
        cause = bounded(cause)
    crc = transition_crc64(command.command_id, from_state, to_state, at_ms, attempt, cause)
    made = Transition(from_state, to_state, at_ms, attempt, cause, crc)
    if next_attempt_ms is None:
        next_attempt_ms = capture.next_attempt_ms
    return OpenCapture(command, to_state, attempt, next_attempt_ms, (*transitions, made))


def bounded(cause: str) -> str:
    """Return the cause in at most ``MAX_CAUSE_CHARS`` characters that UTF-8 can carry."""
    if len(cause) > MAX_CAUSE_CHARS:
        cause = cause[: MAX_CAUSE_CHARS - 1] + "…"
    return cause if cause.isascii() else cause.encode("utf-8", "replace").decode()


def verify(capture: OpenCapture | CaptureResult) -> tuple[str, ...]:
    """Return what is wrong with a capture's list of transitions, a sentence each; empty: sound."""
    command_id = (
        capture.command.command_id if isinstance(capture, OpenCapture) else capture.command_id
    )
    found: list[str] = []
    state, attempt, at_ms = NEW, 0, -(1 << 63)
    for n, t in enumerate(capture.transitions):
        if not crc_ok(command_id, t):
            found.append(f"transition {n}: the CRC does not match")
        if t.from_state != state:
            found.append(f"transition {n}: it starts from {t.from_state!r}, not from {state!r}")
        if (t.from_state, t.to_state) not in TRANSITIONS:
            found.append(f"transition {n}: {t.from_state!r} to {t.to_state!r} is not allowed")
        if t.at_ms < at_ms:
            found.append(f"transition {n}: it is older than the one before")
        attempt += t.to_state == RUNNING
        if t.attempt != attempt:
            found.append(f"transition {n}: it names attempt {t.attempt}, not {attempt}")
        state, at_ms = t.to_state, t.at_ms
    if capture.state != state:
        found.append(f"the state is {capture.state!r}, but the last transition led to {state!r}")
    if capture.attempt != attempt:
        found.append(f"the attempt is {capture.attempt}, but {attempt} were begun")
    if isinstance(capture, CaptureResult):
        found.extend(_verify_end(capture))
    elif capture.state in TERMINAL:
        found.append(f"an open capture is {capture.state}")
    return tuple(found)


def _verify_end(result: CaptureResult) -> list[str]:
    """Return what is wrong with the fields that only a result has."""
    found: list[str] = []
    if result.state not in TERMINAL:
        found.append(f"the result's state {result.state!r} is not a terminal one")
    last = result.transitions[-1] if result.transitions else None
    if last is not None and (last.at_ms, last.cause) != (result.ended_at_ms, result.cause):
        found.append("the result's end and cause are not those of the last transition")
    if (result.state == SUCCESS) != (result.image is not None):
        found.append("an image belongs to SUCCESS, and only there")
    if result.shutter_at_ms is not None and result.shutter_at_ms < result.scheduled_ms:
        found.append(
            f"early: the shutter opened {result.scheduled_ms - result.shutter_at_ms} ms too soon"
        )
    return found
