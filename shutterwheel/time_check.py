"""The check of ``shutterwheel doctor`` that asks the time servers, once each."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from schemas.errors import UsageError
from shutterwheel.context import RunFile
from shutterwheel.diagnosis import MAX_SKEW_MS, Check
from streams.runtime.clock import Clock
from streams.runtime.ntp import NtpSettings, TimeServer, vote

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NAME: Final = "time"


def check_time(folder: Path, named: tuple[str, ...]) -> Iterator[Check]:
    """Compare this machine's clock with the servers named, else those of the running ``up``."""
    try:
        if not named:
            run = RunFile.load(folder)
            named = run.ntp if run is not None and run.alive else ()
        settings = NtpSettings(named)
    except UsageError as error:
        yield Check(NAME, "fail", error.line())
        return
    if not named:
        found = "the machine's own clock counts: no NTP server is named (--ntp)"
        yield Check(NAME, "ok", found)
        return
    yield from _compare(settings)


def _compare(settings: NtpSettings) -> Iterator[Check]:
    clock = Clock()
    servers = [
        TimeServer(name, clock.monotonic_s, settings.patience_s) for name in settings.servers
    ]

    async def ask() -> None:
        await asyncio.gather(*(one.ask(1, 0.0, clock.now_s()) for one in servers))

    asyncio.run(ask())
    now_s = clock.monotonic_s()
    agreement = vote(servers, now_s)
    false = agreement.false if agreement is not None else ()
    for one in servers:
        reason = "is outvoted by the others" if one.name in false else one.trouble
        if reason:
            advice = "Check its address and port (UDP 123), and that it is synchronised itself."
            yield Check("time server", "warn", f"{one.name}: {reason}", advice)
    answering = sum(one.answers for one in servers)
    if agreement is None:
        said = "they do not agree" if answering else "none answers"
        found = (
            f"of {len(servers)} NTP servers {said}: workers that start go by the machine's clock"
        )
        yield Check(NAME, "warn", found, "Name three or more: then one that is wrong is outvoted.")
        return
    ahead_ms = (clock.now_s() - clock.monotonic_s() - agreement.offset_s) * 1000.0
    found = (
        f"{len(agreement.true)} of {len(servers)} NTP servers agree: this machine's clock is "
        f"{ahead_ms:+,.3f} ms of theirs, known within {agreement.error_s * 1000.0:.3f} ms"
    )
    if abs(ahead_ms) > MAX_SKEW_MS:
        advice = "Workers go by the servers; a broker on this machine would disagree with them."
        yield Check(NAME, "warn", found, advice)
        return
    yield Check(NAME, "ok", found)
