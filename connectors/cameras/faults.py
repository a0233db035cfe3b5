"""What can be wrong with a simulated camera, and which request meets it.

A fault comes from one of three places, the first that names one counts: the request's own query
(``?fault=slow&delay_ms=500``), the device's entry in the book, the entry ``*`` for all devices. The
book is a JSON object, from a file at the start or by ``POST /faults`` later:

    {"cam-00007": {"kind": "html"}, "*": {"kind": "slow", "delay_ms": 200, "every": 10}}

``only`` narrows a fault to one kind of request; ``every: n`` hits each n-th request of a device,
beginning with the n-th, so that a run is the same each time. ``{"cam-00007": null}`` takes a fault
back.
"""

from __future__ import annotations

from typing import Final, Literal, get_args

import msgspec

from schemas.errors import UsageError

FaultKind = Literal[
    "slow",
    "drip",
    "never",
    "disconnect",
    "reset",
    "cut",
    "cut-jpeg",
    "empty",
    "html",
    "html-as-jpeg",
    "stale",
    "padding",
    "dark",
    "huge",
    "endless",
    "basic",
    "digest",
    "redirect",
    "status",
    "not-http",
]
FAULTS: Final[dict[str, str]] = {
    "slow": "wait delay_ms before the headers",
    "drip": "send the body a byte at a time, delay_ms between",
    "never": "take the request and never answer",
    "disconnect": "close the connection instead of answering",
    "reset": "reset the connection (TCP RST) instead of answering",
    "cut": "announce the whole body, send half, close",
    "cut-jpeg": "send half of the picture as if it were whole",
    "empty": "send a body of no bytes",
    "html": "send a login page with status 200",
    "html-as-jpeg": "send a login page as image/jpeg",
    "stale": "send the device's last picture again",
    "padding": "add 16 NUL bytes behind the picture",
    "dark": "send the picture nearly black, as by night or under a lid",
    "huge": "announce and begin to send size_bytes",
    "endless": "send chunks without end",
    "basic": "ask for Basic credentials (user, password)",
    "digest": "ask for Digest credentials (user, password), RFC 7616, MD5, qop auth",
    "redirect": "redirect to location",
    "status": "answer with this HTTP status",
    "not-http": "answer with something that is not HTTP",
}
"""Every fault, with what it does."""
MAX_FAULT_DEVICES: Final = 100_000


class Fault(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One way of going wrong."""

    kind: FaultKind
    delay_ms: int = 100
    every: int = 1
    only: Literal["", "snapshot", "capture", "frame"] = ""
    """Which of a device's requests meet it; empty: all."""
    status: int = 500
    location: str = "http://169.254.169.254/latest/meta-data/"
    user: str = "admin"
    password: str = "secret"  # noqa: S105 - a pretended camera
    size_bytes: int = 64 * 1024 * 1024

    def __post_init__(self) -> None:
        if self.every < 1:
            raise ValueError("every must be at least 1")
        if not 0 <= self.delay_ms <= 3_600_000:
            raise ValueError("delay_ms must be from 0 to 3,600,000")
        if not 200 <= self.status <= 599:
            raise ValueError("status must be from 200 to 599")
        if any(sign in self.location for sign in "\r\n"):
            raise ValueError("location must be one line")


assert set(FAULTS) == set(get_args(FaultKind))

_BOOK: Final = msgspec.json.Decoder(dict[str, Fault | None])


class FaultBook:
    """Which device has which fault."""

    def __init__(self, faults: dict[str, Fault] | None = None) -> None:
        self._faults: dict[str, Fault] = dict(faults or {})
        self._requests: dict[str, int] = {}

    def update_json(self, text: bytes) -> None:
        """Add, replace and take back faults; raises UsageError with what was expected."""
        try:
            changes = _BOOK.decode(text)
        except msgspec.MsgspecError as error:
            raise UsageError(f"the faults cannot be read: {error}") from error
        for device_id, fault in changes.items():
            if fault is None:
                self._faults.pop(device_id, None)
            else:
                self._faults[device_id] = fault
        if len(self._faults) > MAX_FAULT_DEVICES:
            raise UsageError(f"at most {MAX_FAULT_DEVICES} devices can have a fault of their own")

    def pick(self, device_id: str, kind: str, query: dict[str, str]) -> Fault | None:
        """Return the fault this request meets; raises UsageError for a query that is none."""
        if "fault" in query:
            return from_query(query)
        if not self._faults:
            return None
        fault = self._faults.get(device_id) or self._faults.get("*")
        if fault is None or (fault.only and fault.only != kind):
            return None
        if fault.every == 1:
            return fault
        count = self._requests[device_id] = self._requests.get(device_id, 0) + 1
        return fault if count % fault.every == 0 else None


def from_query(query: dict[str, str]) -> Fault:
    """Read a fault from a request's query."""
    fields = {name: value for name, value in query.items() if name in Fault.__struct_fields__}
    try:
        return msgspec.convert({**fields, "kind": query["fault"]}, Fault, strict=False)
    except msgspec.ValidationError as error:
        raise UsageError(f"no such fault: {error}") from error
