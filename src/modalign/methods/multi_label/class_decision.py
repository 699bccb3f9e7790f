"""Calibration and threshold of one class in multi-label classification."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from modalign.methods.contract.selection import FOLDS, folds

MIN_POSITIVES = 5  # images of a class from which its threshold is chosen; with fewer it is 0.5
_FLATTEST = 1e-3  # slope of standardized margins where these do not rise with the labels


@dataclass(frozen=True)
class ClassDecision:
    """Calibration and threshold of one class.

    Attributes
    ----------
    slope, offset : float
        The probability of margin z is σ(slope · z + offset).
    threshold : float
        Probability from which an image counts as showing the class.
    calibrated : bool
        Whether these were fitted; else they are 1, 0 and 0.5.
    """

    slope: float = 1.0
    offset: float = 0.0
    threshold: float = 0.5
    calibrated: bool = False

    def probabilities(self, margins: np.ndarray) -> np.ndarray:
        """Probabilities of margins."""
        from scipy.special import expit  # late: predictions of one label per image do without SciPy

        return expit(self.slope * margins + self.offset)


def fit_decision(margins: np.ndarray, labels: np.ndarray) -> ClassDecision:
    r"""Platt's sigmoid of held-out margins, and the threshold of the highest F1.

    The sigmoid has the highest likelihood under the targets :math:`(n_+ + 1) / (n_+ + 2)` for the :math:`n_+` images
    that show the class, and :math:`1 / (n_- + 2)` for the others. They keep it finite where a threshold separates both.
    The threshold lies between the last margin that counts and the next lower one.

    Parameters
    ----------
    margins : ndarray of shape (n,)
        Of images that the model was not fitted to.
    labels : ndarray of shape (n,)
        1 or 0.

    Returns
    -------
    ClassDecision
        Not calibrated if one of both labels is absent.

    References
    ----------
    .. [1] Platt, "Probabilistic outputs for support vector machines and comparisons to regularized likelihood
       methods", 1999, section 2.2.
    """
    from sklearn.linear_model import LogisticRegression  # slow to import, and of no use to saved models

    positive = labels == 1
    n_positive, n_negative = int(positive.sum()), int((~positive).sum())
    spread = float(margins.std()) if len(margins) else 0.0
    if not n_positive or not n_negative or spread == 0:
        return ClassDecision()
    center = float(margins.mean())
    z = (margins - center) / spread
    target = np.where(positive, (n_positive + 1) / (n_positive + 2), 1 / (n_negative + 2))
    rows = np.concatenate([z, z])[:, None]
    model = LogisticRegression(C=np.inf, max_iter=1000).fit(
        rows, np.repeat([1, 0], len(z)), sample_weight=np.concatenate([target, 1 - target])
    )
    steep = max(float(model.coef_[0, 0]), _FLATTEST)
    slope = steep / spread
    offset = float(model.intercept_[0]) - slope * center
    found = ClassDecision(slope, offset, calibrated=True)
    if n_positive < MIN_POSITIVES:
        return found
    return ClassDecision(slope, offset, _best_threshold(found.probabilities(margins), positive), calibrated=True)


def held_out_answers(margins: np.ndarray, labels: np.ndarray, random_state: int | None = 0) -> np.ndarray:
    """(n,) answers, 1 or 0, of each image by a decision that was fitted to the other folds.

    The threshold of :func:`fit_decision` has the highest F1 on the images that it was fitted to, which is too high for
    others; these answers were not chosen on their own images.
    """
    answers = np.zeros(len(labels), dtype=np.int8)
    if len(labels) < 2:
        return answers
    fold = folds(torch.from_numpy(labels), min(FOLDS, len(labels)), random_state=random_state).numpy()
    for k in np.unique(fold):
        held = fold == k
        decision = fit_decision(margins[~held], labels[~held])
        answers[held] = decision.probabilities(margins[held]) >= decision.threshold
    return answers


def _best_threshold(probabilities: np.ndarray, positive: np.ndarray) -> float:
    from sklearn.metrics import precision_recall_curve  # as above

    precision, recall, values = precision_recall_curve(positive, probabilities)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    best = int(np.argmax(f1[:-1]))
    below = values[best - 1] if best else 0.0
    return float((values[best] + below) / 2)
