"""``shutterwheel replay``: the past once more: as it was, under another policy, or in a sandbox."""

from __future__ import annotations

import contextlib
import re
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from schemas.errors import StoreError, UsageError
from shutterwheel.context import (
    Archive,
    AsJson,
    Cluster,
    DataDir,
    Kafka,
    Namespace,
    Registry,
    TzFolders,
    find_cluster,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from shutterwheel.replay_run import Source
    from shutterwheel.replay_sandbox import SandboxReport
    from shutterwheel.what_if_file import WhatIfFile

EPILOG: Final = """
Examples:

  shutterwheel replay

  shutterwheel replay --last 24h --play --json

  shutterwheel replay --archive s3://archive/site

  shutterwheel replay --with-policy spread.yaml --last 1h --png load.png

  shutterwheel replay --with-policy spread.yaml --always --from 2026-12-01T08:00:00Z \
--to 2026-12-01T09:00:00Z

  shutterwheel replay --speed 1 --last 5m

  shutterwheel replay --speed 10 --last 1h --keep

A policy file:  `version: 1` and keys of a manifest, such as `spread: 60s` or `misfire: skip`;
`capacity_per_shard: 4`; under `schedules:` rules for some, such as
`- {id: "line-*", devices: {site: north}, spread: 5m}`.
"""
SPEED: Final = re.compile(r"x?([0-9]{1,4}(?:\.[0-9]{1,3})?)")
MAX: Final = "max"
SAY_EVERY_S: Final = 5.0

Speed = Annotated[
    str,
    typer.Option(
        "--speed",
        metavar="N|max",
        help="max: folded in this process; 1 to 1000: by workers in a sandbox, so many times as "
        "fast as it was.",
    ),
]
Play = Annotated[
    bool,
    typer.Option(
        "--play",
        help="Give the commands to cameras that always answer, and compare how they ended.",
    ),
]
Allow = Annotated[
    list[str] | None,
    typer.Option("--allow", metavar="NETWORK", help="CIDR whose real cameras may be contacted."),
]
Blobs = Annotated[
    str | None,
    typer.Option(
        "--blobs",
        metavar="PLACE",
        help="Folder or URL of the blob store with the wheel's snapshots, to begin with the last "
        "one before --from. Default: that of the running `up`.",
    ),
]
Always = Annotated[
    bool,
    typer.Option(
        "--always",
        help="As if the policy had always stood; else it is published as the range begins.",
    ),
]


RealCameras = Annotated[
    bool,
    typer.Option(
        "--real-cameras", help="Photograph with the real cameras, not with simulated ones."
    ),
]
WithPolicy = Annotated[
    Path | None,
    typer.Option("--with-policy", metavar="FILE", help="What if this policy had held?"),
]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("replay", epilog=EPILOG)(replay)


def replay(
    begin: Annotated[
        str | None, typer.Option("--from", metavar="TIME", help="Default: the log's beginning.")
    ] = None,
    end: Annotated[
        str | None, typer.Option("--to", metavar="TIME", help="Default: the log's end.")
    ] = None,
    last: Annotated[
        str | None,
        typer.Option("--last", metavar="DURATION", help="So long before --to, instead of --from."),
    ] = None,
    device: Annotated[
        str | None, typer.Option("--device", metavar="ID", help="Only this device's partition.")
    ] = None,
    speed: Speed = MAX,
    policy: WithPolicy = None,
    always: Always = False,
    play: Play = False,
    png: Annotated[
        Path | None, typer.Option("--png", metavar="OUT", help="Draw the load, too.")
    ] = None,
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave the sandbox's topics, state and photos.")
    ] = False,
    real_cameras: RealCameras = False,
    allow: Allow = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before real cameras.")] = False,
    blobs: Blobs = None,
    tz: TzFolders = None,
    archive: Archive = None,
    kafka: Kafka = None,
    namespace: Namespace = None,
    data: DataDir = None,
    registry: Registry = None,
    as_json: AsJson = False,
) -> None:
    """Replay a range of the past.

    It begins with the wheel's last snapshot before --from, where its rows can be read, else with
    the log's beginning. Without more, the ticks are folded again, and every command and decision
    must be what was written then, byte for byte: exit code 1 if one is not. With --with-policy they
    are folded under another policy as well, and it says what would have been otherwise: the load,
    what is moved, gone, added, revoked and skipped. With --speed N the range is poured into a
    sandbox: real workers, by a clock that begins at --from and goes N times as fast, and simulated
    cameras; it says what speed they kept up with.
    """
    from shutterwheel.tz_files import know_tz

    times = _speed(speed)
    if play and (times is not None or policy is not None):
        raise UsageError("--play is about folding again: leave --speed and --with-policy out.")
    _check(times, policy, always, png, keep=keep, real=real_cameras)
    if allow and not real_cameras:
        raise UsageError("--allow is about real cameras: add --real-cameras.")
    if archive is not None and times is None:  # nothing but the archive is needed
        cluster = Cluster("", namespace or "", registry or "")
    else:
        cluster = find_cluster(kafka, namespace, data, registry)
    know_tz(tz or ())
    asked = _load(policy)
    if blobs is None:
        blobs = "" if cluster.run is None or archive is not None else cluster.run.blobs
    source = _source(cluster, archive, begin, end, last, device, blobs)
    if times is not None:
        networks = tuple(allow or ()) if real_cameras else None
        report = _sandbox(cluster, source, asked, times, data, keep, networks, yes, as_json)
        _show_sandbox(source, report, as_json=as_json)
        raise typer.Exit(1 if report.unanswered or report.doubled else 0)
    if asked is None:
        _again(source, play, as_json=as_json)
    else:
        _what_if(source, asked, always, png, as_json=as_json)


