"""Logs for Loki: one JSON object an event and line, on standard error.

Every line has ``ts`` (RFC 3339, UTC, milliseconds), ``level``, ``event``, ``app`` and ``worker``,
and ``device_id``, ``schedule_epoch`` and ``capture_result`` where the caller gives them
(SPEC 1.8)::

    configure("captures", "0", json=True)
    get_logger(__name__).info(
        "capture ended", device_id="cam-1", schedule_epoch=7, capture_result="SUCCESS"
    )
    {"ts":"2026-05-01T10:00:00.004Z","level":"info","event":"capture ended","app":"captures",
     "worker":"0","logger":"streams.agents.capture_state","device_id":"cam-1","schedule_epoch":7,
     "capture_result":"SUCCESS"}

A line costs about 20 microseconds, so failures are worth one each and ten thousand successes a
second are not: those are counted (``metrics.py``) and logged at ``debug``.

Ids are fields of a line, never labels of a stream. What other libraries log through ``logging``
goes the same way; the talkative ones from WARNING up, unless the level is ``debug``. Credentials
are cut out of every line by :func:`scrub`: values under telling names, and what stands before the
``@`` of a URL or behind ``password=`` in its query.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TextIO, TypeAlias, cast

import msgspec
import structlog
from structlog.typing import EventDict, FilteringBoundLogger, Processor, WrappedLogger

Logger: TypeAlias = FilteringBoundLogger
"""What :func:`get_logger` returns: ``debug``, ``info``, ``warning``, ``error``, ``exception``,
``critical`` with an event and fields; ``bind`` for fields that stand in every line."""

LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}
"""The words for a level."""
TALKATIVE = ("aiohttp", "aiokafka", "asyncio", "confluent_kafka", "faust", "httpx2", "mode")
"""Libraries whose INFO is not for operators."""
HIDDEN = "***"
"""What stands where a secret stood."""
MAX_DEPTH = 6
"""How deep :func:`scrub` looks into nested values; what lies deeper is hidden whole."""

_SECRET_NAMES = (
    *("api_key", "apikey", "authorization", "cookie", "credential", "credentials", "jwt"),
    *("passphrase", "passwd", "password", "private_key", "pwd", "secret", "signing_key", "token"),
)
_SECRET_ENDINGS = tuple(f"_{name}" for name in _SECRET_NAMES)
_URL_USER = re.compile(r"(?<=://)[^\s/?#]+@")
_ASSIGNED = re.compile(
    r"(?i)\b((?:\w+[._-])?(?:passw(?:or)?d|pwd|passphrase|secret|token|api_?key)\s*=\s*)[^&\s,;]+"
)
_NAME = "_name"
_ORDER = ("ts", "level", "event", "app", "worker", "logger")


def is_secret_name(name: str) -> bool:
    """Tell whether a value under this name is a credential: ``sasl.password``, ``Api-Key``…"""
    plain = name.lower().replace(".", "_").replace("-", "_")
    return plain in _SECRET_NAMES or plain.endswith(_SECRET_ENDINGS)


def scrub_text(text: str) -> str:
    """Return ``text`` without user and password in URLs and without assigned secrets."""
    if "://" in text:
        text = _URL_USER.sub(f"{HIDDEN}@", text)
    if "=" in text:
        text = _ASSIGNED.sub(rf"\g<1>{HIDDEN}", text)
    return text


def _scrub_value(value: object, depth: int) -> object:
    """Return ``value`` with the secrets of all its parts hidden."""
    if isinstance(value, str):
        return scrub_text(value)
    if value is None or isinstance(value, bool | int | float):
        return value
    if depth >= MAX_DEPTH:
        return HIDDEN
    if isinstance(value, Mapping):
        return {
            str(key): HIDDEN if is_secret_name(str(key)) else _scrub_value(inner, depth + 1)
            for key, inner in cast("Mapping[object, object]", value).items()
        }
    if isinstance(value, list | tuple | set | frozenset):
        return [_scrub_value(inner, depth + 1) for inner in cast("list[object]", value)]
    return scrub_text(repr(value))


def scrub(_logger: WrappedLogger, _method: str, event_dict: EventDict) -> EventDict:
    """Hide credentials in an event (structlog processor)."""
    for key, value in event_dict.items():
        event_dict[key] = HIDDEN if is_secret_name(key) else _scrub_value(value, 0)
    return event_dict


def utc_text(now: datetime) -> str:
    """Return a time in UTC as RFC 3339 text with milliseconds: ``2026-05-01T10:00:00.004Z``."""
    return now.astimezone(UTC).isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


class _Head:
    """Give every event its time, level and place, in front of its own fields (processor)."""

    def __init__(self, app: str, worker: str) -> None:
        self._app = app
        self._worker = worker

    def __call__(self, _logger: WrappedLogger, method: str, event_dict: EventDict) -> EventDict:
        record = event_dict.pop("_record", None)  # set for events of the standard library
        event_dict.pop("_from_structlog", None)
        if isinstance(record, logging.LogRecord):
            method = record.levelname.lower()
            event_dict[_NAME] = record.name
        event_dict["ts"] = utc_text(datetime.now(UTC))
        event_dict["level"] = "error" if method == "exception" else method
        event_dict["app"] = self._app
        event_dict["worker"] = self._worker
        event_dict["logger"] = event_dict.pop(_NAME, "")
        head = {key: event_dict.pop(key) for key in _ORDER if key in event_dict}
        return {**head, **event_dict}


def _json(_logger: WrappedLogger, _method: str, event_dict: EventDict) -> str:
    """Render an event as one line of JSON."""
    return msgspec.json.encode(event_dict).decode()


def _console(*, colors: bool) -> Processor:
    """Return a renderer for people; tracebacks are plain, so that no local variable is shown."""
    return structlog.dev.ConsoleRenderer(
        colors=colors,
        sort_keys=False,
        timestamp_key="ts",
        exception_formatter=structlog.dev.plain_traceback,
    )


def configure(
    app: str,
    worker: str,
    level: str = "info",
    *,
    json: bool | None = None,
    stream: TextIO | None = None,
) -> None:
    """Send the logs of this process, and of the libraries in it, to ``stream``.

    ``level``: one of :data:`LEVELS`. ``json``: None means JSON unless ``stream`` is a terminal.
    ``stream``: standard error where None. May be called again; the last call counts.
    ``ValueError`` for an unknown level.
    """
    if level not in LEVELS:
        raise ValueError(f"the log level is one of {', '.join(LEVELS)}, not {level!r}")
    out = sys.stderr if stream is None else stream
    terminal = out.isatty()
    as_json = not terminal if json is None else json
    render: Processor = _json if as_json else _console(colors=terminal)
    head = _Head(app, worker)
    chain: list[Processor] = [head, structlog.processors.format_exc_info, scrub, render]
    structlog.configure(
        processors=chain,
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=structlog.WriteLoggerFactory(file=out),
        cache_logger_on_first_use=False,
    )
    _route_standard_logging(chain, LEVELS[level], out)


def _route_standard_logging(chain: list[Processor], level: int, out: TextIO) -> None:
    """Make ``logging`` write through ``chain``, and the talkative libraries keep quiet."""
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[_with_exception, *chain], use_get_message=True
        )
    )
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level)
    quiet = level if level <= logging.DEBUG else max(level, logging.WARNING)
    for name in TALKATIVE:
        library = logging.getLogger(name)
        library.setLevel(quiet)
        library.handlers.clear()
        library.propagate = True
    logging.captureWarnings(capture=True)


def _with_exception(_logger: WrappedLogger, _method: str, event_dict: EventDict) -> EventDict:
    """Carry the exception of a ``logging`` record over to the event."""
    record = event_dict.get("_record")
    if isinstance(record, logging.LogRecord) and record.exc_info:
        event_dict["exc_info"] = record.exc_info
    return event_dict


def get_logger(name: str, **fields: object) -> Logger:
    """Return a logger whose lines carry ``logger=name`` and ``fields``.

    It follows :func:`configure` even where it was made before.
    """
    # structlog has a parameter of its own called ``logger``, hence the detour over another name.
    return cast("Logger", structlog.get_logger(**{_NAME: name}, **fields))
