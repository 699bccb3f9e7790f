"""The explanation of one answer of a classifier."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import escape
from PIL import Image

from modalign.core.display import html_table, shorten_repr, visible
from modalign.model.explaining.deletion import DeletionTest
from modalign.model.explaining.reasons import Neighbor, SentenceShare

if TYPE_CHECKING:
    from modalign.methods.prompts.patch_plans import PatchPlans

MARK = (200, 74, 8)  # color of a map
_SIDE = 160  # CSS pixels of a picture in a notebook


@dataclass(frozen=True, eq=False)
class Explanation:
    """Explanation of one answer; see :meth:`Classifier.explain <modalign.Classifier.explain>`.

    Attributes
    ----------
    id, class_name : str
        The image, and the class that is explained.
    probability : float
        Calibrated probability of that class.
    top : tuple of tuple of (str, float)
        Up to five classes with their probabilities, most probable first.
    image : ndarray of shape (H, W, 3), uint8
        The image after preprocessing, as the input of the encoder.
    maps : mapping of str to ndarray, default={}
        Class → probability of the class for each patch by itself, (rows, columns), for the class that is explained and
        the two most probable others. Empty unless the deletion test was passed.
    test : DeletionTest or None, default=None
        The deletion test; None if none was made.
    neighbors : tuple of Neighbor, default=()
        The nearest labeled images; those of the explained class where one was named.
    sentences : tuple of SentenceShare, default=()
        The nearest sentences about the classes.
    plans : PatchPlans or None, default=None
        Transport plans of ALIGN and PLOT, where the test was passed.
    notes : tuple of str, default=()
        What could not be computed, and why.
    model : str, default=""
        Method and encoder.
    """

    id: str
    class_name: str
    probability: float
    top: tuple[tuple[str, float], ...]
    image: np.ndarray
    maps: Mapping[str, np.ndarray] = field(default_factory=dict)
    test: DeletionTest | None = None
    neighbors: tuple[Neighbor, ...] = ()
    sentences: tuple[SentenceShare, ...] = ()
    plans: PatchPlans | None = None
    notes: tuple[str, ...] = ()
    model: str = ""

    def overlays(self) -> dict[str, np.ndarray]:
        """For every map the image in gray, (H, W, 3) uint8, its patches colored by their probability.

        No color is 0; the strongest is the largest probability in any of the maps.
        """
        top = max((float(values.max()) for values in self.maps.values()), default=0.0)
        return {name: overlaid(self.image, values / max(top, 1e-12)) for name, values in self.maps.items()}

    def as_dict(self) -> dict[str, Any]:
        """Everything but pictures and transport plans, for JSON."""
        return {
            "id": self.id,
            "model": self.model,
            "class": self.class_name,
            "probability": self.probability,
            "top": dict(self.top),
            "maps": {name: values.tolist() for name, values in self.maps.items()},
            "deletion_test": None if self.test is None else self.test.as_dict(),
            "neighbors": [
                {"id": n.id, "class": n.class_name, "cosine": n.cosine, "weight": n.weight} for n in self.neighbors
            ],
            "sentences": [
                {"sentence": s.sentence, "class": s.class_name, "cosine": s.cosine, "share": s.share}
                for s in self.sentences
            ],
            "notes": list(self.notes),
        }

    def save(self, path: str | Path) -> Path:
        """Write one self-contained HTML page, atomically.

        Parameters
        ----------
        path : str or Path
            A name that ends in ``.html``.
        """
        from modalign.report.photos.explanation_page import save_explanation_page

        return save_explanation_page([self], path)

    def __repr__(self) -> str:
        known = [
            f"{len(self.maps)} patch maps" if self.maps else "no patch map",
            *([f"{len(self.neighbors)} neighbors"] if self.neighbors else []),
            *([f"{len(self.sentences)} sentences"] if self.sentences else []),
        ]
        return (
            f"Explanation({shorten_repr(self.id)}: {shorten_repr(self.class_name)} {self.probability:.3f}; "
            f"{', '.join(known)})"
        )

    def _repr_html_(self) -> str:
        pictures = "".join(_inline(overlay, name) for name, overlay in self.overlays().items())
        classes = html_table(
            f"{self.id}: {self.subject}", ["class", "probability"], [[n, f"{100 * p:.1f} %"] for n, p in self.listed]
        )
        tables = [html_table("", *table) for table in (self.neighbor_table, self.sentence_table) if table[1]]
        notes = html_table("", ["notes"], [[note] for note in self.notes]) if self.notes else ""
        return f"<div>{_inline(self.image, self.id)}{pictures}</div>{classes}{''.join(tables)}{notes}"

    @property
    def subject(self) -> str:
        """The class that is explained and, where it is another one, the answer."""
        answer = self.top[0][0] if self.top else self.class_name
        if answer == self.class_name:
            return answer
        return f"explained as {self.class_name}; the answer is {answer}"

    @property
    def listed(self) -> tuple[tuple[str, float], ...]:
        """Classes and probabilities of ``top``, with those of the explained class."""
        own = (self.class_name, self.probability)
        return self.top if own[0] in dict(self.top) else (*self.top, own)

    @property
    def neighbor_table(self) -> tuple[list[str], list[list[str]]]:
        """Header and rows in words."""
        weighted = any(n.weight is not None for n in self.neighbors)
        rows = [
            [n.id, n.class_name, f"{n.cosine:.3f}", *([f"{n.weight:.3g}"] if n.weight is not None else [])]
            for n in self.neighbors
        ]
        return ["labeled image", "class", "cosine", *(["added to the score"] if weighted else [])], rows

    @property
    def sentence_table(self) -> tuple[list[str], list[list[str]]]:
        """Header and rows in words; no rows if each class has one sentence, which is all of its text."""
        if all(abs(s.share) > 1 - 1e-6 for s in self.sentences):
            return [], []
        rows = [[s.sentence, s.class_name, f"{s.cosine:.3f}", f"{100 * s.share:.1f} %"] for s in self.sentences]
        return ["sentence", "class", "cosine", "share of the class text"], rows


def overlaid(image: np.ndarray, strength: np.ndarray) -> np.ndarray:
    """The image in light gray with one color over its patches, as strong as ``strength`` (rows, columns) in 0…1."""
    height, width = image.shape[:2]
    gray = np.repeat(0.5 * image.mean(axis=2, keepdims=True) + 127, 3, axis=2)
    rows = np.arange(height) * strength.shape[0] // height
    columns = np.arange(width) * strength.shape[1] // width
    alpha = 0.8 * strength.clip(0, 1)[rows[:, None], columns, None]
    return ((1 - alpha) * gray + alpha * np.array(MARK)).round().astype(np.uint8)


def _inline(image: np.ndarray, name: str) -> str:
    """An ``img`` element with the picture in it."""
    from modalign.report.examples import data_uri, is_tiny

    picture, title = Image.fromarray(image), escape(visible(name))
    source = data_uri(picture, "png") if is_tiny(picture) else data_uri(picture, "jpeg", quality=85)
    scaled = ";image-rendering:pixelated" if is_tiny(picture) else ""
    style = f"display:inline-block;margin:0 8px 8px 0{scaled}"
    return f'<img src="{source}" alt="{title}" title="{title}" width="{_SIDE}" style="{style}">'
