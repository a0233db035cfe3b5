"""The broker's files: locked, fetched whole, refused when they are not what was locked."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from infra.kafka import jars
from infra.kafka.jars import Jar, Source, default_source, ensure_jars, load_lock
from schemas.errors import BrokerError


@dataclass
class Repository:
    """A Maven repository on loopback that can cut a body short, or answer otherwise."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    cut_after: int | None = None
    """Bytes after which the next whole answer is cut; once."""
    statuses: list[int] = field(default_factory=list)
    """Answers to give before the files."""
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    ranges: bool = True


@pytest.fixture
def repository():
    state = Repository()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args):
            pass

        def do_GET(self):
            wanted = self.headers.get("Range")
            state.asked.append((self.path, wanted))
            if state.statuses:
                self.send_error(state.statuses.pop(0))
                return
            body = state.files.get(self.path)
            if body is None:
                self.send_error(404)
                return
            start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1]) if wanted and state.ranges else 0
            rest = body[start:]
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(rest)))
            self.end_headers()
            if state.cut_after is not None:
                rest, state.cut_after = rest[: state.cut_after], None
                self.close_connection = True
            self.wfile.write(rest)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    state.url = f"http://127.0.0.1:{server.server_port}"
    yield state
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch):
    """Tries follow each other at once."""
    monkeypatch.setattr(jars, "FIRST_PAUSE_S", 0.0)


def make_jar(repository: Repository, name: str, content: bytes) -> Jar:
    digest = hashlib.sha256(content).hexdigest()
    jar = Jar("org.example", name, "1.0", f"{name}-1.0.jar", len(content), digest)
    repository.files["/" + jar.repository_path] = content
    return jar


def test_the_lock_holds_kafka_and_every_file_once():
    lock = load_lock()
    assert len({jar.file_name for jar in lock}) == len(lock) == 47
    assert all(re.fullmatch(r"[0-9a-f]{64}", jar.sha256) for jar in lock)
    named = {f"{jar.group_id}:{jar.artifact_id}:{jar.version}" for jar in lock}
    assert named >= set(jars.COORDINATES)


def test_a_damaged_lock_is_said_in_one_line(tmp_path):
    path = tmp_path / "jars.lock.json"
    path.write_text("{")
    with pytest.raises(BrokerError, match="cannot be read"):
        load_lock(path)


def test_missing_files_are_fetched_once_and_the_progress_ends_at_the_total(repository, tmp_path):
    wanted = [make_jar(repository, f"j{n}", bytes([n]) * (100_000 * n)) for n in range(1, 6)]
    seen: list[tuple[int, int]] = []
    source = Source(repository.url)
    paths = ensure_jars(
        tmp_path, jars=wanted, source=source, progress=lambda *both: seen.append(both)
    )
    assert [path.read_bytes() for path in paths] == [
        repository.files["/" + jar.repository_path] for jar in wanted
    ]
    assert max(there for there, _ in seen) == seen[0][1] == 1_500_000
    ensure_jars(tmp_path, jars=wanted, source=source)
    assert len(repository.asked) == 5
    assert not list(tmp_path.glob("*.part"))


def test_a_download_that_was_cut_goes_on_where_it_was(repository, tmp_path):
    jar = make_jar(repository, "cut", bytes(range(256)) * 4096)
    repository.cut_after = 300_000
    ensure_jars(tmp_path, jars=[jar], source=Source(repository.url))
    first, second = repository.asked
    assert first[1] is None
    assert second[1] == "bytes=300000-"


def test_the_part_of_a_process_that_was_killed_is_used(repository, tmp_path):
    content = bytes(range(256)) * 400
    jar = make_jar(repository, "killed", content)
    (tmp_path / f"{jar.file_name}.part").write_bytes(content[:70_000])
    ensure_jars(tmp_path, jars=[jar], source=Source(repository.url))
    assert [wanted for _, wanted in repository.asked] == ["bytes=70000-"]


def test_a_server_without_ranges_is_read_from_the_start(repository, tmp_path):
    content = bytes(range(256)) * 400
    jar = make_jar(repository, "whole", content)
    (tmp_path / f"{jar.file_name}.part").write_bytes(content[:70_000])
    repository.ranges = False
    (path,) = ensure_jars(tmp_path, jars=[jar], source=Source(repository.url))
    assert path.read_bytes() == content


def test_a_damaged_part_is_thrown_away(repository, tmp_path):
    content = bytes(range(256)) * 400
    jar = make_jar(repository, "damaged", content)
    (tmp_path / f"{jar.file_name}.part").write_bytes(b"x" * 70_000)
    (path,) = ensure_jars(tmp_path, jars=[jar], source=Source(repository.url))
    assert path.read_bytes() == content


@pytest.mark.parametrize("change", ["flip", "longer"])
def test_a_tampered_file_from_the_server_is_refused(repository, tmp_path, change):
    jar = make_jar(repository, "evil", b"good" * 1000)
    there = "/" + jar.repository_path
    repository.files[there] = b"evil" * 1000 if change == "flip" else b"good" * 2000
    with pytest.raises(BrokerError, match=r"evil-1\.0\.jar .* SHA-256 is not the locked one"):
        ensure_jars(tmp_path, jars=[jar], source=Source(repository.url))
    assert not (tmp_path / jar.file_name).exists()
    assert len(repository.asked) <= jars.ATTEMPTS


