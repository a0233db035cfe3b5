"""Device health as simply as it can be said: every device is looked at each time, nothing is fast."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from streams.core.health import HealthSettings


@dataclass
class Device:
    since: int
    online: bool = False
    flapping: bool = False
    seen: int = 0
    sequence: int = -1
    at: int = -(2**62)
    doubt: tuple[int, int] | None = None
    level: Fraction = Fraction(0)
    filled: int = 0


@dataclass
class Model:
    """The same questions as ``streams.core.health.Health``; events as (device, online, flapping)."""

    settings: HealthSettings
    now: int
    devices: dict[bytes, Device] = field(default_factory=dict)
    events: list[tuple[bytes, bool, bool]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.floor = self.now

    def beat(self, key: bytes, sequence: int, at: int, seen: int) -> str:
        device, verdict = self.devices.get(key), "fresh"
        if device is None:
            device, verdict = self.devices.setdefault(key, Device(seen)), "first"
        elif sequence <= device.sequence:
            doubt = device.doubt
            if at > device.at:
                verdict = "restart"
            elif (sequence, at) == (device.sequence, device.at):
                return "repeat"
            elif doubt and sequence > doubt[0] and at > doubt[1]:
                verdict = "restart"
            else:
                if not doubt or sequence < doubt[0]:
                    device.doubt = (sequence, at)
                return "old"
            device.doubt = None
        device.sequence, device.at, device.seen = sequence, at, max(device.seen, seen)
        if not device.online:
            self.change(key, device, seen, first=verdict == "first")
        return verdict

    def change(self, key: bytes, device: Device, at: int, first: bool = False) -> None:
        at = max(at, device.since)
        told = not device.flapping
        device.online, device.since = not device.online, at
        if not first:
            drop = self.settings.flap_window_ms // self.settings.flap_changes
            passed = Fraction(max(at - device.filled, 0), drop)
            level = max(device.level - passed, Fraction(0)) + 1
            device.flapping |= level > self.settings.flap_changes
            device.level, device.filled = level, at
        if told:
            self.events.append((key, device.online, device.flapping))

    def advance(self, now: int) -> None:
        now = max(now, self.now)
        if now - self.now > self.settings.blind_ms:
            self.floor = now
        self.now = now
        for key, device in list(self.devices.items()):
            silent = max(device.seen, self.floor) + self.settings.timeout_ms <= now
            if device.online and silent:
                self.change(key, device, now)
            elif device.flapping and device.since + self.settings.stable_ms <= now:
                device.flapping, device.level = False, Fraction(0)
                self.events.append((key, device.online, False))
            elif not device.online and device.since + self.settings.forget_ms <= now:
                del self.devices[key]
