"""Gaussian discriminant analysis combined with zero-shot scores, in closed form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from modalign.linalg.calibration import expected_temperature
from modalign.linalg.inputs import exact_dtype
from modalign.linalg.prototypes import text_prototypes
from modalign.linalg.similarity import soft_assignments, top_k, unit
from modalign.methods.contract.best_candidate import Best
from modalign.methods.contract.parameters import Count, NonNegative, Positive, Seed
from modalign.methods.contract.selection import choosing_parts, growth, held_out, share_correct
from modalign.methods.contract.vectors import Problem, VectorMethod

WEIGHTS = (0.0, *(10 ** (k / 2) for k in range(-6, 5)))  # of α: 0 and 0.001 … 100
UNCHOSEN, WITHOUT_LABELS = 0.01, 1.0
UNTEMPERED = 0.5  # of √d: temperature from one image per class without text, where none is fitted


class Discriminant(NamedTuple):
    """Linear class scores: weights (C, d) and biases (C,)."""

    weights: Tensor
    biases: Tensor

    def __call__(self, X: Tensor) -> Tensor:
        """(n, d) unit images → (n, C) scores."""
        return torch.addmm(self.biases.to(X), X, self.weights.to(X).T)

    @classmethod
    def estimate(cls, X: Tensor, P: Tensor, text: Tensor | None, neighbors: int) -> Discriminant:
        """Discriminant of unit images (n, d) with assignments (n, C), see :class:`GDA`; in float64 on a CPU."""
        P, rows = P.to(exact_dtype(X.device)), X.to(exact_dtype(X.device))
        sizes, d = P.sum(dim=0), X.shape[1]
        total, center = sizes.sum(), (P.sum(dim=1) @ rows) / sizes.sum()
        rows = rows - center  # moments around the mean lose no digits
        means = (P.T @ rows) / sizes.clamp_min(torch.finfo(P.dtype).tiny)[:, None]
        absent = sizes == 0
        if text is not None and bool(absent.any()):
            nearest = top_k(text[absent] @ X.T, min(neighbors, len(X))).indices
            means[absent] = rows[nearest].mean(dim=1)
        scatter = (rows.T * P.sum(dim=1)) @ rows
        within = scatter - (means.T * sizes) @ means
        if within.trace() <= 1e-9 * total:  # no class has two different images
            within = scatter
        ridge = within.trace() / (total - 1).clamp_min(1)
        within = within + torch.eye(d).to(within) * (ridge if ridge > 0 else 1.0)
        means = means + center
        weights = d * torch.cholesky_solve(means.T, torch.linalg.cholesky(within)).T
        return cls(weights.to(X.dtype), (-(weights * means).sum(dim=1) / 2).to(X.dtype))


class HeldOutScores(NamedTuple):
    """Scores (n, C) of held-out images, their labels, and the growth of the number of labels in the final model."""

    scores: Tensor
    truth: Tensor
    growth: float


@dataclass(kw_only=True, eq=False, repr=False)
class GDA(VectorMethod):
    r"""Gaussian discriminant analysis added to the zero-shot scores; training-free.

    With unit images x, class means :math:`\mu_k`, the covariance :math:`\hat\Sigma` of N labeled images around their
    class means, equal priors and unit class texts :math:`t_k`,

    .. math::
        s_k(x) = s\, x^\top t_k + \alpha\, (w_k^\top x + b_k), \qquad
        w_k = \hat\Sigma^{-1}_s \mu_k, \qquad b_k = -\tfrac12 \mu_k^\top \hat\Sigma^{-1}_s \mu_k, \qquad
        \hat\Sigma^{-1}_s = d\, \bigl((N - 1) \hat\Sigma + \operatorname{tr}(\hat\Sigma) I\bigr)^{-1}

    where the last is the empirical Bayes ridge estimate of the precision. Without text, the discriminant is used alone;
    without labels, expectation-maximization starts from zero-shot.

    Cost: O(n d (d + C) + d³) per estimate; one to score, five to choose α.

    Parameters
    ----------
    discriminant_weight : float or "auto", default="auto"
        α: 0 is zero-shot. ``"auto"`` selects it by log-loss on validation images or by 5-fold cross-validation.
    nearest_images : int, default=64
        Images from which the mean of a class without labels is taken.
    rounds : int, default=10
        Updates of the assignments without labels.
    logit_scale : float or None, default=None
        s, inverse temperature of the zero-shot scores; None is that of the encoder.
    random_state : int or None, default=None
        Seed of the folds.

    Attributes
    ----------
    weights_ : Tensor
        w.
    biases_ : Tensor
        b.
    prototypes_ : Tensor of shape (C, d)
        Unit class texts, or class means without text.
    discriminant_weight_ : float
        α as used.
    diagnosis_ : dict
        α, what it was ``chosen_on`` and the accuracy there, also of zero-shot; the number of ``labeled`` images.

    See Also
    --------
    AnchoredGaussian : The same with means shrunk toward the text.

    References
    ----------
    .. [1] Wang et al., "A hard-to-beat baseline for training-free CLIP-based adaptation", 2024, arXiv:2402.04087.

    Examples
    --------
    >>> import modalign as ma
    >>> from modalign.testing import few_shot_problem
    >>> X, y, Xv, yv, Xt, yt, T = few_shot_problem()
    >>> gda = ma.GDA().fit(X, y, text=T, validation=(Xv, yv))
    >>> gda.predict(T)
    array([0, 1, 2, 3, 4])
    """

    title = "GDA"
    paper = "Wang et al., A hard-to-beat baseline for training-free CLIP-based adaptation, 2024, arXiv:2402.04087"
    needs_labels = False
    takes_unlabeled = False
    choices: ClassVar[tuple[str, ...]] = ("discriminant_weight",)
    cross_validates: ClassVar[bool] = True
    ablations: ClassVar[dict[str, dict[str, Any]]] = {"no discriminant": {"discriminant_weight": 0.0}}

    discriminant_weight: NonNegative | Literal["auto"] = "auto"
    nearest_images: Count = 64
    rounds: Count = 10
    logit_scale: Positive | None = None
    random_state: Seed = None

    def _fit(self, problem: Problem) -> None:
        text = None if problem.text is None else text_prototypes(problem.text)
        self.prototypes_, self.has_text_ = problem.prototypes(), text is not None
        X, y = problem.labeled()
        self.diagnosis_ = {"labeled": len(X)}
        if len(X):
            X = unit(X)
            self.discriminant_weight_, judged = self._choose(X, y, text, problem)
            discriminant = self._estimate(X, F.one_hot(y, problem.n_classes), text)
            if judged is not None:
                final = self._mixed(X, discriminant(X), text, self.discriminant_weight_)
                scale = _spread(final, y) / _spread(judged.scores, judged.truth).clamp_min(1e-12)
                self._calibrate(scale * judged.scores, judged.truth, judged.growth)
        else:
            self.discriminant_weight_ = (
                WITHOUT_LABELS if self.discriminant_weight == "auto" else self.discriminant_weight
            )
            self.diagnosis_["chosen_on"] = "nothing"
            discriminant = self._expect(unit(problem.X), problem.prototypes())
        self.weights_, self.biases_ = discriminant
        self.discriminant_weight_ = float(self.discriminant_weight_)
        self.diagnosis_["discriminant_weight"] = self.discriminant_weight_

    def _scores(self, X: Tensor) -> Tensor:
        X = unit(X)
        text = self.prototypes_.to(X) if self.has_text_ else None
        return self._mixed(X, Discriminant(self.weights_, self.biases_)(X), text, self.discriminant_weight_)

    def _mixed(self, X: Tensor, scores: Tensor, text: Tensor | None, weight: float) -> Tensor:
        return scores if text is None else self.logit_scale_ * (X @ text.T) + weight * scores

    def _estimate(self, X: Tensor, P: Tensor, text: Tensor | None) -> Discriminant:
        return Discriminant.estimate(X, P, text, self.nearest_images)

    def _expect(self, X: Tensor, text: Tensor) -> Discriminant:
        """Expectation-maximization from the zero-shot assignment."""
        P = soft_assignments(self.logit_scale_ * (X @ text.T))
        discriminant = self._estimate(X, P, text)
        for _ in range(self.rounds):
            P = soft_assignments(self._mixed(X, discriminant(X), text, self.discriminant_weight_))
            discriminant = self._estimate(X, P, text)
        return discriminant

    def _choose(
        self, X: Tensor, y: Tensor, text: Tensor | None, problem: Problem
    ) -> tuple[float, HeldOutScores | None]:
        """Return α and the cross-validated scores; ``diagnosis_`` gets the images that α was chosen on."""
        validation = held_out(problem.validation)
        parts = choosing_parts(X, y, validation, self.random_state_)
        self.diagnosis_["chosen_on"] = "nothing"
        if self.discriminant_weight != "auto":
            return self.discriminant_weight, None
        if not parts:
            self.temperature_ = UNTEMPERED * X.shape[1] ** 0.5
            if text is not None:  # the scores are nearly those of zero-shot, which was not fitted on these images
                self.temperature_ = expected_temperature(self.logit_scale_ * (X @ text.T), y)
            return UNCHOSEN, None
        held = torch.cat([part[2] for part in parts])
        truth = torch.cat([part[3] for part in parts])
        scores = torch.cat([self._estimate(A, F.one_hot(a, problem.n_classes), text)(B) for A, a, B, _ in parts])
        best: Best[tuple[float, Tensor]] = Best("log-loss", truth)
        for weight in (UNCHOSEN,) if text is None else WEIGHTS:
            mixed = self._mixed(held, scores, text, weight)
            best.offer_value(mixed / self.logit_scale_, (weight, mixed))
        weight, mixed = best.choice
        if text is not None:
            where = "cross-validation" if validation is None else "validation"
            self.diagnosis_ |= {
                "chosen_on": where,
                f"{where.replace('-', '_')}_accuracy": share_correct(mixed, truth),
                f"{where.replace('-', '_')}_accuracy_zero_shot": share_correct(held @ text.T, truth),
            }
        return weight, HeldOutScores(mixed, truth, growth(parts, y)) if validation is None else None


def _spread(scores: Tensor, y: Tensor) -> Tensor:
    """Standard deviation of the scores of wrong classes, from the mean of each image.

    It has the scale of the precision, which is much larger where few images are left to estimate Σ from.
    """
    wrong = scores[F.one_hot(y, scores.shape[1]) == 0].view(len(y), -1)
    return (wrong - wrong.mean(dim=1, keepdim=True)).square().mean().sqrt()
