"""A circuit breaker for each device: one that does not answer is left alone for a while (SPEC 3.2).

::

    CLOSED ────▶ CLOSED     (failure)  fewer in a row than would open it
    CLOSED ────▶ OPEN       (trip)     the last of ``failures`` in a row, or a login refused
    OPEN ──────▶ HALF_OPEN  (elapse)   its time has passed: the next capture is the probe
    HALF_OPEN ─▶ CLOSED     (success)
    HALF_OPEN ─▶ OPEN       (failure)  for twice the time before
    HALF_OPEN ─▶ OPEN       (trip)
    OPEN ──────▶ CLOSED     (success)  of an attempt that began before it opened
    OPEN ──────▶ OPEN       (failure)  likewise; its time stays as it is
    OPEN ──────▶ OPEN       (trip)     likewise, but the login was refused: for as long as that says
    CLOSED ────▶ CLOSED     (success)

A test parses this picture and compares it with ``TRANSITIONS``. Nothing has to happen at the moment
the time passes: OPEN and HALF_OPEN are told apart by the clock (:func:`state_at`). One probe at a
time needs no state either, as a device is sent one request at a time anyway.

**What an open breaker does with a capture that is due** (:func:`verdict`): it waits where the probe
comes before ``not_after``, and so becomes the probe; otherwise it is given up at once, and no
permit, socket or second is spent on it. Giving up is EXPIRED, not FAILED: nobody asked the device,
so it says nothing new of it, and the failures in a row that pause a schedule are true ones only.

**A refused login opens it at once and for long.** Cameras lock an account after five to seven
attempts for some thirty minutes (research/cameras.md); a schedule of one photo a minute would get
there in five minutes without ever making a retry.

Example, with the default policy: a camera is unplugged. Its attempts fail at 0 s (four of them, the
retries of one capture), and with the first of the next capture the breaker opens for 5 s. The
retries of that capture are its probes: 5, 15 and 35 s after. Later ones come after 40, 80, 160 and
then each 300 s, whatever the schedules ask.

Cost: 0.4 microseconds an event; nothing for a device that answers, which has no breaker at all.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

State = Literal["CLOSED", "OPEN", "HALF_OPEN"]
Event = Literal["failure", "trip", "success", "elapse"]

TRANSITIONS: Final[dict[tuple[State, Event], State]] = {
    ("CLOSED", "failure"): "CLOSED",
    ("CLOSED", "trip"): "OPEN",
    ("OPEN", "elapse"): "HALF_OPEN",
    ("HALF_OPEN", "success"): "CLOSED",
    ("HALF_OPEN", "failure"): "OPEN",
    ("HALF_OPEN", "trip"): "OPEN",
    ("OPEN", "success"): "CLOSED",
    ("OPEN", "failure"): "OPEN",
    ("OPEN", "trip"): "OPEN",
    ("CLOSED", "success"): "CLOSED",
}

LOGIN: Final = frozenset({"auth"})
"""Causes that say that the device refused our credentials."""
NOT_THE_DEVICE: Final = frozenset(
    {
        "address_not_allowed",
        "bad_address",
        "credentials",
        "store",
        "store_timeout",
        "unknown_device",
        "unknown_protocol",
    }
)
"""Causes that say nothing of the device: it was not asked, or it answered and we could not keep it.
"""
MAX_TRIPS: Final = 40
"""Openings are counted up to here; the time has stopped growing long before."""


class BreakerPolicy(msgspec.Struct, frozen=True):
    """When breakers open, and for how long. Times are milliseconds, 1 to a day."""

    failures: int = 5
    """Failures in a row that open a breaker; 1 to 100. One more than the attempts of one capture,
    so that a single unlucky capture keeps all of its retries."""
    open_ms: int = 5_000
    """How long it is open the first time; twice as long each time that a probe fails."""
    longest_ms: int = 300_000
    """The longest it is open: a camera that has come back is found within five minutes."""
    login_ms: int = 300_000
    """How long it is open the first time that a login was refused."""
    longest_login_ms: int = 1_800_000
    """The longest it is open after refused logins: what cameras lock an account for."""

    def __post_init__(self) -> None:
        """Raise ValueError where a value is out of its bounds."""
        if not 1 <= self.failures <= 100:
            raise ValueError(f"failures is {self.failures}; it must be 1 to 100")
        for name in ("open_ms", "longest_ms", "login_ms", "longest_login_ms"):
            value: int = getattr(self, name)
            if not 1 <= value <= 86_400_000:
                raise ValueError(f"{name} is {value}; it must be 1 to 86400000")


DEFAULT_POLICY: Final = BreakerPolicy()


class Breaker(msgspec.Struct, frozen=True, gc=False):
    """The breaker of one device."""

    failures: int = 0
    """Attempts in a row that failed."""
    trips: int = 0
    """How often it has opened since the last success; 0: it is closed."""
    until_ms: int = 0
    """Until when it is open; no meaning while it is closed."""
    cause: str = ""
    """The last failure's short word."""


CLOSED: Final = Breaker()
"""The breaker of a device that nothing is known against."""


def state_at(breaker: Breaker, now_ms: int) -> State:
    """Return what a breaker is now."""
    if not breaker.trips:
        return "CLOSED"
    return "OPEN" if now_ms < breaker.until_ms else "HALF_OPEN"


def on_success(_breaker: Breaker) -> Breaker:
    """An attempt gave a photo: closed, and nothing is held against the device."""
    return CLOSED


def on_failure(
    breaker: Breaker, now_ms: int, cause: str, policy: BreakerPolicy = DEFAULT_POLICY
) -> Breaker:
    """An attempt failed; ``cause`` is the short word of its ``CameraError``."""
    if cause in NOT_THE_DEVICE:
        return breaker
    failures = breaker.failures + 1
    login = cause in LOGIN
    event: Event = "trip" if login or failures >= policy.failures else "failure"
    before = state_at(breaker, now_ms)
    if TRANSITIONS[before, event] == "CLOSED":
        return Breaker(failures, 0, 0, cause)
    if before == "OPEN" and not login:
        return Breaker(failures, breaker.trips, breaker.until_ms, cause)
    first_ms, longest_ms = (
        (policy.login_ms, policy.longest_login_ms) if login else (policy.open_ms, policy.longest_ms)
    )
    open_ms = min(first_ms << breaker.trips, longest_ms)
    trips = min(breaker.trips + 1, MAX_TRIPS)
    return Breaker(failures, trips, max(now_ms + open_ms, breaker.until_ms), cause)


def verdict(
    breaker: Breaker, now_ms: int, not_after_ms: int
) -> Literal["go", "probe", "wait", "give_up"]:
    """Say what a capture does that is due now: ``wait`` is until ``until_ms``."""
    match state_at(breaker, now_ms):
        case "CLOSED":
            return "go"
        case "HALF_OPEN":
            return "probe"
    return "wait" if breaker.until_ms <= not_after_ms else "give_up"


def describe(breaker: Breaker, now_ms: int) -> str:
    """Return a sentence for the record about an open breaker."""
    again_ms = max(breaker.until_ms - now_ms, 0)
    return (
        f"breaker_open: failure {breaker.failures} in a row was {breaker.cause!r}; the device is "
        f"asked again in {again_ms:,} ms"
    )
