"""Faults, pictures and settings of the simulated cameras (CONVENTIONS 5: the fake is real)."""

from __future__ import annotations

import json

import numpy as np
import pytest
import simplejpeg
from hypothesis import given
from hypothesis import strategies as st

from connectors.cameras.base import CameraSettings
from connectors.cameras.faults import Fault, FaultBook
from connectors.cameras.frame import read_comment, read_jpeg
from connectors.cameras.picture import Painter
from schemas.errors import UsageError


def test_the_query_counts_before_the_device_and_the_device_before_all():
    book = FaultBook({"a": Fault("html"), "*": Fault("never")})
    assert book.pick("a", "snapshot", {"fault": "slow", "delay_ms": "7"}) == Fault("slow", 7)
    assert book.pick("a", "snapshot", {}) == Fault("html")
    assert book.pick("b", "snapshot", {}) == Fault("never")


def test_a_fault_can_be_narrowed_and_counted():
    book = FaultBook({"a": Fault("cut", every=3, only="frame")})
    assert book.pick("a", "capture", {}) is None
    met = [book.pick("a", "frame", {}) is not None for _ in range(6)]
    assert met == [False, False, True, False, False, True]


def test_faults_come_and_go():
    book = FaultBook()
    book.update_json(b'{"a": {"kind": "html"}}')
    assert book.pick("a", "snapshot", {}) == Fault("html")
    book.update_json(b'{"a": null}')
    assert book.pick("a", "snapshot", {}) is None


@pytest.mark.parametrize(
    "text",
    [b"", b"[]", b'{"a": {"kind": "magic"}}', b'{"a": {"kind": "slow", "delay": 1}}',
     b'{"a": {"kind": "slow", "every": 0}}', b'{"a": {"kind": "status", "status": 99}}',
     b'{"a": {"kind": "redirect", "location": "x\\r\\ny"}}'],
)  # fmt: skip
def test_a_book_that_cannot_be_read_is_refused(text):
    with pytest.raises(UsageError, match="faults cannot be read"):
        FaultBook().update_json(text)


def test_a_query_that_is_no_fault_is_refused():
    with pytest.raises(UsageError):
        FaultBook().pick("a", "snapshot", {"fault": "magic"})


def test_pictures_of_a_device_differ_and_decode():
    painter = Painter(320, 240)
    one, two = (painter.paint("cam-00001", 1_795_433_700_000 + n, n) for n in (1, 2))
    assert read_jpeg(one).sha256 != read_jpeg(two).sha256
    assert not np.array_equal(simplejpeg.decode_jpeg(one), simplejpeg.decode_jpeg(two))
    assert read_comment(one).counter == 1


@given(st.text(max_size=300), st.integers(0, 4_102_444_800_000), st.integers(0, 2**63))
def test_any_device_can_be_painted(device_id, at_ms, counter):
    frame = read_jpeg(Painter(96, 96).paint(device_id, at_ms, counter))
    assert frame.frame_at_ms == at_ms


@pytest.mark.parametrize("size", [(64, 96), (97, 96), (96, 9_000)])
def test_a_size_that_cannot_be_painted_is_refused(size):
    with pytest.raises(ValueError, match="picture must be"):
        Painter(*size)


@pytest.mark.parametrize(
    "bad",
    [{"max_image_bytes": 0}, {"max_redirects": 11}, {"max_connections": 0}, {"keepalive_ms": -1}],
)
def test_settings_are_bounded(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        CameraSettings(**bad)


def test_the_book_reads_what_json_writes():
    text = json.dumps({"cam-00007": {"kind": "html"}, "*": {"kind": "slow", "every": 10}})
    book = FaultBook()
    book.update_json(text.encode())
    assert book.pick("cam-00007", "capture", {}) == Fault("html")
