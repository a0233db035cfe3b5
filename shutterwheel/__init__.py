"""Event-sourced, timed photo capture: the few names that programs use.

    from shutterwheel import Publisher, find_cluster, results

``Publisher`` is the way in for upstream programs, ``results`` the way out for downstream ones, and
``find_cluster`` says where the Kafka is that ``shutterwheel up`` runs here. They are imported when
they are first used: what only asks for help need not wait for a Kafka client.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from connectors.clients.publisher import Publisher
    from connectors.clients.results import results
    from shutterwheel.context import find_cluster

__all__ = ["Publisher", "find_cluster", "results"]

_HOMES = {
    "Publisher": "connectors.clients.publisher",
    "results": "connectors.clients.results",
    "find_cluster": "shutterwheel.context",
}


def __getattr__(name: str) -> object:
    """Import a public name when it is first asked for (PEP 562)."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'shutterwheel' has no attribute {name!r}")
    return getattr(import_module(home), name)
