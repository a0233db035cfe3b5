"""What becomes of a worker whose consumer stops coordinating; DESIGN.md, the runtime.

Found under load: a broker that had only just started named no brokers, aiokafka's coordination
ended with an assertion, and the worker stayed for ever, without a group and deaf to its stop.
"""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest

from schemas.errors import BrokerError
from streams.runtime.transport import BatchConsumerThread


async def ended_by(coordination) -> list[BaseException]:
    """Return what the app is told when the coordination ends so."""
    told: list[BaseException] = []
    thread = object.__new__(BatchConsumerThread)
    thread.transport = SimpleNamespace(seam=SimpleNamespace(failed=told.append))
    thread.parent_loop = asyncio.get_running_loop()
    task = asyncio.ensure_future(coordination())
    task.add_done_callback(thread._coordination_ended)
    if coordination is cancelled:
        await asyncio.sleep(0)
        task.cancel()
    await asyncio.wait([task])
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return told


async def broken():
    raise AssertionError("Did we not perform bootstrap?")


async def closed():
    """End as a consumer that is closed does."""


async def cancelled():
    await asyncio.Event().wait()


async def test_a_coordination_that_breaks_ends_the_worker():
    (error,) = await ended_by(broken)
    assert isinstance(error, BrokerError)
    assert "bootstrap" in str(error)


@pytest.mark.parametrize("coordination", [closed, cancelled])
async def test_one_that_ends_in_order_does_not(coordination):
    assert await ended_by(coordination) == []
