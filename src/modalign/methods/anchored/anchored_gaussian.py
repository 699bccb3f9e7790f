"""The anchored Gaussian classifier, for few, partial or no labels, with class texts as the prior of the means."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from modalign.core.errors import InputError
from modalign.core.features import UNLABELED
from modalign.linalg.prototypes import text_prototypes
from modalign.linalg.similarity import soft_assignments, unit
from modalign.methods.anchored.anchored_classes import AnchoredClasses
from modalign.methods.anchored.anchored_stream import settle_stream
from modalign.methods.contract.best_candidate import Best
from modalign.methods.contract.parameters import Count, Fraction, NonNegative, Positive, Seed
from modalign.methods.contract.selection import choosing_parts, growth, held_out, share_correct
from modalign.methods.contract.team import Team, current_team
from modalign.methods.contract.transduction import keep_answers
from modalign.methods.contract.vectors import Problem, VectorMethod

WEIGHTS = (0.0, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.8, 1.0)
STRENGTHS = (1.0, 4.0, 16.0)
WITHOUT_LABELS = {"discriminant_weight": 0.1, "strength": 8.0, "unlabeled_weight": 1.0}
WITHOUT_CHOICE = {"discriminant_weight": 0.1, "strength": 4.0, "unlabeled_weight": 1.0}
WITHOUT_TEXT = {"discriminant_weight": 1.0, "strength": 1.0, "unlabeled_weight": 1.0}
UNTEMPERED = 2 / 3  # of √d: temperature from one image per class without text, where none is fitted
STREAMED = 2**16  # number of unlabeled images from which on they are read in blocks
COVERAGE = 0.8  # coverage of the classes from which new images get the full discriminant


@dataclass(kw_only=True, eq=False, repr=False)
class AnchoredGaussian(VectorMethod):
    r"""Gaussian classifier whose class means are shrunk toward the class texts, combined with zero-shot.

    The score of class k for a unit image x with unit class texts :math:`t_k` is

    .. math::
        s_k(x) = (1 - \alpha)\, s\, x^\top t_k + \alpha \log N(x;\, \mu_k, h_k \Sigma)

    with a shared covariance Σ and scale h_k per class. The prior of :math:`\mu_k` has the weight of κ images at an
    affine image of :math:`t_k`; see :class:`~modalign.methods.anchored.anchored_classes.AnchoredClasses`. Unlabeled
    images are used by expectation-maximization. With labels, α, κ and u are chosen by 5-fold cross-validation (or on
    `validation`), with zero-shot among the candidates; without labels α = 0.1, κ = 8, u = 1.

    Cost: O(n d (d + C) + d³) per estimate; about 30 estimates to choose.

    Parameters
    ----------
    discriminant_weight : float or "auto", default="auto"
        α: 0 is zero-shot, 1 the Gaussian classes alone.
    strength : float or "auto", default="auto"
        κ, weight of the text as a number of images.
    unlabeled_weight : float or "auto", default="auto"
        u, weight of an unlabeled image relative to a labeled one.
    rounds : int, default=10
        Updates of the assignments of unlabeled images.
    logit_scale : float or None, default=None
        s, inverse temperature of the zero-shot softmax; None is that of the encoder, or
        100.
    random_state : int or None, default=None
        Seed of the folds.

    Attributes
    ----------
    transduction_ : ndarray of shape (n,)
        Class of each fitted image: its label, or the prediction.
    means_ : Tensor of shape (C, d)
        μ.
    factor_ : Tensor of shape (d, d)
        Cholesky factor of Σ.
    spread_ : Tensor
        h.
    class_sizes_ : Tensor of shape (C,)
        Total weight of the images of each class.
    prototypes_ : Tensor of shape (C, d)
        Unit class texts, or class means without text.
    discriminant_weight_, strength_, unlabeled_weight_ : float
        Values used.
    diagnosis_ : dict
        Values used and the images they were ``chosen_on``; ``coverage``, the share of classes in the unlabeled images;
        ``new_image_weight``, α for new images; the share of unlabeled images ``changed`` from zero-shot; accuracies.

    Examples
    --------
    >>> import modalign as ma
    >>> from modalign.testing import few_shot_problem
    >>> X, y, Xv, yv, Xt, yt, T = few_shot_problem()
    >>> method = ma.AnchoredGaussian(random_state=0).fit(X, y, text=T)
    >>> method.score(Xt, yt) > 0.6
    True
    """

    title = "Anchored Gaussian"
    paper = "own method: Gaussian discriminant analysis with class means anchored in the class texts"
    needs_labels = False
    choices: ClassVar[tuple[str, ...]] = ("discriminant_weight", "strength", "unlabeled_weight")
    cross_validates: ClassVar[bool] = True
    streams: ClassVar[bool] = True
    sums_over_processes: ClassVar[bool] = True
    ablations: ClassVar[dict[str, dict[str, Any]]] = {"no discriminant": {"discriminant_weight": 0.0}}

    discriminant_weight: Fraction | Literal["auto"] = "auto"
    strength: Positive | Literal["auto"] = "auto"
    unlabeled_weight: NonNegative | Literal["auto"] = "auto"
    rounds: Count = 10
    logit_scale: Positive | None = None
    random_state: Seed = None

    def _fit(self, problem: Problem) -> None:
        team, unlabeled = current_team(), not bool((problem.y != UNLABELED).any()) and problem.validation is None
        if team.count > 1 and not unlabeled:
            raise InputError("Expected images without labels and no validation images in several processes.")
        if unlabeled and (team.count > 1 or len(problem.X) > STREAMED):
            self._fit_stream(problem, team)
            return
        X, y = unit(problem.X).float(), problem.y  # a memory map may be of float64
        text = None if problem.text is None else text_prototypes(problem.text)
        self.prototypes_ = problem.prototypes()
        settings, chosen_on, found = self._choose(X, y, text, problem)
        self.discriminant_weight_, self.strength_, self.unlabeled_weight_ = settings
        classes, P = self._settle(X, y, text, problem.n_classes, *settings)
        self.means_, self.factor_, self.spread_ = classes.means, classes.factor, classes.spread
        self.class_sizes_ = classes.sizes
        self.has_text_ = text is not None
        self.transduction_ = self.classes_[P.argmax(dim=1).cpu().numpy()]
        free, coverage = y == UNLABELED, 1.0
        if bool(free.all()):
            coverage = _coverage(classes.sizes, len(X))
            self.fitted_answers_ = keep_answers(problem.X, P)
        self.new_image_weight_ = self.discriminant_weight_ * min(1.0, coverage / COVERAGE) ** 2
        self.diagnosis_ = {
            "discriminant_weight": self.discriminant_weight_,
            "strength": self.strength_,
            "unlabeled_weight": self.unlabeled_weight_,
            "chosen_on": chosen_on,
            "coverage": coverage,
            "new_image_weight": self.new_image_weight_,
            "slope": classes.slope,
            **found,
        }
        if text is not None and bool(free.any()):
            before = (X[free] @ text.T).argmax(dim=1)
            self.diagnosis_["changed"] = (P[free].argmax(dim=1) != before).double().mean().item()

    def _fit_stream(self, problem: Problem, team: Team) -> None:
        """Fit without labels, in blocks: the classes and assignments of ``_settle``, up to rounding."""
        text = problem.prototypes()
        default = {name: getattr(self, name) for name in WITHOUT_LABELS}
        fixed = {name: WITHOUT_LABELS[name] if value == "auto" else value for name, value in default.items()}
        alpha = fixed["discriminant_weight"]

        def assign(rows: Tensor, classes: AnchoredClasses | None) -> Tensor:
            if classes is None:
                return soft_assignments(self.logit_scale_ * (rows @ text.T))
            return soft_assignments(self._mixed(rows, classes.log_density, text, alpha))

        settled = settle_stream(problem.X, text, assign, strength=fixed["strength"], rounds=self.rounds, team=team)
        classes, self.prototypes_, self.has_text_ = settled.classes, text, True
        self.discriminant_weight_, self.strength_, self.unlabeled_weight_ = fixed.values()
        self.means_, self.factor_, self.spread_ = classes.means, classes.factor, classes.spread
        self.class_sizes_ = classes.sizes
        self.transduction_ = self.classes_[settled.likeliest.classes[:, 0].cpu().numpy()]
        self.fitted_answers_ = keep_answers(problem.X, settled.likeliest)
        coverage = _coverage(classes.sizes, settled.images)
        self.new_image_weight_ = alpha * min(1.0, coverage / COVERAGE) ** 2
        self.diagnosis_ = {
            **fixed,
            "chosen_on": "nothing",
            "coverage": coverage,
            "new_image_weight": self.new_image_weight_,
            "slope": classes.slope,
            "changed": settled.changed / settled.images,
        }

    def _scores(self, X: Tensor) -> Tensor:
        text = self.prototypes_.to(X.device) if self.has_text_ else None
        return self._mixed(unit(X), self._classes_on(X.device).log_density, text, self.new_image_weight_)

    def head(self) -> Callable[[Tensor], Tensor]:
        text = self.prototypes_ if self.has_text_ else None
        density = self._classes_on(self.means_.device).recorded()
        return lambda X: self._mixed(unit(X), density, text, self.new_image_weight_)

    def _classes_on(self, device: torch.device) -> AnchoredClasses:
        state = (self.means_, self.factor_, self.spread_, self.class_sizes_)
        means, factor, spread, sizes = (part.to(device) for part in state)
        return AnchoredClasses(means, factor, spread, sizes, slope=0.0)

    def _mixed(self, X: Tensor, density: Callable[[Tensor], Tensor], text: Tensor | None, weight: float) -> Tensor:
        """s(x) of unit rows and the log-densities of the classes: (n, C)."""
        if text is None:
            return max(weight, 1e-3) * density(X)
        zero_shot = self.logit_scale_ * (X @ text.T)
        return zero_shot if weight == 0 else torch.lerp(zero_shot, density(X), weight)

    def _settle(
        self, X: Tensor, y: Tensor, text: Tensor | None, n_classes: int, alpha: float, strength: float, u: float
    ) -> tuple[AnchoredClasses, Tensor]:
        """Return the classes and the (n, C) assignments of all images after the rounds."""
        known = y != UNLABELED
        P = X.new_zeros(len(X), n_classes)
        P[known] = torch.nn.functional.one_hot(y[known], n_classes).to(X.dtype)
        labeled, alone = P.sum(dim=0) > 0, not bool(known.any())
        free = (~known).nonzero().flatten()
        if not len(free):
            return AnchoredClasses.estimate(X, P, X.new_ones(len(X)), text, strength, labeled), P
        if alone:
            assert text is not None  # problems with neither labels nor text were refused
            P = soft_assignments(self.logit_scale_ * (X @ text.T))
        weights = torch.where(known, 1.0, 1.0 if alone else u)
        start = known.to(X.dtype) if not alone else weights
        classes = AnchoredClasses.estimate(X, P, start, text, strength, labeled)
        for _ in range(self.rounds):
            scores = self._mixed(X[free], classes.log_density, text, alpha)
            P[free] = soft_assignments(scores if alone else scores / 2)
            if u > 0 or alone:
                classes = AnchoredClasses.estimate(X, P, weights, text, strength, labeled)
        return classes, P

    def _choose(
        self, X: Tensor, y: Tensor, text: Tensor | None, problem: Problem
    ) -> tuple[tuple[float, float, float], str, dict[str, float]]:
        """Return (α, κ, u), the source of the images they were selected on, and the accuracies.

        α and κ are chosen from the labeled images alone, u then at that choice and at the default of the others.
        """
        known, validation = y != UNLABELED, held_out(problem.validation)
        default = WITHOUT_TEXT if text is None else WITHOUT_CHOICE if bool(known.any()) else WITHOUT_LABELS
        given = {name: getattr(self, name) for name in default}
        fixed = {name: value if value != "auto" else default[name] for name, value in given.items()}
        chosen = fixed["discriminant_weight"], fixed["strength"], fixed["unlabeled_weight"]
        parts = choosing_parts(X, y, validation, self.random_state_)
        if not parts and text is None:
            self.temperature_ = UNTEMPERED * math.sqrt(X.shape[1])
        if not parts or "auto" not in given.values():
            return chosen, "nothing", {}

        def grid(name: str, values: Sequence[float]) -> Sequence[float]:
            return values if given[name] == "auto" else (given[name],)

        truth = torch.cat([part[3] for part in parts])
        best: Best[tuple[tuple[float, float, float], Tensor]] = Best("log-loss", truth)
        merits: dict[tuple[float, float, float], float] = {}

        def try_(alphas: Sequence[float], strength: float, u: float) -> None:
            settled = [self._settle(A, a, text, problem.n_classes, alphas[0], strength, u)[0] for A, a, _, _ in parts]
            for alpha in alphas:
                pairs = zip(settled, parts, strict=True)
                scores = torch.cat([self._mixed(part[2], classes.log_density, text, alpha) for classes, part in pairs])
                merits[alpha, strength, u] = share_correct(scores, truth)
                best.offer_value(scores / self.logit_scale_, ((alpha, strength, u), scores))

        all_labeled = bool(known.all())
        if all_labeled or given["unlabeled_weight"] in ("auto", 0):
            for strength in grid("strength", STRENGTHS):
                try_(grid("discriminant_weight", WEIGHTS if text is not None else (1.0,)), strength, 0.0)
        if not all_labeled and given["unlabeled_weight"] != 0:
            alpha, strength, _ = chosen if best.empty else best.choice[0]
            u = fixed["unlabeled_weight"]
            for pair in dict.fromkeys([(alpha, strength), (fixed["discriminant_weight"], fixed["strength"])]):
                try_(pair[:1], pair[1], u)
        where = "cross-validation" if validation is None else "validation"
        prefix = f"{where.replace('-', '_')}_accuracy"
        settings, scores = best.choice
        if validation is None:
            self._calibrate(scores, truth, growth(parts, y))
        found = {prefix: merits[settings]}
        if text is not None:
            found[f"{prefix}_zero_shot"] = share_correct(torch.cat([part[2] @ text.T for part in parts]), truth)
        return settings, where, found


def _coverage(sizes: Tensor, n: int) -> float:
    """The perplexity of class sizes, over the number of classes that n images of C equal classes would show."""
    shares = sizes / sizes.sum()
    perplexity = math.exp(float(-torch.xlogy(shares, shares).sum()))
    return perplexity / (len(sizes) * (1 - math.exp(-n / len(sizes))))
