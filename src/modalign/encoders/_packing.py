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
    classes : (N,) their numbers.
    own : (N,) the position of the end-of-text token within the own part.
    length : tokens of each.
    mask : (length, length) of 0 and −∞, added to scores: no position sees a later one.
    end_mask : (N, 1, length) the same for the end-of-text tokens; None if none has anything behind it.
    """

    classes: Tensor
    own: Tensor
    length: int
    mask: Tensor
    end_mask: Tensor | None


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


def pack(ids: Tensor, ends: Tensor, limit: int, like: Tensor) -> Packing:
    """Lay out sentences.

    Parameters
    ----------
    ids : (K, L) token numbers, on the CPU.
    ends : (K,) positions of the end-of-text token, on the CPU.
    limit : the longest prefix that may be shared, at least 0.
    like : gives the device and the type of the masks.

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
        groups.append(_group(classes, own[classes], length, like))
        row.append(ids[classes, prefix : prefix + length].flatten())
        position.append((prefix + torch.arange(length)).repeat(len(classes)))
        within = torch.minimum(torch.arange(ids.shape[1] - prefix), own[classes, None])
        index[classes, prefix:] = prefix + start + length * torch.arange(len(classes))[:, None] + within
        start, first = start + length * len(classes), first + len(classes)
    parts = (torch.cat(row), torch.cat(position), index, index[by_length, ends[by_length]], torch.argsort(by_length))
    return Packing(prefix, tuple(groups), *(part.to(like.device) for part in parts))


def _group(classes: Tensor, own: Tensor, length: int, like: Tensor) -> Group:
    at = torch.arange(length)
    mask = like.new_zeros(length, length).masked_fill_((at > at[:, None]).to(like.device), float("-inf"))
    end_mask = mask[own.to(like.device), None] if bool((own < length - 1).any()) else None
    return Group(classes.to(like.device), own.to(like.device), length, mask, end_mask)


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
