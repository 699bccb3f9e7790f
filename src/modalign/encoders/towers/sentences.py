"""Tokenized class prompts, and the output of a text tower for them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Sentences:
    """Tokenized sentences, one per class: start, ``slots`` placeholders, words, end-of-text.

    Attributes
    ----------
    ids : Tensor of shape (K, L), int64
        Token ids, on the CPU, padded with the end-of-text token.
    ends : Tensor of shape (K,), int64
        Position of the end-of-text token, on the CPU.
    slots : int
        Positions 1 … slots are placeholders for prompts.
    texts : tuple of str
        Sentences as passed.
    """

    ids: Tensor
    ends: Tensor
    slots: int
    texts: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def mask(self) -> Tensor:
        """(K, L) mask of the tokens up to and including end-of-text."""
        return torch.arange(self.ids.shape[1]) <= self.ends[:, None]

    def part(self, start: int, stop: int) -> Sentences:
        """Select some of the classes."""
        return Sentences(self.ids[start:stop], self.ends[start:stop], self.slots, self.texts[start:stop])


@dataclass(frozen=True, eq=False)
class TextOutput:
    """Output of a text tower for K sentences and G prompt sets.

    Attributes
    ----------
    pooled : Tensor of shape (G, K, d)
        Projected features of the end-of-text tokens, not normalized.
    tokens : Tensor of shape (G, K, L, d) or None
        All positions after the final layer norm and the projection, zero past the end; or None.
    mask : Tensor of shape (K, L)
        Mask of the tokens that exist.
    """

    pooled: Tensor
    tokens: Tensor | None
    mask: Tensor
