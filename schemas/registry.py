"""Schema ids from a Schema Registry: Confluent's REST interface, which Apicurio and Karapace speak.

Record-name strategy: the subject of a schema is its full name, so several record types may share a
topic, and a type used on two topics has one subject. What is registered is the self-contained
schema, so that no registry needs to know about references.

Ids are asked for when the process starts. Later the registry is asked only for an id that was never
seen before: that call blocks, at most ``timeout_ms`` a try, and happens once an id.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar, cast
from weakref import finalize

import httpx2
from confluent_kafka.schema_registry import Schema as ConfluentSchema
from confluent_kafka.schema_registry import SchemaRegistryClient, SchemaRegistryError

from schemas.catalogue import Schema, current_schemas
from schemas.errors import BrokerError, SchemaError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

T = TypeVar("T")

_NOT_FOUND: Final = 404
_CONFLICT: Final = 409
_SERVER_ERROR: Final = 500
_TOO_MANY: Final = 429
_UNKNOWN_IDS: Final = 1_000
"""Most ids remembered as unknown; poison records may carry any."""


@dataclass(frozen=True, slots=True)
class RegistrySettings:
    """How to reach the registry."""

    url: str
    """``http(s)://host:port``, or several with commas between them."""
    register: bool = True
    """Register today's schemas at start; False: only look them up."""
    timeout_ms: int = 5_000
    """Bound of one HTTP request, 100 to 60,000."""
    retries: int = 2
    """Tries after the first one, 0 to 10."""
    unknown_memory_ms: int = 30_000
    """How long an id that the registry did not know is not asked for again, 0 to 600,000."""
    user: str = ""
    """User name for basic authentication; empty: none."""
    password: str = ""

    def client(self) -> SchemaRegistryClient:
        """Return a client. Raises :class:`SchemaError` for an address that cannot be one."""
        conf: dict[str, object] = {
            "url": self.url,
            "timeout": self.timeout_ms / 1000,
            "max.retries": self.retries,
            "retries.wait.ms": 100,
            "retries.max.wait.ms": 1_000,
        }
        if self.user:
            conf["basic.auth.user.info"] = f"{self.user}:{self.password}"
        try:
            return SchemaRegistryClient(conf)
        except (ValueError, TypeError) as error:
            raise SchemaError(
                f"{self.url!r} is not the address of a schema registry: {error}. "
                "Give it as http://host:port."
            ) from error


class RegistryIds:
    """Ids given out by a registry. Safe to share between threads.

    Raises :class:`SchemaError` if the registry refuses or lacks one of today's schemas,
    :class:`BrokerError` if it cannot be reached. ``clock`` gives monotonic seconds.
    """

    def __init__(
        self,
        settings: RegistrySettings,
        current: Mapping[str, Schema] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._client = settings.client()
        self._hang_up = finalize(self, self._client.close)
        self._schemas: dict[int, tuple[str, Schema]] = {}
        self._unknown: dict[int, float] = {}
        self._ids: dict[str, int] = {}
        try:
            for name, schema in (current_schemas() if current is None else current).items():
                schema_id = self._start(name, schema)
                self._ids[name] = schema_id
                self._schemas[schema_id] = (name, schema)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the connections to the registry; whoever lets go of the ids does so as well."""
        self._hang_up()

    def id_of(self, name: str) -> int:
        """See :class:`schemas.ids.SchemaIds`."""
        try:
            return self._ids[name]
        except KeyError:
            raise SchemaError(f"there is no schema named {name}") from None

    def schema_of(self, schema_id: int) -> tuple[str, Schema] | None:
        """See :class:`schemas.ids.SchemaIds`. Only Avro records count as schemas."""
        known = self._schemas.get(schema_id)
        if known is not None:
            return known
        if self._clock() < self._unknown.get(schema_id, 0.0):
            return None
        found = self._fetch(schema_id)
        if found is None:
            if len(self._unknown) >= _UNKNOWN_IDS:
                self._unknown.clear()
            self._unknown[schema_id] = self._clock() + self._settings.unknown_memory_ms / 1000
            return None
        self._schemas[schema_id] = found
        return found

    def _start(self, name: str, schema: Schema) -> int:
        """Return the id of one of today's schemas, registering it if that is wanted."""
        asked = ConfluentSchema(json.dumps(schema), "AVRO")
        schema_id: object
        if self._settings.register:
            schema_id = self._ask(lambda: self._client.register_schema(name, asked), name)
        else:
            schema_id = self._ask(lambda: self._client.lookup_schema(name, asked), name).schema_id
        if not isinstance(schema_id, int):
            raise self._strange(f"it gave no id for {name}")
        return schema_id

    def _fetch(self, schema_id: int) -> tuple[str, Schema] | None:
        try:
            found = self._ask(lambda: self._client.get_schema(schema_id), f"id {schema_id}")
        except _NotFoundError:
            return None
        try:
            schema = json.loads(found.schema_str or "")
        except ValueError:
            return None
        if found.schema_type not in {None, "AVRO"} or not isinstance(schema, dict):
            return None
        name = str(schema.get("name", ""))
        if "." not in name and schema.get("namespace"):
            name = f"{schema['namespace']}.{name}"
        return name, cast("Schema", schema)

    def _ask(self, request: Callable[[], T], what: str) -> T:
        """Return the registry's answer, or raise one of our errors."""
        try:
            return request()
        except SchemaRegistryError as error:
            code = error.http_status_code
            if code == _NOT_FOUND:
                raise _NotFoundError(
                    f"the schema registry at {self._settings.url} has no schema for {what}. "
                    "Register today's schemas there, or let this program do it."
                ) from error
            if code >= _SERVER_ERROR or code == _TOO_MANY:
                raise BrokerError(
                    f"the schema registry at {self._settings.url} failed: {error}"
                ) from error
            hint = "Run `python -m schemas.compatibility check`." if code == _CONFLICT else ""
            raise SchemaError(
                f"the schema registry at {self._settings.url} refused {what}: {error}. {hint}"
            ) from error
        except httpx2.HTTPError as error:
            raise BrokerError(
                f"the schema registry at {self._settings.url} cannot be reached: {error}"
            ) from error
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise self._strange(str(error)) from error

    def _strange(self, what: str) -> BrokerError:
        return BrokerError(
            f"what answers at {self._settings.url} does not behave like a schema registry: {what}"
        )


class _NotFoundError(SchemaError):
    """The registry does not have what was asked for."""
