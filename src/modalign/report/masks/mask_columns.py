"""Label maps side by side, such as a baseline, another model and the truth: on a page, or as one picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from PIL import Image, ImageDraw

from modalign.core.errors import InputError
from modalign.report.examples import data_uri
from modalign.report.templating import render
from modalign.report.text import shorten
from modalign.segmentation.overlay import colored, legend_font

_SIDE = 320  # pixels of the longer side of a picture on a page, and of the width in a figure
_INK, _PAPER, _EMPTY = (29, 37, 48), (255, 255, 255), 235  # gray where a pixel has no class and there is no photo


@dataclass(frozen=True)
class MaskRow:
    """One photo: a label map for each column.

    Attributes
    ----------
    title : str
        Title of the row.
    maps : sequence of ndarray
        Label maps (H, W) of one size; labels from K on have no class.
    photo : ndarray, default=None
        (H, W, 3) uint8, in gray under the colors, so that these can be compared. None: the colors alone.
    """

    title: str
    maps: Sequence[np.ndarray]
    photo: np.ndarray | None = None

    def pictures(self, colors: np.ndarray) -> list[Image.Image]:
        """The maps in color."""
        if self.photo is None:
            ground, opacity = np.full((*self.maps[0].shape, 3), _EMPTY, np.uint8), 1.0
        else:
            ground, opacity = np.asarray(Image.fromarray(self.photo).convert("L").convert("RGB")), 0.6
        return [Image.fromarray(colored(ground, labels, colors, opacity)) for labels in self.maps]


@dataclass(frozen=True)
class MaskColumns:
    """Photos down, label maps across, with the names of the classes that occur.

    Attributes
    ----------
    headings : sequence of str
        Titles of the columns, such as ``["SC-CLIP", "SC-CLIP + GPUA", "truth"]``.
    rows : sequence of MaskRow
        The photos.
    names : sequence of str
        K class names.
    colors : ndarray of shape (K, 3), uint8
        A color per class.
    """

    headings: Sequence[str]
    rows: Sequence[MaskRow]
    names: Sequence[str]
    colors: np.ndarray

    def __post_init__(self) -> None:
        if not self.rows or any(len(row.maps) != len(self.headings) for row in self.rows):
            raise InputError(f"Expected rows of {len(self.headings)} label maps, one per heading.")

    @property
    def occurring(self) -> list[tuple[str, str]]:
        """(name, color) of the classes in any of the maps, in class order."""
        found = np.unique(np.concatenate([np.unique(labels) for row in self.rows for labels in row.maps]))
        return [(self.names[k], "#{:02x}{:02x}{:02x}".format(*self.colors[k])) for k in found if k < len(self.names)]

    def html(self) -> str:
        """The rows as figures for a page, pictures embedded."""
        rows = []
        for row in self.rows:
            pictures = row.pictures(self.colors)
            for picture in pictures:
                picture.thumbnail((_SIDE, _SIDE), Image.Resampling.BILINEAR)
            kind = "png" if row.photo is None else "jpeg"
            rows.append((row.title, [(h, data_uri(p, kind)) for h, p in zip(self.headings, pictures, strict=True)]))
        return render("mask_columns.html", rows=rows, occurring=self.occurring, columns=len(self.headings))

    def png(self) -> bytes:
        """One picture of all rows with headings above and a legend below, as in papers."""
        pad, size = 10, 17
        font = legend_font(size)
        rows = [[_fitted(picture) for picture in row.pictures(self.colors)] for row in self.rows]
        width = len(self.headings) * (_SIDE + pad) + pad
        legend = _legend_lines([name for name, _ in self.occurring], width - 2 * pad, size)
        heights = [max(picture.height for picture in row) for row in rows]
        out = Image.new("RGB", (width, 2 * size + sum(h + pad for h in heights) + len(legend) * size * 3 // 2), _PAPER)
        draw = ImageDraw.Draw(out)
        for column, heading in enumerate(self.headings):
            at = (pad + column * (_SIDE + pad) + _SIDE // 2, size)
            draw.text(at, shorten(heading, 34), font=font, fill=_INK, anchor="mm")
        top = 2 * size
        for row, height in zip(rows, heights, strict=True):
            for column, picture in enumerate(row):
                out.paste(picture, (pad + column * (_SIDE + pad), top))
            top += height + pad
        of_name = dict(self.occurring)
        for line in legend:
            for left, name in line:
                draw.rectangle((pad + left, top, pad + left + size, top + size), fill=of_name[name])
                draw.text((pad + left + size * 3 // 2, top + size // 2), name, font=font, fill=_INK, anchor="lm")
            top += size * 3 // 2
        buffer = BytesIO()
        out.save(buffer, "PNG")
        return buffer.getvalue()


def _fitted(picture: Image.Image) -> Image.Image:
    """The picture in the width of a column."""
    height = max(1, round(picture.height * _SIDE / picture.width))
    smooth = picture.width > _SIDE
    return picture.resize((_SIDE, height), Image.Resampling.BILINEAR if smooth else Image.Resampling.NEAREST)


def _legend_lines(names: Sequence[str], width: int, size: int) -> list[list[tuple[int, str]]]:
    """Lines of (left edge, name) that fit into the width."""
    lines: list[list[tuple[int, str]]] = [[]]
    left = 0
    for name in names:
        taken = round(legend_font(size).getlength(name)) + size * 5 // 2
        if lines[-1] and left + taken > width:
            lines.append([])
            left = 0
        lines[-1].append((left, name))
        left += taken
    return lines
