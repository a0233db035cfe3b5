"""One batch, one Kafka transaction.

A transaction holds outputs, changelog records and the next input offsets, and is fenced by the
membership the batch was made under. ``Transactor.perform`` does all of it in one go in a thread:

    register the partitions -> append -> (clock check) -> send offsets (the fence) -> commit

The fence: the coordinator refuses the offsets of a generation that has passed. They are sent for
**every partition the batch touched**, unchanged where nothing was read, because an empty list
sends nothing and fences nothing. They are sent when all else is acknowledged, so that a failed
append or a broker whose clock disagrees is known while the transaction can still be thrown away.

Whatever goes wrong here, the process stops and is started again: a worker in doubt never carries
on. Only an answer that did not come, or an answer that says "not now" or "not here", is asked for
again, until the broker's patience is over. All of these requests may be asked twice: a batch has a
sequence that a broker takes once, the rest say the same thing again. The one that must not be found
late is a commit, which might end the next transaction; so after a commit that had to be asked for
again the producer's epoch is moved on, as KIP-890 does each time, and what is late is refused.

The transactional.id is fixed for a slot: a restarted worker's start aborts what it had left open.
The transaction timeout (5 s) bounds how long a dead one can hold up readers, and how long sending
the offsets is awaited: by then everything else is acknowledged, the transaction is open at the
broker, and its time runs.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

from confluent_kafka import KafkaError

from schemas.errors import BrokerError, ClockError, FencedError, UsageError
from streams.runtime import wire
from streams.runtime.brokers import Again, Brokers
from streams.runtime.faults import Faults
from streams.runtime.record_batches import RecordBatches, by_partition

if TYPE_CHECKING:
    from collections.abc import Callable

    from streams.runtime.batch import Batch
    from streams.runtime.brokers import Address
    from streams.runtime.record_batches import Built, Round
    from streams.runtime.settings import RuntimeSettings
    from streams.runtime.wire import Appended, Request, TopicPartition

_T = TypeVar("_T")

_AFTER_TIMEOUT_S = 2.0
"""How long after its timeout the broker's clean-up has surely aborted a transaction."""
_ANSWER_S: Final = 10.0
"""How long one answer is awaited before it is asked for again."""
_APPEND_MS: Final = 5_000
"""How long a leader waits for its followers."""
_FIRST_PAUSE_S: Final = 0.002
_LONGEST_PAUSE_S: Final = 0.1
_ABORT_S: Final = 2.0
_MANY: Final = 100
"""Partitions of a transaction beyond which they are registered after its offsets."""


@dataclass(slots=True)
class Committed:
    """What is known after a commit."""

    changelog_offsets: dict[tuple[str, int], int] = field(default_factory=dict)
    """Next offset of each (topic, partition) that a message with a mark went to."""
    took_ms: float = 0.0
    stages_s: dict[str, float] = field(default_factory=dict)
    """Seconds of ``produce``, ``flush`` and ``end`` (offsets and commit)."""
    partitions: int = 0
    """Partitions of topics written to: each has a marker."""


