"""The jars of the embedded broker: pinned, locked by SHA-256, fetched once, verified at each use.

``jars.lock.json`` names every file of Apache Kafka and of what it needs: group, artifact, version,
file name, length, SHA-256. With a lock there is nothing to resolve, so nothing is: the files are
taken from a stock Maven user's local repository where they lie there already, else from Maven
Central (or the mirror that this user's ``settings.xml`` names, or ``SHUTTERWHEEL_MAVEN_URL``).
Where a file came from does not matter, because its hash must fit.

``python -m infra.kafka.jars lock`` resolves the pinned coordinates anew (by jgo) and writes the
lock; ``lock FILE`` does so for another lock, from the coordinates that stand in it, and
``lock FILE COORDINATE ...`` begins one. ``python -m infra.kafka.jars fetch`` fills the cache ahead
of time, as an image build wants, and prepares a faster start (``infra.kafka.aot``).

The cache is ``~/.cache/shutterwheel/jars`` (``SHUTTERWHEEL_CACHE`` moves it). One process at a time
fills it, under a file lock that the kernel takes back when the process dies. A file being fetched
is called ``NAME.part``, goes on where it was cut off, and takes its name when its hash fits.
"""

from __future__ import annotations

import fcntl
import hashlib
import http
import http.client
import os
import shutil
import sys
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import msgspec

from schemas.errors import BrokerError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    Progress = Callable[[int, int], None]
    """Called with (bytes there, bytes in all) as the files arrive; from several threads."""

COORDINATES = ("org.apache.kafka:kafka_2.13:4.1.0", "org.slf4j:slf4j-reload4j:1.7.36")
"""What the lock is resolved from: the broker, and a logger that its own log API finds."""
LOCK_PATH = Path(__file__).with_name("jars.lock.json")
CENTRAL_URL = "https://repo1.maven.org/maven2"
PARALLEL = 8
"""Files fetched at the same time."""
ATTEMPTS = 4
"""Tries a file."""
FIRST_PAUSE_S = 0.5
"""Before the second try; each next pause is twice as long."""
READ_TIMEOUT_S = 30.0
_CHUNK_BYTES = 1 << 16


class Jar(msgspec.Struct, frozen=True):
    """One locked file."""

    group_id: str
    artifact_id: str
    version: str
    file_name: str
    size_bytes: int
    sha256: str

    @property
    def repository_path(self) -> str:
        """Return where a Maven repository keeps it."""
        group = self.group_id.replace(".", "/")
        return f"{group}/{self.artifact_id}/{self.version}/{self.file_name}"


@dataclass(frozen=True, slots=True)
class Source:
    """Where files come from: a Maven repository's URL, and a local one's folder."""

    url: str = CENTRAL_URL
    local: Path | None = None


class _Lock(msgspec.Struct, frozen=True):
    coordinates: tuple[str, ...]
    jars: tuple[Jar, ...]


def load_lock(path: Path = LOCK_PATH) -> tuple[Jar, ...]:
    """Return the locked files, in the order of the class path.

    Raises:
        BrokerError: the lock is missing or damaged.

    """
    return _read_lock(path).jars


def _read_lock(path: Path) -> _Lock:
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Lock)
    except (OSError, msgspec.MsgspecError) as error:
        message = f"The lock of the broker's files, {path}, cannot be read: {error}."
        raise BrokerError(message) from error


def cache_dir(environment: Mapping[str, str] | None = None) -> Path:
    """Return the folder of downloads: ``SHUTTERWHEEL_CACHE``, else ``~/.cache/shutterwheel``."""
    known = os.environ if environment is None else environment
    given = known.get("SHUTTERWHEEL_CACHE")
    if given:
        return Path(given).expanduser()
    base = known.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "shutterwheel"


def default_source(
    environment: Mapping[str, str] | None = None, home: Path | None = None
) -> Source:
    """Return this user's repository: ``SHUTTERWHEEL_MAVEN_URL``, a mirror, or Maven Central."""
    known = os.environ if environment is None else environment
    maven = (home or Path.home()) / ".m2"
    url = known.get("SHUTTERWHEEL_MAVEN_URL") or _mirror(maven / "settings.xml") or CENTRAL_URL
    return Source(url.rstrip("/"), maven / "repository")


