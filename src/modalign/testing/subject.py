"""A small few-shot problem with a modality gap, and a method on vectors to be checked on it."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from sklearn.base import clone

from modalign.core.features import ClassText
from modalign.methods.contract.vectors import VectorMethod


class FewShot(NamedTuple):
    """Training, validation and test rows with labels 0…C−1, and class text (C, d)."""

    X: np.ndarray
    y: np.ndarray
    Xv: np.ndarray
    yv: np.ndarray
    Xt: np.ndarray
    yt: np.ndarray
    text: np.ndarray


def few_shot_problem(
    seed: int = 0, shots: int = 4, d: int = 24, classes: int = 5, noise: float = 1.2, text_noise: float = 0.8
) -> FewShot:
    """Unit image vectors around class directions; texts are those directions, noisy and pushed aside by one offset."""
    rng = np.random.default_rng(seed)
    centers = rng.normal(size=(classes, d))

    def images(count: int) -> tuple[np.ndarray, np.ndarray]:
        y = np.arange(count * classes) % classes
        X = centers[y] + noise * rng.normal(size=(len(y), d))
        return (X / np.linalg.norm(X, axis=1, keepdims=True)).astype(np.float32), y

    train, validation, test = images(shots), images(10), images(40)
    text = centers + text_noise * rng.normal(size=centers.shape) + 2 * rng.normal(size=d)
    text /= np.linalg.norm(text, axis=1, keepdims=True)
    return FewShot(*train, *validation, *test, text.astype(np.float32))


def needs(method: VectorMethod, X: np.ndarray) -> dict[str, Any]:
    """Return arguments that ``fit`` of this method needs in addition to X, y and text."""
    return {"clip_features": X[:, : max(2, X.shape[1] // 2)]} if method.needs_clip_features else {}


class Subject:
    """A method to be checked by the laws.

    Parameters
    ----------
    method : VectorMethod
        Unfitted; not modified.
    tolerance : float
        Largest difference, relative to the largest score, of scores that are equal but for rounding. Solvers that stop
        at a tolerance of their own need a larger one.

    Attributes
    ----------
    name : str
        For messages.
    texts : tuple of bool
        Whether there is class text in the fits that each law makes: with and without, where the method can do without.
    data : FewShot
        The problem of :meth:`fitted`.
    """

    def __init__(self, method: VectorMethod, tolerance: float = 1e-4) -> None:
        self.method, self.tolerance = method, tolerance
        self.name = type(method).__name__
        self.texts = (True,) if method.needs_text else (True, False)
        self.data = few_shot_problem()
        self._fitted: dict[bool, VectorMethod] = {}

    def fit(
        self,
        data: FewShot,
        *,
        text: ClassText | None = None,
        with_text: bool = True,
        validated: bool = True,
        **settings: Any,
    ) -> VectorMethod:
        """A new method, fitted to ``data``, with another ``text`` if that is given."""
        method: VectorMethod = clone(self.method).set_params(**settings)
        own, validation = data.text if with_text else None, (data.Xv, data.yv) if validated else None
        return method.fit(
            data.X, data.y, text=own if text is None else text, validation=validation, **needs(method, data.X)
        )

    def fitted(self, with_text: bool = True) -> VectorMethod:
        """The method fitted to :attr:`data`, once for all laws; they may not change it."""
        if with_text not in self._fitted:
            self._fitted[with_text] = self.fit(self.data, with_text=with_text)
        return self._fitted[with_text]
