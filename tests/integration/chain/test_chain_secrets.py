"""No secret is in anything that a run writes: topics, logs, metrics, state, command line (issue 6).

Each camera has a secret of its own, planted where workers find it; some are right, some are wrong,
and some are what a careless person would do. Everything that was written meanwhile is searched for
each of them, as it is, in base64, percent-encoded and as the hashes a login is made of.
"""

from __future__ import annotations

import base64
import hashlib
import os
import secrets
import traceback
import urllib.parse
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from chain_reader import values
from typer.testing import CliRunner

from connectors.cameras.faults import Fault
from connectors.cameras.simulated_http import REALM
from connectors.clients import events
from infra.kafka.admin import admin_client, cluster_metadata
from schemas.errors import UsageError
from schemas.records import Accepted
from shutterwheel.cli import app
from streams.core.ids import partition_of

USER = "admin"


@dataclass
class Planted:
    """A camera's secret, where it is, what the camera does, and how its capture ends."""

    what: str
    fault: Fault | None
    end: str
    bearer: bool = False
    text: str = ""
    """What the variable holds; empty: ``admin:SECRET`` or ``Bearer SECRET``."""
    secret: str = field(default_factory=lambda: f"s3cr3t/{secrets.token_hex(12)}+=")

    @property
    def variable(self) -> str:
        return "CAMERA_" + self.what.upper().replace(" ", "_")

    @property
    def value(self) -> str:
        plain = f"Bearer {self.secret}" if self.bearer else f"{USER}:{self.secret}"
        return self.text.format(secret=self.secret) or plain

    def traces(self) -> dict[str, bytes]:
        """How the secret would look in what was written."""
        login = f"{USER}:{self.secret}"
        return {
            "plain": self.secret.encode(),
            "percent-encoded": urllib.parse.quote(self.secret, safe="").encode(),
            "base64": base64.b64encode(login.encode()),
            "base64 of the secret": base64.b64encode(self.secret.encode()).rstrip(b"="),
            "digest": hashlib.md5(f"{USER}:{REALM}:{self.secret}".encode()).hexdigest().encode(),
        }


def cameras_that(protocol: str) -> list[Planted]:
    """Return the cameras of one protocol, good and bad."""

    def gate(kind: str, secret: str) -> Fault:
        return Fault(kind, user=USER, password=secret)

    found = []
    for kind in ("basic", "digest"):
        right, wrong = (
            Planted(f"{protocol} {kind} right", None, "SUCCESS"),
            Planted(f"{protocol} {kind} wrong", gate(kind, "another"), "auth"),
        )
        right.fault = gate(kind, right.secret)
        found += [right, wrong]
    return [
        *found,
        Planted(f"{protocol} bearer", None, "SUCCESS", bearer=True),
        Planted(f"{protocol} html", Fault("html"), "not_an_image|bad_answer"),
        Planted(f"{protocol} reset", Fault("reset"), "disconnected"),
        Planted(f"{protocol} not http", Fault("not-http"), "bad_answer"),
        Planted(f"{protocol} circles", Fault("redirect", location="{own}"), "redirects"),
        Planted(f"{protocol} no colon", None, "auth", text="{secret}"),
        Planted(f"{protocol} bad token", None, "auth", text="Bearer {secret}\u00e9"),
    ]


@pytest.fixture
def planted(monkeypatch) -> list[Planted]:
    found = [one for protocol in ("http-snapshot", "http-json") for one in cameras_that(protocol)]
    for one in found:
        monkeypatch.setenv(one.variable.replace("-", "_"), one.value)
    return found


def address_of(chain, device: str, protocol: str) -> str:
    url = chain.cameras.url(device)
    return url if protocol == "http-snapshot" else url.removesuffix("/snapshot.jpg")


def introduce(chain, planted: list[Planted]) -> dict[str, Planted]:
    """Make the cameras known, each with its fault and its reference."""
    known = {}
    for device, one in zip(chain.take(len(planted)), planted, strict=True):
        protocol = one.what.partition(" ")[0]
        address = address_of(chain, device, protocol)
        if one.fault is not None:
            fields = {name: getattr(one.fault, name) for name in one.fault.__struct_fields__}
            fields["location"] = fields["location"].format(own=address)
            chain.cameras.faults({device: Fault(**fields)})
        chain.publisher.device(
            device,
            address,
            protocol=protocol,
            credentials=f"env:{one.variable.replace('-', '_')}",
        )
        known[device] = one
    chain.publisher.flush()
    return known


