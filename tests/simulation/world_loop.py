"""Virtual time for many processes: one queue of moments, an event loop a process.

Each simulated process has an asyncio loop of its own (:class:`NodeLoop`), so that it can be stopped
and go on (SIGSTOP: its timers are overdue then), or be gone, while the others run. All loops stand
on one :class:`Schedule`, which runs what is due in the order of (time, number), so a run is the
same on every machine. Nothing here waits: time jumps to the next moment.

Cost: 2 to 3 us a callback.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine


class Numbered(asyncio.Task):  # type: ignore[type-arg]
    """A task whose place in a set does not depend on its address."""

    def __init__(self, *args: Any, loop: NodeLoop, **kwargs: Any) -> None:
        self._number = next(loop.schedule.tasks)
        super().__init__(*args, loop=loop, **kwargs)

    def __hash__(self) -> int:
        return self._number

    def __eq__(self, other: object) -> bool:
        return self is other


class Schedule:
    """What happens next, in all processes and between them."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.callbacks = 0
        self.tasks = itertools.count()
        self._heap: list[tuple[float, int, Any]] = []
        self._ready: deque[Any] = deque()
        self._numbers = itertools.count()
        self.world = NodeLoop(self, "world")
        """The loop of what is no process: the broker, the network, the devices."""

    def at(self, when_s: float, call: Callable[..., None], *args: Any) -> asyncio.Handle:
        """Have the world do something at a time, whatever becomes of any process."""
        return self.world.call_at(when_s, call, *args)

    def after(self, delay_s: float, call: Callable[..., None], *args: Any) -> asyncio.Handle:
        """See ``at``."""
        return self.world.call_at(self.now_s + delay_s, call, *args)

    def push(self, when_s: float, handle: Any) -> None:
        heapq.heappush(self._heap, (when_s, next(self._numbers), handle))

    def push_ready(self, handle: Any) -> None:
        self._ready.append(handle)

    def run(self, until_s: float, over: Callable[[], bool]) -> None:
        """Run all that is due up to a time, or until it is over."""
        ready, heap, set_loop = self._ready, self._heap, asyncio._set_running_loop
        current: NodeLoop | None = None
        before = asyncio._get_running_loop()
        set_loop(None)
        try:
            while not over():
                if not ready:
                    if not heap or heap[0][0] > until_s:
                        self.now_s = max(self.now_s, until_s)
                        return
                    when_s, _, handle = heapq.heappop(heap)
                    if handle._cancelled:
                        continue
                    self.now_s = max(self.now_s, when_s)
                    ready.append(handle)
                handle = ready.popleft()
                loop = handle._loop
                if handle._cancelled or loop.dead:
                    continue
                if loop.stopped:
                    loop.overdue.append(handle)
                    continue
                if loop is not current:
                    set_loop(loop)
                    current = loop
                self.callbacks += 1
                handle._run()
        finally:
            set_loop(before)


class NodeLoop(asyncio.AbstractEventLoop):
    """The event loop of one process."""

    def __init__(self, schedule: Schedule, name: str) -> None:
        self.schedule, self.name = schedule, name
        self.stopped = self.dead = False
        self.overdue: list[Any] = []
        self.on_error: Callable[[BaseException], None] | None = None

    def __repr__(self) -> str:
        return f"<{self.name}>"

    # -- what becomes of the process -----------------------------------------------------------

    def stop_process(self) -> None:
        """SIGSTOP."""
        self.stopped = True

    def go_on(self) -> None:
        """SIGCONT: all that fell due meanwhile runs now."""
        self.stopped = False
        overdue, self.overdue = self.overdue, []
        for handle in overdue:
            self.schedule.push_ready(handle)

    def kill(self) -> None:
        """SIGKILL."""
        self.dead = True
        self.overdue.clear()

    # -- what asyncio asks of a loop -----------------------------------------------------------

    def time(self) -> float:
        return self.schedule.now_s

    def call_soon(self, callback: Any, *args: Any, context: Any = None) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self.schedule.push_ready(handle)
        return handle

    def call_later(
        self, delay: float, callback: Any, *args: Any, context: Any = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self.schedule.now_s + delay, callback, *args, context=context)

    def call_at(
        self, when: float, callback: Any, *args: Any, context: Any = None
    ) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        self.schedule.push(when, handle)
        return handle

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """It is dropped when its time comes."""

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(
        self, coro: Coroutine[Any, Any, Any], *, name: str | None = None, context: Any = None
    ) -> Numbered:
        return Numbered(coro, loop=self, name=name or "", context=context)

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> asyncio.Future[Any]:  # type: ignore[override]
        """Have the process's thread do it; see ``world_process.Threads``."""
        return self.threads.run(executor, func, *args)  # type: ignore[attr-defined,no-any-return]

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return self.dead

    def set_exception_handler(self, handler: Any) -> None:
        """The world has its own."""

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        """The world has its own."""

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Tell of what a timer or callback raised; what a collected task says comes at any time."""
        error = context.get("exception")
        if error is not None and "handle" in context and not self.dead:
            if self.on_error is None:
                raise error
            self.on_error(error)
