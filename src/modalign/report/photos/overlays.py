"""An image and maps over it, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from PIL import Image

from modalign.report.examples import data_uri, is_tiny
from modalign.report.templating import render


class OverlayPicture(NamedTuple):
    """One picture.

    Attributes
    ----------
    image : ndarray of shape (H, W, 3), uint8
        What is shown.
    caption, note : str
        Below it; the note is in small print and may be empty.
    alt : str
        For those who cannot see it.
    """

    image: np.ndarray
    caption: str
    note: str
    alt: str


@dataclass(frozen=True)
class Overlays:
    """Pictures of one size side by side, larger than :class:`~modalign.report.examples.Examples`."""

    pictures: Sequence[OverlayPicture]

    def html(self) -> str:
        """The pictures, embedded, everything escaped."""
        shown = []
        for picture in self.pictures:
            image = Image.fromarray(picture.image)
            kind, options = ("png", {}) if is_tiny(image) else ("jpeg", {"quality": 85})
            shown.append(
                {
                    "source": data_uri(image, kind, optimize=True, **options),
                    "tiny": is_tiny(image),
                    "caption": picture.caption,
                    "note": picture.note,
                    "alt": picture.alt,
                }
            )
        return render("overlays.html", pictures=shown)