def careless(chain) -> list[Planted]:
    """What a careless person does: secrets where references and addresses belong."""
    pasted, in_url, raw_ref, raw_url = (
        Planted(name, None, "") for name in ("pasted", "in url", "raw reference", "raw url")
    )
    device, *_ = chain.take(1)
    with pytest.raises(UsageError) as caught:
        chain.publisher.device(device, "http://127.0.0.1/x", credentials=f"{USER}:{pasted.secret}")
    assert pasted.secret not in str(caught.value)
    with pytest.raises(UsageError) as caught:
        quoted = urllib.parse.quote(in_url.secret, safe="")
        chain.publisher.device(device, f"http://{USER}:{quoted}@127.0.0.1/x")
    assert in_url.secret not in str(caught.value)
    assert quoted not in str(caught.value)
    # Past the client, straight into the topic: what is there is there, but it goes no further.
    for one, address, reference in (
        (raw_ref, "http://127.0.0.1:9/x", f"{USER}:{raw_ref.secret}"),
        (raw_url, f"http://{USER}:{urllib.parse.quote(raw_url.secret, safe='')}@127.0.0.1/x", ""),
    ):
        (device,) = chain.take(1)
        profile = events.profile(device, address, credentials=reference)
        home = partition_of(device, len(cluster_partitions(chain)))
        chain.write("device.profiles", home, device.encode(), chain.codec.encode(profile))
        answer = chain.publisher.capture(device, timeout="500ms", catch_up="20s").decision()
        assert isinstance(answer, Accepted)
        one.what += f" ({device})"
    return [pasted, in_url, raw_ref, raw_url]


def cluster_partitions(chain):
    return (
        cluster_metadata(admin_client(chain.kafka), chain.kafka)
        .topics[chain.topic("device.profiles")]
        .partitions
    )


def command_line(chain, *words: str) -> bytes:
    """Return all that a command says, good or bad."""
    where = ["--kafka", chain.kafka, "--namespace", chain.namespace]
    done = CliRunner().invoke(app, [*words, *where])
    shown = "".join(traceback.format_exception(done.exception)) if done.exception else ""
    return (done.output + done.stderr + shown).encode()


def written(chain) -> dict[str, bytes]:
    """Return everything the run wrote, by where it is."""
    found = {}
    for topic in cluster_metadata(admin_client(chain.kafka), chain.kafka).topics:
        if topic.startswith(chain.namespace):
            found[f"topic {topic}"] = b"\n".join(values(chain.kafka, topic))
    for worker in chain.cluster.workers:
        with urllib.request.urlopen(f"{worker.url}/metrics", timeout=20) as answer:
            found[f"metrics of {worker.app}"] = answer.read()
        found[f"command of {worker.app}"] = Path(f"/proc/{worker.child.pid}/cmdline").read_bytes()
    for path in chain.cluster.data.rglob("*"):
        if path.is_file() and "blobs" not in path.parts:
            found[f"file {path.relative_to(chain.cluster.data)}"] = path.read_bytes()
    return found


def test_no_secret_is_in_anything_that_was_written(make_chain, planted):
    """Issue 6: never in a topic, a log, a URL that is printed, or a trace; at the log level debug."""
    chain = make_chain(devices=len(planted) + 4, log_level="debug")
    known = introduce(chain, planted)
    asked = {
        device: chain.publisher.capture(device, timeout="2s", catch_up="20s") for device in known
    }
    answers = {device: receipt.decision() for device, receipt in asked.items()}
    past_the_client = careless(chain)
    chain.drain()
    results = {result.device_id: result for result in chain.results()}
    for device, one in known.items():
        end = results[device].cause.partition(":")[0] or results[device].state
        assert end in one.end.split("|"), (one.what, results[device].cause)

    said = {}
    for words in (
        ("device", "list"),
        ("device", "list", "--json"),
        ("device", "add", "careless-1", "http://127.0.0.1/x", "--credentials",
         f"{USER}:{past_the_client[0].secret}"),
        ("device", "add", "careless-2", f"http://{USER}:{past_the_client[1].secret}@127.0.0.1/x"),
        *(("capture", "show", str(answer.command_id)) for answer in list(answers.values())[:6]),
        ("topics",),
    ):  # fmt: skip
        said[f"command line {words[:2]}"] = command_line(chain, *words)
    everything = written(chain) | said
    assert any(name.startswith("file logs/") and text for name, text in everything.items())
    assert b"attempt failed" in b"".join(everything.values()), "the logs tell of failures"

    # A dead letter is the record as it was.
    where_it_was_put = {f"topic {chain.topic(n)}" for n in ("device.profiles", "dead.letters")}
    leaks = [
        f"the secret of {one.what} ({how}) in {place}"
        for one in [*planted, *past_the_client]
        for how, trace in one.traces().items()
        for place, text in everything.items()
        if trace in text and not (one.what.startswith("raw") and place in where_it_was_put)
    ]
    assert leaks == []


def test_the_search_would_find_them():
    """The measure itself: each form of a secret is seen where it stands."""
    one = Planted("http-snapshot basic right", None, "SUCCESS")
    for how, trace in one.traces().items():
        assert trace in b"before " + trace + b" after", how
    assert len(set(one.traces().values())) == 5
    assert os.environ.get(one.variable) is None
