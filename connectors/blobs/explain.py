"""What a store's error says to a person: what failed and why, in one line."""

from __future__ import annotations

import os
import re
from typing import Final

from obstore.exceptions import PermissionDeniedError, UnauthenticatedError

from connectors.cameras.frame import clean
from schemas.errors import StoreError

OS_ERROR: Final = re.compile(r"\(os error (\d+)\)")
FULL: Final = re.compile(r"507 Insufficient|QuotaExceeded|StorageFull|no space left", re.IGNORECASE)
"""What object stores say: by status (RFC 4918, 11.5), by code, by their own disk's error."""
ENOSPC: Final = 28
EDQUOT: Final = 122


def explain(what: str, error: Exception) -> StoreError:
    """Return a StoreError of one line: what failed, and the operating system's reason."""
    text = str(error)
    found = OS_ERROR.search(text)
    number = int(found[1]) if found else getattr(error, "errno", None)
    if number in {ENOSPC, EDQUOT}:
        return StoreError(f"{what}: the disk is full. Free some space or delete old pictures.")
    if FULL.search(text):
        return StoreError(f"{what}: it is full. Make it larger or delete old pictures.")
    if isinstance(error, PermissionDeniedError | UnauthenticatedError):
        return StoreError(f"{what}: it does not let us in. Check the credentials and their rights.")
    reason = os.strerror(number) if number else text.partition("\n")[0]
    return StoreError(f"{what}: {clean(reason)}.")
