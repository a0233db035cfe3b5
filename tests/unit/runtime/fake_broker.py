"""A broker that does as a test says, behind a real socket: what a real one does once in a year.

It answers what ``wire.py`` speaks, keeps batches by their sequence as a broker does, and what is
scripted for a request comes first. ``tests/integration/runtime/test_fence.py`` has the real one.
"""

from __future__ import annotations

import socket
import struct
import threading
from collections import defaultdict, deque
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from aiokafka.record.default_records import DefaultRecordBatch

if TYPE_CHECKING:
    from typing import Self

NAMES = {
    0: "produce",
    3: "metadata",
    10: "coordinator",
    18: "versions",
    22: "init",
    24: "partitions",
    25: "offsets to",
    26: "end",
    28: "offsets",
}
LOST, UNHEARD, SILENT = "lost", "unheard", "silent"
"""The answer is lost with the connection; the request is; no answer comes."""
OUT_OF_ORDER = 45


@dataclass
class FakeBroker:
    """One broker that leads and coordinates everything."""

    partitions: int = 4
    versions: dict[int, tuple[int, int]] = field(
        default_factory=lambda: dict.fromkeys(NAMES, (0, 9))
    )
    script: dict[str, deque[int | str]] = field(default_factory=lambda: defaultdict(deque))
    """By request: errors (numbers), or what happens to it; then all goes well."""
    calls: list[str] = field(default_factory=list)
    log: dict[tuple[str, int], list[tuple[bytes | None, bytes | None]]] = field(
        default_factory=lambda: defaultdict(list)
    )
    stamp_ms: int = -1
    epoch: int = -1
    ends: list[tuple[int, bool]] = field(default_factory=list)
    """(epoch, whether it was a commit) of each transaction."""

    def __enter__(self) -> Self:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._sockets: list[socket.socket] = []
        self._next: dict[tuple[str, int], int] = {}
        self._taken: dict[tuple[str, int, int], int] = {}
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for one in (self._listener, *self._sockets):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                taken, _ = self._listener.accept()
                self._sockets.append(taken)
                threading.Thread(target=self._serve, args=(taken,), daemon=True).start()

    def _serve(self, taken: socket.socket) -> None:
        stream = taken.makefile("rb")
        with suppress(OSError), taken:
            while head := stream.read(4):
                data = stream.read(struct.unpack(">i", head)[0])
                key, _version, correlation, size = struct.unpack_from(">hhih", data)
                flexible = key == 28
                name, body = NAMES[key], data[10 + size + flexible :]
                self.calls.append(name)
                asked = self.script[name].popleft() if self.script[name] else 0
                if asked == UNHEARD:
                    return
                answer = getattr(self, f"_{name.replace(' ', '_')}")(
                    body, asked if isinstance(asked, int) else 0
                )
                if asked == LOST:
                    return
                if asked != SILENT:
                    answer = struct.pack(">i", correlation) + b"\0" * flexible + answer
                    taken.sendall(struct.pack(">i", len(answer)) + answer)

    def _versions(self, _body: bytes, error: int) -> bytes:
        rows = b"".join(struct.pack(">hhh", key, *both) for key, both in self.versions.items())
        return struct.pack(">hi", error, len(self.versions)) + rows

    def _metadata(self, body: bytes, error: int) -> bytes:
        topics = _texts(body, 1)
        out = struct.pack(">iii", 0, 1, 7) + _text("127.0.0.1") + struct.pack(">i", self.port)
        out += struct.pack(">hhii", -1, -1, 7, len(topics))
        for topic in topics:
            out += struct.pack(">h", 0) + _text(topic) + struct.pack(">bi", 0, self.partitions)
            for number in range(self.partitions):
                out += struct.pack(">hii", error, number, -1 if error else 7)
                out += struct.pack(">iiii", 1, 7, 1, 7)
        return out

    def _coordinator(self, _body: bytes, error: int) -> bytes:
        where = _text("127.0.0.1") + struct.pack(">i", self.port)
        return struct.pack(">ihhi", 0, error, -1, 7) + where

    def _init(self, _body: bytes, error: int) -> bytes:
        if not error:
            self.epoch += 1
            self._next.clear()
        return struct.pack(">ihqh", 0, error, 77, self.epoch)

    def _partitions(self, _body: bytes, error: int) -> bytes:
        return struct.pack(">ii", 0, 1) + _text("any") + struct.pack(">iih", 1, 0, error)

    def _offsets_to(self, _body: bytes, error: int) -> bytes:
        return struct.pack(">ih", 0, error)

    def _offsets(self, _body: bytes, error: int) -> bytes:
        return b"\0\0\0\0\x02\x04any\x02" + struct.pack(">ih", 0, error) + b"\0\0\0"

    def _end(self, body: bytes, error: int) -> bytes:
        epoch, commit = struct.unpack(">h?", body[-3:])
        if not error:
            self.ends.append((epoch, commit))
        return struct.pack(">ih", 0, error)

    def _produce(self, body: bytes, error: int) -> bytes:
        at = 2 + struct.unpack_from(">h", body)[0]
        _acks, _timeout, topics = struct.unpack_from(">hii", body, at)
        at += 10
        out = struct.pack(">i", topics)
        for _ in range(topics):
            (size,) = struct.unpack_from(">h", body, at)
            topic = body[at + 2 : at + 2 + size].decode()
            (count,) = struct.unpack_from(">i", body, at + 2 + size)
            at += 6 + size
            out += _text(topic) + struct.pack(">i", count)
            for _ in range(count):
                number, length = struct.unpack_from(">ii", body, at)
                data = body[at + 8 : at + 8 + length]
                at += 8 + length
                said = (error, -1) if error else self._append((topic, number), data)
                out += struct.pack(">ihqqq", number, *said, self.stamp_ms, 0)
        return out + struct.pack(">i", 0)

    def _append(self, place: tuple[str, int], data: bytes) -> tuple[int, int]:
        batch = DefaultRecordBatch(data)
        assert batch.validate_crc()
        assert (batch.producer_id, batch.producer_epoch) == (77, self.epoch)
        again = self._taken.get((*place, batch.base_sequence))
        if again is not None and batch.base_sequence < self._next.get(place, 0):
            return 0, again
        if batch.base_sequence != self._next.get(place, 0):
            return OUT_OF_ORDER, -1
        offset = len(self.log[place])
        self._taken[(*place, batch.base_sequence)] = offset
        self.log[place] += [(record.key, record.value) for record in batch]
        self._next[place] = len(self.log[place]) - offset + batch.base_sequence
        return 0, offset


def _text(value: str) -> bytes:
    return struct.pack(">h", len(value)) + value.encode()


def _texts(body: bytes, left: int) -> list[str]:
    """Read an array of strings that ``left`` bytes follow."""
    found, at = [], 4
    while at < len(body) - left:
        (size,) = struct.unpack_from(">h", body, at)
        found.append(body[at + 2 : at + 2 + size].decode())
        at += 2 + size
    return found
