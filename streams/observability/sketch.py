"""A mergeable sketch of a distribution: quantiles within 1 % from counts in logarithmic buckets.

Theory (DDSketch: Masson, Rim, Lee, "DDSketch: a fast and fully-mergeable quantile sketch with
relative-error guarantees", PVLDB 12, 2019). With ``gamma = (1 + a) / (1 - a)`` a value ``x > 0``
falls into bucket ``i = ceil(log(x) / log(gamma))``, which covers ``(gamma^(i-1), gamma^i]``. The
bucket is answered by ``2 * gamma^i / (gamma + 1)``, which is within the share ``a`` of every value
in it. A quantile walks the buckets up to its rank, so it is within ``a`` of the exact sample of
that rank. Two sketches of the same ``a`` merge by adding bucket counts; nothing is lost, and the
order of merging does not matter. That is what averages of quantiles cannot do, and why the delay
of a fleet of workers can be told from the sketches of each.

Worked example, ``a = 0.01``: gamma = 1.0202, and 4 ms (0.004 s) falls into
``ceil(ln 0.004 / ln 1.0202) = -276``, which covers (3.961 ms, 4.041 ms] and is answered by
4.001 ms.

Bounds: sizes below 1 microsecond count as zero, sizes above 10^7 (115 days, in seconds) as 10^7.
So a sign has at most ``ln(10^13) / ln(1.0202) + 1`` = 1,498 buckets, whatever is added. Negative
values (a shutter that opened early) have buckets of their own and are kept.

Cost: the library ``ddsketch`` (pure Python) takes 0.8 microseconds an ``add``, this wrapper's
bound checks 0.15 more; at 20,000 captures a second that is 2 % of a core. Own buckets counted in
batches by numpy took 0.06 to 0.2 microseconds; not enough of a gain to leave the library for.
"""

from __future__ import annotations

import base64
import binascii
import math
from typing import TYPE_CHECKING

import msgspec
from ddsketch.ddsketch import BaseDDSketch
from ddsketch.mapping import LogarithmicMapping
from ddsketch.store import DenseStore

from schemas.errors import DecodeError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

RELATIVE_ERROR = 0.01
"""A quantile differs from the exact sample of its rank by at most this share."""
FLOOR = 1e-6
"""Sizes below this count as zero (in seconds: a microsecond)."""
CEILING = 1e7
"""Sizes above this count as this (in seconds: 115 days)."""
MAX_BUCKETS = 2 * 1_500
"""The most buckets a sketch can have, both signs together."""

_FORMAT = 1


class _Bins(msgspec.Struct, frozen=True, array_like=True):
    """Counts of neighbouring buckets; ``counts[0]`` belongs to bucket ``first``."""

    first: int
    counts: tuple[int, ...]


class _Frame(msgspec.Struct, frozen=True, array_like=True):
    """A sketch in bytes (MessagePack); ``format`` and ``relative_error`` guard the merge."""

    format: int
    relative_error: float
    zeros: int
    total: float
    low: float
    high: float
    positive: _Bins
    negative: _Bins


_DECODER = msgspec.msgpack.Decoder(_Frame)


def _bins(store: DenseStore) -> _Bins:
    """Return the counts of ``store`` without the empty buckets at both ends."""
    counts = [int(count) for count in store.bins]
    used = [index for index, count in enumerate(counts) if count]
    if not used:
        return _Bins(0, ())
    return _Bins(store.offset + used[0], tuple(counts[used[0] : used[-1] + 1]))


class _Buckets(BaseDDSketch):
    """The library's sketch, with the state taken out and put back without loss."""

    def __init__(self) -> None:
        super().__init__(
            mapping=LogarithmicMapping(RELATIVE_ERROR),
            store=DenseStore(),
            negative_store=DenseStore(),
            zero_count=0.0,
        )

    @property
    def low(self) -> float:
        """The least value, or infinity."""
        return float(self._min)

    @property
    def high(self) -> float:
        """The greatest value, or minus infinity."""
        return float(self._max)

    def dump(self) -> _Frame:
        """Return the whole state."""
        return _Frame(
            format=_FORMAT,
            relative_error=RELATIVE_ERROR,
            zeros=int(self._zero_count),
            total=float(self._sum),
            low=self.low,
            high=self.high,
            positive=_bins(self._store),
            negative=_bins(self._negative_store),
        )

    def load(self, frame: _Frame) -> None:
        """Take over the state of ``frame``; this sketch must be empty."""
        for store, bins in ((self._store, frame.positive), (self._negative_store, frame.negative)):
            for key, count in enumerate(bins.counts, bins.first):
                if count:
                    store.add(key, float(count))
        self._zero_count = float(frame.zeros)
        self._count = self._zero_count + self._store.count + self._negative_store.count
        self._sum = frame.total
        self._min = frame.low
        self._max = frame.high