class Transactor:
    """The transactional producer of one worker slot. Not for two threads at a time."""

    def __init__(
        self,
        settings: RuntimeSettings,
        topic: Callable[[str], str],
        now_ms: Callable[[], int],
    ) -> None:
        self._settings = settings
        self._id = settings.transactional_id
        self._topic = topic
        self._now_ms = now_ms
        self._patience_s = settings.broker_patience_ms / 1000.0
        self._faults = Faults(settings.faults)
        self._skew_ms = 0
        self._began_ms = 0
        self._brokers = Brokers(settings.bootstrap, f"shutterwheel-{settings.app}-{settings.slot}")
        self._producer = wire.Producer(-1, -1)
        self._batches = RecordBatches(self._producer, settings.request_bytes)

    def start(self) -> None:
        """Fence every earlier process of this slot and abort what it had left open.

        Raises:
            UsageError: the brokers are too old to fence a transaction.

        """
        self._until("asking for versions", self._check_versions, self._patience_s)
        self._begin_anew()

    def close(self) -> None:
        """Close the connections."""
        self._brokers.close()

    def _check_versions(self, timeout_s: float) -> None:
        spoken = self._brokers.ask_any(wire.api_versions(), timeout_s)
        for name, (key, version) in wire.SPOKEN.items():
            low, high = spoken.get(key, (0, -1))
            if not low <= version <= high:
                raise UsageError(
                    f"The brokers do not speak {name} in version {version}, which transactions "
                    "here are written in. Use Kafka 2.5 or newer."
                )

    def _begin_anew(self) -> None:
        """Get the next epoch: whoever has an earlier one is fenced from now on."""
        request = wire.init_producer_id(self._id, self._settings.transaction_timeout_ms)

        def attempt(timeout_s: float) -> wire.Producer:
            producer: wire.Producer
            error, producer = self._brokers.ask(self._coordinator(timeout_s), request, timeout_s)
            self._check("beginning", {error})
            return producer

        self._producer = self._until("beginning", attempt, self._patience_s)
        self._batches = RecordBatches(self._producer, self._settings.request_bytes)

    def perform(self, batch: Batch, marks: frozenset[str]) -> Committed:
        """Commit the batch or raise; ``marks`` names topics whose end offsets are wanted back.

        Raises:
            FencedError: the membership has passed; nothing of the batch is visible.
            ClockError: our clock and the broker's disagree; nothing of the batch is visible.
            BrokerError: the outcome is not known or an append failed; stop and recover.

        """
        started = time.monotonic()
        done = Committed()
        self._skew_ms = 0
        self._began_ms = self._now_ms()
        if not batch.offsets:
            raise FencedError("A transaction without offsets cannot be fenced; this is a bug.")
        self._faults.at("before-begin")
        try:
            rounds = self._register_and_build(batch)
            produced = time.monotonic()
            names = {self._topic(name): name for name in batch.outputs}
            for one in rounds:
                self._append(one, names, batch.clocked, marks, done)
            done.partitions = len(set().union(*(one.batches for one in rounds)))
            flushed = time.monotonic()
            self._faults.at("before-send-offsets")
            self._check_clock()
            self._send_offsets(batch)
            self._faults.at("before-commit")
            self._commit()
        except (ClockError, FencedError, BrokerError):
            self._abort()
            raise
        self._faults.at("after-commit")
        ended = time.monotonic()
        done.took_ms = (ended - started) * 1000.0
        done.stages_s = {
            "produce": produced - started, "flush": flushed - produced, "end": ended - flushed,
        }  # fmt: skip
        return done

    # -- stages --------------------------------------------------------------------------------

    def _register_and_build(self, batch: Batch) -> list[Round]:
        """Tell the coordinator what will be written, and make the batches while it answers."""
        outputs = by_partition(
            (self._topic(name), messages) for name, messages in batch.outputs.items()
        )
        requests = [wire.add_offsets(self._id, self._producer, self._settings.group)]
        if outputs:
            requests.append(wire.add_partitions(self._id, self._producer, outputs))
        if len(outputs) > _MANY:
            # Until the markers of the transaction before are written the answer is "not now". For
            # so many partitions the broker takes 20 ms to say so; for the offsets it takes none.
            self._until("registering", partial(self._register, requests[:1], []), self._patience_s)
            del requests[0]
        sent: list[Address] = []
        with suppress(Again):
            sent.append(self._send_to_coordinator(requests, _ANSWER_S))
        rounds = self._batches.build(outputs.items(), self._began_ms)
        self._until("registering", partial(self._register, requests, sent), self._patience_s)
        return rounds

    def _register(self, requests: list[Request], sent: list[Address], timeout_s: float) -> None:
        """Await the answers to requests that were ``sent``, or else send them."""
        address = sent.pop() if sent else self._send_to_coordinator(requests, timeout_s)
        errors: set[int] = set()
        for _ in requests:
            errors |= self._brokers.receive(address, timeout_s)
        self._check("registering", errors)

    def _send_to_coordinator(self, requests: list[Request], timeout_s: float) -> Address:
        address = self._coordinator(timeout_s)
        for request in requests:
            self._brokers.send(address, request, timeout_s)
        return address

    def _append(
        self,
        one: Round,
        names: dict[str, str],
        clocked: set[str],
        marks: frozenset[str],
        done: Committed,
    ) -> None:
        left = dict(one.batches)

        def attempt(timeout_s: float) -> None:
            taken, refused = self._ask_leaders(left, timeout_s)
            for place, appended in taken.items():
                built = left.pop(place)
                name = names[place[0]]
                if built.last and name in marks:
                    done.changelog_offsets[name, place[1]] = appended.offset + built.records
                if name in clocked and appended.stamp_ms >= 0:
                    self._see_stamp(appended.stamp_ms)
            self._brokers.forget_leaders(refused)
            self._check("appending", set(refused.values()))
            if left:
                raise Again(f"{len(left)} partitions without an answer")

        self._until("appending", attempt, self._patience_s)

    def _ask_leaders(
        self, batches: dict[TopicPartition, Built], timeout_s: float
    ) -> tuple[dict[TopicPartition, Appended], dict[TopicPartition, int]]:
        """Send batches to their leaders; return what was appended and what was refused, and why.

        Raises:
            Again: no leader answers.

        """
        asked: list[Address] = []
        failed: Again | None = None
        for address, places in self._brokers.leaders(batches, timeout_s).items():
            data = {place: batches[place].data for place in places}
            try:
                self._brokers.send(address, wire.produce(self._id, _APPEND_MS, data), timeout_s)
                asked.append(address)
            except Again as error:
                failed = error
        self._faults.at("mid-produce")
        taken: dict[TopicPartition, Appended] = {}
        refused: dict[TopicPartition, int] = {}
        for address in asked:
            try:
                answer: dict[TopicPartition, Appended] = self._brokers.receive(address, timeout_s)
            except Again as error:
                failed = error
                continue
            for place, appended in answer.items():
                if appended.error:
                    refused[place] = appended.error
                else:
                    taken[place] = appended
        if failed is not None and not taken and not refused:
            raise failed
        return taken, refused

    def _send_offsets(self, batch: Batch) -> None:
        group = self._settings.group
        member = (batch.membership.generation, batch.membership.member_id)
        offsets = [
            (self._topic(name), partition, offset, batch.handovers.get(partition, ""))
            for (name, partition), offset in batch.offsets.items()
        ]
        request = wire.commit_offsets(self._id, self._producer, group, member, offsets)

        def attempt(timeout_s: float) -> None:
            address = self._brokers.coordinator(wire.GROUP, group, timeout_s)
            errors = self._brokers.ask(address, request, timeout_s)
            self._check("sending offsets", errors, kind=wire.GROUP)

        timeout_s = self._settings.transaction_timeout_ms / 1000.0 + _AFTER_TIMEOUT_S
        self._until("sending offsets", attempt, timeout_s)

    def _commit(self) -> None:
        asked = 0
        request = wire.end_transaction(self._id, self._producer, commit=True)

        def attempt(timeout_s: float) -> None:
            nonlocal asked
            asked += 1
            errors = self._brokers.ask(self._coordinator(timeout_s), request, timeout_s)
            self._check("committing", errors)

        self._until("committing", attempt, self._patience_s)
        if asked > 1:
            self._begin_anew()

    def _abort(self) -> None:
        """Abort as a courtesy to readers; if it cannot be done the broker's timeout does it."""
        request = wire.end_transaction(self._id, self._producer, commit=False)
        with suppress(Again):
            self._brokers.ask(self._coordinator(_ABORT_S), request, _ABORT_S)

    # -- the broker's clock --------------------------------------------------------------------

    def _see_stamp(self, stamp_ms: int) -> None:
        # Appended between the beginning and now, however long the answer took: only a stamp
        # outside tells of a clock that is wrong.
        if stamp_ms < self._began_ms:
            skew_ms = self._began_ms - stamp_ms
        else:
            skew_ms = min(self._now_ms() - stamp_ms, 0)
        if abs(skew_ms) > abs(self._skew_ms):
            self._skew_ms = skew_ms

    def _check_clock(self) -> None:
        if abs(self._skew_ms) > self._settings.max_skew_ms:
            raise ClockError(
                f"This machine's clock is {self._skew_ms:+,} ms from the broker's, more than "
                f"max_skew_ms = {self._settings.max_skew_ms:,}."
            )

    # -- asking --------------------------------------------------------------------------------

    def _coordinator(self, timeout_s: float) -> Address:
        return self._brokers.coordinator(wire.TRANSACTION, self._id, timeout_s)

    def _check(self, what: str, errors: set[int], *, kind: int = wire.TRANSACTION) -> None:
        """Raise what these errors of an answer mean together; 0 is none."""
        found = errors - {0}
        if not found:
            return
        if KafkaError.INVALID_TIMESTAMP in found:
            raise ClockError("The broker takes no record of this machine's time: it is hours off.")
        for kept, raised in ((found & wire.FENCED, FencedError), (found - wire.AGAIN, BrokerError)):
            if kept:
                raise raised(f"{what}: {wire.error_text(min(kept))}")
        if found & wire.MOVED:
            name = self._settings.group if kind == wire.GROUP else self._id
            self._brokers.forget_coordinator(kind, name)
        raise Again(wire.error_text(min(found)))

    def _until(self, what: str, attempt: Callable[[float], _T], patience_s: float) -> _T:
        """Make an attempt until it is no ``Again``, and one more when patience is over.

        The one more is for a process that was stopped meanwhile: its answer is there.
        """
        deadline = time.monotonic() + patience_s
        pause_s = _FIRST_PAUSE_S
        while True:
            left_s = deadline - time.monotonic()
            try:
                return attempt(min(max(left_s, 1.0), _ANSWER_S))
            except Again as error:
                if left_s <= 0:
                    raise BrokerError(f"{what}: {error}, for {patience_s:.0f} s.") from error
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
