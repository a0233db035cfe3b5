"""WriteTxnMarkers of Kafka's protocol: markers of transactions, written without a transaction.

A marker takes an offset that no reader sees. The coordinator of transactions has the leaders of
partitions write them by this request; ``Admin.abortTransaction`` of Kafka's own client uses it, too
(KIP-664). It wants the right to alter the cluster. Here they are commits of a producer id that has
nothing open, and so end nothing.

Source: Kafka protocol, API key 27, version 1.
"""

from __future__ import annotations

from typing import Any, Final

from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import (
    Boolean,
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Int64,
    Schema,
    TaggedFields,
)

PRODUCER_ID: Final = (1 << 62) + 0x5EED
"""Far beyond those that a cluster gives out, which it counts from 0."""
_TEXT: Final = CompactString("utf-8")
_TAGS: Final = ("tags", TaggedFields)
_PLACES: Final = CompactArray(("name", _TEXT), ("partitions", CompactArray(Int32)), _TAGS)


class WriteTxnMarkersResponse(Response):  # type: ignore[misc]
    """What became of each, by producer, topic and partition."""

    API_KEY = 27  # pyright: ignore[reportIncompatibleMethodOverride, reportAssignmentType]
    API_VERSION = 1  # pyright: ignore[reportIncompatibleMethodOverride, reportAssignmentType]
    SCHEMA = Schema(
        (
            "markers",
            CompactArray(
                ("producer_id", Int64),
                (
                    "topics",
                    CompactArray(
                        ("name", _TEXT),
                        (
                            "partitions",
                            CompactArray(("partition", Int32), ("error_code", Int16), _TAGS),
                        ),
                        _TAGS,
                    ),
                ),
                _TAGS,
            ),
        ),
        _TAGS,
    )


class WriteTxnMarkersStruct(RequestStruct):  # type: ignore[misc]
    """The request, version 1."""

    FLEXIBLE_VERSION = True
    API_KEY = 27
    API_VERSION = 1
    RESPONSE_TYPE = WriteTxnMarkersResponse
    SCHEMA = Schema(
        (
            "markers",
            CompactArray(
                ("producer_id", Int64),
                ("producer_epoch", Int16),
                ("committed", Boolean),
                (
                    "topics",
                    CompactArray(("name", _TEXT), ("partitions", CompactArray(Int32)), _TAGS),
                ),
                ("coordinator_epoch", Int32),
                _TAGS,
            ),
        ),
        _TAGS,
    )


class WriteTxnMarkers(Request[WriteTxnMarkersStruct]):  # type: ignore[misc]
    """Markers: of each entry one in each of its partitions, by topic, in the order given."""

    API_KEY = 27

    def __init__(self, entries: list[dict[str, list[int]]]) -> None:
        self._entries = entries

    def build(self, request_struct_class: type[WriteTxnMarkersStruct]) -> WriteTxnMarkersStruct:
        """Return it for the wire."""
        entries: list[tuple[Any, ...]] = [
            (PRODUCER_ID, 0, True, [(name, at, {}) for name, at in one.items()], 0, {})
            for one in self._entries
        ]
        return request_struct_class(entries, {})
