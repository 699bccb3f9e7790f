"""The results of ``bench.label_free``, for a terminal and as Markdown."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from bench.label_free import Row

HEAD = """# No labels

Methods that get a folder of images and the class texts, on folders of many kinds: {protocol}.

- *Transduction* is the answer for the images that the method was fitted on, *new* that for other images, which show
  every class. Zero-shot stands in percent, all others in points above or below it on the same images.
- Caltech101: 68 classes with text, CLIP ViT-B/32; the pool is the training and validation images, new images are the
  test split. Digits: the embedded encoder, half of the images each.
- `auto` is what `adapt` and `fit` do without labels. ✗ marks `auto`, `anchored_gaussian` and `gpua` where they are more
  than 1 point below zero-shot. Of 25 images, one is 4 points.
- Seconds are processor time of one fit.
- Machine: {machine}.

`python -m bench.label_free --out docs/results/label_free.md` makes this page. The figures of every draw are in
`label_free.jsonl`; draws that are there are not measured again.
"""


def show(rows: Sequence[Row], protocol: str) -> None:
    """One table per data set: kinds of folders down, methods across."""
    print(protocol)
    for name, header, lines in _tables(rows, _plain):
        widths = [max(map(len, column)) for column in zip(header, *lines, strict=True)]
        print(f"\n{name}")
        for line in (header, *lines):
            print("  ".join(f"{cell:>{width}}" for cell, width in zip(line, widths, strict=True)))


def tables(rows: Sequence[Row], protocol: str, machine: str) -> str:
    """The page."""
    parts = [HEAD.format(protocol=protocol, machine=machine)]
    for figure, cell in (("mean over draws", _plain), ("the worst draw", _worst)):
        for name, header, lines in _tables(rows, cell):
            ruled = [header, ["---"] * len(header), *lines]
            parts.append(f"## {name}, {figure}\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in ruled) + "\n")
    return "\n".join(parts)


def _tables(rows: Sequence[Row], cell: Callable[[Row], str]) -> Iterator[tuple[str, list[str], list[list[str]]]]:
    """Name, header and lines of the table of each data set."""
    for name in dict.fromkeys(row.dataset for row in rows):
        own = [row for row in rows if row.dataset == name]
        methods = list(dict.fromkeys(row.method for row in own))
        lines = []
        for kind in dict.fromkeys(row.kind for row in own):
            line = {row.method: row for row in own if row.kind == kind}
            first = next(iter(line.values()))
            base = f"{first.zero_shot[0]:.1f} / {first.zero_shot[1]:.1f}"
            lines.append([kind, f"{first.images:.0f}", base, *(cell(line[method]) for method in methods)])
        seconds = [np.mean([row.seconds for row in own if row.method == method]) for method in methods]
        lines.append(["CPU s per fit", "", "", *(f"{value:.2f}" for value in seconds)])
        yield name, ["folder", "images", "zero-shot", *methods], lines


def _plain(row: Row) -> str:
    return f"{row.transduction:+.1f} / {row.new:+.1f}{' ✗' if row.missed() else ''}"


def _worst(row: Row) -> str:
    return f"{row.worst[0]:+.1f} / {row.worst[1]:+.1f}"
