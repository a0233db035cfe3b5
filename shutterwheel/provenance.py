"""What a report says of its origin: the command, the time, the machine, the versions."""

from __future__ import annotations

import os
import platform
import shlex
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

import psutil

PACKAGES: Final = (
    "shutterwheel",
    "aiokafka",
    "confluent-kafka",
    "fastavro",
    "faust-streaming",
    "msgspec",
    "rocksdict",
    "uvloop",
)
"""The packages whose versions matter to a figure."""


def command_line() -> str:
    """Return the command that runs, without the folder of its program."""
    program = Path(sys.argv[0])
    if program.name == "__main__.py":
        return shlex.join(["python", "-m", program.parent.name, *sys.argv[1:]])
    return shlex.join([program.name, *sys.argv[1:]])


def now_text() -> str:
    """Return the time, UTC, to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def machine() -> dict[str, str | int]:
    """Return what the figures depend on; no name by which the machine could be found."""
    return {
        "cpus": os.cpu_count() or 0,
        "cpus_usable": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0,
        "memory_bytes": int(psutil.virtual_memory().total),
        "platform": f"{platform.system()} {platform.machine()}",
    }


def versions() -> dict[str, str]:
    """Return the versions of Python, librdkafka and the packages that matter."""
    import confluent_kafka

    found = {"python": platform.python_version(), "librdkafka": confluent_kafka.libversion()[0]}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
