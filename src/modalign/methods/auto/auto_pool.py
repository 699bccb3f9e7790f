"""Candidates of the automatic choice with held-out predictions."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from modalign.core.errors import InputError, UnknownNameError, hyperparameter
from modalign.core.labels import UNLABELED
from modalign.core.registration import canonical_name
from modalign.linalg.inputs import single
from modalign.methods import is_vector_method, method_class, vector_methods
from modalign.methods.auto.auto_timing import Timing
from modalign.methods.auto.auto_trials import Trials
from modalign.methods.auto.ensemble import Ensemble, log_probabilities
from modalign.methods.contract.calibrating import without_calibration
from modalign.methods.contract.parameters import parameters
from modalign.methods.contract.selection import held_out, log_likelihood, share_correct
from modalign.methods.contract.sharing import clock
from modalign.methods.contract.vectors import Problem, VectorMethod

WITH_LABELS = (  # cheap and often useful methods first; TaskRes and CLIP-Adapter give no gain over these
    "anchored_gaussian", "gda", "tip_adapter", "linear_probe", "cmm", "clap", "lfa", "tip_adapter_f", "lp_plus_plus",
    "cross_modal_probe",
)  # fmt: skip
SETTINGS: dict[str, dict[str, Any]] = {
    "linear_probe": {"C": 10.0}
}  # methods whose own search costs more than its gain here


@dataclass
class Pool:
    """Candidates fitted to all images, and their held-out predictions.

    Attributes
    ----------
    truth : Tensor of shape (m,)
        Class indices of the held-out images.
    rows : Tensor or None
        The first of these, those of the folds, as indices of fitted images; None where they are validation images.
    growth : float
        Labeled images per class that the fitted candidates have for one of those that predicted.
    logits : dict of str to Tensor
        Name → (m, C).
    fitted : dict of str to VectorMethod
        Name → the candidate.
    table : list of dict
        A row per candidate, see :class:`~modalign.methods.auto.auto.Auto`.
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
        division: Trials,
        seed: int,
        deadline: float,
    ) -> Pool:
        """Fit and evaluate candidates one after the other until the deadline; zero-shot and the first always finish.

        They are evaluated on the validation images of the problem, if there are any, and in the trials of ``division``.
        A candidate that is not expected to end in time is not started, see
        :class:`~modalign.methods.auto.auto_timing.Timing`; one that is too slow is dropped between fits.
        """
        names = candidate_names(candidates, WITH_LABELS, with_text=problem.text is not None)
        validation = held_out(problem.validation)
        truth = problem.y[division.rows]
        if validation is None:
            pool = cls(truth, division.rows[: division.folded], division.growth)
        else:
            pool = cls(torch.cat([validation[1], truth]), None, 1.0)
        must = {"zero_shot", next(name for name in [*names, "zero_shot"] if name != "zero_shot" or len(names) == 1)}
        timing = Timing(deadline, problem.X.numel() * problem.n_classes, problem.text is not None)
        for name in names:
            started, limit = clock(), math.inf if name in must else deadline
            row = {"name": name, "accuracy": None, "log_loss": None, "weight": 0.0}
            if name in must or timing.has_time_for(name):
                model = fit_member(name, problem, seed)
                found = [] if validation is None else [member_scores(model, validation[0], problem.n_classes)]
                found += _judged(name, problem, division, seed, model.chosen(), limit, clock() - started)
                if sum(map(len, found)) == len(pool.truth):
                    pool.logits[name], pool.fitted[name] = torch.cat(found), model
                timing.took(name, clock() - started)
            pool.table.append(row | {"seconds": round(clock() - started, 2)})
        return pool

    def mark(self, ensemble: Ensemble) -> None:
        """Fill in the figures of the table."""
        for row in self.table:
            if (name := row["name"]) in self.logits:
                own = log_probabilities(self.logits[name], ensemble.temperatures[name])
                row |= {"accuracy": share_correct(own, self.truth), "log_loss": -log_likelihood(own, self.truth)}
                row["weight"] = round(ensemble.weights.get(name, 0.0), 3)


def fit_member(name: str, problem: Problem, seed: int, rows: Tensor | None = None, **settings: Any) -> VectorMethod:
    """A method of the pool, fitted to the given rows of the problem; to all, with its validation images, by default."""
    cls = method_class(name)
    assert issubclass(cls, VectorMethod)
    known = {p.name for p in parameters(cls)}
    wanted = {"random_state": seed, "logit_scale": problem.logit_scale} | SETTINGS.get(name, {}) | settings
    method = cls(**{key: value for key, value in wanted.items() if key in known})
    X, y = (problem.X, problem.y) if rows is None else (problem.X[rows], problem.y[rows])
    if cls.needs_labels:
        X, y = X[y != UNLABELED], y[y != UNLABELED]
    text = problem.text if method.takes_text else None
    with without_calibration():  # the ensemble has temperatures of its own
        return method.fit(X, y, text=text, validation=problem.validation if rows is None else None)


def member_scores(member: VectorMethod, X: Tensor, n_classes: int) -> Tensor:
    """(n, C) scores of a candidate; a class without training images and without text gets the lowest score."""
    return spread_scores(member._scores(single(X)), member, n_classes)


def spread_scores(scores: Tensor, member: VectorMethod, n_classes: int) -> Tensor:
    """(n, C) scores of all classes, from those of the classes that a candidate has."""
    if scores.shape[1] == n_classes:
        return scores
    table = scores.amin(dim=1, keepdim=True).repeat(1, n_classes)
    table[:, torch.as_tensor(member.classes_)] = scores
    return table


def candidate_names(
    candidates: tuple[str, ...] | list[str] | None, default: tuple[str, ...], *, with_text: bool
) -> list[str]:
    """The names of the candidates, with zero-shot where there is text; an unknown one is refused."""
    given = default if candidates is None else candidates
    if not given or not all(isinstance(name, str) for name in given):
        raise InputError(f"Expected {hyperparameter('candidates')} as names of methods, got {candidates!r:.80}.")
    names = list(dict.fromkeys(map(canonical_name, given)))
    for name in names:
        if not is_vector_method(name) or name == "auto":
            raise UnknownNameError("method on vectors", name, set(vector_methods()) - {"auto"})
    return ["zero_shot", *names] if with_text and "zero_shot" not in names else names


def _judged(
    name: str, problem: Problem, division: Trials, seed: int, chosen: dict[str, Any], deadline: float, took: float
) -> list[Tensor]:
    """Yield (h, C) logits of the held-out images of each trial.

    A fit is expected to take as long as the last one; the first as long as ``took``, the fit to all. Those that would
    end after the deadline are left out.
    """
    found: list[Tensor] = []
    for learned, held in division.parts:
        started = clock()
        if started + took > deadline:
            break
        model = fit_member(name, problem, seed, learned, **chosen)
        found.append(member_scores(model, problem.X[held], problem.n_classes))
        took = clock() - started
    return found


__all__ = ["WITH_LABELS", "Pool", "candidate_names", "fit_member", "member_scores", "spread_scores"]
