"""What goes wrong at a camera or at the store ends as a result with a cause a person can act on.

Others are unaffected; what can be tried again is tried again, and each attempt is on the record.
"""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from chain_harness import PARTITIONS, assert_kept

from connectors.cameras.faults import Fault
from connectors.clients import events
from infra.kafka.ports import free_port
from schemas.records import Accepted
from streams.core.ids import partition_of
from streams.core.transition import verify

ATTEMPTS = 4
"""The first one and three retries (SPEC 3.2)."""


@dataclass(frozen=True)
class Case:
    """A fault, the cause it must end with, words a person can act on, and how often it is tried."""

    cause: str
    words: str
    attempts: int
    fault: Fault | None = None
    address: str = ""


CASES = (
    Case("timeout", "did not finish before the deadline", ATTEMPTS, Fault("never")),
    Case("disconnected", "closed the connection without an answer", ATTEMPTS, Fault("disconnect")),
    Case("truncated", "its end marker is missing", ATTEMPTS, Fault("cut-jpeg")),
    Case("truncated", "in the middle of its answer", ATTEMPTS, Fault("cut")),
    Case("not_an_image", "HTML", ATTEMPTS, Fault("html")),
    Case("auth", "HTTP 401: the profile names no credentials", 1, Fault("basic")),
    Case("http_503", "HTTP 503", ATTEMPTS, Fault("status", status=503)),
    Case("http_404", "HTTP 404", 1, Fault("status", status=404)),
    Case("address_not_allowed", "the camera settings allow", 1, Fault("redirect")),
    Case("refused", "nothing listens there", ATTEMPTS, address="http://127.0.0.1:{free}/x.jpg"),
)


def test_each_camera_fault_ends_with_its_cause_and_others_are_unaffected(gentle):
    """Attempts are counted in the transitions; the healthy cameras beside them take their photos."""
    devices = gentle.take(len(CASES))
    healthy = gentle.take(5)
    faults = {d: case.fault for d, case in zip(devices, CASES, strict=True) if case.fault}
    gentle.cameras.faults(faults)
    for device, case in zip(devices, CASES, strict=True):
        if case.address:
            gentle.publisher.device(device, case.address.format(free=free_port()))
    gentle.publisher.flush()
    receipts = [
        gentle.publisher.capture(d, timeout="500ms", catch_up="30s") for d in devices + healthy
    ]
    answers = [receipt.decision() for receipt in receipts]
    assert all(isinstance(answer, Accepted) for answer in answers)
    gentle.drain()
    results = {r.device_id: r for r in gentle.results()}

    for device, case in zip(devices, CASES, strict=True):
        result = results[device]
        said = (case, result.cause)
        assert (result.state, result.attempt) == ("FAILED", case.attempts), said
        assert result.cause.startswith(f"{case.cause}: "), said
        assert case.words in result.cause, said
        assert verify(result) == (), said
        moves = [(t.from_state, t.to_state) for t in result.transitions]
        assert moves.count(("RUNNING", "PENDING")) == case.attempts - 1, said
        assert result.image is None, said
    assert all(results[d].state == "SUCCESS" and results[d].attempt == 1 for d in healthy)
    gentle.cameras.faults(dict.fromkeys(faults))
    assert_kept(gentle.check())


def test_a_camera_that_comes_back_in_time_gives_its_photo_on_a_later_attempt(gentle):
    """The retry succeeds, and the result tells of both attempts."""
    (device,) = gentle.take(1)
    gentle.cameras.faults({device: Fault("reset")})
    answer = gentle.publisher.capture(device, catch_up="60s", timeout="1s").decision()
    asked = lambda: [e for e in gentle.cameras.log() if e.device_id == device]  # noqa: E731
    gentle.wait_until("a first attempt", asked)
    gentle.cameras.faults({device: None})
    result = gentle.result(answer.command_id)
    assert result.state == "SUCCESS", result
    assert result.attempt >= 2
    assert "disconnected" in next(
        t.cause for t in result.transitions if t.to_state == "PENDING" and t.cause
    )


