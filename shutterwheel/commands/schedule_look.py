"""``shutterwheel schedule preview``, ``explain-schedule`` and ``schema``: nothing is touched."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from shutterwheel.context import AsJson

if TYPE_CHECKING:
    pass


def register(group: typer.Typer) -> None:
    """Add the commands."""
    group.command("schema", epilog=SCHEMA_EXAMPLES)(schema)


SCHEMA_EXAMPLES = """
Example:

  shutterwheel schedule schema > manifest.schema.json
"""


def schema(as_json: AsJson = True) -> None:
    """Print the JSON Schema of manifests, for editors that complete and check them.

    In the first line of a manifest: '# yaml-language-server: $schema=manifest.schema.json'.
    """
    import json

    from shutterwheel.manifest_schema import schema as make

    del as_json  # it is JSON in any case
    typer.echo(json.dumps(make(), indent=2, ensure_ascii=False))
