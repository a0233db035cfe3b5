"""Asks devices that send no heartbeats whether they are there.

Each device has its place within the period, by a hash of its id: polls are spread evenly, and the
same device is asked at the same moments by whoever asks (no jitter, no memory, nothing to agree
on). A heartbeat's sequence is the number of the period, so that it grows over restarts.

A poll is the adapter's own ``connect``, **without credentials**: a poll never logs in, so it locks
no account however wrong a password is, and it is cheap. Any answer of the device is a sign of life,
a refusal included ("401" is what a camera with a password says to it). Silence, a closed door
(TCP refused) and an address that may not be contacted are none: then there is no heartbeat, and
device health draws the conclusion when the timeout has passed.

Bounds: ``at_once`` polls in all, ``per_host`` to a host (a recorder is one host with many
channels), ``timeout_ms`` each. A device whose turn comes while its last poll still waits is left
out and counted (``late``): the poller is then too small for its share.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

import msgspec
from yarl import URL

from schemas.errors import CameraError, UsageError
from schemas.records import DeviceHeartbeat
from streams.core.ids import shard_of
from streams.core.spread import offset_ms
from streams.core.wheel import Wheel

if TYPE_CHECKING:
    from collections.abc import Callable

    from schemas.records import DeviceProfile

NULL_CAMERA: Final = "null-camera"
"""A camera that is nowhere: asking it tells of nothing."""
SILENT: Final = frozenset(
    {
        *("timeout", "refused", "unreachable", "disconnected"),
        *("address_not_allowed", "bad_address", "unknown_protocol"),
    }
)
"""Causes of a failed ``connect`` that are no answer of the device."""
LOOK_MS: Final = 100
"""How often the poller looks for devices whose turn it is."""


class Connects(Protocol):
    """What the poller needs of the cameras: ``connectors.cameras.registry.Cameras`` has it."""

    async def connect(self, profile: DeviceProfile, *, deadline_s: float) -> None:
        """Check that the device can be spoken to. Raises CameraError."""
        ...


@dataclass(frozen=True, slots=True)
class PollSettings:
    """How devices are asked."""

    every_ms: int = 30_000
    """Period; a quarter of health's timeout leaves room for three that get lost. 1,000 to
    3,600,000."""
    timeout_ms: int = 3_000
    """How long one poll may take. 10 to 60,000."""
    at_once: int = 256
    """Polls under way in all. 1 to 8,192."""
    per_host: int = 4
    """Polls under way to one host. 1 to 256."""
    share: tuple[int, int] = (0, 1)
    """(k, n): of n pollers this is number k, from 0 on; it asks the devices of its shards."""
    null_cameras: bool = False
    """Ask null cameras as well: for benchmarks."""

    def __post_init__(self) -> None:
        bounds = {
            "every_ms": (1_000, 3_600_000),
            "timeout_ms": (10, 60_000),
            "at_once": (1, 8_192),
            "per_host": (1, 256),
        }
        for name, (low, high) in bounds.items():
            value: int = getattr(self, name)
            if not low <= value <= high:
                raise UsageError(f"{name} is {value:,} and must lie between {low:,} and {high:,}.")
        k, n = self.share
        if not 0 <= k < n <= 1_024:
            raise UsageError(f"A share is k of n with 0 <= k < n <= 1,024, not {k} of {n}.")


@dataclass(slots=True)
class _Device:
    profile: DeviceProfile
    """Without its credentials."""
    host: str
    offset_ms: int
    busy: bool = False
    """It waits for its poll, or is being asked."""
    gone: bool = False


def _wall_ms() -> int:
    return time.time_ns() // 1_000_000


class Poller:
    """Asks devices and hands on a heartbeat for each that answers. One event loop uses it."""

    def __init__(
        self,
        settings: PollSettings,
        cameras: Connects,
        alive: Callable[[DeviceHeartbeat], None],
        count: Callable[[str], None] = lambda _outcome: None,
        now_ms: Callable[[], int] = _wall_ms,
    ) -> None:
        """Take the parts.

        ``alive`` gets the heartbeats; ``count`` hears the outcome of each poll: ``alive``, ``late``
        or the cause of the silence.
        """
        self._settings = settings
        self._cameras = cameras
        self._alive = alive
        self._count = count
        self._now_ms = now_ms
        self._wheel = Wheel(now_ms())
        self._index: dict[str, int] = {}
        self._devices: list[_Device] = []
        self._waiting: deque[_Device] = deque()
        self._hosts: dict[str, int] = {}
        """Polls under way, by host."""
        self._held: dict[str, deque[_Device]] = {}
        """Devices whose host has as many as it may."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._broken: BaseException | None = None
        """What a poll failed of that is no answer of a camera."""

    def __len__(self) -> int:
        return len(self._index)

    def learn(self, profile: DeviceProfile) -> None:
        """Take in what is known of a device: it is new, another, or removed."""
        settings, device_id = self._settings, profile.device_id
        k, n = settings.share
        wanted = not profile.removed and (settings.null_cameras or profile.protocol != NULL_CAMERA)
        if not wanted or shard_of(device_id) % n != k:
            self.forget(device_id)
            return
        known = self._index.get(device_id)
        nameless = msgspec.structs.replace(profile, credentials_ref="")
        host = _host(profile.address)
        if known is not None:
            self._devices[known].profile, self._devices[known].host = nameless, host
            return
        index = self._index[device_id] = len(self._devices)
        device = _Device(nameless, host, offset_ms(device_id, settings.every_ms))
        self._devices.append(device)
        self._wheel.grow(index + 1)
        self._wheel.insert(index, self._next(device, self._wheel.clock_ms))

    def forget(self, device_id: str) -> None:
        """Ask a device no more."""
        index = self._index.pop(device_id, None)
        if index is not None:
            self._devices[index].gone = True
            self._wheel.cancel(index)

    def _next(self, device: _Device, after_ms: int) -> int:
        """Return the device's first moment after a time."""
        every_ms = self._settings.every_ms
        return after_ms + every_ms - (after_ms - device.offset_ms) % every_ms

    # -- asking --------------------------------------------------------------------------------

    async def run(self) -> None:
        """Ask each device in its turn, until cancelled.

        Raises:
            Exception: a heartbeat could not be handed on, or an adapter raised what it must not.

        """
        try:
            while True:
                if self._broken is not None:
                    raise self._broken
                self.look()
                await asyncio.sleep(LOOK_MS / 1_000.0)
        finally:
            for task in self._tasks:
                task.cancel()

    def look(self) -> None:
        """Begin the polls whose turn it is."""
        now_ms = max(self._now_ms(), self._wheel.clock_ms)
        for index in self._wheel.advance(now_ms):
            device = self._devices[index]
            # What was missed, as this machine slept, is not made up for.
            self._wheel.insert(index, self._next(device, now_ms))
            if device.busy:
                self._count("late")
            else:
                device.busy = True
                self._waiting.append(device)
        self._start()

    def _start(self) -> None:
        """Begin as many of those that wait as may be."""
        while self._waiting and len(self._tasks) < self._settings.at_once:
            device = self._waiting.popleft()
            if device.gone:
                continue
            under_way = self._hosts.get(device.host, 0)
            if under_way >= self._settings.per_host:
                self._held.setdefault(device.host, deque()).append(device)
                continue
            self._hosts[device.host] = under_way + 1
            task = asyncio.get_running_loop().create_task(self._ask(device, device.host))
            self._tasks.add(task)
            task.add_done_callback(self._on_done)

    def _on_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._broken = error
        else:
            self._start()

    async def _ask(self, device: _Device, host: str) -> None:
        deadline_s = asyncio.get_running_loop().time() + self._settings.timeout_ms / 1_000.0
        number = (self._now_ms() - device.offset_ms) // self._settings.every_ms
        try:
            cause = await self._silence(device.profile, deadline_s)
        finally:
            self._leave(device, host)
        if not cause and not device.gone:
            self._alive(
                DeviceHeartbeat(
                    device.profile.device_id,
                    max(number, 0),
                    self._now_ms(),
                    math.nan,
                    math.nan,
                    math.nan,
                )
            )
        self._count(cause or "alive")

    async def _silence(self, profile: DeviceProfile, deadline_s: float) -> str:
        """Ask a device; return why it was silent, or nothing if it was not."""
        try:
            async with asyncio.timeout_at(deadline_s):
                await self._cameras.connect(profile, deadline_s=deadline_s)
        except CameraError as error:
            return error.cause if error.cause in SILENT else ""
        except TimeoutError:
            return "timeout"
        return ""

    def _leave(self, device: _Device, host: str) -> None:
        device.busy = False
        left = self._hosts[host] - 1
        if left:
            self._hosts[host] = left
        else:
            del self._hosts[host]
        held = self._held.get(host)
        if held:
            self._waiting.appendleft(held.popleft())
            if not held:
                del self._held[host]


def _host(address: str) -> str:
    """Return an address's host, or the address itself where it is none: a bound needs a name."""
    try:
        return URL(address).host or address
    except ValueError:
        return address
