"""Generated photos with obvious content."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw


def draw(folder: Path, per_class: int = 8) -> Path:
    """Discs and squares of many sizes and colours, one folder a shape."""
    rng = np.random.default_rng(0)
    for shape in ("disc", "square"):
        (folder / shape).mkdir(parents=True)
        for i in range(per_class):
            image = Image.new("RGB", (48, 40 + i), tuple(rng.integers(0, 80, 3)))
            x, y, r = *rng.integers(12, 28, 2), rng.integers(6, 12)
            pen = ImageDraw.Draw(image)
            outline = pen.ellipse if shape == "disc" else pen.rectangle
            outline((x - r, y - r, x + r, y + r), fill=tuple(rng.integers(150, 255, 3)))
            image.save(folder / shape / f"{i}.png")
    return folder
