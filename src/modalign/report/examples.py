"""A strip of example images with what a classifier says about them."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from PIL import Image

_TINY = 48  # images no larger are shown pixel by pixel, not smoothed


@dataclass(frozen=True)
class Example:
    """One image and its answer.

    Attributes
    ----------
    image : decoded.
    answer : the name the classifier gives.
    truth : the right name, if it is known.
    probability : how sure the answer is, 0…1, if that is known.
    note : anything else worth a line.
    """

    image: Image.Image
    answer: str
    truth: str | None = None
    probability: float | None = None
    note: str = ""

    @property
    def right(self) -> bool | None:
        """Whether the answer is the truth; None where that is unknown."""
        return None if self.truth is None else self.answer == self.truth


@dataclass(frozen=True)
class Examples:
    """Images side by side, as many in a row as fit; wrong answers are marked by colour and by words."""

    examples: Sequence[Example]

    def html(self) -> str:
        """The strip, images embedded, everything escaped."""
        return f'<div class="examples">{"".join(map(_item, self.examples))}</div>'


def thumbnail(image: Image.Image, size: int = 96) -> str:
    """A data URI of the image for a square of ``size`` CSS pixels: PNG pixel by pixel for tiny images, else JPEG."""
    buffer = io.BytesIO()
    if max(image.size) <= _TINY:
        (image if image.mode in ("L", "RGB") else image.convert("RGB")).save(buffer, "PNG", optimize=True)
        kind = "png"
    else:
        small = image.convert("RGB")
        small.thumbnail((2 * size, 2 * size), Image.Resampling.LANCZOS)
        small.save(buffer, "JPEG", quality=80, optimize=True)
        kind = "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _item(example: Example) -> str:
    sure = "" if example.probability is None else f" <small>{100 * example.probability:.0f}\u00a0%</small>"
    correction = f'<span class="truth">is {escape(str(example.truth))}</span>' if example.right is False else ""
    note = f"<small>{escape(example.note)}</small>" if example.note else ""
    crisp = ' class="crisp"' if max(example.image.size) <= _TINY else ""
    alt = f"named {example.answer}" + ("" if example.truth is None else f", is {example.truth}")
    mark = ' class="wrong"' if example.right is False else ""
    return (
        f'<figure{mark}><img{crisp} src="{thumbnail(example.image)}" alt="{escape(alt)}" loading="lazy">'
        f"<figcaption>{escape(example.answer)}{sure}{correction}{note}</figcaption></figure>"
    )
