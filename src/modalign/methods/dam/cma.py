r"""CMA: DAM's cross-modal alignment added to zero-shot scores, as published and with sets instead of pairs.

With image f_A, class text f_D and λ > 0 the paper fits one ridge map per pair and direction,

.. math::
    W_{IT} &= f_D f_A^\top (f_A f_A^\top + \lambda I)^{-1}, \quad
    W_{TI} = f_A f_D^\top (f_D f_D^\top + \lambda I)^{-1} && (7\text{–}9) \\
    d_{\mathrm{CMA}} &= \delta\bigl(\omega [-\alpha \lVert f_D - \mu W_{IT} f_A \rVert^2
        - (1 - \alpha) \lVert f_A - \mu W_{TI} f_D \rVert^2 ]\bigr) && (10) \\
    d &= \beta \cos(f_A, f_D) + (1 - \beta)\, d_{\mathrm{CMA}} && (11)

with δ the log-softmax over the classes. Scores are `logit_scale` · d. On unit vectors the published form is the
same for every class, so that the decision is that of zero-shot; ``form="sets"`` fits the maps to all prompts of a
class instead.

Cost: ``"pairwise"`` O(n C) in addition to zero-shot; ``"sets"`` O(C K² d) to fit and O(n C K d) to score.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import torch
from torch import Tensor

from modalign.core.errors import InputError, hyperparameter
from modalign.core.renaming import Formerly
from modalign.linalg.residuals import class_residuals, pairwise_residuals, whitened
from modalign.linalg.similarity import unit
from modalign.methods.contract.best_candidate import Best, Criterion
from modalign.methods.contract.parameters import Fraction, NonNegative, Positive, Seed
from modalign.methods.contract.selection import share_correct, unit_held_out
from modalign.methods.contract.vectors import Problem, VectorMethod

BLENDS, UNCHOSEN_BLEND = tuple(i / 10 for i in range(11)), 1 / (1 + math.exp(-0.5))
RIDGES, UNCHOSEN_RIDGE = (0.01, 0.1, 1.0, 10.0), 0.1
SAMPLE = 2048  # number of fitted images in the diagnosis


@dataclass(kw_only=True, eq=False, repr=False)
class CMA(VectorMethod):
    r"""Cross-modal alignment term of DAM without its prompts: ridge residuals added to the cosine.

    On unit vectors the published, pairwise form is constant over the classes and does not change decisions;
    ``form="sets"`` fits the ridge maps to all prompts of a class. Equations: :mod:`modalign.methods.dam.cma`.

    Parameters
    ----------
    form : {"pairwise", "sets"}, default="pairwise"
        Fit one image to one text, or to the K prompts of a class (without text, to its labeled images).
    cosine_weight : float or "auto", default="auto"
        β: 1 is the cosine alone. ``"auto"`` selects it for ``"sets"``.
    ridge : float or "auto", default="auto"
        λ; ``"auto"`` selects it for ``"sets"``.
    alpha : float, default=0.5
        Weight of the residual of the text in (10).
    omega : float, default=1.0
        Factor of both residuals in the log-softmax.
    mu : float, default=1.0
        Factor of the mapped vectors; ``"pairwise"`` only.
    criterion : {"log-loss", "accuracy"}, default="log-loss"
        Criterion on the validation images; the other one breaks ties.
    logit_scale : float or None, default=None
        Inverse temperature of the scores; None is that of the encoder.
    random_state : int or None, default=None
        Ignored; present for API consistency.

    Attributes
    ----------
    prototypes_ : Tensor of shape (C, d)
        Unit class texts of the cosine.
    rows_ : Tensor of shape (C, K, d)
        Unit rows S of each class, zero if a class has fewer; for ``"sets"``.
    whitened_ : Tensor of shape (C, K, d)
        Rows :math:`L^{-1} S` with :math:`L L^\top = S S^\top + \lambda I`; for ``"sets"``.
    cosine_weight_, ridge_ : float
        Values used.
    diagnosis_ : dict
        Both values and what they were ``chosen_on``; ``spread``, the standard deviation of d_CMA over the classes
        (0: a constant); ``decisions_changed`` against zero-shot; with validation images the accuracies there.

    References
    ----------
    .. [1] Lu et al., "Fine-tuning via linked domains: a closed-form dual alignment mechanism (DAM)", equations 7-11.

    Examples
    --------
    >>> import modalign as ma
    >>> from modalign.testing import few_shot_problem
    >>> X, y, Xv, yv, Xt, yt, T = few_shot_problem()
    >>> cma = ma.CMA(form="sets").fit(X, y, text=T, validation=(Xv, yv))
    >>> cma.predict(T)
    array([0, 1, 2, 3, 4])
    """

    title = "Cross-modal alignment (DAM's CMA)"
    paper = (
        "Lu et al., Fine-tuning via linked domains: a closed-form dual alignment mechanism for transferring "
        "vision-language models, equations 7 to 11"
    )
    needs_labels = False
    takes_unlabeled = False
    transfers = True
    choices: ClassVar[tuple[str, ...]] = ("cosine_weight", "ridge")
    ablations: ClassVar[dict[str, dict[str, Any]]] = {"cosine alone": {"cosine_weight": 1.0}}

    form: Literal["pairwise", "sets"] = "pairwise"
    cosine_weight: Annotated[Fraction | Literal["auto"], Formerly("blend")] = "auto"
    ridge: Positive | Literal["auto"] = "auto"
    alpha: Fraction = 0.5
    omega: NonNegative = 1.0
    mu: NonNegative = 1.0
    criterion: Criterion = "log-loss"
    logit_scale: Positive | None = None
    random_state: Seed = None

    def _fit(self, problem: Problem) -> None:
        if self.form == "pairwise" and self.cosine_weight == 0:
            raise InputError(
                f"{hyperparameter('form', 'pairwise', 'CMA')} needs cosine_weight > 0: without the cosine every class "
                "scores the same."
            )
        self.prototypes_ = problem.prototypes()
        validation = unit_held_out(problem.validation)
        chosen_on = "nothing"
        self.cosine_weight_ = UNCHOSEN_BLEND if self.cosine_weight == "auto" else float(self.cosine_weight)
        self.ridge_ = UNCHOSEN_RIDGE if self.ridge == "auto" else float(self.ridge)
        if self.form == "sets":
            self.rows_ = _rows(problem)
            if validation is not None and "auto" in (self.cosine_weight, self.ridge):
                chosen_on = "validation"
                self.cosine_weight_, self.ridge_ = self._chosen(*validation)
            self.whitened_ = whitened(self.rows_, self.ridge_)

        some = unit(problem.X[:SAMPLE])
        cosine, term = self._terms(some)
        blended = self._blended(cosine, term)
        self.diagnosis_ = {
            "cosine_weight": self.cosine_weight_,
            "ridge": self.ridge_,
            "chosen_on": chosen_on,
            "rows_a_class": self.rows_.shape[1] if self.form == "sets" else 1,
            "spread": term.std(dim=1, correction=0).mean().item(),
            "decisions_changed": (blended.argmax(dim=1) != cosine.argmax(dim=1)).double().mean().item(),
        }
        if validation is not None:
            X, y = validation
            cosine, term = self._terms(X)
            self.diagnosis_ |= {
                "validation_accuracy": share_correct(self._blended(cosine, term), y),
                "validation_accuracy_zero_shot": share_correct(cosine, y),
                "validation_accuracy_without_cosine": share_correct(term, y),
            }

    def _scores(self, X: Tensor) -> Tensor:
        return self.logit_scale_ * self._blended(*self._terms(unit(X)))

    def _blended(self, cosine: Tensor, term: Tensor) -> Tensor:
        return torch.lerp(term, cosine, self.cosine_weight_)

    def _terms(self, X: Tensor) -> tuple[Tensor, Tensor]:
        """Cosine and d_CMA of unit rows, both (n, C)."""
        prototypes = self.prototypes_.to(X.device)
        if self.form == "pairwise":
            residuals = pairwise_residuals(X, prototypes, self.ridge_, self.mu)
        else:
            residuals = class_residuals(X, self.rows_.to(X.device), self.whitened_.to(X.device), self.ridge_)
        return X @ prototypes.T, self._log_softmax(*residuals)

    def _log_softmax(self, of_text: Tensor, of_image: Tensor) -> Tensor:
        return torch.log_softmax(-self.omega * torch.lerp(of_image, of_text, float(self.alpha)), dim=1)

    def _chosen(self, X: Tensor, y: Tensor) -> tuple[float, float]:
        """Return the β and λ with the best criterion on held-out images."""
        best = Best[tuple[float, float]](self.criterion, y)
        cosine = X @ self.prototypes_.T
        for ridge in RIDGES if self.ridge == "auto" else (self.ridge_,):
            term = self._log_softmax(*class_residuals(X, self.rows_, whitened(self.rows_, ridge), ridge))
            for blend in reversed(BLENDS) if self.cosine_weight == "auto" else (self.cosine_weight_,):
                best.offer_value(torch.lerp(term, cosine, blend), (blend, ridge))
        return best.choice


def _rows(problem: Problem) -> Tensor:
    """(C, K, d) unit rows that stand for each class: its sentences, or without text its labeled images."""
    if problem.text is not None:
        return unit(problem.text)
    X, y = problem.labeled()
    order = torch.argsort(y, stable=True)
    counts = torch.bincount(y, minlength=problem.n_classes)
    place = torch.arange(len(y), device=y.device) - (counts.cumsum(0) - counts)[y[order]]
    rows = X.new_zeros(problem.n_classes, int(counts.max()), X.shape[1])
    rows[y[order], place] = unit(X)[order]
    return rows
