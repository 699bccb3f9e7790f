"""Storage of transductive predictions: predictions for the images that a method was fitted on.

They are computed jointly in ``fit`` and are often better than predictions for single images. A method stores them in
``_fit`` with :func:`keep_answers`; later predictions for the same images look them up with :func:`kept_answers`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from modalign.linalg.inputs import single
from modalign.linalg.similarity import top_k

KEPT = 5  # classes per image: as many as a Prediction shows
ROWS = 4096  # vectors converted at a time


class Likeliest(NamedTuple):
    """The likeliest classes of each image, best first, and their probabilities; both (n, k) with k ≤ :data:`KEPT`."""

    classes: Tensor
    probabilities: Tensor


def likeliest(P: Tensor) -> Likeliest:
    """Of (n, C) probabilities, the :data:`KEPT` largest of each row."""
    probabilities, classes = top_k(P.float(), min(KEPT, P.shape[1]))
    return Likeliest(classes.int(), probabilities)


def keep_answers(X: Tensor, answers: Tensor | Likeliest) -> dict[str, Tensor]:
    """The answers for image vectors, as a method keeps them in ``fitted_answers_``.

    Parameters
    ----------
    X : Tensor of shape (n, d)
        Image vectors as they came.
    answers : Tensor of shape (n, C) or Likeliest
        Probabilities, or the likeliest classes alone.

    Returns
    -------
    dict of str to Tensor
        Dict of ``vectors`` (n,), a hash of each vector, and ``classes`` and ``probabilities``, see :class:`Likeliest`:
        at most 48 bytes per image. Reads X once.
    """
    found = answers if isinstance(answers, Likeliest) else likeliest(answers)
    return {
        "vectors": torch.from_numpy(vector_hashes(X)),
        "classes": found.classes.cpu(),
        "probabilities": found.probabilities.cpu(),
    }


def name_answers(answers: dict[str, Tensor], X: np.ndarray, images: np.ndarray) -> None:
    """Add hashes of the images whose vectors are X, so that the answers are found by these too.

    Parameters
    ----------
    answers : dict of str to Tensor
        Result of :func:`keep_answers` of rows of X; changed in place.
    X : ndarray of shape (n, d)
        Image vectors, as an array.
    images : ndarray of shape (n,), int64
        Hashes of the images.
    """
    hashes = vector_hashes(X)
    order = np.argsort(hashes, kind="stable")
    place = order[np.searchsorted(hashes, answers["vectors"].numpy(), sorter=order)]
    answers["images"] = torch.from_numpy(images[place])


def kept_answers(answers: Mapping[str, Tensor], by: str, keys: np.ndarray, n_classes: int) -> tuple[np.ndarray, ...]:
    """Return which of some images have an answer, and the probabilities of these.

    Parameters
    ----------
    answers : mapping of str to Tensor
        Result of :func:`keep_answers`, of at least one image.
    by : str
        ``"vectors"``, or ``"images"`` where the images are known too.
    keys : ndarray of shape (m,)
        Hashes of the images to look up.
    n_classes : int
        C.

    Returns
    -------
    tuple of ndarray
        (m,) bool, and the (r, C) probabilities of the r images that have an answer, see :func:`all_probabilities`.
    """
    known = answers[by].numpy()
    order = np.argsort(known, kind="stable")
    place = order[np.searchsorted(known, keys, sorter=order).clip(max=len(known) - 1)]
    found = known[place] == keys
    rows = torch.from_numpy(place[found])
    kept = Likeliest(answers["classes"][rows], answers["probabilities"][rows])
    return found, all_probabilities(kept, n_classes).numpy()


def all_probabilities(kept: Likeliest, n_classes: int) -> Tensor:
    """(n, C) float64 probabilities, rows that sum to one; what was not kept is spread evenly over the other classes.

    None of these becomes likelier than those kept.
    """
    probabilities, classes = kept.probabilities.double(), kept.classes.long()
    rest = (1 - probabilities.sum(dim=1, keepdim=True)).clamp_min(0) / max(1, n_classes - classes.shape[1])
    rest = torch.minimum(rest, probabilities[:, -1:])  # where all is kept, it is rounding
    P = rest.repeat(1, n_classes).scatter_(1, classes, probabilities)
    return P / P.sum(dim=1, keepdim=True)


def are_answers(entry: object, n_classes: int) -> bool:
    """Return whether ``entry`` is a possible result of :func:`keep_answers` for C classes."""
    parts = {"vectors", "classes", "probabilities"}
    if not isinstance(entry, dict) or not parts <= set(entry) <= {*parts, "images"}:
        return False
    classes, probabilities = entry["classes"], entry["probabilities"]
    hashes = [entry[name] for name in ("vectors", "images") if name in entry]
    shape = (len(classes), min(KEPT, n_classes))
    if not len(classes) or any(part.shape != shape for part in (classes, probabilities)):
        return False
    if any(part.shape != shape[:1] or part.dtype != torch.int64 for part in hashes):
        return False
    if classes.dtype != torch.int32 or probabilities.dtype != torch.float32:
        return False
    sums, ordered = probabilities.sum(dim=1), classes.sort(dim=1).values
    holds = (
        (ordered[:, 0] >= 0).all(),
        (ordered[:, -1] < n_classes).all(),
        (ordered.diff(dim=1) > 0).all(),
        (probabilities[:, -1] >= 0).all(),
        (probabilities.diff(dim=1) <= 0).all(),
        ((sums > 0) & (sums < 1.001)).all(),
    )
    return all(map(bool, holds))


def vector_hashes(X: Tensor | np.ndarray) -> np.ndarray:
    """(n,) int64 hashes of the bytes of vectors in float32."""
    found = []
    for start in range(0, len(X), ROWS):
        block = X[start : start + ROWS]
        block = block.detach() if isinstance(block, Tensor) else torch.from_numpy(np.array(block))
        rows = np.ascontiguousarray(single(block).cpu().numpy() + 0.0)  # −0 and 0 are equal
        found += [hashlib.blake2b(row, digest_size=8).digest() for row in rows]
    return np.frombuffer(b"".join(found), dtype="<i8").astype(np.int64)


__all__ = [
    "KEPT",
    "Likeliest",
    "all_probabilities",
    "are_answers",
    "keep_answers",
    "kept_answers",
    "likeliest",
    "name_answers",
    "vector_hashes",
]
