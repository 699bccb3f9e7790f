"""Small few-shot problems with a modality gap, and settings that make every method quick; shared by these tests."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from modalign.methods import method_class
from modalign.methods.contract.vectors import VectorMethod

QUICK = {  # by parameter, so that a new method with such a parameter is quick as well
    "steps": 100,
    "C": 10.0,
    "candidates": ("anchored_gaussian", "tip_adapter"),
}


class FewShot(NamedTuple):
    """Training, validation and test rows with labels 0…C−1, and class text (C, d)."""

    X: np.ndarray
    y: np.ndarray
    Xv: np.ndarray
    yv: np.ndarray
    Xt: np.ndarray
    yt: np.ndarray
    text: np.ndarray


def few_shot(
    seed: int = 0, shots: int = 4, d: int = 24, classes: int = 5, noise: float = 1.2, text_noise: float = 0.8
) -> FewShot:
    """Unit image vectors around class directions; texts are those directions, noisy and pushed aside by one offset."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(classes, d))

    def images(count: int) -> tuple[np.ndarray, np.ndarray]:
        y = np.arange(count * classes) % classes
        X = centres[y] + noise * rng.normal(size=(len(y), d))
        return (X / np.linalg.norm(X, axis=1, keepdims=True)).astype(np.float32), y

    train, validation, test = images(shots), images(10), images(40)
    text = centres + text_noise * rng.normal(size=centres.shape) + 2 * rng.normal(size=d)
    text /= np.linalg.norm(text, axis=1, keepdims=True)
    return FewShot(*train, *validation, *test, text.astype(np.float32))


def quick(name: str, **settings: object) -> VectorMethod:
    """The method of that name with a fixed seed, made quick."""
    method = method_class(name)()
    known = method.get_params()
    method.set_params(**{k: v for k, v in {"random_state": 0, **QUICK}.items() if k in known})
    return method.set_params(**settings)


def needs(method: VectorMethod, X: np.ndarray) -> dict[str, np.ndarray]:
    """What ``fit`` of this method cannot do without, beside X, y and text."""
    return {"anchor": X[:, : max(2, X.shape[1] // 2)]} if method.needs_anchor else {}
