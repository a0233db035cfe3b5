"""Runs every source at the same time and gives what they see, as it comes."""

from __future__ import annotations

import asyncio
import socket
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from connectors.discovery.base import Tally
from connectors.discovery.dhip import Dhip
from connectors.discovery.identify import survey
from connectors.discovery.interfaces import neighbours
from connectors.discovery.mdns import Mdns
from connectors.discovery.sadp import Sadp
from connectors.discovery.ssdp import Ssdp
from connectors.discovery.wsd import WsDiscovery

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Mapping, Sequence

    from connectors.discovery.base import Scope, Sighting, Source
    from connectors.discovery.identify import Survey

GRACE_S: Final = 3.0
"""How much longer than asked a source may take before it is stopped; descriptions take 2 s."""

DISCARD_PORT: Final = 9
MAX_INTRODUCED: Final = 256
"""Hosts that the kernel is made to look up: its table has room for 1,024 by default, for all."""


def all_sources() -> tuple[Source, ...]:
    """Return one source of each protocol."""
    return (Mdns(), Ssdp(), WsDiscovery(), Sadp(), Dhip())


@dataclass(slots=True)
class Search:
    """One search: its counts and what it has seen, while it runs and afterwards."""

    scope: Scope
    sources: Sequence[Source]
    tallies: dict[str, Tally] = field(init=False)
    sightings: dict[Sighting, None] = field(default_factory=dict)
    """Each different one, in the order they came."""
    _introduced: set[str] = field(default_factory=set)
    arp: Callable[[], Mapping[str, str]] = neighbours

    def __post_init__(self) -> None:
        self.tallies = {source.name: Tally() for source in self.sources}

    async def run(self) -> AsyncGenerator[Sighting, None]:
        """Search, and give each sighting once, when it is first seen.

        A source that fails is noted in its tally, and the others go on. Ends
        :attr:`Scope.timeout_s` later, or up to :data:`GRACE_S` after that while something that
        was begun is finished.
        """
        queue: asyncio.Queue[Sighting | None] = asyncio.Queue(self.scope.limits.max_waiting)
        tasks = [asyncio.create_task(self._follow(one, queue)) for one in self.sources]
        closing = asyncio.create_task(self._close(tasks, queue))
        try:
            while (found := await queue.get()) is not None:
                tally = self.tallies[found.source]
                if found in self.sightings:
                    continue
                if len(self.sightings) >= self.scope.limits.max_sightings:
                    tally.refuse("overflow")
                    continue
                tally.sightings += 1
                self._introduce(found.host)
                self.sightings[found] = None
                yield found
            for task in tasks:
                if task.done() and not task.cancelled():
                    task.result()  # a bug of ours is not hidden
        finally:
            for task in (*tasks, closing):
                task.cancel()
            await asyncio.gather(*tasks, closing, return_exceptions=True)

    def survey(self) -> Survey:
        """Merge what was seen so far and say what it is; may be called in another thread."""
        return survey(tuple(self.sightings), self.arp())

    def _introduce(self, host: str) -> None:
        """Have the kernel learn a neighbour's MAC address, once, by an empty datagram.

        It goes to the discard port. Who has answered us is known already; who answered all by
        multicast DNS is not.
        """
        full = len(self._introduced) >= MAX_INTRODUCED
        if full or host in self._introduced or not self.scope.permits(host):
            return
        self._introduced.add(host)
        with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
            one.setblocking(False)
            one.sendto(b"", (host, DISCARD_PORT))

    async def _follow(self, source: Source, queue: asyncio.Queue[Sighting | None]) -> None:
        tally = self.tallies[source.name]
        try:
            async with (
                asyncio.timeout(self.scope.timeout_s + GRACE_S),
                aclosing(source.search(self.scope, tally)) as seen,
            ):
                async for found in seen:
                    await queue.put(found)
        except TimeoutError:
            tally.failed = "it did not end in time and was stopped"
        except OSError as error:
            tally.failed = error.strerror or str(error)
        finally:
            tally.done = True

    @staticmethod
    async def _close(
        tasks: Sequence[asyncio.Task[None]], queue: asyncio.Queue[Sighting | None]
    ) -> None:
        await asyncio.wait(tasks)
        await queue.put(None)
