"""The peers' bench: the same records for all, in an order that no cache can fold."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

from benchmarks.load import Rig
from benchmarks.result import OURS
from benchmarks.streams import kafka_streams, quix
from benchmarks.streams.bench import PARTITIONS, SLOW_LEAST, Bench, chosen, rows_of, shares
from benchmarks.streams.peers import SYSTEMS, versions
from benchmarks.streams.runner import Measured, Program
from benchmarks.streams.work import CASES, EXACTLY_ONCE, ROW, STATE, Job, next_row, record
from infra.kafka.jars import load_lock
from schemas.errors import BrokerError, UsageError

JOB = Job(
    case=STATE, bootstrap="h:1", namespace="ns", source="in", sink="out", changelog="log",
    group="g", partitions=8, records=80, folder="state",
)  # fmt: skip


def test_a_record_is_json_of_about_80_bytes_and_its_key_its_device():
    for number in (0, 1_999_999):
        key, value = record(number, 200_000)
        assert json.loads(value)["device"].encode() == key
        assert json.loads(value)["seq"] == number
        assert 65 <= len(value) <= 90


@pytest.fixture
def kafka_free_rig():
    """A rig whose broker is never asked."""
    rig = Rig(lambda _text: None, "127.0.0.1:1")
    rig.folder = Path("unused")
    return rig


@pytest.mark.parametrize("keys", [8, 10_000, 200_000])
def test_a_key_comes_again_only_after_all_others_and_stays_on_its_partition(keys):
    first = [record(number, keys)[0] for number in range(keys)]
    assert len(set(first)) == keys
    again = range(keys, keys + 100)
    assert [record(number, keys)[0] for number in again] == [first[n % keys] for n in again]
    assert keys % PARTITIONS == 0, "else record i + K would be on another partition than record i"


def test_a_row_counts_and_keeps_the_last_time():
    assert ROW.unpack(next_row(next_row(None, 5), 9)) == (2, 9)


def test_slow_peers_get_fewer_records_and_all_get_whole_shares():
    assert shares(2_000_000, 8, slow=False) == 2_000_000
    assert shares(2_000_000, 8, slow=True) == 100_000
    assert shares(200_000, 8, slow=True) == SLOW_LEAST
    assert shares(1_000, 8, slow=True) == 1_000
    assert shares(1_005, 8, slow=False) == 1_000
    assert shares(1_005, 1_024, slow=False) == 1_024


def test_what_is_not_known_is_said_with_what_is():
    assert chosen((), CASES, "case") == list(CASES)
    assert chosen((EXACTLY_ONCE, STATE), CASES, "case") == [STATE, EXACTLY_ONCE]
    with pytest.raises(UsageError, match=r"No case nothing; there are consume, "):
        chosen(("nothing",), CASES, "case")


@pytest.mark.parametrize(("keys", "partitions", "given"), [(81, 8, 88), (200_000, 256, 200_192)])
def test_keys_are_as_many_on_each_partition(kafka_free_rig, keys, partitions, given):
    assert Bench(kafka_free_rig, 80, keys, partitions)._keys == given


def test_the_systems_are_those_of_the_issue_and_each_says_what_it_promises():
    by_name = {system.name: system for system in SYSTEMS}
    assert list(by_name) == ["faust-stock", "quix-streams", "kafka-streams", OURS, f"{OURS}-x2"]
    assert by_name[OURS].promise(STATE) == "exactly once"
    assert by_name["kafka-streams"].promise(STATE) == "at least once"
    assert by_name["kafka-streams"].promise(EXACTLY_ONCE) == "exactly once"
    assert EXACTLY_ONCE not in by_name["faust-stock"].cases


@pytest.mark.parametrize(
    ("case", "guarantee"), [(STATE, "at_least_once"), (EXACTLY_ONCE, "exactly_once_v2")]
)
def test_kafka_streams_is_told_its_guarantee_and_to_cache_nothing(case, guarantee):
    told = json.loads(kafka_streams.argument(Job(**{**json.loads(JOB.text()), "case": case})))
    assert told["settings"]["processing.guarantee"] == guarantee
    assert told["settings"]["statestore.cache.max.bytes"] == 0
    assert told["records"] == JOB.records


def test_every_jar_of_the_peer_is_locked_by_its_hash():
    lock = load_lock(kafka_streams.HERE / "jars.lock.json")
    assert {"kafka-streams", "rocksdbjni", "ecj"} <= {jar.artifact_id for jar in lock}
    assert all(re.fullmatch(r"[0-9a-f]{64}", jar.sha256) for jar in lock)


def test_every_package_of_quix_is_pinned_and_hashed():
    text = quix.REQUIREMENTS.read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.strip()]
    assert any(line.startswith("quixstreams==") for line in lines)
    assert all("==" in line and "--hash=sha256:" in line for line in lines)


def test_the_peers_versions_are_those_that_are_locked():
    assert set(versions()) == {"kafka-streams", "quixstreams"}
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", version) for version in versions().values())


def test_figures_are_by_record():
    rows = rows_of("peer", STATE, Measured(1_000, 2.0, 0.5, 3 * 1024 * 1024))
    assert {row.metric: row.value for row in rows} == {
        "records_per_s": 500.0,
        "cpu_us_per_record": 500.0,
        "peak_rss_mb": 3.0,
        "records": 1_000.0,
    }


def test_a_program_is_heard_and_ends_when_it_is_let_go(tmp_path):
    code = (
        "import sys; sum(range(3_000_000)); print('a library prints'); print('{\"event\": \"first\"}', flush=True);"
        "sys.stdin.read()"
    )
    with Program([sys.executable, "-c", code], tmp_path / "errors") as program:
        program.wait_for("first", 20.0)
        program.look()
        assert program.cpu_s() > 0
        assert program.peak_rss_bytes > 1_000_000


def test_a_program_that_ends_early_is_told_with_its_last_words(tmp_path):
    code = "import sys; sys.exit('no such topic')"
    with (
        Program([sys.executable, "-c", code], tmp_path / "errors") as program,
        pytest.raises(BrokerError, match="no such topic"),
    ):
        program.wait_for("first", 20.0)
