r"""LFA: an orthogonal map from images to class texts, refined with a ranking loss.

With unit images X (n, d), unit class texts T (C, d) and one-hot labels P (n, C),

.. math::
    W_{\mathrm{op}} &= \arg\min_{W^\top W = I} \lVert X W - P T \rVert_F = U V^\top,
        \quad U \Sigma V^\top = X^\top P T \\
    W_\beta &= W_{\mathrm{op}} - \beta (W_{\mathrm{op}} - I) \\
    L &= \frac1n \sum_i \frac1k \sum_{c \in \mathcal{N}_k(i)} \max\bigl(0,\;
        d_{i y_i} - d_{ic} + (1 - t_{y_i}^\top t_c) / s \bigr),
        \quad d_{ic} = \Bigl\lVert \tfrac{W^\top x_i}{\lVert W^\top x_i \rVert} - t_c \Bigr\rVert_2

:math:`\mathcal{N}_k(i)` are the k nearest class texts other than the true one. W starts at :math:`W_\beta` and
minimizes L by AdamW, with noise on the images. Scores are cosines of :math:`W^\top x` and T. By default, β and the
number of steps are chosen on validation images or by cross-validation. Without text, class means replace it;
without labels, P is estimated by transport.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Any, ClassVar, Literal

import torch
from torch import Tensor

from modalign.core.renaming import Formerly
from modalign.linalg.optimizers import cosine_rates
from modalign.linalg.procrustes import procrustes
from modalign.linalg.prototypes import class_means
from modalign.linalg.similarity import unit
from modalign.linalg.sinkhorn import sinkhorn
from modalign.methods.baselines.lfa_refinement import (
    AlignmentData,
    Refinement,
    RefinementSettings,
    SelectedMap,
    refine_maps,
)
from modalign.methods.contract.best_candidate import Best, Criterion
from modalign.methods.contract.calibrating import lone_labels_temperature
from modalign.methods.contract.divisions import SelectionSplits, selection_splits
from modalign.methods.contract.parameters import Count, Fraction, NonNegative, Positive, Range, Seed
from modalign.methods.contract.selection import held_out, share_correct
from modalign.methods.contract.training_steps import checkpoints
from modalign.methods.contract.transduction import keep_answers
from modalign.methods.contract.vectors import Problem, VectorMethod

BETAS = tuple(i / 24 for i in range(25))
CAREFUL_BETA = BETAS[23]  # used if nothing can be held out


@dataclass(kw_only=True, eq=False, repr=False)
class LFA(VectorMethod):
    r"""Linear feature alignment: a Procrustes map from images to class texts, refined with a ranking loss.

    Scores are cosines of mapped images and class texts. Without text, class means replace it; without labels, these are
    estimated by transport. Equations: :mod:`modalign.methods.baselines.lfa`.

    Parameters
    ----------
    identity_weight : float or "auto", default="auto"
        β: 0 starts at the isometry, 1 at zero-shot, ``"auto"`` selects it.
    steps : int or None, default=None
        Refinement steps; 0 is the closed form, None selects them.
    max_steps, patience : int, default=200 and 2
        Largest number of steps to select; evaluations without a gain after which the refinement stops.
    batch_size : int, default=1024
        Images per step.
    learning_rate, min_learning_rate, weight_decay : float, default=5e-4, 1e-7 and 5e-4
        First learning rate of the cosine; last learning rate of the cosine; decoupled weight decay of W.
    n_hard_negatives, margin_scale : int and float, default=3 and 4.0
        k, competing class texts per image; s of the margins, which are larger where s is smaller.
    noise, dropout : float, default=0.035 and 0.05
        Standard deviation of Gaussian noise on the image features in training; share of them set to zero in training.
    n_evaluations : int, default=12
        Evaluations on held-out images during the refinement.
    criterion : {"log-loss", "accuracy"}, default="log-loss"
        Criterion on held-out images; the other one breaks ties.
    iterations, epsilon : int and float, default=5 and 0.01
        Without labels, the maximum number of updates of P and W; without labels, the entropy of P in units of a cosine.
    rho : float or None, default=None
        KL penalty of equal class sizes without labels; None is a constraint.
    logit_scale : float or None, default=None
        Inverse temperature of the scores; None is that of the encoder.
    random_state : int or None, default=None
        Seed of batches, noise, dropout and folds.

    Attributes
    ----------
    weight_, prototypes_ : Tensor of shape (d, d) and (C, d)
        W, and unit class texts.
    identity_weight_, steps_ : float and int
        Values used.
    losses_ : Tensor of shape (n_steps,)
        Loss of every refinement step.
    transduction_ : ndarray of shape (n,)
        Class of each fitted image, if there were no labels.
    diagnosis_ : dict
        Selected values, distances of W from the identity and from orthogonality, and validation accuracies.

    References
    ----------
    .. [1] Ouali et al., "Black box few-shot adaptation for vision-language models", 2023, arXiv:2304.01752.

    Examples
    --------
    >>> import modalign as ma
    >>> from modalign.testing import few_shot_problem
    >>> X, y, Xv, yv, Xt, yt, T = few_shot_problem()
    >>> lfa = ma.LFA(random_state=0).fit(X, y, text=T, validation=(Xv, yv))
    >>> lfa.predict(T)
    array([0, 1, 2, 3, 4])
    """

    title = "Linear Feature Alignment"
    paper = "Ouali et al., Black box few-shot adaptation for vision-language models, 2023, arXiv:2304.01752"
    needs_labels = False
    takes_unlabeled = False
    transfers = True
    choices: ClassVar[tuple[str, ...]] = ("identity_weight", "steps")
    cross_validates: ClassVar[bool] = True
    small_steps: ClassVar[bool] = True
    ablations: ClassVar[dict[str, dict[str, Any]]] = {
        "identity map": {"identity_weight": 1.0, "steps": 0},
        "no refinement": {"steps": 0},
    }

    identity_weight: Annotated[Fraction | Literal["auto"], Formerly("beta")] = "auto"
    steps: Annotated[int, Range(0)] | None = None
    max_steps: Count = 200
    patience: Count = 2
    batch_size: Count = 1024
    learning_rate: Positive = 5e-4
    min_learning_rate: NonNegative = 1e-7
    weight_decay: NonNegative = 5e-4
    n_hard_negatives: Annotated[Count, Formerly("neighbours")] = 3
    margin_scale: Positive = 4.0
    noise: NonNegative = 0.035
    dropout: Fraction = 0.05
    n_evaluations: Annotated[Count, Formerly("checkpoints")] = 12
    criterion: Criterion = "log-loss"
    iterations: Count = 5
    epsilon: Positive = 0.01
    rho: Positive | None = None
    logit_scale: Positive | None = None
    random_state: Seed = None

    def _fit(self, problem: Problem) -> None:
        self.__dict__.pop("transduction_", None)
        self.prototypes_ = problem.prototypes()
        found: dict[str, float | int | bool] = {}
        X, y = problem.labeled()
        labeled = len(y) > 0
        divided = selection_splits(
            problem,
            self.random_state_,
            cross_validate=labeled and (self.identity_weight == "auto" or self.steps is None),
        )
        if labeled:
            data = self._alignment_data(X, y, problem)
        else:
            P, isometry, found = self._assign(unit(problem.X))
            y = P.argmax(dim=1)
            data = AlignmentData(unit(problem.X), y, self.prototypes_, isometry)
            self.transduction_ = self.classes_[y.cpu().numpy()]
            self.fitted_answers_ = keep_answers(problem.X, P)
        trials = [
            (
                data if number == 0 and part.whole else self._alignment_data(X[part.rows], y[part.rows], problem),
                unit(part.X),
            )
            for number, part in enumerate(divided.parts)
        ]
        recipe = self._recipe()
        choice = self._choice(trials, divided, recipe, labeled=labeled, text=problem.text is not None)
        start = data.start(choice.identity_weight)
        final = Refinement(start, data.X, data.y, data.T, replace(recipe, rates=recipe.rates[: choice.steps]))
        self.losses_ = refine_maps([final])[:, 0]
        self.weight_, self.identity_weight_, self.steps_ = final.weight, choice.identity_weight, choice.steps
        if choice.scores is not None:
            self._calibrate(self.logit_scale_ * choice.scores, divided.y, divided.growth(y))
        elif labeled and problem.validation is None:
            self.temperature_ = lone_labels_temperature(problem, self._scores(X), self.logit_scale_)

        identity = torch.eye(len(start), device=start.device)
        size = identity.norm()
        self.diagnosis_ = {
            "identity_weight": self.identity_weight_,
            "step": choice.steps,
            "chosen_on": divided.source,
            "distance_from_identity": ((self.weight_ - identity).norm() / size).item(),
            "orthogonality_error": ((self.weight_.T @ self.weight_ - identity).norm() / size).item(),
            **found,
        }
        known = held_out(problem.validation)
        if known is not None:
            ablated = {
                "": self.weight_, "_zero_shot": identity, "_procrustes": data.isometry, "_without_refinement": start,
            }  # fmt: skip
            for what, weight in ablated.items():
                right = share_correct(data.cosines(unit(known[0]), weight), known[1])
                self.diagnosis_[f"validation_accuracy{what}"] = right

    def _scores(self, X: Tensor) -> Tensor:
        cosines = unit(unit(X) @ self.weight_.to(X.device)) @ self.prototypes_.to(X.device).T
        return self.logit_scale_ * cosines

    def _alignment_data(self, X: Tensor, y: Tensor, problem: Problem) -> AlignmentData:
        """Return the training data of labeled images; the text replaces the images of a class without any."""
        X = unit(X)
        if problem.text is None:
            T = class_means(X, y, problem.n_classes)
        else:
            T = self.prototypes_
            absent = (torch.bincount(y, minlength=len(T)) == 0).nonzero()[:, 0]
            typical = round(len(y) / (len(T) - len(absent)))
            absent = absent.repeat_interleave(typical)
            X, y = torch.cat([X, T[absent]]), torch.cat([y, absent])
        return AlignmentData(X, y, T, procrustes(X, T[y], complete=True))

    def _recipe(self) -> RefinementSettings:
        rates = cosine_rates(
            max(self.max_steps, self.steps or 0),
            self.learning_rate,
            lowest=min(self.min_learning_rate, self.learning_rate),
        )
        shared = ("batch_size", "weight_decay", "n_hard_negatives", "margin_scale", "noise", "dropout")
        return RefinementSettings(
            rates, **{name: getattr(self, name) for name in shared}, random_state=self.random_state_
        )

    def _choice(
        self,
        trials: list[tuple[AlignmentData, Tensor]],
        divided: SelectionSplits,
        recipe: RefinementSettings,
        *,
        labeled: bool,
        text: bool,
    ) -> SelectedMap:
        """Return β and the number of steps, as passed or selected on held-out images."""
        beta = CAREFUL_BETA if self.identity_weight == "auto" else float(self.identity_weight)
        if not trials or (self.identity_weight != "auto" and self.steps is not None):
            unchosen = 0 if labeled else self.max_steps
            return SelectedMap(beta, unchosen if self.steps is None else self.steps)
        best = Best[SelectedMap](self.criterion, divided.y)
        if self.identity_weight == "auto":
            mapped = [(rows @ data.isometry, rows, data.T) for data, rows in trials]

            def scores(beta: float) -> Tensor:
                return torch.cat([unit(torch.lerp(turned, rows, beta)) @ T.T for turned, rows, T in mapped])

            best.start(scores(1.0), SelectedMap(1.0, 0, scores(1.0)))
            for candidate in reversed(BETAS[:-1]):  # of equals the nearest to zero-shot
                found = scores(candidate)
                best.offer(found, partial(SelectedMap, candidate, 0, found), careful=candidate == CAREFUL_BETA)
            beta = best.choice.identity_weight
        else:
            found = torch.cat([data.cosines(rows, data.start(beta)) for data, rows in trials])
            best.start(found, SelectedMap(beta, 0, found))
        if self.steps is not None:
            return best.choice if self.steps == 0 else SelectedMap(beta, self.steps)
        maps = [Refinement(data.start(beta), data.X, data.y, data.T, recipe) for data, _ in trials]
        misses = 0

        def evaluate(step: int) -> bool:
            nonlocal misses
            found = torch.cat([data.cosines(rows, one.weight) for (data, rows), one in zip(trials, maps, strict=True)])
            misses = 0 if best.offer(found, partial(SelectedMap, beta, step, found)) else misses + 1
            return text and misses >= self.patience

        refine_maps(maps, evaluate, checkpoints(self.max_steps, self.n_evaluations))
        return best.choice

    def _assign(self, X: Tensor) -> tuple[Tensor, Tensor, dict[str, float | int | bool]]:
        """Return assignments (n, C) and map without labels, by alternating Sinkhorn and Procrustes."""
        T = self.prototypes_
        rho = float("inf") if self.rho is None else (float("inf"), float(self.rho))
        mapped, history, stable = X, [(X @ T.T).argmax(dim=1)], False
        while len(history) <= self.iterations and not stable:
            plan = sinkhorn(-(mapped @ T.T), self.epsilon, rho=rho)
            coupling = plan.coupling
            history.append(coupling.argmax(dim=1))
            isometry = procrustes(coupling.T @ X, T, complete=True)
            mapped = X @ isometry
            stable = len(history) > 2 and bool((history[-1] == history[-2]).all())
        return (
            coupling / coupling.sum(dim=1, keepdim=True).clamp_min(torch.finfo(coupling.dtype).tiny),
            isometry,
            {
                "iterations": len(history) - 1,
                "stable": stable,
                "marginal_error": float(plan.marginal_error),
                "classes_changed": (history[-1] != history[0]).double().mean().item(),
            },
        )
