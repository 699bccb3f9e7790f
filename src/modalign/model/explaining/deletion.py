"""The deletion test: whether the patches that a map marks matter more than others."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from modalign.core.arrays import is_integer
from modalign.core.display import html_table
from modalign.core.errors import InputError, argument
from modalign.core.randomness import require_seed
from modalign.data.copies import content_hash
from modalign.data.items import load_items
from modalign.encoders.base import Encoder
from modalign.evaluate.paired import compare_pair, signed
from modalign.model.explaining.patch_scores import PatchScorer, blanked, prepared_images

if TYPE_CHECKING:
    from modalign.model.classifier import Classifier

SHARE = 0.2  # of the patches are blanked
DRAWS = 4  # sets of random patches per image


@dataclass(frozen=True)
class DeletionTest:
    """Result of a deletion test. Probabilities are means over the images, of the class predicted for the whole image.

    Attributes
    ----------
    n : int
        Images.
    whole, marked, random : float
        Mean probability for whole images, without the 20 % of patches with the highest score, and without 20 % of the
        patches drawn at random (the mean of 4 draws per image).
    difference, low, high : float
        Mean of ``random − marked``, and its 95 % interval over the images.
    random_state : int
        Seed of the images and of the random patches.
    why_not : str, default=""
        Why the model has no patch map, and so no test.
    """

    n: int
    whole: float
    marked: float
    random: float
    difference: float
    low: float
    high: float
    random_state: int
    why_not: str = ""

    @property
    def passed(self) -> bool:
        """Whether blanking the marked patches lowers the probability more, with an interval that excludes zero."""
        return not self.why_not and self.low > 0

    @property
    def sentence(self) -> str:
        """The result in words."""
        if self.why_not:
            return f"No patch map for this model: {self.why_not}."
        verdict = "The patch map passed the deletion test" if self.passed else "No reliable patch map for this model"
        return (
            f"{verdict}: without the 20 % of patches with the highest score the probability falls from "
            f"{100 * self.whole:.1f} to {100 * self.marked:.1f} %, without 20 % at random to {100 * self.random:.1f} % "
            f"({self.n} images; difference {signed(self.difference)} points, 95 % interval {signed(self.low)} to "
            f"{signed(self.high)})."
        )

    def as_dict(self) -> dict[str, Any]:
        """The numbers and the verdict, for JSON; None where there was no test."""
        numbers = {name: None if value != value else value for name, value in asdict(self).items()}
        return numbers | {"passed": self.passed}

    def __repr__(self) -> str:
        return f"DeletionTest({self.sentence})"

    def _repr_html_(self) -> str:
        rows = [[name, f"{100 * getattr(self, name):.1f} %"] for name in ("whole", "marked", "random")]
        return html_table(self.sentence, ["patches", "probability"], [] if self.why_not else rows)


def run_deletion_test(model: Classifier, images: Any, *, random_state: int, limit: int) -> DeletionTest:
    """See :meth:`Classifier.deletion_test <modalign.Classifier.deletion_test>`."""
    if not is_integer(limit) or limit < 1:
        raise InputError(f"Expected {argument('limit')} as a number of images from 1, got {limit!r}.")
    require_seed(random_state)
    items = load_items(images)
    new = [i for i in range(len(items)) if content_hash(items, i) not in model.fitted_on]
    if not new:
        raise InputError(
            f"Expected images that the model was not fitted on to test its patch map, got {len(items)} images, all of "
            "which it was fitted on or validated with; give others."
        )
    scorer = PatchScorer(model)
    if scorer.why_not:
        none = math.nan
        return DeletionTest(0, none, none, none, none, none, none, random_state, scorer.why_not)
    rng = np.random.default_rng(random_state)
    chosen = sorted(rng.permutation(new)[:limit].tolist())
    assert isinstance(model.encoder, Encoder)
    prepared = prepared_images(items.select(chosen), model.encoder)
    if not prepared:
        raise InputError(f"Expected images that can be decoded to test the patch map, got none of {len(chosen)}.")
    whole = scorer.probabilities(prepared)
    answers = whole.argmax(axis=1)
    rows = np.arange(len(prepared))
    marks = scorer.of_patches(prepared)[rows, answers]
    side, n_patches = marks.shape[1], marks[0].size
    blank = max(1, round(SHARE * n_patches))

    def without(patches: list[np.ndarray]) -> np.ndarray:
        pictures = [blanked(image, own, side) for image, own in zip(prepared, patches, strict=True)]
        return scorer.probabilities(pictures)[rows, answers]

    marked = without([np.argsort(-own.ravel(), kind="stable")[:blank] for own in marks])
    drawn = [without([rng.permutation(n_patches)[:blank] for _ in prepared]) for _ in range(DRAWS)]
    random = np.mean(drawn, axis=0)
    found = compare_pair(random.clip(0, 1), marked.clip(0, 1), seed=random_state)
    return DeletionTest(
        n=len(prepared),
        whole=float(whole[rows, answers].mean()),
        marked=float(marked.mean()),
        random=float(random.mean()),
        difference=found.difference,
        low=found.low,
        high=found.high,
        random_state=random_state,
    )
