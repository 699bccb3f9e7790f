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
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor

from modalign.core.errors import InputError, require_choice
from modalign.encoders.towers.sentences import Sentences
from modalign.linalg.inputs import float_tensor, traced
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
from modalign.methods.align.align_official import official_plan, official_token_similarity

Value = Literal["cost", "entropic"]


@dataclass(frozen=True)
class TwoLevelTransport:
    """Scores of B images and K classes, with the transport plans.

    Attributes
    ----------
    scores : Tensor of shape (B, K)
        1 − d(P, Q; C) (equation 7), differentiable; the logits are scores times the inverse temperature.
    plan : Tensor of shape (B, K, M, N)
        Prompt-level plan T, without gradient.
    prompts : TransportScores
        Statistics of the prompt level, (B, K) each.
    tokens : TransportScores or None
        Statistics of the token level, (B, K, M, N) each; None without tokens or with β = 0. With ``official_code``,
        ``cost`` is the similarity ⟨T, cos⟩.
    uniform_entropy : tuple of (float, float)
        Entropy of uniform plans at the two levels.
    """

    scores: Tensor
    plan: Tensor = field(repr=False)
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
    official_code: bool = False,
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
    official_code : bool, default=False
        Compute what the published code computes: the token *similarity* :math:`\langle \hat T, \cos \rangle` is added
        to the cost, the score is :math:`\sum_{mn} T_{mn} \cos(z^m, h^n)`, both plans are constants (patches and words
        have zero gradient), and its stopping rule is used.
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
        Scores and plans. Cost of the token level: one product of (B M J, d) with (K N L, d), two more for
        its gradient, and B M K N J L multiplications per half-sweep. Memory: B M K N J L numbers with gradients, else
        one block.

    Raises
    ------
    InputError
        Shapes do not match, an entry is NaN, epsilon is not positive, a weight is negative, or a prompt has no tokens.
    """
    require_choice("plan", plan, get_args(PlanKind))
    require_choice("value", value, get_args(Value))
    image_prompts, text_prompts = (
        float_tensor(image_prompts, "image_prompts"),
        float_tensor(text_prompts, "text_prompts"),
    )
    if image_prompts.ndim != 3 or text_prompts.ndim != 3 or image_prompts.shape[2] != text_prompts.shape[2]:
        raise InputError(
            "Expected image_prompts (B, M, d) and text_prompts (K, N, d) of one width, "
            f"got {tuple(image_prompts.shape)} and {tuple(text_prompts.shape)}."
        )
    if not (token_weight >= 0 and prompt_weight >= 0 and epsilon > 0):
        raise InputError(
            f"Expected token_weight, prompt_weight ≥ 0 and epsilon > 0, got {token_weight}, {prompt_weight}, {epsilon}."
        )
    if (patches is None) != (words is None):
        raise InputError("Expected patches and words together, or neither for the prompt level alone.")
    (B, M, _), (K, N, _) = image_prompts.shape, text_prompts.shape
    solver = _Solver(plan, value, official_code, float(epsilon), max_sweeps, tolerance)
    tokens, most = None, 0.0
    with torch.autocast(image_prompts.device.type, enabled=False):
        cosines = torch.einsum("bmd,knd->bkmn", unit(image_prompts), unit(text_prompts))
        cost = prompt_weight * (1 - cosines)
        if patches is not None and words is not None and token_weight > 0:
            mask = full_mask(words, word_mask, (K, N))
            require_tokens(patches, words, (B, M), (K, N))
            most = math.log(patches.shape[2]) + mask.sum(dim=2).double().log().mean().item()
            tokens = solver.token_level(patches, words, mask)
            cost = cost + token_weight * solver.token_term(tokens)  # equation 6
        coupling, prompts = solver.prompt_level(cost)
        if official_code:
            scores = (coupling * cosines).sum(dim=(2, 3))
        else:
            distances = (coupling * cost).sum(dim=(2, 3))
            if value == "entropic":
                distances = distances - epsilon * prompts.entropy  # equation 4
            scores = 1 - distances  # equation 7
    if tokens is not None:
        tokens = TransportScores(*(part.detach() for part in tokens))
    return TwoLevelTransport(scores, coupling, prompts, tokens, (math.log(M * N), most))


class _Solver(NamedTuple):
    """Plans of both levels and their values; parameters as of :func:`two_level_transport`."""

    plan: PlanKind
    value: Value
    official_code: bool
    epsilon: float
    max_sweeps: int
    tolerance: float

    def token_level(self, patches: Tensor, words: Tensor, mask: Tensor) -> TransportScores:
        """Values ⟨T̂, Ĉ⟩ of the token plans of equation 5, each (B, K, M, N); ⟨T̂, cos⟩ of the published code."""
        if self.plan == "uniform":
            return uniform_tokens(patches, words, mask)
        if self.official_code:
            return TransportScores(*official_token_similarity(patches, words, mask, self.epsilon))
        return transported_tokens(patches, words, mask, self._options())

    def token_term(self, tokens: TransportScores) -> Tensor:
        """d̂ of equation 6, (B, K, M, N); the similarity in the published code."""
        if self.official_code:
            return 1 - tokens.cost.detach() if self.plan == "uniform" else tokens.cost
        return tokens.cost - self.epsilon * tokens.entropy if self.value == "entropic" else tokens.cost

    def prompt_level(self, cost: Tensor) -> tuple[Tensor, TransportScores]:
        """Plan T (B, K, M, N) of equation 4 and its statistics, without gradient."""
        cost = cost.detach()
        M, N = cost.shape[2:]
        if self.plan == "uniform":
            coupling = torch.full_like(cost, 1 / (M * N))
        elif self.official_code:
            coupling = official_plan(cost.flatten(0, 1)[None], self.epsilon)[0].view_as(cost)
        elif traced():
            coupling = recorded_plan(cost, self.epsilon, sweeps=self.max_sweeps)
        else:
            coupling = sinkhorn(cost, **self._options()).coupling
        error = (coupling.sum(dim=3) - 1 / M).abs().sum(dim=2)
        entropy = torch.special.entr(coupling).sum(dim=(2, 3))
        return coupling, TransportScores((coupling * cost).sum(dim=(2, 3)), entropy, error)

    def _options(self) -> dict[str, Any]:
        return {"epsilon": self.epsilon, "max_sweeps": self.max_sweeps, "tolerance": self.tolerance}


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
