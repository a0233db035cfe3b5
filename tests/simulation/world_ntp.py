"""Time servers of a world, and what a process's clock makes of them.

Real are ``NtpSource`` (rounds, stale servers, doubt), filter, vote, drift and the clock that is
slewed; pretended are the sockets. Servers answer after delays that differ there and back, queue up,
fall silent all together, and one of them lies: fewer than half of the servers, which is what the
vote is good for. The machine's oscillator, on which the clock stands, runs too fast or too slow.

The checker ``time``: a clock that servers have set is never further from the true time than the
bound it states. With ``early``, which goes by a worker's own clock, no shutter opens before its
true time by more than that.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

from world_machine import EPOCH_S

from streams.core import ntp_select
from streams.core.ntp_packet import Answer
from streams.runtime.ntp import NtpSettings, NtpSource, TimeServer

if TYPE_CHECKING:
    import random

    from world import World
    from world_process import Process

DISPERSION_S = 0.002
"""What an honest server's clock may be wrong by, and says."""
SETTINGS = {"every_s": 10.0, "burst": 4, "spacing_s": 0.5}
"""Rounds come more often than in earnest, as worlds are short."""
GRAIN_S = 2e-6
"""Of a clock's readings: floats of so many seconds."""


class TimeSite:
    """All time servers."""

    def __init__(self, count: int) -> None:
        self.names = tuple(f"ntp-{number}" for number in range(count))
        self.silent = False
        self.lie_s = 0.0
        """By how much the first of them is wrong."""
        self.queue_s = 0.0
        """The longest that packets wait on one of their two ways."""


class Asked(TimeServer):
    """One server as a process asks it."""

    def __init__(self, name: str, world: World, process: Process, chance: random.Random) -> None:
        super().__init__(name, process.clock.monotonic_s)
        self._world, self._process, self._chance = world, process, chance
        stream = world.plan.stream(f"ntp/{name}")
        self._way_s = stream.choice((0.0005, 0.01, 0.04))
        self._wrong_s = stream.uniform(-DISPERSION_S, DISPERSION_S)

    async def _socket(self) -> Any:
        if self._process.machine.cut:
            raise OSError("the network is unreachable")
        return contextlib.nullcontext()

    async def _exchange(self, sock: Any, utc_s: float) -> bool:
        site, chance = self._world.time, self._chance
        sent_s = self.monotonic_s()
        queue_s = site.queue_s * chance.random() ** 2
        ways = [self._way_s * chance.uniform(1.0, 1.5), self._way_s * chance.uniform(1.0, 1.5)]
        ways[chance.random() < 0.3] += queue_s
        met = self._world.watch.met
        met["ntp_queues"] += bool(site.queue_s)
        if site.silent or self._process.machine.cut or chance.random() < 0.05:
            met["ntp_silent"] += site.silent
            await asyncio.sleep(self.patience_s)
            return True
        await asyncio.sleep(ways[0])
        lie_s = site.lie_s if self.name == site.names[0] else 0.0
        met["ntp_lies"] += bool(lie_s)
        receive_s = EPOCH_S + self._world.schedule.now_s + self._wrong_s + lie_s
        await asyncio.sleep(ways[1])
        came_s = self.monotonic_s()
        if came_s - sent_s <= self.patience_s:
            answer = Answer(receive_s, receive_s, 0.01, DISPERSION_S, 1e-6, 2)
            self.samples.append(ntp_select.sample_of(answer, sent_s, came_s))
            self.answers, self.trouble, self.stratum = True, "", 2
        return True


def keeper(world: World, process: Process) -> NtpSource | None:
    """Return what keeps a process's clock; None where the world has no time servers."""
    names = world.time.names
    if not names:
        return None
    found = NtpSource(
        NtpSettings(names, **SETTINGS),  # type: ignore[arg-type]
        process.clock,
        process.metrics,
    )
    chance = world.plan.stream(f"ntp/{process.loop_.name}/{world.schedule.now_s:.6f}")
    found.servers = [Asked(name, world, process, chance) for name in names]
    return found


def look_at_clock(world: World, process: Process) -> None:
    """Compare a process's clock with the true time."""
    error_s = process.clock.error_s()
    if error_s is None:
        return
    world.watch.counts["clocks"] += 1
    agreed = process.ntp.agreement if process.ntp is not None else None
    if world.time.lie_s and agreed is not None and agreed.true == world.time.names[:1]:
        return  # the liar is the only one that was heard
    off_s = process.clock.now_s() - (EPOCH_S + world.schedule.now_s)
    if abs(off_s) > error_s + GRAIN_S:
        text = f"{process.loop_.name} is {off_s * 1e3:+.3f} ms off and says {error_s * 1e3:.3f}"
        world.watch.find("time", text)