def test_a_tampered_file_in_the_cache_is_not_used_but_fetched_again(repository, tmp_path):
    jar = make_jar(repository, "cached", b"good" * 1000)
    (tmp_path / jar.file_name).write_bytes(b"evil" * 1000)
    (path,) = ensure_jars(tmp_path, jars=[jar], source=Source(repository.url))
    assert path.read_bytes() == b"good" * 1000


def test_a_busy_server_is_asked_again(repository, tmp_path):
    jar = make_jar(repository, "busy", b"x" * 10)
    repository.statuses = [503, 429]
    ensure_jars(tmp_path, jars=[jar], source=Source(repository.url))
    assert len(repository.asked) == 3


def test_a_file_that_is_not_there_is_one_clear_line(repository, tmp_path):
    jar = make_jar(repository, "gone", b"x")
    repository.files.clear()
    with pytest.raises(BrokerError, match=r"could not be fetched from .* answered 404"):
        ensure_jars(tmp_path, jars=[jar], source=Source(repository.url))
    assert len(repository.asked) == 1


def test_no_network_is_one_clear_line(tmp_path):
    jar = Jar("g", "a", "1", "a-1.jar", 1, "0" * 64)
    with pytest.raises(BrokerError, match="could not be fetched") as caught:
        ensure_jars(tmp_path, jars=[jar], source=Source("http://127.0.0.1:1"))
    assert "\n" not in caught.value.line()


def test_a_folder_that_cannot_be_written_is_one_clear_line(tmp_path):
    (tmp_path / "file").write_text("")
    jar = Jar("g", "a", "1", "a-1.jar", 1, "0" * 64)
    with pytest.raises(BrokerError, match="cannot be kept in"):
        ensure_jars(tmp_path / "file" / "jars", jars=[jar], source=Source("http://127.0.0.1:1"))


def test_a_maven_users_own_copy_is_taken_if_it_is_the_locked_one(repository, tmp_path):
    good = make_jar(repository, "good", b"good" * 1000)
    bad = make_jar(repository, "bad", b"good" * 999)
    local = tmp_path / "m2"
    for jar, content in ((good, b"good" * 1000), (bad, b"evil" * 999)):
        path = local / jar.repository_path
        path.parent.mkdir(parents=True)
        path.write_bytes(content)
    ensure_jars(tmp_path / "jars", jars=[good, bad], source=Source(repository.url, local))
    assert [path for path, _ in repository.asked] == ["/" + bad.repository_path]


def test_two_processes_at_the_same_time_fetch_each_file_once(repository, tmp_path):
    wanted = [make_jar(repository, f"p{n}", bytes([n]) * 200_000) for n in range(4)]
    program = (
        "import sys, msgspec; from pathlib import Path; from infra.kafka import jars\n"
        "wanted = msgspec.json.decode(sys.stdin.buffer.read(), type=list[jars.Jar])\n"
        f"jars.ensure_jars(Path({str(tmp_path)!r}), jars=wanted,"
        f" source=jars.Source({repository.url!r}))\n"
    )
    text = jars.msgspec.json.encode(wanted)
    both = [
        subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE) for _ in range(2)
    ]
    for one in both:
        one.stdin.write(text)
        one.stdin.close()
    assert [one.wait(60) for one in both] == [0, 0]
    assert len(repository.asked) == 4


SETTINGS = """<settings xmlns="http://maven.apache.org/SETTINGS/1.0.0"><mirrors>
<mirror><id>a</id><mirrorOf>other</mirrorOf><url>https://a.example/x</url></mirror>
<mirror><id>b</id><mirrorOf>{of}</mirrorOf><url>https://mirror.example/maven/</url></mirror>
</mirrors></settings>"""


@pytest.mark.parametrize(
    ("of", "url"),
    [
        ("central", "https://mirror.example/maven"),
        ("*", "https://mirror.example/maven"),
        ("external:*", "https://mirror.example/maven"),
        ("*,!central", jars.CENTRAL_URL),
        ("other", jars.CENTRAL_URL),
    ],
)
def test_the_mirror_of_a_maven_user_is_honoured(tmp_path, of, url):
    (tmp_path / ".m2").mkdir()
    (tmp_path / ".m2" / "settings.xml").write_text(SETTINGS.format(of=of))
    assert default_source({}, tmp_path) == Source(url, tmp_path / ".m2" / "repository")


def test_the_environment_comes_before_the_mirror(tmp_path):
    (tmp_path / ".m2").mkdir()
    (tmp_path / ".m2" / "settings.xml").write_text(SETTINGS.format(of="*"))
    given = {"SHUTTERWHEEL_MAVEN_URL": "https://own.example/"}
    assert default_source(given, tmp_path).url == "https://own.example"


def test_damaged_settings_are_as_none(tmp_path):
    (tmp_path / ".m2").mkdir()
    (tmp_path / ".m2" / "settings.xml").write_text("<settings>")
    assert default_source({}, tmp_path).url == jars.CENTRAL_URL


def test_the_cache_can_be_moved():
    assert jars.cache_dir({"SHUTTERWHEEL_CACHE": "/x/y"}) == Path("/x/y")
    assert jars.cache_dir({"XDG_CACHE_HOME": "/c"}) == Path("/c/shutterwheel")
    assert jars.cache_dir({}) == Path.home() / ".cache" / "shutterwheel"
