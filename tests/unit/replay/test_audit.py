"""Audit of a log in memory: clean where it is, and each kind of damage is found (DESIGN 'Replay').

Every test that damages something runs the same world as the clean one, so a finding is the damage.
"""

from __future__ import annotations

import msgspec
import pytest
from audit_world import CODEC, START_MS, World, upserted

from schemas.records import (
    Accepted,
    CaptureCommand,
    CaptureResult,
    CaptureRevoked,
    DeadLetter,
    OpenCapture,
    Record,
    Refused,
    ScheduleCancelled,
    ScheduleTick,
)
from streams.core import transition
from streams.core.recurrence import TZ_VERSION
from streams.replay.audit_cursor import Cursor
from streams.replay.audit_findings import FIRST, KINDS, Finding, Findings, exit_code
from streams.replay.audit_open import ENDED

COMMANDS, RESULTS, DECISIONS = "capture.commands", "capture.results", "schedule.decisions"
EVENTS, TICKS, LETTERS = "schedule.events", "schedule.ticks", "dead.letters"


def made(**options):
    """A minute and a half with three cameras, a refused event, a change and a snapshot."""
    world = World(**options)
    world.publish(upserted(1), upserted(2, "cam-2", 5_000))
    world.run(30)
    bad = upserted(3, "cam-1", 0)
    world.publish(bad, upserted(4, "cam-3", 1_000))
    world.run(10)
    world.publish(bad)
    world.run(10).snapshot()
    world.publish(ScheduleCancelled("r-5", "cam-2", "s", START_MS))
    world.run(20)
    return world


@pytest.fixture
def world():
    return made()


def found(report):
    """The findings as (kind, topic, offset)."""
    return [(one.kind, one.topic, one.offset) for one in report.findings]


def all_of(world, topic, cls):
    """The records of a class, with their places."""
    records = [(n, CODEC.decode(entry.value)) for n, entry in enumerate(world.entries(topic))]
    return [(n, record) for n, record in records if isinstance(record, cls)]


def with_crc(result, *places, **fields):
    """Return transitions in which those at ``places`` have other fields and a CRC that is right."""
    changed = list(result.transitions)
    for place in places:
        one = msgspec.structs.replace(changed[place], **fields)
        crc = transition.transition_crc64(
            result.command_id, one.from_state, one.to_state, one.at_ms, one.attempt, one.cause
        )
        changed[place] = msgspec.structs.replace(one, crc64=crc)
    return tuple(changed)


# --- sound logs ---------------------------------------------------------------------------------


def test_a_sound_log_is_clean(world):
    report = world.audit()
    assert (report.counts, report.unchecked) == ({}, [])
    assert (report.ticks, report.folded, report.snapshots) == (70, 70, 1)
    assert report.events == len(world.entries(EVENTS)) == 6
    assert report.decisions == len(world.entries(DECISIONS))
    assert report.commands == len(world.entries(COMMANDS)) > 30
    assert report.results == report.images == len(world.entries(RESULTS)) > 30
    assert report.open == report.commands - report.results - 1  # a CaptureRevoked has none
    assert report.records == sum(
        len(world.entries(t)) for t in (EVENTS, TICKS, DECISIONS, COMMANDS, RESULTS, LETTERS)
    )
    assert exit_code(report.counts, unchecked=bool(report.unchecked)) == 0


def test_ticks_of_the_first_rules_fold_as_they_did():
    report = made(rules=1).audit()
    assert (report.counts, report.unchecked, report.folded) == ({}, [], 70)


def test_a_running_system_is_cut_where_its_ticks_end(world):
    """Commands and results behind the last tick of the cut are no findings (downstream first)."""
    world.run(30)
    del world.entries(TICKS)[-20:]
    report = world.audit()
    assert report.counts == {}
    assert world.entries(COMMANDS)[-1].timestamp_ms > report.last_ms


def test_from_and_to_take_the_snapshot_before(world):
    world.run(30)
    from_ms, to_ms = START_MS + 60_000, START_MS + 80_000
    report = world.audit(from_ms=from_ms, to_ms=to_ms)
    assert (report.counts, report.unchecked) == ({}, [])
    assert report.started.startswith("with the snapshot of")
    assert (report.first_ms, report.last_ms) == (START_MS + 51_000, to_ms - 1_000)
    assert report.folded == 29
    assert 0 < report.commands < len(world.entries(COMMANDS))


