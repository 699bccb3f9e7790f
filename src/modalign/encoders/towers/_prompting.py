"""Validation of learnable prompts."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from modalign.core.errors import InputError


def validate_prompts(
    prompts: Sequence[Tensor],
    side: str,
    width: int,
    depth: int,
    slots: int | None,
    members: int,
    dtype: torch.dtype,
    device: torch.device,
) -> tuple[list[Tensor], int]:
    """Return the prompts of each layer as (G, M, width) or (G, members, M, width), and G.

    Parameters
    ----------
    prompts : sequence of Tensor
        One tensor per layer: (M, width), (G, M, width), or (G, members, M, width).
    side : str
        Name of the tower, for messages.
    width, depth : int
        Width and depth of the tower.
    slots : int or None
        Required number of tokens of the first layer; None for any number.
    members : int
        Number of classes or images.
    dtype, device : torch.dtype
        Data type and device of the tower.

    Raises
    ------
    InputError
        A shape is wrong, there are more layers than in the tower, or the number of tokens does not match.
    """
    if isinstance(prompts, Tensor):
        raise InputError(
            f"Expected a sequence of prompts, one tensor per layer, got one tensor of {tuple(prompts.shape)}."
        )
    if len(prompts) > depth:
        raise InputError(f"Expected prompts for at most the {depth} layers of the {side} tower, got {len(prompts)}.")
    if not prompts:
        if slots:
            raise InputError(
                f"The sentences have {slots} slots, but no prompts were given; give prompts or tokenize without."
            )
        return [], 1
    for layer, prompt in enumerate(prompts):
        fits = 2 <= prompt.ndim <= 4 and prompt.shape[-1] == width and prompt.shape[-2] > 0
        if not fits or (prompt.ndim == 4 and prompt.shape[1] not in (1, members)):
            raise InputError(
                f"Expected the {side} prompts of layer {layer} as (M, {width}), (G, M, {width}) or "
                f"(G, {members}, M, {width}), got {tuple(prompt.shape)}."
            )
    first = prompts[0].shape[-2] if slots is None else slots
    for layer, prompt in enumerate(prompts):
        M = prompt.shape[-2]
        if first < M or (layer == 0 and first != M):
            raise InputError(
                f"Expected {'' if layer == 0 else 'at most '}{first} {side} prompt tokens at layer {layer}, as many as "
                f"there are places for, got {M}."
            )
    sets = [prompt.shape[0] for prompt in prompts if prompt.ndim > 2 and prompt.shape[0] != 1]
    if any(count != sets[0] for count in sets):
        raise InputError(
            f"Expected the same number of prompt sets at all layers of the {side} tower, got {sorted(set(sets))}."
        )
    G = sets[0] if sets else 1
    return [_widened(p.to(device, dtype), G, members) for p in prompts], G


def _widened(prompt: Tensor, G: int, members: int) -> Tensor:
    if prompt.ndim == 4:
        return prompt.expand(G, members, -1, -1)
    return prompt.expand(G, *prompt.shape[-2:])
