"""Streams that play on for devices photographed often, or about to be: bounded in number and time.

A stream is kept

* when it was prepared: a capture is due soon (``promised``), and
* after a photo, if the device's photo before was at most ``idle`` ago: that is what 'often' means;
* after none, if its pictures come and only the key frame has not yet: the next attempt goes on
  waiting where this one ended. Such a stream drives no other one out.

It is ended after ``idle`` without a photo, when its connection ends, or when the place is needed
for another: the one that was not used for the longest time goes first, never one that is promised
or in use. Where no place can be made, nothing is kept, and the capture opens a stream of its own.

While any is kept, one task looks after them once a second: it ends those that are due, and tells
the cameras in time that we are still there.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from schemas.errors import CameraError

if TYPE_CHECKING:
    from connectors.cameras.rtsp_session import Session

Key = tuple[str, str, str]
"""Device, address, credentials' name: a changed profile has another stream."""

MAX_REMEMBERED: Final = 100_000
"""Devices whose last photo's time is remembered, some 200 bytes each."""
ROUND_S: Final = 1.0
KEEP_ALIVE_S: Final = 5.0
"""How long a camera may take to answer that it hears us."""


@dataclass(slots=True)
class _Kept:
    session: Session
    used_s: float
    promised: bool
    users: int = 0
    asking: asyncio.Task[None] | None = None


class WarmSessions:
    """The streams; not more than ``limit``, not longer than ``idle_s`` without a photo."""

    def __init__(self, limit: int, idle_s: float) -> None:
        self._limit = limit
        self._idle_s = idle_s
        self._kept: OrderedDict[Key, _Kept] = OrderedDict()
        self._photos: OrderedDict[Key, float] = OrderedDict()
        self._rounds: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return len(self._kept)

    def take(self, key: Key) -> Session | None:
        """Return the stream of a device, to be given back by :meth:`give_back`."""
        kept = self._kept.get(key)
        if kept is None:
            return None
        if kept.session.failure is not None:
            self.drop(key)
            return None
        kept.users += 1
        self._kept.move_to_end(key)
        return kept.session

    def promise(self, key: Key) -> bool:
        """Say whether a device has a stream already; it stays for the capture that is due."""
        kept = self._kept.get(key)
        if kept is None or kept.session.failure is not None:
            return False
        kept.promised, kept.used_s = True, _now_s()
        self._kept.move_to_end(key)
        return True

    def make_room(self) -> bool:
        """Make place for one more; False: all that there is are promised or in use."""
        while len(self._kept) >= self._limit:
            if not self.drop_oldest():
                return False
        return True

    def drop_oldest(self) -> bool:
        """End the one that was not used for the longest time; False: none may be."""
        for key, kept in self._kept.items():
            if not kept.promised and not kept.users:
                self.drop(key)
                return True
        return False

    def put(self, key: Key, session: Session) -> None:
        """Keep a stream that was prepared; call :meth:`make_room` before."""
        self.drop(key)
        self._kept[key] = _Kept(session, _now_s(), promised=True)
        self._look_after()

    def give_back(self, key: Key, session: Session, *, good: bool) -> None:
        """A photo was taken, or not (``good``): keep the stream or end it."""
        now_s = _now_s()
        last_s = self._photos.get(key)
        often = good and last_s is not None and now_s - last_s <= self._idle_s
        keep = often or (not good and session.waits_for_key)
        if good:
            self._photos[key] = now_s
            self._photos.move_to_end(key)
            if len(self._photos) > MAX_REMEMBERED:
                self._photos.popitem(last=False)
        kept = self._kept.get(key)
        if kept is not None and kept.session is session:
            kept.users -= 1
            kept.promised = False
            kept.used_s = now_s
            if not kept.users and not keep:
                self.drop(key)
        elif keep and kept is None and (len(self) < self._limit or (often and self.make_room())):
            self._kept[key] = _Kept(session, now_s, promised=False)
            self._look_after()
        else:
            session.finish()

    def drop(self, key: Key) -> None:
        """End the stream of a device, if it has one."""
        kept = self._kept.pop(key, None)
        if kept is not None:
            if kept.asking is not None:
                kept.asking.cancel()
            kept.session.finish()

    def close(self) -> None:
        """End all of them."""
        if self._rounds is not None:
            self._rounds.cancel()
            self._rounds = None
        for key in list(self._kept):
            self.drop(key)

    def _look_after(self) -> None:
        if self._rounds is None or self._rounds.done():
            self._rounds = asyncio.create_task(self._go_round(), name="warm-sessions")

    async def _go_round(self) -> None:
        while self._kept:
            await asyncio.sleep(ROUND_S)
            now_s = _now_s()
            for key, kept in list(self._kept.items()):
                idle = not kept.users and now_s - kept.used_s > self._idle_s
                if idle or kept.session.failure is not None:
                    self.drop(key)
                elif kept.asking is None and now_s - kept.session.heard_s > (
                    kept.session.timeout_s / 3
                ):
                    kept.asking = asyncio.create_task(self._keep_alive(key, kept))

    async def _keep_alive(self, key: Key, kept: _Kept) -> None:
        try:
            async with asyncio.timeout(KEEP_ALIVE_S):
                await kept.session.keep_alive()
        except (CameraError, TimeoutError):
            kept.asking = None
            if self._kept.get(key) is kept and not kept.users:
                self.drop(key)
        finally:
            kept.asking = None


def _now_s() -> float:
    return asyncio.get_running_loop().time()
