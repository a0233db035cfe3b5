"""The settings of a worker: one frozen object, each with its default, unit and bound."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from schemas.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path


HEARTBEAT_MS = 250
"""The default; see ``RuntimeSettings.heartbeat_ms``."""
LONGEST_GATHER_MS = 2_000
"""A commit waits for no more than this, however many partitions it touches."""


@dataclass(frozen=True, slots=True)
class RuntimeSettings:
    """How one worker of one app runs. Times are milliseconds unless the name says otherwise."""

    app: str
    """Name of the app: ``wheel``, ``captures`` or ``devices``. Names the consumer group."""
    slot: str
    """The worker's slot: names its transactional.id and its data folder. One process a slot."""
    bootstrap: str
    """Kafka bootstrap servers, ``host:port`` separated by commas."""
    data_dir: Path
    """Folder for local state; the worker makes ``<app>-<slot>`` in it."""
    namespace: str = ""
    """Prefix of every topic and group, so that a replay can be poured into a sandbox."""
    session_timeout_ms: int = 6_000
    """How long the group waits for a silent member. 1,000 to 60,000."""
    heartbeat_ms: int = HEARTBEAT_MS
    """Pause between heartbeats; at most a third of the session timeout. A member hears of a
    rebalance by its next heartbeat, and those that have heard of it wait for it with all their
    partitions paused."""
    rebalance_timeout_ms: int = 20_000
    """How long a member may take to give its partitions up."""
    lease_margin_ms: int = 1_000
    """The lease ends this long before the session could. Less than the session timeout."""
    commit_interval_ms: int = 100
    """Pause between commits while busy; a commit is made at once when idle. 10 to 10,000."""
    markers_per_s: int = 3_000
    """Partitions a second, each topic's counted, that commits may touch while what they hold can
    wait: each costs a broker some 0.1 ms. Commits that touch more gather longer. 100 and more."""
    transaction_timeout_ms: int = 5_000
    """After this the broker aborts a transaction left open by a dead worker."""
    slice_records: int = 32
    """Most records worked on in one synchronous piece, so that no timer is late behind them."""
    max_batch_records: int = 20_000
    """Most outputs that wait for one commit; slices wait beyond it (back-pressure)."""
    request_bytes: int = 8 * 1024 * 1024
    """Bytes beyond which what is written goes to a broker in a further request. 1,000 and more."""
    max_poll_records: int = 5_000
    """Most records of one poll."""
    max_partition_fetch_bytes: int = 4 * 1024 * 1024
    """Most bytes fetched of one partition at once; less where there are many (``fetch_bytes``)."""
    max_fetched_bytes: int = 256 * 1024 * 1024
    """Most bytes fetched and not yet handed on, over all partitions, if this worker had all."""
    max_skew_ms: int = 2_000
    """A wheel whose clock differs more than this from the broker's stops."""
    drain_ms: int = 4_000
    """How long captures in flight are awaited when partitions are given up."""
    block_cache_bytes: int = 64 * 1024 * 1024
    """RocksDB's cache of this worker."""
    unwritten_bytes: int = 32 * 1024 * 1024
    """Most bytes of committed rows that gather to be written to RocksDB together, and as many again
    while they are being written; 0: each commit is written by itself."""
    unwritten_ms: int = 3_000
    """How long such rows wait; a killed worker recovers so much more."""
    row_cache_bytes: int = 64 * 1024 * 1024
    """Most bytes of the rows committed last that are read without asking RocksDB; 0: none."""
    broker_patience_ms: int = 30_000
    """How long calls to a broker that does not answer are repeated before the worker stops."""
    faults: frozenset[str] = field(default_factory=frozenset)
    """Steps at which the process kills or stops itself, for tests only; see ``faults.py``."""

    def __post_init__(self) -> None:
        if not self.app or not self.slot or "/" in self.slot or "\0" in self.slot:
            raise UsageError(f"A worker needs an app and a slot; got {self.app!r}, {self.slot!r}.")
        if not 1_000 <= self.session_timeout_ms <= 60_000:
            raise UsageError("session_timeout_ms must lie between 1,000 and 60,000.")
        if self.heartbeat_ms * 3 > self.session_timeout_ms:
            raise UsageError("heartbeat_ms must be at most a third of session_timeout_ms.")
        if not 0 < self.lease_margin_ms < self.session_timeout_ms:
            raise UsageError("lease_margin_ms must be less than session_timeout_ms.")
        if not 10 <= self.commit_interval_ms <= 10_000:
            raise UsageError("commit_interval_ms must lie between 10 and 10,000.")
        if self.markers_per_s < 100:
            raise UsageError("markers_per_s must be at least 100.")

    def gather_ms(self, touched: int) -> int:
        """Return how long a commit that touches so many gathers for them alone, in ms."""
        return min(touched * 1000 // self.markers_per_s, LONGEST_GATHER_MS)

    def fetch_bytes(self, partitions: int) -> int:
        """Return the most bytes to fetch at once of each of so many partitions; 64 KiB at least."""
        return max(
            64 * 1024, min(self.max_partition_fetch_bytes, self.max_fetched_bytes // partitions)
        )

    @property
    def group(self) -> str:
        """The consumer group of the app."""
        return f"{self.namespace}.{self.app}" if self.namespace else self.app

    @property
    def transactional_id(self) -> str:
        """Fixed for a slot, so that a restart aborts its own open transaction at once."""
        return f"{self.group}-{self.slot}"

    @property
    def state_dir(self) -> Path:
        """Folder of this slot's local state."""
        name = (
            f"{self.namespace}.{self.app}-{self.slot}"
            if self.namespace
            else (f"{self.app}-{self.slot}")
        )
        return self.data_dir / name
