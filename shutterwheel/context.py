"""Where the cluster is: options, environment, or what a running ``shutterwheel up`` wrote down.

Kafka is found by ``--kafka``, else ``SHUTTERWHEEL_KAFKA``, else ``run.json`` in the data folder,
which ``shutterwheel up`` writes when it is ready and removes when it stops::

    {"kafka": "127.0.0.1:38211", "namespace": "", "partitions": 8, "blobs": "file:///…", "pid": 17,
     "workers": [{"app": "captures", "slot": "0", "url": "http://127.0.0.1:40133"}],
     "schema_registry": ""}
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from schemas.errors import StoreError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

DATA_ENV, KAFKA_ENV = "SHUTTERWHEEL_DATA", "SHUTTERWHEEL_KAFKA"
NAMESPACE_ENV, REGISTRY_ENV = "SHUTTERWHEEL_NAMESPACE", "SHUTTERWHEEL_SCHEMA_REGISTRY"
NTP_ENV = "SHUTTERWHEEL_NTP"
"""Time servers, separated by spaces."""
DEFAULT_DATA_DIR = Path(".shutterwheel")
RUN_FILE = "run.json"

Kafka = Annotated[
    str | None,
    typer.Option("--kafka", metavar="HOST:PORT", help=f"Kafka, else ${KAFKA_ENV}, else what runs."),
]
Namespace = Annotated[
    str | None,
    typer.Option("--namespace", metavar="NAME", help="Prefix of the topics, for a sandbox."),
]
DataDir = Annotated[
    Path | None,
    typer.Option("--data", metavar="DIR", help=f"Data folder, else ${DATA_ENV}, .shutterwheel."),
]
Archive = Annotated[
    str | None,
    typer.Option(
        "--archive", metavar="PLACE", help="Read this archive (folder or URL), not a cluster."
    ),
]
TzFolders = Annotated[
    list[str] | None,
    typer.Option(
        "--tz",
        metavar="FOLDER",
        help="Tz data of older ticks: `pip install --target FOLDER tzdata==2026.5` for 2026e.",
    ),
]
Registry = Annotated[
    str | None,
    typer.Option("--schema-registry", metavar="URL", help="Schema Registry, if one is used."),
]
Ntp = Annotated[
    list[str] | None,
    typer.Option(
        "--ntp",
        metavar="HOST[:PORT]",
        envvar=NTP_ENV,
        help="NTP server that keeps the clock; may be repeated, three or more outvote a liar. "
        "Else the machine's own clock counts.",
    ),
]
Allow = Annotated[
    list[str] | None,
    typer.Option(help="Network (CIDR) whose cameras may be contacted; may be repeated."),
]
Capacity = Annotated[
    int,
    typer.Option(
        "--capacity",
        metavar="N",
        min=0,
        max=100_000,
        help="Captures a second that each of the 1,024 logical shards is to have at most: what "
        "exceeds it is moved forward as far as its schedule tolerates. 0: no bound.",
    ),
]
SnapshotEvery = Annotated[
    str,
    typer.Option(
        "--snapshot-every",
        metavar="TIME",
        help="Write the state of each partition of the wheel to the blob store so often, for "
        "audits to begin with; 1s to 30 days, 0: never.",
    ),
]
DeviceWorkers = Annotated[
    int | None,
    typer.Option(
        min=0,
        max=64,
        help="Workers for heartbeats and device health. Default: 1; in a demo without --poll, in "
        "which nothing sends heartbeats, 0.",
    ),
]
Poll = Annotated[
    str,
    typer.Option(
        "--poll",
        metavar="TIME",
        help="Ask devices so often whether they are there: for those that send no heartbeats.",
    ),
]
DeviceTimeout = Annotated[
    str,
    typer.Option(
        "--device-timeout",
        metavar="TIME",
        help="How long nothing may be heard of a device that is online.",
    ),
]
PruneEvery = Annotated[
    str,
    typer.Option(
        "--prune-every",
        metavar="TIME",
        help="Delete photos whose schedule's `keep` is over so often; 1s to 30 days, 0: never. "
        "Default: 1h; in a demo, whose photos are all kept, never.",
    ),
]
SignKey = Annotated[
    Path | None,
    typer.Option(
        "--sign-key",
        metavar="FILE",
        envvar="SHUTTERWHEEL_SIGN_KEY",
        help="Private key (Ed25519, PEM, mode 0600) that signs the labels of photos; "
        "`photos keygen` makes one. None: labels are not signed.",
    ),
]
QualityServer = Annotated[
    str,
    typer.Option(
        "--quality-server",
        metavar="ADDRESS",
        envvar="SHUTTERWHEEL_QUALITY_SERVER",
        help="Server of models (Triton, KServe, MLServer: Open Inference Protocol V2 by gRPC) that "
        "judges photos, as long as it shows that it runs our model; else they are judged here. "
        "HOST:PORT, or grpcs://HOST:PORT[?ca=FILE&token=env:NAME|file:PATH].",
    ),
]
QualityModel = Annotated[
    str,
    typer.Option(
        "--quality-model",
        metavar="NAME[:VERSION]",
        envvar="SHUTTERWHEEL_QUALITY_MODEL",
        help="What the model is called there. Default: quality, in the version that the server "
        "chooses.",
    ),
]
ImageProcesses = Annotated[
    int,
    typer.Option(
        "--image-processes",
        metavar="N",
        min=0,
        max=64,
        help="Make photos over in so many processes, for cameras whose bytes are not trusted: a "
        "decoder that dies takes no worker with it. 0: in threads. Not with --sign-key.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Write JSON to standard output.")]


def snapshot_every_ms(text: str) -> int:
    """Return what ``--snapshot-every`` says. Raises :class:`UsageError`."""
    from connectors.clients.values import duration_ms

    if text.strip() == "0":
        return 0
    found_ms = duration_ms(text, "--snapshot-every")
    if not 1_000 <= found_ms <= 30 * 86_400_000:
        raise UsageError(f"--snapshot-every is {text}; expected 1s to 720h, or 0 for never.")
    return found_ms


def prune_every_ms(text: str, name: str = "--prune-every") -> int:
    """Return how often photos are pruned, 0: never. Raises :class:`UsageError`."""
    from connectors.clients.values import duration_ms

    if text.strip() == "0":
        return 0
    found_ms = duration_ms(text, name)
    if not 1_000 <= found_ms <= 30 * 86_400_000:
        raise UsageError(f"{name} is {text}; expected 1s to 720h, or 0 for never.")
    return found_ms


@dataclass(frozen=True, slots=True)
class WorkerEntry:
    """A worker of a running ``shutterwheel up``."""

    app: str
    """``wheel``, ``captures``, ``devices``, ``poll`` or ``photos``."""
    slot: str
    url: str
    """Its operators' server: ``http://127.0.0.1:PORT``."""


