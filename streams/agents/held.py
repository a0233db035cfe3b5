"""Tells the metrics how much a captures worker holds (``observability/held_metrics.py``)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sized

    from streams.agents.admission import Admission
    from streams.agents.capture_state import CaptureState
    from streams.observability.metrics import Metrics


def bind_held(
    metrics: Metrics,
    books: Callable[[], list[CaptureState]],
    admission: Admission,
    parts: Mapping[str, Sized],
    held_back: Callable[[], int],
) -> None:
    """Have gauges ask these; ``parts`` are ``shutters``, ``attempts``, and others of ``HELD``."""
    lengths: dict[str, Callable[[], int]] = {
        "held_back": held_back,
        "device_lines": lambda: admission.lines[0],
        "host_lines": lambda: admission.lines[1],
        "rows_open": lambda: sum(book.rows_open for book in books()),
        "rows_idle": lambda: sum(book.rows_idle for book in books()),
    }
    metrics.held.bind(lambda what: lengths[what]() if what in lengths else len(parts[what]))
    metrics.armed_captures.bind(lambda: len(parts["shutters"]) + admission.waiting + held_back())
    metrics.in_flight_captures.bind(lambda: len(parts["attempts"]))
    metrics.open_captures.bind(lambda: sum(book.open_count for book in books()))
