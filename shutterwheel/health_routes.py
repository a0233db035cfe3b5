"""What a devices worker answers over HTTP: where a device stands, and all of them page by page."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from streams.core import ids
from streams.observability.http import Reply

if TYPE_CHECKING:
    from collections.abc import Mapping

    from streams.agents.device_health import HealthWatch
    from streams.observability.http import Route


def health_routes(watch: HealthWatch, partitions: int) -> dict[str, Route]:
    """Return the routes by path. A row is a ``DeviceHealth``; what is not known in it is null."""

    async def one(query: Mapping[str, str]) -> Reply:
        device_id = query["id"]
        number = ids.partition_of(device_id, partitions)
        row = watch.find(number, device_id)
        if row is None:
            return Reply(404, {"error": "not known here: no heartbeat came, or another has it"})
        return Reply(200, msgspec.to_builtins(row))

    async def many(query: Mapping[str, str]) -> Reply:
        """Answer with ``rows``, and ``next``: the ``after`` to go on with, or null."""
        try:
            number, _, index = query.get("after", "0:-1").partition(":")
            rows, following = watch.page(int(number), int(index))
        except ValueError:
            return Reply(400, {"error": "after is what an answer gave as next, as in 3:4711"})
        go_on = None if following is None else f"{following[0]}:{following[1]}"
        return Reply(200, {"rows": [msgspec.to_builtins(row) for row in rows], "next": go_on})

    return {"/devices": many, "/devices/{id}": one}
