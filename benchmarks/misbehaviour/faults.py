"""Ways of misbehaving that any server can have, whatever its protocol: the rows of the matrix.

A fault is done by :mod:`benchmarks.misbehaviour.peer`, which stands in front of a good camera and
passes on, holds back, cuts or answers by itself. What is said as text follows the protocol of the
request (``HTTP/1.1`` or ``RTSP/1.0``), so one table serves all.

The faults with a step are tried at each step of a protocol: its first request, its second, and so
on to the last one that a good capture makes. ``ends`` are the causes that a capture may end with.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

UNKNOWN: Final = "unknown_signature"
"""How ``auto`` ends where nothing that it knows answers."""
BROKEN: Final = frozenset({"disconnected", "truncated", "bad_answer", UNKNOWN})
STRANGE: Final = frozenset({"bad_answer", "not_an_image", "unknown_protocol", UNKNOWN})


@dataclass(frozen=True, slots=True)
class Kind:
    """One way of misbehaving."""

    what: str
    ends: frozenset[str]
    """Causes a capture may end with; ``photo``: it may also succeed."""
    stepped: bool = False
    """Tried at each request of a capture in turn."""
    waits: bool = False
    """Only the deadline ends it."""
    tls: bool = False
    """Asked for by a TLS address."""


def _waits(what: str, *, stepped: bool = False, tls: bool = False) -> Kind:
    return Kind(what, frozenset({"timeout"}), stepped=stepped, waits=True, tls=tls)


KINDS: Final[dict[str, Kind]] = {
    "none": Kind("a good camera: passes everything on", frozenset({"photo"})),
    "stopped": _waits("the camera's process is stopped (SIGSTOP) before the capture"),
    "no-syn": _waits("does not answer the SYN: its queue of connections is full"),
    "silent": _waits("takes the connection and every request, answers nothing"),
    "freeze": _waits("stops reading and writing at a request", stepped=True),
    "drip": _waits("sends a byte a second"),
    "never-closes": Kind(
        "hides how long the answer is, and does not close",
        frozenset({"timeout", "bad_answer"}),  # over RTSP that is an answer of no bytes
        waits=True,
    ),
    "no-end-of-head": _waits("sends header lines without end, one each 100 ms"),
    "continues": _waits("answers 100 Continue without end, one each 100 ms"),
    "tls-silent": _waits("takes the TLS hello and says nothing", tls=True),
    "tls-drip": _waits("sends its TLS hello a byte a second", tls=True),
    "close": Kind("closes (FIN) instead of answering a request", BROKEN, stepped=True),
    "reset": Kind("resets (RST) instead of answering a request", BROKEN, stepped=True),
    "cut": Kind("closes 20 bytes into an answer", BROKEN, stepped=True),
    "html": Kind("answers everything with a login page", STRANGE),
    "png": Kind("answers everything with a PNG as image/jpeg", STRANGE),
    "noise": Kind("answers 4 kB of noise, then closes", STRANGE | BROKEN),
    "401": Kind("answers 401 with a fresh challenge each time", frozenset({"auth"})),
    "redirect": Kind("redirects to itself", frozenset({"redirects", "bad_answer"})),
    "endless-body": Kind("sends a picture without end", frozenset({"too_large"})),
    "endless-head": Kind("sends header lines without end, as fast as it can", BROKEN),
}
"""Every fault of the matrix."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A kind of fault, at a step where it has steps."""

    kind: str
    step: int = 1

    @property
    def name(self) -> str:
        """The fault in the matrix: ``close at request 2``."""
        return f"{self.kind} at request {self.step}" if KINDS[self.kind].stepped else self.kind


def faults_of(steps: int, *, tls: bool, kinds: tuple[str, ...] = ()) -> list[Fault]:
    """Return the faults for a protocol whose captures make so many requests."""
    return [
        Fault(name, step)
        for name, kind in KINDS.items()
        if (not kinds or name in kinds) and (tls or not kind.tls)
        for step in range(1, (steps if kind.stepped else 1) + 1)
    ]
