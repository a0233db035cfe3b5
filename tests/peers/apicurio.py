"""Apicurio Registry: a real Schema Registry, by Confluent's REST interface.

    with Apicurio(tmp_path) as registry:
        registry.url            # http://127.0.0.1:N/apis/ccompat/v7

It keeps everything in memory. One archive of Maven Central, locked by its SHA-256 and kept with the
broker's jars, run by the project's own Java (it wants 25): 159 MB, up in 9 s, 240 MB. Its default
is to take any schema; ``compatibility="FULL_TRANSITIVE"`` makes it refuse.
"""

from __future__ import annotations

import json
import tarfile
import urllib.error
import urllib.request
from pathlib import Path

from peer import HOST, Peer, PeerMissing, free_port

from infra.kafka.jars import cache_dir, ensure_jars, exclusive, load_lock
from infra.kafka.java import find_java
from schemas.errors import BrokerError

LOCK = Path(__file__).with_name("apicurio.lock.json")
OLDEST_JAVA = 25


def unpacked() -> Path:
    """Return the folder of the program, fetched and unpacked at the first call."""
    try:
        (archive,) = ensure_jars(jars=load_lock(LOCK))
    except BrokerError as error:
        raise PeerMissing(f"Apicurio is not to be had here: {error}") from error
    folder = cache_dir() / archive.name.removesuffix("-all.tar.gz")
    folder.mkdir(exist_ok=True)
    done = folder / ".complete"
    with exclusive(folder / ".lock"):
        if not done.exists():
            with tarfile.open(archive) as tar:
                tar.extractall(folder, filter="data")
            done.touch()
    return folder


class Apicurio(Peer):
    """The registry."""

    name = "apicurio"

    def __init__(self, folder: Path, compatibility: str = "") -> None:
        super().__init__(folder)
        java = find_java()
        if java.major < OLDEST_JAVA:
            raise PeerMissing(f"Apicurio wants Java {OLDEST_JAVA}; this is {java.major}")
        self.port, manage = free_port(), free_port()
        self.url = f"http://{HOST}:{self.port}/apis/ccompat/v7"
        self.start(
            [
                *(str(java.path), "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"),
                *(f"-Dquarkus.http.host={HOST}", f"-Dquarkus.http.port={self.port}"),
                *(f"-Dquarkus.management.host={HOST}", f"-Dquarkus.management.port={manage}"),
                *("-jar", str(unpacked() / "quarkus-run.jar")),
            ]
        )
        if compatibility:
            self.ask("PUT", "/config", {"compatibility": compatibility})

    def ready(self) -> bool:
        try:
            return self.ask("GET", "/subjects") == []
        except (OSError, ValueError):
            return False

    def ask(self, method: str, path: str, body: object = None) -> object:
        """Ask its REST interface; raises OSError where it does not answer 200."""
        request = urllib.request.Request(
            self.url + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/vnd.schemaregistry.v1+json"},
        )
        with urllib.request.urlopen(request, timeout=10.0) as answer:
            return json.loads(answer.read())
