r"""TransCLIP: transductive classification by a Gaussian mixture with a text prior.

With unit images :math:`f_i`, assignments :math:`z_i` on the simplex (one-hot for the labeled images S, free for the
unlabeled Q) and zero-shot softmax :math:`\hat y_i`, the objective in z, μ and the shared diagonal Σ is

.. math::
    L = -\tfrac{1}{\tau} \sum_{i \in Q} z_i^\top \log p_i
        - \gamma \tfrac{|Q|}{|S|} \sum_{i \in S} z_i^\top \log p_i
        - \tfrac{1}{2k} \sum_{i, j} w_{ij}\, z_i^\top z_j
        + \sum_{i \in Q} \bigl( z_i^\top \log z_i - \lambda\, z_i^\top \log \hat y_i \bigr),
    \qquad p_{ik} = \mathcal{N}(f_i;\, \mu_k, \Sigma)

with τ = 50 and, for the k nearest other images j of each image i, :math:`w_{ij} = \max(0, f_i^\top f_j)`. New
images are classified without the neighbor term. Without text, class means replace it.

Cost: O((|Q| + |S|)² d) for the neighbors, then O(|Q| C (d + k)) per iteration.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from modalign.core.renaming import Formerly
from modalign.linalg.inputs import exact_dtype
from modalign.linalg.similarity import unit
from modalign.methods.baselines.transclip_solver import ROWS, TEMPER, Mixture, MixtureProblem, Solution, links
from modalign.methods.contract.best_candidate import Best, Criterion
from modalign.methods.contract.parameters import Count, NonNegative, Positive, Range, Seed
from modalign.methods.contract.selection import share_correct, unit_held_out
from modalign.methods.contract.transduction import keep_answers
from modalign.methods.contract.vectors import Problem, VectorMethod

GAMMAS, UNCHOSEN_GAMMA = (0.002, 0.01, 0.02, 0.2), 0.02
ZERO_SHOT_WEIGHT, FEW_SHOT_WEIGHT = 1.0, 0.5


@dataclass(kw_only=True, eq=False, repr=False)
class TransCLIP(VectorMethod):
    r"""Transductive classifier: a Gaussian mixture with text and neighbor terms assigns all unlabeled images jointly.

    New images are classified without the neighbor term. Without text, class means replace it.
    Equations: :mod:`modalign.methods.baselines.transclip`.

    Parameters
    ----------
    text_weight : float or None, default=None
        λ. None is 1 without labels and 0.5 with labels.
    support_weight : float or "auto", default="auto"
        γ; ``"auto"`` selects 0.002, 0.01, 0.02 or 0.2 on validation images.
    n_neighbors : int, default=3
        k, nearest images of each image; 0 omits the Laplacian.
    outer_iterations : int, default=10
        Updates of μ and Σ.
    inner_iterations : int, default=5
        Updates of z between them.
    confident : int, default=8
        Images that initialize the mean of a class without labels.
    criterion : {"log-loss", "accuracy"}, default="log-loss"
        Criterion on the validation images; the other one breaks ties.
    logit_scale : float or None, default=None
        Inverse temperature of the zero-shot softmax; None is that of the encoder.
    random_state : int or None, default=None
        Ignored; present for API consistency.

    Attributes
    ----------
    transduction_ : ndarray of shape (n,)
        Class of each fitted image: its label, or the largest entry of z.
    means_ : Tensor of shape (C, d)
        μ, unit rows.
    variances_ : Tensor of shape (d,)
        Diagonal of Σ.
    prototypes_ : Tensor of shape (C, d)
        Unit class texts.
    text_weight_, support_weight_ : float
        Values used.
    diagnosis_ : dict
        Values used and what they were ``chosen_on``; the share of unlabeled images that differ from zero-shot, with
        and without neighbors; mean ``confidence``; ``last_change`` of z; with validation images the accuracies there.

    References
    ----------
    .. [1] Zanella, Gérin and Ben Ayed, "Boosting vision-language models with transduction", 2024, arXiv:2406.01837.

    Examples
    --------
    >>> import modalign as ma
    >>> from modalign.testing import few_shot_problem
    >>> X, y, Xv, yv, Xt, yt, T = few_shot_problem()
    >>> method = ma.TransCLIP().fit(Xt, text=T)
    >>> bool((method.transduction_ == yt).mean() > 0.6)
    True
    """

    title = "TransCLIP"
    paper = "Zanella, Gérin and Ben Ayed, Boosting vision-language models with transduction, 2024, arXiv:2406.01837"
    needs_labels = False
    choices: ClassVar[tuple[str, ...]] = ("support_weight",)
    ablations: ClassVar[dict[str, dict[str, Any]]] = {
        "no neighbors": {"n_neighbors": 0},
        "no text term": {"text_weight": 0.0},
    }

    text_weight: NonNegative | None = None
    support_weight: NonNegative | Literal["auto"] = "auto"
    n_neighbors: Annotated[int, Range(0), Formerly("neighbours")] = 3
    outer_iterations: Count = 10
    inner_iterations: Count = 5
    confident: Count = 8
    criterion: Criterion = "log-loss"
    logit_scale: Positive | None = None
    random_state: Seed = None

    def _fit(self, problem: Problem) -> None:
        self.prototypes_ = problem.prototypes()
        labeled = problem.y >= 0
        support, queries = unit(problem.X[labeled]), unit(problem.X[~labeled])
        labels = problem.y[labeled]
        validation = unit_held_out(problem.validation)
        published = FEW_SHOT_WEIGHT if len(support) else ZERO_SHOT_WEIGHT
        self.text_weight_ = published if self.text_weight is None else float(self.text_weight)
        task = MixtureProblem(
            queries=queries,
            support=support,
            targets=F.one_hot(labels, problem.n_classes).float(),
            prototypes=self.prototypes_,
            log_text=self._log_text_in_blocks(queries),
            text_weight=self.text_weight_,
            links=links(queries, support, self.n_neighbors),
        )
        start = task.start(self.confident)
        solution, gamma, chosen_on = self._solved(task, start, validation)
        self.means_, self.variances_, self.support_weight_ = *solution.mixture, gamma

        codes = problem.y.clone()
        codes[~labeled] = solution.assignments.argmax(dim=1)
        self.transduction_ = self.classes_[codes.cpu().numpy()]
        self.diagnosis_ = {
            "text_weight": self.text_weight_,
            "support_weight": gamma,
            "chosen_on": chosen_on,
            "unlabeled": len(queries),
        }
        if len(queries):
            rows = problem.X[~labeled] if len(support) else problem.X
            self.fitted_answers_ = keep_answers(rows, solution.assignments)
            alone = replace(task, links=None)
            zero_shot, found = task.log_text.argmax(dim=1), codes[~labeled]
            unlinked = self._iterate(alone, start, gamma).assignments.argmax(dim=1)
            self.diagnosis_ |= {
                "changed": (found != zero_shot).double().mean().item(),
                "changed_without_neighbors": (unlinked != zero_shot).double().mean().item(),
                "confidence": solution.assignments.amax(dim=1).mean().item(),
                "last_change": solution.last_change,
            }
        if validation is not None:
            X, y = validation
            density, text = solution.mixture.log_density(X), self._log_text(X)
            self.diagnosis_ |= {
                "validation_accuracy": share_correct(density / TEMPER + self.text_weight_ * text, y),
                "validation_accuracy_zero_shot": share_correct(text, y),
                "validation_accuracy_without_text": share_correct(density, y),
            }

    def _scores(self, X: Tensor) -> Tensor:
        X = unit(X).to(exact_dtype(X.device))  # in float32 the difference of two classes depends on the batch
        mixture = Mixture(self.means_.to(X), self.variances_.to(X))
        return (mixture.log_density(X) / TEMPER + self.text_weight_ * self._log_text(X)).float()

    def _log_text(self, X: Tensor) -> Tensor:
        """log ŷ of unit rows, (n, C)."""
        return torch.log_softmax(self.logit_scale_ * (X @ self.prototypes_.to(X).T), dim=1)

    def _log_text_in_blocks(self, X: Tensor) -> Tensor:
        """The same in float32, computed in float64, where confident images still differ."""
        return torch.cat([self._log_text(rows.double()).float() for rows in X.split(ROWS)])

    def _solved(
        self, task: MixtureProblem, start: Mixture, validation: tuple[Tensor, Tensor] | None
    ) -> tuple[Solution, float, str]:
        """Return the solution with γ, which is selected if it has an effect and there are validation images."""
        if not len(task.support):
            return self._iterate(task, start, 0.0), 0.0, "nothing"
        if self.support_weight != "auto" or validation is None or not len(task.queries):
            gamma = UNCHOSEN_GAMMA if self.support_weight == "auto" else float(self.support_weight)
            return self._iterate(task, start, gamma), gamma, "nothing"
        X, y = validation
        best = Best[tuple[Solution, float]](self.criterion, y)
        for gamma in GAMMAS:
            solution = self._iterate(task, start, gamma)
            scores = solution.mixture.log_density(X) / TEMPER + self.text_weight_ * self._log_text(X)
            best.offer_value(scores / self.logit_scale_, (solution, gamma))
        return *best.choice, "validation"

    def _iterate(self, task: MixtureProblem, start: Mixture, gamma: float) -> Solution:
        """Block majorize-minimize from ``start``."""
        mixture, Z = start, task.log_text.exp()
        before = Z
        for _ in range(self.outer_iterations):
            fixed = mixture.log_density(task.queries).div_(TEMPER).add_(task.log_text, alpha=task.text_weight)
            for _ in range(self.inner_iterations):
                before, Z = Z, task.assign(fixed, Z)
            mixture = task.estimate(Z, gamma, mixture)
        change = (Z - before).abs().sum(dim=1).mean().item() / 2 if len(Z) else 0.0
        return Solution(mixture, Z, change)
