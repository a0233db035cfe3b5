"""``python -m benchmarks NAME [--json FILE] [--quick]``: run a benchmark, print its table."""

from __future__ import annotations

import argparse
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rich.console import Console

from benchmarks import (
    archive,
    audit,
    backlog,
    calm,
    capacity,
    captures_cpu,
    commits,
    explain,
    forecast,
    health,
    images,
    lateness,
    quality,
    recovery,
    replay,
)
from benchmarks.discovery import bench as discovery
from benchmarks.grab import bench as grab
from benchmarks.load import PARTITIONS, Rig
from benchmarks.misbehaviour import bench as misbehaviour
from benchmarks.options import Options
from benchmarks.result import OURS, Result
from benchmarks.schedulers import peers as schedulers
from benchmarks.schedules import bench as schedules
from benchmarks.schedules import peers as cron_peers
from benchmarks.streams import bench as streams
from benchmarks.streams import peers
from benchmarks.wheel import bench as wheel
from benchmarks.wheel import peers as timers
from schemas.errors import ShutterwheelError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from types import FrameType

    from benchmarks.result import Row

BENCHES: Final[Mapping[str, Callable[[Options, Rig], Iterable[Row]]]] = {
    "archive": archive.run,
    "backlog": backlog.run,
    "calm": calm.run,
    "capacity": capacity.run,
    "grab": grab.run,
    "captures": captures_cpu.run,
    "commits": commits.run,
    "audit": audit.run,
    "lateness": lateness.run,
    "misbehaviour": misbehaviour.run,
    "streams": streams.run,
    "recovery": recovery.run,
    "explain": explain.run,
    "forecast": forecast.run,
    "health": health.run,
    "images": images.run,
    "quality": quality.run,
    "replay": replay.run,
    "schedules": schedules.run,
    "wheel": wheel.run,
    "discovery": discovery.run,
}
WITHOUT_BROKER: Final = frozenset(
    {
        *("captures", "discovery", "forecast", "grab", "images", "misbehaviour", "quality"),
        *("replay", "schedules", "wheel"),
    }
)
PEERS: Final[Mapping[str, Callable[[], dict[str, str]]]] = {
    "discovery": discovery.versions,
    "grab": grab.versions,
    "images": images.versions,
    "lateness": schedulers.versions,
    "quality": quality.versions,
    "schedules": cron_peers.versions,
    "streams": peers.versions,
    "wheel": timers.versions,
}
"""Versions of the systems that a benchmark sets beside ours."""
MUST_BE_ZERO: Final = frozenset(
    {
        *("different", "early", "duplicated", "lost", "not_photographed", "unexplained"),
        *("ended_strangely", "sockets_left", "leaking_cells", "findings", "differs"),
        "over_bound_mb",
    }
)
"""Metrics that make a run fail where they are ours; a late one does not."""
EPILOG: Final = """\
lateness   scheduled time to shutter at 200 to 4,000 captures/s; 1.2 million devices; peers
capacity   captures a second, command to result, by one captures worker and by two
captures   CPU of a capture by stage, in one process, without Kafka
commits    what each partition that a transaction writes to costs the broker and the worker
streams    the runtime and its peers on the same records: consume, state, exactly once, recovery
backlog    memory and fairness of a worker 10 million records behind and being overrun
recovery   changelog records a second, starts with 1.2 million schedules, takeover by parts, the
           table of captures over an hour, partitions moved by workers that come and go
audit      ticks folded again and compared with all topics: records a second of a core, and by parts
health     heartbeats a second through the devices app; what a fleet of 1.2 million costs
archive    bytes of a capture in an archive; records a second archived, verified, read, restored
wheel      the timing wheel and its peers on the same timers, 10,000 to 1.2 million
calm       100 good cameras beside 10,000 that never answer: does anybody wait for them
grab       shutter to a verified picture: HTTP, RTSP cold and warm, av.open, ffmpeg; captures a core
explain    why there is no photo, among a million records of others in its partition
forecast   counting a day of captures of up to 1.2 million schedules beforehand
misbehaviour  each way a camera can go wrong against each protocol: cause, time, what is left of it
discovery  20 to 2,000 cameras of a network found and merged, beside other programs that search
quality    judging a photo: decoding and network, by provider, variant and batch
images     a photo from bytes to stored file, by part, 1080p and 4K, beside Pillow, OpenCV, pyvips
replay     a recorded range folded again byte for byte, and under another policy
schedules  a next fire beside cron libraries, and agreement with them over zones and changes of DST

  python -m benchmarks lateness --quick --json report.json
  python -m benchmarks lateness --cases paced --rates 500 --seconds 20
  python -m benchmarks lateness --cases fleet --devices 1200000 --every 300
  python -m benchmarks lateness --cases peers --systems quartz-postgres,gocron,shutterwheel
  python -m benchmarks capacity --devices 10000,1200000
  python -m benchmarks capacity --cases sustained --partitions 8,1024
  python -m benchmarks capacity --devices 10000 --cases memory --workers 1,2
  python -m benchmarks health --devices 1200000,200000
  python -m benchmarks streams --systems shutterwheel,kafka-streams --cases state --records 500000
  python -m benchmarks streams --systems shutterwheel --partitions 8,64,256,1024 --keys 200000
"""


