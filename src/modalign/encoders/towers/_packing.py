"""Packing of sentences of different lengths into one row of tokens, with a shared prefix."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

_MOST_GROUPS = 8  # with more lengths than this, neighboring ones are padded to a common length


@dataclass(frozen=True, eq=False)
class Group:
    """Classes with own parts of equal length, adjacent in the row.

    Attributes
    ----------
    classes : Tensor of shape (N,)
        Their numbers, on the CPU.
    own : Tensor of shape (N,)
        The position of the end-of-text token within the own part, on the CPU.
    start : int
        Place in the row at which the first of them begins.
    length : int
        Tokens of each.
    """

    classes: Tensor
    own: Tensor
    start: int
    length: int


@dataclass(frozen=True, eq=False)
class Queries:
    """Positions that a layer computes; keys and values always include all positions.

    Attributes
    ----------
    rows : Tensor of shape (R,) or None
        Their places in the row, in its order; None for all.
    prefix : bool
        Whether the shared part is among them, wholly.
    at : tuple of Tensor
        A group each, (N or 1, Q): the positions within the own part.
    masks : tuple of Tensor or None
        A group each, (N or 1, Q, length) of 0 and −∞ to add to scores, a causal mask; None where
        that is all 0.
    """

    rows: Tensor | None
    prefix: bool
    at: tuple[Tensor, ...]
    masks: tuple[Tensor | None, ...]


@dataclass(frozen=True, eq=False)
class Packing:
    """Positions of the tokens of K sentences in a row of length T = prefix + Σ own lengths.

    Attributes
    ----------
    prefix : int
        Number of tokens shared by all sentences, stored once at the start.
    groups : tuple of Group
        The own parts, shorter ones first.
    ids, positions : Tensor of shape (T,)
        Token number and position in its sentence.
    index : Tensor of shape (K, L)
        Place in the row of a sentence's position; of its end, where the sentence is over.
    order : Tensor of shape (K,)
        Takes what is in the order of the groups into the order of the classes.
    like : Tensor
        A tensor of the device and the type of the masks.
    """

    prefix: int
    groups: tuple[Group, ...]
    ids: Tensor
    positions: Tensor
    index: Tensor
    order: Tensor
    like: Tensor

    def everything(self) -> Queries:
        """All positions."""
        return self._queries(lambda group: torch.arange(group.length)[None], everything=True)

    def ends(self) -> tuple[Queries, Tensor]:
        """Return the end-of-text tokens, which the last layer computes, and their (K,) indices."""
        queries = self._queries(lambda group: group.own[:, None], prefix=False)
        assert queries.rows is not None
        return queries, queries.rows[self.order]

    def without(self, slots: int) -> Queries:
        """Return all positions except the first ``slots`` of each sentence, whose outputs are replaced."""
        first = 1 - self.prefix
        assert first >= 0
        return self._queries(
            lambda group: torch.cat([torch.arange(first), torch.arange(first + slots, group.length)])[None]
        )

    def _queries(self, choose: Callable[[Group], Tensor], prefix: bool = True, everything: bool = False) -> Queries:
        device = self.like.device
        rows, at, masks = [torch.arange(self.prefix if prefix else 0)], [], []
        for group in self.groups:
            chosen = choose(group)
            starts = group.start + group.length * torch.arange(len(group.classes))
            rows.append((starts[:, None] + chosen).flatten())
            hidden = torch.arange(group.length) > chosen[..., None]
            at.append(chosen.to(device))
            mask = self.like.new_zeros(hidden.shape).masked_fill_(hidden.to(device), float("-inf"))
            masks.append(mask if bool(hidden.any()) else None)
        return Queries(None if everything else torch.cat(rows).to(device), prefix, tuple(at), tuple(masks))


def pack(ids: Tensor, ends: Tensor, limit: int, like: Tensor) -> Packing:
    """Pack sentences.

    Parameters
    ----------
    ids : Tensor of shape (K, L)
        Token numbers, on the CPU.
    ends : Tensor of shape (K,)
        Positions of the end-of-text token, on the CPU.
    limit : int
        The longest prefix that may be shared, at least 0.
    like : Tensor
        Gives the device and the type of the masks.

    Returns
    -------
    Packing
        Without padding for up to eight different lengths.
    """
    prefix = _common(ids, min(limit, int(ends.min())))
    own = ends - prefix
    by_length = torch.argsort(own, stable=True)
    groups, row, position = [], [ids[0, :prefix]], [torch.arange(prefix)]
    index = torch.empty_like(ids)
    index[:, :prefix] = torch.arange(prefix)
    start, first = prefix, 0
    for cap in _caps(own):
        classes = by_length[first : int((own <= cap).sum())]
        N, length = len(classes), cap + 1
        groups.append(Group(classes, own[classes], start, length))
        row.append(ids[classes, prefix : prefix + length].flatten())
        position.append((prefix + torch.arange(length)).repeat(N))
        within = torch.minimum(torch.arange(ids.shape[1] - prefix), own[classes, None])
        index[classes, prefix:] = start + length * torch.arange(N)[:, None] + within
        start, first = start + length * N, first + N
    parts = (torch.cat(row), torch.cat(position), index, torch.argsort(by_length))
    tokens, positions, index, order = (part.to(like.device) for part in parts)
    return Packing(prefix, tuple(groups), tokens, positions, index, order, like)


def _common(ids: Tensor, limit: int) -> int:
    """Length of the longest common start of all rows, at most ``limit``."""
    same = (ids[:, :limit] == ids[:1, :limit]).all(0)
    return int(same.long().cumprod(0).sum())


def _caps(own: Tensor) -> list[int]:
    """Return the lengths that sentences are padded to: all distinct lengths, or eight quantiles."""
    lengths = torch.unique(own)
    if len(lengths) > _MOST_GROUPS:
        ranks = torch.arange(1, _MOST_GROUPS + 1) * len(own) // _MOST_GROUPS - 1
        lengths = torch.unique(own.sort().values[ranks.clamp(min=0)])
    return lengths.tolist()
