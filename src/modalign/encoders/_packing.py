"""Sentences of unlike lengths as one row of tokens: the part they share once, then the rest of each."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_MOST_GROUPS = 8  # with more lengths than this, neighbouring ones are padded to a common length


@dataclass(frozen=True, eq=False)
class Group:
    """Classes whose own parts have one length, next to each other in the row.

    Attributes
    ----------
    classes : (N,) their numbers, on the CPU.
    own : (N,) the position of the end-of-text token within the own part, on the CPU.
    start : where the first of them begins, counted from the end of the shared part.
    length : tokens of each.
    """

    classes: Tensor
    own: Tensor
    start: int
    length: int


@dataclass(frozen=True, eq=False)
class Packing:
    """Where the tokens of K sentences stand in a row of T = prefix + Σ own lengths.

    Attributes
    ----------
    prefix : tokens that all sentences share and that stand once, at the start.
    groups : the own parts, shorter ones first.
    ids, positions : (T,) token number and position in its sentence.
    index : (K, L) place in the row of a sentence's position; of its end, where the sentence is over.
    ends : (K,) place of the end-of-text tokens, in the order of the groups.
    order : (K,) takes what is in the order of the groups into the order of the classes.
    """

    prefix: int
    groups: tuple[Group, ...]
    ids: Tensor
    positions: Tensor
    index: Tensor
    ends: Tensor
    order: Tensor


def pack(ids: Tensor, ends: Tensor, limit: int, device: torch.device) -> Packing:
    """Lay out sentences.

    Parameters
    ----------
    ids : (K, L) token numbers, on the CPU.
    ends : (K,) positions of the end-of-text token, on the CPU.
    limit : the longest prefix that may be shared, at least 0.
    device : where the tensors of the row go; those of the groups stay.

    Returns
    -------
    Packing : without padding up to eight different lengths.
    """
    prefix = _common(ids, min(limit, int(ends.min())))
    own = ends - prefix
    by_length = torch.argsort(own, stable=True)
    groups, row, position = [], [ids[0, :prefix]], [torch.arange(prefix)]
    index = torch.empty_like(ids)
    index[:, :prefix] = torch.arange(prefix)
    start, first = 0, 0
    for cap in _caps(own):
        classes = by_length[first : int((own <= cap).sum())]
        length = cap + 1
        groups.append(Group(classes, own[classes], start, length))
        row.append(ids[classes, prefix : prefix + length].flatten())
        position.append((prefix + torch.arange(length)).repeat(len(classes)))
        within = torch.minimum(torch.arange(ids.shape[1] - prefix), own[classes, None])
        index[classes, prefix:] = prefix + start + length * torch.arange(len(classes))[:, None] + within
        start, first = start + length * len(classes), first + len(classes)
    parts = (torch.cat(row), torch.cat(position), index, index[by_length, ends[by_length]], torch.argsort(by_length))
    return Packing(prefix, tuple(groups), *(part.to(device) for part in parts))


def _common(ids: Tensor, limit: int) -> int:
    """Length of the longest common start of all rows, at most ``limit``."""
    same = (ids[:, :limit] == ids[:1, :limit]).all(0)
    return int(same.long().cumprod(0).sum())


def _caps(own: Tensor) -> list[int]:
    """The lengths that sentences are padded to: all there are, or eight that as many sentences lie between."""
    lengths = torch.unique(own)
    if len(lengths) > _MOST_GROUPS:
        ranks = torch.arange(1, _MOST_GROUPS + 1) * len(own) // _MOST_GROUPS - 1
        lengths = torch.unique(own.sort().values[ranks.clamp(min=0)])
    return lengths.tolist()