def test_without_a_snapshot_before_it_says_so_and_begins_at_the_next(world):
    """What can be checked without a state is checked: events and results (SPEC 1.10)."""
    del world.entries(TICKS)[:20]
    world.run(5)
    report = world.audit()
    assert report.counts == {}
    assert "no snapshot to begin with" in report.unchecked[0]
    assert (report.ticks, report.folded) == (55, 25)
    assert report.started.startswith("with the snapshot of")
    assert exit_code(report.counts, unchecked=True) == 3
    at, _ = world.find(RESULTS, CaptureResult, 20)
    world.remove(RESULTS, at)
    world.run(90)
    assert [kind for kind, *_ in found(world.audit())] == ["lost"]


def test_commands_that_are_not_kept_any_more_are_no_findings(world):
    """capture.commands is kept for 7 days, ticks for 30."""
    del world.entries(COMMANDS)[:10]
    del world.entries(DECISIONS)[:1]
    del world.entries(EVENTS)[:1]
    del world.entries(RESULTS)[:12]
    report = world.audit()
    assert report.counts == {}
    assert [text.partition(" is kept")[0] for text in report.unchecked] == [COMMANDS, DECISIONS]


def test_commands_under_an_older_schema_are_compared_by_what_they_say(world, monkeypatch):
    """A topic may hold bytes of two releases; the header tells them apart."""
    at, command = world.find(COMMANDS, CaptureCommand, 5)
    entry = world.entries(COMMANDS)[at]
    other = b"\x00\x01\x02\x03\x04" + entry.value[5:]
    world.entries(COMMANDS)[at] = entry._replace(value=other)
    real = CODEC.decode
    monkeypatch.setattr(CODEC, "decode", lambda data: command if data == other else real(data))
    assert world.audit().counts == {}


def test_another_tz_is_said_in_words_and_the_rest_is_checked():
    world = made(tz_version="1999.1", rules=3)
    report = world.audit()
    assert report.counts == {}
    assert "cannot be folded again here: tz 1999.1 made them" in report.unchecked[0]
    assert report.folded == 0
    assert report.results == len(world.entries(RESULTS))


def test_from_a_snapshot_on_ticks_of_another_tz_are_folded_by_the_zones_it_brings():
    """Rules of version 4 on: a state keeps the zones in use. The ticks before are said, not it."""
    world = made(tz_version="1999.1")
    report = world.audit()
    assert report.counts == {}
    assert "tz 1999.1 made them" in report.unchecked[0]
    assert 0 < report.folded < report.ticks


def test_an_upgrade_of_the_tz_data_is_told_with_its_tick():
    world = made(tz_version="1999.1")
    world.tz_version = TZ_VERSION
    world.tick()
    (told,) = world.audit().tz_upgrades
    last = world.entries(TICKS)[-1].offset
    assert told.startswith(f"from 1999.1 to {TZ_VERSION} with the tick at offset {last}, ")


# --- lost, doubled, divergent: the wheel's topics -------------------------------------------------


@pytest.mark.parametrize("place", [1, 7, -1])
def test_a_command_that_was_removed_is_lost(world, place):
    entries = world.entries(COMMANDS)
    behind = entries[place + 1].offset if place != -1 else -1
    removed = CODEC.decode(entries[place].value)
    world.remove(COMMANDS, place)
    report = world.audit()
    assert ("lost", COMMANDS, behind) in found(report)
    assert str(removed.command_id) in report.findings[0].text
    assert {topic for _, topic, _ in found(report)} <= {COMMANDS, RESULTS}  # and its result a stray


@pytest.mark.parametrize("cls", [Accepted, Refused])
def test_a_decision_that_was_removed_is_lost(world, cls):
    place, _ = world.find(DECISIONS, cls, 1)
    world.remove(DECISIONS, place)
    [(kind, topic, _)] = found(world.audit(settle_ms=0))
    assert (kind, topic) == ("lost", DECISIONS if cls is Accepted else LETTERS)


def test_a_command_that_was_doubled(world):
    again = world.double(COMMANDS, 9)
    assert found(world.audit()) == [("doubled", COMMANDS, again)]


@pytest.mark.parametrize("field", ["scheduled_ms", "device_id", "not_after_ms"])
def test_a_command_that_was_changed(world, field):
    at, command = world.find(COMMANDS, CaptureCommand, 9)
    value = "cam-9" if field == "device_id" else getattr(command, field) + 1
    offset = world.change(COMMANDS, at, **{field: value})
    report = world.audit()
    assert ("divergent", COMMANDS, offset) in found(report)
    assert field in next(f.text for f in report.findings if f.topic == COMMANDS)


