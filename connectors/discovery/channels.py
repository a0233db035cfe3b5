"""A recorder's channels, each a device of its own beside the recorder."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from connectors.discovery.base import web_address

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from connectors.discovery.base import Sighting


def with_channels(
    found: Sighting, picture_path: Callable[[int], str], max_channels: int
) -> Iterator[Sighting]:
    """Give a sighting, and one more for each channel it says it has, at most ``max_channels``.

    ``picture_path`` says where a channel's picture is, by its number from 1.
    """
    yield found
    for number in range(1, min(found.channels, max_channels) + 1):
        yield replace(
            found,
            kind="camera",
            why=f"channel {number} of a recorder ({found.why})",
            protocol="http-snapshot",
            address=web_address(found.host, found.port, picture_path(number)),
            channel=number,
            channels=0,
        )
