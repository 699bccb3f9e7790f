"""Detection of dark, bright, blurred or tiny pictures from their pixels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from modalign.core.errors import UndecodableError
from modalign.core.progress import track
from modalign.data.items import Items

SIDE = 256  # pixels of the longer side that pictures are measured at
TINY = 32  # pixels of the shorter side; smaller pictures are enlarged by every encoder
DARK, BRIGHT = 0.32, 0.95  # 99th and 5th percentile of brightness: the limits of CleanVision
BLURRED = 0.1  # 1 of 799 photos of Caltech101 lies below it, and 99 % (90 %) of them blurred by 4 (2) of 256 pixels


class Quality(NamedTuple):
    """Measurements of one picture: shorter side in pixels, two percentiles of brightness, sharpness."""

    shorter_side: int
    brightest: float
    darkest: float
    sharpness: float

    def troubles(self) -> list[tuple[str, float, str]]:
        """Return (kind, value, description) for each problem of the picture."""
        found = []
        if self.shorter_side < TINY:
            found.append(("tiny", float(self.shorter_side), f"the shorter side has {self.shorter_side} pixels"))
        if self.brightest < DARK:
            found.append(("dark", self.brightest, f"99 % of the pixels are darker than {100 * self.brightest:.0f} %"))
        elif self.darkest > BRIGHT:
            found.append(("bright", self.darkest, f"95 % of the pixels are brighter than {100 * self.darkest:.0f} %"))
        elif self.shorter_side >= TINY and self.sharpness < BLURRED:
            found.append(("blurred", self.sharpness, f"edges have {self.sharpness:.3f} of the contrast"))
        return found


def measure_quality(image: Image.Image) -> Quality:
    r"""Size, brightness and sharpness of a picture.

    Brightness is the luma in 0…1. Sharpness is the standard deviation of its Laplacian divided by its own, after the
    longer side is made at most 256 pixels: blur removes fine detail and leaves the contrast between regions.

    Parameters
    ----------
    image : PIL.Image.Image
        Decoded.

    Returns
    -------
    Quality
        Sharpness is infinite for a picture of one color, which has no detail to lose.
    """
    shorter = min(image.size)
    small = image.convert("L")
    small.thumbnail((SIDE, SIDE), Image.Resampling.BOX)
    luma = np.asarray(small, dtype=np.float64) / 255
    darkest, brightest = np.quantile(luma, (0.05, 0.99))
    spread = luma.std()
    if spread < 1e-3 or min(luma.shape) < 3:
        return Quality(shorter, float(brightest), float(darkest), float("inf"))
    center = luma[1:-1, 1:-1]
    edges = luma[:-2, 1:-1] + luma[2:, 1:-1] + luma[1:-1, :-2] + luma[1:-1, 2:] - 4 * center
    return Quality(shorter, float(brightest), float(darkest), float(edges.std() / spread))


def qualities(items: Items, indices: Sequence[int]) -> dict[int, Quality]:
    """:func:`measure_quality` of the given images; those that cannot be decoded are skipped."""
    found = {}
    for i in track(indices, "Measuring pictures", unit="images"):
        try:
            found[i] = measure_quality(items.open(i))
        except UndecodableError:
            continue
    return found


__all__ = ["Quality", "measure_quality", "qualities"]