def test_a_command_with_another_id(world):
    """It is one that was added, and one that is missing; its result and its id are strangers."""
    at, command = world.find(COMMANDS, CaptureCommand, 9)
    world.change(COMMANDS, at, command_id=command.command_id + 1)
    kinds = {kind for kind, *_ in found(world.audit())}
    assert {"lost", "divergent", "stray"} <= kinds


def test_a_command_that_no_tick_makes(world):
    at, command = world.find(COMMANDS, CaptureCommand, 9)
    again = world.double(COMMANDS, at)
    world.change(COMMANDS, at + 1, command_id=command.command_id + 77, device_id="cam-77")
    assert ("divergent", COMMANDS, again) in found(world.audit())


def test_a_revocation_that_was_removed(world):
    at, _ = world.find(COMMANDS, CaptureRevoked)
    world.remove(COMMANDS, at)
    assert [kind for kind, *_ in found(world.audit())] == ["lost"]


def test_a_decision_that_was_changed(world):
    at, _ = world.find(DECISIONS, Accepted, 1)
    offset = world.change(DECISIONS, at, starts_at_ms=5)
    assert found(world.audit()) == [("divergent", DECISIONS, offset)]


def test_a_refusal_outside_of_the_fold_must_be_its_letters(world):
    at, _ = world.find(DECISIONS, Refused)
    offset = world.change(DECISIONS, at, reason="because")
    kinds = found(world.audit())
    assert ("divergent", DECISIONS, offset) in kinds


def test_bytes_that_make_no_sense(world):
    for topic in (COMMANDS, DECISIONS, RESULTS, LETTERS):
        entries = world.entries(topic)
        place = len(entries) // 2
        entries[place] = entries[place]._replace(value=b"\x00\x00\x00\x00\x00junk")
        kinds = found(world.audit())
        assert ("corrupt", topic, entries[place].offset) in kinds
        world = made()


# --- ticks and events ---------------------------------------------------------------------------


def test_a_tick_that_was_removed(world):
    """Its commands are nobody's, or its event is unread."""
    at, tick = world.find(TICKS, ScheduleTick, 30)
    world.remove(TICKS, at)
    kinds = found(world.audit())
    assert ("unread", EVENTS, tick.changes[0].offset) in kinds
    assert "divergent" in {kind for kind, *_ in kinds}


def test_a_tick_that_made_nothing_is_missed_by_the_next(world):
    """It leaves no trace in any other topic, nor in the state: each tick names the one before."""
    made_at = {
        *(command.issued_at_ms for _, command in all_of(world, COMMANDS, CaptureCommand)),
        *(getattr(one, "tick_time_ms", 0) for _, one in all_of(world, DECISIONS, Record)),
    }
    at = next(
        n for n, tick in all_of(world, TICKS, ScheduleTick)
        if n > 12 and not tick.changes and tick.time_ms not in made_at
    )  # fmt: skip
    offset = world.entries(TICKS)[at + 1].offset
    world.remove(TICKS, at)
    report = world.audit()
    assert found(report) == [("lost", TICKS, offset)]
    assert "the tick before it was of" in report.findings[0].text
    assert report.folded == 69


def test_ticks_of_an_older_release_name_none_before_them(world):
    for at, _ in all_of(world, TICKS, ScheduleTick):
        world.change(TICKS, at, previous_ms=0)
    assert world.audit().counts == {}


def test_a_tick_whose_change_was_changed(world):
    at, tick = world.find(TICKS, ScheduleTick, 0)
    event = msgspec.structs.replace(tick.changes[0].event, schedule_id="other")
    changes = (msgspec.structs.replace(tick.changes[0], event=event), *tick.changes[1:])
    world.change(TICKS, at, changes=changes)
    kinds = found(world.audit())
    assert ("divergent", EVENTS, 0) in kinds
    assert any(topic == COMMANDS for _, topic, _ in kinds)


def test_a_tick_that_goes_back_in_time_cannot_be_folded(world):
    at, _ = world.find(TICKS, ScheduleTick, 30)
    offset = world.change(TICKS, at, time_ms=START_MS)
    report = world.audit()
    assert ("divergent", TICKS, offset) in found(report)
    assert "Behind the tick" in report.unchecked[0]
    assert report.folded == 30 + 20  # from the snapshot on it goes on


def test_a_tick_that_cannot_be_read(world):
    entries = world.entries(TICKS)
    entries[40] = entries[40]._replace(value=entries[40].value[:-2])
    assert ("corrupt", TICKS, entries[40].offset) in found(world.audit())


