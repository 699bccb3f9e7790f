"""The anchored mixture of unlabeled images that are read in blocks, by one or several processes.

An update needs sums over the images alone, see :class:`~modalign.methods.anchored.anchored_classes.Moments`: d² numbers
once, and K (d + 1) per round.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from modalign.linalg.inputs import exact_dtype
from modalign.linalg.similarity import unit
from modalign.methods.anchored.anchored_classes import AnchoredClasses, Moments
from modalign.methods.contract.team import Team
from modalign.methods.contract.transduction import KEPT, Likeliest, likeliest

NUMBERS = 2**23  # of a block of images, and of its assignments: 32 MB in float32

Assign = Callable[[Tensor, AnchoredClasses | None], Tensor]
"""Unit images (m, d) → their assignments (m, K) by the classes, or by the texts where there are none yet."""


@dataclass(frozen=True)
class SettledStream:
    """The classes after the rounds, the likeliest ones of the images of this process, and counts of all images.

    Attributes
    ----------
    classes : AnchoredClasses
        Equal in every process.
    likeliest : Likeliest
        From the assignments of the last round.
    images, changed : int
        Number of all images, and of those whose likeliest class differs from that by the texts.
    """

    classes: AnchoredClasses
    likeliest: Likeliest
    images: int
    changed: int


def settle_stream(
    X: Tensor, text: Tensor, assign: Assign, *, strength: float, rounds: int, team: Team
) -> SettledStream:
    """Alternate assignments and classes, reading X once per round and twice before.

    Parameters
    ----------
    X : Tensor of shape (n, d)
        Images of this process, of any real type; may lie over a memory map. Not copied as a whole.
    text : Tensor of shape (K, d)
        Unit texts.
    assign : callable
        See :data:`Assign`.
    strength : float
        κ, as for :meth:`AnchoredClasses.estimate`.
    rounds : int
        Updates of the assignments.
    team : Team
        The processes.

    Returns
    -------
    SettledStream
        Sums are added up in float64. Cost O(rounds n d (d + K)).
    """
    n, (K, d), exact = len(X), text.shape, exact_dtype(X.device)
    step = max(64, NUMBERS // max(d, K))

    def blocks() -> Iterator[tuple[slice, Tensor]]:
        for start in range(0, n, step):
            yield slice(start, start + step), unit(X[start : start + step])

    total = sum(team.counts(n))
    origin = team.sum(sum((rows.sum(dim=0, dtype=exact) for _, rows in blocks()), X.new_zeros(d, dtype=exact))) / total
    origin = origin.to(text.dtype)
    scatter: Tensor | None = None
    classes: AnchoredClasses | None = None
    kept = min(KEPT, K)
    by_text = torch.empty(n, dtype=torch.int32, device=X.device)
    found = Likeliest(torch.empty(n, kept, dtype=torch.int32, device=X.device), torch.empty(n, kept, device=X.device))
    for _ in range(rounds + 1):
        sums = torch.zeros(K, d + 1, dtype=exact, device=X.device)
        own = torch.zeros(d, d, dtype=exact, device=X.device) if scatter is None else None
        for place, rows in blocks():
            P = assign(rows, classes)
            best = likeliest(P)
            found.classes[place], found.probabilities[place] = best
            centered = rows - origin
            sums[:, 1:] += P.T @ centered
            sums[:, 0] += P.sum(dim=0, dtype=exact)
            if own is not None:
                own += centered.T @ centered
                by_text[place] = best.classes[:, 0]
        scatter = team.sum(own) if own is not None else scatter
        assert scatter is not None
        sums = team.sum(sums).to(text.dtype)
        moments = Moments(float(total), origin, sums[:, 0], sums[:, 1:], scatter.to(text.dtype), None)
        classes = AnchoredClasses.of(moments, text, strength)
    assert classes is not None
    changed = team.sum((found.classes[:, 0] != by_text).sum())
    return SettledStream(classes, found, total, int(changed))
