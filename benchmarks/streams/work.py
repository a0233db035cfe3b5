"""The work that every system does, and how its program is told of it and answers.

Standard library only: the peers' environments import this file and have little else in common.

**A record** is about 80 bytes of JSON, keyed by the device's id::

    {"device":"cam-000042","seq":1234567,"at_ms":1767225601234,"value":12.5}

**A row** of the table is 16 bytes, two big-endian integers: how many records the key has had, and
the time of the last. Keys come round in an order that jumps about and is the same in each round:
record i has the key ``i * 7919 mod K``. So between two records of one key lie K others, and no
cache of a commit interval can fold two puts into one: each put reaches the changelog.

The cases:

* ``consume``: read the record, parse it, count;
* ``state``: the same, get the key's row and put it again;
* ``state-exactly-once``: the same and one output, the row, for each record;
* ``recovery``: nothing but bringing the table of the case ``state`` back on an empty disk.
"""

from __future__ import annotations

import json
import os
import struct
import sys
import threading
from dataclasses import asdict, dataclass

CONSUME, STATE, EXACTLY_ONCE, RECOVERY = "consume", "state", "state-exactly-once", "recovery"
CASES = (CONSUME, STATE, EXACTLY_ONCE, RECOVERY)
STRIDE = 7_919
"""A prime: it has no factor in common with any number of keys that people choose."""
BEGIN_MS = 1_767_225_600_000
ROW = struct.Struct(">qq")


@dataclass(frozen=True)
class Job:
    """What a program is to do."""

    case: str
    bootstrap: str
    namespace: str
    """All topics and groups begin with it and a dot."""
    source: str
    """Name of the input topic, without the namespace."""
    sink: str
    changelog: str
    """Name of the changelog where the program may choose it, without the namespace."""
    group: str
    """Name of the group, without the namespace."""
    partitions: int
    records: int
    """How many there are in the input; each partition has the same share."""
    folder: str
    """For local state; empty at first."""

    def full(self, name: str) -> str:
        """Return the name of a topic or group as the broker knows it."""
        return f"{self.namespace}.{name}"

    def text(self) -> str:
        """Return the argument of a program."""
        return json.dumps(asdict(self))


def record(number: int, keys: int) -> tuple[bytes, bytes]:
    """Return key and value of a record of the input."""
    device = b"cam-%06d" % (number * STRIDE % keys)
    at_ms = BEGIN_MS + number
    value = b'{"device":"%s","seq":%d,"at_ms":%d,"value":%d.5}'
    return device, value % (device, number, at_ms, number % 90)


def next_row(row: bytes | None, at_ms: int) -> bytes:
    """Return the row after one more record."""
    count = ROW.unpack(row)[0] if row else 0
    return ROW.pack(count + 1, at_ms)


def say(event: str, done: int = 0) -> None:
    """Tell the bench of an event; it reads the clock and the process's CPU at once.

    ``done`` says how many records had been worked on before ``first``: they do not count.
    """
    sys.stdout.write(json.dumps({"event": event, "done": done}) + "\n")
    sys.stdout.flush()


def given_job() -> Job:
    """Return the job of this process, which from now on ends when standard input closes."""

    def wait() -> None:
        while os.read(0, 4_096):
            pass
        os._exit(0)

    threading.Thread(target=wait, daemon=True).start()
    return Job(**json.loads(sys.argv[1]))


class Progress:
    """Says when the first record is worked on and when the last one was."""

    def __init__(self, records: int) -> None:
        self._records = records
        self._done = 0

    def begin(self) -> None:
        """Call it before a record, or some, are worked on."""
        if not self._done:
            say("first")

    def done(self, records: int = 1) -> None:
        """Call it after they were."""
        self._done += records
        if self._done == self._records:
            say("last")
