"""Nearest class mean, mixed with the class texts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from modalign.linalg.similarity import cosine, unit
from modalign.methods.contract.parameters import Fraction
from modalign.methods.contract.problem import Problem
from modalign.methods.contract.vectors import VectorMethod


@dataclass(kw_only=True, eq=False, repr=False)
class NearestMean(VectorMethod):
    r"""Predict the class with the largest cosine to a mixture of its mean and its text.

    .. math:: s_k(x) = 100 \cos(x, \alpha t_k + (1 - \alpha) \mu_k)

    Cost: O(n d) to fit, O(C d) per image.

    Parameters
    ----------
    alpha : float, default=0.5
        Weight α of the text.

    Attributes
    ----------
    means_ : Tensor of shape (C, d)
        Mixtures of class text and mean.
    diagnosis_ : dict
        ``cosine_of_text_and_mean``.

    Examples
    --------
    >>> from modalign.testing import few_shot_problem
    >>> X, y, Xv, yv, Xt, yt, T = few_shot_problem()
    >>> NearestMean().fit(X, y, text=T).predict(T)
    array([0, 1, 2, 3, 4])
    """

    title = "Nearest mean"
    paper = "Snell, Swersky and Zemel, Prototypical networks for few-shot learning, 2017, arXiv:1703.05175"
    ablations: ClassVar = {"text alone": {"alpha": 1.0}}

    alpha: Fraction = 0.5

    def _fit(self, problem: Problem) -> None:
        X, y = problem.labeled()
        text = problem.prototypes()  # (C, d); the class means where there is no text
        means = unit(text.new_zeros(text.shape).index_add_(0, y, unit(X)))  # zero for a class without an image
        self.means_ = self.alpha * text + (1 - self.alpha) * means
        self.diagnosis_ = {"cosine_of_text_and_mean": float((text * means).sum(dim=1).mean())}

    def _scores(self, X: Tensor) -> Tensor:
        return 100 * cosine(X, self.means_.to(X))
