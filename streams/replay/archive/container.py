"""One file of an archive: entries in Avro's object container format, in blocks that are indexed.

Any Avro library reads it (Avro 1.12 specification, "Object Container Files"). What is ours is that
the manifest knows where each block begins, which offsets and times it holds and what its entries
hash to. So a reader fetches the header and the blocks it wants, and knows that they are as they
were written; and where a file was changed it can be said in which range of offsets.

A block's digest is SHA-256 over its entries as MessagePack arrays: the same whatever the codec.
"""

from __future__ import annotations

import hashlib
import zlib
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final, Literal, cast

import fastavro
import msgspec
from backports import zstd
from fastavro.write import Writer

from schemas.encoders import varint
from streams.replay.archive.blocks import decode_entries, encode_entries, number
from streams.replay.log import Entry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

Codec = Literal["zstandard", "deflate"]
CODECS: Final[tuple[Codec, ...]] = ("zstandard", "deflate")
LEVELS: Final[Mapping[Codec, int]] = {"zstandard": 1, "deflate": 6}
_RAW_DEFLATE: Final = -15
COMPRESS: Final[Mapping[Codec, Callable[[bytes], bytes]]] = {
    "zstandard": lambda data: zstd.compress(data, LEVELS["zstandard"]),
    "deflate": lambda data: zlib.compress(data, LEVELS["deflate"], _RAW_DEFLATE),
}
DECOMPRESS: Final[Mapping[Codec, Callable[[bytes], bytes]]] = {
    "zstandard": zstd.decompress,
    "deflate": lambda data: zlib.decompress(data, _RAW_DEFLATE),
}
SYNC_BYTES: Final = 16
_STAMP_MS: Final = attrgetter("timestamp_ms")
BLOCK_RECORDS: Final = 5_000
BLOCK_BYTES: Final = 1 << 20
"""Of keys and values; a block ends at either. What a reader holds at once is one batch of them."""
FILE_BYTES: Final = 32 << 20
"""Of keys and values in a file; about what a writer holds in memory, before compression."""
SCHEMA: Final = fastavro.parse_schema(
    {
        "type": "record",
        "name": "ArchivedEntry",
        "namespace": "shutterwheel",
        "doc": "One record of a partition, its key and value as they were.",
        "fields": [
            {"name": "offset", "type": "long", "doc": "Where it stood in its partition."},
            {"name": "timestamp_ms", "type": "long", "doc": "UTC; the broker's or the writer's."},
            {"name": "key", "type": ["null", "bytes"], "doc": "Bytes of the key."},
            {"name": "value", "type": ["null", "bytes"], "doc": "In Confluent's wire format."},
        ],
    }
)


class Block(msgspec.Struct, frozen=True, array_like=True):
    """A block of a file, as the manifest has it."""

    position: int
    """Its first byte in the file; the next block's, or the file's end, is where it ends."""
    first: int
    """Offset of its first entry."""
    records: int
    last_ms: int
    """The latest timestamp in it."""
    digest: str
    """SHA-256 of its entries, hexadecimal."""


def digest_of(entries: list[Entry]) -> str:
    """Return the digest of a block's entries."""
    return hashlib.sha256(msgspec.msgpack.encode(entries)).hexdigest()


class ContainerWriter:
    """Makes one file in memory, block by block."""

    def __init__(self, codec: Codec, metadata: Mapping[str, str]) -> None:
        text = "\0".join(f"{name}={value}" for name, value in sorted(metadata.items()))
        self._sync = hashlib.sha256(text.encode()).digest()[:16]
        self._compress = COMPRESS[codec]
        self._out = BytesIO()
        # Blocks are ours; the header is the library's.
        Writer(
            self._out, SCHEMA, codec=codec, metadata=dict(metadata), sync_marker=self._sync
        ).flush()
        self.blocks: list[Block] = []
        self.records = 0

    def add(self, entries: list[Entry]) -> None:
        """Append a block of one entry or more."""
        position, write = self._out.tell(), self._out.write
        packed = self._compress(encode_entries(entries))
        write(varint(len(entries)) + varint(len(packed)))
        write(packed)
        write(self._sync)
        last_ms = max(map(_STAMP_MS, entries))
        self.blocks.append(
            Block(position, entries[0].offset, len(entries), last_ms, digest_of(entries))
        )
        self.records += len(entries)

    def finish(self) -> bytes:
        """Return the file."""
        return self._out.getvalue()


@dataclass(frozen=True, slots=True)
class Header:
    """What stands before the blocks of a file, as far as they are read by it."""

    codec: Codec
    sync: bytes

    def entries(self, block: bytes) -> list[Entry]:
        """Return the entries of a block. ValueError where the bytes are none."""
        try:
            count, at = number(block, 0)
            size, at = number(block, at)
            packed, sync = block[at : at + size], block[at + size :]
            if size < 0 or len(packed) != size or sync != self.sync:
                raise ValueError("a block does not end where it says")
            return decode_entries(DECOMPRESS[self.codec](packed), count)
        except (IndexError, EOFError, zlib.error, zstd.ZstdError) as error:
            raise ValueError(str(error) or type(error).__name__) from error


@lru_cache(maxsize=64)
def header_of(data: bytes) -> Header:
    """Return the header of a file. ValueError where there is none that was written here."""
    try:
        reader = fastavro.block_reader(BytesIO(data))
        codec, sync = reader.codec, data[-SYNC_BYTES:]
    except Exception as error:  # fastavro's: whatever bytes can cause
        raise ValueError(str(error) or type(error).__name__) from error
    if codec not in CODECS:
        raise ValueError(f"there is no codec {codec} here")
    return Header(codec, sync)


def read_entries(data: bytes) -> list[Entry]:
    """Return the entries of a file, or of its header and some blocks behind one another.

    ValueError where the bytes are no such thing.
    """
    found, why = readable_entries(data)
    if why:
        raise ValueError(why)
    return found


def readable_entries(data: bytes) -> tuple[list[Entry], str]:
    """Return the entries up to where a file stops making sense, and why it does; "": it does not.

    A block counts whole or not at all.
    """
    found: list[Entry] = []
    try:
        for block in fastavro.block_reader(BytesIO(data)):
            rows = cast("Iterable[dict[str, Any]]", block)
            found += [
                Entry(one["offset"], one["timestamp_ms"], one["key"], one["value"]) for one in rows
            ]
    except Exception as error:  # noqa: BLE001  # fastavro's, the codec's: whatever bytes can cause
        return found, str(error) or type(error).__name__
    return found, ""


def metadata_of(data: bytes) -> dict[str, str]:
    """Return what stands in a file's header; empty where it has none."""
    try:
        found = fastavro.reader(BytesIO(data)).metadata
    except Exception:  # noqa: BLE001  # whatever is wrong with the bytes
        return {}
    return {str(name): str(value) for name, value in found.items()}