def _numbers(text: str) -> tuple[float, ...]:
    return tuple(float(part) for part in text.replace("_", "").split(","))


def _counts(text: str) -> tuple[int, ...]:
    found = tuple(int(part) for part in text.replace("_", "").split(","))
    if min(found) < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return found


def _count(text: str) -> int:
    found = int(text.replace("_", ""))
    if found < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return found


def _names(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(","))


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", choices=sorted(BENCHES), metavar="NAME")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the result as JSON")
    parser.add_argument("--quick", action="store_true", help="a minute or two, small load")
    parser.add_argument("--devices", type=_counts, default=(), metavar="N[,N…]")
    parser.add_argument("--rates", type=_numbers, default=(), metavar="R[,R…]", help="captures/s")
    parser.add_argument("--seconds", type=float, default=0.0, help="length of a window")
    parser.add_argument(
        "--records", type=_count, default=0, metavar="N", help="of an input or a history"
    )
    parser.add_argument("--every", type=float, default=0.0, metavar="S", help="lateness's period")
    parser.add_argument("--keys", type=_counts, default=(), metavar="K[,K…]", help="distinct ones")
    parser.add_argument("--partitions", type=_counts, default=(), metavar="P[,P…]")
    parser.add_argument("--workers", type=_counts, default=(), metavar="W[,W…]")
    parser.add_argument("--systems", type=_names, default=(), metavar="S[,S…]")
    parser.add_argument("--cases", type=_names, default=(), metavar="C[,C…]")
    parser.add_argument("--kafka", default="", metavar="HOST:PORT", help="another cluster")
    return parser.parse_args(arguments)


def _stop(_number: int, _frame: FrameType | None) -> None:
    """End in order, also on SIGTERM: everything that was started is stopped on the way out."""
    raise KeyboardInterrupt


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code: 1 where something was early, lost or doubled."""
    asked = parse_arguments(arguments)
    options = Options(
        asked.quick,
        asked.devices,
        asked.rates,
        asked.seconds,
        asked.every,
        records=asked.records,
        keys=asked.keys,
        partitions=asked.partitions,
        workers=asked.workers,
        systems=asked.systems,
        cases=asked.cases,
    )
    began_s = time.monotonic()
    notes = Console(stderr=True, highlight=False)

    def say(text: str) -> None:
        notes.print(f"[dim]{time.monotonic() - began_s:6.1f} s[/]  {text}")

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    rows: list[Row] = []
    stopped = failed = False
    try:
        most = max(options.partitions, default=PARTITIONS)
        needed = asked.name not in WITHOUT_BROKER
        with Rig(say, asked.kafka, needed=needed, most_partitions=most) as rig:
            for row in BENCHES[asked.name](options, rig):
                rows.append(row)  # noqa: PERF402  # what there is by then is kept when it is stopped
    except KeyboardInterrupt:
        stopped = True
        notes.print("stopped; what was measured by then:" if rows else "stopped")
    except ShutterwheelError as error:
        failed = True
        notes.print(f"bench {asked.name}: {error.line()}", markup=False)
    if not rows:
        return 1 if failed else 130
    result = Result.of(asked.name, rows, PEERS[asked.name]() if asked.name in PEERS else None)
    for table in result.tables():
        Console().print(table)
    if asked.json:
        result.write(asked.json)
        say(f"written to {asked.json}")
    ours = [row for row in result.rows if row.system.startswith(OURS)]
    bad = [row for row in ours if row.metric in MUST_BE_ZERO and row.value]
    for row in bad:
        notes.print(f"{row.case}: {row.metric} is {row.value:,.0f}, must be 0", style="red")
    if stopped:
        return 130
    return 1 if bad or failed else 0


if __name__ == "__main__":
    sys.exit(main())
