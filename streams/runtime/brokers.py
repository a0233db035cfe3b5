"""Connections to the brokers of a cluster, one a broker, for one thread that waits for answers.

A request is asked of whoever leads its partitions or coordinates its group or transaction. Who that
is is looked up once and kept until it turns out to be wrong. Nothing is asked again here: a broken
connection, a late answer and a wrong address are all ``Again``, and the caller knows what may be
asked twice.
"""

from __future__ import annotations

import socket
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from streams.runtime import wire

if TYPE_CHECKING:
    from collections.abc import Iterable

    from streams.runtime.wire import Request, TopicPartition

Address = tuple[str, int]

_CONNECT_S: Final = 5.0
_BIGGEST_ANSWER: Final = 64 * 1024 * 1024


class Again(Exception):  # noqa: N818  # not a failure: what is to be done
    """The request may be asked again; the text says why."""


class Connection:
    """One connection to one broker. Answers come in the order of the requests."""

    def __init__(self, address: Address, client_id: str) -> None:
        """Connect.

        Raises:
            OSError: nobody answers there.

        """
        self._socket = socket.create_connection(address, _CONNECT_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._client_id = client_id.encode()
        self._input = self._socket.makefile("rb", 64 * 1024)
        self._waiting: deque[tuple[int, Request]] = deque()
        self._next = 0

    def send(self, request: Request, timeout_s: float) -> None:
        """Send a request; ``receive`` has its answer.

        Raises:
            OSError: it cannot be sent.

        """
        correlation = self._next
        self._next = (correlation + 1) & 0x7FFFFFFF
        self._socket.settimeout(timeout_s)
        self._socket.sendall(request.frame(correlation, self._client_id))
        self._waiting.append((correlation, request))

    def receive(self, timeout_s: float) -> Any:
        """Wait for the answer to the oldest request that has none.

        Raises:
            OSError: it did not come, or is none.

        """
        correlation, request = self._waiting.popleft()
        self._socket.settimeout(timeout_s)
        length = int.from_bytes(self._read(4), "big")
        if length > _BIGGEST_ANSWER:
            raise ConnectionError(f"an answer of {length:,} bytes")
        try:
            return request.answer(self._read(length), correlation)
        except ValueError as error:
            raise ConnectionError(str(error)) from error

    def _read(self, count: int) -> bytes:
        data: bytes = self._input.read(count)
        if len(data) < count:
            raise ConnectionError("the broker closed the connection")
        return data

    def close(self) -> None:
        """Close it; what is not answered never will be."""
        with suppress(OSError):
            self._input.close()
        self._socket.close()


class Brokers:
    """Who leads and who coordinates, and the connections to them. Not for two threads at a time."""

    def __init__(self, bootstrap: str, client_id: str) -> None:
        """Take bootstrap servers, ``host:port`` separated by commas; connects to nobody yet."""
        self._bootstrap = [_address(part) for part in bootstrap.split(",")]
        self._client_id = client_id
        self._connections: dict[Address, Connection] = {}
        self._coordinators: dict[tuple[int, str], Address] = {}
        self._nodes: dict[int, Address] = {}
        self._leaders: dict[TopicPartition, int] = {}

    # -- who -----------------------------------------------------------------------------------

    def coordinator(self, kind: int, name: str, timeout_s: float) -> Address:
        """Return who coordinates a group or a transaction (``wire.GROUP``, ``wire.TRANSACTION``).

        Raises:
            Again: nobody does at present, or nobody knows.

        """
        known = self._coordinators.get((kind, name))
        if known is not None:
            return known
        address: Address
        error, address = self.ask_any(wire.find_coordinator(kind, name), timeout_s)
        if error:
            raise Again(wire.error_text(error))
        self._coordinators[kind, name] = address
        return address

    def leaders(
        self, places: Iterable[TopicPartition], timeout_s: float
    ) -> dict[Address, list[TopicPartition]]:
        """Return who leads these partitions.

        Raises:
            Again: one has no leader at present.

        """
        wanted = list(places)
        unknown = {topic for topic, partition in wanted if (topic, partition) not in self._leaders}
        if unknown:
            nodes, leaders = self.ask_any(wire.metadata(unknown), timeout_s)
            self._nodes.update(nodes)
            self._leaders.update(leaders)
        found: dict[Address, list[TopicPartition]] = {}
        for place in wanted:
            node = self._leaders.get(place)
            if node is None or node not in self._nodes:
                raise Again(f"{place[0]}-{place[1]} has no leader")
            found.setdefault(self._nodes[node], []).append(place)
        return found

    def forget_coordinator(self, kind: int, name: str) -> None:
        """Look it up anew next time."""
        self._coordinators.pop((kind, name), None)

    def forget_leaders(self, places: Iterable[TopicPartition]) -> None:
        """Look them up anew next time."""
        for place in places:
            self._leaders.pop(place, None)

    # -- ask -----------------------------------------------------------------------------------

    def send(self, address: Address, request: Request, timeout_s: float) -> None:
        """Send a request; ``receive`` has its answer.

        Raises:
            Again: it cannot be sent.

        """
        try:
            connection = self._connections.get(address)
            if connection is None:
                connection = self._connections[address] = Connection(address, self._client_id)
            connection.send(request, timeout_s)
        except OSError as error:
            raise self._broken(address, error) from error

    def receive(self, address: Address, timeout_s: float) -> Any:
        """Wait for the next answer of a broker.

        Raises:
            Again: it did not come.

        """
        connection = self._connections.get(address)
        if connection is None:
            raise Again(f"the connection to {_named(address)} was lost")
        try:
            return connection.receive(timeout_s)
        except OSError as error:
            raise self._broken(address, error) from error

    def ask(self, address: Address, request: Request, timeout_s: float) -> Any:
        """Send a request and wait for its answer.

        Raises:
            Again: there is none.

        """
        self.send(address, request, timeout_s)
        return self.receive(address, timeout_s)

    def ask_any(self, request: Request, timeout_s: float) -> Any:
        """Ask the first broker that answers: those we are connected to, then all we know of.

        Raises:
            Again: none does.

        """
        failed: Again | None = None
        for address in dict.fromkeys((*self._connections, *self._nodes.values(), *self._bootstrap)):
            try:
                return self.ask(address, request, timeout_s)
            except Again as error:
                failed = error
        raise failed or Again("no broker is known")

    def close(self) -> None:
        """Close all connections."""
        while self._connections:
            self._connections.popitem()[1].close()

    def _broken(self, address: Address, error: OSError) -> Again:
        """Drop a connection, and what was learnt of its broker: another may have its place."""
        connection = self._connections.pop(address, None)
        if connection is not None:
            connection.close()
        for key, known in list(self._coordinators.items()):
            if known == address:
                del self._coordinators[key]
        for place, node in list(self._leaders.items()):
            if self._nodes.get(node) == address:
                del self._leaders[place]
        return Again(f"{_named(address)}: {error}")


def _address(text: str) -> Address:
    host, _, port = text.strip().rpartition(":")
    return host.strip("[]"), int(port)


def _named(address: Address) -> str:
    return f"{address[0]}:{address[1]}"
