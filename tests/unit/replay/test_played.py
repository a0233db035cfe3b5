"""Commands played with cameras that always answer; issue 7 ('replay'), SPEC 2.4 (the table)."""

from __future__ import annotations

from hypothesis import given, settings
from recorded import CODEC, START_MS, Recording, upserts
from test_shard_fold import worlds

from schemas.records import (
    CaptureCommand,
    CapturePolicy,
    CaptureRevoked,
    DeviceCaptures,
    ImageRef,
    ScheduleCancelled,
)
from streams.core import capture
from streams.replay.again import fold_again
from streams.replay.played import NONE, Player, compare_results

CAMERAS = [f"cam-{n}" for n in range(10)]
IMAGE = ImageRef("file:///x", "0" * 64, 1, 1, 1, "jpeg")


def play(recording: Recording, end_ms: int = 10**9) -> Player:
    player = Player()
    found = fold_again(
        recording.log, 0, CODEC, START_MS, START_MS + end_ms, lambda *_: None, player
    )
    assert found.difference is None
    return player


def commands(recording: Recording):
    for entry in recording.log.entries("capture.commands", 0):
        yield CODEC.decode(entry.value)


def write_result(recording: Recording, command: CaptureCommand, cause: str = "") -> None:
    """What the past made of a command: a photo, or a failure with its cause."""
    row = DeviceCaptures(command.device_id, (), ())
    at_ms = command.scheduled_ms
    row = capture.on_command(row, command, command.issued_at_ms).state
    row = capture.on_arming(row, command.command_id, at_ms).state
    if cause:
        done = capture.on_failure(
            row, command.command_id, cause, "words", at_ms, at_ms + 9, retryable=False
        )
    else:
        done = capture.on_success(row, command.command_id, IMAGE, None, at_ms, at_ms + 9)
    value = CODEC.encode(done.results[0])
    recording.log.append("capture.results", 0, command.device_id.encode(), value, at_ms)


def test_what_the_world_did_is_told_from_what_the_rules_did():
    recording = Recording()
    recording.tick(0, upserts(CAMERAS))
    recording.run(1, 26)
    recording.tick(26_000, [ScheduleCancelled("c", "cam-0", "s", 0)])  # its 30 s are out
    recording.run(27, 45)
    issued = [one for one in commands(recording) if isinstance(one, CaptureCommand)]
    for n, command in enumerate(issued[:-1]):
        if command.device_id == "cam-0" and command.scheduled_ms == START_MS + 30_000:
            continue
        write_result(recording, command, "timeout" if n < 3 else "")
    player = play(recording)
    found = compare_results(recording.log, 0, CODEC, player, START_MS)
    assert found.pairs["SUCCESS", "FAILED"] == 3
    assert found.causes["SUCCESS", "FAILED", "timeout"] == 3
    assert found.pairs["REVOKED", NONE] == 1
    assert found.pairs["SUCCESS", NONE] == 1
    assert found.equal == len(issued) - 5
    assert sum(found.pairs.values()) == len(issued)


def test_an_overlap_policy_is_heard():
    """Times made up for at once meet each other, and all but one are given up."""
    recording = Recording()
    late = CapturePolicy(overlap="skip", misfire="all", catch_up_ms=60_000, lead_ms=0)
    recording.tick(0, upserts(["cam-1"], every_ms=1_000, policy=late))
    recording.run(1, 5)
    recording.run(9, 12)
    player = play(recording)
    player.pass_to(1 << 60)
    ends = list(player.ended.values())
    assert ends.count("REVOKED") > 0
    assert ends.count("SUCCESS") > ends.count("REVOKED")


@settings(max_examples=40)
@given(worlds)
def test_every_command_ends_once_and_what_is_revoked_in_time_is_not_photographed(world):
    """A RUNNING capture is not revoked; a PENDING one is: SPEC 2.4, DESIGN 'Captures'."""
    recording = Recording()
    now_ms = 0
    for gap_ms, events in world:
        now_ms += gap_ms
        recording.tick(now_ms, events)
    player = play(recording)
    player.pass_to(1 << 60)
    issued = [one for one in commands(recording) if isinstance(one, CaptureCommand)]
    assert player.ended.keys() == {one.command_id for one in issued}
    revoked = [one for one in commands(recording) if isinstance(one, CaptureRevoked)]
    for one in revoked:
        for command in issued:
            if (
                (command.device_id, command.schedule_id) == (one.device_id, one.schedule_id)
                and command.epoch <= one.epoch
                and command.issued_at_ms <= one.tick_time_ms
                and not one.from_ms
                and command.scheduled_ms - one.tick_time_ms > 1_000
            ):
                assert player.ended[command.command_id] == "REVOKED"
