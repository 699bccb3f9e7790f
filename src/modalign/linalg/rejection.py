"""Rejection of images of unknown classes, with a guaranteed rate for images of known classes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal, get_args

import torch
from jaxtyping import Bool, Float, Int, Real
from torch import Tensor

from modalign.core.errors import InputError
from modalign.linalg.inputs import class_indices, float_tensor

Confidence = Literal["probability", "margin", "score"]

_MANY = 2.0**53  # images; the inverse of a tiny share is infinite


@dataclass(frozen=True)
class Rejection:
    """Confidences of held-out images of the known classes, the reference distribution for new images.

    Attributes
    ----------
    kind : {"probability", "margin", "score"}
        Measure of confidence, see :func:`confidence_score`.
    reference : tuple of float
        n confidences of held-out images of the known classes, ascending.
    separation : float or None, default=None
        Area under the ROC curve between images of a left-out class and images of other classes: the share of pairs in
        which the former has the lower confidence. None if it could not be estimated.
    caught : float or None, default=None
        Share of images of left-out classes that are rejected at ``level`` 0.05, or None. Both are optimistic for a
        method that was trained on images of the left-out class.
    """

    kind: Confidence
    reference: tuple[float, ...]
    separation: float | None = None
    caught: float | None = None

    def p_values(self, logits: Real[Tensor, "m C"]) -> Float[Tensor, " m"]:
        r"""Return the p-value of each image under the hypothesis that it is of a known class, (m,).

        .. math:: p = \frac{1 + |\{i : s_i \le s\}|}{n + 1}

        For images of known classes from the distribution of the reference, :math:`P(p \le \alpha) \le \alpha` for every
        :math:`\alpha` and every classifier.

        Parameters
        ----------
        logits : Tensor of shape (m, C)
            Scores divided by the temperature.

        References
        ----------
        Vovk, Gammerman and Shafer, Algorithmic learning in a random world, 2005 (conformal prediction).
        """
        reference = torch.tensor(self.reference, dtype=torch.float64)
        sure = confidence_score(float_tensor(logits, "logits", ndim=2).cpu().double(), self.kind)
        below = torch.searchsorted(reference, sure, right=True)
        return (1 + below.double()) / (len(reference) + 1)

    def rejects(self, logits: Real[Tensor, "m C"], level: float = 0.05) -> Bool[Tensor, " m"]:
        """Return which images are rejected, (m,); on average at most a share ``level`` of those of known classes."""
        self.require(level)
        return self.p_values(logits) <= level

    def require(self, level: float, advice: str = "hold out more images") -> None:
        """Raise unless ``level`` is between 0 and 1 and the reference has enough images for it.

        Parameters
        ----------
        level : float
            Maximum share of rejected images of known classes.
        advice : str, default="hold out more images"
            Advice on how to get more held-out images, for the message.
        """
        if not 0 < level < 1:
            raise InputError(f"Expected a share of images of known classes between 0 and 1, got {level}.")
        n = len(self.reference)
        if n < images_needed(level):
            allow = f", or allow {math.ceil(1000 / (n + 1)) / 1000:g} or more" if n else ""
            raise InputError(
                f"Expected at least {images_needed(level)} held-out images to refuse at most {100 * level:g} % of "
                f"the images of known classes, got {n or 'none'}; {advice}{allow}."
            )


def images_needed(level: float) -> int:
    """Return the smallest number n of held-out images for a rejection level, 1 / (n + 1) ≤ ``level``."""
    n = math.ceil(min(1 / level, _MANY)) - 1
    return n if level >= 1 / (n + 1) else n + 1  # the quotient may have been rounded down


def confidence_score(logits: Real[Tensor, "m C"], kind: Confidence = "probability") -> Float[Tensor, " m"]:
    """Return the confidence of a classifier for each image, (m,).

    ``probability`` is the largest softmax probability, ``margin`` the difference of the two largest logits, and
    ``score`` the largest logit, which unlike the others depends on the absolute similarity of an image to a class.
    """
    logits = float_tensor(logits, "logits", ndim=2)
    if logits.shape[1] < 2:
        raise InputError(f"Expected scores of at least 2 classes, got {logits.shape[1]}.")
    if kind == "score":
        return logits.amax(dim=1)
    if kind == "margin":
        first, second = logits.topk(2, dim=1).values.unbind(dim=1)
        return first - second
    return logits.softmax(dim=1).amax(dim=1)


def fit_rejection(
    logits: Real[Tensor, "n C"],
    labels: Int[Tensor, " n"] | None = None,
    *,
    kinds: Sequence[Confidence] = get_args(Confidence),
) -> Rejection:
    """Select the confidence measure that best separates unknown classes, and compute its reference values.

    No images of unknown classes are needed: each class in turn is left out by removing its column, and its images serve
    as unknown ones. The measure with the largest mean area under the ROC curve is selected.

    Parameters
    ----------
    logits : Tensor of shape (n, C)
        Scores divided by the temperature, of held-out images.
    labels : Tensor of shape (n,) or None, default=None
        Class indices. Without labels, or with fewer than 3 classes, the first of ``kinds`` is used.
    kinds : sequence of {"probability", "margin", "score"}
        Measures to select from.

    Returns
    -------
    Rejection
        Cost: O(n C²) for C left-out classes; at most 50, evenly spaced.

    Raises
    ------
    InputError
        There are no images or fewer than two classes, labels are outside 0…C − 1, or a logit is not finite.
    """
    logits = float_tensor(logits, "logits", ndim=2).cpu().double()
    if not len(logits):
        raise InputError("Expected at least one held-out image to learn a rejection threshold from, got none.")
    best, separation, caught = kinds[0], None, None
    if labels is not None:
        labels = class_indices(labels.cpu(), len(logits), logits.shape[1])
        present = labels.unique()
        if len(present) > 1 and logits.shape[1] > 2:
            found = {kind: _left_out(logits, labels, present, kind) for kind in kinds}
            best = max(found, key=lambda kind: found[kind][0])
            separation, caught = found[best]
    reference = confidence_score(logits, best).sort().values
    return Rejection(best, tuple(reference.tolist()), separation, caught)


def _left_out(logits: Tensor, labels: Tensor, present: Tensor, kind: Confidence) -> tuple[float, float]:
    """Mean over left-out classes of the area under the ROC curve and of the share rejected at 0.05."""
    chosen = present[torch.linspace(0, len(present) - 1, min(len(present), 50)).round().long()]
    areas, shares = [], []
    for c in chosen:
        columns = torch.arange(logits.shape[1]) != c
        sure = confidence_score(logits[:, columns], kind)
        strangers, known = sure[labels == c], sure[labels != c].sort().values
        below = torch.searchsorted(known, strangers, right=False)
        ties = torch.searchsorted(known, strangers, right=True) - below
        areas.append(1 - float((below + ties / 2).mean() / len(known)))
        p = (1 + below + ties) / (len(known) + 1)
        shares.append(float((p <= 0.05).double().mean()))
    return fmean(areas), fmean(shares)
