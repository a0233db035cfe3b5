"""A fleet, a lossy network and a worker that dies or cannot listen: who is announced, and when.

Issue 6 (heartbeats and health), SPEC 4.3. Devices go down and come back; their heartbeats are lost
(never two in a row), late, out of order and doubled. The worker commits each second, dies between
two commits and reads again from its last one, or is away for minutes. The broker is away, too: then
heartbeats are gone, and the worker that goes on knows of no time. Checked at the end:

* nobody is announced twice, and on and off take turns;
* a device that was up all the time is never announced to be offline;
* a device that is down is announced within a timeout and a few seconds of the moment from which
  somebody listened without a break; one that is back, within a few seconds of being heard.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest

from schemas.records import DeviceHealth, DeviceOnline
from streams.core.health import Health, HealthSettings

SETTINGS = HealthSettings(timeout_ms=120_000, flap_changes=1_000)
DEVICES = 60
SECONDS = 2_400
BEAT_S = 30
LATEST_S = 20
"""How late a heartbeat may come; a doubled one three times as late."""
GRACE_S = 3
"""A look and a commit."""


@dataclass
class World:
    seed: int
    log: list[tuple[int, bytes, int, int]] = field(default_factory=list)
    """Heartbeats as the broker has them: append time (s), device, sequence, the device's time."""
    events: list[tuple[int, bytes, bool]] = field(default_factory=list)
    """Committed: (s, device, online)."""
    rows: dict[bytes, DeviceHealth] = field(default_factory=dict)
    read: int = 0
    """Committed offset."""
    away: list[tuple[int, int]] = field(default_factory=list)
    """When nobody listened."""

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.down = {b"cam-%d" % n: self._outages() for n in range(DEVICES)}
        self.outages: list[tuple[int, int]] = []
        at = self.random.randint(100, 600)
        while at < SECONDS:
            self.outages.append((at, at + self.random.choice((20, 150, 400))))
            at = self.outages[-1][1] + self.random.randint(300, 900)
        self.away += self.outages
        self._send()

    def _outages(self) -> list[tuple[int, int]]:
        """Return when a device is down; a third of them never is."""
        found: list[tuple[int, int]] = []
        at = self.random.randint(60, 900) if self.random.random() < 0.66 else SECONDS
        while at < SECONDS:
            end = at + self.random.choice((40, 300, 700))
            found.append((at, end))
            at = end + self.random.randint(200, 900)
        return found

    def is_down(self, device: bytes, at_s: int) -> bool:
        return any(begin <= at_s < end for begin, end in self.down[device])

    def _send(self) -> None:
        sent: list[tuple[int, bytes, int, int]] = []
        for device in self.down:
            sequence, lost, was_down = 0, False, False
            first = self.random.randrange(BEAT_S)
            for at in range(first, SECONDS, BEAT_S):
                if self.is_down(device, at):
                    was_down = True
                    continue
                if was_down and self.random.random() < 0.5:
                    sequence = 0  # it had started anew
                was_down, sequence = False, sequence + 1
                lost = not lost and self.random.random() < 0.2
                if lost:
                    continue
                late = self.random.randint(0, LATEST_S)
                sent.append((at + late, device, sequence, at * 1_000))
                if self.random.random() < 0.1:
                    later = at + self.random.randint(0, 3 * LATEST_S)
                    sent.append((max(later, at + late), device, sequence, at * 1_000))
        self.log = sorted(one for one in sent if not self._broker_away(one[0]))

    def _broker_away(self, at_s: int) -> bool:
        return any(begin <= at_s < end for begin, end in self.outages)

    def run(self) -> None:
        health = self._start(0)
        position, back = self.read, 0
        for now in range(1, SECONDS):
            if now < back or self._broker_away(now):
                continue
            if back:
                health, position, back = self._start(now), self.read, 0
            while position < len(self.log) and self.log[position][0] <= now:
                at, device, sequence, own_ms = self.log[position]
                health.beat(device, sequence, own_ms, 0.0, 0.0, 0.0, at * 1_000)
                position += 1
            while health.advance(now * 1_000):
                pass
            if self.random.random() < 0.01:  # it dies before it commits
                back = now + self.random.choice((1, 4, 30, 200))
                self.away.append((now, back))
                continue
            self._commit(health, now, position)

    def _start(self, now: int) -> Health:
        health = Health(SETTINGS, now * 1_000)
        health.load(self.rows.values())
        return health

    def _commit(self, health: Health, now: int, position: int) -> None:
        outputs = health.take()
        for key, row in outputs.rows.items():
            assert row is not None
            self.rows[key] = row
        for event in outputs.events:
            self.events.append((now, event.device_id.encode(), isinstance(event, DeviceOnline)))
        self.read = position

    def listened_since(self, at_s: int) -> int:
        """Return when the unbroken listening that includes ``at_s`` or follows it began."""
        while ends := [end for begin, end in self.away if begin <= at_s < end]:
            at_s = max(ends)
        return at_s


@pytest.mark.parametrize("seed", range(12))
def test_who_is_announced_and_when(seed: int) -> None:
    world = World(seed)
    world.run()
    assert world.away, "this world hurt nobody"
    said: dict[bytes, list[tuple[int, bool]]] = {}
    for at, device, online in world.events:
        before = said.setdefault(device, [])
        assert [online for _, online in before[-1:]] != [online], (device, at)
        before.append((at, online))
    timeout_s = SETTINGS.timeout_ms // 1_000
    announced_off = 0
    for device, outages in world.down.items():
        told = said[device]
        assert told[0][1], device
        if not outages:
            assert len(told) == 1, (device, told)
        for begin, end in outages:
            # Its last heartbeat may be on its way, and a doubled one after it.
            since = world.listened_since(begin + 3 * LATEST_S)
            while breaks := [b for b, _ in world.away if since < b < since + timeout_s + GRACE_S]:
                since = world.listened_since(min(breaks))
            due = since + timeout_s + GRACE_S
            if due < min(end, SECONDS):
                state = [online for at, online in told if at <= due][-1]
                assert not state, (device, begin, end, due, told)
                announced_off += 1
            heard = [at for at, who, *_ in world.log if who == device and at >= end + LATEST_S]
            if heard:
                back = world.listened_since(heard[0]) + GRACE_S
                if back < SECONDS and not any(b < back and heard[0] < e for b, e in world.away):
                    later = [b for b, _ in outages if b > end]
                    if not later or back < later[0]:
                        assert [online for at, online in told if at <= back][-1], (device, told)
    assert announced_off > 5
