"""Tokenized class sentences, and what a text tower makes of them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Sentences:
    """Tokenized sentences, one a class: start, ``slots`` placeholders, words, end-of-text; made by a tower.

    Attributes
    ----------
    ids : Tensor of shape (K, L), int64
        On the CPU, filled up with the end-of-text token.
    ends : Tensor of shape (K,), int64
        On the CPU, position of the end-of-text token.
    slots : int
        The positions 1 … slots are placeholders that prompts replace.
    texts : tuple of str
        The sentences as given.
    """

    ids: Tensor
    ends: Tensor
    slots: int
    texts: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def mask(self) -> Tensor:
        """(K, L) whether a position belongs to its sentence, up to and including end-of-text."""
        return torch.arange(self.ids.shape[1]) <= self.ends[:, None]

    def part(self, start: int, stop: int) -> Sentences:
        """Some of the classes."""
        return Sentences(self.ids[start:stop], self.ends[start:stop], self.slots, self.texts[start:stop])


@dataclass(frozen=True, eq=False)
class TextOutput:
    """What a text tower made of K sentences under G prompt sets.

    Attributes
    ----------
    pooled : Tensor of shape (G, K, d)
        Projected features of the end-of-text tokens, not normalized.
    tokens : Tensor of shape (G, K, L, d) or None
        All positions after the final layer norm and the projection, zero past the end; or None.
    mask : Tensor of shape (K, L)
        Real positions.
    """

    pooled: Tensor
    tokens: Tensor | None
    mask: Tensor
