"""The worker's clock, disciplined by NTP servers every 30 s (SPEC 1.5).

Every half a minute each server is asked a few times, two seconds apart, which is what servers that
limit rates allow. What came back goes through filter, vote and average, all pure
(``streams.core.ntp_select``), to one agreement, which the clock follows. It runs on the event loop;
the kernel's own stamp of an answer's arrival counts, so a busy loop or a commit in another thread
makes no delay.

What goes wrong is told, counted and survived: the clock runs on by its course and its error bound
grows. A server is left alone for an hour if it says so (kiss-o'-death DENY or RSTR), and asked ever
less often if it says RATE. Nothing is ever taken from a packet that does not repeat the 64 random
bits of the question it answers, and each round asks from a new port (RFC 9109).

The names of the servers are looked up again when they do not answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
import struct
import sys
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from schemas.errors import UsageError
from streams.core.ntp_packet import MAX_ROOT_DISTANCE_S, NtpRefusal, decode_answer, encode_question
from streams.core.ntp_select import ROUNDS, STAGES, drift_of, filtered, sample_of, select
from streams.observability.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from streams.core.ntp_select import Agreement, Sample
    from streams.observability.metrics import Metrics
    from streams.runtime.clock import Clock

PORT: Final = 123
MOST_SERVERS: Final = 16
LEAVE_ALONE_S: Final = 3_600.0
"""How long a server that denied its service is not asked; also the longest pause after RATE."""
STALE_ROUNDS: Final = 3
"""A server that has been silent for so many rounds has no vote."""
DATAGRAM_BYTES: Final = 512
STAMP: Final = struct.Struct("@ll")
"""A ``timespec``, as the kernel puts it beside a datagram."""
SO_TIMESTAMPNS: Final = getattr(socket, "SO_TIMESTAMPNS", 35)
OLDEST_STAMP_S: Final = 1.0
"""An answer that waited longer in the kernel would have been given up: a stamp that is wrong."""


@dataclass(frozen=True, slots=True)
class NtpSettings:
    """Which time servers are asked, and how. Times in seconds."""

    servers: tuple[str, ...] = ()
    """``HOST[:PORT]``, up to 16; an IPv6 address with a port in brackets. Empty: none is asked."""
    every_s: float = 30.0
    """From one round to the next (SPEC 1.5). 1 to 3,600; servers of others want 30 and more."""
    burst: int = 4
    """Questions to each server in a round. 1 to 8."""
    spacing_s: float = 2.0
    """Between two questions of a burst; servers that limit rates want 2 and more."""
    patience_s: float = 1.0
    """How long an answer is waited for, and at most the look-up of a name."""

    def __post_init__(self) -> None:
        if len(self.servers) > MOST_SERVERS:
            raise UsageError(f"At most {MOST_SERVERS} time servers; got {len(self.servers)}.")
        for text in self.servers:
            address_of(text)
        if not 1 <= self.burst <= STAGES:
            raise UsageError(f"burst must lie between 1 and {STAGES}.")


def address_of(text: str) -> tuple[str, int]:
    """Return host and port of ``HOST[:PORT]``, ``ADDRESS6`` or ``[ADDRESS6][:PORT]``.

    Raises:
        UsageError: it is none of these.

    """
    host, port = text, ""
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        port = (rest.removeprefix(":") if rest.startswith(":") else "") or (rest and "?")
        if not bracket:
            host = ""
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
        port = port or "?"
    if not host or any(c.isspace() or c in "/,@" for c in host):
        raise UsageError(f"A time server is HOST or HOST:PORT, as in ntp-1:123; got {text!r}.")
    if port and not (port.isascii() and port.isdecimal() and 0 < int(port) < 1 << 16):
        raise UsageError(f"The port of time server {text!r} is no number from 1 to 65535.")
    return host, int(port or PORT)


@dataclass(slots=True)
class TimeServer:
    """One configured server and what is known of it. Times are monotonic seconds."""

    name: str
    """As configured."""
    monotonic_s: Callable[[], float]
    patience_s: float = 1.0
    samples: deque[Sample] = field(default_factory=lambda: deque(maxlen=STAGES))
    answers: bool = False
    """Whether it gave a usable answer in the last round."""
    trouble: str = "has not been asked"
    """Why it is not used; empty if all is well."""
    stratum: int = 0
    refused: dict[str, int] = field(default_factory=dict)
    """Answers that were not used, by code."""
    _not_before_s: float = 0.0
    _pause_s: float = 0.0

    async def ask(self, count: int, spacing_s: float, utc_s: float) -> None:
        """Ask ``count`` times; ``utc_s``: about what time it is, to tell the era."""
        self.answers = False
        if self.monotonic_s() < self._not_before_s:
            return
        self.trouble = "does not answer"
        try:
            with await self._socket() as sock:
                for n in range(1 if self._pause_s else count):
                    if n:
                        await asyncio.sleep(spacing_s)
                    if not await self._exchange(sock, utc_s):
                        break
        except (OSError, TimeoutError) as error:
            said = error.strerror or str(error)
            self.trouble = said or "its name cannot be looked up in time"

    async def _socket(self) -> socket.socket:
        """Return a socket that only the server can answer to."""
        host, port = address_of(self.name)
        found = await asyncio.wait_for(
            asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_DGRAM),
            self.patience_s,
        )
        family, kind, protocol, _, address = found[0]
        sock = socket.socket(family, kind, protocol)
        try:
            sock.setblocking(False)
            if sys.platform == "linux":
                sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
            sock.connect(address)
        except OSError:
            sock.close()
            raise
        return sock

    async def _exchange(self, sock: socket.socket, utc_s: float) -> bool:
        """Ask once and take the answer; tell whether to go on asking."""
        cookie = secrets.randbits(64) or 1
        question = encode_question(cookie)
        sent_s = self.monotonic_s()
        sock.send(question)
        deadline_s = sent_s + self.patience_s
        while (left_s := deadline_s - self.monotonic_s()) > 0.0:
            if not await _readable(sock, left_s):
                break
            with contextlib.suppress(BlockingIOError):  # a datagram with a bad checksum
                data, age_s = _receive(sock)
                came_s = max(self.monotonic_s() - age_s, sent_s)
                answer = decode_answer(data, cookie, utc_s)
                if not isinstance(answer, NtpRefusal):
                    self.samples.append(sample_of(answer, sent_s, came_s))
                    self.answers, self.trouble, self.stratum = True, "", answer.stratum
                    return True
                self._refuse(answer)
                if answer.code not in {"short", "not_an_answer", "origin"}:
                    return False
        return True

    def _refuse(self, refusal: NtpRefusal) -> None:
        """Note why an answer is not used; do as a kiss-o'-death says (RFC 5905, section 7.4)."""
        self.refused[refusal.code] = self.refused.get(refusal.code, 0) + 1
        self.trouble = f"refused: {refusal.code} {refusal.detail}".strip()
        if refusal.code != "kiss":
            return
        if refusal.detail in {"DENY", "RSTR"}:
            self._pause_s = LEAVE_ALONE_S
            self.samples.clear()
        elif refusal.detail == "RATE":
            self._pause_s = min(max(self._pause_s * 2.0, 60.0), LEAVE_ALONE_S)
        self._not_before_s = self.monotonic_s() + self._pause_s


