r"""ALIGN's two-level score: the cost of the transport between prompts includes the transport between tokens.

.. math::
    d(P, Q; C) = \langle T, C \rangle, \quad
    C_{mn} = 1 - \cos(z^m, h^n) + \beta\, d(x_m, y_n; \hat C^{mn}), \quad
    \hat C^{mn}_{jl} = 1 - \cos(r^m_j, s^n_l)

Both plans solve an entropic transport problem with uniform masses; the token level is
:mod:`modalign.linalg.token_transport`. See Wang et al., Tuning multi-mode token-level prompt alignment across
modalities (ALIGN), equations 3 to 7 and 9.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from modalign.core.errors import InputError, require_choice
from modalign.encoders.towers.sentences import Sentences
from modalign.linalg.inputs import real, traced
from modalign.linalg.similarity import unit
from modalign.linalg.sinkhorn import sinkhorn
from modalign.linalg.token_transport import (
    PlanKind,
    TransportScores,
    full_mask,
    recorded_plan,
    require_tokens,
    transported_tokens,
    uniform_tokens,
)
from modalign.methods.align.align_released import released_plan, released_token_similarity

TokenTerm = Literal["cost", "reference"]
Value = Literal["cost", "entropic"]


@dataclass(frozen=True)
class TwoLevelTransport:
    """Scores of B images and K classes, with the transport plans.

    Attributes
    ----------
    scores : Tensor of shape (B, K)
        1 − ``distances`` (equation 7); the logits are scores times the inverse temperature.
    distances : Tensor
        d(P, Q; C), differentiable.
    plan : Tensor of shape (B, K, M, N)
        Prompt-level plan T, without gradient.
    prompt_cost : Tensor of shape (B, K, M, N)
        Prompt-level cost C, without gradient.
    prompts : TransportScores
        Statistics of the prompt level, (B, K) each.
    tokens : TransportScores or None
        Statistics of the token level, (B, K, M, N) each; None without tokens or with β = 0. With
        ``token_term="reference"``, ``cost`` is the similarity ⟨T, cos⟩.
    uniform_entropy : tuple of (float, float)
        Entropy of uniform plans at the two levels.
    """

    scores: Tensor
    distances: Tensor
    plan: Tensor = field(repr=False)
    prompt_cost: Tensor = field(repr=False)
    prompts: TransportScores = field(repr=False)
    tokens: TransportScores | None = field(repr=False)
    uniform_entropy: tuple[float, float] = field(repr=False)

    def diagnosis(self) -> dict[str, float]:
        """Return mean entropies relative to uniform plans (1: no effect), and the largest marginal errors."""
        found = {}
        for name, level, most in zip(
            ("prompt", "token"), (self.prompts, self.tokens), self.uniform_entropy, strict=True
        ):
            if level is not None:
                found[f"{name}_plan_entropy"] = level.entropy.mean().item() / most if most > 0 else 1.0
                found[f"{name}_marginal_error"] = level.marginal_error.amax().item()
        return found


def two_level_transport(
    image_prompts: Tensor,
    text_prompts: Tensor,
    patches: Tensor | None = None,
    words: Tensor | None = None,
    word_mask: Tensor | None = None,
    *,
    epsilon: float = 0.1,
    token_weight: float = 1.0,
    prompt_weight: float = 1.0,
    token_term: TokenTerm = "cost",
    plan: PlanKind = "transport",
    value: Value = "cost",
    max_sweeps: int = 100,
    tolerance: float = 1e-4,
) -> TwoLevelTransport:
    r"""Compute ALIGN's two-level distance between all images and all classes.

    Gradients follow from the envelope theorem at both levels: :math:`\partial d / \partial C = T`, and :math:`\partial
    d / \partial \hat C^{mn} = \beta T_{mn} \hat T^{mn}` for the token term. No iterations are unrolled; only the token
    plans are stored. These are the exact gradients of ``value="entropic"``.

    Parameters
    ----------
    image_prompts : Tensor of shape (B, M, d)
        Global vectors z of M visual prompts, of any length.
    text_prompts : Tensor of shape (K, N, d)
        Global vectors h of N text prompts per class; N may differ from M.
    patches : Tensor of shape (B, M, J, d) or None, default=None
        Local vectors r; None omits the token level.
    words : Tensor of shape (K, N, L, d) or None, default=None
        Token vectors s.
    word_mask : Tensor or None, default=None
        Of shape (K, N, L), or (K, L) for all prompts, bool; False for padding.
    epsilon : float, default=0.1
        Strength of the entropy at both levels (λ in the paper).
    token_weight : float, default=1.0
        β, weight of the token level.
    prompt_weight : float, default=1.0
        Weight of the prompt-level cosine in C; 1 in equation 6, 1 − β in the appendix's equation 9.
    token_term : {"cost", "reference"}, default="cost"
        ``"cost"`` as in the paper; ``"reference"`` as in the published code: the token *similarity* :math:`\langle \hat
        T, \cos \rangle` is added to the cost, the score is :math:`\sum_{mn} T_{mn} \cos(z^m, h^n)`, both plans are
        constants (patches and words have zero gradient), and its stopping rule is used.
    plan : {"transport", "uniform"}, default="transport"
        ``"uniform"`` replaces the plans by :math:`T = 1 / (MN)` and :math:`\hat T = 1 / (JL)`, as a control.
    value : {"cost", "entropic"}, default="cost"
        ``"cost"`` for ⟨T, C⟩; ``"entropic"`` for ⟨T, C⟩ − ε h(T), equations 4 and 5 as printed, which favors classes
        with more tokens because h grows with log L.
    max_sweeps : int, default=100
        Maximum number of sweeps at both levels.
    tolerance : float, default=0.0001
        Marginal error at which to stop, at both levels; 0 runs all sweeps.

    Returns
    -------
    TwoLevelTransport
        Scores, distances and plans. Cost of the token level: one product of (B M J, d) with (K N L, d), two more for
        its gradient, and B M K N J L multiplications per half-sweep. Memory: B M K N J L numbers with gradients, else
        one block.

    Raises
    ------
    InputError
        Shapes do not match, an entry is NaN, epsilon is not positive, a weight is negative, or a prompt has no tokens.
    """
    require_choice("token_term", token_term, get_args(TokenTerm))
    require_choice("plan", plan, get_args(PlanKind))
    require_choice("value", value, get_args(Value))
    image_prompts, text_prompts = real(image_prompts, "image_prompts"), real(text_prompts, "text_prompts")
    if image_prompts.ndim != 3 or text_prompts.ndim != 3 or image_prompts.shape[2] != text_prompts.shape[2]:
        raise InputError(
            "Expected image_prompts (B, M, d) and text_prompts (K, N, d) of one width, "
            f"got {tuple(image_prompts.shape)} and {tuple(text_prompts.shape)}."
        )
    if not (token_weight >= 0 and prompt_weight >= 0 and epsilon > 0):
        raise InputError(
            f"Expected token_weight, prompt_weight ≥ 0 and epsilon > 0, got {token_weight}, {prompt_weight}, {epsilon}."
        )
    (B, M, _), (K, N, _) = image_prompts.shape, text_prompts.shape
    options = {"epsilon": float(epsilon), "max_sweeps": max_sweeps, "tolerance": tolerance}
    with torch.autocast(image_prompts.device.type, enabled=False):
        cosines = torch.einsum("bmd,knd->bkmn", unit(image_prompts), unit(text_prompts))
        if (patches is None) != (words is None):
            raise InputError("Expected patches and words together, or neither for the prompt level alone.")
        tokens, released, most = None, token_term == "reference", 0.0
        if patches is not None and words is not None and token_weight > 0:
            mask = full_mask(words, word_mask, (K, N))
            require_tokens(patches, words, (B, M), (K, N))
            most = math.log(patches.shape[2]) + mask.sum(dim=2).double().log().mean().item()
            if plan == "uniform":
                tokens = uniform_tokens(patches, words, mask)
            elif released:
                tokens = TransportScores(*released_token_similarity(patches, words, mask, epsilon))
            else:
                tokens = transported_tokens(patches, words, mask, options)
        cost = prompt_weight * (1 - cosines)
        if tokens is not None:
            term = tokens.cost
            if released:
                term = (1 - term.detach()) if plan == "uniform" else term
            elif value == "entropic":
                term = term - epsilon * tokens.entropy
            cost = cost + token_weight * term
        if released:
            cost = cost.detach()
        coupling, prompts = _prompt_plan(cost, plan, released, options)
        if released:
            scores = (coupling * cosines).sum(dim=(2, 3))
            distances = 1 - scores
        else:
            distances = (coupling * cost).sum(dim=(2, 3))
            if value == "entropic":
                distances = distances - epsilon * prompts.entropy
            scores = 1 - distances
    if tokens is not None:
        tokens = TransportScores(*(part.detach() for part in tokens))
    return TwoLevelTransport(scores, distances, coupling, cost.detach(), prompts, tokens, (math.log(M * N), most))


def _prompt_plan(cost: Tensor, plan: PlanKind, released: bool, options: dict) -> tuple[Tensor, TransportScores]:
    """Return the plan (B, K, M, N) of the prompt level and its statistics, without gradient."""
    cost = cost.detach()
    M, N = cost.shape[2:]
    if plan == "uniform":
        coupling = torch.full_like(cost, 1 / (M * N))
    elif released:
        coupling = released_plan(cost.flatten(0, 1)[None], options["epsilon"])[0].view_as(cost)
    elif traced():
        coupling = recorded_plan(cost, options["epsilon"], sweeps=options["max_sweeps"])
    else:
        coupling = sinkhorn(cost, **options).coupling
    error = (coupling.sum(dim=3) - 1 / M).abs().sum(dim=2)
    entropy = torch.special.entr(coupling).sum(dim=(2, 3))
    return coupling, TransportScores((coupling * cost).sum(dim=(2, 3)), entropy, error)


class ClassPrompts(NamedTuple):
    """Text features of ALIGN: prompts (K, N, d), and tokens (K, N, L, d) with mask (K, N, L) or None."""

    prompts: Tensor
    words: Tensor | None
    mask: Tensor | None


def content_tokens(sentences: Sentences, fixed: int) -> Tensor:
    """Mask of learnable tokens and class name, (K, L), without start, end, fixed words and punctuation."""
    place = torch.arange(sentences.ids.shape[1])
    name = (place > sentences.slots + fixed) & (place < sentences.ends[:, None] - 1)
    return name | ((place >= 1) & (place <= sentences.slots))