def _mirror(settings: Path) -> str | None:
    """Return the URL of the mirror of Maven Central in a Maven ``settings.xml``, if it has one."""
    try:
        root = ET.parse(settings).getroot()  # noqa: S314 - the user's own settings file
    except (OSError, ET.ParseError):
        return None
    for mirror in root.iterfind("{*}mirrors/{*}mirror"):
        of = {word.strip() for word in (mirror.findtext("{*}mirrorOf") or "").split(",")}
        url = (mirror.findtext("{*}url") or "").strip()
        takes_central = of & {"*", "central", "external:*"} and "!central" not in of
        if takes_central and url.startswith(("https://", "http://")):
            return url
    return None


def ensure_jars(
    folder: Path | None = None,
    *,
    jars: Sequence[Jar] | None = None,
    source: Source | None = None,
    progress: Progress | None = None,
) -> tuple[Path, ...]:
    """Return the paths of the locked files, each verified; fetch what is missing.

    Args:
        folder: where they lie; default ``cache_dir() / "jars"``.
        jars: what is wanted; default the lock of this project.
        source: where to fetch from; default ``default_source()``.
        progress: told how far it is, if something has to be fetched.

    Raises:
        BrokerError: a file cannot be had, or does not have the locked hash.

    """
    wanted = load_lock() if jars is None else tuple(jars)
    where = cache_dir() / "jars" if folder is None else folder
    try:
        if _missing(where, wanted):
            where.mkdir(parents=True, exist_ok=True)
            with exclusive(where / ".lock"):
                # Another process may have fetched them while this one waited for the lock.
                missing = _missing(where, wanted)
                _fetch_all(where, missing, source or default_source(), progress)
    except OSError as error:
        message = f"The broker's files cannot be kept in {where}: {error.strerror or error}."
        raise BrokerError(message) from error
    return tuple(where / jar.file_name for jar in wanted)


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Let one process at a time in; the kernel lets the next one in when that one dies."""
    with path.open("ab") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _missing(folder: Path, wanted: Sequence[Jar]) -> list[Jar]:
    """Return the files that are not there or are not what was locked."""
    with ThreadPoolExecutor(PARALLEL) as pool:
        fits = pool.map(lambda jar: _fits(folder / jar.file_name, jar), wanted)
        return [jar for jar, good in zip(wanted, fits, strict=True) if not good]


def _fits(path: Path, jar: Jar) -> bool:
    try:
        if path.stat().st_size != jar.size_bytes:
            return False
        with path.open("rb") as handle:
            return hashlib.file_digest(handle, "sha256").hexdigest() == jar.sha256
    except FileNotFoundError:
        return False


class _Meter:
    """Adds up the bytes of all files; a file that starts anew takes its bytes back."""

    def __init__(self, total_bytes: int, progress: Progress | None) -> None:
        self._total = total_bytes
        self._progress = progress
        self._there: dict[str, int] = {}

    def at(self, name: str, size_bytes: int) -> None:
        self._there[name] = size_bytes
        if self._progress is not None:
            self._progress(sum(list(self._there.values())), self._total)


def _fetch_all(
    folder: Path, jars: Sequence[Jar], source: Source, progress: Progress | None
) -> None:
    meter = _Meter(sum(jar.size_bytes for jar in jars), progress)
    with ThreadPoolExecutor(PARALLEL) as pool:
        # The large ones first, so that no large one is left alone at the end.
        tasks = [
            pool.submit(_fetch, folder, jar, source, meter)
            for jar in sorted(jars, key=lambda jar: -jar.size_bytes)
        ]
        try:
            for task in tasks:
                task.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _fetch(folder: Path, jar: Jar, source: Source, meter: _Meter) -> None:
    part = folder / f"{jar.file_name}.part"
    local = source.local and source.local / jar.repository_path
    if local and _fits(local, jar):
        shutil.copyfile(local, part)
        meter.at(jar.file_name, jar.size_bytes)
    else:
        _download(part, jar, f"{source.url}/{jar.repository_path}", meter)
    part.replace(folder / jar.file_name)


def _download(part: Path, jar: Jar, url: str, meter: _Meter) -> None:
    """Bring ``part`` to the locked content, going on where an earlier try was cut off."""
    reason = ""
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(FIRST_PAUSE_S * 2 ** (attempt - 1))
        try:
            _read_rest(part, jar, url, meter)
        except urllib.error.HTTPError as error:
            reason = f"the server answered {error.code} {error.reason}"
            if error.code in {401, 403, 404, 410}:
                break
            part.unlink(missing_ok=True)
            continue
        except (urllib.error.URLError, http.client.HTTPException, TimeoutError) as error:
            reason = str(getattr(error, "reason", error))
            continue
        if _fits(part, jar):
            return
        if part.stat().st_size < jar.size_bytes:
            reason = "the connection was cut"
            continue
        part.unlink()
        reason = f"its SHA-256 is not the locked one ({jar.sha256})"
    message = f"{jar.file_name} could not be fetched from {url}: {reason}."
    raise BrokerError(message)


def _read_rest(part: Path, jar: Jar, url: str, meter: _Meter) -> None:
    there = part.stat().st_size if part.exists() else 0
    if there >= jar.size_bytes:  # Whole and wrong: begin again.
        part.unlink()
        there = 0
    request = urllib.request.Request(url, headers={"User-Agent": "shutterwheel"})  # noqa: S310
    if there:
        request.add_header("Range", f"bytes={there}-")
    with urllib.request.urlopen(request, timeout=READ_TIMEOUT_S) as answer:  # noqa: S310
        goes_on = answer.status == http.HTTPStatus.PARTIAL_CONTENT
        there = there if goes_on else 0
        with part.open("ab" if goes_on else "wb") as out:
            # One byte more than is wanted shows a file that is too long, and bounds what we take.
            while there <= jar.size_bytes:
                chunk = answer.read(min(_CHUNK_BYTES, jar.size_bytes + 1 - there))
                if not chunk:
                    break
                out.write(chunk)
                there += len(chunk)
                meter.at(jar.file_name, there)


def _resolve(coordinates: Sequence[str]) -> tuple[Jar, ...]:
    """Resolve coordinates by jgo and return every file with its length and hash."""
    import jgo

    environment = jgo.build("+".join(coordinates))
    assert environment.lockfile is not None, "jgo writes one for what it builds"
    found: list[Jar] = []
    for one in environment.lockfile.dependencies:
        name = f"{one.artifactId}-{one.version}.jar"
        content = next(environment.path.rglob(name)).read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        found.append(Jar(one.groupId, one.artifactId, one.version, name, len(content), digest))
    return tuple(sorted(found, key=lambda jar: (jar.group_id, jar.artifact_id)))


def _write_lock(path: Path, coordinates: Sequence[str]) -> int:
    """Resolve coordinates, write the lock, return how many files it names."""
    lock = _Lock(tuple(coordinates), _resolve(coordinates))
    path.write_bytes(msgspec.json.format(msgspec.json.encode(lock), indent=2) + b"\n")
    return len(lock.jars)


def main(arguments: Sequence[str]) -> int:
    """Run ``lock`` or ``fetch``."""
    if arguments and arguments[0] == "lock":
        path = Path(arguments[1]) if len(arguments) > 1 else LOCK_PATH
        try:
            named = arguments[2:] or (
                COORDINATES if path == LOCK_PATH else _read_lock(path).coordinates
            )
        except BrokerError as error:
            print(error.line(), file=sys.stderr)
            return 1
        print(f"{_write_lock(path, named)} files locked in {path.name}")
        return 0
    if list(arguments) == ["fetch"]:
        from infra.kafka.aot import prepare_aot
        from infra.kafka.java import find_java

        try:
            paths = ensure_jars()
            prepare_aot(find_java())
        except BrokerError as error:
            print(error.line(), file=sys.stderr)
            return 1
        print(f"{len(paths)} files verified in {paths[0].parent}")
        return 0
    print("usage: python -m infra.kafka.jars lock [FILE [COORDINATE ...]] | fetch", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