# --- what was asked -------------------------------------------------------------------------------


def _speed(text: str) -> float | None:
    """Return how many times as fast; null: as fast as it goes."""
    if text == MAX:
        return None
    found = SPEED.fullmatch(text)
    if found is None or not 1.0 <= float(found[1]) <= 1_000.0:
        raise UsageError(f"--speed {text}: expected 1 to 1000, or 'max'.")
    return float(found[1])


def _check(
    times: float | None,
    policy: Path | None,
    always: bool,
    png: Path | None,
    *,
    keep: bool,
    real: bool,
) -> None:
    if times is None and (keep or real):
        raise UsageError("--keep and --real-cameras are about a sandbox: add --speed 1.")
    if policy is None and (always or png is not None):
        raise UsageError("--always and --png are about another policy: add --with-policy FILE.")
    if times is not None and (always or png is not None):
        raise UsageError("--always and --png need --speed max.")


def _load(policy: Path | None) -> WhatIfFile | None:
    if policy is None:
        return None
    from shutterwheel import what_if_file

    return what_if_file.load(policy)


def _source(
    cluster: Cluster,
    archive: str | None,
    begin: str | None,
    end: str | None,
    last: str | None,
    device: str | None,
    blobs: str,
) -> Source:
    from connectors.clients.values import duration_ms, moment_ms
    from shutterwheel.replay_run import make_source, open_log

    if begin is not None and last is not None:
        raise UsageError("Give --from or --last, not both.")
    return make_source(
        *open_log(cluster, archive or ""),
        None if begin is None else moment_ms(begin, "--from"),
        None if end is None else moment_ms(end, "--to"),
        None if last is None else duration_ms(last, "--last"),
        device,
        blobs,
    )


# --- in this process ------------------------------------------------------------------------------


def _again(source: Source, play: bool, *, as_json: bool) -> None:
    from shutterwheel.replay_report import again_json, show_again
    from shutterwheel.replay_run import run_again

    with _progress(source, quiet=as_json) as tell:
        found = run_again(source, tell, play=play)
    if as_json:
        from shutterwheel.show import write_json

        write_json(again_json(source, found))
    else:
        show_again(source, found)
    raise typer.Exit(0 if found.ok else 1)


def _what_if(
    source: Source, asked: WhatIfFile, always: bool, png: Path | None, *, as_json: bool
) -> None:
    from shutterwheel.replay_run import run_what_if
    from shutterwheel.what_if_report import draw, show_what_if, what_if_json

    with _progress(source, quiet=as_json) as tell:
        found = run_what_if(source, asked, tell, always=always)
    if as_json:
        from shutterwheel.show import write_json

        write_json(what_if_json(source, asked.words, found, always=always))
    else:
        show_what_if(source, asked.words, found, always=always)
    if png is not None:
        try:
            draw(png, source, asked.words, found)
        except OSError as error:
            raise StoreError(f"{png} cannot be written: {error.strerror or error}.") from None


