"""The candidates of the automatic choice, judged on images that they have not seen."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from modalign.errors import UnknownNameError
from modalign.features import UNLABELLED
from modalign.linalg.similarity import groups_of_copies
from modalign.methods import METHODS, method_class
from modalign.methods.base import Problem, VectorMethod
from modalign.methods.ensemble import Ensemble, log_probabilities
from modalign.methods.parameters import parameters
from modalign.methods.selection import accuracy, folds, held_out, log_likelihood

WITH_LABELS = (  # by their cost with 16 images of each of 100 classes; TaskRes and CLIP-Adapter add nothing to these
    "anchored_gaussian", "gda", "tip_adapter", "linear_probe", "clap", "tip_adapter_f", "lp_plus_plus", "lfa", "cmm",
    "cross_modal_probe",
)  # fmt: skip
MOST_COMPARED = 10_000  # labeled images whose copies are looked for, pair by pair
SETTINGS: dict[str, dict[str, Any]] = {"linear_probe": {"C": 10.0}}  # whose own search costs more than it brings here


@dataclass
class Pool:
    """Candidates that were fitted to all images, and their predictions of images that they have not seen.

    Attributes
    ----------
    truth : (m,) class indices of the judged images.
    rows : (m,) the judged images among the fitted ones; None where they are validation images.
    growth : labeled images per class that the fitted candidates have for one of those that predicted.
    logits : name → (m, C).
    fitted : name → the candidate.
    table : a row per candidate, see :class:`~modalign.methods.auto.Auto`.
    """

    truth: Tensor
    rows: Tensor | None
    growth: float
    logits: dict[str, Tensor] = field(default_factory=dict)
    fitted: dict[str, VectorMethod] = field(default_factory=dict)
    table: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def judge(
        cls,
        problem: Problem,
        candidates: tuple[str, ...] | list[str] | None,
        groups: Tensor | None,
        seed: int,
        deadline: float,
    ) -> Pool:
        """Fit and judge candidates one after the other until the deadline; zero-shot and the first always finish.

        Candidates stand in the order of their cost. So one that had to do with less time than the last one took is not
        started. ``groups`` of images, see :func:`groups_of_views`, are held out together.
        """
        names = candidate_names(candidates, WITH_LABELS, with_text=problem.text is not None)
        validation, fold = held_out(problem.validation), None
        if validation is None:
            fold = folds(problem.y, groups=groups, random_state=seed)
            rows, growth = _judged(problem.y, fold)
            pool = cls(problem.y[rows], rows, growth)
        else:
            pool = cls(validation[1], None, 1.0)
        must = {"zero_shot", next(name for name in [*names, "zero_shot"] if name != "zero_shot" or len(names) == 1)}
        took = 0.0
        for name in names:
            started, limit = time.monotonic(), math.inf if name in must else deadline
            row = {"name": name, "accuracy": None, "log_loss": None, "weight": 0.0}
            if started + took < limit:
                model = fit_member(name, problem, seed)
                found = model._scores(validation[0]) if fold is None else None
                if fold is not None:
                    found = _out_of_fold(name, problem, fold, seed, model.chosen(), limit)
                if found is not None:
                    pool.logits[name] = found if pool.rows is None else found[pool.rows]
                    pool.fitted[name] = model
                took = time.monotonic() - started
            pool.table.append(row | {"seconds": round(time.monotonic() - started, 2)})
        return pool

    def mark(self, ensemble: Ensemble) -> None:
        """Fill in the figures of the table."""
        for row in self.table:
            if (name := row["name"]) in self.logits:
                own = log_probabilities(self.logits[name], ensemble.temperatures[name])
                row |= {"accuracy": accuracy(own, self.truth), "log_loss": -log_likelihood(own, self.truth)}
                row["weight"] = round(ensemble.weights.get(name, 0.0), 3)


def fit_member(name: str, problem: Problem, seed: int, rows: Tensor | None = None, **settings: Any) -> VectorMethod:
    """A method of the pool, fitted to the given rows of the problem; to all, with its validation images, by default."""
    cls = method_class(name)
    known = {p.name for p in parameters(cls)}
    wanted = {"random_state": seed, "logit_scale": problem.logit_scale} | SETTINGS.get(name, {}) | settings
    method = cls(**{key: value for key, value in wanted.items() if key in known})
    X, y = (problem.X, problem.y) if rows is None else (problem.X[rows], problem.y[rows])
    text = problem.text if method.takes_text else None
    return method.fit(X, y, text=text, validation=problem.validation if rows is None else None)


def groups_of_views(problem: Problem) -> Tensor | None:
    """(n,) group numbers of labeled images: copies and views of an image share one.

    None where no image has a label, or too many have one to compare all pairs.
    """
    known = (problem.y != UNLABELLED).nonzero().flatten()
    if not 0 < len(known) <= MOST_COMPARED:
        return None
    groups = torch.arange(len(problem.X))
    groups[known.cpu()] = groups_of_copies(problem.X[known])
    if problem.ids is not None:  # views of one image share a name
        first: dict[str, int] = {}
        groups = groups[[first.setdefault(name, i) for i, name in enumerate(problem.ids)]]
    return groups


def images_per_class(problem: Problem, groups: Tensor | None) -> Tensor:
    """(C,) labeled images of each class, views of one image counted once."""
    known = problem.y != UNLABELLED
    labels = problem.y[known].cpu()
    if groups is not None:
        labels = labels[torch.from_numpy(np.unique(groups[known.cpu()].numpy(), return_index=True)[1])]
    return torch.bincount(labels, minlength=problem.n_classes)


def candidate_names(
    candidates: tuple[str, ...] | list[str] | None, default: tuple[str, ...], *, with_text: bool
) -> list[str]:
    """The names of the candidates, with zero-shot where there is text; an unknown one is refused."""
    names = list(default if candidates is None else dict.fromkeys(candidates))
    for name in names:
        if name not in METHODS or name == "auto":
            raise UnknownNameError("method on vectors", name, METHODS.keys() - {"auto"})
    return ["zero_shot", *names] if with_text and "zero_shot" not in names else names


def _out_of_fold(
    name: str, problem: Problem, fold: Tensor, seed: int, chosen: dict[str, Any], deadline: float
) -> Tensor | None:
    """(n, C) logits of the labeled images by fits that have not seen them; None where time ran out."""
    logits = problem.X.new_zeros(len(fold), problem.n_classes)
    for k in range(int(fold.max()) + 1):
        if time.monotonic() > deadline:
            return None
        model = fit_member(name, problem, seed, fold != k, **chosen)
        scores = model._scores(problem.X[fold == k]).to(logits.dtype)
        table = scores.amin(dim=1, keepdim=True).repeat(1, problem.n_classes)  # an absent class is the least likely
        table[:, torch.as_tensor(model.classes_)] = scores
        logits[fold == k] = table
    return logits


def _judged(y: Tensor, fold: Tensor) -> tuple[Tensor, float]:
    """The images that can be judged, their class being in the other folds, and the growth of labels (see Pool)."""
    known = fold >= 0
    sizes = torch.bincount(y[known], minlength=int(y.max()) + 1).double()
    held = [torch.bincount(y[fold == k], minlength=len(sizes)) for k in range(int(fold.max()) + 1)]
    inside = sizes - torch.stack(held)
    own = torch.zeros(len(y), dtype=torch.double, device=y.device)
    own[known] = inside[fold[known], y[known]]
    judged = own > 0
    growth = (sizes[y[judged]] / own[judged]).log2().mean().exp2()
    return judged.nonzero().flatten(), float(growth)


__all__ = ["WITH_LABELS", "Pool", "candidate_names", "fit_member", "groups_of_views", "images_per_class"]
