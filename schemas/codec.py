"""Records to bytes and back: Avro binary in Confluent's wire format.

**Wire format** (Confluent documentation, "Wire format"): byte 0 is 0, bytes 1 to 4 are the schema
id, big-endian, and the rest is Avro binary (Avro 1.12 specification, "Binary Encoding"). An
``EndedCapture`` inside a ``DeviceCaptures`` has no header: only what stands in ``RECORDS`` has one.

**Reading what was written before.** The id names the *writer's* schema. Where that is an older
release, fastavro resolves it into today's: fields that are gone are skipped, new ones take their
default. ``schemas/compatibility.py`` sees to it that this can always be done.

**Bad bytes** raise :class:`DecodeError` and nothing else, whatever they are. Memory is bounded by
the input: a length that promises more than is there ends the reading, and no item of an array or
map can be empty, so a count cannot promise more items than there are bytes.

**Cost**, µs a record on one core of the development machine, in bulk. "Warm": the same record
again and again; "fresh": ids, times and checksums all new, as in a fleet where no two devices are
alike; "fastavro": its writer, fed by ``msgspec.to_builtins``::

    record                                 bytes    encode warm  fresh  fastavro    decode
    CaptureCommand                            66            1.3      4         6         6
    CaptureResult, 4 transitions, image      389            8       19        35        24
    DeviceCaptures, 1 open and 6 ended       442           12       32        39        33

Encoding is our own (``schemas/encoders.py``): it is the larger half of the work of a capture.
Decoding is fastavro into plain dicts, then ``msgspec.convert`` in C (0.4 to 2 µs of it). A decoder
made of generated Python was tried: 1.0 to 1.6 times as fast, not worth its code.
"""

from __future__ import annotations

import struct
from io import BytesIO
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias, TypeVar, cast, get_args

import msgspec
from fastavro import parse_schema, schemaless_reader
from fastavro.read import SchemaResolutionError