@dataclass(frozen=True, slots=True)
class RunFile:
    """What a running ``shutterwheel up`` says of itself."""

    kafka: str
    namespace: str
    partitions: int
    workers: tuple[WorkerEntry, ...]
    blobs: str
    """URL of the image store."""
    pid: int = field(default_factory=os.getpid)
    """The process that runs all this."""
    schema_registry: str = ""
    ntp: tuple[str, ...] = ()
    """The time servers that keep the workers' clocks."""
    quality_server: str = ""
    """HOST:PORT of the server of models that judges photos, if there is one."""
    quality_model: str = ""

    @staticmethod
    def path(data_dir: Path) -> Path:
        """Return where the file stands in a data folder."""
        return data_dir / RUN_FILE

    def save(self, data_dir: Path) -> None:
        """Write the file at once and whole: a reader sees the old one or the new one.

        Raises :class:`StoreError` if the folder cannot be written.
        """
        try:
            data_dir.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(prefix=".run-", dir=data_dir)
            try:
                with os.fdopen(handle, "wb") as out:
                    out.write(msgspec.json.format(msgspec.json.encode(self), indent=2) + b"\n")
                Path(name).replace(self.path(data_dir))
            except BaseException:
                Path(name).unlink(missing_ok=True)
                raise
        except OSError as error:
            raise StoreError(f"{data_dir} cannot be written: {error.strerror or error}.") from error

    @classmethod
    def load(cls, data_dir: Path) -> RunFile | None:
        """Return what stands in the folder's file; None if there is none.

        Raises :class:`UsageError` for a file that cannot be read or is not ours.
        """
        path = cls.path(data_dir)
        try:
            return msgspec.json.decode(path.read_bytes(), type=cls)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise UsageError(
                f"{path} cannot be read: {error}. Delete it, or pass --kafka."
            ) from None

    @staticmethod
    def remove(data_dir: Path) -> None:
        """Delete the file, if it is there."""
        with contextlib.suppress(OSError):
            RunFile.path(data_dir).unlink()

    @property
    def alive(self) -> bool:
        """Say whether the process that wrote it still exists."""
        try:
            os.kill(self.pid, 0)
        except (ProcessLookupError, OverflowError):
            return False
        except PermissionError:
            return True
        return self.pid > 0


@dataclass(frozen=True, slots=True)
class Cluster:
    """Where the topics are."""

    kafka: str
    namespace: str = ""
    registry: str = ""
    run: RunFile | None = None
    """The running ``up`` that serves this cluster, if it is one of ours."""


def data_dir_of(
    data: Path | str | None = None, environment: Mapping[str, str] | None = None
) -> Path:
    """Return the data folder: as given, else ``SHUTTERWHEEL_DATA``, else ``.shutterwheel``."""
    known = os.environ if environment is None else environment
    return Path(data or known.get(DATA_ENV) or DEFAULT_DATA_DIR).expanduser()


def find_cluster(
    kafka: str | None = None,
    namespace: str | None = None,
    data: Path | str | None = None,
    registry: str | None = None,
    environment: Mapping[str, str] | None = None,
) -> Cluster:
    """Return where the cluster is; see this module's text for the order.

    Raises :class:`UsageError` if nothing says where it is, or if what was running is gone.
    """
    known = os.environ if environment is None else environment
    folder = data_dir_of(data, known)
    kafka = kafka or known.get(KAFKA_ENV) or None
    namespace = known.get(NAMESPACE_ENV) if namespace is None else namespace
    registry = known.get(REGISTRY_ENV) if registry is None else registry
    run = RunFile.load(folder)
    if kafka is None:
        if run is None:
            raise UsageError(
                f"No cluster is known here: start one with `shutterwheel up`, or pass --kafka "
                f"HOST:PORT (or {KAFKA_ENV}). Looked for {folder / RUN_FILE}."
            )
        if not run.alive:
            raise UsageError(
                f"`shutterwheel up` is not running any more: {folder / RUN_FILE} names process "
                f"{run.pid}, which is gone. Start it again, or pass --kafka HOST:PORT."
            )
        kafka = run.kafka
        namespace = run.namespace if namespace is None else namespace
        registry = run.schema_registry if registry is None else registry
    serves = run if run is not None and run.alive and run.kafka == kafka else None
    if serves is not None and (namespace or "") != serves.namespace:
        serves = None
    return Cluster(kafka, namespace or "", registry or "", serves)