@contextlib.contextmanager
def _progress(source: Source, *, quiet: bool) -> Iterator[Callable[[int, int, int], None]]:
    """Show how far the fold has come: a line that changes, or one now and then."""
    from connectors.clients.values import show_moment
    from shutterwheel.show import console, say

    out = console(stderr=True)
    if quiet:
        yield lambda _number, _ticks, _at_ms: None
        return
    done, said_s = 0, time.monotonic()
    with contextlib.ExitStack() as stack:
        status = stack.enter_context(out.status("reading")) if out.is_terminal else None

        def tell(number: int, ticks: int, at_ms: int) -> None:
            nonlocal done, said_s
            done += ticks
            place = source.partitions.index(number) + 1
            words = (
                f"partition {place} of {len(source.partitions)}, {show_moment(at_ms)}, "
                f"{done:,} ticks"
            )
            if status is not None:
                status.update(words)
            elif time.monotonic() - said_s >= SAY_EVERY_S:
                said_s = time.monotonic()
                say(words)

        yield tell


# --- in a sandbox ---------------------------------------------------------------------------------


def _sandbox(
    cluster: Cluster,
    source: Source,
    asked: WhatIfFile | None,
    times: float,
    data: Path | None,
    keep: bool,
    networks: tuple[str, ...] | None,
    yes: bool,
    as_json: bool,
) -> SandboxReport:
    """Run a range in a sandbox; ``networks``: those of real cameras, null: simulated ones."""
    from shutterwheel.context import data_dir_of
    from shutterwheel.replay_run import read_profiles
    from shutterwheel.replay_sandbox import Sandbox, SandboxOptions, sandbox_name
    from shutterwheel.show import say

    real = networks is not None
    if real and not yes:
        _ask(len(read_profiles(source)))
    settings = {} if asked is None else asked.settings
    strange = sorted(settings.keys() - {"capacity_per_shard"})
    if strange:
        raise UsageError(f"A sandbox's workers take no {', '.join(strange)}: use --speed max.")
    profiles = read_profiles(source) if asked is not None and asked.needs_profiles else []
    options = SandboxOptions(
        kafka=cluster.kafka,
        data=data_dir_of(data),
        namespace=sandbox_name(cluster.namespace),
        speed=times,
        real_cameras=real,
        allow=networks or (),
        keep=keep,
        registry=cluster.registry,
        capacity=settings.get("capacity_per_shard", 0),
    )
    policy = None if asked is None else asked.resolved(profiles)

    def on_term(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, on_term)
    with (
        _ticking(source, quiet=as_json) as tell,
        Sandbox(source, options, (lambda _text: None) if as_json else say, tell, policy) as sandbox,
    ):
        try:
            return sandbox.run()
        finally:
            # A second Ctrl-C while things stop must not leave them half stopped.
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _ask(devices: int) -> None:
    """Ask before real cameras are photographed; UsageError where nobody can answer."""
    if not sys.stdin.isatty():
        raise UsageError("--real-cameras asks before it begins; without a terminal add --yes.")
    typer.confirm(
        f"This photographs again with {devices:,} real cameras. Do you mean it?",
        abort=True,
        err=True,
    )


@contextlib.contextmanager
def _ticking(source: Source, *, quiet: bool) -> Iterator[Callable[[int], None]]:
    from connectors.clients.values import show_moment
    from shutterwheel.show import say

    said_s = time.monotonic()

    def tell(at_ms: int) -> None:
        nonlocal said_s
        if not quiet and time.monotonic() - said_s >= SAY_EVERY_S:
            said_s = time.monotonic()
            whole = max(source.to_ms - source.from_ms, 1)
            say(f"{show_moment(at_ms)}, {min(at_ms - source.from_ms, whole) * 100 // whole} %")

    yield tell


def _show_sandbox(source: Source, report: SandboxReport, *, as_json: bool) -> None:
    from shutterwheel.replay_report import sandbox_json, show_sandbox

    if as_json:
        from shutterwheel.show import write_json

        write_json(sandbox_json(source, report))
    else:
        show_sandbox(source, report)
