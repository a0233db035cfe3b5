"""A small app on the runtime, run as a process of its own and put through faults.

It does the three kinds of work there are, and each leaves a trace that can be counted:

* driven by **records**: each record adds one to the row of its key and makes an output
  ``R:<partition>:<offset>:<generation>:<member>``;
* driven by the **clock**: every ``tick_ms`` each partition adds one to its row ``#ticks`` and makes
  ``T:<partition>:<number>:<generation>:<member>``, with nothing read;
* driven by **completions**: a record with the value ``later`` also writes a row ``@<offset>``; once
  that is committed some work runs outside any step, and its end deletes the row and makes
  ``C:<partition>:<offset>:<generation>:<member>``.

A record with the value ``poison`` becomes a dead letter; one with the value ``huge`` makes an
output that the broker refuses. Its one argument is a JSON object (see ``Options``). It prints one
JSON object a line: ``{"event": "opened", ...}``. SIGUSR1 has it print what its threads are doing.
"""

from __future__ import annotations

import asyncio
import faulthandler
import json
import os
import random
import signal
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvloop

from schemas.codec import Codec
from schemas.errors import ShutterwheelError
from schemas.ids import FingerprintIds
from streams.observability.logs import configure
from streams.observability.metrics import Metrics
from streams.runtime.app import Layout, ShardApp
from streams.runtime.clock import Clock
from streams.runtime.dead_letters import DeadLetters
from streams.runtime.settings import RuntimeSettings

if TYPE_CHECKING:
    from aiokafka import ConsumerRecord

    from streams.runtime.partition import Partition, Step

IN, OUT, LOG = "probe.in", "probe.out", "probe.log"
TICKS = b"#ticks"
LATER = b"@"


@dataclass(frozen=True)
class Options:
    """What the test asks for."""

    bootstrap: str
    namespace: str
    slot: str
    data_dir: str
    partitions: int
    tick_ms: int = 100
    later_ms: int = 150
    lease_ms: int = 0
    """Print every change of the lease, looked at this often; 0: do not look."""
    work_ms: int = 0
    """Blocks the loop this long for each slice, to make it busy."""
    app: str = "captures"
    runtime: dict[str, Any] = field(default_factory=dict)


def say(event: str, **fields: object) -> None:
    """Print one line for the test that reads them."""
    sys.stdout.write(json.dumps({"event": event, **fields}) + "\n")
    sys.stdout.flush()


def number(row: bytes | None) -> int:
    """Return the number in a row."""
    return int(row or b"0")


