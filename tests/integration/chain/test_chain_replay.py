"""A small run replayed: the same bytes, another policy, and a sandbox with cameras of its own.

Issue 7 ('replay'); DESIGN.md 'Replay, audit, explain'.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple

import pytest
from typer.testing import CliRunner

from connectors.clients import events
from infra.kafka.admin import admin_client, cluster_metadata
from shutterwheel.cli import app
from shutterwheel.context import Cluster
from shutterwheel.replay_run import make_source, open_log, run_again
from shutterwheel.replay_sandbox import Sandbox, SandboxOptions, sandbox_name

if TYPE_CHECKING:
    from chain_harness import Chain


class Recorded(NamedTuple):
    chain: Chain
    devices: list[str]
    from_ms: int
    to_ms: int

    def source(self, from_ms=None, to_ms=None):
        cluster = Cluster(self.chain.kafka, self.chain.namespace)
        return make_source(*open_log(cluster), from_ms, to_ms, None, None)

    def run(self, *words: str):
        where = ("--kafka", self.chain.kafka, "--namespace", self.chain.namespace)
        return CliRunner().invoke(app, ["replay", *where, *words])


@pytest.fixture(scope="module")
def recorded(gentle: Chain) -> Recorded:
    """Photos of six cameras before and within a range, in which one is paused and one asked."""
    devices = gentle.take(6)
    # Late or not, all are issued and wanted: no speed of this machine changes what is compared.
    gentle.schedule(2_000, devices, misfire="all", catch_up="60s")
    gentle.run_on(6, devices)
    from_ms = events.now_ms()
    gentle.run_on(6, devices)
    gentle.all_accepted(
        [
            events.paused(devices[0], "chain", "to be replayed"),
            events.requested(devices[1], catch_up="60s"),
        ]
    )
    gentle.run_on(6, devices)
    to_ms = events.now_ms()
    gentle.cancel(devices)
    gentle.drain()
    return Recorded(gentle, devices, from_ms, to_ms)


def test_the_same_log_gives_the_same_bytes(recorded):
    """SPEC 2.2: the same ids, the same fires; all of the run, and a range of it."""
    found = run_again(recorded.source(), lambda *_: None)
    assert found.ok
    assert sum(part.commands for part in found.parts) >= 18
    answer = recorded.run("--json")
    assert answer.exit_code == 0, answer.output
    report = json.loads(answer.output)
    assert report["sha256"] == report["sha256_found"]
    assert report["commands"] == sum(part.commands for part in found.parts)


def test_another_policy_is_answered_in_words(recorded, tmp_path):
    policy = tmp_path / "policy.yaml"
    policy.write_text("version: 1\nspread: 0s\nschedules: [{id: chain, priority: 2}]\n")
    answer = recorded.run(
        "--with-policy", str(policy), "--always", "--png", str(tmp_path / "o.png")
    )
    assert answer.exit_code == 0, answer.output
    first = answer.output.splitlines()[0]
    assert first.startswith("with spread 0s, priority 2 (chain): peak ")
    assert (tmp_path / "o.png").stat().st_size > 1_000


def test_a_range_goes_into_a_sandbox_and_its_cameras_take_each_photo_once(recorded, tmp_path):
    """Real workers by a clock of the past, twice as fast; the cameras of the run hear nothing."""
    chain = recorded.chain
    before = len(chain.cameras.log())
    name = sandbox_name(chain.namespace)
    options = SandboxOptions(chain.kafka, tmp_path, name, speed=2.0)
    said: list[str] = []
    with Sandbox(recorded.source(recorded.from_ms, recorded.to_ms), options, said.append) as one:
        report = one.run()
    found = report.difference
    assert report.unanswered == report.doubled == 0
    assert found.before.stand > 6
    assert found.same == found.before.stand - found.gone
    # What is near the pause or the request may fall on its other side: their ticks are others.
    assert found.gone <= 3
    assert found.added <= 3
    assert report.states["SUCCESS"] >= found.same
    assert report.shutters is not None
    assert report.shutters >= report.states["SUCCESS"]
    assert len(chain.cameras.log()) == before
    topics = cluster_metadata(admin_client(chain.kafka), chain.kafka).topics
    assert not [topic for topic in topics if topic.startswith(name)]
    assert not (tmp_path / name).exists()
