"""Sockets are counted as one's own or a stranger's (issue 6: sockets given back)."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import TYPE_CHECKING

import pytest

from benchmarks.misbehaviour.own_sockets import OwnSockets

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def kept() -> Iterator[contextlib.ExitStack]:
    with contextlib.ExitStack() as stack:
        yield stack


def listening(kept: contextlib.ExitStack) -> socket.socket:
    return kept.enter_context(socket.create_server(("127.0.0.1", 0)))


def connect(kept: contextlib.ExitStack, server: socket.socket) -> None:
    kept.enter_context(socket.create_connection(server.getsockname()))
    kept.enter_context(server.accept()[0])


async def until(own: OwnSockets, count: int) -> None:
    """Wait until so many are left; a neighbour's may be counted for a moment."""
    async with asyncio.timeout(60):
        while own.left() != count:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_what_is_connected_to_others_is_not_counted(kept):
    """As the threads of a client do that a test before has left."""
    mine, others = listening(kept), listening(kept)
    own = OwnSockets(mine.getsockname()[1])
    connect(kept, others)
    await until(own, 0)
    connect(kept, mine)
    await until(own, 2)


async def test_what_is_connected_to_nothing_is_counted(kept):
    own = OwnSockets()
    kept.enter_context(socket.socket())
    kept.enter_context(socket.socket(type=socket.SOCK_DGRAM)).bind(("127.0.0.1", 0))
    listening(kept)
    await until(own, 3)


async def test_what_was_there_may_go(kept):
    before = socket.socket()
    own = OwnSockets()
    before.close()
    await until(own, 0)
    kept.enter_context(socket.socket())
    await until(own, 1)


async def test_it_waits_for_what_is_about_to_go(kept):
    own = OwnSockets()
    one = kept.enter_context(socket.socket())
    await until(own, 1)
    assert await own.settled(0.0) >= 1
    one.close()
    assert await own.settled(60.0) == 0
