"""Image bytes by device, day and command id; written once, found again, never half there.

**What holds.** A blob under its final name is whole: the store writes elsewhere and links or
commits it at the end. It is written by a conditional put, so the first attempt's picture stays,
whatever later attempts bring. Where a blob is, its metadata is: stores that keep attributes with
an object (S3, Azure, GCS, memory) get them in the same put; a local folder has an index of lines
written before the blobs (:mod:`connectors.blobs.index`).

**Whose word counts.** The bytes'. :meth:`BlobStore.find`, and :meth:`BlobStore.put` that finds a
blob already there, read them and compute hash and size anew; metadata adds only what bytes cannot
say (the camera's time from a JSON answer). A blob that is no picture (a disk that lost power)
counts as absent and is written over.

**Beside a photo** may lie its thumbnail and the camera's own bytes (:mod:`connectors.blobs.keys`).
They are written first: where a photo is, all of it is, and a put that fails leaves no photo. A
photo's metadata names them.

**Cost**: infra/adr/0006-cameras-and-blobs.md. Local writes run in threads, a worker's in processes
of their own, off the event loop, and are not fsynced: a killed worker loses nothing, a power cut
can lose the last seconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import LocalStore, from_url

from connectors.blobs.describe import (
    attributes,
    describe,
    from_attributes,
    hashes_beside,
    read_picture,
    reference,
)
from connectors.blobs.explain import explain
from connectors.blobs.index import BlobMetadata, LocalIndex, line_of
from connectors.blobs.keys import beside_key, beside_name, blob_key, device_segment, photo_id
from connectors.blobs.remote import open_remote
from connectors.blobs.writer import Put, WriterProcesses, perform
from connectors.cameras.frame import clean
from schemas.errors import StoreError
from schemas.records import ImageRef

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from obstore import PutMode
    from obstore.store import ObjectStore

    from connectors.blobs.describe import Extra
    from connectors.cameras.base import Frame
    from schemas.records import CaptureCommand

ERRORS: Final = (BaseError, OSError, ValueError, NotImplementedError)
"""Everything obstore raises."""
LIST_CHUNK: Final = 1_000
THREADS: Final = 4
"""Threads that read from a local folder, and write to it where no processes do."""
WORKER_PROCESSES: Final = 2
"""Processes that write a worker's pictures; a slow network folder may want more."""


@dataclass(frozen=True, slots=True)
class Stored:
    """The answer of a put."""

    image: ImageRef
    existed: bool
    """An earlier attempt's picture was there and was kept; ``image`` describes that one."""


@dataclass(frozen=True, slots=True)
class BlobEntry:
    """One file in the store, as a listing shows it."""

    key: str
    uri: str
    image_bytes: int
    kind: str = "photo"
    """``photo``; or, of a file beside one, ``thumbnail`` or ``original``."""


