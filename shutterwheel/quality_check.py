"""The check of ``shutterwheel doctor`` that asks the server of models, if one is named."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from schemas.errors import UsageError
from shutterwheel.context import RunFile
from shutterwheel.diagnosis import Check

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NAME: Final = "quality"
ADVICE: Final = {
    "away": "Check its address and port (gRPC, not HTTP), grpcs:// and its ca, and that it runs.",
    "slow": "Its machine is busy or stopped; photos are judged here meanwhile.",
    "not_ready": "See the server's own log.",
    "no_model": "Name its model by --quality-model NAME[:VERSION].",
    "wrong_model": "Give it connectors/images/quality/models/ of this release.",
    "nonsense": "Its model must take frames (n, 320, 320, 3) and give rows (n, m, 9).",
    "denied": "Check the token of --quality-server grpcs://HOST:PORT?token=env:NAME.",
    "refused": "See the server's own log; messages of 4 MB must be allowed.",
}


def check_quality(folder: Path, server: str, model: str) -> Iterator[Check]:
    """Look at the server named, else at that of the running ``up``; nothing: none is named."""
    from shutterwheel.judging import quality_settings

    try:
        if not server:
            run = RunFile.load(folder)
            if run is None or not run.alive or not run.quality_server:
                return
            server, model = run.quality_server, run.quality_model
        settings = quality_settings(server, model)
    except UsageError as error:
        yield Check(NAME, "fail", error.line())
        return
    from connectors.images.quality.remote import RemoteModel
    from connectors.images.quality.v2 import RemoteError

    remote = RemoteModel(settings)
    try:
        shown = remote.verify()
    except RemoteError as error:
        yield Check(NAME, "warn", f"photos are judged here: {error}", ADVICE[error.kind])
        return
    finally:
        remote.close()
    how = "answers as it does" if shown.compared else "says so; nothing here to compare it with"
    yield Check(
        NAME,
        "ok",
        f"{settings.provider} at {server}, version {shown.version or 'unsaid'}, is model "
        f"{shown.sha256[:12]}: {how}",
    )
