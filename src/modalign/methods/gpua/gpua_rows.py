"""Image vectors read in blocks, also from memory-mapped files larger than memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from modalign.core.errors import InputError
from modalign.linalg.inputs import single
from modalign.linalg.similarity import unit
from modalign.methods.contract.team import Team

BLOCK = 1 << 22  # numbers of one block: 16 MB in float32


class Rows:
    """Image vectors (n, d) float32 of one or several concatenated spaces, each normalized to unit rows.

    The norms of different spaces may differ by orders of magnitude; with unit length, all have the same weight in the
    inner products. Zero rows stay zero.

    Parameters
    ----------
    X : Tensor of shape (n, d)
        Vectors of any real dtype, in memory or memory-mapped; copied completely only within ``budget``.
    widths : sequence of int
        Columns of each space, which sum to d.
    block : int
        Rows per block.
    budget : float
        Bytes up to which converted vectors are cached.
    """

    def __init__(self, X: Tensor, widths: Sequence[int], block: int, budget: float) -> None:
        self.X, self.widths, self.block = X, tuple(widths), block
        self._held: Tensor | None = None
        if X.numel() * 4 <= budget:
            self._held = torch.cat([part for _, part in self.blocks()])

    def __len__(self) -> int:
        return len(self.X)

    def blocks(self) -> Iterator[tuple[slice, Tensor]]:
        """The rows in order, (block, d) at a time."""
        for start in range(0, len(self.X), self.block):
            rows = slice(start, min(start + self.block, len(self.X)))
            yield rows, self.take(rows)

    def take(self, rows: slice | Tensor) -> Tensor:
        """Some of the rows."""
        return unit_spaces(self.X[rows], self.widths) if self._held is None else self._held[rows]


class Images:
    """n images in the visual spaces, Z, and in the language space, X of the paper.

    A language view that is one of the visual spaces is read and multiplied only once. If several processes learn
    together, these are the images of this one; ``total`` counts those of all, which are numbered process by process.
    """

    def __init__(
        self,
        X: Tensor,
        clip_features: Tensor | None,
        widths: Sequence[int] | None,
        *,
        n_classes: int,
        memory: float,
        team: Team | None = None,
    ) -> None:
        self.team = Team() if team is None else team
        counts = self.team.counts(len(X))
        self.total, self._first = sum(counts), sum(counts[: self.team.rank])
        if clip_features is not None and clip_features.shape == X.shape and clip_features.data_ptr() == X.data_ptr():
            clip_features = None
        self._width = width = X.shape[1] if clip_features is None else clip_features.shape[1]
        self.widths = infer_spaces(X, clip_features, self.team) if widths is None else _checked(widths, X.shape[1])
        block = max(64, BLOCK // max(X.shape[1], n_classes))
        self.visual = Rows(X, self.widths, block, memory / 3)
        self.language: Rows | None = None
        self.columns = self._columns_of(clip_features, width, block)
        if self.columns is None:
            self.language = Rows(X if clip_features is None else clip_features, [width], block, memory / 3)

    def __len__(self) -> int:
        return len(self.visual)

    def blocks(self) -> Iterator[tuple[slice, Tensor, Tensor]]:
        """Rows, Z (block, d_v) and the language view (block, d_t)."""
        for rows, Z in self.visual.blocks():
            yield rows, Z, self._view(rows, Z)

    def take(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Z and the language view of some of all images."""

        def own(mine: Tensor) -> Tensor:
            Z = self.visual.take(mine)
            return torch.cat([Z, self._view(mine, Z)], dim=1)

        Z, view = self.gathered(rows, own).split([sum(self.widths), self._width], dim=1)
        return Z, view

    def gathered(self, rows: Tensor, own: Callable[[Tensor], Tensor]) -> Tensor:
        """Return values of some of all images; ``own`` returns those of images of this process.

        Each process fills its rows of a tensor of zeros, and the tensors are added up.
        """
        if self.team.reduce is None:
            return own(rows)
        mine = (rows >= self._first) & (rows < self._first + len(self))
        found = own(rows[mine] - self._first)
        whole = found.new_zeros(len(rows), *found.shape[1:])
        whole[mine] = found
        return self.team.sum(whole)

    def scores(self, visual: Tensor, language: Tensor) -> Iterator[tuple[slice, Tensor]]:
        """Blocks of Z Aᵀ + X Bᵀ, A (K, d_v) and B (K, d_t): one matrix product where X is part of Z."""
        if self.columns is None:
            for rows, Z, view in self.blocks():
                yield rows, torch.addmm(view @ language.T, Z, visual.T)
            return
        joint = visual.clone()
        joint[:, self.columns] += language
        for rows, Z in self.visual.blocks():
            yield rows, Z @ joint.T

    def _view(self, rows: slice | Tensor, Z: Tensor) -> Tensor:
        return Z[:, self.columns] if self.language is None else self.language.take(rows)

    def _columns_of(self, clip_features: Tensor | None, width: int, block: int) -> slice | None:
        """Position of the language view among the spaces, if it is one of them."""
        start = 0
        for space in self.widths:
            columns = slice(start, start + space)
            start += space
            if space == width and (
                clip_features is None or self.team.all(_parallel(self.visual.X[:, columns], clip_features, block))
            ):
                return columns
        return None


def unit_spaces(X: Tensor, widths: Sequence[int]) -> Tensor:
    """(n, d) float32 with the columns of each space scaled to unit rows."""
    return torch.cat([unit(single(part)) for part in X.split(list(widths), dim=1)], dim=1)


def infer_spaces(X: Tensor, clip_features: Tensor | None, team: Team) -> tuple[int, ...]:
    """Infer the widths of the spaces in X: columns besides the language view are a separate space."""
    d = X.shape[1]
    if clip_features is not None and clip_features.shape[1] < d:
        some, other = slice(0, 64), d - clip_features.shape[1]
        if team.all(_parallel(X[some, other:], clip_features[some], 64)):
            return (other, d - other)
        if team.all(_parallel(X[some, : d - other], clip_features[some], 64)):
            return (d - other, other)
    return (d,)


def _parallel(X: Tensor, clip_features: Tensor, block: int) -> bool:
    """Return whether each row of X has the direction of its row of ``clip_features``."""
    return all(
        bool(((unit(single(X[i : i + block])) - unit(single(clip_features[i : i + block]))).abs() < 2e-3).all())
        for i in range(0, len(X), block)
    )


def _checked(widths: Sequence[int], d: int) -> tuple[int, ...]:
    if not all(isinstance(w, int) and w > 0 for w in widths) or sum(widths) != d:
        raise InputError(
            f"Expected spaces to be the widths of the visual spaces in X, positive and adding up to {d}, got {widths}."
        )
    return tuple(widths)