def test_an_event_that_nobody_read(world):
    """A change that a wheel skipped: in no tick and no letter."""
    world.write(EVENTS, upserted(9, "cam-9"))
    world._taken += 1
    world.run(70)
    assert found(world.audit()) == [("unread", EVENTS, world.entries(EVENTS)[-1].offset)]


def test_a_new_event_may_still_be_read(world):
    world.write(EVENTS, upserted(9, "cam-9"))
    assert world.audit().counts == {}


def test_an_event_that_was_changed_or_removed_behind_its_tick(world):
    offset = world.change(EVENTS, 1, request_id="r-other")
    assert found(world.audit()) == [("divergent", EVENTS, offset)]
    world = made()
    world.remove(EVENTS, 1)
    assert found(world.audit()) == [("divergent", TICKS, world.entries(TICKS)[0].offset)]


def test_an_event_in_two_ticks(world):
    _at, tick = world.find(TICKS, ScheduleTick, 0)
    later, _ = world.find(TICKS, ScheduleTick, 5)
    offset = world.change(TICKS, later, changes=tick.changes[:1])
    assert ("doubled", TICKS, offset) in found(world.audit())


def test_an_event_in_a_tick_and_a_letter(world):
    at, letter = world.find(LETTERS, DeadLetter)
    entry = world.entries(EVENTS)[0]
    world.change(LETTERS, at, offset=entry.offset, value=entry.value)
    kinds = found(world.audit())
    assert ("doubled", EVENTS, 0) in kinds
    assert ("unread", EVENTS, letter.offset) in kinds


def test_a_letter_that_was_removed_or_holds_other_bytes(world):
    at, letter = world.find(LETTERS, DeadLetter)
    world.change(LETTERS, at, value=CODEC.encode(upserted(8, "cam-1", 0)))
    assert ("divergent", EVENTS, letter.offset) in found(world.audit())
    world.remove(LETTERS, at)
    assert ("unread", EVENTS, letter.offset) in found(world.audit())


# --- results ------------------------------------------------------------------------------------


def test_a_command_without_a_result_is_lost_once_its_time_is_over(world):
    at, result = world.find(RESULTS, CaptureResult, 10)
    world.remove(RESULTS, at)
    assert world.audit(settle_ms=600_000).counts == {}
    world.run(100)
    command_at = next(
        e.offset
        for e in world.entries(COMMANDS)
        if getattr(CODEC.decode(e.value), "command_id", 0) == result.command_id
    )
    assert found(world.audit()) == [("lost", COMMANDS, command_at)]


@pytest.mark.parametrize("nth", [3, -1])
def test_a_second_result_is_doubled(world, nth):
    place = nth % len(world.entries(RESULTS))
    assert found(world.audit()) == []
    again = world.double(RESULTS, place)
    assert found(world.audit()) == [("doubled", RESULTS, again)]


def test_a_result_of_no_command(world):
    at, result = world.find(RESULTS, CaptureResult, 10)
    again = world.double(RESULTS, at)
    other = world.result(
        msgspec.convert(
            {
                **msgspec.to_builtins(world.find(COMMANDS, CaptureCommand, 10)[1]),
                "command_id": result.command_id + 3,
            },
            CaptureCommand,
        )
    )
    world.entries(RESULTS)[at + 1] = world.entries(RESULTS)[at + 1]._replace(
        value=CODEC.encode(other)
    )
    world.pictures = {**world.pictures}
    assert found(world.audit()) == [("stray", RESULTS, again)]


def test_a_result_may_come_before_its_command_by_the_clocks(world):
    """A worker's clock may be behind the wheel's: what was written earlier waits."""
    entries = world.entries(RESULTS)
    for place, entry in enumerate(entries):
        entries[place] = entry._replace(timestamp_ms=entry.timestamp_ms - 10_000)
    assert world.audit().counts == {}


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("early", {"shutter_at_ms": 5}),
        ("divergent", {"schedule_id": "other"}),
        ("illegal", {"state": "RUNNING"}),
        ("illegal", {"attempt": 2}),
        ("illegal", {"image": None}),
    ],
)
def test_a_result_that_is_not_as_it_must_be(world, kind, fields):
    at, _ = world.find(RESULTS, CaptureResult, 10)
    offset = world.change(RESULTS, at, **fields)
    assert {(kind, RESULTS, offset)} == set(found(world.audit()))


