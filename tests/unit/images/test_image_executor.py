"""Pictures beside an event loop: bounded memory, first come first served, a process that dies."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
import sys
import threading

import pytest
from image_files import bomb_png, make

from connectors.images import executor as module
from connectors.images import pixels
from connectors.images.codec import SimpleCodec, pick_codec
from connectors.images.errors import ImageError
from connectors.images.executor import ImageExecutor, ImageSettings, PixelBudget
from connectors.images.facts import read_facts
from connectors.images.label import Label
from connectors.images.pipeline import process
from connectors.images.spec import CaptureSpec
from schemas.errors import UsageError

LABEL = Label("cam-1", 12345, "s1", 3, 1_790_000_000_000, 1_790_000_000_123)
PIXELS = 640 * 480


class Gate:
    """Stands in for the work: counts who is in it, and holds them until it is opened."""

    def __init__(self) -> None:
        self.opened = threading.Event()
        self.inside = 0
        self.most = 0
        self._changed = threading.Condition()

    def __call__(self, *arguments, **options):
        self._count(1)
        assert self.opened.wait(30)
        self._count(-1)
        return process(*arguments, **options)

    def _count(self, by: int) -> None:
        with self._changed:
            self.inside += by
            self.most = max(self.most, self.inside)
            self._changed.notify_all()

    async def reach(self, inside: int) -> None:
        """Wait until so many are in it."""

        def wait() -> bool:
            with self._changed:
                return self._changed.wait_for(lambda: self.inside == inside, 30)

        assert await asyncio.to_thread(wait)


@pytest.fixture
def gate(monkeypatch):
    found = Gate()
    monkeypatch.setattr(module, "process", found)
    yield found
    found.opened.set()


async def test_what_comes_back_is_what_the_pipeline_makes():
    async with ImageExecutor() as executor:
        spec = CaptureSpec(width_px=100)
        done = await asyncio.gather(*(executor.process(make(), spec, LABEL) for _ in range(8)))
    assert {one.sha256 for one in done} == {process(make(), spec, LABEL).sha256}


async def test_no_more_pixels_are_in_work_than_the_settings_allow(gate):
    settings = ImageSettings(threads=8, max_pixels=PIXELS, max_pixels_in_flight=3 * PIXELS)
    async with ImageExecutor(settings) as executor:
        tasks = [asyncio.create_task(executor.process(make(), CaptureSpec())) for _ in range(10)]
        await gate.reach(3)
        assert (executor.budget.waiting, executor.budget.left) == (7, 0)
        gate.opened.set()
        await asyncio.gather(*tasks)
        assert gate.most == 3
        assert executor.budget.left == 3 * PIXELS


async def test_a_caller_that_is_cancelled_gives_its_room_back_when_the_work_ends(gate):
    settings = ImageSettings(threads=2, max_pixels=PIXELS, max_pixels_in_flight=PIXELS)
    async with ImageExecutor(settings) as executor:
        task = asyncio.create_task(executor.process(make(), CaptureSpec()))
        await gate.reach(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert executor.budget.left == 0, "its buffers are in use"
        gate.opened.set()
        await executor.process(make(), CaptureSpec())
        assert executor.budget.left == PIXELS


async def test_what_is_too_large_is_refused_before_it_waits():
    async with ImageExecutor() as executor:
        with pytest.raises(ImageError) as caught:
            await executor.process(bomb_png(), CaptureSpec())
        assert caught.value.code == "too_large"
        assert executor.budget.left == executor.settings.max_pixels_in_flight


async def test_room_is_given_in_order_and_a_large_one_is_not_passed_over():
    budget = PixelBudget(10, 8)
    await budget.take(6)
    order: list[str] = []

    async def take(name: str, pixels: int) -> None:
        await budget.take(pixels)
        order.append(name)

    tasks = [asyncio.create_task(take(*one)) for one in (("large", 10), ("small", 1))]
    await asyncio.sleep(0)
    assert order == []
    budget.give(6)
    await tasks[0]
    assert order == ["large"]
    budget.give(10)
    await tasks[1]
    assert budget.left == 9


async def test_one_that_stops_waiting_lets_the_next_in():
    budget = PixelBudget(10, 8)
    await budget.take(6)
    large = asyncio.create_task(budget.take(10))
    small = asyncio.create_task(budget.take(4))
    await asyncio.sleep(0)
    large.cancel()
    await small
    assert (budget.left, budget.waiting) == (0, 0)
    with pytest.raises(asyncio.CancelledError):
        await large


async def test_one_cancelled_as_its_turn_comes_gives_it_back():
    budget = PixelBudget(10, 8)
    await budget.take(10)
    task = asyncio.create_task(budget.take(10))
    await asyncio.sleep(0)
    budget.give(10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert budget.left == 10


async def test_too_many_that_wait_are_refused_as_busy():
    budget = PixelBudget(1, 1)
    await budget.take(1)
    waiting = asyncio.create_task(budget.take(1))
    await asyncio.sleep(0)
    with pytest.raises(ImageError) as caught:
        await budget.take(1)
    assert (caught.value.code, caught.value.retry) == ("busy", True)
    budget.give(1)
    await waiting


def _die(*_arguments: object, **_options: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


async def test_a_decoder_that_dies_takes_its_process_and_nothing_else(monkeypatch):
    settings = ImageSettings(processes=1)
    async with ImageExecutor(settings) as executor:
        done = await executor.process(make(), CaptureSpec(width_px=100), LABEL)
        assert done.sha256 == process(make(), CaptureSpec(width_px=100), LABEL).sha256
        with pytest.raises(ImageError) as caught:  # comes back over the pipe with its code
            await executor.process(make()[:-2000] + b"\xff\xd9", CaptureSpec(width_px=100))
        assert caught.value.code == "damaged"
        with monkeypatch.context() as patch:
            patch.setattr(module, "process", _die)
            with pytest.raises(ImageError) as caught:
                await executor.process(make(), CaptureSpec())
        assert caught.value.code == "crashed"
        assert (await executor.process(make(), CaptureSpec())).treatment == "untouched"
        assert executor.budget.left == settings.max_pixels_in_flight


@pytest.mark.parametrize(
    "change",
    [{"threads": 257}, {"processes": -1}, {"max_pixels": 0}, {"max_pixels_in_flight": 5}],
    ids=str,
)
def test_settings_out_of_bounds_are_refused(change):
    with pytest.raises(UsageError):
        ImageSettings(**change)


# --- threads are of use ---------------------------------------------------------------------------


@pytest.fixture
def stubborn():
    """A thread that runs Python keeps the interpreter for longer than any test takes."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(60)
    yield
    sys.setswitchinterval(before)


