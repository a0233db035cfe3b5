"""The real chain under faults: three wheels, three captures workers, cameras on sockets.

``finish`` cancels the schedules, drains, and compares topics, photos and the cameras' own log:
``shutterwheel/check.py`` for what is lost, doubled and expired, ``fold_checker`` for the wheel's
state and commands, ``shutter_checker`` for shutters without a lease.
"""

from __future__ import annotations

import itertools
import time
from typing import TYPE_CHECKING

from chain_harness import PARTITIONS, SESSION_MS, Chain, assert_kept
from confluent_kafka import TopicPartition
from fault_report import FaultReport, FaultRow
from fault_watch import Watch
from fold_checker import differences
from runtime_checker import folded
from runtime_harness import Reader
from shutter_checker import without_lease

from infra.kafka.offsets import stable_offsets
from schemas.records import ScheduleTick
from shutterwheel.cluster import ClusterOptions
from streams.agents import capture_executor, device_profiles, timing_wheel

if TYPE_CHECKING:
    import signal
    from pathlib import Path

    from runtime_checker import Rows

    from connectors.cameras.simulated import LogEntry

FLEET = 30
EVERY_MS = 1_000
"""Thirty photos a second."""
CATCH_UP = "30s"
"""How long a late photo is still wanted: until then none may expire."""
WORKERS = 3
ANSWER_S = 20.0


class ShutterBench(Chain):
    """A chain under a steady load, and the report that its row goes to."""

    def __init__(self, kafka: str, namespace: str, data: Path, report: FaultReport) -> None:
        super().__init__(
            ClusterOptions(
                data=data,
                kafka=kafka,
                namespace=namespace,
                partitions=PARTITIONS,
                wheel_workers=WORKERS,
                capture_workers=WORKERS,
                session_timeout_ms=SESSION_MS,
            ),
            FLEET,
        )
        self._report = report
        self._watch: Watch | None = None
        self._since = self._until = 0.0

    def load(self) -> None:
        """Put the fleet on its schedule and wait until every partition gives results."""
        self.introduce()
        self.schedule(EVERY_MS, catch_up=CATCH_UP)
        self._watch = Watch(self.kafka, self.topic("capture.results"), PARTITIONS)
        self.flow()

    def introduced(self) -> bool:
        """Tell whether every profile is worked on and committed: idle workers are idle then."""
        topic = self.topic(device_profiles.TOPIC)
        asked = [TopicPartition(topic, number) for number in range(PARTITIONS)]
        group = f"{self.namespace}.{capture_executor.APP}"
        done = stable_offsets(self.kafka, group, asked, ANSWER_S)
        return sum(max(0, part.offset) for part in done) >= len(self.devices)

    def flow(self) -> None:
        """Wait until every partition has given a result from now on."""
        watch, now = self._watch, time.monotonic()
        assert watch is not None
        self.wait_until("results of every partition", lambda: watch.heard_since(now))
        self._until = time.monotonic()

    def hurt(self) -> None:
        """Note that the fault happens now: the time to recover counts from here."""
        self._since = time.monotonic()

    def strike(self, app: str, number: signal.Signals, slot: int = 0) -> None:
        """Send a signal to a worker that ends it, and wait for the next one in its slot."""
        ended = self.signal(app, number, slot)
        self.wait_until("another process", lambda: self.pid(app, slot) not in {0, ended})
        self.await_ready()

    def close(self) -> None:
        """Stop everything."""
        if self._watch is not None:
            self._watch.close()
        super().close()

    # -- the end -------------------------------------------------------------------------------

    def told(self, entries: list[LogEntry]) -> str:
        """Return these shutters with the transitions of their captures, for the report."""
        by_id = {str(r.command_id): r for r in self.results()}
        lines = []
        for entry in entries[:5]:
            result = by_id.get(entry.command_id)
            walk = [
                (t.to_state, t.at_ms - entry.at_ms, t.cause)
                for t in (result.transitions if result else ())
            ]
            late_ms = entry.at_ms - result.scheduled_ms if result else None
            lines.append(f"{entry.command_id} at {entry.at_ms}, late {late_ms}: {walk}")
        return "\n".join(lines)

    def end(self, name: str, *, expired_at_most: int = 0) -> FaultRow:
        """Cancel, drain, compare, report."""
        self.cancel()
        self.drain()
        kept = self.check()
        self.stop()  # what follows compares topics that must stand still
        wrong = self.wrong_rows()
        unleased = without_lease(self.results(), self.cameras.log())
        assert self._watch is not None
        row = FaultRow(
            name,
            kept.lost,
            kept.duplicated + kept.unexpected,
            self.ticks_back(),
            len(wrong),
            self._watch.longest_silence_s(self._since, self._until),
            len(unleased),
            kept.expired,
        )
        self._report.add(row)
        assert_kept(kept)
        assert not self.shutters_after_the_end()
        assert unleased == [], self.told(unleased)
        assert wrong == []
        assert row.zombie_writes == 0
        assert kept.expired <= expired_at_most, f"{kept.expired} expired"
        return row

    def _read(self, name: str) -> dict[int, Rows]:
        return Reader(self.kafka, self.namespace, PARTITIONS).read(name)

    def ticks_back(self) -> int:
        """Count the ticks whose time is before that of the tick before: an older owner's."""
        back = 0
        for rows in self._read(timing_wheel.TICKS).values():
            records = [self.codec.decode(value or b"") for _, _, value in rows]
            times = [r.time_ms for r in records if isinstance(r, ScheduleTick)]
            back += sum(1 for a, b in itertools.pairwise(times) if b < a)
        return back

    def wrong_rows(self) -> list[str]:
        """Return what differs between the tables and the fold of their inputs."""
        ticks, commands = self._read(timing_wheel.TICKS), self._read(timing_wheel.COMMANDS)
        logs = {table: self._read(name) for table, name in timing_wheel.CHANGELOGS.items()}
        wrong: list[str] = []
        for number in range(PARTITIONS):
            wrong += differences(
                number,
                PARTITIONS,
                self.codec,
                [value or b"" for _, _, value in ticks[number]],
                {table: folded(log[number]) for table, log in logs.items()},
                [value or b"" for _, _, value in commands[number]],
            )
        # Each command has its result: no capture may still have a row of its own.
        captures = self._read(capture_executor.CHANGELOGS["captures"])
        for number, rows in captures.items():
            wrong += [f"{number}:{key!r} is open" for key in folded(rows) if b"\0" in key]
        return wrong
