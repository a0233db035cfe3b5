"""Fetches what a broker keeps of a partition as it is kept, and takes it apart in C.

librdkafka and its binding make an entry of a record for about 4 us. The answer to a fetch holds the
broker's own batches, and aiokafka's reader in C makes the records of one for 0.15 us, so an entry
takes 0.5. What this module adds is the way there: a socket to the leader, which asks and waits, and
the rules by which batches of read-committed data count. ::

    fetch ─▶ |head|records…|head|marker|head|records…|
              61 bytes, and whose transaction it is

**Isolation.** A broker gives no more than is decided, and names beside it the producers whose
transactions were aborted, with their first offsets. A batch of such a producer does not count from
there up to the marker that ends the transaction; markers never do.

**The next while this is worked on**: a reader has a connection of its own, on which the next fetch
is asked for before the last one is taken apart.

**Nothing is mended here**: a leader that moved, a password that is asked for, an old format or
damage is a :class:`FetchError`, and whoever reads goes on as before (``log.py``, ``scan.py``).

Source: Kafka protocol, Fetch version 10 (brokers from 2.1 on) and "Record Batch" (magic 2).
"""

from __future__ import annotations

import socket
import struct
from io import BytesIO
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

from aiokafka.errors import KafkaError
from aiokafka.protocol.fetch import FetchRequest, FetchRequest_v10, FetchResponse_v10
from aiokafka.record.control_record import ABORT_MARKER, ControlRecord
from aiokafka.record.default_records import DefaultRecordBatch

if TYPE_CHECKING:
    from collections.abc import Iterator

FETCH_BYTES: Final = 2 << 20
"""What one answer holds at most, if a batch is not larger: some 5,000 results."""
FEW_BYTES: Final = 64 << 10
RECORD_BYTES: Final = 2_048
"""More than nearly all records take."""
WAIT_MS: Final = 50
"""How long a broker waits for more where there is nothing."""
ANSWER_S: Final = 10.0
"""The longest that an answer may take; then it is no broker that speaks so."""
MOST_BYTES: Final = 128 << 20
"""An answer that claims more is none."""
READ_COMMITTED: Final = 1
CLIENT: Final = "shutterwheel-replay"
HEAD: Final = struct.Struct(">qiibIhiqqqhii")
"""Base offset, length, leader epoch, magic, checksum, attributes, last offset delta, base and last
timestamp, producer, its epoch and sequence, count."""
BEFORE_LENGTH: Final = 12
MAGIC: Final = 2
COMPRESSION, TRANSACTIONAL, CONTROL = 0x07, 0x10, 0x20
TROUBLE: Final = (KafkaError, OSError, struct.error, ValueError, LookupError, TypeError)
"""What sockets and readers may raise."""


def most_bytes(records: int) -> int:
    """Return how much to ask for where so many records are wanted: few are not worth megabytes."""
    return min(FETCH_BYTES, FEW_BYTES + records * RECORD_BYTES)


class FetchError(Exception):
    """It could not be fetched, or taken apart, so; the log's own reader is tried then."""


class Fetched(NamedTuple):
    """What a broker sent of a partition."""

    data: bytes
    aborted: list[tuple[int, int]]
    """Producer and first offset of transactions that were aborted."""


class Batch(NamedTuple):
    """One batch of records that count."""

    data: bytes
    size: int
    """How many records."""
    compressed: bool
    start: int
    """Where it stood in what was fetched."""

    def records(self) -> list[Any]:
        """Return its records; FetchError where the checksum is wrong."""
        try:
            batch = DefaultRecordBatch(self.data)
            if batch.validate_crc():
                return list(batch)
        except Exception as error:  # each kind of compression has errors of its own
            raise FetchError(f"a batch cannot be read: {error}") from error
        raise FetchError("a batch is damaged")