class BlobStore:
    """Pictures in a folder, in memory, or in an object store. See the module's text."""

    def __init__(
        self,
        store: ObjectStore,
        base_uri: str,
        index: LocalIndex | None = None,
        writers: WriterProcesses | None = None,
        *,
        in_memory: bool = False,
    ) -> None:
        self._store = store
        self._index = index
        self._writers = writers
        self._in_memory = in_memory
        self._taken: dict[str, tuple[bytes, BlobMetadata]] = {}
        """Pictures in memory that ``put_now`` took and the store has not yet."""
        self._known: set[str] = set()
        """Keys of all pictures in memory."""
        self._leaving: set[asyncio.Future[None]] = set()
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="blobs") if index else None
        self.base_uri = base_uri
        """Every blob's URI is this, a slash and its key."""

    @classmethod
    def open(cls, location: str | Path, *, processes: int = 0) -> BlobStore:
        """Open a folder (made if absent), ``file:///path``, ``memory://``, or ``s3://bucket/…``.

        ``processes``: how many processes write to a folder (``writer.py``); 0: threads of this one.
        Raises StoreError if the folder cannot be used or the URL is not understood.
        """
        text = str(location)
        scheme = urlsplit(text).scheme if "://" in text else ""
        try:
            if scheme in {"", "file"}:
                path = Path(unquote(urlsplit(text).path) if scheme else text).absolute()
                store = LocalStore(path, mkdir=True)
                writers = WriterProcesses(path, processes) if processes else None
                return cls(store, path.as_uri().rstrip("/"), LocalIndex(path), writers)
            if scheme == "memory":
                return cls(from_url("memory:///"), "memory://", in_memory=True)
            return cls(open_store(text), text.rstrip("/"))
        except ERRORS as error:
            raise explain(f"the blob store at {clean(text)} cannot be opened", error) from error

    async def start(self) -> None:
        """Start what the first put would start; ``put`` does it where this was not called."""
        if self._writers is not None:
            await self._writers.start()

    def uri(self, key: str) -> str:
        """Return the URI of a key; keys need no quoting in a URI."""
        return f"{self.base_uri}/{key}"

    def key(self, uri: str) -> str:
        """Return the key of a URI of this store; raises StoreError for any other."""
        prefix = f"{self.base_uri}/"
        if not uri.startswith(prefix):
            raise StoreError(f"{clean(uri)} is not in the blob store at {self.base_uri}")
        return uri.removeprefix(prefix)

    async def put(
        self, command: CaptureCommand, frame: Frame, extras: tuple[Extra, ...] = ()
    ) -> Stored:
        """Store the picture of a command, unless it has one, and ``extras`` beside it.

        Raises StoreError: full, not writable, unreachable. There is no picture then.
        """
        key = blob_key(command)
        metadata, others = describe(command, frame, extras)
        if not extras:
            return await self._put_photo(key, frame, metadata)
        names = [beside_key(key, frame.sha256, one.kind, one.format) for one in extras]
        parts = zip(names, extras, others, strict=True)
        await asyncio.gather(
            *(self._put(name, extra.data, "overwrite", other) for name, extra, other in parts)
        )
        stored = await self._put_photo(key, frame, metadata)
        if stored.image.sha256 != frame.sha256:
            self._take_back(names)
        return stored

    async def _put_photo(self, key: str, frame: Frame, metadata: BlobMetadata) -> Stored:
        if not await self._put(key, frame.data, "create", metadata):
            existing = await self._read(key)
            if existing is not None:
                return Stored(existing, existed=True)
            await self._put(key, frame.data, "overwrite", metadata)
        return Stored(reference(self.uri(key), metadata), existed=False)

    def _take_back(self, names: list[str]) -> None:
        """Delete what lies beside a photo that came too late; nobody waits for it.

        Where the photo's own put failed nothing is deleted: it may have been written all the same.
        """

        async def delete() -> None:
            with contextlib.suppress(StoreError):
                await self.delete(names)

        task = asyncio.ensure_future(delete())
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)

    def put_now(self, command: CaptureCommand, frame: Frame) -> Stored | None:
        """Store the picture at once, where nothing is to be waited for: in memory.

        None: ``put`` must be awaited. Raises StoreError.
        """
        if not self._in_memory:
            return None
        key = blob_key(command)
        if key in self._known:
            return None
        metadata, _ = describe(command, frame)
        self._known.add(key)
        self._taken[key] = (frame.data, metadata)
        return Stored(reference(self.uri(key), metadata), existed=False)

    async def find(self, command: CaptureCommand) -> ImageRef | None:
        """Return the picture an earlier attempt of this command left, read and hashed anew.

        None: there is none, or what is there is not a whole picture. Raises StoreError.
        """
        return await self._read(blob_key(command))

    async def read(self, uri: str) -> bytes:
        """Return the bytes of a blob; raises StoreError if it is not there."""
        data = await self._get(self.key(uri))
        if data is None:
            raise StoreError(f"{clean(uri)} is not in the blob store")
        return data[0]

    async def verify(self, image: ImageRef) -> bool:
        """Say whether the blob is there and its bytes have the size and SHA-256 of ``image``."""
        found = await self._read(self.key(image.uri))
        return (
            found is not None
            and found.sha256 == image.sha256
            and found.image_bytes == image.image_bytes
        )

    async def metadata(self, key: str, sha256: str = "") -> BlobMetadata | None:
        """Return what is kept of a file beside its bytes; None: nothing, or it is gone.

        ``sha256``: of its bytes, which is how a folder's index finds it. Raises StoreError.
        """
        if self._index is not None:
            return await self._read_index(self._index, key, sha256)
        self._settle()
        try:
            answer = await obstore.get_async(self._store, key, options={"head": True})
        except FileNotFoundError:
            return None
        except ERRORS as error:
            raise self._failed("read", error) from error
        return from_attributes(dict(answer.attributes))

    async def beside(self, image: ImageRef) -> dict[str, str]:
        """Return the URIs of what lies beside a photo, by kind, as its metadata names it.

        Raises StoreError.
        """
        key = self.key(image.uri)
        found = await self.metadata(key, image.sha256)
        return {
            one.kind: self.uri(beside_key(key, image.sha256, one.kind, one.format))
            for one in (found.beside if found is not None else ())
        }

    async def delete(self, keys: list[str]) -> None:
        """Delete pictures; one that is not there is no error. Raises StoreError."""
        self._settle()
        self._known.difference_update(keys)
        try:
            await obstore.delete_async(self._store, keys)
        except FileNotFoundError:
            return
        except ERRORS as error:
            raise self._failed("written", error) from error

    async def iterate(
        self, device_id: str = "", *, beside: bool = False
    ) -> AsyncIterator[BlobEntry]:
        """Yield every photo in the store, or of a device, in no order; indexes are left out.

        ``beside``: what lies beside photos, too.
        """
        self._settle()
        prefix = f"{device_segment(device_id)}/" if device_id else None
        try:
            async for chunk in obstore.list(self._store, prefix, chunk_size=LIST_CHUNK):
                for meta in chunk:
                    key = meta["path"]
                    if photo_id(key) is not None:
                        yield BlobEntry(key, self.uri(key), meta["size"])
                    elif beside and (other := beside_name(key)) is not None:
                        yield BlobEntry(key, self.uri(key), meta["size"], other.kind)
        except ERRORS as error:
            raise self._failed("listed", error) from error

    def close(self) -> None:
        """Let go of the threads; what they have begun is finished."""
        if self._threads is not None:
            self._threads.shutdown(wait=True)

    async def aclose(self) -> None:
        """Let go of the processes, too; what they have begun is finished."""
        await asyncio.gather(*self._leaving)
        if self._writers is not None:
            await self._writers.close()
        self.close()

    async def _put(self, key: str, data: bytes, mode: PutMode, metadata: BlobMetadata) -> bool:
        """Write a blob and its metadata; return False if the mode is create and it exists."""
        try:
            if self._index is not None:
                put = Put(key, data, line_of(metadata), mode == "overwrite")
                return await self._put_local(self._index, put)
            if self._in_memory:
                self._settle()  # nothing to wait for: 3 µs, where a thread costs 50
                self._put_in_memory(key, data, mode, metadata)
            else:
                await obstore.put_async(
                    self._store, key, data,
                    mode=mode, attributes=attributes(metadata), use_multipart=False,
                )  # fmt: skip
        except AlreadyExistsError:
            return False
        except FileNotFoundError as error:
            if self._index is None:
                raise StoreError(
                    f"the blob store at {self.base_uri} cannot be written: there is no such bucket "
                    "or container. Make it, or say where it is."
                ) from error
            raise self._failed("written", error) from error
        except ERRORS as error:
            raise self._failed("written", error) from error
        return True

    def _settle(self) -> None:
        """Hand what ``put_now`` took to the store: that costs ten times as much."""
        while self._taken:
            key, (data, metadata) = self._taken.popitem()
            self._put_in_memory(key, data, "create", metadata)

    def _put_in_memory(self, key: str, data: bytes, mode: PutMode, metadata: BlobMetadata) -> None:
        self._known.add(key)
        obstore.put(
            self._store, key, data,
            mode=mode, attributes=attributes(metadata), use_multipart=False,
        )  # fmt: skip

    async def _put_local(self, index: LocalIndex, put: Put) -> bool:
        if self._writers is not None:
            outcome = await self._writers.put(put)
        else:
            loop = asyncio.get_running_loop()
            outcome = await loop.run_in_executor(self._threads, perform, index, put)
        if outcome.errno:
            raise OSError(outcome.errno, os.strerror(outcome.errno))
        return not outcome.existed

    async def _get(self, key: str) -> tuple[bytes, BlobMetadata | None] | None:
        """Return a blob's bytes and the metadata that came with them; None: it is not there."""
        self._settle()
        try:
            answer = await obstore.get_async(self._store, key)
            data = bytes(await answer.bytes_async())
        except FileNotFoundError:
            return None
        except ERRORS as error:
            raise self._failed("read", error) from error
        return data, None if self._index else from_attributes(dict(answer.attributes))

    async def _read(self, key: str) -> ImageRef | None:
        """Read a picture and say what it is; None: absent or not a whole picture."""
        got = await self._get(key)
        if got is None:
            return None
        data, metadata = got
        frame = read_picture(data)
        if frame is None:
            return None
        if self._index is not None:
            metadata = await self._read_index(self._index, key, frame.sha256)
        frame_at_ms = frame.frame_at_ms
        if metadata is not None and metadata.sha256 == frame.sha256:
            frame_at_ms = metadata.frame_at_ms
        elif self._index is None:
            return None  # the metadata came with these very bytes: they are damaged
        until_ms = None if metadata is None else metadata.keep_until_ms
        return ImageRef(
            self.uri(key), frame.sha256, len(data), frame.width_px, frame.height_px, frame.format,
            frame_at_ms, until_ms, {} if metadata is None else hashes_beside(metadata),
        )  # fmt: skip

    async def _read_index(self, index: LocalIndex, key: str, sha256: str) -> BlobMetadata | None:
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._threads, index.find, key, sha256)
        except OSError as error:
            raise self._failed("read", error) from error

    def _failed(self, verb: str, error: Exception) -> StoreError:
        return explain(f"the blob store at {self.base_uri} cannot be {verb}", error)


def open_store(url: str) -> ObjectStore:
    """Open an object store with waits that fit a capture: a few seconds."""
    return open_remote(url, answer_s=5, connect_s=2, retries=2, retry_s=3)
