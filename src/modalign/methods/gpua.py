"""GPUA: vision-only features are carried into the language space by an orthogonal map, without labels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from modalign.errors import InputError
from modalign.features import Features
from modalign.linalg.procrustes import procrustes_from_factors
from modalign.linalg.similarity import unit
from modalign.methods import gpua_released as released
from modalign.methods.base import Problem, VectorMethod
from modalign.methods.fitting import seeded
from modalign.methods.gpua_correspondence import Assignment, Correspondences, mine, zero_shot
from modalign.methods.gpua_losses import Hubs, Loss, Ranking, Refined, refine
from modalign.methods.gpua_marginals import Marginals, divergence, estimate_marginals
from modalign.methods.gpua_rows import BLOCK, Images, unit_spaces
from modalign.methods.parameters import Count, Fraction, NonNegative, Positive, PositiveOrInfinite, Range, Seed

SAMPLE, SAMPLE_A_CLASS = 20_000, 50  # images that class shares are estimated from: at most the larger of the two
ESTIMATE_RHO = 0.1  # KL strength of estimated shares: 10 ε, firm, but an image may still refuse
NOBODY = 1e-4  # images: a class that resembles less than this is none of theirs


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
    text, means of labelled images stand in for it.

    Z is ``X`` of :meth:`fit`, X is its ``anchor``; without anchor the two are one. Where the language view is also part
    of Z (``fit(concatenate([second, clip], axis=1), text=T, anchor=clip)``), that is found out.

    **Class shares c.** The paper takes uniform ones and names imbalance as its limitation; on real folders they cost
    20 points. ``marginals="auto"`` lets two explanations of the images compete: an even one, that starts from the plan
    with uniform shares, and an uneven one, that starts from zero-shot and learns its shares. Each is a mixture of one
    Gaussian a class with one covariance for all, with zero-shot as prior. If the even one gives the images the
    greater likelihood, and classifies them evenly although nothing holds it to that (KL from uniform ≤ 0.02), c is
    uniform as in the paper. Otherwise c are the class sizes of the better explanation, and they bind softly: a
    penalty ρ KL(Pᵀ1 | c), ρ = 0.1. See :mod:`modalign.methods.gpua_marginals`; the numbers are in ``diagnosis_``.
    Class shares are estimated from a random sample of at most 20,000 images or 50 a class.

    **The map** is the one of minimum norm: it carries the visual spaces onto the span of the class texts, of dimension
    r ≤ min(K, d_t), and nothing elsewhere, since ZᵀPY says nothing about the rest. There WᵀW = I exactly; each step of
    the refinement returns to that manifold. Class scores are the same for any other choice on the rest. Losses compare
    unit vectors, as inference does, where the paper prints raw Wᵀz: with several spaces that has length √V.

    Cost: an update of P reads n K (d_v + d_t) numbers' worth of products, then solves the transport in 5 to 10 passes
    of n K exponentials and n K² multiplications; Procrustes from PᵀZ O((d_v + d_t) K²); a step of the refinement
    O(m d_v r) for m images. Memory beside the features: ``memory`` and a few K × (d_v + K); P is never held. Features
    that are memory-mapped (``numpy.load(…, mmap_mode="r")``) stay on disk and are read in blocks, with the same result.

    Published (top-1, CLIP ViT-B/16 with DINOv3, mean of 11 data sets): zero-shot 65.2, with 16 unlabelled images a
    class 76.5, with all 77.4 (Table 1); without the vision-only space 68.3 on UCF101 instead of 78.4 (Table 3); with
    the CSLS / adaptive / contrastive / triplet loss 69.5 / 75.0 / 75.1 / 75.3 instead of 76.5 (Table 6).

    Parameters
    ----------
    semantic_weight : λ, how much the language space counts in the affinity.
    epsilon : ε, strength of the entropy, in the units of a cosine.
    marginals : class shares: ``"auto"``, ``"uniform"``, ``"estimate"`` (auto, but never exactly uniform), or a list of
        K numbers in the order of the classes.
    rho : KL strength of the class shares; ``inf`` makes them a constraint; None is 0.1 for estimated ones, else inf.
    max_iterations : updates of P at most.
    tolerance : marginal error at which the transport is done, relative to the total mass.
    loss : of the refinement: ``"ths"``, or one of the paper's comparisons.
    steps : gradient steps of the refinement; 0 keeps W₀.
    learning_rate : length of the first steps of the refinement, as a share of that of W.
    batch_size : images a step.
    competitors : competing prototypes an image in the ranking losses.
    margin_scale : s of the margins (1 − y_a·y_b)/s.
    hub_weight : factor of the hub penalty h_c; 1 in the paper.
    hubs : ``"share"`` takes h_c as the share of images that c competes for, as the paper does; ``"excess"`` what is
        above the mean of that, competitors/K, which is no hub but a margin that cannot be met where classes are few.
    spaces : widths of the visual spaces in X; None takes X as one, apart from the columns that repeat the anchor.
    preset : ``"released"`` does what the published code does instead, see :mod:`modalign.methods.gpua_released`; it
        ignores all parameters above but ``spaces``, and holds everything in memory.
    logit_scale : inverse temperature of P(0), of the zero-shot prior and of the scores; None is that of
        the encoder.
    memory : GiB that may be taken to keep what would else be computed again in every pass.
    random_state : seed of the sample and of the batches; nothing is drawn where all images fit into one.

    Attributes
    ----------
    weight_ : (d_v, d_t) W.
    prototypes_ : (K, d_t) Y.
    marginals_ : (K,) c.
    transduction_ : (n,) classes of the fitted images.
    spaces_ : widths of the visual spaces.
    diagnosis_ : ``plan_entropy`` as a share of that of a uniform plan; ``marginal_error``; ``iterations`` and
        ``centres_rest``, whether C came to rest; ``changed_from_zero_shot``, the share of images with another class
        than zero-shot gives; ``orthogonality_defect`` of W; ``marginals`` as chosen, with the numbers that decided;
        ``smallest_class`` and ``empty_classes`` by pseudo-label; ``loss_before`` and ``loss_after`` refinement.
    """

    title = "GPUA"
    paper = "Yu, Hu, Zhao, Tai and Li, Geometry-preserving unsupervised alignment for heterogeneous foundation models"
    needs_labels = False
    takes_anchor: ClassVar[bool] = True
    takes_labels: ClassVar[bool] = False
    streams: ClassVar[bool] = True
    ablations: ClassVar[dict[str, dict[str, Any]]] = {
        "uniform plan": {"epsilon": 1e8},
        "even class shares": {"marginals": "uniform"},
        "no refinement": {"steps": 0},
    }

    semantic_weight: Fraction = 0.9
    epsilon: Positive = 0.01
    marginals: Literal["auto", "uniform", "estimate"] | list | np.ndarray = "auto"
    rho: PositiveOrInfinite | None = None
    max_iterations: Count = 30
    tolerance: Positive = 1e-6
    loss: Loss = "ths"
    steps: Annotated[int, Range(0)] = 50
    learning_rate: Positive = 0.025
    batch_size: Count = 8192
    competitors: Count = 3
    margin_scale: Positive = 2.0
    hub_weight: NonNegative = 1.0
    hubs: Hubs = "excess"
    spaces: list | None = None
    preset: Literal["paper", "released"] = "paper"
    logit_scale: Positive | None = None
    memory: Positive = 1.0
    random_state: Seed = None

    def _fit(self, problem: Problem) -> None:
        text, n = problem.prototypes().float(), len(problem.X)
        if n < len(text):
            raise InputError(f"Expected at least as many images as classes ({len(text)}), got {n}.")
        images = Images(problem.X, problem.anchor, self.spaces, n_classes=len(text), memory=self.memory * 2**30 / 2)
        generator = seeded(self.random_state_)
        start = zero_shot(images, text, self.logit_scale_)
        _require_somebody(start, problem)
        self.prototypes_, self.spaces_ = text, list(images.widths)
        if self.preset == "released":
            labels = self._fit_released(images, text, start, generator)
        else:
            labels = self._fit_paper(images, text, start, generator)
        self.transduction_ = self.classes_[labels.cpu().numpy()]

    def _fit_paper(self, images: Images, text: Tensor, start: Assignment, generator: torch.Generator) -> Tensor:
        marginals = self._shares(images, text, generator)
        rho = self.rho or (ESTIMATE_RHO if marginals.kind == "estimated" else math.inf)
        found = mine(
            images,
            text,
            start,
            marginals,
            weight=self.semantic_weight,
            epsilon=self.epsilon,
            rho=rho,
            tolerance=self.tolerance,
            max_iterations=self.max_iterations,
            memory=self.memory * 2**30 / 2,
        )
        labels = found.assignment.labels

        basis = _span(text)
        W0 = procrustes_from_factors(found.assignment.moments.float(), text @ basis, complete=True).weight
        ranking = Ranking(
            text @ basis,
            self.loss,
            min(self.competitors, len(text) - 1),
            self.margin_scale,
            self.hub_weight,
            self.hubs,
            self.logit_scale_,
        )
        refined = refine(
            images,
            W0,
            labels,
            ranking,
            steps=self.steps,
            learning_rate=self.learning_rate,
            batch_size=self.batch_size,
            generator=generator,
        )
        self.weight_, self.marginals_ = refined.map @ basis.T, marginals.shares.float()
        self.diagnosis_ = self._diagnosis(found, marginals, start, refined)
        return labels

    def _fit_released(self, images: Images, text: Tensor, start: Assignment, generator: torch.Generator) -> Tensor:
        Z, X = images.take(torch.arange(len(images), device=text.device))
        P = released.correspondences(Z, X, text)
        labels = P.argmax(dim=1)
        W0 = released.initial_map(Z, labels, text)
        self.weight_ = released.refine(Z, W0, labels, text, generator)
        self.marginals_ = torch.full((len(text),), 1 / len(text), device=text.device)
        gram = self.weight_.T @ self.weight_
        self.diagnosis_ = {
            "plan_entropy": float(torch.special.entr(P * len(P)).sum(dim=1).mean()) / math.log(len(text)),
            "marginal_error": float((P.sum(dim=0) - self.marginals_).abs().sum()),
            "changed_from_zero_shot": float((labels != start.labels).float().mean()),
            "orthogonality_defect": float((gram - torch.eye(len(gram), device=gram.device)).norm()),
            "marginals": "uniform",
        }
        return labels

    def _shares(self, images: Images, text: Tensor, generator: torch.Generator) -> Marginals:
        K = len(text)
        if not isinstance(self.marginals, str):
            shares = torch.as_tensor(np.asarray(self.marginals, dtype=np.float64), device=text.device)
            if shares.shape != (K,) or not bool((shares > 0).all()) or not bool(torch.isfinite(shares).all()):
                raise InputError(
                    f"Expected marginals to be {K} positive numbers, one a class, got {np.array(self.marginals)}; "
                    "leave out the text of a class that has no image."
                )
            return Marginals(shares / shares.sum(), "given", {"kl_given": divergence(shares)})
        if self.marginals == "uniform":
            return Marginals(torch.full((K,), 1 / K, device=text.device), "uniform", {})
        size = min(len(images), max(SAMPLE, SAMPLE_A_CLASS * K))
        rows = torch.arange(len(images))
        if size < len(images):
            rows = torch.randperm(len(images), generator=generator)[:size].sort().values
        Z, X = images.take(rows.to(text.device))
        return estimate_marginals(
            Z,
            images.widths,
            X @ text.T,
            weight=self.semantic_weight,
            epsilon=self.epsilon,
            logit_scale=self.logit_scale_,
            allow_uniform=self.marginals == "auto",
        )

    def transform(self, X: ArrayLike | Tensor | Features) -> np.ndarray | Tensor:
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

    def _diagnosis(
        self, found: Correspondences, marginals: Marginals, start: Assignment, refined: Refined
    ) -> dict[str, Any]:
        labels, K = found.assignment.labels, len(marginals.shares)
        sizes = torch.bincount(labels, minlength=K)
        report: dict[str, Any] = {
            "plan_entropy": found.assignment.entropy / math.log(K),
            "marginal_error": found.offsets.marginal_error,
            "transport_converged": found.offsets.converged,
            "iterations": found.iterations,
            "centres_rest": found.converged,
            "changed_from_zero_shot": float((labels != start.labels).double().mean()),
            "orthogonality_defect": refined.defect,
            "marginals": marginals.kind,
            **marginals.numbers,
            "kl_marginals": divergence(marginals.shares),
            "smallest_class": int(sizes.min()),
            "empty_classes": int((sizes == 0).sum()),
        }
        if len(refined.losses):
            report |= {"loss_before": float(refined.losses[0]), "loss_after": float(refined.losses[-1])}
        return report


def _span(text: Tensor) -> Tensor:
    """(d_t, r) orthonormal basis of the span of the rows of ``text``."""
    _, singular, right = torch.linalg.svd(text.double() if text.device.type != "mps" else text, full_matrices=False)
    return right[singular > 1e-6 * singular[0]].T.to(text.dtype)


def _require_somebody(start: Assignment, problem: Problem) -> None:
    nobody = (start.mass < NOBODY).nonzero().flatten().tolist()
    if nobody and problem.text is not None:
        shown = ", ".join(map(str, nobody[:10])) + (", …" if len(nobody) > 10 else "")
        raise InputError(
            f"Expected at least one image a class, but none resembles the text of class {shown} (counted from 0); "
            "leave out the text of classes that have no image, or check that text and images are of one encoder."
        )
