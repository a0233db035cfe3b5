"""What the embedded broker is told: the server's properties, its log, the Java machine's flags.

Pure text; ``infra.kafka.broker`` writes it into the data folder and starts the process.

**What the disk guarantees.** With one copy, an acknowledged record is in the operating system's
page cache and reaches the disk when the kernel writes it (within half a minute, as a rule). So a
``kill -9`` of the broker, or of everything, loses nothing: the cache is the kernel's. A power cut
or a crash of the kernel can lose the last seconds. Flushing every record would cost a disk sync an
append and still leave one disk; who must survive a power cut runs three brokers (``--kafka``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

HOST = "127.0.0.1"
PARTITIONS_A_MEBIBYTE = 17
_MEBIBYTE = 1024 * 1024


@dataclass(frozen=True, slots=True)
class BrokerSettings:
    """How an embedded broker is run."""

    port: int = 0
    """TCP port of the broker on 127.0.0.1, 1 to 65,535; 0: the one it had last time, else a free
    one."""
    partitions: int = 0
    """How many partitions, of all topics together, it is to hold; more do no harm, but slow it
    down. What lies in its folder already counts by itself."""
    heap_mib: int = 0
    """The Java heap's bound, 256 at least; 0: :func:`heap_for` its partitions. The process takes
    about 150 MiB more."""
    start_timeout_s: float = 90.0
    """How long it may take until it answers. Recovery after a crash reads the open segments."""
    stop_timeout_s: float = 20.0
    """How long a clean stop may take before the process is killed."""
    java_options: tuple[str, ...] = ()
    """More flags for the Java machine."""
    min_free_mib: int = 256
    """Refuse to start with less free disk than this: Kafka dies when the disk is full."""
    node_id: int = 1
    """This node among the voters."""
    voters: tuple[tuple[int, int], ...] = ()
    """(node id, controller's port) of every node of the cluster, this one included; empty: it is
    the only one."""
    cluster_id: str = ""
    """What the nodes of a cluster are made with, 22 characters of base64; empty: chosen."""

    @property
    def copies(self) -> int:
        """Return how many copies the cluster keeps of its own topics: one, or three."""
        return 3 if len(self.voters) >= 3 else 1


def server_properties(
    data_dir: Path, port: int, controller_port: int, settings: BrokerSettings | None = None
) -> str:
    """Return Kafka's ``server.properties`` for a node that is broker and controller at once.

    The controller's voters are static: their address is then a plain setting, and a new port can
    be taken at each start. (A dynamic quorum writes the port into the metadata log.)
    """
    known = settings or BrokerSettings()
    voters = known.voters or ((known.node_id, controller_port),)
    properties: dict[str, str | int] = {
        "process.roles": "broker,controller",
        "node.id": known.node_id,
        "controller.quorum.voters": ",".join(f"{node}@{HOST}:{at}" for node, at in voters),
        "listeners": f"PLAINTEXT://{HOST}:{port},CONTROLLER://{HOST}:{controller_port}",
        "advertised.listeners": f"PLAINTEXT://{HOST}:{port}",
        "controller.listener.names": "CONTROLLER",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "log.dirs": escaped(str(data_dir / "log")),
        **SHARED_PROPERTIES,
        **(THREE_COPIES if known.copies == 3 else {}),
        # A broker that was killed is still registered with its controller; the next one is let in
        # when that session has run out (default 9 s), and asks again at each heartbeat (2 s).
        "broker.session.timeout.ms": 2000,
        "broker.heartbeat.interval.ms": 250,
        # Two shared cores: Kafka's defaults (3 network, 8 I/O threads) only add switches.
        "num.network.threads": 2,
        "num.io.threads": 4,
        "background.threads": 4,
        "num.recovery.threads.per.data.dir": 2,
        # The cleaner's map is taken from the heap: 32 MiB are 1.2 million keys a partition.
        "log.cleaner.dedupe.buffer.size": 32 * _MEBIBYTE,
    }
    return "".join(f"{name}={value}\n" for name, value in properties.items())


SHARED_PROPERTIES: dict[str, str | int] = {
    # Topics are defined in infra/kafka/topics.py; a misspelt name must not make one.
    "auto.create.topics.enable": "false",
    # There is one node: every internal topic has one copy.
    "offsets.topic.replication.factor": 1,
    "transaction.state.log.replication.factor": 1,
    "transaction.state.log.min.isr": 1,
    "share.coordinator.state.topic.replication.factor": 1,
    "share.coordinator.state.topic.min.isr": 1,
    # 50 partitions each would be 150 more folders to open at every start.
    "offsets.topic.num.partitions": 8,
    "transaction.state.log.num.partitions": 8,
    "share.coordinator.state.topic.num.partitions": 1,
    # The first member of a group need not wait 3 s for others.
    "group.initial.rebalance.delay.ms": 0,
    # Workers choose their session timeout; a dead one is to be noticed within seconds.
    "group.min.session.timeout.ms": 1000,
    # A worker that dies leaves a transaction open, and readers of committed records wait for it:
    # it is aborted within its own timeout (5 s) plus this interval, not plus the default 10 s.
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": 1000,
    # No client may hold readers up for longer than a minute.
    "transaction.max.timeout.ms": 60_000,
}
"""Settings of every single-node cluster of ours, embedded or composed."""

THREE_COPIES: dict[str, str | int] = {
    "default.replication.factor": 3,
    # One node may be away, and what is acknowledged still has two copies.
    "min.insync.replicas": 2,
    "offsets.topic.replication.factor": 3,
    "transaction.state.log.replication.factor": 3,
    "transaction.state.log.min.isr": 2,
    "share.coordinator.state.topic.replication.factor": 3,
    "share.coordinator.state.topic.min.isr": 2,
}
"""What a cluster of three says instead."""


def escaped(value: str) -> str:
    """Return ``value`` as it stands in a Java properties file, which is read as Latin-1."""
    units = value.replace("\\", "\\\\").encode("utf-16-be")
    codes = (int.from_bytes(units[at : at + 2], "big") for at in range(0, len(units), 2))
    return "".join(chr(code) if 32 <= code < 127 else f"\\u{code:04x}" for code in codes)


def log_properties(log_file: Path) -> str:
    """Return the log's settings: one file of at most 10 MiB and three older ones."""
    return "\n".join(
        (
            "log4j.rootLogger=INFO, file",
            "log4j.appender.file=org.apache.log4j.RollingFileAppender",
            f"log4j.appender.file.File={escaped(str(log_file))}",
            "log4j.appender.file.MaxFileSize=10MB",
            "log4j.appender.file.MaxBackupIndex=3",
            "log4j.appender.file.encoding=UTF-8",
            "log4j.appender.file.layout=org.apache.log4j.PatternLayout",
            "log4j.appender.file.layout.ConversionPattern=%d{ISO8601} %p %c{1}: %m%n",
            *(f"log4j.logger.{name}=WARN" for name in _QUIET),
            "",
        )
    )


_QUIET = (
    # Each start would write every setting four times, and several lines for each partition.
    "org.apache.kafka.common.config.AbstractConfig",
    "kafka.server.KafkaConfig",
    "state.change.logger",
    "org.apache.kafka.controller.ReplicationControlManager",
    "org.apache.kafka.controller.ConfigurationControlManager",
    "kafka.cluster.Partition",
    "kafka.log.UnifiedLog",
    "org.apache.kafka.storage.internals.log.UnifiedLog",
)


def heap_for(partitions: int) -> int:
    """Return the heap, in MiB, of a broker of so many partitions.

    With 17,408 of them (17 topics of 1,024) in 512 MiB, collecting garbage stops it for 1 to 2 s
    again and again; in 1,536 MiB it does not.
    """
    return 512 + partitions // PARTITIONS_A_MEBIBYTE


def java_flags(heap_mib: int, log_config: Path) -> tuple[str, ...]:
    """Return the Java machine's flags.

    Measured on two shared cores, first start of an empty node until it answers: G1 3.4 s, the
    serial collector 3.1 s and fewer threads. (Stopping at the first compiler would give 2.4 s,
    and a broker that is slower for as long as it runs.)
    """
    return (
        f"-Xms{min(256, heap_mib)}m",
        f"-Xmx{heap_mib}m",
        "-XX:+UseSerialGC",
        "-XX:+ExitOnOutOfMemoryError",
        "-Djava.awt.headless=true",
        "-Dfile.encoding=UTF-8",
        f"-Dlog4j.configuration={log_config.absolute().as_uri()}",
    )
