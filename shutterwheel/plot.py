"""Draws a forecast: in a terminal as blocks, and as a picture.

A column of the terminal is a span of time and shows its busiest second. With a manifest there are
two rows of numbers: what is now, and what would be; of a column the lesser of both is drawn in one
shade and what the greater has more in another.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from PIL.ImageDraw import ImageDraw
    from rich.text import Text

BLOCKS: Final = " ▁▂▃▄▅▆▇█"
NOW, MORE, LESS = "cyan", "yellow", "bright_black"
"""Styles: what stays, what comes on top, what falls away."""
PNG_SIZE: Final = (1_200, 500)
MARGIN: Final = (80, 50, 30, 60)
"""Left, top, right, bottom, in pixels."""
COLOURS: Final = {
    "now": (150, 160, 170),
    "before": (150, 160, 170),
    "after": (30, 110, 200),
    "grid": (225, 228, 232),
}
INK: Final = (40, 44, 52)


@dataclass(frozen=True, slots=True)
class Series:
    """Peaks a second by span of time, now and (perhaps) after."""

    now: tuple[int, ...]
    after: tuple[int, ...] | None = None
    first: str = "now"
    """What the first is called: ``after`` where a file is looked at alone."""

    @property
    def most(self) -> int:
        """The highest of all, at least 1."""
        return max(1, max(self.now, default=0), max(self.after or (), default=0))

    def resampled(self, columns: int) -> Series:
        """Return it with at most so many spans: each the highest of those it takes in."""
        after = None if self.after is None else _resampled(self.after, columns)
        return Series(_resampled(self.now, columns), after, self.first)


def _resampled(values: Sequence[int], columns: int) -> tuple[int, ...]:
    count = len(values)
    if count <= columns:
        return tuple(values)
    edges = [n * count // columns for n in range(columns + 1)]
    return tuple(max(values[begin:end]) for begin, end in pairwise(edges))


def terminal_plot(
    series: Series, width: int, height: int, label: Callable[[float], str], *, colour: bool
) -> list[Text]:
    """Return the lines of a plot, its axes included.

    ``label`` says what stands below a place of the time axis, 0 to 1. Without ``colour`` what comes
    on top is ``░`` and what falls away ``·``.
    """
    from rich.text import Text

    margin = max(6, len(f"{series.most:,}")) + 1
    drawn = series.resampled(max(10, width - margin))
    columns = len(drawn.now)
    after = drawn.after or drawn.now
    lines: list[Text] = []
    for row in range(height - 1, -1, -1):
        line = Text()
        mark = (
            f"{series.most * (row + 1) / height:,.0f}" if row in {height - 1, height // 2} else ""
        )
        line.append(mark.rjust(margin - 1) + "▕")
        for now, then in zip(drawn.now, after, strict=True):
            mark, style = _cell(now, then, row, height, series.most)
            if not colour and style in {MORE, LESS}:
                mark = "░" if style == MORE else "·"
            line.append(mark, style)
        lines.append(line)
    lines.append(Text("0".rjust(margin - 1) + "▕" + "▔" * columns))
    lines.append(Text(" " * margin + _ticks(columns, label)))
    return lines


def legend(
    *,
    colour: bool,
    words: tuple[str, str, str] = ("now", "more after the file", "less after it"),
) -> Text:
    """Return what the shades of a plot with two series mean: what stays, comes on top, falls."""
    from rich.text import Text

    line = Text()
    marks = (("█", NOW), ("█" if colour else "░", MORE), ("█" if colour else "·", LESS))
    for (mark, style), word in zip(marks, words, strict=True):
        line.append(mark, style).append(f" {word}   ")
    return line


def _cell(now: int, then: int, row: int, height: int, most: int) -> tuple[str, str]:
    """Return the character of one cell and its style."""
    low = _eighths(min(now, then), row, height, most)
    high = _eighths(max(now, then), row, height, most)
    more = MORE if then > now else LESS
    if high and not low:
        return BLOCKS[high], more
    if low in {8, high}:
        return BLOCKS[low], NOW
    # Both end within this cell: the lesser is drawn upon the greater.
    return BLOCKS[low], f"{NOW} on {more}" if high == 8 else NOW


def _eighths(value: int, row: int, height: int, most: int) -> int:
    """Return how much of a cell a value fills; anything at all shows in the lowest."""
    filled = -(-value * height * 8 // most) - row * 8
    return max(0, min(8, filled))


def _ticks(columns: int, label: Callable[[float], str]) -> str:
    """Return the labels of the time axis, as many as there is room for."""
    room = len(label(0.0)) + 4
    line = ""
    for at in range(0, columns, max(room, columns // 6)):
        text = label(at / columns)
        if at + len(text) <= columns:
            line = line.ljust(at) + text
    return line


def write_png(
    path: Path, series: Series, title: str, lines: Sequence[str], label: Callable[[float], str]
) -> None:
    """Draw a picture of 1,200 by 500 pixels. Raises ``OSError`` if it cannot be written."""
    from PIL import Image, ImageDraw, ImageFont

    width, height = PNG_SIZE
    left, top, right, bottom = MARGIN
    image = Image.new("RGB", PNG_SIZE, "white")
    draw = ImageDraw.Draw(image)
    font, large = ImageFont.load_default(13), ImageFont.load_default(18)
    box = (left, top, width - right, height - bottom)
    for part in range(5):
        y = box[3] - (box[3] - box[1]) * part // 4
        draw.line((box[0], y, box[2], y), fill=COLOURS["grid"])
        mark = f"{series.most * part / 4:,.0f}"
        draw.text((box[0] - 8, y), mark, fill=INK, font=font, anchor="rm")
    for part in range(7):
        x = box[0] + (box[2] - box[0]) * part // 6
        draw.line((x, box[3], x, box[3] + 5), fill=INK)
        draw.text((x, box[3] + 8), label(part / 6), fill=INK, font=font, anchor="mt")
    named = [(series.first, series.now)]
    if series.after is not None:
        named.append(("after", series.after))
    for number, (name, values) in enumerate(named):
        _area(draw, box, values, series.most, COLOURS[name])
        x = box[2] - 90 * (len(named) - number)
        draw.rectangle((x, 22, x + 12, 34), fill=COLOURS[name])
        draw.text((x + 18, 28), name, fill=INK, font=font, anchor="lm")
    draw.text((box[0], 28), title, fill=INK, font=large, anchor="lm")
    draw.text((box[0], height - 12), "   ".join(lines), fill=INK, font=font, anchor="lm")
    image.save(path, "PNG")


def _area(
    draw: ImageDraw,
    box: tuple[int, int, int, int],
    values: Sequence[int],
    most: int,
    colour: tuple[int, int, int],
) -> None:
    """Draw values as a line of steps; a column of pixels shows its highest."""
    wide, high = box[2] - box[0], box[3] - box[1]
    count = len(values)
    points: list[tuple[float, float]] = []
    for x in range(wide):
        begin = x * count // wide
        peak = max(values[begin : max(begin + 1, (x + 1) * count // wide)])
        points.append((box[0] + x, box[3] - high * peak / most))
    draw.line(points, fill=colour, width=2)
