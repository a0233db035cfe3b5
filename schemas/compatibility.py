"""Whether today's schemas and every released one can read each other: *full transitive*.

``python -m schemas.compatibility check`` prints what is wrong, and exits 1 if anything is.
``python -m schemas.compatibility release`` checks, then freezes each schema that differs from its
newest release as the next ``released/<Name>/<n>.avsc``. A released file is never changed after it
was published. (One that was not published yet may be deleted and released again.)

**Theory.** A log is read for years and workers are replaced one by one, so new code reads old
records and old code reads new ones. For each record and each release two readings must be possible:
today's schema reads what the release wrote, and the release reads what today's writes. Possible is
what the Avro 1.12 specification, "Schema Resolution", says, with one addition: a name never changes
(aliases are not used), since names are also subjects and classes.

**Example.** A field ``zone: string`` is added to ``ScheduleSpec``. The release writes no ``zone``;
today's reader needs one: incompatible, unless the field has a default, which it then takes. The
other way round the release's reader skips what it does not know. So what may change is this: a
field with a default may be added or removed, and docs, units and defaults may be changed.

Cost: both directions of all 26 records take some milliseconds a release.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING, Final, NamedTuple, cast

from fastavro.schema import SchemaParseException, parse_schema

from schemas.catalogue import RELEASED_DIR, current_schemas, released_schemas
from schemas.errors import SchemaError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from schemas.catalogue import Json, Schema

_PROMOTIONS: Final = frozenset(
    {
        ("int", "long"),
        ("int", "float"),
        ("int", "double"),
        ("long", "float"),
        ("long", "double"),
        ("float", "double"),
        ("string", "bytes"),
        ("bytes", "string"),
    }
)
"""(writer, reader) pairs of primitive types that resolve though they differ."""


class Problem(NamedTuple):
    """Why a reader's schema cannot read what a writer's schema wrote."""

    field: str
    """Path of the field, such as ``transitions[].cause``; empty: the record itself."""
    problem: str
    advice: str


class Finding(NamedTuple):
    """One incompatibility between today's schema and a release."""

    record: str
    """Full name."""
    release: int
    """The release that is not compatible; 0: the record has no schema any more."""
    direction: str
    field: str
    problem: str
    advice: str

    def __str__(self) -> str:
        where = f"{self.record}.{self.field}" if self.field else self.record
        return f"{where}: {self.problem} ({self.direction} release {self.release}). {self.advice}"


class _Types:
    """A schema with all its names resolved."""

    def __init__(self, schema: Schema) -> None:
        try:
            parsed = cast("Schema", parse_schema(json.loads(json.dumps(schema))))
            self.named = cast("dict[str, Schema]", parsed["__named_schemas"])
        except (SchemaParseException, LookupError, TypeError, ValueError) as error:
            raise SchemaError(f"not a valid Avro record schema: {error}") from error
        self.root = parsed

    def full(self, node: Json) -> Json:
        """Return the definition behind a name, or the bare name of a primitive type."""
        if isinstance(node, str):
            return self.named.get(node, node)
        if isinstance(node, dict) and isinstance(node["type"], str) and len(node) == 1:
            return node["type"]
        return node


def _kind(node: Json) -> str:
    """Return ``union``, a complex type's word, or a primitive type's name."""
    if isinstance(node, list):
        return "union"
    if isinstance(node, dict):
        return str(node["type"])
    return str(node)


def _text(node: Json) -> str:
    """Return a type as a person would call it."""
    if isinstance(node, list):
        return " or ".join(_text(branch) for branch in node)
    if isinstance(node, dict):
        return str(node.get("name", node["type"]))
    return str(node)


def unreadable(*, reader: Schema, writer: Schema) -> list[Problem]:
    """Return why ``reader`` cannot read all that ``writer`` writes; empty: it can.

    Both are self-contained record schemas; :class:`SchemaError` if one is not valid.
    """
    resolver = _Resolver(_Types(reader), _Types(writer))
    return resolver.compare(resolver.reader.root, resolver.writer.root, "")


