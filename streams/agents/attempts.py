"""The attempts under way: the camera, the blob store, and what became of it on the record.

Each is a task with a seat (``admission.py``); what is looked for in the blob store is one without.
``capture_timeout_ms`` covers all I/O of an attempt: the adapters and the store are given the point
in time, and one that does not end by then is cancelled by :meth:`Admission.step`.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple

from schemas.errors import CameraError
from schemas.records import CaptureTimings
from streams.agents.ports import Opening
from streams.core import capture, retry
from streams.observability.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Coroutine

    from schemas.records import DeviceCaptures, DeviceProfile, OpenCapture
    from streams.agents.admission import Admission
    from streams.agents.capture_settings import ExecutorSettings
    from streams.agents.capture_state import CaptureState
    from streams.agents.device_profiles import DeviceProfiles
    from streams.agents.ports import Photo, Photos
    from streams.agents.seats import Seat
    from streams.observability.metrics import Metrics
    from streams.runtime.clock import Clock

    Decide = Callable[[DeviceCaptures, int], capture.Change]


BAD_PHOTO = "quality"
"""Cause of an attempt whose photo was bad and not kept."""


class Owner(NamedTuple):
    """What attempts need of the executor."""

    change: Callable[[CaptureState, Decide, int], None]
    """Makes one change of an open capture."""
    room: Callable[[], None]
    """Told when an attempt has ended: others may be let in."""
    fail: Callable[[BaseException], None]
    """Told of a bug: it stops the worker."""


class Attempts:
    """The attempts of one worker."""

    def __init__(
        self,
        settings: ExecutorSettings,
        photos: Photos,
        devices: DeviceProfiles,
        admission: Admission,
        clock: Clock,
        metrics: Metrics,
        owner: Owner,
    ) -> None:
        """Take the parts."""
        self._settings = settings
        self._photos = photos
        self._devices = devices
        self._admission = admission
        self._clock = clock
        self._metrics = metrics
        self._owner = owner
        self._log = get_logger(__name__)
        self._tasks: dict[asyncio.Task[None], tuple[CaptureState, Seat | None]] = {}
        self._left = False
        """Somebody got up in this turn of the loop."""

    def __len__(self) -> int:
        return len(self._tasks)

    def start(
        self,
        book: CaptureState,
        work: Coroutine[object, object, None],
        seat: Seat | None = None,
    ) -> None:
        """Run something that belongs to a partition as a task."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks[task] = (book, seat)
        if seat is not None:
            seat.task = task
        task.add_done_callback(self._on_done)

    def _on_done(self, task: asyncio.Task[None]) -> None:
        _, seat = self._tasks.pop(task)
        if seat is not None:
            self._admission.leave(seat, self._clock.now_ms())
        if not task.cancelled() and (error := task.exception()) is not None:
            self._owner.fail(error)
            return
        self._owner.room()

    async def drain(self, books: Collection[int], timeout_s: float) -> None:
        """Await what is under way for these partitions up to the bound, then let go of it."""
        tasks = [task for task, (book, _) in self._tasks.items() if id(book) in books]
        if not tasks:
            return
        _, late = await asyncio.wait(tasks, timeout=timeout_s)
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late)

    def begin(
        self, book: CaptureState, entry: OpenCapture, seat: Seat, profile: DeviceProfile | None
    ) -> None:
        """Begin an attempt; what can be taken at once needs no task."""
        command, shutter_at_ms = entry.command, self._clock.now_ms()
        try:
            photo = None if profile is None else self._photos.take_now(profile, command)
        except CameraError as error:
            self._opened(entry, shutter_at_ms)
            self._failed(book, entry, shutter_at_ms, error)
        else:
            if photo is None:
                self.start(book, self._attempt(book, entry, seat), seat)
                return
            self._opened(entry, shutter_at_ms)
            self._succeeded(book, entry, shutter_at_ms, photo)
        self._admission.leave(seat, shutter_at_ms)
        if not self._left:  # a turn later, when what ended is on the record
            self._left = True
            asyncio.get_running_loop().call_soon(self._on_left)

    def _on_left(self) -> None:
        self._left = False
        self._owner.room()

    def _opened(self, entry: OpenCapture, shutter_at_ms: int) -> None:
        """Note that a shutter opens."""
        metrics = self._metrics
        metrics.attempts.inc()
        if entry.attempt == 1:
            metrics.task_delay.observe((shutter_at_ms - entry.command.scheduled_ms) / 1000.0)

    async def _attempt(self, book: CaptureState, entry: OpenCapture, seat: Seat) -> None:
        """One try: the camera, the blob store, and what became of it on the record."""
        command = entry.command
        # Here, not where the timer fired: what the event loop took in between is lateness, too.
        shutter_at_ms = self._clock.now_ms()
        deadline_s = asyncio.get_running_loop().time() + command.capture_timeout_ms / 1000.0
        self._opened(entry, shutter_at_ms)
        try:
            profile = self._devices.profile(book.partition, command.device_id)
            last = command.quality == "retry" and self._is_last(entry, shutter_at_ms)
            photo = await self._photos.take(
                profile, command, deadline_s=deadline_s, opening=Opening(shutter_at_ms, last)
            )
        except CameraError as error:
            self._failed(book, entry, shutter_at_ms, error)
            return
        except asyncio.CancelledError:
            if not seat.overdue:
                raise
            text = f"its adapter did not end within {command.capture_timeout_ms:,} ms"
            self._failed(book, entry, shutter_at_ms, CameraError("timeout", text))
            return
        self._succeeded(book, entry, shutter_at_ms, photo)

    def _is_last(self, entry: OpenCapture, shutter_at_ms: int) -> bool:
        """Say whether no attempt can follow this one, however long it takes."""
        command = entry.command
        latest_ms = shutter_at_ms + command.capture_timeout_ms
        policy = self._settings.retry
        return bool(retry.obstacle(entry.attempt, latest_ms, command.not_after_ms, policy=policy))

    def _succeeded(
        self, book: CaptureState, entry: OpenCapture, shutter_at_ms: int, photo: Photo
    ) -> None:
        command = entry.command
        self._admission.photo(command.device_id, photo.grab_ms)
        self._metrics.blob_bytes.inc(photo.image.image_bytes)
        timings = CaptureTimings(photo.grab_ms, photo.store_ms)
        self._owner.change(
            book,
            lambda state, now: capture.on_success(
                state, command.command_id, photo.image, timings, shutter_at_ms, now, "",
                self._settings.limits, photo.verdict,
            ),
            command.command_id,
        )  # fmt: skip

    def _failed(
        self, book: CaptureState, entry: OpenCapture, shutter_at_ms: int, error: CameraError
    ) -> None:
        cause, message = error.cause, str(error)
        command = entry.command
        now_ms = self._clock.now_ms()
        if cause == BAD_PHOTO:  # the camera has answered, and deserves no less than others
            self._admission.photo(command.device_id, now_ms - shutter_at_ms)
            policy = self._settings.retry
        else:
            self._admission.failure(command.device_id, cause, now_ms - shutter_at_ms, now_ms)
            policy = self._admission.retry_policy(
                command.device_id, entry.attempt, self._settings.retry
            )
        self._metrics.attempt_failures.inc(cause)
        self._log.warning(
            "attempt failed",
            device_id=command.device_id,
            schedule_epoch=command.epoch,
            capture_result=cause,
            reason=message,
            attempt=entry.attempt,
        )
        self._owner.change(
            book,
            lambda state, now: capture.on_failure(
                state, command.command_id, cause, message, shutter_at_ms, now,
                retryable=error.retry, policy=policy, limits=self._settings.limits,
            ),
            command.command_id,
        )  # fmt: skip
