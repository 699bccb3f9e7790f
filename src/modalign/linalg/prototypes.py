"""Class prototypes from sentences or labeled images."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int, Real
from torch import Tensor

from modalign.core.errors import InputError
from modalign.linalg.inputs import class_indices, float_tensor
from modalign.linalg.similarity import unit

BLOCK = 2**16  # rows that are converted at a time


def text_prototypes(text: Real[Tensor, "C T d"] | Real[Tensor, "C d"]) -> Float[Tensor, "C d"]:
    r"""Mean direction of the sentences of each class, :math:`t_c = \sum_s \hat t_{cs} / \lVert\cdot\rVert`.

    Zero rows are padding, so classes may have different numbers of sentences.

    Parameters
    ----------
    text : Tensor of shape (C, T, d)
        Sentence vectors, or (C, d) with one sentence per class.

    Returns
    -------
    Tensor of shape (C, d)
        Unit rows, differentiable. Cost O(C T d).

    Raises
    ------
    InputError
        A class has no sentence, an entry is not finite, or the shape is wrong.

    References
    ----------
    Radford et al., Learning transferable visual models from natural language supervision, 2021, section 3.1.4
    (prompt ensembling in embedding space).
    """
    text = float_tensor(text, "text")
    if text.ndim == 2:
        text = text[:, None]
    if text.ndim != 3 or 0 in text.shape:
        raise InputError(f"Expected text vectors of shape (C, T, d) or (C, d), got {tuple(text.shape)}.")
    _require_all(~(text.detach() == 0).all(dim=2).all(dim=1), "sentence")
    return unit(unit(text).sum(dim=1))


def class_means(X: Real[Tensor, "n d"], y: Int[Tensor, " n"], n_classes: int) -> Float[Tensor, "n_classes d"]:
    r"""Mean direction of the images of each class, :math:`\mu_c = \sum_{y_i = c} \hat x_i / \lVert\cdot\rVert`.

    Parameters
    ----------
    X : Tensor of shape (n, d)
        Image vectors of any length; only directions are used.
    y : Tensor of shape (n,)
        Class indices; rows with −1 (unlabeled) are left out.
    n_classes : int
        C.

    Returns
    -------
    Tensor of shape (C, d)
        Unit rows; zero only if the directions of a class cancel exactly. Cost O(n d).

    Raises
    ------
    InputError
        A class has no image, an entry is NaN, or labels are outside −1…C − 1.
    """
    none = float_tensor(X[:0], "X", ndim=2)
    y = class_indices(y, len(X), n_classes, lowest=-1).to(X.device)
    known = y >= 0
    _require_all(torch.bincount(y[known], minlength=n_classes) > 0, "labeled image")
    sums = none.new_zeros(n_classes, X.shape[1])
    for rows in torch.arange(len(X), device=X.device).split(BLOCK):  # X may be a memory map
        part = float_tensor(X[rows[0] : rows[-1] + 1], "X")
        sums.index_add_(0, y[rows][known[rows]], unit(part[known[rows]]))
    return unit(sums)


def _require_all(present: Tensor, what: str) -> None:
    missing = (~present).nonzero().flatten().tolist()
    if missing:
        shown = ", ".join(map(str, missing[:10])) + (", …" if len(missing) > 10 else "")
        noun = "class" if len(missing) == 1 else f"{len(missing)} classes:"
        raise InputError(f"Expected at least one {what} per class, got none for {noun} {shown} (counted from 0).")
