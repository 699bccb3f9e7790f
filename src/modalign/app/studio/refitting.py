"""Refits: predictions for all images from the labels, quickly by one method or thoroughly by several."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from modalign.core.features import UNLABELED, ClassText, Features
from modalign.methods import method_class
from modalign.methods.auto.auto import Auto
from modalign.methods.contract.selection import FOLDS
from modalign.methods.contract.vectors import VectorMethod
from modalign.model.scoring import softmax

AT_ONCE, THOROUGH = "anchored_gaussian", "auto"
SECONDS = 10.0  # of the thorough refit
MOST = {False: 2_000, True: 10_000}
"""Maximum numbers of labeled images of a quick and of a thorough refit, which bound its time."""
_BLOCK = 8192  # images scored at a time


@dataclass(frozen=True)
class Answers:
    """Probabilities of all images, with the method.

    Attributes
    ----------
    method : str
        Name; empty if nothing could be fitted.
    class_ids : tuple of int
        Class numbers of the columns.
    probabilities : ndarray of shape (n, C), float32
        Uniform without labels and text.
    n_labels : int
        Images that were learned from.
    thorough : bool, default=False
        Whether several methods were tried.
    seconds : float, default=0.0
        Time of the fit.
    held_out : tuple of (ndarray, ndarray) or None, default=None
        Rows of labeled images, and their held-out probabilities.
    """

    method: str
    class_ids: tuple[int, ...]
    probabilities: np.ndarray
    n_labels: int
    thorough: bool = False
    seconds: float = 0.0
    held_out: tuple[np.ndarray, np.ndarray] | None = None


def refit(
    features: Features,
    labels: np.ndarray,
    class_ids: tuple[int, ...],
    text: ClassText | None,
    *,
    thorough: bool = False,
    seconds: float = SECONDS,
) -> Answers:
    """Fit to the labeled images and answer for all of them.

    Without labels the answers are zero-shot. Without labels and text they are uniform. A class without a labeled image
    has probability 0 without text.

    Parameters
    ----------
    features : Features
        All n images.
    labels : ndarray of shape (n,)
        Column of the class, −1 for images without a training label.
    class_ids : tuple of int
        Class number of each of the C columns.
    text : ClassText or None
        Text of the C classes, None for an encoder without a text tower.
    thorough : bool, default=False
        Try several methods on held-out predictions for ``seconds``, in place of one.
    seconds : float, default=10.0
        Wall time for choosing.
    """
    began = time.perf_counter()
    labeled = np.flatnonzero(labels != UNLABELED)
    known = balanced(labels, labeled, MOST[thorough])
    columns = np.arange(len(class_ids)) if text is not None else np.unique(labels[known])
    if len(columns) < 2:
        P = np.full((len(labels), max(1, len(class_ids))), 1 / max(1, len(class_ids)), dtype=np.float32)
        return Answers("", class_ids, P[:, : len(class_ids)], len(labeled))
    taught = Features(
        features.vectors[known], labels=np.searchsorted(columns, labels[known]), spec=features.spec,
        class_names=text.class_names if text is not None else tuple(str(class_ids[k]) for k in columns),
    )  # fmt: skip
    method = _method(len(known), thorough, seconds)
    if len(known):
        method.fit(taught, text=text)
    else:
        method.fit(Features(features.vectors[:1], labels=np.array([UNLABELED]), spec=features.spec), text=text)
    P = np.zeros((len(labels), len(class_ids)), dtype=np.float32)
    for start in range(0, len(labels), _BLOCK):
        rows = slice(start, start + _BLOCK)
        P[rows, columns] = method.predict_proba(features.vectors[rows])
    held_out = None
    if isinstance(method, Auto) and (judged := method.out_of_fold()) is not None and len(columns) == len(class_ids):
        held_out = known[judged[0]], softmax(judged[1])
    title = _title(method) + (f" ({len(known):,} labels)" if len(known) < len(labeled) else "")
    return Answers(title, class_ids, P, len(labeled), thorough, time.perf_counter() - began, held_out)


def balanced(labels: np.ndarray, rows: np.ndarray, most: int) -> np.ndarray:
    """At most ``most`` of the rows, drawn at random and as evenly over the labels as there are rows; sorted."""
    if len(rows) <= most:
        return rows
    shuffled = np.random.default_rng(0).permutation(rows)
    by_label = shuffled[np.argsort(labels[shuffled], kind="stable")]
    starts = np.searchsorted(labels[by_label], labels[by_label])
    rank = np.arange(len(rows)) - starts  # within the rows of its label
    return np.sort(by_label[np.argsort(rank, kind="stable")[:most]])


def blend_with_model(
    answers: Answers, base: np.ndarray, features: Features, labels: np.ndarray, text: ClassText | None
) -> Answers:
    r"""Combine a refit with the given model, with the weight of the lowest held-out log-loss.

    .. math:: p \propto p_0^{\lambda}\, p_1^{1 - \lambda}

    with the λ of {0, ¼, ½, ¾, 1} that has the least log-loss on the labeled images, each predicted by a refit to the
    other folds.

    Parameters
    ----------
    answers : Answers
        Of the refit, p₁.
    base : ndarray of shape (n, C)
        Probabilities of the model that was there, p₀.
    features : Features
        All n images.
    labels : ndarray of shape (n,)
        Column of the class, −1 where there is no label.
    text : ClassText or None
        Of the classes.
    """
    known = np.flatnonzero(labels != UNLABELED)
    folds = np.arange(len(known)) % min(FOLDS, len(known))
    taught, held = features.select(known), np.zeros((len(known), len(answers.class_ids)), dtype=np.float32)
    for fold in range(folds.max() + 1 if len(known) > 1 else 0):
        others = np.where(folds == fold, UNLABELED, labels[known])
        held[folds == fold] = refit(taught, others, answers.class_ids, text).probabilities[folds == fold]
    truth = labels[known]
    weights = (1.0,) if len(known) < 2 else (0.0, 0.25, 0.5, 0.75, 1.0)
    losses = [-np.log(_mixed(held, base[known], w)[np.arange(len(truth)), truth] + 1e-9).mean() for w in weights]
    weight = weights[int(np.argmin(losses))]
    method = f"{answers.method} with the given model (weight {weight:g})"
    return replace(answers, method=method, probabilities=_mixed(answers.probabilities, base, weight), held_out=None)


def _mixed(P: np.ndarray, base: np.ndarray, weight: float) -> np.ndarray:
    logs = weight * np.log(base + 1e-6) + (1 - weight) * np.log(P + 1e-6)
    return softmax(logs).astype(np.float32)


def _method(n_labels: int, thorough: bool, seconds: float) -> VectorMethod:
    name = "zero_shot" if not n_labels else THOROUGH if thorough else AT_ONCE
    given: dict[str, Any] = {"seconds": seconds} if name == THOROUGH else {}
    method = method_class(name)(**given)
    assert isinstance(method, VectorMethod)
    if "random_state" in method.get_params():
        method.set_params(random_state=0)
    return method


def _title(method: VectorMethod) -> str:
    """Return the name of the method on the page."""
    ensemble = getattr(method, "diagnosis_", {}).get("ensemble")
    return f"{method.title}: {str(ensemble).removeprefix('1.00 ')}" if ensemble else method.title
