"""GPUA: vision-only features are carried into the language space by an orthogonal map, without labels."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, ClassVar, Literal, overload

import numpy as np
import torch
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from modalign.core.features import Features
from modalign.core.renaming import OFFICIAL, Formerly
from modalign.linalg.procrustes import procrustes_from_factors
from modalign.linalg.similarity import unit
from modalign.methods.contract.descent import seeded
from modalign.methods.contract.parameters import Count, Fraction, NonNegative, Positive, PositiveOrInfinite, Range, Seed
from modalign.methods.contract.transduction import Likeliest, keep_answers
from modalign.methods.contract.vectors import Problem, Rows, VectorMethod
from modalign.methods.gpua import gpua_released as released
from modalign.methods.gpua.gpua_anchored import MAP_WEIGHT, Ground, between, initial_map, language_map
from modalign.methods.gpua.gpua_correspondence import Assignment, mine, zero_shot
from modalign.methods.gpua.gpua_losses import Hubs, Loss, Ranking, Slope, descend_unconstrained, refine_map, span
from modalign.methods.gpua.gpua_marginals import Marginals
from modalign.methods.gpua.gpua_rows import BLOCK, Images, unit_spaces

SHARE, ETA = 0.025, 0.5  # default learning rates, of our refinement and of the paper's
SAMPLE, SAMPLE_A_CLASS = 20_000, 30  # images that classes are estimated from: at most the larger of the two


@dataclass(kw_only=True, eq=False, repr=False)
class GPUA(ClassNamePrefixFeaturesOutMixin, TransformerMixin, VectorMethod):
    r"""Geometry-preserving unsupervised alignment of vision-only features with class text.

    Given visual features Z (n, d_v), of one network or of several side by side, the same images X (n, d_t) in a
    vision-language space, and class texts Y (K, d_t), all rows of length one in each space (Algorithm 1):

    .. math::
        P^{(0)} &= \mathrm{softmax}(s X Y^\top) \\
        R &= (1 - \lambda) Z C^\top + \lambda X Y^\top, \quad
        C_k = \textstyle\sum_i P_{ik} Z_i / \sum_i P_{ik} && (12) \\
        P &= \arg\max_{P 1 = 1/n,\; P^\top 1 = c} \langle P, R \rangle + \epsilon H(P) && (10) \\
        W_0 &= U V^\top, \quad U \Sigma V^\top = Z^\top P Y && (14) \\
        W &= \arg\min \mathcal{L}_{\mathrm{THS}}(W), \; W^\top W = I && (15, 16)

    P and C alternate until C rests; the pseudo-label of an image is the largest entry of its row of P
    (``transduction_``). New images need Z only: their class is the text nearest to z W. Labels are never used; without
    text, means of labeled images stand in for it.

    Z is ``X`` of :meth:`fit`, X is its ``clip_features``; without these the two are one. A language view that is also
    part of Z (``fit(concatenate([second, clip], axis=1), text=T, clip_features=clip)``) is found.

    **By default** (``preset="anchored"``) it is a variant of this library, not the procedure of the paper, whose
    uniform class shares and map cost tens of points on folders where classes are uneven or absent. The similarity of
    image and class gains a Gaussian log-density whose mean is drawn toward the class text, and the map is drawn toward
    zero-shot:

    .. math::
        R_{ik} &= \lambda\, x_i^\top y_k + (1 - \lambda) (z_i^\top C_k + \log N(z_i;\, \mu_k, h_k \Sigma) / s) \\
        W_0 &= \operatorname{polar}\Big(\sum_k \tfrac{n_k}{n_k + 2}\, C_k y_k^\top
               + 3 \sum_k (L y_k) y_k^\top\Big) \\
        W &= \operatorname{polar}((1 - q) L + q\, W_{\mathrm{refined}}), \qquad
        q = 0.7 \min(1, \text{coverage} / 0.8)^2 \tfrac{n}{n + K}

    The classes are those of :class:`~modalign.methods.anchored.anchored_gaussian.AnchoredGaussian`, with the language
    view among the visual spaces. Their sizes are the class shares c, which bind softly: a penalty ρ KL(Pᵀ1 | c). Where
    they are nearly equal (KL from uniform ≤ 0.03), c is uniform. L is the map that gives zero-shot on the language
    view, where that is part of Z. So each class has one vote, an absent class keeps its text, and new images are
    answered as by zero-shot where the fitted images show few of the classes. There may be fewer images than classes.
    The classes are estimated from a random sample of at most 20,000 images or 30 per class.

    **The map** is the one of minimum norm: it carries the visual spaces onto the span of the class texts, of dimension
    r ≤ min(K, d_t), and nothing elsewhere, since ZᵀPY says nothing about the rest. There WᵀW = I exactly; each step of
    the refinement returns to that manifold. Losses compare unit vectors, as inference does.

    **The paper to the letter** (``preset="paper"``) is Algorithm 1 with what the text around it says: P(0) is the
    softmax of the cosines themselves, class shares are uniform, the hub penalty is the share h_c, distances in the loss
    are those of raw Wᵀz (with several spaces up to √V long), and the refinement takes plain gradient steps, which leave
    the orthogonal maps. What the paper leaves open, T, the number of steps and their length, the margin scale and the
    number of competitors, are the parameters below. ZᵀPY determines W on the span of the class texts alone; there W₀ is
    U Vᵀ, elsewhere zero.

    Cost: an update of P reads n K (d_v + d_t) numbers' worth of products, then solves the transport in 5 to 10 passes
    of n K exponentials and n K² multiplications; Procrustes from PᵀZ O((d_v + d_t) K²); a step of the refinement
    O(m d_v r) for m images. Memory beside the features: ``memory`` and a few K × (d_v + K); P is never held. Features
    that are memory-mapped (``numpy.load(…, mmap_mode="r")``) stay on disk and are read in blocks, with the same result.

    Published (top-1, CLIP ViT-B/16 with DINOv3, mean of 11 data sets): zero-shot 65.2, with 16 unlabeled images a
    class 76.5, with all 77.4 (Table 1); without the vision-only space 68.3 on UCF101 instead of 78.4 (Table 3); with
    the CSLS / adaptive / contrastive / triplet loss 69.5 / 75.0 / 75.1 / 75.3 instead of 76.5 (Table 6).

    Parameters
    ----------
    semantic_weight : λ, how much the language space counts in the affinity.
    epsilon : ε, strength of the entropy, in the units of a cosine.
    class_prior : class shares: ``"auto"`` (estimated, or uniform where that is near; ``"paper"``: uniform),
        ``"uniform"``, ``"estimate"`` (never exactly uniform), or a list of K numbers in the order of the classes.
    rho : KL strength of the class shares; ``inf`` makes them a constraint; None is 0.1 for estimated ones, 1 for
        nearly equal ones, else inf.
    max_iterations : updates of P at most.
    tolerance : marginal error at which the transport is done, relative to the total mass.
    loss : of the refinement: ``"ths"``, or one of the paper's comparisons.
    steps : gradient steps of the refinement; 0 keeps W₀.
    learning_rate : length of the first steps of the refinement as a share of that of W; with ``preset="paper"`` η, the
        factor of the gradient. None is 0.025, and 0.5 for η (picked on validation images of Caltech101).
    batch_size : images a step.
    n_hard_negatives : competing prototypes an image in the ranking losses.
    margin_scale : s of the margins (1 − y_a·y_b)/s.
    hub_weight : factor of the hub penalty h_c; 1 in the paper.
    hubs : ``"share"`` takes h_c as the share of images that c competes for, as the paper does; ``"excess"`` what is
        above the mean of that, competitors/K, which is a margin that cannot be met where classes are few. None is
        ``"share"`` with ``preset="paper"``, else ``"excess"``.
    spaces : widths of the visual spaces in X; None takes X as one, apart from columns that repeat ``clip_features``.
    preset : ``"anchored"`` is this library's variant, see above; ``"paper"`` Algorithm 1 as printed, see above, with
        batches in the refinement beyond ``batch_size`` images; ``"official_code"`` what the published code does, see
        :mod:`modalign.methods.gpua.gpua_released`: it ignores all parameters above but ``spaces``, and holds everything
        in memory.
    logit_scale : inverse temperature of P(0), of the zero-shot prior and of the scores; None is that of
        the encoder, but for P(0) with ``preset="paper"``, where it is 1.
    memory : GiB that may be taken to keep what would else be computed again in every pass.
    random_state : seed of the sample and of the batches; nothing is drawn where all images fit into one.

    Attributes
    ----------
    weight_ : (d_v, d_t) W.
    prototypes_ : (K, d_t) Y.
    class_prior_ : (K,) c.
    transduction_ : (n,) classes of the fitted images.
    class_sizes_ : (K,) estimated images of each class; of the default.
    spaces_ : widths of the visual spaces.
    diagnosis_ : ``plan_entropy`` as a share of that of a uniform plan; ``marginal_error``; ``iterations`` and
        ``centres_rest``, whether C came to rest; ``changed_from_zero_shot``, the share of images with another class
        than zero-shot gives; ``orthogonality_defect`` of W; ``class_prior`` as chosen, with the numbers that decided;
        ``smallest_class`` and ``empty_classes`` by pseudo-label; ``loss_before`` and ``loss_after`` refinement. By
        default also the number of ``absent_classes``, ``coverage`` (the share of the classes that the images show) and
        ``new_image_weight`` q.

    Warns
    -----
    UserWarning : classes seem to have no image.
    """

    title = "GPUA"
    paper = "Yu, Hu, Zhao, Tai and Li, Geometry-preserving unsupervised alignment for heterogeneous foundation models"
    needs_labels = False
    takes_clip_features: ClassVar[bool] = True
    takes_labels: ClassVar[bool] = False
    streams: ClassVar[bool] = True
    ablations: ClassVar[dict[str, dict[str, Any]]] = {
        "uniform plan": {"epsilon": 1e8},
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
        images = Images(
            problem.X, problem.clip_features, self.spaces, n_classes=len(text), memory=self.memory * 2**30 / 2
        )
        generator = seeded(self.random_state_)
        unscaled = self.preset == "paper" and self.logit_scale is None
        start = zero_shot(images, text, 1.0 if unscaled else self.logit_scale_)
        if self.preset != "anchored" and problem.text is not None:
            start.require_images()
        self.prototypes_, self.spaces_ = text, list(images.widths)
        if self.preset == "official_code":
            self.weight_, found, self.diagnosis_ = released.fit_official(images, text, start, generator)
            self.class_prior_ = torch.full((len(text),), 1 / len(text), device=text.device)
        else:
            found = self._fit_plan(images, text, start, generator)
        self.transduction_ = self.classes_[found.classes[:, 0].cpu().numpy()]
        self.fitted_answers_ = keep_answers(problem.X, found)

    def _fit_plan(self, images: Images, text: Tensor, start: Assignment, generator: torch.Generator) -> Likeliest:
        anchored = self.preset == "anchored"
        sized = anchored or np.array_equal(self.class_prior, "estimate")
        ground = self._ground(images, text, generator) if sized else None
        prior = ground if anchored else None
        marginals = self._marginals(len(text), ground).to(text.device)
        found = mine(
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
            densities=None if prior is None else partial(prior.densities, images, self.logit_scale_),
        )
        labels = found.assignment.labels

        basis = span(text)
        inner = text @ basis
        if anchored:
            language = language_map(images, basis)
            W0 = initial_map(found.assignment, inner, language)
        else:
            W0 = procrustes_from_factors(found.assignment.moments.float(), inner, complete=True).weight
        slope = Slope(images, labels, self._ranking(inner), self.batch_size, generator)
        refine, rate = (refine_map, SHARE) if anchored else (descend_unconstrained, ETA)
        refined = refine(slope, W0, steps=self.steps, learning_rate=self.learning_rate or rate)
        W = refined.map if prior is None else between(language, refined.map, MAP_WEIGHT * prior.trust)
        self.weight_, self.class_prior_ = W @ basis.T, marginals.shares.float()
        if prior is not None:
            self.class_sizes_ = prior.sizes
        self.diagnosis_ = {
            **found.report(start),
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
        size = min(len(images), max(SAMPLE, SAMPLE_A_CLASS * len(text)))
        rows = torch.arange(size) if size == len(images) else torch.randperm(len(images), generator=generator)[:size]
        rows = rows.sort().values.to(text.device)
        return Ground.estimate(images, rows, text, self.semantic_weight, self.logit_scale_)

    def _marginals(self, K: int, ground: Ground | None) -> Marginals:
        if not isinstance(self.class_prior, str):
            return Marginals.given(self.class_prior, K)
        if ground is None or self.class_prior == "uniform":
            return Marginals.uniform(K)
        return ground.marginals(allow_uniform=self.class_prior == "auto")

    @overload
    def transform(self, X: Tensor) -> Tensor: ...
    @overload
    def transform(self, X: Rows | Features) -> np.ndarray: ...
    def transform(self, X: Rows | Tensor | Features) -> np.ndarray | Tensor:
        """(n, d_t) unit vectors of the images in the language space, within the span of the class texts."""
        check_is_fitted(self)
        with torch.no_grad():
            mapped = self._mapped(self._read_vectors(X, reset=False))
        return mapped if isinstance(X, Tensor) else mapped.cpu().numpy()

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags

    @property
    def _n_features_out(self) -> int:
        return self.weight_.shape[1]

    def _mapped(self, X: Tensor) -> Tensor:
        W = self.weight_.to(X.device)
        step = max(1, BLOCK // len(W))
        return torch.cat([unit(unit_spaces(part, self.spaces_) @ W) for part in X.split(step)])

    def _scores(self, X: Tensor) -> Tensor:
        return self.logit_scale_ * (self._mapped(X) @ self.prototypes_.to(X.device).T)
