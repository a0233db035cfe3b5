"""Reads changelog partitions from given offsets, committed records only, in whole record batches.

A consumer of its own, without a group, in an event loop of its own: recovery runs in a thread, and
the worker's loop goes on beside it. aiokafka asks for the leaders, asks again where they have
moved, and drops what was aborted; a record costs 0.8 us here (keys, values and checksums), about
half of what librdkafka's message objects take.

**Positions, not records, tell how far it is.** Behind every fetched batch stands the offset at
which reading goes on, markers and aborted batches included, and nothing is handed out behind the
last stable offset: while a transaction is open, the position stays before it.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Self

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from schemas.errors import BrokerError
from streams.runtime.fetched import WholeBatch, whole_batches

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping
    from types import TracebackType

TopicAndPartition = tuple[str, int]

FETCH_BYTES: Final = 4 * 1024 * 1024
"""Most bytes of an answer, of one partition or all, but for one larger batch; bounds memory, about
three times as much as the records' objects take."""
WAIT_MS: Final = 50
"""How long the broker waits for records where there are none yet."""
REQUEST_MS: Final = 10_000
"""A broker that does not answer is given up for so long; then the leader is asked for again."""
BACKOFF_MS: Final = 50


class ChangelogReader:
    """Reads from the partitions it was given; ``with`` connects and lets go."""

    def __init__(
        self, bootstrap: str, client_id: str, positions: Mapping[TopicAndPartition, int]
    ) -> None:
        """Take where reading begins; ``bootstrap`` is ``host:port,…``."""
        self._positions = {TopicPartition(*place): at for place, at in positions.items()}
        self._settings: dict[str, Any] = {"bootstrap_servers": bootstrap, "client_id": client_id}
        self._loop = asyncio.Runner(loop_factory=asyncio.new_event_loop)
        self._consumer: AIOKafkaConsumer | None = None

    def __enter__(self) -> Self:
        try:
            self._run(self._open())
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._close()

    def poll(self, wait_s: float) -> dict[TopicAndPartition, list[WholeBatch]]:
        """Return the batches that have come, by partition; nothing if none come within ``wait_s``.

        Raises:
            BrokerError: a partition cannot be read from there, or a batch is damaged.

        """
        assert self._consumer is not None
        found = self._run(self._consumer.getmany(timeout_ms=round(wait_s * 1000)))
        return {(place.topic, place.partition): batches for place, batches in found.items()}

    async def _open(self) -> None:
        self._consumer = consumer = AIOKafkaConsumer(
            **self._settings,
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="none",
            isolation_level="read_committed",
            key_deserializer=whole_batches,
            fetch_max_bytes=FETCH_BYTES,
            max_partition_fetch_bytes=FETCH_BYTES,
            fetch_max_wait_ms=WAIT_MS,
            request_timeout_ms=REQUEST_MS,
            retry_backoff_ms=BACKOFF_MS,
        )
        await consumer.start()
        consumer.assign(list(self._positions))
        for place, at in self._positions.items():
            consumer.seek(place, at)

    def _run(self, work: Coroutine[Any, Any, Any]) -> Any:
        # Not by ``Runner.run``: in a main thread it asks for the signal's handler each time, which
        # writes the last result down as text.
        try:
            return self._loop.get_loop().run_until_complete(work)
        except KafkaError as error:
            raise BrokerError(f"Cannot read the changelog: {error}") from error

    def _close(self) -> None:
        with self._loop:
            if self._consumer is not None:
                # What it still says has been said by ``poll``, or nobody waits for it.
                with suppress(BrokerError):
                    self._run(self._consumer.stop())
