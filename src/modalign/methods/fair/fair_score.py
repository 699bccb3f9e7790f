"""Scores of FAIR: crop weights, class scores, and confidence of pseudo-labels.

Pure functions of feature vectors, used by FAIR, FAIR on vectors and WCA.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal, NamedTuple

import torch
from torch import Tensor

from modalign.core.errors import InputError
from modalign.core.renaming import Formerly
from modalign.linalg.divergence import divergence_from_uniform
from modalign.linalg.similarity import cosine, top_k, unit

Scale = Literal["prob", "raw", "logit"]
Weighting = Literal["margin", "top", "none"]
Prior = Annotated[Literal["uniform", "estimate"], Formerly("shares", (("start", "estimate"),))]
COLLAPSED = math.log(2)  # KL from uniform of labels that fall evenly on half of the classes
SMALL_VOCABULARY = 512  # classes below which a batch mean stands for the moving average


class CropScores(NamedTuple):
    """Class scores of B images for K classes from their best crops.

    Attributes
    ----------
    scores : Tensor of shape (B, K)
        ψ.
    mass : Tensor of shape (B,)
        Sum of the kept weights, at most 1.
    votes : Tensor of shape (B, k)
        Class nearest to each kept crop.
    """

    scores: Tensor
    mass: Tensor
    votes: Tensor


def crop_weights(whole: Tensor, crops: Tensor) -> Tensor:
    r"""Crop weights w̃_i = cos(f, f_i) / Σ_l cos(f, f_l) (FAIR, equation 12).

    Without a softmax. They sum to one over all N crops. Equation 12 assumes positive cosines; negative ones are set to
    zero here, because a sum close to zero would give arbitrarily large weights.

    Parameters
    ----------
    whole : Tensor of shape (B, w)
        Features of the images; in FAIR the [CLS] token before the projection.
    crops : Tensor of shape (B, N, w)
        The same of their crops.

    Returns
    -------
    Tensor of shape (B, N)
        In [0, 1]; 1/N if no cosine is positive. Cost O(B N w).
    """
    likeness = _likeness(whole, crops).clamp_min(0)
    total = likeness.sum(dim=1, keepdim=True)
    return torch.where(total > 0, likeness / total.clamp_min(torch.finfo(total.dtype).tiny), 1 / likeness.shape[1])


def align(weights: Tensor, crops: Tensor, anchors: Tensor, keep: int) -> CropScores:
    r"""ψ_y = Σ_{i ∈ I_k} w̃_i cos(f_i, Z_y) over the k crops of the largest weight (FAIR, equations 11, 13 and 14).

    Parameters
    ----------
    weights : Tensor of shape (B, N)
        Weights over all N crops.
    crops : Tensor of shape (B, N, d)
        Features of the crops in the space of the text, of any length.
    anchors : Tensor of shape (K, d)
        Class embeddings Z, of any length.
    keep : int
        k ≤ N.

    Returns
    -------
    CropScores
        Alignment. Cost O(B k K d).
    """
    if not 1 <= keep <= weights.shape[1]:
        raise InputError(f"Expected to keep between 1 and all {weights.shape[1]} crops, got {keep}.")
    kept, chosen = top_k(weights, keep)
    best = crops.gather(1, chosen[:, :, None].expand(-1, -1, crops.shape[2]))
    cosines = cosine(best, anchors)
    return CropScores(torch.einsum("bk,bkc->bc", kept, cosines), kept.sum(dim=1), cosines.argmax(dim=2))


def sample_confidence(
    alignment: CropScores, *, score: Scale = "prob", weighting: Weighting = "margin", logit_scale: float = 100.0
) -> Tensor:
    r"""γ = S₁ |S₁ − S₂| with the two largest scores of an image (FAIR, equation 16).

    The paper does not specify the scale of S. With raw ψ, γ is about 3e-4, and the fairness term dominates the loss. By
    default, S are therefore probabilities,

    .. math:: S = \mathrm{softmax}(s \, \psi / \textstyle\sum_{i \in I_k} \tilde w_i),

    and γ ∈ [0, 1]. If all kept weights are zero, S is uniform and γ is 0 by margin.

    Parameters
    ----------
    alignment : CropScores
        ψ and the kept mass, of at least two classes.
    score : {"prob", "raw", "logit"}, default="prob"
        ``"prob"``; ``"raw"``, S = ψ; ``"logit"``, S = s ψ.
    weighting : {"margin", "top", "none"}, default="margin"
        ``"margin"``; ``"top"``, γ = S₁; ``"none"``, γ = 1 (Table 5).
    logit_scale : float, default=100.0
        s.

    Returns
    -------
    Tensor of shape (B,)
        Weight γ of each image.
    """
    scores = alignment.scores
    if scores.shape[1] < 2:
        raise InputError(f"Expected scores of at least 2 classes, got {scores.shape[1]}; one leaves nothing to decide.")
    if weighting == "none":
        return torch.ones_like(scores[:, 0])
    if score == "prob":
        kept = alignment.mass.clamp_min(torch.finfo(scores.dtype).tiny)
        scores = (logit_scale * scores / kept[:, None]).softmax(dim=1)
    elif score == "logit":
        scores = logit_scale * scores
    first, second = scores.topk(2, dim=1).values.unbind(1)
    return first if weighting == "top" else first * (first - second).abs()


def fairness(logits: Tensor, average: Tensor, momentum: float, shares: Tensor | None = None) -> tuple[Tensor, Tensor]:
    r"""L_reg = −Σ_j q_j log p̄_j with the moving average p̄ of the predictions (Algorithm 1; MUST, Li et al. 2023).

    .. math:: \bar p \leftarrow m \, \bar p + (1 - m) \tfrac1B \textstyle\sum_b p_b

    The gradient passes through the current batch only, and the loss is divided by 1 − m to compensate. m = 0 is the
    batch mean.

    Parameters
    ----------
    logits : Tensor of shape (B, K)
        Of the strong views.
    average : Tensor
        p̄ so far.
    momentum : float
        m in [0, 1).
    shares : Tensor or None, default=None
        Expected class shares q, of shape (K,); 1/K by default, as published. The minimum is at p̄ = q.

    Returns
    -------
    tuple of (Tensor, Tensor)
        L_reg and the new p̄, detached.
    """
    mean = logits.softmax(dim=1).mean(dim=0)
    blended = torch.lerp(mean, average.to(mean), momentum) if momentum else mean
    tiny = torch.finfo(blended.dtype).tiny
    logs = blended.clamp_min(tiny).log()
    return -(logs.mean() if shares is None else shares @ logs) / (1 - momentum), blended.detach()


def zero_shot_shares(images: Tensor, anchors: Tensor, logit_scale: float) -> Tensor:
    r"""Class shares expected by zero-shot: q_j, the mean of softmax(s cos(f, Z))_j over the images.

    For :func:`fairness` with imbalanced classes. Cost O(n K d).

    Parameters
    ----------
    images : Tensor of shape (n, d)
        Features of whole images, of any length.
    anchors : Tensor of shape (K, d)
        Initial class embeddings, of any length.
    logit_scale : float
        s.

    Returns
    -------
    Tensor of shape (K,)
        Shares, which sum to one.
    """
    return (logit_scale * cosine(images, anchors)).softmax(dim=1).mean(dim=0)


def collapse(counts: Tensor) -> str:
    """Return a warning if the pseudo-labels with these counts per class (K,) have collapsed, else "".

    Collapse: the divergence from uniform is at least that of labels in half of the classes, corrected for fewer images
    than classes.
    """
    K, n = len(counts), float(counts.sum())
    divergence = float(divergence_from_uniform(counts))
    if divergence < COLLAPSED + math.log(max(1.0, K / max(n, 1.0))):
        return ""
    return (
        f"The pseudo-labels fall on about {K * math.exp(-divergence):.1f} of {K} classes. Unless the images do, "
        "self-training is collapsing: give better sentences for the classes, a lower learning_rate, or more fairness."
    )


def _likeness(whole: Tensor, parts: Tensor) -> Tensor:
    return torch.einsum("bw,bnw->bn", unit(whole), unit(parts))