async def _readable(sock: socket.socket, timeout_s: float) -> bool:
    """Wait until there is something to read, or until the time is over."""
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()

    def on_ready() -> None:
        if not ready.done():
            ready.set_result(None)

    loop.add_reader(sock, on_ready)
    try:
        async with asyncio.timeout(timeout_s):
            await ready
    except TimeoutError:
        return False
    finally:
        loop.remove_reader(sock)
    return True


def _receive(sock: socket.socket) -> tuple[bytes, float]:
    """Return a datagram, and for how many seconds it has been waiting in the kernel.

    Linux begins to stamp a moment after the first socket has asked for it: the first answer of a
    burst may have a stamp of now. The filter prefers the others.
    """
    data, beside, _, _ = sock.recvmsg(DATAGRAM_BYTES, socket.CMSG_SPACE(STAMP.size))
    for level, kind, content in beside:
        if level == socket.SOL_SOCKET and kind == SO_TIMESTAMPNS and len(content) == STAMP.size:
            seconds, nanoseconds = STAMP.unpack(content)
            # The stamp is the machine's wall clock's; only the difference to it now is used.
            age_s = (time.time_ns() - seconds * 1_000_000_000 - nanoseconds) / 1e9
            return data, age_s if 0.0 <= age_s <= OLDEST_STAMP_S else 0.0
    return data, 0.0


def vote(
    servers: Sequence[TimeServer], now_s: float, oldest_s: float = 0.0, drift: float | None = None
) -> Agreement | None:
    """Return what those servers agree on that have answered since monotonic ``oldest_s``."""
    candidates = [
        filtered(one.name, tuple(one.samples), now_s, drift)
        for one in servers
        if one.samples and one.samples[-1].at_s >= oldest_s
    ]
    near = [one for one in candidates if one.distance_s <= MAX_ROOT_DISTANCE_S]
    return select(near, now_s, len(servers))


