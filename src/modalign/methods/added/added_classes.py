"""Classes added to a fitted method: text decides whether an image is of a new class, the method among its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import Tensor

from modalign.core.errors import InputError
from modalign.linalg.similarity import unit
from modalign.methods.contract.vectors import LOGIT_SCALE, Problem, VectorMethod

CORRECTION = 1.0
"""Logit in favor of a new class: the value at which, over classes of Caltech101 that are left out in turn, a new class
is found as often as by zero-shot classification; classes of the fit lose 0.1 points there."""
MOST = 2.0
"""Largest correction that is fitted on images of the class; classes of the fit lose 0.3 points there."""
LOST = 0.01
"""Share of held-out images of other classes that may be predicted as the new class."""
FOUND = 0.9
"""Share of the given images of a new class that the correction, within its limits, classifies as that class."""


@dataclass(kw_only=True, eq=False, repr=False)
class AddedClasses(VectorMethod):
    r"""A fitted method and A more classes, which have text and perhaps images, but no part in the fit.

    With the cosines of an image and the texts of all classes, :math:`z_k = c \cos(x, t_k)`, and the calibrated
    probabilities :math:`q_k` of the method over its own C classes,

    .. math::
        s_k = \log q_k + \log \sum_{j \le C} e^{z_j} \quad (k \le C), \qquad s_k = z_k + b_k \quad (k > C)

    so that the method divides among its classes what zero-shot classification leaves to them. A method that was
    fitted without a class is biased against it; it has no influence on whether an image is of a new class. The
    correction b > 0 compensates for the remaining bias, since q is often sharper than z.

    Created by :meth:`of`, not by ``fit``. Cost: O((C + A) d) per image in addition to the method.

    Attributes
    ----------
    members_ : list of VectorMethod
        The fitted method.
    base_temperature_ : float
        Divisor of its scores.
    prototypes_ : Tensor of shape (C + A, d)
        Unit class texts, those of the method first.
    corrections_ : Tensor of shape (A,)
        b.
    """

    title = "Added classes"
    paper = "own method"

    @classmethod
    def of(cls, base: VectorMethod, temperature: float, prototypes: Tensor, names: Sequence[str]) -> Self:
        """Return ``base`` with A more classes, given ``prototypes`` (C + A, d) and ``names`` in this order."""
        made = cls()
        earlier = base if isinstance(base, AddedClasses) else None
        made.members_ = [base] if earlier is None else earlier.members_
        made.base_temperature_ = temperature if earlier is None else earlier.base_temperature_
        kept = torch.zeros(0) if earlier is None else earlier.corrections_
        new = len(prototypes) - len(base.classes_)
        made.prototypes_, made.corrections_ = prototypes, torch.cat([kept, torch.full((new,), CORRECTION)])
        made.logit_scale_ = float((base.encoder_ and base.encoder_.logit_scale) or LOGIT_SCALE)
        made.classes_, made.class_names_ = np.arange(len(prototypes)), list(names)
        made.n_features_in_, made.encoder_, made.temperature_ = base.n_features_in_, base.encoder_, 1.0
        made.diagnosis_ = {"added": len(made.corrections_)}
        return made

    def corrected(self, X: Tensor) -> Self:
        """Return a copy with the correction of the last class fitted on (n, d) images of it, within its limits."""
        asked = float(self._needed(X).quantile(FOUND, interpolation="higher"))
        return self._with_last(min(max(asked, CORRECTION), MOST))

    def bounded(self, X: Tensor) -> Self:
        """Return a copy whose correction of the last class gives at most :data:`LOST` of (n, d) images of others to it.

        Raising the correction is left to :meth:`corrected`.
        """
        needed = self._needed(X).sort().values  # at the correction itself, an image stays with its class
        return self._with_last(min(float(self.corrections_[-1]), float(needed[int(LOST * len(needed))])))

    def taken(self, X: Tensor) -> float:
        """Return the share of (n, d) images that are predicted as the last class."""
        with torch.no_grad():
            return float((self._scores(X).argmax(dim=1) == len(self.prototypes_) - 1).double().mean())

    def _needed(self, X: Tensor) -> Tensor:
        """(n,) correction of the last class above which it has the highest score, float64."""
        with torch.no_grad():
            scores = self._scores(X)
        return (scores[:, :-1].amax(dim=1) - (scores[:, -1] - self.corrections_[-1])).double()

    def _with_last(self, correction: float) -> Self:
        other = copy(self)
        other.corrections_ = torch.cat([self.corrections_[:-1], torch.tensor([correction])])
        return other

    def _fit(self, problem: Problem) -> None:
        raise InputError("Classes are added to a fitted classifier, by its add_class; this method is not fitted.")

    def _scores(self, X: Tensor) -> Tensor:
        return self._combined(X, self.members_[0]._scores(X))

    def head(self) -> Callable[[Tensor], Tensor]:
        base = self.members_[0].head()
        return lambda X: self._combined(X, base(X))

    def _combined(self, X: Tensor, own: Tensor) -> Tensor:
        """(n, C + A) logits of images and the scores (n, C) of the method."""
        C = own.shape[1]
        z = self.logit_scale_ * (unit(X) @ self.prototypes_.to(X.device).T)
        known = (own.double() / self.base_temperature_).log_softmax(dim=1).to(X.dtype)
        return torch.cat(
            [known + z[:, :C].logsumexp(dim=1, keepdim=True), z[:, C:] + self.corrections_.to(X.device)], dim=1
        )
