"""Where image bytes are kept: :class:`BlobStore`, and what it answers."""

from __future__ import annotations

from connectors.blobs.store import BlobEntry, BlobStore, Stored

__all__ = ["BlobEntry", "BlobStore", "Stored"]
