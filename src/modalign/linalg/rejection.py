"""None of these: telling images of the known classes from everything else, with a guarantee on the known ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal, get_args

import torch
from torch import Tensor

from modalign.core.errors import InputError
from modalign.linalg.inputs import class_indices, real

Confidence = Literal["probability", "margin", "score"]


@dataclass(frozen=True)
class Rejection:
    """How sure a classifier is of images of its own classes, as the measure for new ones.

    Attributes
    ----------
    kind : {"probability", "margin", "score"}
        What is taken as confidence, see :func:`confidence_score`.
    reference : tuple of float
        n confidences of held-out images of the known classes, rising.
    separation : float or None, default=None
        Share of pairs (image of a class left out, image of another class) in which the stranger is the less confident
        one, the area under the ROC curve; None where it could not be estimated.
    caught : float or None, default=None
        Share of images of left-out classes that are refused at ``level`` 0.05; None likewise. Both are hopeful for a
        method that learned from images of the class that is left out.
    """

    kind: Confidence
    reference: tuple[float, ...]
    separation: float | None = None
    caught: float | None = None

    def p_values(self, logits: Tensor) -> Tensor:
        r"""(m,) how unusual each image would be if it were of a known class.

        .. math:: p = \frac{1 + |\{i : s_i \le s\}|}{n + 1}

        An image of the known classes, drawn like the reference, has :math:`P(p \le \alpha) \le \alpha` for every
        :math:`\alpha`, whatever the classifier.

        Parameters
        ----------
        logits : Tensor of shape (m, C)
            Scores divided by the temperature.

        References
        ----------
        Vovk, Gammerman and Shafer, Algorithmic learning in a random world, 2005 (conformal prediction).
        """
        reference = torch.tensor(self.reference, dtype=torch.float64)
        sure = confidence_score(real(logits, "logits", ndim=2).cpu().double(), self.kind)
        below = torch.searchsorted(reference, sure, right=True)
        return (1 + below.double()) / (len(reference) + 1)

    def rejects(self, logits: Tensor, level: float = 0.05) -> Tensor:
        """(m,) whether each image is refused: on average at most ``level`` of the images of known classes are."""
        self.require(level)
        return self.p_values(logits) <= level

    def require(self, level: float, advice: str = "hold out more images") -> None:
        """Raise unless ``level`` lies between 0 and 1 and the reference holds images enough to vouch for it.

        Parameters
        ----------
        level : float
            Share of images of known classes that may be refused.
        advice : str, default="hold out more images"
            How the caller can get more held-out images, for the message.
        """
        if not 0 < level < 1:
            raise InputError(f"Expected a share of images of known classes between 0 and 1, got {level}.")
        n = len(self.reference)
        if n < images_needed(level):
            allow = f", or allow {math.ceil(1000 / (n + 1)) / 1000:g} or more" if n else ""
            raise InputError(
                f"Expected at least {images_needed(level)} held-out images to refuse no more than {level:g} of the "
                f"known ones, got {n or 'none'}; {advice}{allow}."
            )


def images_needed(level: float) -> int:
    """The number n of held-out images from which a share ``level`` of known images can be refused: 1 / (n + 1)."""
    n = math.ceil(1 / level) - 1
    return n if level >= 1 / (n + 1) else n + 1  # the quotient may have been rounded down


def confidence_score(logits: Tensor, kind: Confidence = "probability") -> Tensor:
    """(m,) how sure a classifier is of each image; higher is surer.

    ``probability`` is the largest softmax probability, ``margin`` the largest logit less the second, ``score`` the
    largest logit itself, which unlike the others knows how near an image is to any class at all.
    """
    logits = real(logits, "logits", ndim=2)
    if logits.shape[1] < 2:
        raise InputError(f"Expected scores of at least 2 classes, got {logits.shape[1]}.")
    if kind == "score":
        return logits.amax(dim=1)
    if kind == "margin":
        first, second = logits.topk(2, dim=1).values.unbind(dim=1)
        return first - second
    return logits.softmax(dim=1).amax(dim=1)


def fit_rejection(
    logits: Tensor, labels: Tensor | None = None, *, kinds: Sequence[Confidence] = get_args(Confidence)
) -> Rejection:
    """The measure of confidence that best tells images of unseen classes apart, and its values on known ones.

    No image of "something else" is needed: each class in turn is left out, by taking its column away, and its own
    images become the strangers. What separates them best from the remaining images, over all classes, is chosen.

    Parameters
    ----------
    logits : Tensor of shape (n, C)
        Scores, divided by the temperature, of images that the classifier was not fitted on.
    labels : Tensor of shape (n,) or None, default=None
        Class indices; without them, or with fewer than 3 classes, nothing can be left out and the first of ``kinds`` is
        taken.
    kinds : sequence of {"probability", "margin", "score"}
        What may be taken as confidence.

    Returns
    -------
    Rejection
        Cost: O(n C²) for the C classes left out, which are at most 50, evenly spaced.

    Raises
    ------
    InputError
        No images, fewer than two classes, labels outside 0…C − 1, NaN or infinity.
    """
    logits = real(logits, "logits", ndim=2).cpu().double()
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
    """Mean over left-out classes of the area under the ROC curve and of the share of strangers refused at 0.05."""
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