def test_a_transition_that_was_changed_is_corrupt(world):
    at, result = world.find(RESULTS, CaptureResult, 10)
    changed = msgspec.structs.replace(result.transitions[1], at_ms=result.transitions[1].at_ms + 1)
    transitions = (result.transitions[0], changed, result.transitions[2])
    offset = world.change(RESULTS, at, transitions=transitions)
    assert found(world.audit()) == [("corrupt", RESULTS, offset)]


def test_a_transition_that_the_table_lacks_is_illegal(world):
    at, result = world.find(RESULTS, CaptureResult, 10)
    transitions = with_crc(result, 1, from_state="PENDING", to_state="SUCCESS", attempt=0)
    offset = world.change(RESULTS, at, transitions=transitions)
    assert ("illegal", RESULTS, offset) in found(world.audit())


def test_a_photo_after_its_deadline_is_late(world):
    _at, command = world.find(COMMANDS, CaptureCommand, 10)
    place, _ = world.find(RESULTS, CaptureResult, 10)
    offset = world.change(RESULTS, place, shutter_at_ms=command.not_after_ms + 1_000)
    report = world.audit()
    assert found(report) == [("late", RESULTS, offset)]
    assert report.late_ms_max > 1_000


def test_an_end_long_after_the_deadline_is_late(world):
    at, result = world.find(RESULTS, CaptureResult, 10)
    ended_ms = result.ended_at_ms + 600_000
    transitions = with_crc(result, 2, at_ms=ended_ms)
    offset = world.change(RESULTS, at, ended_at_ms=ended_ms, transitions=transitions)
    assert found(world.audit()) == [("late", RESULTS, offset)]
    assert world.audit(settle_ms=900_000).counts == {}


def revoked(world, cause, nth=0):
    """Let a command of cam-2 end REVOKED; return the place of its result."""
    _, revocation = world.find(COMMANDS, CaptureRevoked)
    results = [(n, CODEC.decode(entry.value)) for n, entry in enumerate(world.entries(RESULTS))]
    of_it = [(n, one) for n, one in results if one.device_id == "cam-2"]
    at, result = of_it[-1 - nth]
    _, command = next(
        found
        for found in ((n, CODEC.decode(e.value)) for n, e in enumerate(world.entries(COMMANDS)))
        if getattr(found[1], "command_id", 0) == result.command_id
    )
    capture = OpenCapture(command, "", 0, 0, ())
    capture = transition.step(capture, "", "PENDING", command.issued_at_ms)
    capture = transition.step(capture, "PENDING", "REVOKED", command.scheduled_ms - 9, cause)
    last = capture.transitions[-1]
    world.change(
        RESULTS, at, state="REVOKED", cause=last.cause, attempt=0, ended_at_ms=last.at_ms,
        shutter_at_ms=None, image=None, timings=None, transitions=capture.transitions,
    )  # fmt: skip
    return at, revocation


def test_what_ended_revoked_goes_back_to_a_revocation(world):
    """The last of cam-2 was open as its schedule was cancelled (DESIGN 'Ticks')."""
    _, revocation = world.find(COMMANDS, CaptureRevoked)
    at, _ = revoked(world, f"revoked: {revocation.reason}")
    report = world.audit()
    assert report.counts == {}
    assert report.states["REVOKED"] == 1
    offset = world.entries(RESULTS)[at].offset
    place, _ = world.find(COMMANDS, CaptureRevoked)
    world.remove(COMMANDS, place)
    assert ("divergent", RESULTS, offset) in found(world.audit())


@pytest.mark.parametrize("fields", [{"epoch": 0}, {"from_ms": 1 << 41}, {"schedule_id": "other"}])
def test_a_revocation_that_is_of_others_explains_nothing(world, fields):
    _, revocation = world.find(COMMANDS, CaptureRevoked)
    at, _ = revoked(world, f"revoked: {revocation.reason}")
    place, _ = world.find(COMMANDS, CaptureRevoked)
    world.change(COMMANDS, place, **fields)
    offset = world.entries(RESULTS)[at].offset
    assert ("divergent", RESULTS, offset) in found(world.audit())


def test_a_result_that_was_revoked_by_nobody(world):
    at, _ = revoked(world, "revoked: because")
    world.run(80)
    assert found(world.audit()) == [("divergent", RESULTS, world.entries(RESULTS)[at].offset)]
    other = made()
    revoked(other, "superseded: command 5 of epoch 3 came")
    assert other.audit().counts == {}


