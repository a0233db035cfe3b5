"""Asks by UDP on every interface and gives what comes back, until a deadline.

What SSDP, WS-Discovery and the makers' broadcasts share. Each interface has a socket of its own,
bound to its address (and, where the system allows, to the device), so that a multicast leaves by
that interface whatever the routing table says, and an answer is known to have come from there.

The question is asked again after 0.25, 1 and 3 s: UDP loses, and five hundred cameras that answer
at once overflow a socket's buffer. Sockets are emptied into a bounded queue before anything is
parsed, for the same reason.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import Counter, deque
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from connectors.discovery.base import remaining_s

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from connectors.discovery.base import Scope, Tally
    from connectors.discovery.interfaces import Interface

ASK_AT_S: Final = (0.0, 0.25, 1.0, 3.0)
"""When the question is asked, from the start."""
RECEIVE_BUFFER_BYTES: Final = 4 * 1024 * 1024
"""Asked of the kernel, which may give less."""
READ_AT_ONCE: Final = 512
"""Datagrams read from one socket before the others have their turn."""
HOPS: Final = 2
"""Multicast time to live: UPnP's (UDA 2.0, 1.3.2), enough for one router that forwards it."""
PACE: Final = 64
"""Hosts asked one by one before the loop goes on."""


class Datagram(NamedTuple):
    """An answer, and the IPv4 address it came from."""

    data: bytes
    sender: str


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked, and where."""

    payloads: tuple[bytes, ...]
    port: int
    group: str = ""
    """Multicast group; empty: none."""
    broadcast: bool = False
    """Also by broadcast, to the network's own and the limited one."""
    listen: bool = False
    """Answers may come to the group or by broadcast, to ``port``, instead of to the asker."""


class _Inbox:
    """Datagrams that wait to be read; bounded as a whole and for each sender."""

    def __init__(self, scope: Scope, tally: Tally, own: tuple[bytes, ...]) -> None:
        self._own = frozenset(own)
        self._limits = scope.limits
        self._permits = scope.permits
        self._tally = tally
        self._waiting: deque[Datagram] = deque()
        self._of_one: Counter[str] = Counter()
        self._waiting_bytes = 0
        self._taken = 0
        self._some = asyncio.Event()

    def read(self, sock: socket.socket) -> None:
        """Take what has come to a socket."""
        limits, tally = self._limits, self._tally
        for _ in range(READ_AT_ONCE):
            try:
                data, (sender, _port) = sock.recvfrom(limits.max_answer_bytes + 1)
            except BlockingIOError:
                return
            except OSError:  # an ICMP refusal of something that was asked
                continue
            if data in self._own:  # our question, heard by ourselves
                continue
            tally.answers += 1
            tally.answer_bytes += len(data)
            if len(data) > limits.max_answer_bytes:
                tally.refuse("too_large")
            elif not self._permits(sender):
                tally.refuse("not_allowed")
            elif self._full(len(data)):
                tally.refuse("overflow")
            elif self._of_one[sender] >= limits.max_answers_of_one:
                tally.refuse("flood")
            else:
                self._of_one[sender] += 1
                self._taken += 1
                self._waiting_bytes += len(data)
                self._waiting.append(Datagram(data, sender))
                self._some.set()

    async def take(self, deadline_s: float) -> Datagram | None:
        """Return the next one; None: there was none until the deadline."""
        while not self._waiting:
            self._some.clear()
            try:
                async with asyncio.timeout_at(deadline_s):
                    await self._some.wait()
            except TimeoutError:
                return None
        datagram = self._waiting.popleft()
        self._waiting_bytes -= len(datagram.data)
        return datagram

    def _full(self, more_bytes: int) -> bool:
        limits = self._limits
        return (
            self._taken >= limits.max_answers
            or len(self._waiting) >= limits.max_waiting
            or self._waiting_bytes + more_bytes > limits.max_waiting_bytes
        )


async def ask(question: Question, scope: Scope, tally: Tally) -> AsyncGenerator[Datagram, None]:
    """Ask everywhere in scope and give the answers, those to our own question left out.

    Raises OSError if there is no interface and no host that could be asked.
    """
    loop = asyncio.get_running_loop()
    deadline_s = loop.time() + scope.timeout_s
    inbox = _Inbox(scope, tally, question.payloads)
    sockets: list[socket.socket] = []
    senders: list[tuple[socket.socket, list[tuple[str, int]]]] = []
    asking: asyncio.Task[None] | None = None
    try:
        problem = _open(question, scope, sockets, senders)
        if not senders:
            raise problem or OSError("there is nothing to ask")
        for sock in sockets:
            loop.add_reader(sock.fileno(), inbox.read, sock)
        asking = asyncio.create_task(_ask_again(question, senders, tally, deadline_s))
        while (datagram := await inbox.take(deadline_s)) is not None:
            yield datagram
    finally:
        if asking is not None:
            asking.cancel()
            with suppress(asyncio.CancelledError):
                await asking
        for sock in sockets:
            loop.remove_reader(sock.fileno())
            sock.close()


def _open(
    question: Question,
    scope: Scope,
    sockets: list[socket.socket],
    senders: list[tuple[socket.socket, list[tuple[str, int]]]],
) -> OSError | None:
    """Open a socket for each interface, and one for hosts; return what went wrong last."""
    problem: OSError | None = None
    for interface in scope.interfaces:
        to = [(question.group, question.port)] if question.group else []
        if question.broadcast and interface.broadcast:
            to += [(interface.broadcast, question.port), ("255.255.255.255", question.port)]
        if not to:
            continue
        try:
            sock = _socket(sockets, interface)
            sock.bind((interface.address, 0))
            senders.append((sock, to))
        except OSError as error:
            problem = error
            continue
        if question.listen:
            # Best effort: another program may hold the port for itself alone.
            with suppress(OSError):
                _join(_socket(sockets, interface), question, interface)
    if scope.hosts:
        try:
            sock = _socket(sockets, None)
            sock.bind(("", 0))
            senders.append((sock, [(host, question.port) for host in scope.hosts]))
        except OSError as error:
            problem = error
    return problem


def _socket(sockets: list[socket.socket], interface: Interface | None) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sockets.append(sock)
    sock.setblocking(False)
    with suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    if interface is not None:
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, HOPS)
        sock.setsockopt(
            socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(interface.address)
        )
        if hasattr(socket, "SO_BINDTODEVICE"):
            with suppress(OSError):  # older kernels want a privilege for it
                name = interface.name.partition(":")[0].encode()
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, name)
    return sock


def _join(sock: socket.socket, question: Question, interface: Interface) -> None:
    """Hear what is sent to the question's port, by group or by broadcast."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("", question.port))
    if question.group:
        group, own = socket.inet_aton(question.group), socket.inet_aton(interface.address)
        sock.setsockopt(
            socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, struct.pack("4s4s", group, own)
        )


async def _ask_again(
    question: Question,
    senders: Sequence[tuple[socket.socket, list[tuple[str, int]]]],
    tally: Tally,
    deadline_s: float,
) -> None:
    """Send every payload everywhere, several times."""
    began_s = asyncio.get_running_loop().time()
    for at_s in ASK_AT_S:
        if began_s + at_s >= deadline_s:
            return
        await asyncio.sleep(remaining_s(began_s + at_s))
        for sock, places in senders:
            for number, place in enumerate(places):
                for payload in question.payloads:
                    with suppress(OSError):  # no route at the moment; it is asked again
                        sock.sendto(payload, place)
                        tally.asked += 1
                if number % PACE == PACE - 1:
                    await asyncio.sleep(0)
