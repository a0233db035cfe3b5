"""Reads a device's photos back, with what lies beside them, and says what is wrong.

A photo must be a whole picture whose hash its metadata gives; what the metadata names beside it
must be there, with its hash. What lies there and is named by no photo is told, too: it is what an
attempt left that never stored its photo, or whose photo came second.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from connectors.blobs.keys import beside_key
from schemas.errors import StoreError

if TYPE_CHECKING:
    from connectors.blobs.index import BlobMetadata
    from connectors.blobs.store import BlobStore


@dataclass(frozen=True, slots=True)
class Wrong:
    """What is wrong with a file."""

    uri: str
    reason: str


async def check(
    store: BlobStore, device_id: str, day: str | None = None
) -> tuple[int, list[Wrong]]:
    """Return how many photos a device has and what is wrong; ``day``: of this one only.

    Raises StoreError: the store cannot be read.
    """
    photos, beside = list[str](), set[str]()
    async for entry in store.iterate(device_id, beside=True):
        if day is None or entry.key.split("/")[-2] == day:
            if entry.kind == "photo":
                photos.append(entry.key)
            else:
                beside.add(entry.key)
    found: list[Wrong] = []
    for key in sorted(photos):
        found += await _photo(store, key, beside)
    found += [Wrong(store.uri(key), "it lies beside no photo") for key in sorted(beside)]
    return len(photos), found


async def _photo(store: BlobStore, key: str, beside: set[str]) -> list[Wrong]:
    """Check a photo; what it names is taken out of ``beside``."""
    uri = store.uri(key)
    try:
        sha256 = hashlib.sha256(await store.read(uri)).hexdigest()
        metadata = await store.metadata(key, sha256)
    except StoreError as error:
        return [Wrong(uri, str(error))]
    if metadata is None:
        return [Wrong(uri, f"nothing is known of bytes of sha256 {sha256}")]
    if metadata.sha256 != sha256:
        return [Wrong(uri, f"sha256 {sha256}, not {metadata.sha256} as it was stored")]
    return await _beside(store, key, metadata, beside)


async def _beside(
    store: BlobStore, key: str, metadata: BlobMetadata, beside: set[str]
) -> list[Wrong]:
    found: list[Wrong] = []
    for one in metadata.beside:
        name = beside_key(key, metadata.sha256, one.kind, one.format)
        beside.discard(name)
        try:
            data = await store.read(store.uri(name))
        except StoreError as error:
            found.append(Wrong(store.uri(name), str(error)))
            continue
        sha256 = hashlib.sha256(data).hexdigest()
        if sha256 != one.sha256:
            found.append(Wrong(store.uri(name), f"sha256 {sha256}, not {one.sha256}"))
    return found
