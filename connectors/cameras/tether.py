"""A simulated camera that is a program of its own ends with whoever started it."""

from __future__ import annotations

import asyncio
import os
import sys


def on_tether(stop: asyncio.Event) -> None:
    """Standard input is readable: whoever started us ended if there is nothing to read."""
    if not os.read(sys.stdin.fileno(), 4096):
        asyncio.get_running_loop().remove_reader(sys.stdin.fileno())
        stop.set()