class Counter:
    """The program of the app; see the module's docstring."""

    def __init__(self, options: Options, settings: RuntimeSettings) -> None:
        self.options = options
        self.settings = settings
        self.clock = Clock()
        metrics = Metrics(options.app, options.slot)
        layout = Layout((IN,), {"counts": LOG}, options.partitions)
        self.app = ShardApp(settings, layout, self, self.clock, metrics)
        self.app.agent(IN, self.on_records)
        self.app.loop(self.on_clock)
        self.dead = DeadLetters(options.app, Codec(FingerprintIds()), self.clock, metrics)
        self.tasks: set[asyncio.Task[None]] = set()

    def generation(self) -> int:
        """Return the generation in force, or -1."""
        membership = self.app.group.membership
        return -1 if membership is None else membership.generation

    def output(self, kind: str, partition: Partition, n: int) -> bytes:
        """Return an output that says what it is, and under which membership it was made."""
        membership = partition.membership
        stamp = f"{membership.generation}:{membership.member_id}"
        return f"{kind}:{partition.number}:{n}:{stamp}".encode()

    # -- life cycle ----------------------------------------------------------------------------

    def opened(self, partition: Partition) -> None:
        rows = dict(partition.rows("counts"))
        for key in rows:
            if key.startswith(LATER):
                self.start_later(partition, int(key[1:]))
        say(
            "opened",
            partition=partition.number,
            position=partition.positions[IN],
            rows=len(rows),
            generation=self.generation(),
        )

    async def pausing(self, partitions: list[Partition]) -> int:
        return 0

    def resumed(self, partition: Partition) -> None:
        say(
            "resumed",
            partition=partition.number,
            position=partition.positions[IN],
            generation=self.generation(),
        )

    async def drain(self, partitions: list[Partition]) -> int:
        if self.tasks:
            await asyncio.wait(self.tasks, timeout=self.settings.drain_ms / 1000)
        return 0

    def closed(self, partition: Partition) -> None:
        say("closed", partition=partition.number)

    # -- work ----------------------------------------------------------------------------------

    def on_records(self, partition: Partition, records: list[ConsumerRecord], step: Step) -> None:
        for record in records:
            if record.value == b"poison":
                self.dead.write(step, record, IN, "poison", "It was meant to be.")
                continue
            assert record.key is not None
            count = number(partition.get("counts", record.key)) + 1
            step.put("counts", record.key, b"%d" % count)
            out = self.output("R", partition, record.offset)
            if record.value == b"huge":
                out += b"." * 1_500_000
            step.produce(OUT, record.key, out)
            if record.value == b"later":
                step.put("counts", LATER + b"%d" % record.offset, b"open")
                step.after_commit(lambda o=record.offset: self.start_later(partition, o))  # type: ignore[misc]
        if self.options.work_ms:
            import time

            time.sleep(self.options.work_ms / 1000)

    def start_later(self, partition: Partition, offset: int) -> None:
        task = asyncio.ensure_future(self.later(partition, offset))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def later(self, partition: Partition, offset: int) -> None:
        await asyncio.sleep(random.uniform(0, self.options.later_ms) / 1000)
        # Lost: whoever owns the partition now finds the row and does the work. While the partition
        # is paused its end waits; while it is being drained it still counts.
        partition.when_writable(lambda: self.completed(partition, offset))

    def completed(self, partition: Partition, offset: int) -> None:
        with self.app.step(partition) as step:
            step.put("counts", LATER + b"%d" % offset, None)
            step.produce(OUT, None, self.output("C", partition, offset))

    async def on_clock(self) -> None:
        while True:
            await asyncio.sleep(self.options.tick_ms / 1000)
            for partition in list(self.app.partitions.values()):
                if partition.open:
                    count = number(partition.get("counts", TICKS)) + 1
                    with self.app.step(partition) as step:
                        step.put("counts", TICKS, b"%d" % count)
                        step.produce(OUT, None, self.output("T", partition, count))

    async def watch_lease(self) -> None:
        alive: bool | None = None
        while True:
            now = self.app.group.lease_alive()
            if now != alive:
                say("lease", alive=now, heartbeat=self.app.group.lease_age_ms() != float("inf"))
                alive = now
            await asyncio.sleep(self.options.lease_ms / 1000)

    async def run(self) -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, stop.set)
        say("started")
        if self.options.lease_ms:
            self.app.loop(self.watch_lease)
            say("lease", alive=self.app.group.lease_alive(), heartbeat=False)
        await self.app.run(stop)


def main() -> int:
    """Run until SIGTERM; exit 1 with one line if the worker was in doubt."""
    faulthandler.register(signal.SIGUSR1)
    arguments = json.loads(sys.argv[1])
    options = Options(**arguments)
    runtime = dict(options.runtime)
    runtime["faults"] = frozenset(runtime.get("faults", ()))
    settings = RuntimeSettings(
        app=options.app,
        slot=options.slot,
        bootstrap=options.bootstrap,
        namespace=options.namespace,
        data_dir=Path(options.data_dir),
        **runtime,
    )
    configure(options.app, options.slot, os.environ.get("LOG_LEVEL", "info"), json=True)
    try:
        # Never closed, as in shutterwheel/worker.py: closing waits for threads that wait for brokers.
        asyncio.Runner(loop_factory=uvloop.new_event_loop).run(Counter(options, settings).run())
    except ShutterwheelError as error:
        say("failed", error=type(error).__name__, line=error.line())
        return 1
    say("stopped")
    return 0


if __name__ == "__main__":
    code = main()
    sys.stderr.flush()
    os._exit(code)  # as shutterwheel/worker.py: a Kafka client that waits must not keep it alive
