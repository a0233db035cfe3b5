"""What is set against the faults: each protocol's simulated camera. The columns of the matrix.

A protocol takes part as soon as its adapter is registered and its simulated camera is there.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import Final

from connectors.cameras import Cameras


@dataclass(frozen=True, slots=True)
class Subject:
    """A protocol, and the program that is a good camera of it."""

    protocol: str
    program: str
    """The module that is the camera; prints ``{"port": N, …}`` when it is ready."""
    address: str
    """A device's address; ``{port}`` and ``{device}`` stand in it."""
    arguments: tuple[str, ...] = ()
    tls_scheme: str = ""
    """The scheme by which TLS is asked for; empty: the protocol has none of its own."""
    steps: int = 0
    """Requests that a photo needs, where a capture makes more after it; 0: all of them."""
    questions: int = 1
    """Ways in which a device that is not known yet is asked, one after the other."""
    slow: bool = False
    """A good capture takes much longer than a round trip (a stream has to come to a picture)."""

    def at(self, port: int, device: str, *, tls: bool = False) -> str:
        """Return the address of a device behind this port."""
        address = self.address.format(port=port, device=device)
        return f"{self.tls_scheme}://{address.partition('://')[2]}" if tls else address


ALL: Final = (
    Subject(
        "http-snapshot",
        "connectors.cameras.simulated",
        "http://127.0.0.1:{port}/cam/{device}/snapshot.jpg",
        ("--tether", "--devices", "1000"),
        "https",
    ),
    Subject(
        "http-json",
        "connectors.cameras.simulated",
        "http://127.0.0.1:{port}/cam/{device}",
        ("--tether", "--devices", "1000"),
        "https",
    ),
    Subject(
        "onvif",
        "connectors.cameras.simulated_onvif",
        "http://127.0.0.1:{port}/onvif/{device}/device_service",
        ("--devices", "1000"),
        "https",
    ),
    Subject(
        "rtsp",
        "connectors.cameras.simulated_rtsp",
        "rtsp://127.0.0.1:{port}/{device}",
        ("--tether", "--transports", "tcp", "--gop", "5"),
        "rtsps",
        steps=3,  # DESCRIBE, SETUP, PLAY; a request for a key frame and TEARDOWN are left to chance
        slow=True,
    ),
    Subject(
        "auto",
        "connectors.cameras.simulated_onvif",
        "http://127.0.0.1:{port}/onvif/{device}/device_service",
        ("--devices", "1000"),
        "https",
        questions=4,
    ),
)


def subjects() -> list[Subject]:
    """Return those of :data:`ALL` that can be tried."""
    known = Cameras().protocols
    return [
        subject
        for subject in ALL
        if subject.protocol in known and importlib.util.find_spec(subject.program) is not None
    ]
