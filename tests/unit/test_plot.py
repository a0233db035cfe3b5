"""Forecasts as pictures."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from shutterwheel.plot import BLOCKS, COLOURS, PNG_SIZE, Series, terminal_plot, write_png


def drawn(series: Series, width: int = 60, height: int = 8) -> list[str]:
    lines = terminal_plot(series, width, height, lambda part: f"{part:.1f}", colour=False)
    return [line.plain for line in lines]


def test_a_peak_is_as_high_as_the_plot_and_anything_at_all_shows():
    lines = drawn(Series((0, 800, 1)))
    assert lines[0].split("▕") == ["   800", " █ "]
    assert lines[7].split("▕")[1] == " █▁"
    assert lines[8].startswith("     0▕▔▔▔")


def test_what_comes_on_top_and_what_falls_away_are_told_apart():
    lines = drawn(Series((4, 8, 2), (8, 4, 2)), height=4)
    assert [line.split("▕")[1] for line in lines[:4]] == ["░· ", "░· ", "██ ", "███"]


@given(
    st.lists(st.integers(0, 10**6), min_size=1, max_size=300),
    st.integers(20, 120),
    st.integers(1, 20),
)
def test_it_keeps_its_size_and_its_peak(values, width, height):
    lines = terminal_plot(Series(tuple(values)), width, height, lambda _: "x", colour=False)
    assert len(lines) == height + 2
    assert all(len(line.plain) <= width + 20 for line in lines)
    assert len({line.plain.index("▕") for line in lines[:-1]}) == 1
    if max(values):
        assert BLOCKS[8] in lines[0].plain


def test_a_picture_has_both_lines(tmp_path):
    path = tmp_path / "load.png"
    series = Series((10,) * 100, (20,) * 100)
    write_png(path, series, "a title", ["now: 1", "after: 2"], lambda part: f"{part:.2f}")
    with Image.open(path) as image:
        assert (image.format, image.size) == ("PNG", PNG_SIZE)
        colours = {colour for _, colour in image.convert("RGB").getcolors(1 << 20) or []}
    assert {COLOURS["now"], COLOURS["after"]} <= colours


def test_a_picture_that_cannot_be_written(tmp_path):
    with pytest.raises(OSError, match="No such file"):
        write_png(tmp_path / "no" / "load.png", Series((1,)), "t", [], lambda _: "")
