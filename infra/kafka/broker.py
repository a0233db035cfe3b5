"""A real Apache Kafka in a process of our own: one node, loopback only, no Docker.

    with EmbeddedBroker(Path(".shutterwheel/kafka")) as broker:
        create_topics(broker.bootstrap, "", 8)

``start()`` returns when the broker *answers* (a port that listens is not enough), ``stop()`` ends
it cleanly, and a broker whose owner dies ends by itself (``infra.kafka.process``). The folder::

    owner.lock          who uses it
    broker.json         the port, so that a restart comes back on the same one
    server.properties   written anew at each start
    log4j.properties    written anew at each start
    broker.log          Kafka's log, rotated
    broker.out          what the Java machine printed in this run
    log/                Kafka's own: the records
"""

from __future__ import annotations

import base64
import json
import logging
import re
import resource
import shutil
import signal
import subprocess
import time
import uuid
from typing import TYPE_CHECKING, Self

from infra.kafka.admin import admin_client
from infra.kafka.aot import aot_flags
from infra.kafka.failures import PORT_TAKEN, reason
from infra.kafka.jars import ensure_jars
from infra.kafka.java import find_java
from infra.kafka.ports import free_port, listens, port_is_free, taken
from infra.kafka.process import DataDirLock, Supervised, calm_compiler
from infra.kafka.settings import (
    HOST,
    BrokerSettings,
    heap_for,
    java_flags,
    log_properties,
    server_properties,
)
from schemas.errors import BrokerError

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    from confluent_kafka.admin import AdminClient

    from infra.kafka.jars import Progress

_LOG = logging.getLogger(__name__)

_POLL_S = 0.02
"""How often a starting broker is asked."""
_PORT_TRIES = 3
"""A port that we chose may be taken by another program before Kafka binds it: choose again."""
_TAIL_BYTES = 65_536
OTHER_FILES = 400
"""What a broker opens besides: connections, jars, its own topics and the controller's."""


