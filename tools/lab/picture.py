"""A terminal's screen as a picture, for the documentation."""

from __future__ import annotations

from pathlib import Path

import pyte
from PIL import Image, ImageDraw, ImageFont

from lab import host

FONTS = Path("/usr/share/fonts/truetype/dejavu")
SIZE = 16
MARGIN = 8
#: the 16 colours of a Linux console, by pyte's names
COLOURS = {
    "black": "#000000", "red": "#cc2222", "green": "#22aa22", "brown": "#aa8800", "blue": "#2244cc",
    "magenta": "#aa22aa", "cyan": "#22aaaa", "white": "#dddddd", "brightblack": "#666666",
    "brightred": "#ff5555", "brightgreen": "#55ff55", "brightbrown": "#ffff55", "brightyellow": "#ffff55",
    "brightblue": "#6688ff", "brightmagenta": "#ff55ff", "brightcyan": "#55ffff", "brightwhite": "#ffffff",
}  # fmt: skip
FOREGROUND, BACKGROUND = "#dddddd", "#101418"


def of_screen(screen: pyte.Screen, path: Path) -> None:
    """Draw *screen*, cell by cell, into the PNG *path*."""
    host.require("/usr/share/fonts/truetype/dejavu/DejaVuSansMono.ttf")
    regular = ImageFont.truetype(str(FONTS / "DejaVuSansMono.ttf"), SIZE)
    bold = ImageFont.truetype(str(FONTS / "DejaVuSansMono-Bold.ttf"), SIZE)
    width, height = round(regular.getlength("M")), SIZE + 4
    size = screen.columns * width + 2 * MARGIN, screen.lines * height + 2 * MARGIN
    image = Image.new("RGB", size, BACKGROUND)
    draw = ImageDraw.Draw(image)
    for row in range(screen.lines):
        for column in range(screen.columns):
            cell = screen.buffer[row][column]
            front, back = _colour(cell.fg, FOREGROUND), _colour(cell.bg, BACKGROUND)
            if cell.reverse:
                front, back = back, front
            left, top = MARGIN + column * width, MARGIN + row * height
            draw.rectangle((left, top, left + width - 1, top + height - 1), fill=back)
            if cell.data.strip():
                draw.text((left, top + 1), cell.data, fill=front, font=bold if cell.bold else regular)
            if cell.underscore:
                draw.line((left, top + height - 2, left + width - 1, top + height - 2), fill=front)
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, optimize=True)


def _colour(name: str, default: str) -> str:
    if name == "default":
        return default
    return COLOURS.get(name, f"#{name}")
