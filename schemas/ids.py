"""Schema ids: which 32-bit number on the wire stands for which writer schema.

Confluent's wire format puts a schema id before each value. Where there is a Schema Registry, it
gives out the ids (``schemas/registry.py``). Where there is none, :class:`FingerprintIds` derives
them from the schemas themselves, so that every process finds the same ids and none has to ask.

**Fingerprint.** The Avro 1.12 specification, "Parsing Canonical Form for Schemas", strips a schema
of all that does not change how bytes are read (docs, defaults, our ``unit``); "Schema Fingerprints"
recommends SHA-256 over that text. The id is the first 32 bits of that digest, big-endian, with the
top bit cleared, since Java reads the id as a signed ``int``. With n schemas the chance that any two
collide is about n²/2³²: one in a million at 64. A collision is an error when the schemas are
loaded, which any test run finds before release; renaming a field of the newer schema resolves it.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Protocol

from fastavro.schema import to_parsing_canonical_form

from schemas.catalogue import Schema, current_schemas, released_schemas
from schemas.errors import SchemaError

if TYPE_CHECKING:
    from collections.abc import Mapping


class SchemaIds(Protocol):
    """Where schema ids come from."""

    def id_of(self, name: str) -> int:
        """Return the id, 0 to 2³¹ - 1, under which today's schema of ``name`` is written.

        ``name`` is a full name such as ``shutterwheel.CaptureCommand``. Raises
        :class:`SchemaError` if there is none, :class:`BrokerError` if it cannot be asked for now.
        """
        ...

    def schema_of(self, schema_id: int) -> tuple[str, Schema] | None:
        """Return (full name, self-contained writer schema), or None if no schema has this id.

        Raises :class:`BrokerError` if that cannot be found out now.
        """
        ...


def canonical_form(schema: Schema) -> str:
    """Return the Parsing Canonical Form (Avro 1.12 specification) of a self-contained schema."""
    return str(to_parsing_canonical_form(schema))


def fingerprint_id(schema: Schema) -> int:
    """Return the id derived from the schema's SHA-256 fingerprint, 1 to 2³¹ - 1."""
    digest = hashlib.sha256(canonical_form(schema).encode()).digest()
    return (int.from_bytes(digest[:4], "big") & 0x7FFF_FFFF) or 1


class FingerprintIds:
    """Ids derived from the schemas: today's and every released one. Needs no server.

    Raises :class:`SchemaError` if two different schemas come to the same id.
    """

    def __init__(
        self,
        current: Mapping[str, Schema] | None = None,
        released: Mapping[str, Mapping[int, Schema]] | None = None,
    ) -> None:
        current = current_schemas() if current is None else current
        released = released_schemas() if released is None else released
        self._ids: dict[str, int] = {}
        self._schemas: dict[int, tuple[str, Schema]] = {}
        self._forms: dict[int, str] = {}
        for name, schema in current.items():
            self._ids[name] = self._add(name, schema)
        for name, versions in released.items():
            for schema in versions.values():
                self._add(name, schema)

    def _add(self, name: str, schema: Schema) -> int:
        schema_id = fingerprint_id(schema)
        form = canonical_form(schema)
        known = self._forms.setdefault(schema_id, form)
        if known != form:
            other = self._schemas[schema_id][0]
            raise SchemaError(
                f"the schemas {other} and {name} have the same id {schema_id} by chance: "
                "rename a field or a type of the newer one"
            )
        self._schemas.setdefault(schema_id, (name, schema))
        return schema_id

    def id_of(self, name: str) -> int:
        """See :class:`SchemaIds`."""
        try:
            return self._ids[name]
        except KeyError:
            raise SchemaError(f"there is no schema named {name}") from None

    def schema_of(self, schema_id: int) -> tuple[str, Schema] | None:
        """See :class:`SchemaIds`."""
        return self._schemas.get(schema_id)
