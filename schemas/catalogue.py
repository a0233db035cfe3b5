"""The Avro schemas on disk: today's, one type a file, and the released ones, frozen and whole.

``avro/<Name>.avsc`` defines one named type and refers to others by full name, so a type has one
definition. What goes to a registry, into a fingerprint or into ``released/<Name>/<n>.avsc`` is the
*self-contained* schema: the same, with each referenced type written out where it is first used
(Avro 1.12 specification, "Names": a name must be defined before it is used, in the order of a
depth-first, left-to-right walk).
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias, cast

from schemas.errors import SchemaError
from schemas.records import RECORDS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from schemas.records import Record

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"
Schema: TypeAlias = dict[str, Json]
"""A record schema as parsed JSON."""

NAMESPACE: Final = "shutterwheel"
AVRO_DIR: Final = Path(__file__).parent / "avro"
RELEASED_DIR: Final = Path(__file__).parent / "released"


def full_name(record: type[Record]) -> str:
    """Return the Avro full name of a record class, such as ``shutterwheel.CaptureCommand``."""
    return f"{NAMESPACE}.{record.__name__}"


def read_schema(path: Path) -> Schema:
    """Read one schema file. Raises :class:`SchemaError` that names the file."""
    try:
        schema = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SchemaError(f"{path}: not a readable schema file: {error}") from error
    if not isinstance(schema, dict) or schema.get("type") != "record":
        raise SchemaError(f"{path}: expected a JSON object of type 'record'")
    return schema


def definitions(directory: Path = AVRO_DIR) -> dict[str, Schema]:
    """Return every type defined in ``directory``, by full name, with references unresolved."""
    found: dict[str, Schema] = {}
    for path in sorted(directory.glob("*.avsc")):
        schema = read_schema(path)
        if schema.get("name") != path.stem or schema.get("namespace") != NAMESPACE:
            raise SchemaError(f"{path}: expected the name {path.stem} in namespace {NAMESPACE}")
        found[f"{NAMESPACE}.{path.stem}"] = schema
    return found


def self_contained(name: str, types: Mapping[str, Schema]) -> Schema:
    """Return the schema ``name`` with every referenced type written out at its first use.

    Raises :class:`SchemaError` for a name that no file defines.
    """
    seen: set[str] = set()

    def walk(node: Json) -> Json:
        if isinstance(node, list):
            return [walk(branch) for branch in node]
        if isinstance(node, str) and "." in node:
            return expand(node)
        if isinstance(node, dict):
            return {
                key: walk(value) if key in {"type", "items", "values"} else value
                for key, value in node.items()
            }
        return node

    def expand(type_name: str) -> Json:
        if type_name in seen:
            return type_name
        if type_name not in types:
            raise SchemaError(f"{name}: the type {type_name} is not defined in any schema file")
        seen.add(type_name)
        schema = types[type_name]
        fields = cast("list[Json]", schema["fields"])
        return {**schema, "fields": [walk(field) for field in fields]}

    return cast("Schema", expand(name))


@cache
def current_schemas() -> dict[str, Schema]:
    """Return today's self-contained schema of every class in ``RECORDS``, by full name."""
    types = definitions()
    return {full_name(record): self_contained(full_name(record), types) for record in RECORDS}


def released_schemas(directory: Path = RELEASED_DIR) -> dict[str, dict[int, Schema]]:
    """Return every released schema: full name to version (1, 2 …) to self-contained schema."""
    found: dict[str, dict[int, Schema]] = {}
    for path in sorted(directory.glob("*/*.avsc")):
        if not path.stem.isdecimal():
            raise SchemaError(f"{path}: a released schema is named by its number, such as 1.avsc")
        found.setdefault(f"{NAMESPACE}.{path.parent.name}", {})[int(path.stem)] = read_schema(path)
    return {name: dict(sorted(versions.items())) for name, versions in found.items()}