class Connection:
    """A connection to one broker, on which one fetch after the other is asked for."""

    def __init__(self, host: str, port: int) -> None:
        """Connect; FetchError where that fails."""
        self._number = 0
        self._asked = False
        try:
            self._socket = socket.create_connection((host, port), ANSWER_S)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError as error:
            raise FetchError(f"{host}:{port} does not answer: {error}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "_socket"):
            self.close()

    def close(self) -> None:
        """Let go of it."""
        self._socket.close()

    @property
    def is_idle(self) -> bool:
        """Say whether no answer is awaited."""
        return not self._asked

    @property
    def is_open(self) -> bool:
        """Say whether the broker has not hung up: it does so on who is silent for ten minutes."""
        try:
            self._socket.setblocking(False)
            try:
                self._socket.recv(1, socket.MSG_PEEK)
            finally:
                self._socket.settimeout(ANSWER_S)
        except BlockingIOError:
            return True  # nothing has come, and nothing has ended
        except OSError:
            return False
        return False  # an end, or what nobody asked for

    def ask(self, name: str, partition: int, first: int, most_bytes: int) -> None:
        """Ask for a partition of a topic from an offset on."""
        where = [(name, [(partition, first, most_bytes)])]
        request = FetchRequest(WAIT_MS, 1, most_bytes, READ_COMMITTED, where).build(
            FetchRequest_v10
        )
        self._number += 1
        header = request.build_request_header(self._number, CLIENT)
        message = header.encode() + request.encode()
        self._asked = True
        try:
            self._socket.sendall(struct.pack(">i", len(message)) + message)
        except OSError as error:
            raise FetchError(f"it cannot be asked: {error}") from error

    def answer(self) -> Fetched:
        """Wait for what was asked for."""
        try:
            [size] = struct.unpack(">i", self._read(4))
            if not 0 < size <= MOST_BYTES:
                raise FetchError("it is no broker")
            buffer = BytesIO(self._read(size))
            [number] = struct.unpack(">i", buffer.read(4))
            if number != self._number:
                raise FetchError("it answers another question")
            found: Any = FetchResponse_v10.decode(buffer)
            [(_, [(_, error, *_, aborted, data)])] = found.topics
        except TROUBLE as error:
            raise FetchError(f"it gives no answer: {error}") from error
        if found.error_code or error:
            raise FetchError(f"it cannot be fetched: error {found.error_code or error}")
        self._asked = False
        return Fetched(data or b"", aborted or [])

    def _read(self, size: int) -> bytearray:
        data = bytearray(size)
        view, got = memoryview(data), 0
        while got < size:
            count = self._socket.recv_into(view[got:])
            if not count:
                raise FetchError("it hung up")
            got += count
        return data


class Batches:
    """The batches of one partition, one fetch after the other."""

    def __init__(self, first: int) -> None:
        """Begin at an offset."""
        self.after = first
        """Where the next fetch begins."""

    def of(self, fetched: Fetched, end: int) -> Iterator[Batch]:
        """Yield the batches that count, up to the one that holds ``end`` - 1."""
        data = fetched.data
        waiting = sorted(fetched.aborted, key=lambda one: one[1], reverse=True)
        void: set[int] = set()
        at = 0
        while at + HEAD.size <= len(data) and self.after < end:
            head = HEAD.unpack_from(data, at)
            base, length, magic, attributes, delta = head[0], head[1], head[3], head[5], head[6]
            producer, count = head[9], head[12]
            stop = at + BEFORE_LENGTH + length
            if length < 0 or delta < 0:
                raise FetchError("a batch is damaged")
            if stop > len(data):
                break
            if magic != MAGIC:
                raise FetchError("an old format")
            while waiting and waiting[-1][1] <= base:
                void.add(waiting.pop()[0])
            if attributes & CONTROL:
                if producer in void and aborts(data[at:stop]):
                    void.discard(producer)
            elif not (attributes & TRANSACTIONAL and producer in void):
                yield Batch(data[at:stop], count, bool(attributes & COMPRESSION), at)
            self.after, at = base + delta + 1, stop


def aborts(data: bytes) -> bool:
    """Say whether a batch of markers ends a transaction by aborting it."""
    try:
        return any(
            one.key is not None and ControlRecord.parse(one.key) == ABORT_MARKER
            for one in DefaultRecordBatch(data)
        )
    except TROUBLE as error:
        raise FetchError(f"a marker cannot be read: {error}") from error
