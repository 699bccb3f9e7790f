r"""GPUA: an orthogonal map from vision-only features to the language space, learned without labels.

.. math::
    P^{(0)} &= \mathrm{softmax}(s X Y^\top) \\
    R &= (1 - \lambda) Z C^\top + \lambda X Y^\top, \quad
    C_k = \textstyle\sum_i P_{ik} Z_i / \sum_i P_{ik} && (12) \\
    P &= \arg\max_{P 1 = 1/n,\; P^\top 1 = c} \langle P, R \rangle + \epsilon H(P) && (10) \\
    W_0 &= U V^\top, \quad U \Sigma V^\top = Z^\top P Y && (14) \\
    W &= \arg\min \mathcal{L}_{\mathrm{THS}}(W), \; W^\top W = I && (15, 16)

Z (n, d_v) are the features passed as `X`, X (n, d_t) those passed as `clip_features`, Y (K, d_t) the class texts;
rows have unit length. Without `clip_features`, Z is also X. CLIP features that are also columns of Z are detected.
The default is a variant of Algorithm 1 for imbalanced and absent classes; see ``docs/notes/gpua.md`` for its equations.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from modalign.core.renaming import OFFICIAL, Formerly
from modalign.linalg.procrustes import procrustes
from modalign.linalg.similarity import unit
from modalign.methods.contract.estimators.mapping import MappingMethod
from modalign.methods.contract.parameters import Count, Fraction, NonNegative, Positive, PositiveOrInfinite, Range, Seed
from modalign.methods.contract.team import current_team
from modalign.methods.contract.training_steps import seeded
from modalign.methods.contract.transduction import Likeliest, keep_answers
from modalign.methods.contract.vectors import Problem
from modalign.methods.gpua.gpua_anchored import MAP_WEIGHT, Ground, initial_map, language_map, orthogonal_mean
from modalign.methods.gpua.gpua_correspondence import Assignment, find_correspondences, zero_shot
from modalign.methods.gpua.gpua_losses import Hubs, Loss, Ranking, Slope, descend_unconstrained, refine_map, span
from modalign.methods.gpua.gpua_marginals import Marginals
from modalign.methods.gpua.gpua_official import fit_official
from modalign.methods.gpua.gpua_rows import BLOCK, Images, unit_spaces

SHARE, ETA = 0.025, 0.5  # default learning rates, of our refinement and of the paper's
SAMPLE, SAMPLE_A_CLASS = 20_000, 30  # images that classes are estimated from: at most the larger of the two


@dataclass(kw_only=True, eq=False, repr=False)
class GPUA(MappingMethod):
    r"""Geometry-preserving unsupervised alignment of vision-only features with class text.

    Assigns classes to all images at once by optimal transport, then learns an orthogonal map from the visual space to
    the class texts for new images. Labels are not used; without text, means of labeled images replace it. The
    default is a variant for imbalanced and absent classes. Equations: :mod:`modalign.methods.gpua.gpua`.

    Parameters
    ----------
    semantic_weight : float, default=0.9
        λ, weight of the CLIP features in the affinity R; 0 uses the visual features only.
    epsilon, tolerance : float, default=0.01 and 1e-6
        ε, strength of the entropy in units of a cosine; marginal error of the transport, relative to its mass.
    class_prior : {"auto", "uniform", "estimate"} or array of shape (K,), default="auto"
        c, share of each class. ``"auto"`` is uniform in ``"paper"`` or if the estimate is nearly uniform.
    rho : float or None, default=None
        KL penalty of the class prior; ``inf`` is a constraint. None is 0.1 for an estimated prior, 1 for a nearly
        uniform one, else ``inf``.
    loss : {"ths", "adaptive", "triplet", "contrastive", "csls"}, default="ths"
        Loss of the refinement: THS, or one that the paper compares it with.
    max_iterations, steps : int, default=30 and 50
        Maximum number of updates of P; gradient steps of the refinement (0 keeps W₀).
    learning_rate : float or None, default=None
        Length of the first steps relative to W; in ``"paper"`` the factor η of the gradient. None is 0.025, or 0.5
        for η.
    n_hard_negatives, margin_scale, hub_weight : int and float, default=3, 2.0 and 1.0
        Competing class texts per image in the ranking losses; s of the margins (1 − y_a·y_b) / s; weight of h_c.
    hubs : {"share", "excess"} or None, default=None
        ``"share"`` is the share of images for which c is a hard negative, as in the paper; ``"excess"`` subtracts its
        mean. None is ``"share"`` in ``"paper"``, else ``"excess"``.
    spaces : list or None, default=None
        Widths of the visual spaces in `X`. None takes `X` as one, apart from columns that repeat `clip_features`.
    preset : {"anchored", "paper", "official_code"}, default="anchored"
        The variant of this library; Algorithm 1 as printed; or :mod:`modalign.methods.gpua.gpua_official`.
    logit_scale : float or None, default=None
        s, inverse temperature. None is that of the encoder; in ``"paper"`` it is 1 for P(0).
    batch_size, memory : int and float, default=8192 and 1.0
        Images per step; GiB for results that are otherwise recomputed in every pass.
    random_state : int or None, default=None
        Seed of the sample and of the batches. Nothing is drawn if all images fit into one batch.

    Attributes
    ----------
    weight_, prototypes_, marginals_, losses_ : Tensor
        W (d_v, d_t), Y (K, d_t), the class prior c (K,), and the loss by step of the refinement.
    transduction_ : ndarray of shape (n,)
        Class of each fitted image: the largest entry of its row of P.
    class_sizes_ : Tensor of shape (K,)
        Estimated number of images per class, with ``preset="anchored"``; absent classes are named in a warning.
    diagnosis_ : dict
        Relative entropy of the plan, ``marginal_error``, ``iterations``, the share of images
        ``changed_from_zero_shot``, ``orthogonality_defect`` of W, the class prior, loss before and after refinement.

    Examples
    --------
    >>> import modalign as ma
    >>> from modalign.testing import few_shot_problem
    >>> X, y, Xv, yv, Xt, yt, T = few_shot_problem()
    >>> gpua = ma.GPUA(random_state=0).fit(Xt, text=T, clip_features=Xt)
    >>> round(gpua.score(Xt, yt), 1) >= round(ma.ZeroShot().fit(X, y, text=T).score(Xt, yt), 1)
    True
    """

    title = "GPUA"
    paper = "Yu, Hu, Zhao, Tai and Li, Geometry-preserving unsupervised alignment for heterogeneous foundation models"
    needs_labels = False
    takes_clip_features: ClassVar[bool] = True
    takes_labels: ClassVar[bool] = False
    streams: ClassVar[bool] = True
    sums_over_processes: ClassVar[bool] = True
    ablations: ClassVar[dict[str, dict[str, Any]]] = {
        "uniform plan": {"epsilon": 1e8},
        "text scores alone": {"semantic_weight": 1.0},
        "even class shares": {"class_prior": "uniform"},
        "no refinement": {"steps": 0},
    }

    semantic_weight: Fraction = 0.9
    epsilon: Positive = 0.01
    class_prior: Annotated[Literal["auto", "uniform", "estimate"] | list | np.ndarray, Formerly("marginals")] = "auto"
    rho: PositiveOrInfinite | None = None
    max_iterations: Count = 30
    tolerance: Positive = 1e-6
    loss: Loss = "ths"
    steps: Annotated[int, Range(0)] = 50
    learning_rate: Positive | None = None
    batch_size: Count = 8192
    n_hard_negatives: Annotated[Count, Formerly("competitors")] = 3
    margin_scale: Positive = 2.0
    hub_weight: NonNegative = 1.0
    hubs: Hubs | None = None
    spaces: list | None = None
    preset: Annotated[Literal["anchored", "paper", "official_code"], OFFICIAL] = "anchored"
    logit_scale: Positive | None = None
    memory: Positive = 1.0
    random_state: Seed = None

    def _fit(self, problem: Problem) -> None:
        text = problem.prototypes().float()
        memory = self.memory * 2**30 / 2
        images = Images(
            problem.X, problem.clip_features, self.spaces, n_classes=len(text), memory=memory, team=current_team()
        )
        generator = seeded(self.random_state_)
        unscaled = self.preset == "paper" and self.logit_scale is None
        start = zero_shot(images, text, 1.0 if unscaled else self.logit_scale_)
        if self.preset != "anchored" and problem.text is not None:
            start.require_images()
        self.prototypes_, self.spaces_ = text, list(images.widths)
        if self.preset == "official_code":
            self.weight_, found, self.diagnosis_ = fit_official(images, text, start, generator)
            self.class_prior_ = torch.full((len(text),), 1 / len(text), device=text.device)
        else:
            found = self._fit_plan(images, text, start, generator)
        self.transduction_ = self.classes_[found.classes[:, 0].cpu().numpy()]
        self.fitted_answers_ = keep_answers(problem.X, found)

    def _fit_plan(self, images: Images, text: Tensor, start: Assignment, generator: torch.Generator) -> Likeliest:
        """Algorithm 1 from line 4 on, or its variant with anchored classes."""
        anchored = self.preset == "anchored"
        sized = anchored or np.array_equal(self.class_prior, "estimate")
        ground = self._ground(images, text, generator) if sized else None
        prior = ground if anchored else None
        marginals = self._marginals(len(text), ground).to(text.device)

        # Stage 1
        density_weight = (1 - self.semantic_weight) / self.logit_scale_
        found = find_correspondences(
            images,
            text,
            start,
            marginals,
            weight=self.semantic_weight,
            epsilon=self.epsilon,
            rho=self.rho or marginals.rho,
            tolerance=self.tolerance,
            max_iterations=self.max_iterations,
            memory=self.memory * 2**30 / 2,
            fixed=None if prior is None else prior.density_terms(images, density_weight),
        )

        # Stage 2, in coordinates of the span of the texts
        basis = span(text)
        inner = text @ basis
        slope = Slope(images, found.assignment.labels, self._ranking(inner), self.batch_size, generator)
        if prior is None:
            W0 = procrustes(found.assignment.moments.float(), inner, complete=True)  # line 12
            refined = descend_unconstrained(slope, W0, steps=self.steps, learning_rate=self.learning_rate or ETA)
            W = refined.map
        else:
            language = language_map(images, basis)
            W0 = initial_map(found.assignment, inner, language)
            refined = refine_map(slope, W0, steps=self.steps, learning_rate=self.learning_rate or SHARE)
            W = orthogonal_mean(language, refined.map, MAP_WEIGHT * prior.trust)
            self.class_sizes_ = prior.sizes

        self.weight_, self.class_prior_ = W @ basis.T, marginals.shares.float()
        self.losses_ = refined.losses.float()
        self.diagnosis_ = {
            **found.report(start, images),
            **marginals.report(),
            **refined.report(),
            **({} if prior is None else prior.report()),
        }
        return found.assignment.likeliest

    def _ranking(self, text: Tensor) -> Ranking:
        paper = self.preset == "paper"
        return Ranking(
            text,
            self.loss,
            min(self.n_hard_negatives, len(text) - 1),
            self.margin_scale,
            self.hub_weight,
            self.hubs or ("share" if paper else "excess"),
            self.logit_scale_,
            raw=paper,
        )

    def _ground(self, images: Images, text: Tensor, generator: torch.Generator) -> Ground:
        n = images.total
        size = min(n, max(SAMPLE, SAMPLE_A_CLASS * len(text)))
        rows = torch.arange(size) if size == n else torch.randperm(n, generator=generator)[:size]
        rows = rows.sort().values.to(text.device)
        return Ground.estimate(images, rows, text, self.semantic_weight, self.logit_scale_)

    def _marginals(self, K: int, ground: Ground | None) -> Marginals:
        if not isinstance(self.class_prior, str):
            return Marginals.given(self.class_prior, K)
        if ground is None or self.class_prior == "uniform":
            return Marginals.uniform(K)
        return ground.marginals(allow_uniform=self.class_prior == "auto")

    @property
    def _n_features_out(self) -> int:
        return self.weight_.shape[1]

    def _mapped_vectors(self, X: Tensor) -> Tensor:
        W = self.weight_.to(X.device)
        step = max(1, BLOCK // len(W))
        return torch.cat([unit(unit_spaces(part, self.spaces_) @ W) for part in X.split(step)])

    def _scores(self, X: Tensor) -> Tensor:
        return self.logit_scale_ * (self._mapped_vectors(X) @ self.prototypes_.to(X.device).T)
