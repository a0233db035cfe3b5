"""Three workers of the counter program under a steady load, hurt and then checked.

Each test has topics of its own, starts the workers, hurts something, and ends with ``finish``:
what is visible is compared with the fold of the inputs (``runtime_checker``), and the row goes into
the report before anything is asserted. A worker that ends is started again, as by a supervisor.
"""

from __future__ import annotations

import signal
import threading
import time
from typing import TYPE_CHECKING, Any

from fault_report import FaultReport, FaultRow
from fault_watch import Watch
from runtime_harness import OUT, Site, Worker, wait_until

from infra.kafka.topics import topic_name

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PARTITIONS = 6
RATE = 600
"""Records a second."""
LATER_EVERY = 5
"""Every fifth begins some work that ends later; no divisor of the partitions, so in all of them."""
RUNTIME: dict[str, Any] = {
    "session_timeout_ms": 3_000,
    "heartbeat_ms": 500,
    "lease_margin_ms": 1_000,
    "commit_interval_ms": 200,
    "transaction_timeout_ms": 5_000,
    "slice_records": 1,  # so that a poll is more than one slice at this rate
}
PATIENCE_S = 90.0
SECOND_LOOK_S = 5.0
IN_DOUBT, KILLED = 1, -9


class Bench:
    """A site, its workers by slot, its load, and the report that a row goes to."""

    def __init__(self, site: Site, report: FaultReport, **runtime: Any) -> None:
        self.site = site
        self.workers: dict[str, Worker] = {}
        self.ends: list[tuple[str, int, str]] = []
        """(slot, exit code, error) of every worker that ended before it was asked to."""
        self._report = report
        self._runtime = {**RUNTIME, **runtime}
        self._places: dict[str, Path] = {}
        self._stop = threading.Event()
        self._load: threading.Thread | None = None
        self._watch = Watch(site.kafka, topic_name(site.namespace, OUT), site.partitions)
        self._since = self._until = 0.0

    # -- workers -------------------------------------------------------------------------------

    def start(self, slots: str = "abc", faults: dict[str, str] | None = None) -> Bench:
        """Start workers and the load; ``faults`` names the step a slot's first life ends at."""
        for slot in slots:
            self.add(slot, faults=[faults[slot]] if slot in (faults or {}) else [])
        if self._load is None:
            self._load = self.site.feed.steadily(RATE, self._stop, later_every=LATER_EVERY)
        return self

    def place(self, slot: str, data_dir: Path) -> None:
        """Have a slot keep its state in a folder of its own."""
        self._places[slot] = data_dir

    def add(self, slot: str, **runtime: Any) -> Worker:
        """Start a worker in a slot."""
        worker = self.site.worker(
            slot,
            runtime={**self._runtime, **runtime},
            tick_ms=50,
            data_dir=self._places.get(slot, self.site.data_dir),
        )
        self.workers[slot] = worker
        return worker

    def remove(self, slot: str) -> None:
        """End a worker in order."""
        worker = self.workers.pop(slot)
        assert worker.stop() == 0, worker.report()

    def kill(self, slot: str) -> None:
        """Kill -9; the next wait starts another one."""
        self.workers[slot].process.kill()
        self.workers[slot].exit_code()

    def revive(self) -> None:
        """Start again whoever has ended, as the supervisor does, and note how it ended."""
        for slot, worker in list(self.workers.items()):
            code = worker.process.poll()
            if code is not None:
                worker.exit_code()
                failed = [str(e["error"]) for e in worker.all("failed")]
                assert code in {IN_DOUBT, KILLED}, worker.report()
                assert code == KILLED or failed, f"no clear line: {worker.report()}"
                self.ends.append((slot, code, failed[0] if failed else ""))
                self.add(slot)

    # -- waiting -------------------------------------------------------------------------------

    def until(self, what: str, ready: Callable[[], Any], patience_s: float = PATIENCE_S) -> Any:
        """Return the first true answer, starting again whoever ends meanwhile."""

        def look() -> Any:
            self.revive()
            return ready()

        try:
            return wait_until(what, look, patience_s)
        except AssertionError as error:
            silent = self._watch.silent_since(time.monotonic() - patience_s / 2)
            for worker in self.workers.values():
                worker.signal(signal.SIGUSR1)  # what are its threads doing?
            reader = self.site.reader
            before = reader.ends(OUT)
            time.sleep(2.0)
            where = (
                f"silent: {silent}, written to {before}, 2 s later to {reader.ends(OUT)}, "
                f"visible up to {reader.ends(OUT, committed=True)}"
            )
            reports = "\n".join(w.report() for w in self.workers.values())
            raise AssertionError(f"{error}\n{where}\n{self.ends}\n{reports}") from None

    def balanced(self) -> bool:
        """Tell whether each worker owns something, and together they own everything."""
        owned = [worker.owns() for worker in self.workers.values()]
        return all(owned) and len(set.union(*owned)) == self.site.partitions

    def settle(self) -> None:
        """Wait until all is owned, every partition flows, and has for a moment."""
        self.until("each worker owns partitions", self.balanced)
        now = time.monotonic()
        self.until("every partition flows", lambda: self._watch.heard_since(now))
        self._until = time.monotonic()

    def flow(self) -> None:
        """Wait until every partition is heard of from now on."""
        now = time.monotonic()
        self.until("every partition flows", lambda: self._watch.heard_since(now))

    def hurt(self) -> None:
        """Note that the fault happens now: the time to recover counts from here."""
        self._since = time.monotonic()

    # -- the end -------------------------------------------------------------------------------

    def finish(self, name: str) -> FaultRow:
        """Let everything be worked off, stop, compare, and report."""
        self._stop.set()
        if self._load is not None:
            self._load.join(60)
        workers = list(self.workers.values())
        self.site.until_worked_off(workers)
        for slot in list(self.workers):
            self.remove(slot)
        findings = self.site.reader.findings()
        if not findings.sound():
            # A broker that was away may have told ends of the past. What is lost stays lost.
            time.sleep(SECOND_LOOK_S)
            first, findings = findings, self.site.reader.findings()
            print(f"{name}: not sound at the first look: {first}")
        row = FaultRow(
            name,
            len(findings.lost),
            len(findings.doubled) + len(findings.invented),
            len(findings.zombie),
            len(findings.wrong_rows),
            self._watch.longest_silence_s(self._since, self._until) if self._since else None,
        )
        self._report.add(row)
        assert findings.sound(), findings
        assert findings.outputs > 0
        return row

    def close(self) -> None:
        """End the load and the watch; the site ends the workers."""
        self._stop.set()
        if self._load is not None:
            self._load.join(60)
        self._watch.close()