class _Resolver:
    """The rules of "Schema Resolution", as a walk over both schemas at once."""

    def __init__(self, reader: _Types, writer: _Types) -> None:
        self.reader = reader
        self.writer = writer
        self._under_way: set[tuple[str, str]] = set()

    def compare(self, reads: Json, writes: Json, path: str) -> list[Problem]:
        """Return the problems of reading ``writes`` as ``reads``."""
        reads, writes = self.reader.full(reads), self.writer.full(writes)
        if isinstance(writes, list):
            return [p for branch in writes for p in self.compare(reads, branch, path)]
        if isinstance(reads, list):
            if any(not self.compare(branch, writes, path) for branch in reads):
                return []
            return self._nearest(reads, writes, path)
        kind = _kind(reads)
        if kind != _kind(writes):
            if (_kind(writes), kind) in _PROMOTIONS:
                return []
            return [
                Problem(
                    path,
                    f"{_text(writes)} cannot be read as {_text(reads)}",
                    "Keep the type, and add a new field with a default for the new one.",
                )
            ]
        if not (isinstance(reads, dict) and isinstance(writes, dict)):
            return []
        return self._complex(kind, reads, writes, path)

    def _nearest(self, reads: list[Json], writes: Json, path: str) -> list[Problem]:
        """Return the problems of the branch that is meant, or that there is none."""
        for branch in map(self.reader.full, reads):
            same_name = (
                isinstance(branch, dict)
                and isinstance(writes, dict)
                and (branch.get("name") == writes.get("name"))
            )
            if same_name and _kind(branch) == _kind(writes):
                return self.compare(branch, writes, path)
        return [
            Problem(
                path,
                f"{_text(writes)} is not one of {_text(reads)}",
                "Keep the branch: a branch of a union can be neither removed nor added.",
            )
        ]

    def _complex(self, kind: str, reads: Schema, writes: Schema, path: str) -> list[Problem]:
        if kind == "array":
            return self.compare(reads["items"], writes["items"], f"{path}[]")
        if kind == "map":
            return self.compare(reads["values"], writes["values"], f"{path}{{}}")
        if "name" in reads and reads["name"] != writes["name"]:
            return [
                Problem(
                    path,
                    f"the type {writes['name']} is called {reads['name']} by the reader",
                    "Keep the name; a new name is a new record beside the old one.",
                )
            ]
        if kind == "fixed" and reads["size"] != writes["size"]:
            return [Problem(path, "the size of a fixed type differs", "Keep the size.")]
        if kind == "enum":
            return self._enum(reads, writes, path)
        if kind == "record":
            return self._record(reads, writes, path)
        return []

    def _enum(self, reads: Schema, writes: Schema, path: str) -> list[Problem]:
        known = cast("list[str]", reads["symbols"])
        lost = [s for s in cast("list[str]", writes["symbols"]) if s not in known]
        if not lost or "default" in reads:
            return []
        return [
            Problem(
                path,
                f"the reader's enum lacks {', '.join(lost)}",
                "Keep every symbol, or give the enum a default from its first release on.",
            )
        ]

    def _record(self, reads: Schema, writes: Schema, path: str) -> list[Problem]:
        pair = (str(reads["name"]), str(writes["name"]))
        if pair in self._under_way:
            return []
        self._under_way.add(pair)
        found: list[Problem] = []
        written = {str(f["name"]): f for f in cast("list[Schema]", writes["fields"])}
        for field in cast("list[Schema]", reads["fields"]):
            name = str(field["name"])
            below = f"{path}.{name}" if path else name
            if name in written:
                found += self.compare(field["type"], written[name]["type"], below)
            elif "default" not in field:
                found.append(
                    Problem(
                        below,
                        "the reader needs this field, the writer does not write it, "
                        "and it has no default",
                        "Give the field a default, or keep it; only a field that has a default "
                        "may be added or removed.",
                    )
                )
        self._under_way.discard(pair)
        return found


