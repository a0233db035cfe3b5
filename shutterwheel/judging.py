"""The judge of a captures worker: the local model, and a server of models where one is named."""

from __future__ import annotations

from typing import TYPE_CHECKING

from connectors.images.quality.gate import QualityGate
from schemas.errors import UsageError
from streams.observability.logs import get_logger

if TYPE_CHECKING:
    from connectors.images.quality.remote import RemoteSettings, Shown
    from schemas.records import QualityVerdict
    from streams.observability.metrics import Metrics

SERVER_PREFIX = "grpc:"


def quality_settings(server: str, model: str) -> RemoteSettings:
    """Return what ``--quality-server`` and ``--quality-model`` say.

    Raises :class:`UsageError`: they are not understood, or what speaks gRPC is not installed.
    """
    from connectors.images.quality.remote import RemoteSettings
    from connectors.images.quality.v2 import check_installed

    settings = RemoteSettings.parse(server, model)
    check_installed()
    return settings


def check_photos(
    processes: int, sign_key: object, server: str, model: str
) -> RemoteSettings | None:
    """Return what options say of a server of models; none is named: None.

    Raises :class:`UsageError` for what options say of photos and cannot be.
    """
    if processes and sign_key is not None:
        raise UsageError(
            "--image-processes and --sign-key exclude each other: a key stays out of processes "
            "whose decoders are not trusted."
        )
    return quality_settings(server, model) if server else None


def make_judge(remote: RemoteSettings | None, metrics: Metrics) -> CountingJudge:
    """Return the judge of a worker; it looks for its server at once."""
    watch = None
    if remote is not None:
        from connectors.images.quality.remote_watch import RemoteWatch

        watch = RemoteWatch(remote, _Told(metrics))
    gate = QualityGate(remote=watch)
    gate.start()
    return CountingJudge(gate, metrics)


class CountingJudge:
    """A gate, and a count of what photos were judged by."""

    def __init__(self, gate: QualityGate, metrics: Metrics) -> None:
        self._gate = gate
        self._metrics = metrics

    async def judge(self, data: bytes, until_s: float | None = None) -> QualityVerdict:
        """See QualityGate."""
        verdict = await self._gate.judge(data, until_s)
        by = "server" if verdict.provider.startswith(SERVER_PREFIX) else "here"
        self._metrics.verdicts.inc(by if verdict.model else "nobody")
        return verdict

    async def aclose(self) -> None:
        """See QualityGate."""
        await self._gate.aclose()


class _Told:
    """Logs each change once, and counts."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._log = get_logger(__name__)

    def well(self, provider: str, shown: Shown) -> None:
        self._metrics.quality_server.set(1)
        self._log.info(
            "photos are judged by the server", provider=provider, version=shown.version,
            model=shown.sha256[:12], said=shown.said, compared=shown.compared,
        )  # fmt: skip

    def away(self, provider: str, kind: str, reason: str) -> None:
        self._metrics.quality_server.set(0)
        self._log.warning("photos are judged here", provider=provider, kind=kind, reason=reason)

    def failed(self, kind: str) -> None:
        self._metrics.quality_failures.inc(kind)
