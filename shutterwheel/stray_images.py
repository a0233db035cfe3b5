"""Pictures in the blob store that no result names, though the audited time should have one.

A store may be shared: by namespaces, by sandboxes, by what came before. So a picture counts only if
it can be of this namespace: its path is that of one of its devices, and the command id in its name
is of that device's partition and lies within the audited time. What is still open may have a
picture already, and is left out.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urlsplit

from connectors.blobs.keys import device_segment, photo_id
from streams.core import ids
from streams.replay.audit_findings import Finding

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from connectors.blobs.store import BlobStore
    from streams.replay.audit import PartitionReport

IMAGES: Final = "images"
"""What stands in place of a topic in the findings."""


def stray_images(
    store: BlobStore, reports: Iterable[PartitionReport], partitions: int
) -> Iterator[Finding]:
    """Yield a finding for each picture of no result. StoreError where the store cannot be read.

    The reports are those of an audit with ``want_image_ids``; ``partitions``: of the topics.
    """
    by_number = {report.partition: report for report in reports}
    known = {identity for report in by_number.values() for identity in report.image_ids}
    devices = {
        device_segment(device): (device, report.partition)
        for report in by_number.values()
        for device in report.devices
    }
    for key in _keys(store):
        device, place = devices.get(key.partition("/")[0], ("", -1))
        identity = photo_id(key)
        if place < 0 or identity is None or identity in known:
            continue
        report = by_number[place]
        made_ms = ids.command_time_ms(identity)
        if (
            ids.command_shard(identity) % partitions == place
            and report.images_from_ms <= made_ms < report.last_ms
        ):
            yield Finding("stray_image", IMAGES, place, -1, f"{key}: no result names it", device)


def _keys(store: BlobStore) -> Iterator[str]:
    """Yield the key of every picture in the store."""
    if store.base_uri.startswith("file://"):
        root = Path(unquote(urlsplit(store.base_uri).path))
        for folder, _, names in os.walk(root):
            for name in names:
                yield Path(folder, name).relative_to(root).as_posix()
        return

    async def keys() -> list[str]:
        return [entry.key async for entry in store.iterate()]

    yield from asyncio.run(keys())
