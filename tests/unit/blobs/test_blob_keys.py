"""Names of blobs: one safe path segment a device (connectors/blobs/keys.py)."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.blobs.keys import blob_key, day_of, device_segment
from schemas.errors import StoreError
from schemas.records import CaptureCommand

DEVICE_IDS = st.text(min_size=1, max_size=256)


def command(device_id, command_id=7, scheduled_ms=1_795_433_700_000):
    return CaptureCommand(
        command_id, device_id, "s", "", 1, scheduled_ms, scheduled_ms, 0, 3_000, 0, 0
    )


@pytest.mark.parametrize(
    ("device_id", "segment"),
    [
        ("cam-00001", "cam-00001"),
        ("halle 3/tor", "halle=203=2Ftor"),
        (".", "=2E"),
        ("..", "=2E=2E"),
        ("...", "=2E=2E=2E"),
        ("../../etc/passwd", "..=2F..=2Fetc=2Fpasswd"),
        ("a=b~c%d", "a=3Db=7Ec=25d"),
        ("ü", "=C3=BC"),
        ("a\0b\n", "a=00b=0A"),
        ("C:\\x", "C=3A=5Cx"),
    ],
)
def test_a_device_id_becomes_one_segment(device_id, segment):
    assert device_segment(device_id) == segment


@given(DEVICE_IDS)
def test_a_segment_is_always_safe(device_id):
    segment = device_segment(device_id)
    assert re.fullmatch(r"[A-Za-z0-9_.=~-]{1,200}", segment)
    assert segment not in {".", ".."}
    assert len(PurePosixPath(segment).parts) == 1


@given(DEVICE_IDS, DEVICE_IDS)
def test_two_devices_never_share_a_segment(one, two):
    assert (device_segment(one) == device_segment(two)) == (one == two)


def test_long_ids_with_the_same_beginning_stay_apart():
    one, two = "x" * 255 + "1", "x" * 255 + "2"
    assert device_segment(one) != device_segment(two)
    assert device_segment(one[:200]) == one[:200]
    assert "~" in device_segment("é" * 128)


def test_an_empty_id_is_refused():
    with pytest.raises(StoreError, match="empty"):
        device_segment("")


def test_the_key_names_device_day_and_command():
    assert blob_key(command("cam-1")) == "cam-1/2026-11-23/7.jpg"


@pytest.mark.parametrize(
    ("at_ms", "day"),
    [(0, "1970-01-01"), (1_795_391_999_999, "2026-11-22"), (1_795_392_000_000, "2026-11-23")],
)
def test_the_day_is_utc_and_turns_at_midnight(at_ms, day):
    assert day_of(at_ms) == day
