r"""FAIR on cached features: only the class embeddings are trained.

Variant of FAIR for a frozen encoder. With the features f of an image, f_i of its N crops (``tokens`` of
:class:`~modalign.core.features.Features`) and class embeddings Z, initially the mean directions of the prompts,

.. math::
    w_i &= f^\top f_i / \textstyle\sum_l f^\top f_l, \quad
    \psi_y = \textstyle\sum_{i \in I_k} w_i f_i^\top Z_y, \quad \hat y = \arg\max_y \psi_y \\
    \mathcal L &= \mathrm{E}\bigl[-\gamma \log p_{\hat y}(f_r)\bigr]
    - \textstyle\sum_j q_j \log \bar p_j, \quad p(f_r) = \mathrm{softmax}(s f_r^\top Z)

with γ as in :class:`~modalign.methods.fair.fair.FAIR` and r one of the N crops, drawn in every step. Without crops,
the image is the only crop.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from modalign.core.errors import InputError
from modalign.core.renaming import Formerly, stacklevel_outside
from modalign.linalg.divergence import divergence_from_uniform
from modalign.linalg.optimizers import Descent, cosine_rates, descend
from modalign.linalg.similarity import top_k, unit
from modalign.methods.contract.parameters import Count, Fraction, NonNegative, Positive, Seed
from modalign.methods.contract.training_steps import seeded
from modalign.methods.contract.transduction import keep_answers
from modalign.methods.contract.vectors import Problem, VectorMethod
from modalign.methods.fair.fair_score import (
    SMALL_VOCABULARY,
    CropScores,
    Prior,
    Scale,
    Weighting,
    collapse,
    crop_weights,
    fairness,
    sample_confidence,
    zero_shot_shares,
)


@dataclass(kw_only=True, eq=False, repr=False)
class FAIRVectors(VectorMethod):
    r"""Self-training of class embeddings on fixed features, without labels and without a GPU.

    Variant of FAIR for a frozen encoder, on the features of an image and of its crops (``tokens`` of
    :class:`~modalign.core.features.Features`); without crops, the image is the only crop. Equations:
    :mod:`modalign.methods.fair.fair_vectors`.

    Parameters
    ----------
    keep : int, default=4
        k, number of crops used; all if there are fewer.
    alignment : {"learned", "fixed"}, default="learned"
        Compare crops with the current Z, or with the initial one.
    score_scale : {"prob", "raw", "logit"}, default="prob"
        Scale of the scores S in γ.
    weighting : {"margin", "top", "none"}, default="margin"
        γ: S₁|S₁ − S₂|, S₁, or 1.
    fairness_weight : float, default=0.3
        Weight of the fairness term.
    class_prior : {"uniform", "estimate"}, default="estimate"
        q: the mean initial probabilities, or uniform as in FAIR, for balanced classes.
    momentum : float or None, default=None
        Momentum of p̄; None is 0 below 512 classes and 0.5 above.
    steps : int, default=100
        Updates of Z.
    batch_size : int, default=4096
        Images per step.
    learning_rate : float, default=1e-3
        Peak learning rate of AdamW; a cosine to zero.
    logit_scale : float or None, default=None
        s; None is that of the encoder.
    random_state : int or None, default=None
        Seed of the batches and of the drawn crops.

    Attributes
    ----------
    prototypes_ : Tensor of shape (C, d)
        Z, unit rows.
    transduction_ : ndarray of shape (n,)
        Class of each fitted image, by ψ.
    diagnosis_ : dict
        Number of ``crops``; the share of images whose class ``changed``; ``agreement`` of the crops, ``divergence`` of
        the pseudo-labels from uniform and mean ``gamma`` at the start and the end; ``anchors_moved``, the mean cosine
        distance of Z from its start; ``warning`` if the pseudo-labels collapsed.

    See Also
    --------
    FAIR : The method of the paper, inside the encoder.

    Examples
    --------
    >>> import modalign as ma
    >>> from modalign.testing import few_shot_problem
    >>> X, y, Xv, yv, Xt, yt, T = few_shot_problem()
    >>> method = ma.FAIRVectors(random_state=0).fit(Xt, text=T)
    >>> method.predict(T)
    array([0, 1, 2, 3, 4])
    """

    title = "FAIR on vectors"
    paper = (
        "after Ali, Silva, Arora and Khan, Towards fine-grained adaptation of CLIP via a self-trained alignment score"
    )
    needs_labels = False
    takes_labels = False
    takes_parts: ClassVar[bool] = True
    ablations: ClassVar[dict[str, dict[str, Any]]] = {
        "fixed score": {"alignment": "fixed"},
        "all labels alike": {"weighting": "none"},
        "no fairness": {"fairness_weight": 0.0},
        "even classes": {"class_prior": "uniform"},
    }

    keep: Count = 4
    alignment: Literal["learned", "fixed"] = "learned"
    score_scale: Annotated[Scale, Formerly("units")] = "prob"
    weighting: Weighting = "margin"
    fairness_weight: Annotated[NonNegative, Formerly("fairness")] = 0.3
    class_prior: Prior = "estimate"
    momentum: Fraction | None = None
    steps: Count = 100
    batch_size: Count = 4096
    learning_rate: Positive = 1e-3
    logit_scale: Positive | None = None
    random_state: Seed = None

    def _fit(self, problem: Problem) -> None:
        if self.momentum == 1:
            raise InputError("Expected momentum below 1, with which the moving average would never move.")
        start = problem.prototypes()
        whole = unit(problem.X)
        parts = whole[:, None] if problem.parts is None else unit(problem.parts)
        evidence, mass, chosen = gather(whole, parts, min(self.keep, parts.shape[1]))
        shares = zero_shot_shares(whole, start, self.logit_scale_) if self.class_prior == "estimate" else None
        anchors = self._train(start, parts, evidence, mass, shares)
        self.prototypes_ = unit(anchors)
        before, after = (evidence @ Z.T for Z in (start, self.prototypes_))
        labels, first = after.argmax(dim=1), before.argmax(dim=1)
        self.transduction_ = self.classes_[labels.cpu().numpy()]
        posterior = torch.softmax(self.logit_scale_ * after / mass.clamp_min(1e-6)[:, None], dim=1)
        self.fitted_answers_ = keep_answers(problem.X, posterior)
        votes = (chosen @ self.prototypes_.T).argmax(dim=2)
        counts = [torch.bincount(found, minlength=problem.n_classes) for found in (first, labels)]
        self.diagnosis_ = {
            "crops": 0 if problem.parts is None else parts.shape[1],
            "changed": (labels != first).double().mean().item(),
            "agreement": (votes == labels[:, None]).double().mean().item(),
            "divergence": dict(
                zip(("start", "end"), divergence_from_uniform(torch.stack(counts)).tolist(), strict=True)
            ),
            "gamma": {
                when: self._gamma(scores, mass).mean().item() for when, scores in (("start", before), ("end", after))
            },
            "anchors_moved": (1 - (start * self.prototypes_).sum(dim=1)).mean().item(),
        }
        message = collapse(counts[1])
        if message:
            self.diagnosis_["warning"] = message
            warnings.warn(message, stacklevel=stacklevel_outside())

    def _train(self, start: Tensor, parts: Tensor, evidence: Tensor, mass: Tensor, shares: Tensor | None) -> Tensor:
        """Return the class embeddings (C, d) after all steps."""
        n, K = len(evidence), len(start)
        momentum = (0.0 if K < SMALL_VOCABULARY else 0.5) if self.momentum is None else self.momentum
        draws = seeded(self.random_state_)
        anchors, average = start.clone(), torch.full((K,), 1 / K, device=start.device)

        def gradients(step: int) -> tuple[Tensor, list[Tensor]]:
            nonlocal average
            rows = torch.randperm(n, generator=draws)[: self.batch_size] if n > self.batch_size else torch.arange(n)
            drawn = torch.randint(parts.shape[1], (len(rows),), generator=draws)
            rows, drawn = rows.to(start.device), drawn.to(start.device)
            judge = unit(anchors) if self.alignment == "learned" else start
            scores = evidence[rows] @ judge.T
            gamma = self._gamma(scores, mass[rows])
            with torch.enable_grad():
                Z = anchors.detach().requires_grad_()
                logits = self.logit_scale_ * (parts[rows, drawn] @ unit(Z).T)
                training = (gamma * F.cross_entropy(logits, scores.argmax(dim=1), reduction="none")).mean()
                fair, average = fairness(logits, average, momentum, shares)
                loss = training + self.fairness_weight * fair
                (slope,) = torch.autograd.grad(loss, Z)
            return loss.detach()[None], [slope]

        descend([Descent(anchors, cosine_rates(self.steps, self.learning_rate), 0.0)], gradients)
        return anchors

    def _gamma(self, scores: Tensor, mass: Tensor) -> Tensor:
        alignment = CropScores(scores, mass, scores.argmax(dim=1, keepdim=True))
        return sample_confidence(
            alignment, score=self.score_scale, weighting=self.weighting, logit_scale=self.logit_scale_
        )

    def _scores(self, X: Tensor) -> Tensor:
        return self.logit_scale_ * (unit(X) @ self.prototypes_.to(X.device).T)


def gather(whole: Tensor, parts: Tensor, keep: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return Σ w_i f_i over the kept crops (n, d), the sum of their weights (n,), and the crops (n, k, d).

    Parameters
    ----------
    whole : Tensor of shape (n, d)
        Unit vectors.
    parts : Tensor of shape (n, N, d)
        Unit vectors.
    keep : int
        k.
    """
    kept, columns = top_k(crop_weights(whole, parts), keep)
    chosen = parts.gather(1, columns[:, :, None].expand(-1, -1, parts.shape[2]))
    return torch.einsum("nk,nkd->nd", kept, chosen), kept.sum(dim=1), chosen