class QuantileSketch:
    """A distribution of numbers: add, merge, ask for quantiles, move between processes.

    The unit is the caller's and the same for all that is merged. Not for several threads.
    """

    __slots__ = ("_buckets",)

    def __init__(self) -> None:
        self._buckets = _Buckets()

    def add(self, value: float, times: int = 1) -> None:
        """Count a value so often; one that is not a finite number raises ``ValueError``."""
        if FLOOR <= value <= CEILING:
            self._buckets.add(value, times)
        else:
            self._buckets.add(_bounded(value), times)

    def add_all(self, values: Iterable[float]) -> None:
        """Count each of ``values``."""
        for value in values:
            self.add(value)

    def merge(self, other: QuantileSketch) -> None:
        """Count what ``other`` has counted; ``other`` stays as it is."""
        self._buckets.merge(other._buckets)

    @property
    def count(self) -> int:
        """How many values were counted."""
        return int(self._buckets.count)

    @property
    def total(self) -> float:
        """The exact sum of the values, bounded as they were."""
        return float(self._buckets.sum)

    @property
    def low(self) -> float | None:
        """The exact least value; None where there is none."""
        return self._buckets.low if self.count else None

    @property
    def high(self) -> float | None:
        """The exact greatest value; None where there is none."""
        return self._buckets.high if self.count else None

    def quantile(self, share: float) -> float | None:
        """Return the value of rank ``floor(share * (count - 1))``, within 1 %; None: no values.

        ``share`` is from 0 to 1; anything else raises ``ValueError``.
        """
        if not 0.0 <= share <= 1.0:
            raise ValueError(f"a quantile is from 0 to 1, not {share}")
        if self.count == 0:
            return None
        answer = self._buckets.get_quantile_value(share)
        if answer is None:  # the library's word for "no values", ruled out above
            raise AssertionError("a sketch with values has every quantile")
        # The answer of a bucket may lie beyond the exact ends; the ends are the better answer.
        return min(max(float(answer), self._buckets.low), self._buckets.high)

    def quantiles(self, shares: Sequence[float]) -> dict[float, float | None]:
        """Return :meth:`quantile` of each of ``shares``."""
        return {share: self.quantile(share) for share in shares}

    def to_bytes(self) -> bytes:
        """Return the sketch as bytes (MessagePack), at most about 30 kB, usually under 1 kB."""
        return msgspec.msgpack.encode(self._buckets.dump())

    @classmethod
    def from_bytes(cls, data: bytes) -> QuantileSketch:
        """Return the sketch that :meth:`to_bytes` wrote; ``DecodeError`` for anything else."""
        try:
            frame = _DECODER.decode(data)
        except msgspec.DecodeError as error:
            raise DecodeError("sketch", f"not a quantile sketch: {error}") from error
        _check(frame)
        sketch = cls()
        sketch._buckets.load(frame)
        return sketch

    def to_text(self) -> str:
        """Return :meth:`to_bytes` in base64, for JSON."""
        return base64.b64encode(self.to_bytes()).decode("ascii")

    @classmethod
    def from_text(cls, text: str) -> QuantileSketch:
        """Return the sketch that :meth:`to_text` wrote; ``DecodeError`` for anything else."""
        try:
            data = base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError) as error:
            raise DecodeError("sketch", f"not a quantile sketch in base64: {error}") from error
        return cls.from_bytes(data)


def _bounded(value: float) -> float:
    """Return ``value`` as it is counted: tiny sizes as zero, huge ones as the ceiling."""
    if not math.isfinite(value):
        raise ValueError(f"only finite numbers can be counted, not {value}")
    size = abs(value)
    if size < FLOOR:
        return 0.0
    return math.copysign(min(size, CEILING), value)


def _check(frame: _Frame) -> None:
    """Raise ``DecodeError`` where ``frame`` is well formed but cannot be a sketch of ours."""
    if frame.format != _FORMAT or frame.relative_error != RELATIVE_ERROR:
        raise DecodeError("sketch", "a quantile sketch of another format or accuracy")
    counts = (frame.zeros, *frame.positive.counts, *frame.negative.counts)
    if len(counts) - 1 > MAX_BUCKETS or any(count < 0 for count in counts):
        raise DecodeError("sketch", "a quantile sketch with impossible counts")
    reach = math.log(CEILING) / math.log((1 + RELATIVE_ERROR) / (1 - RELATIVE_ERROR)) + 1
    for bins in (frame.positive, frame.negative):
        if bins.counts and max(abs(bins.first), abs(bins.first + len(bins.counts) - 1)) > reach:
            raise DecodeError("sketch", "a quantile sketch with impossible buckets")
    if not math.isfinite(frame.total):
        raise DecodeError("sketch", "a quantile sketch with an impossible sum")
