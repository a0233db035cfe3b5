"""A faster start: classes loaded and linked ahead of time (Java 25: JEP 483, 514, 515).

A Java machine spends most of a broker's start on loading, verifying and linking 9,000 classes. From
Java 25 on it can write down the outcome of one run and begin the next ones from there. Measured on
two cores, first start of an empty node until it answers: 3.1 s without, 1.4 s with; making the
folder a node's: 1.0 s without, 0.7 s with. What is written down takes 68 MB and about ten seconds
to make, so it is made when somebody prepares a machine (``python -m infra.kafka.jars fetch``, the
test session), not in front of a user who waits for a first photo. A broker uses it where it is
there, and the Java machine itself checks that it fits this Java and these files.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from infra.kafka.jars import LOCK_PATH, cache_dir, exclusive
from infra.kafka.settings import BrokerSettings

if TYPE_CHECKING:
    from infra.kafka.java import Java

OLDEST = 25
"""The first Java that makes such a file in one run."""
DUMP_TIMEOUT_S = 180.0
"""How long writing it may take when the machine is busy."""


def aot_path(java: Java) -> Path:
    """Return where the file for this Java and the locked jars lies, or would lie."""
    binary = java.path.resolve()
    known = f"{binary} {binary.stat().st_mtime_ns} {java.major} {cache_dir().absolute()}"
    digest = hashlib.sha256(known.encode() + LOCK_PATH.read_bytes()).hexdigest()
    return cache_dir() / "aot" / f"kafka-{digest[:16]}.aot"


def aot_flags(java: Java) -> tuple[str, ...]:
    """Return the flags that use the file; none where there is no file or Java is too old."""
    if java.major < OLDEST or not aot_path(java).exists():
        return ()
    # If it does not fit after all, Java says so and starts as without it: not worth a line.
    return (f"-XX:AOTCache={aot_path(java)}", "-Xlog:aot*=off")


def prepare_aot(java: Java) -> bool:
    """Make the file if it is not there, by running a broker in a folder that is thrown away.

    Returns:
        True if it is there now; False where this Java cannot make one.

    Raises:
        BrokerError: the broker cannot be run.

    """
    from infra.kafka.admin import create_topics
    from infra.kafka.broker import EmbeddedBroker

    if java.major < OLDEST:
        return False
    path = aot_path(java)
    path.parent.mkdir(parents=True, exist_ok=True)
    with exclusive(path.parent / ".lock"):
        if not path.exists():
            with tempfile.TemporaryDirectory(prefix="shutterwheel-") as folder:
                made = Path(folder) / "new.aot"
                settings = BrokerSettings(
                    java_options=(f"-XX:AOTCacheOutput={made}",), stop_timeout_s=DUMP_TIMEOUT_S
                )
                with EmbeddedBroker(Path(folder) / "data", settings) as broker:
                    create_topics(broker.bootstrap, "", 1)
                if made.exists():
                    part = path.with_suffix(f".{os.getpid()}.part")
                    part.write_bytes(made.read_bytes())
                    part.replace(path)
    return path.exists()
