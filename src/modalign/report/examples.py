"""Strip of example images with the predictions of a classifier."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from modalign.evaluate.metrics import percent
from modalign.report.templating import render

_TINY = 48  # images no larger are shown pixel by pixel, not smoothed
_BYTES = 12_000  # of one thumbnail at most


@dataclass(frozen=True)
class Example:
    """One image and its answer.

    Attributes
    ----------
    image : PIL.Image.Image
        Decoded; only its thumbnail is kept on the page.
    answer : str
        Predicted class.
    truth : str, default=None
        True class, if it is known.
    probability : float, default=None
        Of the answer, if it is known.
    id : str, default=""
        Name of the image.
    """

    image: Image.Image
    answer: str
    truth: str | None = None
    probability: float | None = None
    id: str = ""

    @property
    def right(self) -> bool | None:
        """Whether the answer is the truth; None where that is unknown."""
        return None if self.truth is None else self.answer == self.truth

    @property
    def tiny(self) -> bool:
        """Whether the image is shown pixel by pixel."""
        return is_tiny(self.image)

    @property
    def percentage(self) -> str:
        """The probability in percent."""
        return "" if self.probability is None else f"{percent(self.probability)} %"

    @property
    def alt(self) -> str:
        """Alternative text of the example."""
        truth = "" if self.truth is None else f", true class {self.truth}"
        sure = f" ({self.percentage})" if self.percentage else ""
        return f"predicted {self.answer}{sure}{truth}"

    @property
    def thumbnail(self) -> str:
        """The image as a data URI."""
        return thumbnail(self.image)


@dataclass(frozen=True)
class Examples:
    """Images side by side, as many in a row as fit; wrong answers are marked by color and by words."""

    examples: Sequence[Example]

    def html(self) -> str:
        """The strip, images embedded, everything escaped."""
        return render("examples.html", examples=self.examples)


def is_tiny(image: Image.Image) -> bool:
    """Whether an image is shown pixel by pixel."""
    return max(image.size) <= _TINY


def thumbnail(image: Image.Image, size: int = 96) -> str:
    """A data URI of the image for a square of ``size`` CSS pixels, of at most 16,100 characters.

    Tiny images are kept pixel by pixel as PNG; others become JPEG, of lower quality where they would be too large.
    """
    if is_tiny(image):
        small = image if image.mode in ("L", "RGB") else image.convert("RGB")
        return data_uri(small, "png", optimize=True)
    small = image.convert("RGB")
    small.thumbnail((2 * size, 2 * size), Image.Resampling.LANCZOS)
    for quality in (80, 60, 40, 20, 5):
        uri = data_uri(small, "jpeg", quality=quality, optimize=True)
        if len(uri) * 3 / 4 <= _BYTES:
            break
    return uri


def data_uri(image: Image.Image, kind: str, **options: object) -> str:
    """The image as a data URI of this kind, such as ``png``."""
    buffer = io.BytesIO()
    image.save(buffer, kind.upper(), **options)
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"
