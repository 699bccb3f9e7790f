"""Division of labeled images for training and held-out predictions, by validation images or cross-fitting.

Temperature, rejection threshold, reported accuracy and selections are based on held-out predictions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from numbers import Integral, Real
from random import Random
from typing import Literal

import numpy as np

from modalign.core.errors import InputError, UnknownNameError, argument
from modalign.core.features import UNLABELED
from modalign.data.items import Items
from modalign.data.splits.drawing import draw_split, few_shot, shortage
from modalign.data.splits.split import EMPTY, Split, official_split
from modalign.methods.contract.selection import FOLDS
from modalign.methods.contract.tower import TowerMethod
from modalign.methods.contract.vectors import VectorMethod

NAMED = ("auto", "cross", "none")
Validation = Literal["auto", "cross", "none"] | int | float

CROSS_FIT_LIMIT = 2_000  # labeled images up to which "auto" cross-fits; a fifth of more is plenty to validate on
ENOUGH = 19  # held-out images that a rejection level of 0.05 needs


@dataclass(frozen=True)
class Holdout:
    """The part of each labeled image, as indices.

    Attributes
    ----------
    learn : ndarray
        Images that the final model learns from.
    validation : ndarray
        Images that it does not learn from; predictions of them are held out.
    cross : bool
        Whether predictions of ``learn`` are made by cross-fitting, so that they are held out too.
    labeled : int
        Number of labeled images to draw from.
    notes : tuple of str, default=()
        Requests that the source could not fulfill.
    """

    learn: np.ndarray
    validation: np.ndarray
    cross: bool
    labeled: int
    notes: tuple[str, ...] = ()


def plan_holdout(
    items: Items, shots: int | None, validation: Validation, method: VectorMethod | TowerMethod, seed: int
) -> Holdout | None:
    """Draw the images to learn from and to hold out; None where no image has a label.

    Raises
    ------
    InputError
        If ``shots`` or ``validation`` is out of range or does not go with the method or the source.
    """
    if shots is not None and (isinstance(shots, bool) or not isinstance(shots, Integral) or shots < 1):
        raise InputError(
            f"Expected {argument('shots')} as a whole number of at least 1, got {shots!r}; leave it out to learn from "
            "all images."
        )
    _check(validation, method)
    if not (items.labels != UNLABELED).any():
        _require_no_labels(method, validation)
        return None
    official = official_split(items)
    pool = _labeled(items, np.arange(len(items)) if official is None else official.train)
    listed = EMPTY if official is None else _labeled(items, official.validation)
    labeled = len(pool) + len(listed)
    amount = "all" if shots is None else shots
    if validation == "cross":
        crossed = _cross_fitted(items, shots, np.concatenate([pool, listed]), EMPTY, seed)
        return replace(crossed, labeled=labeled)
    if validation == "none":
        split = few_shot(items, amount, seed, validation_shots=0)
    elif isinstance(validation, Integral):
        split = few_shot(items, amount, seed, validation_shots=int(validation))
        split = replace(split, notes=(*split.notes, *_too_few(items, split.validation, int(validation))))
    elif isinstance(validation, Real):
        lists = _share(items, pool, listed, float(validation), seed)
        split = few_shot(items, amount, seed, validation_shots=len(items), official=lists)
    else:
        split = few_shot(items, amount, seed, validation_shots=_grown(items, shots, pool, listed))
        few = not len(listed) or len(split.validation) < ENOUGH
        if isinstance(method, VectorMethod) and few and _taught(items, pool, shots) <= CROSS_FIT_LIMIT:
            return replace(_cross_fitted(items, shots, pool, listed, seed), labeled=labeled)
    return Holdout(split.train, split.validation, False, labeled, split.notes)


def _check(validation: Validation, method: VectorMethod | TowerMethod) -> None:
    if isinstance(validation, str):
        if validation not in NAMED:
            raise UnknownNameError(f"value of {argument('validation')}", validation, NAMED)
        if validation == "cross" and isinstance(method, TowerMethod):
            raise InputError(
                f"{type(method).__name__} trains inside the encoder and does not cross-fit, which would take {FOLDS} "
                f"trainings more; give {argument('validation', '7')}, a number of images per class, or leave it out."
            )
    elif isinstance(validation, bool) or not (
        (isinstance(validation, Integral) and validation >= 1) or (isinstance(validation, Real) and 0 < validation < 1)
    ):
        raise InputError(
            "Expected validation as a number of images per class (1 or more), a share of them between 0 and 1, "
            f"{' or '.join(map(repr, NAMED))}, got {validation!r}."
        )


def _require_no_labels(method: VectorMethod | TowerMethod, validation: Validation) -> None:
    if method.needs_labels:
        raise InputError(
            f"{type(method).__name__} learns from labeled images, got none; "
            f"sort some into one folder per class, or use {argument('method', 'gpua')}, which needs none."
        )
    if validation not in ("auto", "none"):
        raise InputError(f"Expected labeled images to validate on, got none; leave {argument('validation')} out.")


def _labeled(items: Items, indices: np.ndarray) -> np.ndarray:
    return indices[items.labels[indices] != UNLABELED]


def _sizes(items: Items, indices: np.ndarray) -> np.ndarray:
    """Number of images of each class that has one."""
    return np.unique(items.labels[indices], return_counts=True)[1]


def _few(shots: int) -> int:
    """Validation images per class of a few-shot draw, as in CoOp."""
    return min(shots, 4)


def _taught(items: Items, pool: np.ndarray, shots: int | None) -> int:
    """Number of images of the pool that cross-fitting would use."""
    sizes = _sizes(items, pool)
    return int((sizes if shots is None else np.minimum(sizes, shots + _few(shots))).sum())


def _too_few(items: Items, held_out: np.ndarray, wanted: int) -> tuple[str, ...]:
    """A note where classes have fewer validation images than wanted, as each leaves half to learn from."""
    counts = np.bincount(items.labels[held_out], minlength=len(items.class_names))
    short = {k: int(counts[k]) for k in np.unique(items.labels[items.labels != UNLABELED]) if counts[k] < wanted}
    return shortage(short, wanted, items.class_names, "validation")


def _grown(items: Items, shots: int | None, pool: np.ndarray, listed: np.ndarray) -> int | None:
    """Validation images per class: a fifth of the labeled images, and at least :data:`ENOUGH` in all.

    None is the whole validation list of the source, or a fifth of every class.
    """
    sizes = _sizes(items, listed if len(listed) else pool)
    least = math.ceil(ENOUGH / len(sizes))
    if shots is not None:
        return max(_few(shots), round(shots / 4), least)
    fifth = int(np.maximum(1, np.round(sizes / 5)).sum())
    return None if len(listed) or fifth >= ENOUGH else least


def _share(items: Items, pool: np.ndarray, listed: np.ndarray, share: float, seed: int) -> Split:
    """Lists with a share of every class to validate on: of the validation list if there is one, else of all."""
    drawn_from = listed if len(listed) else pool
    y = np.full(len(items), UNLABELED)
    y[drawn_from] = items.labels[drawn_from]
    cut = draw_split(y, train=1 - share, validation=share, seed=seed)
    return Split(pool if len(listed) else cut.train, cut.validation)


def _cross_fitted(items: Items, shots: int | None, pool: np.ndarray, listed: np.ndarray, seed: int) -> Holdout:
    """All of the pool, or few shots of it together with the images that would have validated them.

    Images of a validation list are held out. If there are few shots, further images are held out until there are
    enough predictions for a rejection threshold.
    """
    if shots is None:
        return Holdout(pool, listed, True, len(pool))
    split = few_shot(items, shots, seed, validation_shots=0 if len(listed) else _few(shots), official=Split(pool))
    learn = np.concatenate([split.train, split.validation])
    missing = ENOUGH - len(learn) - len(listed)
    rest = np.setdiff1d(pool, learn).tolist()
    more = Random(seed).sample(rest, missing) if 0 < missing <= len(rest) else []
    notes = _about_shots(items, learn, shots)
    return Holdout(learn, np.array([*listed, *sorted(more)], dtype=np.int64), True, len(pool), notes)


def _about_shots(items: Items, learn: np.ndarray, shots: int) -> tuple[str, ...]:
    """Notes on the images per class that a cross-fitted model learns from, and on classes with fewer than ``shots``."""
    classes, sizes = np.unique(items.labels[learn], return_counts=True)
    short = {int(k): int(n) for k, n in zip(classes, sizes, strict=True) if n < shots}
    notes = shortage(short, shots, items.class_names)
    if sizes.max(initial=0) <= shots:
        return notes
    each = f"{sizes.min()} to {sizes.max()}" if sizes.min() < sizes.max() else str(sizes.max())
    return (
        f"{shots} training images per class and up to {_few(shots)} for validation are cross-fitted: the final model "
        f"learns from all of them, {each} per class",
        *notes,
    )
