"""Heartbeats are taken apart quickly, and as the codec would: issue 6 (heartbeats and health)."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
from agent_parts import CODEC
from hypothesis import example, given
from hypothesis import strategies as st

from schemas.errors import DecodeError
from schemas.records import DeviceHeartbeat, DeviceOnline
from streams.agents.heartbeats import HeartbeatReader

READER = HeartbeatReader(CODEC, 8)
NOW = 1_800_000_000_000
SHARES = st.floats(0, 1) | st.just(math.nan)


def record(value: Any, key: bytes | None = b"cam-1") -> Any:
    return SimpleNamespace(value=value, key=key)


def same(left: tuple[float, ...], right: tuple[float, ...]) -> bool:
    return all(
        a == b or (math.isnan(a) and math.isnan(b)) for a, b in zip(left, right, strict=True)
    )


@given(
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=90),
    st.integers(0, 2**63 - 1) | st.integers(0, 2**21),
    st.integers(-(2**63), 2**63 - 1) | st.integers(NOW - 10**12, NOW + 10**11),
    SHARES,
    SHARES,
    st.floats(-1e14, 1e14) | st.just(math.nan),
)
def test_every_heartbeat_is_read_as_the_codec_reads_it(name, sequence, at, cpu, memory, offset):
    beat = (sequence, at, cpu, memory, offset)
    value = CODEC.encode(DeviceHeartbeat(name, *beat))
    assert same(READER.read(record(value, name.encode())), beat)


def test_the_usual_heartbeat_does_not_ask_the_codec(monkeypatch):
    monkeypatch.setattr(READER, "_slowly", lambda *_: pytest.fail("the codec was asked"))
    for sequence in (0, 63, 64, 8_191, 8_192, 1_048_575):
        for name in ("c", "cam-1", "x" * 63):
            beat = (sequence, NOW + sequence, 0.25, 0.5, -3.5)
            value = CODEC.encode(DeviceHeartbeat(name, *beat))
            assert READER.read(record(value, name.encode())) == beat


GOOD = CODEC.encode(DeviceHeartbeat("cam-1", 100, NOW, 0.25, 0.5, 3.0))


@given(st.integers(0, len(GOOD) - 1), st.binary(max_size=3), st.integers(0, 3))
@example(12, b"\x80", 1)  # a number with a needless byte
def test_damaged_bytes_are_the_codecs_business(at, put, drop):
    """What is accepted, and why something is not, is the codec's answer."""
    value = GOOD[:at] + put + GOOD[at + drop :]

    def answer(read: Any) -> object:
        try:
            return repr(read())
        except DecodeError as error:
            return error.code

    def slowly() -> object:
        beat = READER._slowly(value, b"cam-1")
        return READER.read(record(CODEC.encode(DeviceHeartbeat("cam-1", *beat))))

    assert answer(lambda: READER.read(record(value))) == answer(slowly)


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (None, "not_avro"),
        (b"rubbish", "not_avro"),
        (GOOD[:-1], "truncated"),
        (GOOD + b"\0", "trailing_bytes"),
        (DeviceOnline("cam-1", 1), "wrong_record"),
        (DeviceHeartbeat("cam-2", 1, NOW, 0.0, 0.0, 0.0), "wrong_key"),
        (DeviceHeartbeat("cam-1", -1, NOW, 0.0, 0.0, 0.0), "bad_sequence"),
        (DeviceHeartbeat("cam-1", 1, NOW, 1.01, 0.0, 0.0), "bad_cpu"),
        (DeviceHeartbeat("cam-1", 1, NOW, 0.0, -0.1, 0.0), "bad_memory"),
        (DeviceHeartbeat("cam-1", 1, NOW, math.inf, 0.0, 0.0), "bad_cpu"),
        (DeviceHeartbeat("cam-1", 1, NOW, 0.0, 0.0, -math.inf), "bad_clock_offset"),
    ],
)
def test_a_bad_heartbeat_is_refused_with_its_reason(value, code):
    data = CODEC.encode(value) if isinstance(value, DeviceHeartbeat | DeviceOnline) else value
    with pytest.raises(DecodeError) as caught:
        READER.read(record(data))
    assert caught.value.code == code


def test_a_key_that_is_missing_or_no_text_is_another_devices():
    for key in (None, b"", b"\xff\xfe"):
        with pytest.raises(DecodeError) as caught:
            READER.read(record(GOOD, key))
        assert caught.value.code == "wrong_key"
