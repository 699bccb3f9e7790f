r"""Transport between local image vectors and the tokens or prompts of classes, with uniform masses.

.. math:: d(x, y) = \sum_{jl} T_{jl} (1 - \cos(r_j, s_l))

It is the lower level of ALIGN's score (see :mod:`modalign.methods.align.align_transport`) and, with prompts instead of
tokens, the score of PLOT.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

import torch
from jaxtyping import Bool, Float, Real
from torch import Tensor

from modalign.core.errors import InputError, require_choice
from modalign.linalg.inputs import float_tensor, traced
from modalign.linalg.set_transport import set_transport
from modalign.linalg.similarity import unit
from modalign.linalg.sinkhorn import sinkhorn

PlanKind = Literal["transport", "uniform"]
_SPREAD = 40.0  # of the cost over epsilon, up to which the scalings of a recorded graph fit float32


class TransportScores(NamedTuple):
    """Transport between two families of sets, all (..., sizes). Only ``cost`` has gradients.

    Attributes
    ----------
    cost : Tensor
        Σ T C.
    entropy : Tensor
        −Σ T log T in nats.
    marginal_error : Tensor
        L1 distance of the row masses from uniform.
    """

    cost: Tensor
    entropy: Tensor
    marginal_error: Tensor


class PromptTransport(NamedTuple):
    """Scores of B images and K classes from transport between local vectors and prompts.

    Attributes
    ----------
    scores : Tensor of shape (B, K)
        1 − Σ T C, differentiable.
    alignment : TransportScores
        Entropies and marginal errors, (B, K) each.
    """

    scores: Tensor
    alignment: TransportScores


def prompt_transport(
    local: Real[Tensor, "B J d"],
    prompts: Real[Tensor, "K N d"],
    *,
    epsilon: float = 0.1,
    plan: PlanKind = "transport",
    max_sweeps: int = 100,
    tolerance: float = 1e-4,
) -> PromptTransport:
    r"""PLOT's distance between the J local vectors of an image and the N text prompts of a class.

    .. math:: d_{bk} = \sum_{jn} T_{jn} (1 - \cos(r_j, h^n_k))

    As in PLOT, T is constant in the backward pass, which by the envelope theorem gives :math:`\partial d / \partial C =
    T`.

    Parameters
    ----------
    local : Tensor of shape (B, J, d)
        Local vectors of the images, of any length.
    prompts : Tensor of shape (K, N, d)
        Prompt vectors of the classes.
    epsilon : float, default=0.1
        Strength of the entropy.
    plan : {"transport", "uniform"}, default="transport"
        ``"uniform"`` replaces the transport plan by 1 / (J N), as a control.
    max_sweeps, tolerance : int, default=100
        Maximum number of sweeps, and marginal error at which to stop; 0 runs all sweeps.

    Returns
    -------
    PromptTransport
        Scores and plan statistics. Cost: one product of (B J, d) with (K N, d), and B K J N multiplications
        per half-sweep.

    References
    ----------
    Chen et al., PLOT: prompt learning with optimal transport for vision-language models, 2023.
    """
    require_choice("plan", plan, get_args(PlanKind))
    if plan == "uniform":
        require_tokens(local[:, None], prompts[:, None], (len(local), 1), (len(prompts), 1))
        mask = torch.ones(*prompts.shape[:2], dtype=torch.bool, device=prompts.device)
        found = uniform_tokens(local[:, None], prompts[:, None], mask[:, None])
        found = TransportScores(*(part[:, :, 0, 0] for part in found))
    else:
        options = {"epsilon": epsilon, "max_sweeps": max_sweeps, "tolerance": tolerance}
        found = _between_sets(local, prompts, None, options)
    return PromptTransport(1 - found.cost, TransportScores(*(part.detach() for part in found)))


def token_plan(
    patches: Real[Tensor, "M J d"],
    words: Real[Tensor, "N L d"],
    mask: Bool[Tensor, "N L"] | Bool[Tensor, " L"] | None = None,
    *,
    epsilon: float = 0.1,
    tolerance: float = 1e-4,
) -> Float[Tensor, "M N J L"]:
    """Token-level plans between all prompts of one image and one class, for visualization.

    Parameters
    ----------
    patches : Tensor of shape (M, J, d)
        Local vectors of the M visual prompts of one image; (1, J, d) for PLOT.
    words : Tensor of shape (N, L, d)
        Token vectors of the N prompts of one class; (1, N, d) prompts for PLOT.
    mask : Tensor of shape (N, L) or None, default=None
        Or (L,) bool, False for padding.
    epsilon, tolerance : float, default=0.1
        As in :func:`prompt_transport`.

    Returns
    -------
    Tensor of shape (M, N, J, L)
        Masses that sum to 1 over the last two dimensions; columns of padding are 0. No gradient.
    """
    with torch.no_grad():
        patches, words = unit(float_tensor(patches, "patches")), unit(float_tensor(words, "words"))
        masses = None
        if mask is not None:
            mask = mask.to(words.device).expand(words.shape[:2])
            masses = (mask / mask.sum(dim=1, keepdim=True))[None]
        cost = 1 - torch.einsum("mjd,nld->mnjl", patches, words)
        return sinkhorn(cost, epsilon, None, masses, tolerance=tolerance).coupling


def transported_tokens(patches: Tensor, words: Tensor, mask: Tensor, options: dict) -> TransportScores:
    """Token level by transport; all results (B, K, M, N)."""
    (B, M), (K, N) = patches.shape[:2], words.shape[:2]
    parts = _between_sets(patches.flatten(0, 1), words.flatten(0, 1), mask.flatten(0, 1), options)
    return TransportScores(*(part.view(B, M, K, N).transpose(1, 2) for part in parts))


def _between_sets(left: Tensor, right: Tensor, mask: Tensor | None, options: dict) -> TransportScores:
    """Each part (P, Q); in a recorded graph with all sweeps."""
    if traced():
        sets = unit(float_tensor(left, "left")), unit(float_tensor(right, "right"))
        return TransportScores(*recorded_costs(*sets, mask, options["epsilon"], options["max_sweeps"]))
    solved = set_transport(left, right, mask=mask, **options)
    return TransportScores(solved.cost, solved.entropy, solved.marginal_error)


def uniform_tokens(patches: Tensor, words: Tensor, mask: Tensor) -> TransportScores:
    """Token level with uniform plans: one minus the inner product of mean unit vectors; all results (B, K, M, N)."""
    patches, words = unit(float_tensor(patches, "patches")), unit(float_tensor(words, "words"))
    counts = mask.sum(dim=2)
    means = words.where(mask[..., None], 0).sum(dim=2) / counts[..., None]
    cost = 1 - torch.einsum("bmd,knd->bkmn", patches.mean(dim=2), means)
    entropy = (counts * patches.shape[2]).to(cost.dtype).log()[None, :, None].expand_as(cost)
    return TransportScores(cost, entropy, torch.zeros_like(cost))


def full_mask(words: Tensor, mask: Tensor | None, prompts: tuple[int, int]) -> Tensor:
    """Return the mask of existing tokens, (K, N, L) bool; all True if ``mask`` is None."""
    shape = (*prompts, words.shape[2]) if words.ndim == 4 else ()
    if mask is None:
        return torch.ones(words.shape[:-1], dtype=torch.bool, device=words.device)
    mask = mask.to(words.device)
    if mask.ndim == 2:
        mask = mask[:, None].expand(-1, prompts[1], -1)
    if mask.shape != shape or mask.dtype != torch.bool:
        raise InputError(f"Expected word_mask bool of shape {shape}, got {mask.dtype} {tuple(mask.shape)}.")
    return mask


def require_tokens(patches: Tensor, words: Tensor, images: tuple[int, int], classes: tuple[int, int]) -> None:
    """Raise unless patches are (B, M, J, d) and words (K, N, L, d)."""
    fits = patches.ndim == words.ndim == 4 and patches.shape[3] == words.shape[3]
    if not fits or patches.shape[:2] != images or words.shape[:2] != classes:
        raise InputError(
            f"Expected patches {(*images, 'J', 'd')} and words {(*classes, 'L', 'd')}, "
            f"got {tuple(patches.shape)} and {tuple(words.shape)}."
        )


def recorded_plan(cost: Tensor, epsilon: float, masses: Tensor | None = None, *, sweeps: int) -> Tensor:
    r"""Entropic plans after a number of textbook sweeps, for recorded graphs, which cannot stop at a tolerance.

    .. math:: T = \mathrm{diag}(u)\, e^{-C / \epsilon}\, \mathrm{diag}(v)

    Parameters
    ----------
    cost : Tensor of shape (..., J, L)
        Between 0 and 2 where it is of cosines.
    epsilon : float
        Strength of the entropy, at least 0.05.
    masses : Tensor of shape (..., L) or None, default=None
        Column masses with sum 1, 0 where there is no column; 1/L each by default. Rows have 1/J each.
    sweeps : int
        Number of sweeps; :func:`~modalign.linalg.sinkhorn.sinkhorn` stops earlier if its tolerance is met.

    Returns
    -------
    Tensor of shape (..., J, L)
        Exact in the column masses. Cost: 2 J L multiplications per sweep and problem.
    """
    if 2 / epsilon > _SPREAD:
        raise InputError(f"transport in a graph needs epsilon of at least {2 / _SPREAD:g}, got {epsilon:g}")
    kernel = ((cost.amin(dim=(-2, -1), keepdim=True) - cost) / epsilon).exp()
    J, L = cost.shape[-2:]
    b = torch.full((L, 1), 1 / L, dtype=cost.dtype) if masses is None else masses[..., None]
    v = (b > 0).to(cost.dtype)
    for _ in range(sweeps):
        u = 1 / J / (kernel @ v)
        v = b / (kernel.mT @ u)
    return u * kernel * v.mT


def recorded_costs(
    left: Tensor, right: Tensor, mask: Tensor | None, epsilon: float, sweeps: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Cost, entropy and marginal error, (P, Q) each, between unit sets (P, J, d) and (Q, L, d).

    As :func:`~modalign.linalg.set_transport.set_transport`, whose ``mask`` (Q, L) marks the existing right elements.
    """
    cost = 1 - torch.einsum("pjd,qld->pqjl", left, right)
    masses = None if mask is None else (mask / mask.sum(dim=1, keepdim=True)).to(cost.dtype)
    plan = recorded_plan(cost, epsilon, masses, sweeps=sweeps)
    error = (plan.sum(dim=3) - 1 / left.shape[1]).abs().sum(dim=2)
    entropy = torch.special.entr(plan).sum(dim=(2, 3))
    return (plan * cost).sum(dim=(2, 3)), entropy, error
