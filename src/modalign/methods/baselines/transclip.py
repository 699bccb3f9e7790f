"""TransCLIP: unlabeled images are classified together, by a Gaussian mixture that the class texts guide."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from modalign.core.renaming import Formerly
from modalign.linalg.inputs import wide
from modalign.linalg.similarity import unit
from modalign.methods.baselines.transclip_solver import ROWS, TEMPER, Mixture, MixtureProblem, Solution, links
from modalign.methods.contract.descent import Best, Criterion
from modalign.methods.contract.parameters import Count, NonNegative, Positive, Range, Seed
from modalign.methods.contract.selection import share_correct, unit_held_out
from modalign.methods.contract.transduction import keep_answers
from modalign.methods.contract.vectors import Problem, VectorMethod

GAMMAS, UNCHOSEN_GAMMA = (0.002, 0.01, 0.02, 0.2), 0.02
ZERO_SHOT_WEIGHT, FEW_SHOT_WEIGHT = 1.0, 0.5


@dataclass(kw_only=True, eq=False, repr=False)
class TransCLIP(VectorMethod):
    r"""Transduction over all unlabeled images Q, and labeled images S where there are some.

    With unit images :math:`f_i`, assignments :math:`z_i` on the simplex (one-hot and fixed for S) and the zero-shot
    softmax :math:`\hat y_i`, the objective in z, μ and the diagonal Σ that all classes share is

    .. math::
        L = -\tfrac{1}{\tau} \sum_{i \in Q} z_i^\top \log p_i
            - \gamma \tfrac{|Q|}{|S|} \sum_{i \in S} z_i^\top \log p_i
            - \tfrac{1}{2k} \sum_{i, j} w_{ij}\, z_i^\top z_j
            + \sum_{i \in Q} \bigl( z_i^\top \log z_i - \lambda\, z_i^\top \log \hat y_i \bigr),
        \qquad p_{ik} = \mathcal{N}(f_i;\, \mu_k, \Sigma)

    a mixture likelihood, tempered by τ = 50 for the unlabeled images; a Laplacian over the k nearest other images j of
    each image i, :math:`w_{ij} = \max(0, f_i^\top f_j)`; and the divergence from the texts. Majorizing the Laplacian
    by its tangent decouples the images:

    .. math::
        z_i &\propto \hat y_i^{\lambda} \odot \exp\Bigl( \tfrac{1}{\tau} \bigl(\log p_i
            + \tfrac{\tau}{2k} \sum_j (w_{ij} + w_{ji})\, z_j \bigr)\Bigr) \\
        \mu_k &= \frac{\sum_{i} a_i z_{ik} f_i}{\lVert \sum_i a_i z_{ik} f_i \rVert}, \qquad
        \operatorname{diag} \Sigma = \frac{\sum_i a_i \sum_k z_{ik} (f_i - \mu_k)^2}{\sum_i a_i}, \qquad
        a_i = \begin{cases} 1 / |Q| & i \in Q \\ \tau \gamma / |S| & i \in S \end{cases}

    five z-steps, then μ and Σ, ten times. The temper and the unit length of the means are part of the published
    solver; without the temper, the likelihood of d dimensions outweighs the text some thirty times. Starts: z is the
    zero-shot softmax, Σ = 1/d, and :math:`\mu_k` the mean direction of the labeled images of the class; where it has
    none, that of the eight unlabeled images its text is surest of, weighted by :math:`\hat y`.

    :attr:`transduction_` holds the answers for all images of ``fit``, labeled and unlabeled (−1). A new image is
    classified by :math:`\tfrac{1}{\tau} \log p_k + \lambda \log \hat y_k`, the z-step without neighbors, and this
    rule remains where every image is labeled. With labels, γ is chosen on ``validation`` by this rule. Without text,
    class means take its place.

    Cost: O((|Q| + |S|)² d) for the neighbors, once, in blocks of 64 MB; O(|Q| C (d + k)) an iteration. Memory beside
    the images: a copy of unit length, about five matrices (|Q|, C), and the blocks.

    Published, zero-shot, ViT-B/32, mean of 6 data sets: 66.39 (FAIR, Table 4).

    Parameters
    ----------
    text_weight : λ; None is 1 where no image is labeled and 0.5 where some are.
    support_weight : γ, or ``"auto"`` to choose it among 0.002, 0.01, 0.02 and 0.2 on validation images.
    n_neighbors : k, nearest images of each image, labeled or not; 0 switches the Laplacian off.
    outer_iterations : updates of μ and Σ.
    inner_iterations : updates of z between them.
    confident : images that a mean starts from where no label gives it.
    criterion : what is compared on the validation images; the other breaks ties.
    logit_scale : inverse temperature of the zero-shot softmax; None is that of the encoder.
    random_state : not used, since nothing is drawn; accepted so that all methods are called alike.

    Attributes
    ----------
    transduction_ : (n,) labels of the fitted images: given where there was one, found where there was none.
    means_ : (C, d) μ, unit rows.
    variances_ : (d,) diagonal of Σ.
    prototypes_ : (C, d) unit class texts.
    text_weight_, support_weight_ : λ and γ as used.
    diagnosis_ : λ, γ and what it was ``chosen_on``; for the unlabeled images the share whose answer differs from
        zero-shot, how many of these ``changed_without_neighbours`` and the mean ``confidence``; ``last_change``, the
        mean total variation between the last two z; with validation images the accuracy there, of zero-shot, and
        with the mixture or the text switched off.

    References
    ----------
    Zanella, Gérin and Ben Ayed, Boosting vision-language models with transduction, 2024, arXiv:2406.01837.
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
        labelled = problem.y >= 0
        support, queries = unit(problem.X[labelled]), unit(problem.X[~labelled])
        labels = problem.y[labelled]
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
        codes[~labelled] = solution.assignments.argmax(dim=1)
        self.transduction_ = self.classes_[codes.cpu().numpy()]
        self.diagnosis_ = {
            "text_weight": self.text_weight_,
            "support_weight": gamma,
            "chosen_on": chosen_on,
            "unlabelled": len(queries),
        }
        if len(queries):
            rows = problem.X[~labelled] if len(support) else problem.X
            self.fitted_answers_ = keep_answers(rows, solution.assignments)
            alone = replace(task, links=None)
            zero_shot, found = task.log_text.argmax(dim=1), codes[~labelled]
            unlinked = self._iterate(alone, start, gamma).assignments.argmax(dim=1)
            self.diagnosis_ |= {
                "changed": (found != zero_shot).double().mean().item(),
                "changed_without_neighbours": (unlinked != zero_shot).double().mean().item(),
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
        X = unit(X).to(wide(X.device))  # in float32 the difference of two classes depends on the batch
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
        """The solution with γ, which is chosen where it matters and can be."""
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