def test_a_device_nobody_knows_fails_and_says_what_to_do(gentle):
    """Issue 3, 'Bad input': a device that does not exist."""
    answer = gentle.publisher.capture("nobody-knows-me").decision()
    result = gentle.result(answer.command_id)
    assert result.state == "FAILED"
    assert result.attempt > 1, "its profile may be on its way"
    assert result.cause.startswith("unknown_device: ")
    assert "shutterwheel device add nobody-knows-me" in result.cause


def letter_of(chain, device, profile):
    """Publish a profile that the public client would not; return its dead letter."""
    home = partition_of(device, PARTITIONS)
    offset = chain.write("device.profiles", home, device.encode(), chain.codec.encode(profile))
    origin = ("device.profiles", home, offset)
    return chain.wait_until("its letter", lambda: chain.letters().get(origin))


@pytest.mark.parametrize(
    "address", ["http://169.254.169.254/latest/meta-data/", "http://93.184.216.34/x.jpg"]
)
def test_an_address_outside_the_settings_is_dead_lettered(gentle, address):
    """Issue 3, 'Bad input': and the address that was good before stays in force."""
    (device,) = gentle.take(1)
    letter = letter_of(gentle, device, events.profile(device, address))
    assert (letter.code, letter.app) == ("address_not_allowed", "captures")
    assert "may not be contacted: the camera settings allow" in letter.reason
    answer = gentle.publisher.capture(device).decision()
    assert gentle.result(answer.command_id).state == "SUCCESS"
    assert not [e for e in gentle.cameras.log() if e.device_id == device and not e.shutter]


def test_a_store_that_cannot_be_written_fails_the_photos_until_it_can(gentle):
    """A file stands where the folder of photos was: what the worker sees of a dead disk.

    A folder without permissions would not stop a worker that runs as root.
    """
    device, other = gentle.take(2)
    folder = gentle.cluster.data / "blobs"
    away = gentle.cluster.data / "blobs.away"
    folder.rename(away)
    folder.write_text("no folder any more")
    try:
        answer = gentle.publisher.capture(device).decision()
        result = gentle.result(answer.command_id)
    finally:
        folder.unlink()
        away.rename(folder)
    assert (result.state, result.attempt, result.image) == ("FAILED", ATTEMPTS, None)
    assert result.cause.startswith("store: the blob store at file://"), result.cause
    assert "Not a directory" in result.cause

    for one in (device, other):
        answer = gentle.publisher.capture(one).decision()
        assert gentle.result(answer.command_id).state == "SUCCESS", "and it goes on by itself"
    assert gentle.cluster.restarts == 0
    assert_kept(gentle.check())


def test_a_protocol_that_no_adapter_speaks_is_dead_lettered(gentle):
    """The letter names those there are."""
    (device,) = gentle.take(1)
    profile = events.profile(device, gentle.cameras.url(device), protocol="carrier-pigeon")
    letter = letter_of(gentle, device, profile)
    assert letter.code == "unknown_protocol"
    assert "http-snapshot" in letter.reason


def test_devices_whose_protocol_is_found_out(gentle):
    """Issue 6: a profile with ``auto``, or ``onvif``, works from the topic to the picture."""
    snapshot, service, root, named = gentle.take(4)
    for device, address, protocol in (
        (snapshot, gentle.cameras.url(snapshot), "auto"),
        (service, gentle.cameras.service(service), "auto"),
        (root, gentle.cameras.url(root).removesuffix("/snapshot.jpg"), "auto"),
        (named, gentle.cameras.service(named), "onvif"),
    ):
        gentle.publisher.device(device, address, protocol=protocol)
    gentle.publisher.flush()
    for device in (snapshot, service, root, named):
        answer = gentle.publisher.capture(device).decision()
        result = gentle.result(answer.command_id)
        assert (result.state, result.attempt) == ("SUCCESS", 1), result.cause
    assert_kept(gentle.check())
