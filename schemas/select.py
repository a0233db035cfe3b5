"""Which source of schema ids to use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from schemas.ids import FingerprintIds

if TYPE_CHECKING:
    from schemas.ids import SchemaIds


def schema_ids(registry_url: str = "") -> SchemaIds:
    """Return ids from the Schema Registry at this URL, or from fingerprints where it is empty."""
    if not registry_url:
        return FingerprintIds()
    from schemas.registry import RegistryIds, RegistrySettings

    return RegistryIds(RegistrySettings(registry_url))