FRAME = make(1_600, 1_200)
FACTS = read_facts(FRAME)
PIXELS_OF_FRAME = SimpleCodec().decode(FRAME, FACTS)


@pytest.mark.parametrize(
    "work",
    [
        lambda: SimpleCodec().decode(FRAME, FACTS),
        lambda: SimpleCodec().encode(PIXELS_OF_FRAME, 85, "420"),
        lambda: pick_codec().decode(FRAME, FACTS),
        lambda: pick_codec().encode(PIXELS_OF_FRAME, 85, "420"),
        lambda: pixels.resize(PIXELS_OF_FRAME, 800, 600),
        lambda: hashlib.sha256(PIXELS_OF_FRAME.tobytes()).digest(),
    ],
    ids=["decode", "encode", "decode, best codec", "encode, best codec", "scale", "hash"],
)
def test_what_takes_long_lets_go_of_the_interpreter(stubborn, work):
    """Issue 8: 'Threads that release the GIL'. Held, this thread could see it only when done."""
    seen = False
    for _ in range(50):  # on a busy machine this thread may come too late to see it
        begun, ended = threading.Event(), threading.Event()

        def run(begun=begun, ended=ended) -> None:
            begun.set()
            work()
            ended.set()

        thread = threading.Thread(target=run)
        thread.start()
        begun.wait()
        seen = not ended.is_set()
        thread.join()
        if seen:
            break
    assert seen


def test_that_test_can_fail(stubborn):
    """Python code lets nobody in: what the test above sees is not there by itself."""
    ended = threading.Event()

    def run() -> None:
        for _ in range(300_000):
            pass
        ended.set()

    thread = threading.Thread(target=run)
    thread.start()
    assert ended.is_set()
    thread.join()
