"""TransCLIP: unlabelled images are decided together, by a Gaussian mixture that the class texts guide."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from modalign.linalg.similarity import top_k, unit
from modalign.methods.base import Problem, VectorMethod
from modalign.methods.fitting import Best, Criterion
from modalign.methods.parameters import Count, NonNegative, Positive, Range, Seed
from modalign.methods.selection import accuracy, held_out

GAMMAS, UNCHOSEN_GAMMA = (0.002, 0.01, 0.02, 0.2), 0.02
ZERO_SHOT_WEIGHT, FEW_SHOT_WEIGHT = 1.0, 0.5
FLOOR = 0.01  # of the initial variance 1/d: no direction counts for more than a hundred times what it did at the start
CHUNK = 2**24  # numbers of one block of image-by-image cosines: 64 MB


@dataclass(kw_only=True, eq=False, repr=False)
class TransCLIP(VectorMethod):
    r"""Transduction: all unlabelled images Q, and labelled ones S where there are some, explain each other.

    With unit images :math:`f_i`, assignments :math:`z_i` on the simplex (one-hot and fixed for S) and the zero-shot
    softmax :math:`\hat y_i`, minimise over z, μ and the diagonal Σ that all classes share

    .. math::
        L = -\sum_{i \in Q} z_i^\top \log p_i
            - \gamma \tfrac{|Q|}{|S|} \sum_{i \in S} z_i^\top \log p_i
            - \tfrac12 \sum_{i, j} w_{ij}\, z_i^\top z_j
            + \sum_{i \in Q} \bigl( z_i^\top \log z_i - \lambda\, z_i^\top \log \hat y_i \bigr),
        \qquad p_{ik} = \mathcal{N}(f_i;\, \mu_k, \Sigma)

    a mixture likelihood, a Laplacian over the nearest neighbours, :math:`w_{ij} = \max(0, f_i^\top f_j)`, and the
    divergence from the texts. Majorising the Laplacian by its tangent decouples the images:

    .. math::
        z_i &\propto \hat y_i^{\lambda} \odot \exp\Bigl(\log p_i + \sum_j w_{ij} z_j\Bigr) \\
        \mu_k &= \frac{\sum_{i} a_i z_{ik} f_i}{\sum_i a_i z_{ik}}, \qquad
        \operatorname{diag} \Sigma = \frac{\sum_i a_i \sum_k z_{ik} (f_i - \mu_k)^2}{\sum_i a_i}, \qquad
        a_i = \begin{cases} 1 / |Q| & i \in Q \\ \gamma / |S| & i \in S \end{cases}

    five z-steps, then μ and Σ, ten times. An image is not its own neighbour here. Starts: z is the zero-shot softmax,
    Σ = 1/d, and :math:`\mu_k` the mean of the labelled images of the class, or without any of the eight unlabelled
    images that the text is surest of. Text and labels say how many classes there are, unlabelled images never do.

    ``fit`` takes labelled and unlabelled (−1) images alike; :attr:`transduction_` holds the answers for them. A new
    image is decided by :math:`\log p_k + \lambda \log \hat y_k`, the z-step without neighbours. Where every image is
    labelled nothing is left to transduce, and what remains is that rule.

    Few-shot, γ is chosen on ``validation`` by the rule for new images. No label of a query image is ever seen.

    Without text, class means take its place.

    Cost: O(|Q| n d) for the neighbours, once and in bounded memory; O(|Q| C (d + k)) an iteration.

    The likelihood is that of d dimensions: on CLIP vectors a difference of cosines weighs some thirty times as much in
    it as in the text at λ = 1. So assignments come out all but certain, and the neighbours, which add at most k to the
    exponent, seldom change one; ``diagnosis_`` says whether they did.

    Published, zero-shot, ViT-B/32, mean of 6 data sets: 66.39 (FAIR, Table 4).

    Parameters
    ----------
    text_weight : λ; None is 1 where no image is labelled and 0.5 where some are.
    support_weight : γ, or ``"auto"`` to choose it among 0.002, 0.01, 0.02 and 0.2 on validation images.
    neighbours : nearest images of each unlabelled image, labelled or not; 0 switches the Laplacian off.
    outer_iterations : updates of μ and Σ.
    inner_iterations : updates of z between them.
    confident : images that a mean starts from where no label gives it.
    criterion : what is compared on the validation images; the other breaks ties.
    logit_scale : inverse temperature of the zero-shot softmax; None is that of the encoder.
    random_state : not used, since nothing is drawn; accepted so that all methods are called alike.

    Attributes
    ----------
    transduction_ : (n,) labels of the fitted images: given where there was one, found where there was none.
    means_ : (C, d) μ.
    variances_ : (d,) diagonal of Σ.
    prototypes_ : (C, d) unit class texts.
    text_weight_, support_weight_ : λ and γ as used.
    diagnosis_ : λ, γ and what it was ``chosen_on``; for the unlabelled images the share whose answer differs from
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
        "no neighbours": {"neighbours": 0},
        "no text term": {"text_weight": 0.0},
    }

    text_weight: NonNegative | None = None
    support_weight: NonNegative | Literal["auto"] = "auto"
    neighbours: Annotated[int, Range(0)] = 3
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
        validation = held_out(problem.validation)
        few = len(support) > 0
        self.text_weight_ = float(
            (FEW_SHOT_WEIGHT if few else ZERO_SHOT_WEIGHT) if self.text_weight is None else self.text_weight
        )
        task = Task(
            queries=queries,
            support=support,
            targets=F.one_hot(labels, problem.n_classes).float(),
            prototypes=self.prototypes_,
            log_text=self._log_text(queries.double()).float(),  # in float64, where confident images still differ
            text_weight=self.text_weight_,
            graph=nearest(queries, support, self.neighbours),
        )
        start = task.start(self.confident)
        if validation is not None:
            validation = unit(validation[0]), validation[1]
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
            alone = task.without_graph()
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
                "validation_accuracy": accuracy(density + self.text_weight_ * text, y),
                "validation_accuracy_zero_shot": accuracy(text, y),
                "validation_accuracy_without_text": accuracy(density, y),
            }

    def _scores(self, X: Tensor) -> Tensor:
        X = unit(X)
        mixture = Mixture(self.means_.to(X.device), self.variances_.to(X.device))
        return mixture.log_density(X) + self.text_weight_ * self._log_text(X)

    def _log_text(self, X: Tensor) -> Tensor:
        """log ŷ of unit rows, (n, C)."""
        return torch.log_softmax(self.logit_scale_ * (X @ self.prototypes_.to(X).T), dim=1)

    def _solved(
        self, task: Task, start: Mixture, validation: tuple[Tensor, Tensor] | None
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
            scores = solution.mixture.log_density(X) + self.text_weight_ * self._log_text(X)
            best.offer(scores / self.logit_scale_, lambda choice=(solution, gamma): choice)
        return *best.choice, "validation"

    def _iterate(self, task: Task, start: Mixture, gamma: float) -> Solution:
        """Block majorise-minimise from ``start``."""
        mixture, Z = start, task.log_text.exp()
        before = Z
        for _ in range(self.outer_iterations):
            fixed = task.text_weight * task.log_text + mixture.log_density(task.queries)
            for _ in range(self.inner_iterations):
                before, Z = Z, task.assign(fixed, Z)
            mixture = task.estimate(Z, gamma, mixture)
        change = (Z - before).abs().sum(dim=1).mean().item() / 2 if len(Z) else 0.0
        return Solution(mixture, Z, change)


class Mixture(NamedTuple):
    """Gaussians with means (C, d) and one diagonal covariance, variances (d,), for all."""

    means: Tensor
    variances: Tensor

    def log_density(self, X: Tensor) -> Tensor:
        """(n, C) log N(x; μ_k, Σ) less what is the same for all classes of a row."""
        scaled = self.means / self.variances
        return X @ scaled.T - (scaled * self.means).sum(dim=1) / 2


class Graph(NamedTuple):
    """For every query its neighbours (|Q|, k), numbered queries first and then support, and their weights (|Q|, k)."""

    neighbours: Tensor
    weights: Tensor


@dataclass(frozen=True)
class Solution:
    """Where the iteration ended: mixture, assignments (|Q|, C), mean total variation of its last z-step."""

    mixture: Mixture
    assignments: Tensor
    last_change: float


@dataclass(frozen=True)
class Task:
    """What is given.

    Attributes
    ----------
    queries, support : (|Q|, d) and (|S|, d) unit images.
    targets : (|S|, C) one-hot labels.
    prototypes : (C, d) unit class texts.
    log_text : (|Q|, C) log ŷ.
    text_weight : λ.
    graph : neighbours of the queries.
    """

    queries: Tensor
    support: Tensor
    targets: Tensor
    prototypes: Tensor
    log_text: Tensor
    text_weight: float
    graph: Graph

    def without_graph(self) -> Task:
        """The same with every image on its own."""
        return replace(self, graph=Graph(self.graph.neighbours[:, :0], self.graph.weights[:, :0]))

    def start(self, confident: int) -> Mixture:
        """Means of the support; where a class has none, of the queries that the text is surest of. Variance 1/d."""
        d = self.support.shape[1]
        counts = self.targets.sum(dim=0)[:, None]
        if len(self.queries):
            surest = top_k(self.log_text.T, min(confident, len(self.queries))).indices
            guess = self.queries[surest].mean(dim=1)
        else:
            guess = self.prototypes
        means = torch.where(counts > 0, self.targets.T @ self.support / counts.clamp_min(1), guess)
        return Mixture(means, self.support.new_full((d,), 1 / d))

    def assign(self, fixed: Tensor, Z: Tensor) -> Tensor:
        """One z-step for all queries at once: softmax of ``fixed`` (|Q|, C) and of what the neighbours have in Z."""
        everything = torch.cat([Z, self.targets])
        pull = torch.zeros_like(fixed)
        for neighbour, weight in zip(self.graph.neighbours.T, self.graph.weights.T, strict=True):
            pull.addcmul_(everything[neighbour], weight[:, None])
        return torch.softmax(fixed + pull, dim=1)

    def estimate(self, Z: Tensor, gamma: float, before: Mixture) -> Mixture:
        """μ, then Σ; a class that nobody belongs to keeps its mean."""
        parts = [(self.queries, Z, 1.0), (self.support, self.targets, gamma if len(self.queries) else 1.0)]
        parts = [(X.double(), z.double() * (share / len(X))) for X, z, share in parts if len(X) and share]
        masses = sum(z.sum(dim=0) for _, z in parts)
        sums = sum(z.T @ X for X, z in parts)
        held = (masses > torch.finfo(torch.float32).tiny)[:, None]
        means = torch.where(held, sums / masses.clamp_min(1e-300)[:, None], before.means.double())
        # Σ a z (x − μ)² = Σ a z x² − Σ_k mass_k μ_k², in float64, for unit rows lose digits in the difference
        squares = sum(z.sum(dim=1) @ X.square() for X, z in parts) - masses @ means.square()
        variances = (squares / masses.sum()).clamp_min(FLOOR / means.shape[1])
        if not len(self.queries) and len(self.support) <= len(means):
            variances = before.variances  # no class has two images: nothing says how far they spread
        return Mixture(means.float(), variances.float())


def nearest(queries: Tensor, support: Tensor, k: int) -> Graph:
    """The k nearest of all images to each query, itself left out, with max(0, cosine) as weight."""
    everything = torch.cat([queries, support])
    k = min(k, len(everything) - 1)
    if not k or not len(queries):
        empty = queries.new_zeros(len(queries), 0)
        return Graph(empty.long(), empty)
    blocks = []
    rows = max(1, CHUNK // len(everything))
    for start in range(0, len(queries), rows):
        cosines = queries[start : start + rows] @ everything.T
        here = torch.arange(len(cosines), device=cosines.device)
        cosines[here, start + here] = -torch.inf
        blocks.append(top_k(cosines, k))
    return Graph(
        torch.cat([block.indices for block in blocks]), torch.cat([block.values for block in blocks]).clamp_min(0)
    )
