"""Where a worker's time goes: a decorator that counts the seconds of a method under its stage."""

from __future__ import annotations

import functools
import time
from typing import TYPE_CHECKING, Concatenate, ParamSpec, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from streams.observability.metrics import Metrics


class Measured(Protocol):
    """What has metrics."""

    metrics: Metrics


S = TypeVar("S", bound=Measured)
P = ParamSpec("P")


def counted(
    stage: str,
) -> Callable[[Callable[Concatenate[S, P], None]], Callable[Concatenate[S, P], None]]:
    """Add the seconds of each call to ``shutterwheel_stage_seconds_total{stage=…}``; 0.4 µs."""

    def decorate(method: Callable[Concatenate[S, P], None]) -> Callable[Concatenate[S, P], None]:
        @functools.wraps(method)
        def call(self: S, /, *args: P.args, **kwargs: P.kwargs) -> None:
            began_s = time.perf_counter()
            method(self, *args, **kwargs)
            self.metrics.stage_seconds.inc(stage, time.perf_counter() - began_s)

        return call

    return decorate
