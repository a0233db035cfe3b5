"""What an archive asks of a place to keep files; handed in (``connectors/blobs/objects.py``)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator


class Objects(Protocol):
    """Files by key. Blocking; each call raises StoreError where the place cannot be used."""

    def put_new(self, key: str, data: bytes) -> bool:
        """Write a file, whole and lastingly; False, and nothing written, where there is one."""
        ...

    def get(self, key: str) -> bytes | None:
        """Return a file's bytes; None: there is none."""
        ...

    def get_range(self, key: str, start: int, end: int) -> bytes | None:
        """Return the bytes ``start`` <= position < ``end``, or as many of them as there are."""
        ...

    def keys(self, prefix: str) -> Iterator[str]:
        """Yield the keys under a folder, in no order."""
        ...


class MemoryObjects:
    """Files in a dict, for tests."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}

    def put_new(self, key: str, data: bytes) -> bool:
        """See :class:`Objects`."""
        return self.files.setdefault(key, data) is data

    def get(self, key: str) -> bytes | None:
        """See :class:`Objects`."""
        return self.files.get(key)

    def get_range(self, key: str, start: int, end: int) -> bytes | None:
        """See :class:`Objects`."""
        data = self.files.get(key)
        return None if data is None else data[start:end]

    def keys(self, prefix: str) -> Iterator[str]:
        """See :class:`Objects`."""
        return iter([key for key in self.files if key.startswith(f"{prefix}/")])