class NtpSource:
    """Keeps a clock by the configured servers; without any it does nothing."""

    def __init__(self, settings: NtpSettings, clock: Clock, metrics: Metrics) -> None:
        """Take the clock to discipline and the metrics to tell of it."""
        self.servers = [
            TimeServer(name, clock.monotonic_s, settings.patience_s) for name in settings.servers
        ]
        self.agreement: Agreement | None = None
        """The last one; the clock follows it."""
        self._settings = settings
        self._clock = clock
        self._metrics = metrics
        self._log = get_logger(__name__)
        self._rounds: deque[tuple[float, float]] = deque(maxlen=ROUNDS)
        self._drift: float | None = None
        self._said: dict[str, str] = {}
        self._kept = True
        metrics.ntp_servers.set(len(self.servers))
        metrics.ntp_reachable.bind(lambda: sum(one.answers for one in self.servers))
        metrics.ntp_answer_age.bind(self._answer_age_s)

    async def start(self) -> None:
        """Set the clock by one question to each server, before anything has used it.

        Takes as long as the servers' patience at most. If nobody answers, or they do not agree, the
        clock starts as the machine's own.
        """
        if not self.servers:
            self._log.info("the clock is the machine's own: no NTP server is configured")
            return
        agreement = await self.round(1)
        if agreement is not None:
            self._clock.start_at(agreement)

    async def keep(self) -> None:
        """Keep the clock, for ever; cancel it to end it."""
        settings = self._settings
        while True:
            # The first round follows the start at once; what is in doubt is asked again at once.
            begun_s = self._clock.monotonic_s()
            await asyncio.sleep(settings.spacing_s)
            answer = await self.follow()
            if answer != "doubt":
                took_s = self._clock.monotonic_s() - begun_s
                await asyncio.sleep(max(settings.every_s - took_s, 0.0))

    async def follow(self) -> str:
        """Make one round and have the clock follow it.

        Return what the clock did, or ``none`` if there was nothing to follow.
        """
        agreement = await self.round(self._settings.burst)
        if agreement is None:
            return "none"
        drift = drift_of(self._rounds)
        answer = self._clock.measured(agreement, drift)
        if answer == "doubt":
            self._log.warning("the time servers want a jump: asking again")
            self._rounds.pop()
        elif answer == "step":
            self._rounds.clear()
            self._drift = None
        elif drift is not None:
            self._drift = drift
        return answer

    async def round(self, burst: int) -> Agreement | None:
        """Ask all servers; return what they agree on, if it is new."""
        spacing_s, utc_s = self._settings.spacing_s, self._clock.now_s()
        before = [dict(one.refused) for one in self.servers]
        await asyncio.gather(*(one.ask(burst, spacing_s, utc_s) for one in self.servers))
        self._count(before)
        now_s = self._clock.monotonic_s()
        oldest_s = now_s - STALE_ROUNDS * self._settings.every_s
        agreement = vote(self.servers, now_s, oldest_s, self._drift)
        self._tell(agreement)
        last = self.agreement
        if agreement is None or (last is not None and agreement.newest_s <= last.newest_s):
            return None
        self.agreement = agreement
        self._rounds.append((agreement.at_s, agreement.offset_s))
        return agreement

    def _count(self, before: Sequence[dict[str, int]]) -> None:
        for one, was in zip(self.servers, before, strict=True):
            for code, count in one.refused.items():
                self._metrics.ntp_refusals.inc(code, count - was.get(code, 0))

    def _tell(self, agreement: Agreement | None) -> None:
        """Log what has changed: a server that is lost, outvoted or back, and whether all agree."""
        false = agreement.false if agreement is not None else ()
        self._metrics.ntp_false.set(len(false))
        for one in self.servers:
            state = "is outvoted by the others" if one.name in false else one.trouble
            if state != self._said.get(one.name):
                self._said[one.name] = state
                if state:
                    self._log.warning("time server is not used", server=one.name, reason=state)
                else:
                    self._log.info("time server answers", server=one.name, stratum=one.stratum)
        answering = sum(one.answers for one in self.servers)
        kept = answering > 0 and agreement is not None
        if kept != self._kept:
            self._kept = kept
            if kept:
                self._log.info("the clock is kept by time servers again")
            else:
                reason = "they do not agree" if answering else "none answers"
                self._log.warning(
                    "no time server to go by: the clock runs on, its error bound grows",
                    reason=reason,
                )

    def _answer_age_s(self) -> float:
        last_s = max((one.samples[-1].at_s for one in self.servers if one.samples), default=None)
        return float("nan") if last_s is None else self._clock.monotonic_s() - last_s
