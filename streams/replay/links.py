"""Connections to the brokers that lead partitions, over which requests go as they are given."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from aiokafka.conn import create_conn

from infra.kafka.admin import admin_client, cluster_metadata
from streams.replay.log import SILENCE_S

if TYPE_CHECKING:
    from confluent_kafka.admin import AdminClient


class NoLeaderError(Exception):
    """A partition has no leader now."""


class Links:
    """One connection a broker, used by one event loop. Close them."""

    def __init__(self, kafka: str, admin: AdminClient | None = None) -> None:
        """Take the cluster; nothing is opened yet."""
        self._kafka = kafka
        self._admin = admin
        self._open: dict[int, Any] = {}
        self._nodes: dict[int, tuple[str, int]] = {}
        self._leaders: dict[tuple[str, int], int] = {}

    def leader(self, place: tuple[str, int]) -> int:
        """Return the broker that leads a partition. NoLeaderError, BrokerError."""
        if place not in self._leaders:
            self._admin = self._admin or admin_client(self._kafka)
            found = cluster_metadata(self._admin, self._kafka)
            self._nodes = {n: (str(one.host), one.port) for n, one in found.brokers.items()}
            self._leaders = {
                (str(name), number): part.leader
                for name, topic in found.topics.items()
                for number, part in topic.partitions.items()
            }
        leader = self._leaders.get(place, -1)
        if leader not in self._nodes:
            self._leaders.clear()
            raise NoLeaderError(f"{place[0]}-{place[1]} has no leader")
        return leader

    def broken(self, node: int) -> bool:
        """Say whether there was a connection to a broker that is no more."""
        return node in self._open and not self._open[node].connected()

    async def to(self, node: int) -> Any:
        """Return the connection to a broker. What is sent over it is answered in its order."""
        link = self._open.get(node)
        if link is None or not link.connected():
            link = self._open[node] = await create_conn(
                *self._nodes[node], request_timeout_ms=round(SILENCE_S * 1000)
            )
        return link

    async def close(self) -> None:
        """Let go of all of them, and of what is on its way; leaders are looked for anew."""
        links, self._open = self._open, {}
        self._leaders.clear()
        for link in links.values():
            closed = link.close()
            if closed is not None:
                await closed
        asked = asyncio.all_tasks() - {asyncio.current_task()}
        await asyncio.gather(*asked, return_exceptions=True)
