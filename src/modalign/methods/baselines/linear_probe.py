"""The linear probe: logistic regression on image features, with regularization selected on held-out images."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from modalign.core.errors import InputError
from modalign.linalg.similarity import unit
from modalign.methods.contract.calibrating import mean_margin
from modalign.methods.contract.parameters import Count, Positive, Seed
from modalign.methods.contract.selection import Merit, held_out, log_likelihood, share_correct
from modalign.methods.contract.vectors import Problem, VectorMethod

if TYPE_CHECKING:
    from sklearn.linear_model import LogisticRegression

COARSE = tuple(range(-6, 7, 2))  # exponents of ten
FOLDS = 5
NEVER = -1e4  # the logit of a class without a labeled image


class HeldOut(NamedTuple):
    """(n, C) scores of held-out images, divided by the mean margin of their model, which grows with its labels.

    Their class indices, and how many labels the final model has for one of these models.
    """

    scores: Tensor
    answers: Tensor
    growth: float


@dataclass(kw_only=True, eq=False, repr=False)
class LinearProbe(VectorMethod):
    r"""Multinomial logistic regression on unit image features; text is ignored.

    .. math:: \min_{V, b} \; \tfrac12 \lVert V \rVert_F^2
              + C \sum_i \mathrm{CE}\bigl(\hat x_i V^\top + b,\; y_i\bigr)

    solved by scikit-learn's L-BFGS in float64. `C` is selected as in CLIP's appendix A.3: seven values from 10⁻⁶ to
    10⁶, then around the best one the step is halved down to eight values per decade (about 15 fits instead of 96). The
    criterion is accuracy, then log-loss, then stronger regularization, on `validation` or by stratified
    cross-validation. If a class has a single image and there are no validation images, C = 1.

    Cost: about 15 L-BFGS runs of O(n C min(n, d)) per iteration; five times that by cross-validation.

    Parameters
    ----------
    C : float or "auto", default="auto"
        Inverse regularization strength; ``"auto"`` selects it on held-out images.
    max_iterations : int, default=1000
        Maximum number of L-BFGS iterations per fit.
    random_state : int or None, default=None
        Ignored; present for API consistency.

    Attributes
    ----------
    coef_ : ndarray of shape (C, d)
        Rows of V.
    intercept_ : ndarray
        b. A class without a labeled image has zero coefficients and −10⁴ here: it is never
        predicted.
    C_ : float
        Values used.
    diagnosis_ : dict
        ``C`` as used and ``chosen_on`` (``"validation"``, ``"cross-validation"`` or ``"nothing"``), the accuracy there,
        the accuracy on the training rows, ``iterations`` and ``converged`` of the final fit.

    References
    ----------
    Radford et al., Learning transferable visual models from natural language supervision, 2021, arXiv:2103.00020,
    appendix A.3.

    Examples
    --------
    >>> import modalign as ma
    >>> from modalign.testing import few_shot_problem
    >>> X, y, Xv, yv, Xt, yt, T = few_shot_problem()
    >>> method = ma.LinearProbe(random_state=0).fit(X, y, text=T, validation=(Xv, yv))
    >>> method.score(Xt, yt) > 0.6
    True
    """

    title = "Linear probe"
    streams = True
    paper = (
        "Radford et al., Learning transferable visual models from natural language supervision, 2021, arXiv:2103.00020"
    )
    takes_text = False
    refits_to_calibrate: ClassVar[bool] = True
    choices: ClassVar[tuple[str, ...]] = ("C",)

    C: Positive | Literal["auto"] = "auto"
    max_iterations: Count = 1000
    random_state: Seed = None

    def _fit(self, problem: Problem) -> None:
        X, y = problem.labeled()
        known = torch.unique(y)
        if len(known) < 2:
            raise InputError(f"LinearProbe needs labeled images of at least 2 classes, got {len(known)} class.")
        images, labels = unit(X).double().cpu().numpy(), torch.searchsorted(known, y).cpu().numpy()
        # the penalty keeps V in the span of the images, and L-BFGS takes the same steps in whatever coordinates of it
        basis = np.linalg.qr(images.T)[0] if len(images) < images.shape[1] else np.eye(images.shape[1])
        rows = images @ basis
        self.C_, chosen_on, best, judged = self._strength(problem, rows, labels, known, basis)
        model = self._regression(rows, labels, self.C_)

        weight, bias = _columns(model)
        if judged is not None:
            margin = mean_margin(torch.from_numpy(rows @ weight.T + bias), torch.from_numpy(labels))
            self._calibrate(margin * judged.scores, judged.answers, judged.growth)
        self.coef_ = np.zeros((problem.n_classes, len(basis)))
        self.intercept_ = np.full(problem.n_classes, NEVER)
        self.coef_[known.cpu()], self.intercept_[known.cpu()] = weight @ basis.T, bias
        iterations = int(model.n_iter_.max())
        self.diagnosis_ = {
            "C": self.C_,
            "chosen_on": chosen_on,
            "training_accuracy": float(np.mean((rows @ weight.T + bias).argmax(1) == labels)),
            "iterations": iterations,
            "converged": iterations < self.max_iterations,
        }
        if best is not None:
            self.diagnosis_[f"{chosen_on.replace('-', '_')}_accuracy"] = best.accuracy

    def _scores(self, X: Tensor) -> Tensor:
        weight, bias = (torch.as_tensor(a, dtype=X.dtype, device=X.device) for a in (self.coef_, self.intercept_))
        return torch.addmm(bias, unit(X), weight.T)

    def _strength(
        self, problem: Problem, rows: np.ndarray, labels: np.ndarray, known: Tensor, basis: np.ndarray
    ) -> tuple[float, str, Merit | None, HeldOut | None]:
        """Return C, the images it was chosen on, its results there, and the scores of cross-validation."""
        parts, chosen_on = [], "validation"
        validation = held_out(problem.validation)
        if validation is not None:
            Xv, yv = validation
            codes = torch.searchsorted(known, yv).clamp_max(len(known) - 1)
            truth = torch.where(known[codes] == yv, codes, len(known)).cpu().numpy()  # len(known): cannot be right
            parts = [(rows, labels, unit(Xv).double().cpu().numpy() @ basis, truth)]
        elif np.bincount(labels).min() > 1:
            from sklearn.model_selection import StratifiedKFold

            chosen_on = "cross-validation"
            folds = StratifiedKFold(min(FOLDS, int(np.bincount(labels).min())))
            parts = [(rows[a], labels[a], rows[b], labels[b]) for a, b in folds.split(rows, labels)]
        if self.C != "auto" or not parts:
            return (1.0 if self.C == "auto" else float(self.C)), "nothing", None, None

        judged: dict[float, list[tuple[Tensor, float]]] = {}

        def measure(exponent: float) -> Merit:
            merits, sizes = [], []
            for train_X, train_y, test_X, test_y in parts:
                weight, bias = _columns(self._regression(train_X, train_y, 10.0**exponent))
                logits = torch.from_numpy(np.column_stack([test_X @ weight.T + bias, np.full(len(test_X), NEVER)]))
                true = torch.from_numpy(test_y)
                own = torch.from_numpy(train_X @ weight.T + bias)
                judged.setdefault(exponent, []).append((logits, mean_margin(own, torch.from_numpy(train_y))))
                merits.append(Merit(share_correct(logits, true), log_likelihood(logits, true)))
                sizes.append(len(test_y))
            return Merit(*np.average(merits, axis=0, weights=sizes).tolist())

        tried = {float(exponent): measure(exponent) for exponent in COARSE}
        step = 1.0
        while step >= 1 / 8:
            peak = _peak(tried)
            for exponent in (peak - step, peak + step):
                if COARSE[0] <= exponent <= COARSE[-1] and exponent not in tried:
                    tried[exponent] = measure(exponent)
            step /= 2
        peak = _peak(tried)
        if validation is not None:
            return 10.0**peak, chosen_on, tried[peak], None
        doublings = [math.log2(len(labels) / len(part[1])) for part in parts]
        scores = torch.cat([logits[:, :-1] / (margin or 1.0) for logits, margin in judged[peak]])
        answers = torch.from_numpy(np.concatenate([part[3] for part in parts]))
        return 10.0**peak, chosen_on, tried[peak], HeldOut(scores, answers, 2 ** (sum(doublings) / len(doublings)))

    def _regression(self, X: np.ndarray, y: np.ndarray, C: float) -> LogisticRegression:
        from sklearn.exceptions import ConvergenceWarning  # late: a fitted model predicts without scikit-learn
        from sklearn.linear_model import LogisticRegression

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # reported in diagnosis_ for the final fit
            warnings.filterwarnings("ignore", message="The number of unique classes")  # one image per class is normal
            return LogisticRegression(C=C, max_iter=self.max_iterations).fit(X, y)


def _peak(tried: dict[float, Merit]) -> float:
    """The exponent with the greatest merit, the smallest among equals."""
    return max(sorted(tried), key=tried.__getitem__)


def _columns(model: LogisticRegression) -> tuple[np.ndarray, np.ndarray]:
    """One row of coefficients per class, also for two classes, where scikit-learn keeps only their difference."""
    if len(model.classes_) > 2:
        return model.coef_, model.intercept_
    half = model.coef_[0] / 2, model.intercept_[0] / 2
    return np.stack([-half[0], half[0]]), np.array([-half[1], half[1]])
