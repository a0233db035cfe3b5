"""A site of the runtime's tests: topics of their own and worker processes that end with the test."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from runtime_harness import Site

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def site(kafka: str, namespace: str, tmp_path: Path) -> Iterator[Site]:
    """Two partitions and no worker yet."""
    made = Site(kafka, namespace, tmp_path)
    yield made
    made.close()
