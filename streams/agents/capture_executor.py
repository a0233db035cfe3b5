"""The capture executor: commands in; shutters opened at the scheduled millisecond.

A command waits in the state machine as PENDING. Some hundred milliseconds before its time it is
**armed** (``arming.py``): PENDING becomes RUNNING, and when that is committed the shutter is set.
It opens if its time has come, ``not_after`` has not passed, and the **lease** lives; so a worker
that was stopped and wakes takes no photo. What the camera and the blob store answer becomes a
transition and a result in the next transaction.

Shutters go first: whatever else the event loop does comes in pieces of about a millisecond, and
before each of them those that have come due meanwhile are opened.

A rebalance pauses all partitions for a moment. What falls due in it is armed before it and opens on
time, up to the moment agreed with the next owner (``runtime/handover.py``); the rest waits.

A partition that is given up as the worker ends starts nothing new: armed captures are released to
PENDING, those in flight are awaited up to the capture timeout. A capture found RUNNING when a
partition is opened has lost its worker: see ``capture_search.py``.

Who opens its shutter, who waits and who is given up is decided in ``admission.py``. Cameras and
blob store are handed in (``ports.Photos``): this file knows no protocol.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

from schemas.command_reader import CommandReader
from schemas.errors import DecodeError
from schemas.records import CaptureCommand, CaptureRevoked, OpenCapture
from streams.agents import arming, device_loads, device_profiles
from streams.agents.admission import STEP_MS, Admission
from streams.agents.arming import Arming
from streams.agents.attempts import Attempts, Owner
from streams.agents.capture_search import PhotoSearch, Timed
from streams.agents.capture_state import CaptureState
from streams.agents.completions import Completions
from streams.agents.device_loads import DeviceLoads
from streams.agents.device_profiles import DeviceProfiles, check_home
from streams.agents.held import bind_held
from streams.agents.ports import Load
from streams.agents.preparation import Preparation
from streams.agents.timers import TimerQueue
from streams.core import capture
from streams.core.transition import PENDING, RUNNING
from streams.observability.logs import get_logger
from streams.observability.stages import counted
from streams.runtime.app import Layout
from streams.runtime.dead_letters import DeadLetters

if TYPE_CHECKING:
    from collections.abc import Callable, Sized

    from aiokafka import ConsumerRecord

    from schemas.codec import Codec
    from schemas.records import ImageRef
    from streams.agents.capture_settings import ExecutorSettings
    from streams.agents.completions import Decide, Ending
    from streams.agents.ports import Photos
    from streams.observability.metrics import Metrics
    from streams.runtime.app import ShardApp
    from streams.runtime.clock import Clock
    from streams.runtime.partition import Partition, Step
    from streams.runtime.settings import RuntimeSettings

APP = "captures"
COMMANDS = "capture.commands"
CHANGELOGS = {
    "captures": "captures.captures.changelog",
    device_profiles.TABLE: "captures.profiles.changelog",
}
EXPIRE = partial(capture.on_expired, cause="late: the shutter could not open before not_after")
RETRY_MS = 20
"""How soon a shutter asks again that had no lease, or waits for an earlier one of its schedule."""


def layout(partitions: int) -> Layout:
    """Return the topics and tables of the captures app."""
    return Layout((COMMANDS, device_profiles.TOPIC, device_loads.TOPIC), CHANGELOGS, partitions)


class CaptureExecutor:
    """The program of the captures app."""

    def __init__(
        self,
        settings: RuntimeSettings,
        executor: ExecutorSettings,
        photos: Photos,
        codec: Codec,
        clock: Clock,
        metrics: Metrics,
        partitions: int,
        own_load: Callable[[], Load] = Load,
    ) -> None:
        """Take the parts; ``attach`` puts the executor to work in an app."""
        self._settings = settings
        self._executor = executor
        self._photos = photos
        self._codec = codec
        self._reader = CommandReader(codec)
        self._clock = clock
        self.metrics = metrics
        self._partitions = partitions
        self._dead = DeadLetters(APP, codec, clock, metrics)
        self._log = get_logger(__name__)
        self._shutters: TimerQueue[Timed] = TimerQueue(clock, self._open_shutters)
        self._loads = DeviceLoads(codec, self._dead, clock, partitions, own_load)
        self.admission = Admission(
            executor, metrics, self._loads, self._refuse, self._shutters.push
        )
        most, to_host = executor.admission.prepare_at_once, executor.admission.per_host
        self._preparation = Preparation(photos, metrics, most, to_host)
        self._held: list[Timed] = []  # came due while their partition was paused
        changed = self.admission.troubled.forgive
        self._devices = DeviceProfiles(photos, codec, self._dead, partitions, changed)
        self._ends = Completions(self._write_ends, executor.gather_ms)
        owner = Owner(self._ends.add, self._let_in, self._fail)
        arms = arming.Owner(
            lambda: self._owner,
            self._shutters.look,
            self._set_shutters,
            self._held.extend,
            self._refuse,
        )
        self._arming = Arming(executor, settings.slot, clock, metrics, self.admission, arms)
        self._attempts = Attempts(
            executor, photos, self._devices, self.admission, clock, metrics, owner
        )
        most, clocks_ms = executor.recover_at_once, 2 * settings.max_skew_ms
        self._search = PhotoSearch(
            photos, clock, metrics, most, clocks_ms, self._attempts.start, self._on_searched
        )
        self._app: ShardApp | None = None
        parts: dict[str, Sized] = {
            "shutters": self._shutters, "attempts": self._attempts, "arming": self._arming,
            "ending": self._ends, "searched": self._search, "preparing": self._preparation,
            "profiles": self._devices, "loads": self._loads,
        }  # fmt: skip
        bind_held(metrics, self.books, self.admission, parts, lambda: len(self._held))

    def attach(self, app: ShardApp) -> None:
        """Register the agents with the app."""
        self._app = app
        app.agent(device_profiles.TOPIC, self._devices.on_profiles)
        app.agent(device_loads.TOPIC, self._loads.on_loads)
        app.agent(COMMANDS, self.on_commands)
        app.loop(self._keep_pools)
        app.before_slices(self._shutters.look)

    async def _keep_pools(self) -> None:
        while True:
            await asyncio.sleep(STEP_MS / 1000.0)
            self.admission.step(self._clock.now_ms())
            self._let_in()

    def books(self) -> list[CaptureState]:
        """Return the state of every open partition."""
        return [p.state for p in self._owner.partitions.values()] if self._app else []

    @property
    def _owner(self) -> ShardApp:
        if self._app is None:
            raise RuntimeError("the executor is attached to no app")
        return self._app

    # -- life cycle ----------------------------------------------------------------------------

    def opened(self, partition: Partition) -> None:
        """Read the open captures back and give each its timer."""
        book = CaptureState(partition, self._codec, self.metrics)
        partition.state = book
        for entry in book.load():
            if entry.state == PENDING:
                self._arming.wait(book, entry)
                continue
            timed, at_ms = Timed(book, entry.command.command_id), capture.not_before_ms(entry)
            left = partition.handover
            if left is not None and left.unopened(at_ms, partition.membership.generation):
                self._shutters.push(at_ms, timed)
            else:
                self._search.begin(book, entry)

    async def pausing(self, partitions: list[Partition]) -> int:  # noqa: ARG002  # it is all
        """Arm what falls due soon, so that it need not wait for the end of the rebalance."""
        until_ms = self._clock.now_ms() + self._executor.cover_ms
        await self._arming.ahead(until_ms)
        return until_ms

    def resumed(self, partition: Partition) -> None:
        """Give what was held back its timer again."""
        mine = [timed for timed in self._held if timed.book is partition.state]
        self._held[:] = [timed for timed in self._held if timed.book is not partition.state]
        for timed in mine:
            entry = timed.book.find_open(timed.command_id)
            if entry is not None and entry.state == PENDING:
                self._arming.wait(timed.book, entry)
            elif entry is not None:
                self._shutters.push(capture.not_before_ms(entry), timed)

    async def drain(self, partitions: list[Partition]) -> int:
        """Release what is armed, await what is in flight up to the bound, then let go of it."""
        books = {id(p.state) for p in partitions}

        def given_up(timed: Timed) -> bool:
            return id(timed.book) in books

        self._arming.drop(given_up)
        self._search.drop(given_up)
        armed = [*self._shutters.drop(given_up), *self.admission.drop(given_up)]
        for timed in armed:
            self._change(
                timed.book,
                lambda state, now, t=timed: capture.on_recovered(  # type: ignore[misc]
                    state, t.command_id, now, None, limits=self._executor.limits
                ),
                timed.command_id,
            )
        await self._attempts.drain(books, self._settings.drain_ms / 1000.0)
        self._ends.flush()
        return self._clock.now_ms()  # what is RUNNING still may be an attempt that goes on

    def closed(self, partition: Partition) -> None:
        """Forget a partition, but for the shutters that are still ours to open."""
        book = partition.state
        self._arming.drop(lambda timed: timed.book is book)
        self._search.drop(lambda timed: timed.book is book)
        self._held[:] = [timed for timed in self._held if timed.book is not book]
        if not partition.shutters_until_ms:
            self._shutters.drop(lambda timed: timed.book is book)

    # -- records -------------------------------------------------------------------------------

    @counted("commands")
    def on_commands(self, partition: Partition, records: list[ConsumerRecord], step: Step) -> None:
        """Take commands into the state machine, and revocations."""
        book: CaptureState = partition.state
        limits = self._executor.limits
        now_ms = self._clock.now_ms()
        waiting: list[OpenCapture] = []
        for record in records:
            try:
                found = self._reader.read(record.value or b"")
                if not isinstance(found, CaptureCommand | CaptureRevoked):
                    reason = f"{type(found).__name__} is no capture command."
                    raise DecodeError("wrong_record", reason)
                if not book.holds(found.device_id):
                    check_home(partition, found.device_id, self._partitions)
            except DecodeError as error:
                self._dead.write(step, record, COMMANDS, error.code, str(error))
                continue
            state = book.row(found.device_id)
            if isinstance(found, CaptureCommand):
                change = capture.on_command(state, found, now_ms, limits)
            else:
                change = capture.on_revoked(state, found, now_ms, limits)
            if change.duplicate:
                self.metrics.duplicates_ignored.inc()
            elif change.state is not state or change.results:
                if isinstance(found, CaptureCommand):
                    book.received(found, record.value, self._reader.cuts)
                book.write(step, change)
            waiting += change.arm
        self._arming.take_in(book, waiting, step)

    def _set_shutters(self, book: CaptureState, running: list[OpenCapture]) -> None:
        if not book.partition.open and not book.partition.shutters_until_ms:
            return  # given up while the commit ran: found RUNNING by whoever opens it next
        now_ms = self._clock.now_ms()
        for entry in running:
            command, at_ms = entry.command, capture.not_before_ms(entry)
            self._shutters.push(at_ms, Timed(book, command.command_id))
            profile = self._devices.find(book.partition, command.device_id)
            if profile is not None and self.admission.at_ease(command.device_id):
                self._preparation.begin(profile, at_ms - now_ms)

    # -- the shutter ---------------------------------------------------------------------------

    @counted("open")
    def _open_shutters(self, due: list[Timed]) -> None:
        lease_alive = self._owner.group.lease_alive()
        for timed in due:
            book, command_id = timed
            entry = book.find_open(command_id)
            if entry is None or entry.state != RUNNING:
                continue
            now_ms, partition = self._clock.now_ms(), book.partition
            if not partition.open and now_ms > partition.shutters_until_ms:
                if not partition.gone:
                    self._held.append(timed)
                continue
            row = book.row(entry.command.device_id)
            found = capture.shutter_decision(now_ms, entry, lease_alive=lease_alive, row=row)
            if found.startswith("overlap") and self._ends:  # the other one may have ended
                self._ends.flush()
                row = book.row(entry.command.device_id)
                found = capture.shutter_decision(now_ms, entry, lease_alive=lease_alive, row=row)
            match found:
                case "open":
                    profile = self._devices.find(partition, entry.command.device_id)
                    host = "" if profile is None else self._photos.host(profile)
                    seat = self.admission.enter(timed, entry.command, host, row, now_ms)
                    if seat is not None:
                        self._attempts.begin(book, entry, seat, profile)
                case "expired":
                    self._give_up(timed, EXPIRE)
                case "no_lease" if now_ms > entry.command.not_after_ms:
                    self._give_up(timed, EXPIRE)
                case "no_lease" | "overlap_wait":
                    self._shutters.push(now_ms + RETRY_MS, timed)
                case "overlap_skip":
                    self._give_up(timed, capture.on_overlapped)
                case "wait":
                    self._shutters.push(capture.not_before_ms(entry), timed)

    def _give_up(self, timed: Timed, decide: Callable[..., capture.Change]) -> None:
        (book, command_id), limits = timed, self._executor.limits
        self._change(book, lambda s, now: decide(s, command_id, now, limits=limits), command_id)

    def _refuse(self, timed: Timed, cause: str) -> None:
        self._give_up(timed, partial(capture.on_expired, cause=cause))

    def _fail(self, error: BaseException) -> None:
        self._owner.fail(error)

    def _let_in(self) -> None:
        """Let those in that there is room for now."""
        while (timed := self.admission.next()) is not None:
            self._open_shutters([timed])

    # -- changes that come from here -----------------------------------------------------------

    def _on_searched(self, book: CaptureState, command_id: int, image: ImageRef | None) -> None:
        """Decide a capture that was RUNNING when its worker was lost."""
        self._change(
            book,
            lambda state, now: capture.on_recovered(
                state, command_id, now, image, limits=self._executor.limits
            ),
            command_id,
        )

    def _change(self, book: CaptureState, decide: Decide, command_id: int) -> None:
        """Make one change of an open capture a step of its own, once steps can be made."""
        write = partial(self._write_ends, book, [(command_id, decide)])
        book.partition.when_writable(write)

    @counted("decide")
    def _write_ends(self, book: CaptureState, ends: list[Ending]) -> None:
        """Make changes of open captures of one partition, in one step."""
        ends = [ending for ending in ends if book.device_of(ending[0]) is not None]
        if not ends:
            return
        self._shutters.look()
        arm: list[OpenCapture] = []
        with self._owner.step(book.partition) as step:
            now_ms = self._clock.now_ms()
            for command_id, decide in ends:
                device_id = book.device_of(command_id)
                if device_id is None:
                    continue  # ended twice in one turn
                change = decide(book.row(device_id), now_ms)
                book.write(step, change)
                arm += change.arm
        for entry in arm:
            self._arming.wait(book, entry)