def has_empty_items(schema: Schema) -> bool:
    """Return whether an array's or map's items may take no bytes, so that no input bounds them.

    Map entries have a key and are never empty; only a type such as ``null`` or a record of nulls
    is. A schema of ours never has one, a registry may hold anything.
    """
    types = _Types(schema)

    def empty(node: Json, inside: frozenset[str]) -> bool:
        node = types.full(node)
        if isinstance(node, dict) and node["type"] == "record":
            name = str(node["name"])
            fields = cast("list[Schema]", node["fields"])
            return name not in inside and all(
                empty(field["type"], inside | {name}) for field in fields
            )
        return node == "null" or (isinstance(node, dict) and node.get("size") == 0)

    def arrays(node: Json) -> list[Json]:
        if isinstance(node, list):
            return [item for branch in node for item in arrays(branch)]
        if not isinstance(node, dict):
            return []
        own = [node["items"]] if node["type"] == "array" else []
        parts = [v for k, v in node.items() if k in {"type", "items", "values", "fields"}]
        return own + [item for part in parts for item in arrays(part)]

    return any(empty(item, frozenset()) for item in arrays(types.root))


def check(
    current: Mapping[str, Schema], released: Mapping[str, Mapping[int, Schema]]
) -> list[Finding]:
    """Return every incompatibility of today's schemas with any release, both directions."""
    found: list[Finding] = []
    for record, versions in released.items():
        if record not in current:
            found.append(
                Finding(
                    record,
                    max(versions),
                    "reading",
                    "",
                    "the record was released and has no schema any more",
                    "Keep the schema: topics still hold such records.",
                )
            )
            continue
        today = current[record]
        for release, old in versions.items():
            for direction, problems in (
                ("reading", unreadable(reader=today, writer=old)),
                ("read by", unreadable(reader=old, writer=today)),
            ):
                found += [Finding(record, release, direction, *problem) for problem in problems]
    return found


def _essence(node: Json) -> Json:
    """Return a schema without what only people read."""
    if isinstance(node, list):
        return [_essence(part) for part in node]
    if isinstance(node, dict):
        return {k: _essence(v) for k, v in node.items() if k not in {"doc", "unit"}}
    return node


def unreleased(
    current: Mapping[str, Schema], released: Mapping[str, Mapping[int, Schema]]
) -> list[str]:
    """Return the full names whose schema differs from its newest release, or has none."""
    names = []
    for record, schema in current.items():
        versions = released.get(record, {})
        if not versions or _essence(versions[max(versions)]) != _essence(schema):
            names.append(record)
    return names


def release(
    current: Mapping[str, Schema], directory: Path = RELEASED_DIR
) -> tuple[list[Path], list[Finding]]:
    """Freeze what differs from its newest release; return the files written, or the findings."""
    released = released_schemas(directory)
    findings = check(current, released)
    if findings:
        return [], findings
    written = []
    for record in unreleased(current, released):
        folder = directory / record.rpartition(".")[2]
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{max(released.get(record, {0: {}})) + 1}.avsc"
        path.write_text(json.dumps(current[record], indent=2) + "\n", encoding="utf-8")
        written.append(path)
    return written, []


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code: 0 compatible, 1 not."""
    parser = argparse.ArgumentParser(
        prog="python -m schemas.compatibility",
        description="Check today's schemas against every release, or release them.",
    )
    parser.add_argument("action", choices=("check", "release"))
    action = parser.parse_args(arguments).action
    try:
        current = current_schemas()
        if action == "release":
            written, findings = release(current)
            for path in written:
                print(f"released {path}")
        else:
            released = released_schemas()
            findings = check(current, released)
            for record in unreleased(current, released):
                print(f"{record}: differs from its newest release (`release` freezes it)")
    except SchemaError as error:
        print(error.line(), file=sys.stderr)
        return 1
    for finding in findings:
        print(finding, file=sys.stderr)
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
