"""SC-CLIP: dense features of a CLIP without its outlying tokens, sharpened by the similarities of earlier layers.

References
----------
Bai et al., Self-calibrated CLIP for training-free open-vocabulary segmentation, IEEE TIP 2025. The local outlier factor
is that of Breunig et al., LOF, SIGMOD 2000.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from modalign.core.errors import InputError, argument, require_choice, require_known
from modalign.encoders.towers.vision_tower import VisionTower
from modalign.segmentation.dense import cosines, key_attention, similarity_attention

PUBLISHED_DEPTH, MID, POST, FUSED = 12, 9, 4, (4, 10)
"""Layers of SC-CLIP for a network of twelve, counted from 1; other depths take the same shares."""


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """The constants of SC-CLIP; each is also a switch for an ablation.

    Attributes
    ----------
    lof : {"released", "standard", "none"}, default="released"
        Which tokens are outliers: ``"released"`` is the mean of d_i/d_j over the neighbors j, with d the squared
        distance of a token's last neighbor, to which the published code reduces; ``"standard"`` the local outlier
        factor of squared distances; ``"none"`` repairs nothing.
    neighbors : int, default=30
        Of a token, in the outlier factor; at most all others. Where these are all, the two tokens farthest from each
        other have one ``"released"`` factor, and where it is the largest none is above the quantile.
    contamination : float, default=0.05
        Share of the tokens that are above the quantile and are repaired.
    beta : float, default=0.4
        Cosine from which a token counts in an aggregation.
    class_weight : float, default=0.3
        Factor of the class token that is added to all patches.
    sharpness : float, default=3.0
        γ, factor of the cosines in the attention.
    second_pass : bool, default=True
        Whether the last layer is also applied to the sum of the middle layers.
    """

    lof: Literal["released", "standard", "none"] = "released"
    neighbors: int = 30
    contamination: float = 0.05
    beta: float = 0.4
    class_weight: float = 0.3
    sharpness: float = 3.0
    second_pass: bool = True

    def __post_init__(self) -> None:
        require_choice("lof", self.lof, ("released", "standard", "none"))
        if not isinstance(self.neighbors, int) or self.neighbors < 1:
            raise InputError(f"Expected neighbors as an integer of at least 1, got {self.neighbors!r}.")
        for name, low, high in (("contamination", 0, 1), ("beta", -1, 1), ("class_weight", 0, 100)):
            value = getattr(self, name)
            if not isinstance(value, (int, float)) or not low <= value <= high:
                raise InputError(f"Expected {name} between {low} and {high}, got {value!r}.")
        if not isinstance(self.sharpness, (int, float)) or not self.sharpness > 0:
            raise InputError(f"Expected sharpness above 0, got {self.sharpness!r}.")


def read_calibration(given: Mapping[str, Any] | None, features: str) -> Calibration:
    """Return the constants with some of them replaced; only ``features="scclip"`` uses them."""
    if not given:
        return Calibration()
    if features != "scclip":
        raise InputError(
            f"Expected constants of the calibration only with {argument('features', 'scclip')}, got '{features}'."
        )
    return Calibration(**require_known("constant", given, [field.name for field in fields(Calibration)]))


class Layers(NamedTuple):
    """Layers that SC-CLIP uses, counted from 1; ``fused`` are the first and the last of a sum."""

    mid: int
    post: int
    fused: tuple[int, int]


def layers_of(depth: int) -> Layers:
    """The layers of the paper as shares of the depth, each within 1 … depth − 1."""

    def place(layer: int) -> int:
        return min(max(round(layer * depth / PUBLISHED_DEPTH), 1), max(depth - 1, 1))

    return Layers(place(MID), place(POST), (place(FUSED[0]), place(FUSED[1])))


def calibrated(tower: VisionTower, pixels: Tensor, settings: Calibration) -> Tensor:
    r"""Features (B, n, d) of the n patches of B images, not normalized.

    With X_l and c_l the patches and the class token that leave layer l of L, the outliers of :math:`X_{L-1}` repaired
    there and in the middle layer m, S_m and S_p the cosines of a middle and of an early layer, and
    :math:`R(S)_{ij} = s_{ij} / (\sum_j s_{ij} + 10^{-6})`, :math:`s_{ij} = S_{ij} 1[S_{ij} \ge \beta]`:

    .. math::
        A(U) &= \tfrac12 (\mathrm{softmax}(\gamma (S_m - \bar S_m)_+) + \mathrm{softmax}(k k^\top / \sqrt e)) \\
        T(U, c) &= R(S_p) (O A(U) v + 0.3\, c), \quad k, v \text{ of } \mathrm{LN}_1(U) \\
        f &= P\, \mathrm{LN}(T(R(S_m) X_{L-1}, c_{L-1}) + T(\textstyle\sum_l X_l, \sum_l c_l))

    All statistics are those of each image, so that batches change nothing. Outliers, cosines and softmaxes are
    computed in float32. Cost in addition to the tower: two more last attentions and a few n² products per image.

    Parameters
    ----------
    tower : VisionTower
        A CLIP of two layers or more.
    pixels : Tensor
        normalized.
    settings : Calibration
        The constants.
    """
    if tower.depth < 2:
        raise InputError(
            f"Expected a network of at least 2 layers for {argument('features', 'scclip')}, got {tower.depth}."
        )
    layers = layers_of(tower.depth)
    kept: dict[int, Tensor] = {}
    fused: Tensor | None = None
    for number, state in enumerate(tower.states(pixels)):
        if number in (layers.mid, layers.post, tower.depth - 1):
            kept[number] = state
        if settings.second_pass and layers.fused[0] <= number <= layers.fused[1]:
            fused = state if fused is None else fused + state
    last, grid = kept[tower.depth - 1], (pixels.shape[2] // tower.patch_size, pixels.shape[3] // tower.patch_size)
    flagged = outliers(last[:, 1:].float(), settings)
    S_mid = cosines(repaired(kept[layers.mid][:, 1:], flagged, grid))
    S_post = cosines(kept[layers.post][:, 1:])
    shares = similarity_attention(S_mid, settings.sharpness)[:, None]

    def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return 0.5 * (shares.to(v.dtype) @ v + key_attention(q, k, v))

    def passed(patches: Tensor, class_token: Tensor) -> Tensor:
        attended = tower.last(patches, attention, residual=False, mlp=False)
        return aggregated(attended + settings.class_weight * class_token, S_post, settings.beta)

    X = aggregated(repaired(last[:, 1:], flagged, grid), S_mid, settings.beta)
    X = passed(X, last[:, :1])
    if fused is not None:
        X = X + passed(fused[:, 1:], fused[:, :1])
    return tower.project(X)


def outliers(X: Tensor, settings: Calibration) -> Tensor:
    """(B, n) which tokens have a local outlier factor strictly above its quantile in their image."""
    if settings.lof == "none" or X.shape[1] < 3:
        return torch.zeros(X.shape[:2], dtype=torch.bool, device=X.device)
    factor = local_outlier_factor(X, settings.neighbors, settings.lof)
    return factor > factor.quantile(1 - settings.contamination, dim=1, keepdim=True)


def local_outlier_factor(X: Tensor, neighbors: int, kind: str) -> Tensor:
    r"""(B, n) local outlier factors of rows (B, n, w) by squared distances :math:`D_{ij}`.

    With N(i) the nearest other rows and :math:`d_i` the largest of their distances: ``"released"``
    :math:`\operatorname{mean}_{j \in N(i)} d_i / d_j`; ``"standard"`` :math:`\operatorname{mean}_j lrd_j / lrd_i` with
    :math:`lrd_i = 1 / \operatorname{mean}_j \max(d_j, D_{ij})`. Distances below the precision of the largest are raised
    to it, so that equal rows have factor 1.
    """
    X = X - X.mean(dim=1, keepdim=True)  # the distances stay, with less rounding
    square = X.square().sum(dim=2)
    D = (square[:, :, None] + square[:, None] - 2 * X @ X.mT).clamp_min(0)
    floor = D.amax(dim=(1, 2)) * torch.finfo(D.dtype).eps + torch.finfo(D.dtype).tiny
    D = torch.maximum(D, floor[:, None, None])
    D.diagonal(dim1=1, dim2=2).fill_(float("inf"))
    near = D.topk(min(neighbors, X.shape[1] - 1), dim=2, largest=False)
    own = near.values[:, :, -1]
    of_neighbors = own[:, None].expand_as(D).gather(2, near.indices)
    if kind == "released":
        return (own[:, :, None] / of_neighbors).mean(dim=2)
    reach = torch.maximum(of_neighbors, near.values).mean(dim=2)
    return (reach[:, :, None] / reach[:, None].expand_as(D).gather(2, near.indices)).mean(dim=2)


def repaired(X: Tensor, flagged: Tensor, grid: tuple[int, int]) -> Tensor:
    """Flagged tokens (B, n, w) replaced by the mean of those of their eight neighbors that are not flagged.

    A token without such a neighbor stays.

    Parameters
    ----------
    X, flagged : Tensor of shape (B, n, w)
        And (B, n), row by row of the grid.
    grid : tuple of (int, int)
        Rows and columns.
    """
    sound = (~flagged).to(X.dtype)[:, :, None]
    image = torch.cat([X * sound, sound], dim=2).mT.unflatten(2, grid)
    sums = F.avg_pool2d(image, 3, stride=1, padding=1, divisor_override=1).flatten(2).mT
    counts = sums[:, :, -1:]
    return torch.where(flagged[:, :, None] & (counts > 0), sums[:, :, :-1] / counts.clamp_min(1), X)


def aggregated(X: Tensor, S: Tensor, beta: float) -> Tensor:
    """Each token as the mean of those with a cosine of at least β to it, weighted by it: R(S) X."""
    weights = S.where(beta <= S, 0)
    return (weights / (weights.sum(dim=2, keepdim=True) + 1e-6)).to(X.dtype) @ X