from schemas.catalogue import current_schemas, full_name
from schemas.compatibility import has_empty_items, unreadable
from schemas.encoders import Encoders
from schemas.errors import DecodeError, SchemaError
from schemas.records import (
    RECORDS,
    ClockState,
    DeviceFact,
    Record,
    ScheduleEvent,
    ScheduleTick,
    TickChange,
    TickSettings,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from schemas.catalogue import Json, Schema
    from schemas.encoders import Table
    from schemas.ids import SchemaIds

R = TypeVar("R", bound=Record)
Plain: TypeAlias = dict[str, object]
"""A record as fastavro gives it."""
Parsed: TypeAlias = str | list[Any] | dict[Any, Any]
"""A schema as fastavro parsed it."""

HEADER_BYTES: Final = 5
MAX_RECORD_BYTES: Final = 16 * 1024 * 1024
"""Longer input is refused; Kafka's own default bound is 1 MiB."""

_BAD_VALUE: Final = (
    ArithmeticError,
    AttributeError,
    LookupError,
    MemoryError,
    TypeError,
    ValueError,
    SchemaResolutionError,
    struct.error,
)
"""What the standard library, fastavro and msgspec raise for values and bytes that do not fit."""


_MORE_FOLLOWS: Final = 0x80
"""The bit of a varint's byte that says that another one follows."""


class _Reader(NamedTuple):
    """How records of one schema id are read."""

    record: type[Record]
    writer_schema: Parsed
    reader_schema: Parsed | None
    """Today's, or None where the writer's is today's: nothing to resolve."""
    from_plain: Callable[[Plain], Record]
    names: bool
    """Whether a union must say which record it holds; that takes some of the time."""


class Codec:
    """Encodes and decodes every class in ``RECORDS``. Safe to share between threads.

    Raises :class:`SchemaError` or :class:`BrokerError`, from ``ids``, when it is made.
    """

    def __init__(self, ids: SchemaIds) -> None:
        self._ids = ids
        self._records = {full_name(record): record for record in RECORDS}
        self._schemas = current_schemas()
        self._parsed = {name: parse_schema(schema) for name, schema in self._schemas.items()}
        self._tables: dict[type[Record], tuple[bytes, Table]] = {}
        self._readers: dict[bytes, _Reader] = {}
        self._encoders = encoders = Encoders()
        for name, record in self._records.items():
            header = b"\x00" + ids.id_of(name).to_bytes(4, "big")
            self._tables[record] = (header, encoders.of(self._schemas[name]))
            self._readers[header] = _Reader(
                record, self._parsed[name], None, _from_plain_to(record), record is ScheduleTick
            )

    def encode(self, record: Record) -> bytes:
        """Return the record as bytes.

        Raises :class:`SchemaError` if its class is not one of ``RECORDS`` or a value does not fit
        the schema: a number over 64 bits, a lone surrogate, a None where none may be.
        """
        try:
            header, table = self._tables[type(record)]
        except KeyError:
            raise SchemaError(
                f"{type(record).__name__} is never written by itself: it is not in RECORDS"
            ) from None
        try:
            return header + table[record]
        except _BAD_VALUE as error:
            raise SchemaError(f"{record!r} does not fit its schema: {error}") from error

    def header(self, record: type[Record]) -> bytes:
        """Return the five bytes that begin every ``record``; only for what is in ``RECORDS``."""
        return self._tables[record][0]

    def table(self, schema: Json) -> Table:
        """Return the encoder of a part of a record: a schema that records are made of."""
        return self._encoders.of(schema)

    def decode(self, data: bytes) -> Record:
        """Return the record that ``data`` holds.

        Raises :class:`DecodeError` with the code ``not_avro``, ``unknown_schema``,
        ``incompatible_schema``, ``too_big``, ``truncated``, ``trailing_bytes`` or ``malformed``.
        A :class:`BrokerError` means that the registry could not be asked: the bytes may be good.
        """
        reader = self._readers.get(data[:HEADER_BYTES]) or self._reader_of(data)
        name = reader.record.__name__
        if len(data) > MAX_RECORD_BYTES:
            raise DecodeError(
                "too_big",
                f"This {name} has {len(data)} bytes; more than {MAX_RECORD_BYTES} are not read.",
            )
        stream = BytesIO(data)
        stream.seek(HEADER_BYTES)
        try:
            plain = schemaless_reader(
                stream,
                reader.writer_schema,
                reader.reader_schema,
                return_record_name=reader.names,
                return_record_name_override=reader.names,
            )
            record = reader.from_plain(cast("Plain", plain))
        except EOFError:
            raise _truncated(name, data) from None
        except _BAD_VALUE as error:
            if data[-1] >= _MORE_FOLLOWS and stream.tell() == len(data):
                raise _truncated(name, data) from None  # inside a varint: fastavro's IndexError
            raise DecodeError(
                "malformed", f"These bytes are not the {name} their schema id says: {error}."
            ) from None
        if stream.tell() != len(data):
            raise DecodeError(
                "trailing_bytes",
                f"{len(data) - stream.tell()} bytes follow this {name}: two records were joined "
                "or it is not what its schema id says.",
            )
        return record

    def decode_as(self, data: bytes, cls: type[R]) -> R:
        """Return the record that ``data`` holds, which must be a ``cls``.

        Raises :class:`DecodeError` as :meth:`decode`, or with the code ``wrong_record``.
        """
        record = self.decode(data)
        if type(record) is not cls:
            raise DecodeError(
                "wrong_record",
                f"A {type(record).__name__} stands where only a {cls.__name__} belongs.",
            )
        return record

    def _reader_of(self, data: bytes) -> _Reader:
        """Return the reader for an id that is not today's, or raise :class:`DecodeError`."""
        if len(data) < HEADER_BYTES or data[0] != 0:
            start = data[:HEADER_BYTES].hex(" ") or "nothing"
            raise DecodeError(
                "not_avro",
                f"A record starts with a zero byte and a 4-byte schema id; found {start}. "
                "Write it with a Confluent-compatible Avro serializer.",
            )
        schema_id = int.from_bytes(data[1:HEADER_BYTES], "big")
        found = self._ids.schema_of(schema_id)
        if found is None:
            raise DecodeError(
                "unknown_schema",
                f"Schema id {schema_id} is not known here: the writer uses another registry, "
                "or a newer release than this one.",
            )
        name, schema = found
        record = self._records.get(name)
        if record is None:
            raise DecodeError(
                "unknown_schema", f"Schema id {schema_id} is {name}, which is no record of ours."
            )
        self._check(name, schema_id, schema)
        reader = _Reader(
            record,
            parse_schema(schema),
            self._parsed[name],
            _from_plain_to(record),
            record is ScheduleTick,
        )
        self._readers[data[:HEADER_BYTES]] = reader
        return reader

    def _check(self, name: str, schema_id: int, writer: Schema) -> None:
        """Raise :class:`DecodeError` for a writer's schema that today's cannot read safely."""
        try:
            wrong = unreadable(reader=self._schemas[name], writer=writer)
            reason = f"{wrong[0].field}: {wrong[0].problem}" if wrong else None
            if has_empty_items(writer):
                reason = "it has an array or map of empty items, whose number nothing bounds"
        except SchemaError as error:
            reason = str(error)
        if reason is not None:
            raise DecodeError(
                "incompatible_schema",
                f"Schema id {schema_id} is a {name} that today's schema cannot read: {reason}",
            )


def _truncated(name: str, data: bytes) -> DecodeError:
    return DecodeError(
        "truncated",
        f"This {name} ends in the middle of a field, after {len(data)} bytes: it was cut off or "
        "is not what its schema id says.",
    )


def _from_plain_to(record: type[Record]) -> Callable[[Plain], Record]:
    """Return the function that makes a ``record`` of what fastavro read."""
    if record is ScheduleTick:
        return _tick_from_plain

    def from_plain(plain: Plain) -> Record:
        return msgspec.convert(plain, record)

    return from_plain


_EVENTS: Final = {full_name(event): event for event in get_args(ScheduleEvent)}


def _tick_from_plain(plain: Plain) -> Record:
    """Make a tick; its events come as (full name, dict), as a union needs the name."""
    changes = cast("list[Plain]", plain.pop("changes"))
    made: list[TickChange] = []
    for change in changes:
        name, fields = cast("tuple[str, Plain]", change["event"])
        event = msgspec.convert(fields, _EVENTS[name])
        made.append(TickChange(offset=cast("int", change["offset"]), event=event))
    plain["settings"] = msgspec.convert(plain["settings"], TickSettings)
    plain["clock"] = msgspec.convert(plain["clock"], ClockState | None)
    plain["facts"] = msgspec.convert(plain["facts"], tuple[DeviceFact, ...])
    return ScheduleTick(**cast("dict[str, Any]", plain), changes=tuple(made))
