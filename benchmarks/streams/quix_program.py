"""The work of ``work.py`` on Quix Streams; runs in an environment of its own (``quix.py``).

Rows are stored as bytes, records are parsed by its own JSON deserializer (orjson). It holds a
commit's writes back and writes each key once, as our overlay does. Commits are a second apart
(its default of 5 s would be 5 s of waiting at the end of a run).
"""

from __future__ import annotations

from typing import Any

from quixstreams import Application  # pyright: ignore[reportMissingImports]
from quixstreams.state import StateStoreManager  # pyright: ignore[reportMissingImports]

from benchmarks.streams.work import (
    CONSUME,
    EXACTLY_ONCE,
    RECOVERY,
    Job,
    Progress,
    given_job,
    next_row,
    say,
)

ROW_KEY = "row"


def watch_recovery() -> None:
    """Have a recovery say when it begins and ends."""
    recover = StateStoreManager.do_recovery

    def do_recovery(manager: Any) -> None:
        say("first")
        recover(manager)
        say("last")

    StateStoreManager.do_recovery = do_recovery


def make_app(job: Job) -> Any:
    """Return the application."""
    exactly_once = job.case == EXACTLY_ONCE
    return Application(
        broker_address=job.bootstrap,
        consumer_group=job.full(job.group),
        auto_offset_reset="earliest",
        commit_interval=1.0,
        state_dir=job.folder,
        loglevel="WARNING",
        auto_create_topics=True,
        processing_guarantee="exactly-once" if exactly_once else "at-least-once",
        consumer_extra_config={"session.timeout.ms": 6_000, "heartbeat.interval.ms": 1_000},
        producer_extra_config={"linger.ms": 20, "batch.size": 256 * 1024},
    )


def main() -> None:
    """Run until standard input closes."""
    job = given_job()
    if job.case == RECOVERY:
        watch_recovery()
    app = make_app(job)
    progress = Progress(job.records)
    source = app.topic(job.full(job.source), key_deserializer="bytes", value_deserializer="json")
    frame = app.dataframe(source)

    def consume(reading: dict[str, Any]) -> None:
        progress.begin()
        _ = reading["at_ms"]
        progress.done()

    def count(reading: dict[str, Any], state: Any) -> bytes:
        progress.begin()
        row = next_row(state.get_bytes(ROW_KEY), reading["at_ms"])
        state.set_bytes(ROW_KEY, row)
        progress.done()
        return row

    if job.case == CONSUME:
        frame.update(consume)
    elif job.case == EXACTLY_ONCE:
        sink = app.topic(job.full(job.sink), key_serializer="bytes", value_serializer="bytes")
        frame.apply(count, stateful=True).to_topic(sink)
    else:
        frame.apply(count, stateful=True)
    app.run()


if __name__ == "__main__":
    main()