def check_open_files(partitions: int) -> None:
    """Compare what this session may open with what a broker does: a file or more a partition.

    Raises:
        BrokerError: it is too little. Kafka would end where the next file is to be opened.

    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = partitions * 9 // 8 + OTHER_FILES  # 19,600 were seen of 17,408 partitions
    if most != resource.RLIM_INFINITY and most < needed:
        message = (
            f"Kafka needs {needed:,} open files for {partitions:,} partitions, and this session "
            f"may open {most:,} (ulimit -Hn). Raise the limit, or take fewer partitions a topic."
        )
        raise BrokerError(message)


class EmbeddedBroker:
    """A Kafka broker that belongs to this process. Not thread-safe: one thread starts and stops."""

    def __init__(
        self,
        data_dir: Path,
        settings: BrokerSettings | None = None,
        progress: Progress | None = None,
    ) -> None:
        """Prepare a broker with its data in ``data_dir``; nothing is started yet.

        Args:
            data_dir: made if it is not there.
            settings: how to run it.
            progress: told how far the download of Kafka's files is (first start on a machine).

        """
        self.data_dir = data_dir.absolute()
        self.settings = settings or BrokerSettings()
        self._progress = progress
        self._process: Supervised | None = None
        self._lock = DataDirLock(self.data_dir)
        self._port: int | None = None
        self._log_from = 0

    @property
    def bootstrap(self) -> str:
        """Return ``host:port`` for clients; known after the first ``start()``."""
        assert self._port is not None, "the broker was never started"
        return f"{HOST}:{self._port}"

    @property
    def pid(self) -> int:
        """Return the process id of the running broker."""
        assert self._process is not None, "the broker is not running"
        return self._process.pid

    @property
    def log_file(self) -> Path:
        """Return where Kafka logs."""
        return self.data_dir / "broker.log"

    def start(self) -> str:
        """Start the broker, wait until it answers, return ``host:port``.

        Called again after the broker died, it comes back on the same port with the same data.

        Raises:
            BrokerError: it cannot run here, with the reason: the port is taken, the disk is full,
                the data belong to another live process, there is no Java, its files cannot be had.

        """
        if self.alive():
            return self.bootstrap
        self._process = None
        began = time.monotonic()
        java = find_java()
        class_path = ":".join(str(path) for path in ensure_jars(progress=self._progress))
        self._prepare_dir()
        partitions = max(self.settings.partitions, self._partitions_there())
        check_open_files(partitions)
        heap_mib = self.settings.heap_mib or heap_for(partitions)
        if not self._lock.held:  # It is still held where the broker died and is started again.
            self._lock.acquire()
        try:
            command = [
                str(java.path),
                *java_flags(heap_mib, self.data_dir / "log4j.properties"),
                *aot_flags(java),
                "-cp",
                class_path,
            ]
            self._start_on_a_port(command)
        except BaseException:
            if self._process is not None:
                self._process.kill()
            self._process = None
            self._lock.release()
            raise
        calm_compiler(self.pid)
        _LOG.info("Kafka answers at %s after %.1f s", self.bootstrap, time.monotonic() - began)
        return self.bootstrap

    def stop(self) -> None:
        """Stop the broker cleanly, by force after ``stop_timeout_s``; and give the folder up."""
        if self._process is not None:
            self._process.stop(self.settings.stop_timeout_s)
            self._process = None
        self._lock.release()

    def kill(self) -> None:
        """Kill the broker as a crash would (for tests of faults); the folder stays ours."""
        if self._process is not None:
            self._process.kill()

    def alive(self) -> bool:
        """Say whether the process runs."""
        return self._process is not None and self._process.poll() is None

    def poll(self) -> int | None:
        """Return the exit code of a broker that ended by itself; None while it runs."""
        return None if self._process is None else self._process.poll()

    def wait(self, timeout_s: float | None = None) -> int | None:
        """Wait until the broker ends; return its exit code, or None after ``timeout_s``."""
        return None if self._process is None else self._process.wait(timeout_s)

    def failure(self) -> BrokerError:
        """Return why the broker ended, from its exit code and the last telling line of its log."""
        code = self.poll()
        if code is not None and code < 0:
            return BrokerError(
                f"The broker was ended from outside by {signal.Signals(-code).name}."
            )
        return BrokerError(reason(self._last_words(), self.data_dir, self._port or 0))

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _prepare_dir(self) -> None:
        if "," in str(self.data_dir):
            message = f"The broker's data folder {self.data_dir} cannot have a comma in its path."
            raise BrokerError(message)
        try:
            self.data_dir.mkdir(parents=True, exist_ok=True)
            free_mib = shutil.disk_usage(self.data_dir).free // (1024 * 1024)
        except OSError as error:
            message = f"The broker's data folder {self.data_dir} cannot be used: {error.strerror}."
            raise BrokerError(message) from error
        if free_mib < self.settings.min_free_mib:
            message = (
                f"The disk of {self.data_dir} is full: {free_mib} MiB are free, "
                f"{self.settings.min_free_mib} MiB were expected."
            )
            raise BrokerError(message)

    def _partitions_there(self) -> int:
        folder = self.data_dir / "log"
        return sum(1 for _ in folder.glob("*-[0-9]*")) if folder.is_dir() else 0

    def _start_on_a_port(self, command: list[str]) -> None:
        fixed = self._port or self.settings.port
        for attempt in range(_PORT_TRIES):
            port = fixed or self._remembered_port() or free_port()
            if not port_is_free(port):
                if fixed:
                    raise BrokerError(taken(port))
                port = free_port()
            self._write_files(port, self._controller_port())
            if not (self.data_dir / "log" / "meta.properties").exists():
                self._format(command)
            # Kafka's log goes on from earlier runs: what went wrong now stands after this point.
            self._log_from = self._log_size()
            self._process = Supervised(
                [
                    command[0],
                    *self.settings.java_options,
                    *command[1:],
                    "kafka.Kafka",
                    str(self.data_dir / "server.properties"),
                ],
                self.data_dir / "broker.out",
                self._lock.fd,
            )
            self._lock.note(self._process.pid)
            if self._wait_until_it_answers(port):
                self._port = port
                (self.data_dir / "broker.json").write_text(json.dumps({"port": port}))
                return
            words = self._last_words()
            self._process = None
            if PORT_TAKEN not in words or attempt + 1 == _PORT_TRIES:
                raise BrokerError(reason(words, self.data_dir, port))

    def _controller_port(self) -> int:
        return dict(self.settings.voters).get(self.settings.node_id) or free_port()

    def _remembered_port(self) -> int | None:
        try:
            return int(json.loads((self.data_dir / "broker.json").read_text())["port"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _write_files(self, port: int, controller_port: int) -> None:
        files = {
            "server.properties": server_properties(
                self.data_dir, port, controller_port, self.settings
            ),
            "log4j.properties": log_properties(self.log_file),
        }
        for name, text in files.items():
            (self.data_dir / name).write_text(text, encoding="utf-8")

    def _format(self, command: list[str]) -> None:
        """Make the folder a Kafka node's; a format that was cut off is simply done again."""
        cluster_id = self.settings.cluster_id or new_cluster_id()
        done = subprocess.run(
            [
                *command,
                "kafka.tools.StorageTool",
                "format",
                "--ignore-formatted",
                "--cluster-id=" + cluster_id,
                "--config=" + str(self.data_dir / "server.properties"),
            ],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=self.settings.start_timeout_s,
            check=False,
        )
        if done.returncode:
            raise BrokerError(reason(done.stdout + done.stderr, self.data_dir, 0))

    def _wait_until_it_answers(self, port: int) -> bool:
        """Return True when the broker serves; False if it ended before.

        Raises:
            BrokerError: it does neither in time.

        """
        assert self._process is not None
        deadline = time.monotonic() + self.settings.start_timeout_s
        admin = admin_client(f"{HOST}:{port}")
        cluster_id = self._cluster_id()
        while self._process.poll() is None:
            if listens(port) and _serves(admin, cluster_id, self.settings.node_id):
                return True
            if time.monotonic() > deadline:
                message = (
                    f"The broker did not answer within {self.settings.start_timeout_s:g} s; "
                    f"see {self.log_file}."
                )
                raise BrokerError(message)
            time.sleep(_POLL_S)
        return False

    def _cluster_id(self) -> str:
        text = (self.data_dir / "log" / "meta.properties").read_text(encoding="latin-1")
        found = re.search(r"^cluster\.id=(.+)$", text, re.MULTILINE)
        if not found:
            message = (
                f"{self.data_dir / 'log' / 'meta.properties'} is damaged: no cluster.id in it."
            )
            raise BrokerError(message)
        return found.group(1).replace("\\", "").strip()

    def _log_size(self) -> int:
        return self.log_file.stat().st_size if self.log_file.exists() else 0

    def _last_words(self) -> str:
        """Return the end of what this run logged and printed."""
        printed = self.data_dir / "broker.out"
        text = printed.read_text(errors="replace")[-_TAIL_BYTES:] if printed.exists() else ""
        if self.log_file.exists():
            start = self._log_from if self._log_from <= self._log_size() else 0  # It was rotated.
            with self.log_file.open("rb") as handle:
                handle.seek(max(start, self._log_size() - _TAIL_BYTES))
                text += handle.read().decode(errors="replace")
        return text


def new_cluster_id() -> str:
    """Return an id for a new cluster."""
    return base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")


def _serves(admin: AdminClient, cluster_id: str, node_id: int) -> bool:
    """Say whether our broker answers, names itself as alive, and every partition has a leader.

    The cluster's id tells it from another Kafka that took the port before ours could.
    """
    from confluent_kafka import KafkaException

    try:
        found = admin.list_topics(timeout=2.0)
    except KafkaException:
        return False
    return (
        found.cluster_id == cluster_id
        and node_id in found.brokers
        and all(
            partition.leader >= 0
            for topic in found.topics.values()
            for partition in topic.partitions.values()
        )
    )
