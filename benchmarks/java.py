"""Compiles the Java programs of peers.

The Java runtime that the project brings has no compiler in it, so they are compiled by ECJ, which
is a jar of each peer's lock as well.
"""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Final

from infra.kafka.jars import ensure_jars
from infra.kafka.java import find_java
from schemas.errors import BrokerError

if TYPE_CHECKING:
    from pathlib import Path

    from infra.kafka.jars import Jar

COMPILE_S: Final = 120.0


def compile_java(source: Path, jars: tuple[Jar, ...], folder: Path) -> tuple[str, str]:
    """Fetch the jars and compile a program into ``folder``; return the Java and its class path.

    Raises:
        BrokerError: a jar cannot be had, there is no Java, or the program does not compile.

    """
    java, paths = str(find_java().path), ensure_jars(jars=jars)
    compiler = next(path for path in paths if path.name.startswith("ecj-"))
    class_path = ":".join(str(path) for path in paths if path is not compiler)
    done = subprocess.run(
        [
            *(java, "-jar", str(compiler), "-17", "-nowarn", "-cp", class_path),
            *("-d", str(folder), str(source)),
        ],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=COMPILE_S,
        check=False,
    )
    if done.returncode:
        said = (done.stdout + done.stderr)[-800:]
        raise BrokerError(f"{source.name} does not compile: {said}")
    return java, f"{folder}:{class_path}"
