"""GPUA as in its published code where it differs from the paper, for comparison.

=====================  ===========================================  =================================================
step                   paper                                        published code, and here
=====================  ===========================================  =================================================
affinity               inner products, λ = 0.9, ε = 0.01            negative distances / 0.1, same λ, ε = 0.05
P(0) and C(0)          softmax of the cosines, mean of all images   scale 100, the 8 likeliest images per class
transport              to convergence                               at most 50 sweeps, until no entry of a plan of mass
                                                                    one changes by 1e-5: with many images after two
centers                barycenters                                  barycenters scaled to length one
iterations             T                                            one number per set, 1 to 5; here 3
target of Procrustes   P Y                                          the text of the likeliest class
W₀                     U Vᵀ                                         its first d_t rows: 0.1 W₀ + 0.9 I
refinement             a few gradient steps                         200 steps of AdamW on three quarters of the images
                                                                    (100 to 1000 per data set), noise and dropout
constraint             WᵀW = I                                      none
loss                   h_c once, competing prototypes               2 h_c, nearest prototypes with the image's own
=====================  ===========================================  =================================================

The identity in W₀ pairs column j of the vision-only space, which comes first, with column j of the language space. This
has no meaning for different spaces.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from modalign.core.errors import InputError, hyperparameter
from modalign.linalg.optimizers import cosine_rates
from modalign.linalg.procrustes import procrustes
from modalign.linalg.ranking import distance
from modalign.linalg.similarity import unit
from modalign.methods.contract.transduction import Likeliest, likeliest
from modalign.methods.gpua.gpua_correspondence import Assignment
from modalign.methods.gpua.gpua_rows import Images

TEMPERATURE, EPSILON, LAMBDA, LOGIT_SCALE = 0.1, 0.05, 0.9, 100.0
TOP, ITERATIONS, SWEEPS, ABSOLUTE_TOLERANCE = 8, 3, 50, 1e-5
IDENTITY = 0.9
STEPS, RATE, LOWEST_RATE, DECAY, PART = 200, 5e-4, 1e-7, 5e-4, 0.75
NOISE, DROPOUT, CHANCE = 0.035, 0.05, 0.5
MARGIN_SCALE, HUB_WEIGHT, NEIGHBORS = 2.0, 2.0, 3


def fit_official(
    images: Images, text: Tensor, start: Assignment, generator: torch.Generator
) -> tuple[Tensor, Likeliest, dict[str, Any]]:
    """The map (d_v, d_t), the likeliest classes of the images, and entries of ``diagnosis_``."""
    if images.team.count > 1:
        raise InputError(
            f"Expected one process for {hyperparameter('preset', 'official_code')}, which holds everything in memory."
        )
    Z, X = images.take(torch.arange(len(images), device=text.device))
    P = len(images) * correspondences(Z, X, text)
    labels = P.argmax(dim=1)
    W = refine_map_official(Z, initial_map_official(Z, labels, text), labels, text, generator)
    defect = W.T @ W - torch.eye(W.shape[1], device=W.device)
    return W, likeliest(P), {
        "plan_entropy": float(torch.special.entr(P).sum(dim=1).mean()) / math.log(len(text)),
        "marginal_error": float((P.mean(dim=0) - 1 / len(text)).abs().sum()),
        "changed_from_zero_shot": float((labels != start.labels).float().mean()),
        "orthogonality_defect": float(defect.norm()),
        "class_prior": "uniform",
    }  # fmt: skip


def correspondences(Z: Tensor, X: Tensor, Y: Tensor) -> Tensor:
    """(n, K) plan of mass one from visual vectors Z, language view X (unit rows) and text Y (unit rows)."""
    if len(Z) < TOP:
        raise InputError(
            f"Expected at least {TOP} images, as many as start a center in the published code, got {len(Z)}."
        )
    weights, likeliest = (LOGIT_SCALE * X @ Y.T).softmax(dim=1).topk(TOP, dim=0)
    centers = unit(torch.einsum("tk,tkd->kd", weights, Z[likeliest]) / TOP)
    to_text = torch.cdist(X, Y)
    for _ in range(ITERATIONS):
        scores = -((1 - LAMBDA) * torch.cdist(Z, centers) + LAMBDA * to_text) / TEMPERATURE
        P = _sinkhorn(scores)
        centers = unit(P.T @ Z)
    return P


def _sinkhorn(scores: Tensor) -> Tensor:
    n, K = scores.shape
    Q = ((scores - scores.amax(dim=1, keepdim=True)) / EPSILON).exp()
    Q = Q / Q.sum()
    for _ in range(SWEEPS):
        before = Q
        Q = Q / (Q.sum(dim=0) * K)
        Q = Q / (Q.sum(dim=1, keepdim=True) * n)
        if (Q - before).abs().max() < ABSOLUTE_TOLERANCE:
            break
    return Q


def initial_map_official(Z: Tensor, labels: Tensor, Y: Tensor) -> Tensor:
    """(d_v, d_t) Procrustes map of hard labels, blended with the identity."""
    sums = Z.new_zeros(len(Y), Z.shape[1]).index_add_(0, labels, Z)
    W = procrustes(sums, Y)
    size = min(W.shape)
    W[:size, :size] = (1 - IDENTITY) * W[:size, :size] + IDENTITY * torch.eye(size, device=W.device)
    return W


def refine_map_official(Z: Tensor, W: Tensor, labels: Tensor, Y: Tensor, generator: torch.Generator) -> Tensor:
    """(d_v, d_t) the map after unconstrained descent on the ranking loss."""
    W = W.clone().requires_grad_()
    optimizer = torch.optim.AdamW([W], lr=RATE, weight_decay=DECAY)
    for rate in cosine_rates(STEPS, RATE, lowest=LOWEST_RATE):
        optimizer.param_groups[0]["lr"] = rate
        rows = torch.randperm(len(Z), generator=generator)[: max(1, int(PART * len(Z)))].to(Z.device)
        with torch.enable_grad():
            loss = _loss(_disturbed(Z[rows], generator) @ W, labels[rows], Y)
            optimizer.zero_grad()
            loss.backward()
        optimizer.step()
    return W.detach()


def _disturbed(Z: Tensor, generator: torch.Generator) -> Tensor:
    noise, drop = torch.rand(2, generator=generator) < CHANCE
    if noise:
        Z = Z + NOISE * torch.randn(Z.shape, generator=generator).to(Z.device)
    if drop:
        Z = Z * (torch.rand(Z.shape, generator=generator) >= DROPOUT).to(Z.device) / (1 - DROPOUT)
    return Z


def _loss(mapped: Tensor, labels: Tensor, Y: Tensor) -> Tensor:
    cosines = unit(mapped) @ Y.T
    near = cosines.detach().topk(min(NEIGHBORS, len(Y)), dim=1).indices
    hubs = torch.bincount(near.flatten(), minlength=len(Y)).to(cosines.dtype) / len(cosines)
    margins = (1 - (Y @ Y.T)[labels[:, None], near]) / MARGIN_SCALE
    own = distance(cosines.gather(1, labels[:, None]))
    return F.relu(own + margins + HUB_WEIGHT * hubs[near] - distance(cosines.gather(1, near))).mean()
