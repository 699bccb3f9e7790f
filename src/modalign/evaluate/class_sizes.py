"""Class sizes estimated without labels, and evidence that they differ."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from modalign.core.features import UNLABELED
from modalign.data.names import quoted
from modalign.linalg.divergence import divergence_from_uniform
from modalign.methods.contract.vectors import VectorMethod
from modalign.methods.gpua.gpua_anchored import NO_IMAGE

SHOWN_SIZES = 20
RARE = 0.1  # a class has almost no image if its share of the predictions is below this times 1/C


def estimated_sizes(method: VectorMethod, n_classes: int) -> np.ndarray | None:
    """(C,) images of each class: ``class_sizes_``, else sums of the answers for the fitted images; None without both.

    Parameters
    ----------
    method : VectorMethod
        Fitted, without labels.
    n_classes : int
        C.
    """
    sizes, answers = getattr(method, "class_sizes_", None), getattr(method, "fitted_answers_", None)
    if sizes is not None:
        return np.asarray(torch.as_tensor(sizes).cpu(), dtype=np.float64)
    if answers is None:
        return None
    weights = answers["probabilities"].double().flatten()
    return torch.bincount(answers["classes"].flatten(), weights=weights, minlength=n_classes).numpy()


def evidence(sizes: np.ndarray) -> float:
    r"""The logarithm of the Bayes factor of class sizes of any kind against equal ones, in nats per image.

    Under the first, all class shares are equally likely beforehand; under the second, they are 1/C. With n images,

    .. math::
        \tfrac1n \Big( \log\Gamma(C) + \sum_k \log\Gamma(n_k + 1) - \log\Gamma(n + C) + n \log C \Big)

    It is above 0 if the sizes are evidence of different classes, and slightly below 0 if they are equal or there are
    few images.

    Parameters
    ----------
    sizes : ndarray of shape (C,)
        Images of each class, which need not be whole numbers.
    """
    n, C = float(np.sum(sizes)), len(sizes)
    fitting = math.fsum(math.lgamma(size + 1) for size in sizes.tolist())
    return (math.lgamma(C) + fitting - math.lgamma(n + C)) / max(n, 1e-12) + math.log(C) if n else 0.0


def with_class_sizes(
    outcome: dict[str, Any], assigned: np.ndarray, class_names: Sequence[str], estimated: np.ndarray | None = None
) -> dict[str, Any]:
    """The outcome with ``class_sizes``, class name -> number of images, and a note on classes with almost none.

    Parameters
    ----------
    outcome : dict
        Of a method that learns without labels.
    assigned : ndarray
        Class index of every image, its pseudo-label or the answer to it; -1 for none.
    class_names : sequence of str
        C names.
    estimated : ndarray or None, default=None
        Estimated images of each class, shape (C,). The outcome then also has ``estimate``: ``sizes``, ``absent``
        classes, ``divergence`` (KL from equal sizes, in nats) and ``evidence``, see :func:`evidence`.
    """
    sizes = np.bincount(assigned[assigned != UNLABELED], minlength=len(class_names))
    found = {"class_sizes": dict(zip(class_names, sizes.tolist(), strict=True))}
    if estimated is not None:
        named = zip(class_names, np.round(estimated, 1).tolist(), strict=True)
        found["estimate"] = {
            "sizes": dict(named),
            "absent": [name for name, size in zip(class_names, estimated, strict=True) if size < NO_IMAGE],
            "divergence": float(divergence_from_uniform(torch.from_numpy(estimated))),
            "evidence": evidence(estimated),
        }
    return outcome | found | {"notes": [*outcome["notes"], *_about_sizes(sizes, class_names)]}


def size_lines(outcome: dict[str, Any]) -> list[str]:
    """Return sentences about the class sizes of an outcome; empty without class sizes."""
    if "class_sizes" not in outcome:
        return []
    estimate = outcome.get("estimate")
    if estimate is None:
        return [f"images assigned to each class: {_listed(outcome['class_sizes'])}"]
    lines = [f"estimated images of each class: {_listed(estimate['sizes'])}"]
    if estimate["absent"]:
        lines.append(f"classes that seem to have no image: {quoted(estimate['absent'], SHOWN_SIZES)}")
    lines.append("class sizes differ" if estimate["evidence"] > 0 else "class sizes may be equal")
    return lines


def _listed(sizes: dict[str, float]) -> str:
    shown = ", ".join(f"{name} {size:.0f}" for name, size in list(sizes.items())[:SHOWN_SIZES])
    return shown + (f" and {len(sizes) - SHOWN_SIZES} more" if len(sizes) > SHOWN_SIZES else "")


def _about_sizes(sizes: np.ndarray, class_names: Sequence[str]) -> list[str]:
    """A note on classes that almost no image is assigned to."""
    rare = {name: str(size) for name, size in zip(class_names, sizes, strict=True) if size < RARE * sizes.mean()}
    if not rare:
        return []
    subject, them = ("1 class has", "it") if len(rare) == 1 else (f"{len(rare)} classes have", "them")
    listed = quoted([*rare], details=[*rare.values()])
    return [
        f"{subject} almost no image: {listed}. If there are images of {them}, the method has collapsed "
        f"or the class text does not describe {them}"
    ]
