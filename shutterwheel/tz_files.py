"""Further versions of the tz data, for logs that were made under them: ``--tz FOLDER``.

A folder holds a ``tzdata`` package, as ``pip install --target FOLDER tzdata==2026.5`` makes it; the
database's version 2026e is the package's 2026.5 (it counts from 2026a as 2026.1).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from schemas.errors import UsageError
from streams.core.recurrence.zones import TzData, know

if TYPE_CHECKING:
    from collections.abc import Iterable


def tz_in(folder: str) -> TzData:
    """Return the tz data in a folder. Raises UsageError where there are none."""
    root = Path(folder) / "tzdata"
    try:
        text = (root / "__init__.py").read_text(encoding="utf-8")
    except OSError:
        text = ""
    found = re.search(r"IANA_VERSION = [\"'](\w+)[\"']", text)
    if found is None or not (root / "zones").is_file():
        raise UsageError(
            f"--tz {folder}: there is no tzdata package in it; make one by `pip install --target"
            f" {folder} tzdata==YEAR.N`, where 2026.6 is 2026f."
        )
    return TzData(found[1], root)


def know_tz(folders: Iterable[str]) -> None:
    """Have further versions at hand in this process. Raises UsageError as ``tz_in``."""
    for folder in folders:
        know(tz_in(folder))
