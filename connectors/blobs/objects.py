"""Plain files by key, in a folder or an object store: what an archive is kept in.

Beside :mod:`connectors.blobs.store`, which keeps pictures and what is known of them, this keeps
bytes. A key is written once: a conditional put says no where there is one. In a folder a file is
whole under its name or not there, and fsynced with its folder before that is said, as an archive is
what is left after a disaster.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import AlreadyExistsError
from obstore.store import LocalStore

from connectors.blobs.local import write_file
from connectors.blobs.remote import open_remote
from connectors.blobs.store import ERRORS, LIST_CHUNK
from connectors.cameras.frame import clean
from schemas.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from obstore.store import ObjectStore


class ObjectFiles:
    """Files of one place. Blocking; raises StoreError. Implements ``streams.replay``'s port."""

    def __init__(self, store: ObjectStore, name: str, folder: Path | None = None) -> None:
        self._store = store
        self._folder = folder
        self.name = name

    @classmethod
    def open(cls, location: str | Path, *, make: bool = False) -> ObjectFiles:
        """Open a folder (``make``: made if absent), ``file:///path``, ``s3://bucket/prefix``, ….

        Raises StoreError if it cannot be used or the URL is not understood.
        """
        text = str(location)
        scheme = urlsplit(text).scheme if "://" in text else ""
        try:
            if scheme in {"", "file"}:
                path = Path(unquote(urlsplit(text).path) if scheme else text).expanduser()
                path = path.absolute()
                if not make and not path.is_dir():
                    raise StoreError(f"There is no folder {clean(str(path))}.")
                return cls(LocalStore(path, mkdir=make), str(path), path)
            # Files are up to some tens of MB: more patience than a picture gets.
            store = open_remote(text, answer_s=60, connect_s=5, retries=5, retry_s=60)
            return cls(store, text)
        except ERRORS as error:
            raise StoreError(f"{clean(text)} cannot be opened: {_why(error)}.") from error

    def put_new(self, key: str, data: bytes) -> bool:
        """Write a file, whole and lastingly; False, and nothing written, where there is one."""
        try:
            if self._folder is not None:
                return self._put_local(self._folder / key, data)
            obstore.put(self._store, key, data, mode="create", use_multipart=False)
        except AlreadyExistsError:
            return False
        except ERRORS as error:
            raise self._failed("written to", error) from error
        return True

    def get(self, key: str) -> bytes | None:
        """Return a file's bytes; None: there is none."""
        try:
            return bytes(obstore.get(self._store, key).bytes())
        except FileNotFoundError:
            return None
        except ERRORS as error:
            raise self._failed("read", error) from error

    def get_range(self, key: str, start: int, end: int) -> bytes | None:
        """Return the bytes ``start`` <= position < ``end``, or as many of them as there are."""
        if start >= end:
            return b""
        if self._folder is not None:  # 30 µs less than the library takes, and two a block
            try:
                with (self._folder / key).open("rb") as file:
                    return os.pread(file.fileno(), end - start, start)
            except FileNotFoundError:
                return None
            except OSError as error:
                raise self._failed("read", error) from error
        try:
            return bytes(obstore.get_range(self._store, key, start=start, end=end))
        except FileNotFoundError:
            return None
        except ERRORS as error:
            raise self._failed("read", error) from error

    def keys(self, prefix: str) -> Iterator[str]:
        """Yield the keys under a folder, in no order."""
        try:
            for chunk in obstore.list(self._store, prefix=prefix, chunk_size=LIST_CHUNK):
                for meta in chunk:
                    yield meta["path"]
        except ERRORS as error:
            raise self._failed("listed", error) from error

    @staticmethod
    def _put_local(path: Path, data: bytes) -> bool:
        new = not path.parent.is_dir()
        try:
            write_file(path, data)
        except FileExistsError:
            return False
        above = (path.parent.parent, path.parent.parent.parent) if new else ()
        for one in (path, path.parent, *above):
            handle = os.open(one, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
        return True

    def _failed(self, verb: str, error: Exception) -> StoreError:
        return StoreError(f"The archive at {clean(self.name)} cannot be {verb}: {_why(error)}.")


def _why(error: Exception) -> str:
    number = getattr(error, "errno", None)
    return os.strerror(number) if number else clean(str(error).partition("\n")[0])