def test_pictures(world):
    at, result = world.find(RESULTS, CaptureResult, 10)
    offset = world.entries(RESULTS)[at].offset
    world.pictures[result.image.uri] = b"another"
    assert found(world.audit()) == [("missing_image", RESULTS, offset)]
    del world.pictures[result.image.uri]
    report = world.audit()
    assert found(report) == [("missing_image", RESULTS, offset)]
    assert report.images_verified
    assert world.audit(store=False).counts == {}


def test_only_findings_of_a_device(world):
    at, result = world.find(RESULTS, CaptureResult, 10)
    world.change(RESULTS, at, shutter_at_ms=5)
    assert world.audit(device_id=result.device_id).counts == {"early": 1}
    assert world.audit(device_id="cam-77").counts == {}


# --- snapshots ----------------------------------------------------------------------------------


def tampered(world, table, **fields):
    """Let the last snapshot be of rows in which one was changed, with the hash of these rows."""
    world.entries(TICKS).pop()
    rows = list(next(iter(world.files.values())))
    place = next(n for n, row in enumerate(rows) if row[0] == table)
    row = msgspec.structs.replace(CODEC.decode(rows[place][2]), **fields)
    rows[place] = (*rows[place][:2], CODEC.encode(row))
    world.snapshot(rows)
    return world.entries(TICKS)[-1].offset


@pytest.mark.parametrize(
    ("table", "fields"),
    [("schedules", {"epoch": 77}), ("shards", {"last_id": 5}), ("requests", {"outcome": "no"})],
)
@pytest.mark.parametrize("store", [True, False])
def test_a_state_that_the_ticks_do_not_make(table, fields, store):
    world = World()
    world.publish(upserted(1), upserted(2, "cam-2", 5_000))
    world.run(30).snapshot()
    offset = tampered(world, table, **fields)
    world.files = dict(list(world.files.items())[-1:])
    report = world.audit(store=store)
    assert found(report) == [("divergent", TICKS, offset)]
    if store:
        assert f"1 rows are not as the ticks make them: {table}" in report.findings[0].text


def test_rows_that_are_not_those_of_the_hash(world):
    uri, rows = next(iter(world.files.items()))
    world.files[uri] = rows[:-1]
    [(kind, topic, _)] = found(world.audit())
    assert (kind, topic) == ("corrupt", TICKS)


def test_rows_that_are_gone_are_said(world):
    world.files.clear()
    report = world.audit()
    assert report.counts == {}
    assert "is not there" in report.unchecked[0]
    assert report.snapshots == 1  # the hash says enough


# --- the parts ----------------------------------------------------------------------------------


def test_memory_is_of_what_is_open(world, monkeypatch):
    """The bound of ended ids is kept, however long the log is."""
    monkeypatch.setattr("streams.replay.audit_open.ENDED", 10)
    assert ENDED > 10
    assert world.audit().counts == {}


def test_findings_are_counted_and_the_first_are_kept():
    findings = Findings()
    for offset in range(3 * FIRST):
        findings.add(Finding("lost", TICKS, 0, offset, "x"))
    assert (findings.total, len(findings.all_first)) == (3 * FIRST, FIRST)
    assert findings.all_first[0].where == "schedule.ticks[0] @0"
    other = Findings()
    other.merge(findings.counts, findings.all_first)
    assert (other.counts, other.all_first) == (findings.counts, findings.all_first)


def test_the_exit_code_says_which_classes():
    assert exit_code({}, unchecked=False) == 0
    assert exit_code({}, unchecked=True) == 3
    assert exit_code({"lost": 2, "early": 1}, unchecked=True) == 4 + 32
    assert exit_code(dict.fromkeys(KINDS, 1), unchecked=False) == 124
    assert not {1, 2} & {kind.bit for kind in KINDS.values()}


def test_a_cursor_looks_ahead_and_takes_in_order(world):
    cursor = Cursor(world.log, COMMANDS, 0, 0, 7)
    assert [e.offset for e in cursor.ahead(3)] == [0, 1, 2]
    assert [cursor.pop().offset for _ in iter(cursor.peek, None)] == list(range(7))
    assert cursor.read == 7


def test_a_topic_may_begin_with_a_marker(world, monkeypatch):
    """What was kept begins at an offset at which no record is: transactions leave markers."""
    del world.entries(COMMANDS)[:10]
    real = world.log.firsts
    monkeypatch.setattr(
        world.log, "firsts", lambda topic: {0: 8} if topic == COMMANDS else real(topic)
    )
    report = world.audit()
    assert report.counts == {}
    assert report.unchecked[0].startswith("capture.commands is kept from")
