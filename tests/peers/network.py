"""A network for tests: :class:`benchmarks.network.Lan`, which skips the test where it cannot be."""

from __future__ import annotations

from typing import Self

from peer import PeerMissing

from benchmarks import network


class Lan(network.Lan):
    """The searcher's namespace and one for each peer; see :mod:`benchmarks.network`."""

    def __enter__(self) -> Self:
        try:
            return super().__enter__()
        except network.NoNetworkError as error:
            raise PeerMissing(str(error)) from error
