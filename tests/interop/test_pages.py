"""``examples/java.md``, ``go.md`` and ``node.md``: what stands there is what is run (issue 7)."""

from __future__ import annotations

import re

import pytest
from chain_harness import SCHEDULE
from strangers import MAKERS, ROOT, languages, run

from infra.kafka.jars import load_lock

PROGRAMS = {"java": "Photos.java", "node": "photos.mjs", "go": "photos.go"}
MOST_LINES = 20
NOT_COUNTED = re.compile(
    r"import |package |public (static|class)|func main|[\s{}();]*$|\s*\"[\w./]+\"$"
)


def blocks(language: str) -> dict[str, str]:
    """Return the files that a page shows, by name."""
    text = (ROOT / "examples" / f"{language}.md").read_text(encoding="utf-8")
    return dict(re.findall(r"^```\w+ (\S+)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE))


@pytest.mark.parametrize("language", languages("node"))
def test_the_page_is_run(fleet, tmp_path, language):
    """It publishes a schedule, is told Accepted, and reads the result of its first photo."""
    files = blocks(language)
    source, built = tmp_path / "source", tmp_path / "built"
    source.mkdir()
    built.mkdir()
    for name, text in files.items():
        (source / name).write_text(text, encoding="utf-8")
    command = MAKERS[language](source / PROGRAMS[language], built)
    (device,) = fleet.take(1)
    fleet.schedule(500, [device])  # of somebody else: its decisions and photos are not the page's
    try:
        fleet.wait_until("a photo", lambda: any(r.device_id == device for r in fleet.results()))
        said = "\n".join(run(command, fleet.kafka, device, f"{fleet.namespace}."))
    finally:
        fleet.cancel([device])
    assert re.search(r"Accepted.*ScheduleUpserted", said, re.DOTALL), said
    assert re.search(r"CaptureResult.*SUCCESS", said, re.DOTALL), said
    assert SCHEDULE not in said
    own = min(
        (r for r in fleet.results() if (r.device_id, r.schedule_id) == (device, language)),
        key=lambda result: result.command_id,
    )
    assert own.image.sha256 in said
    assert str(own.command_id) in said
    assert not fleet.letters()


@pytest.mark.parametrize("language", PROGRAMS)
def test_a_schedule_and_its_photos_take_twenty_lines(language):
    """Without imports and lines of braces; the wire format stands beside them."""
    lines = blocks(language)[PROGRAMS[language]].splitlines()
    counted = [line for line in lines if not NOT_COUNTED.match(line.strip())]
    assert len(counted) <= MOST_LINES, "\n".join(counted)


def test_the_pages_name_what_is_locked():
    """The libraries of a page are those of its lock."""
    locked = {jar.artifact_id for jar in load_lock(ROOT / "tests/interop/java/jars.lock.json")}
    assert {"avro", "kafka-clients"} <= locked
    for language, words in (("node", ("kafkajs", "avsc")), ("go", ("franz-go", "twmb/avro"))):
        lock = {"node": "node/package-lock.json", "go": "go/go.sum"}[language]
        text = (ROOT / "tests" / "interop" / lock).read_text(encoding="utf-8")
        page = (ROOT / "examples" / f"{language}.md").read_text(encoding="utf-8")
        assert all(word in text and word in page for word in words)
