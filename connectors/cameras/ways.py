"""The ways to a photo of one device: the best one is taken, and given up when it breaks.

A device offers up to three, the best first:

    snapshot       one HTTP request, whole picture, no decoder
    sub-stream     RTSP, small pictures: a key frame comes sooner and costs less
    main-stream    RTSP, full size

How a way fails decides what becomes of it:

    a cause of :data:`BROKEN` or a status 4xx   the way is broken: the next one, in this attempt
    ``auth``, ``credentials``, ``unreachable``  not the way's fault: nothing changes
    all else (timeout, reset, 5xx, stale …)     after :data:`MAX_FAILURES` in a row: broken

A broken way is tried again after :data:`FIRST_REST_S`, twice that the next time, at most
:data:`MAX_REST_S`. Worked example, a firmware update that moves the snapshot:

    t = 0 s      snapshot: http_404, and no other address → broken until 600 s; sub-stream: photo
    t = 60 s     sub-stream: photo
    t = 600 s    snapshot again: photo, and it is the best way as before

Pure: time is an argument. A way is data; who takes it is the adapter's business.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final, Generic, Literal, TypeVar

from connectors.cameras.frame import clean

Kind = Literal["snapshot", "sub-stream", "main-stream"]

BROKEN: Final = frozenset({
    "address_not_allowed",
    "bad_address",
    "bad_answer",
    "no_transport",
    "no_video",
    "no_way",
    "not_an_image",
    "redirects",
    "refused",
    "soap_fault",
    "tls",
    "too_large",
    "unknown_protocol",
})  # fmt: skip
"""Causes of CameraError after which the same way will fail the same way."""
BLAMELESS: Final = frozenset({"auth", "credentials", "unreachable"})
"""Causes that another way of the same device would meet as well."""
MAX_FAILURES: Final = 3
"""Other failures in a row after which a way counts as broken."""
FIRST_REST_S: Final = 600.0
MAX_REST_S: Final = 86_400.0
MAX_RESTS: Final = 8
"""Doublings counted; 600 s doubled so often is over a day."""


def is_broken(cause: str) -> bool:
    """Say whether a failure with this cause will be met again by the same request."""
    protocol, _, status = cause.partition("_")
    if protocol in {"http", "rtsp"} and status.isdigit():
        # Try later, too many, too slow: not forever.
        return 400 <= int(status) < 500 and status not in {"408", "425", "429"}
    return cause in BROKEN


@dataclass(slots=True)
class Way:
    """One way to a device's photo, and how it did."""

    kind: Kind
    token: str = ""
    """The media profile it belongs to."""
    url: str = ""
    """Where; empty: not asked for yet."""
    failures: int = 0
    """In a row."""
    failures_before: int = 0
    """How many there were before it last worked."""
    rests: int = 0
    """How often it was given up since it last worked."""
    resting_until_s: float = 0.0
    """On the monotonic clock."""
    cause: str = ""
    """Why it was given up; empty: it works, or was not tried."""

    def rests_at(self, now_s: float) -> bool:
        """Say whether the way is given up at that moment."""
        return now_s < self.resting_until_s


@dataclass(slots=True)
class Ways:
    """What one device offers, the best first."""

    ways: list[Way] = field(default_factory=list)

    def usable(self, now_s: float) -> list[Way]:
        """Return the ways to be tried, the best first; empty: all are given up."""
        return [way for way in self.ways if not way.rests_at(now_s)]

    def best(self, now_s: float) -> Way | None:
        """Return the way to be tried first."""
        return next(iter(self.usable(now_s)), None)

    def worked(self, way: Way) -> None:
        """Note a photo."""
        way.failures_before = way.failures
        way.failures = way.rests = 0
        way.resting_until_s = 0.0
        way.cause = ""

    def failed(self, way: Way, cause: str, now_s: float) -> bool:
        """Note a failure; return True if the way was given up for it."""
        if cause in BLAMELESS:
            return False
        way.failures += 1
        if not is_broken(cause) and way.failures < MAX_FAILURES:
            return False
        rest_s = min(FIRST_REST_S * 2.0 ** min(way.rests, MAX_RESTS), MAX_REST_S)
        way.resting_until_s = now_s + rest_s
        way.rests += 1
        way.failures = 0
        way.cause = cause
        return True

    def disappointed(self, way: Way, cause: str, now_s: float) -> bool:
        """Note that what seemed to be a photo was none: as if it had failed at once."""
        way.failures = way.failures_before
        return self.failed(way, cause, now_s)

    def table(self, now_s: float) -> tuple[str, ...]:
        """Return a line a way, for people: its kind, and why it is given up."""
        return tuple(
            f"{way.kind}: given up for {way.resting_until_s - now_s:.0f} s ({clean(way.cause)})"
            if way.rests_at(now_s)
            else way.kind
            for way in self.ways
        )


@dataclass(frozen=True, slots=True)
class Known:
    """What an adapter has learnt about a device, for people and for the command line."""

    protocol: str
    """What is spoken to it."""
    address: str
    """Where it is spoken to, without credentials."""
    way: str = ""
    """How the next photo will be taken; empty: the protocol has one way only."""
    ways: tuple[str, ...] = ()
    """Every way, the best first, with why it is given up."""
    login: str = ""
    """``none``, ``WS-Security`` or ``HTTP``."""
    skew_ms: int | None = None
    """How far its clock is ahead of ours; None: not known."""
    clock: str = ""
    """Where its time was read."""


T = TypeVar("T")


class Memory(Generic[T]):
    """What was learnt, by device id and address; bounded, the longest unused goes first."""

    def __init__(self, max_devices: int) -> None:
        self._max_devices = max_devices
        self._kept: OrderedDict[tuple[str, str], T] = OrderedDict()

    def get(self, device_id: str, address: str) -> T | None:
        """Return what is known of a device at an address."""
        key = (device_id, address)
        found = self._kept.get(key)
        if found is not None:
            self._kept.move_to_end(key)
        return found

    def keep(self, device_id: str, address: str, value: T) -> None:
        """Remember."""
        self._kept[device_id, address] = value
        self._kept.move_to_end((device_id, address))
        if len(self._kept) > self._max_devices:
            self._kept.popitem(last=False)

    def forget(self, device_id: str, address: str) -> None:
        """Forget, if anything is known."""
        self._kept.pop((device_id, address), None)

    def __len__(self) -> int:
        return len(self._kept)
