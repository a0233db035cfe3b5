"""The work of ``work.py`` on stock Faust (faust-streaming), as its own table and agents do it.

At least once: its ``exactly_once`` does not cover the table. In its best configuration that we
know: RocksDB by rocksdict, raw bytes and msgspec instead of its own serializers, no standbys, no
leader topic, no web server, uvloop, and a large stream buffer, so that fetching is never stopped.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

import faust
import msgspec
import uvloop

from benchmarks.streams.work import CONSUME, RECOVERY, Progress, given_job, next_row, say

if TYPE_CHECKING:
    from benchmarks.streams.work import Job

TABLE = "counts"


class Reading(msgspec.Struct):
    """A record of the input."""

    device: str
    seq: int
    at_ms: int
    value: float


def make_app(job: Job) -> faust.App:
    """Return the app, without its agent."""
    return faust.App(
        job.full(job.group),
        broker=f"kafka://{job.bootstrap}",
        store="rocksdb://",
        datadir=str(Path(job.folder)),
        topic_partitions=job.partitions,
        topic_replication_factor=1,
        topic_disable_leader=True,
        table_standby_replicas=0,
        autodiscover=False,
        web_enabled=False,
        processing_guarantee="at_least_once",
        producer_acks=-1,
        stream_buffer_maxsize=65_536,
        stream_recovery_delay=0.0,
        recovery_buffer_size=10_000,
        broker_commit_interval=1.0,
        broker_session_timeout=10.0,
        broker_heartbeat_interval=2.0,
        consumer_auto_offset_reset="earliest",
        loghandlers=[],
    )


def add_agent(app: faust.App, job: Job) -> None:
    """Give the app the work of the job."""
    progress = Progress(job.records)
    decode = msgspec.json.Decoder(Reading).decode
    source = app.topic(
        job.full(job.source), key_type=bytes, value_type=bytes, value_serializer="raw",
        key_serializer="raw", partitions=job.partitions,
    )  # fmt: skip
    if job.case == CONSUME:

        async def consume(stream: Any) -> None:
            async for value in stream:
                progress.begin()
                decode(value)
                progress.done()

        app.agent(source)(consume)
        return
    table: Any = app.Table(TABLE, partitions=job.partitions, key_type=bytes, value_type=bytes)

    async def count(stream: Any) -> None:
        async for key, value in stream.items():
            progress.begin()
            table[key] = next_row(table.get(key), decode(value).at_ms)
            progress.done()

    app.agent(source)(count)
    if job.case == RECOVERY:

        async def assigned(_app: Any, *_args: Any, **_more: Any) -> None:
            say("first")

        async def recovered(*_args: Any) -> None:
            say("last")

        app.on_partitions_assigned.connect(assigned, weak=False)  # type: ignore[arg-type]
        table.on_recover(recovered)


async def run(job: Job) -> None:
    """Work until the process ends."""
    app = make_app(job)
    add_agent(app, job)
    app.finalize()
    await app.start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(run(given_job()))
