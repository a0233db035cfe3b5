"""Blocks of archives are Avro as fastavro writes it, and bytes that are none are told (ADR 0024)."""

from __future__ import annotations

from io import BytesIO

import fastavro
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from streams.replay.archive.blocks import LENGTHS, decode_entries, encode_entries
from streams.replay.archive.container import SCHEMA, ContainerWriter, header_of
from streams.replay.log import Entry

numbers = st.one_of(
    st.integers(-(2**63), 2**63 - 1), st.integers(0, 300), st.just(1_795_000_000_000)
)
texts = st.none() | st.binary(max_size=200)
several = st.lists(st.builds(Entry, numbers, numbers, texts, texts), max_size=30)


@given(several)
@example([Entry(-193, -193, None, None), Entry(192, 192, None, None)])
def test_bytes_are_the_librarys(entries: list[Entry]) -> None:
    out = BytesIO()
    for entry in entries:
        fastavro.schemaless_writer(out, SCHEMA, entry._asdict())
    data = encode_entries(entries)
    assert data == out.getvalue()
    assert decode_entries(data, len(entries)) == entries
    assert all(type(one) is Entry for one in decode_entries(data, len(entries)))


def test_what_is_kept_of_a_number_is_not_a_negative_ones() -> None:
    rows = [Entry(-65, -65, None, None), Entry(64, 64, None, None)]
    assert decode_entries(encode_entries(rows), 2) == rows


@given(st.integers(0, 2**42), st.lists(st.integers(1, 3), max_size=300), st.integers(0, 2**20))
def test_numbers_that_follow_one_another(first: int, steps: list[int], stamp: int) -> None:
    """What is kept from number to number is given up where the next one is longer or elsewhere."""
    offset, entries = first, []
    for number, step in enumerate(steps):
        offset += step
        entries.append(Entry(offset, stamp + number // 3, b"k", b"v" * (number % 5)))
    assert decode_entries(encode_entries(entries), len(entries)) == entries


@pytest.mark.parametrize("size", [63, 64, 8_191, 8_192, LENGTHS - 1, LENGTHS, 1 << 20])
def test_lengths(size: int) -> None:
    entries = [Entry(1, 2, b"k" * size, b"v" * size), Entry(2, 3, None, b"")]
    assert decode_entries(encode_entries(entries), 2) == entries


@given(several.filter(bool), st.data())
def test_bytes_that_were_changed_are_an_error_or_other_entries(
    entries: list[Entry], data: st.DataObject
) -> None:
    whole = encode_entries(entries)
    at = data.draw(st.integers(0, len(whole) - 1))
    other = data.draw(st.integers(1, 255))
    for damaged in (
        whole[:at],
        whole[:at] + bytes((whole[at] ^ other,)) + whole[at + 1 :],
        whole + b"\0",
    ):
        try:
            found = decode_entries(damaged, len(entries))
        except ValueError:
            continue
        assert found != entries or len(damaged) == len(whole)


@pytest.mark.parametrize("codec", ["zstandard", "deflate"])
def test_a_block_is_read_by_its_header(codec) -> None:
    made = ContainerWriter(codec, {"a": "b"})
    entries = [Entry(n, 1_000 + n, b"k%d" % n, b"v" * n) for n in range(100)]
    made.add(entries)
    data, [block] = made.finish(), made.blocks
    header = header_of(data[: block.position])
    body = data[block.position :]
    assert header.entries(body) == entries
    for damaged in (body[:-1], body[1:], body[:40], b"", body + b"x"):
        with pytest.raises(ValueError, match=r"."):
            header.entries(damaged)
    with pytest.raises(ValueError, match=r"."):
        header_of(b"no header")
