"""Auto: the best classifier that images, labels, texts and time allow, chosen by cross-validation."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from modalign.errors import UnknownNameError
from modalign.features import UNLABELLED
from modalign.linalg.prototypes import text_prototypes
from modalign.linalg.similarity import unit
from modalign.methods import METHODS, method_class
from modalign.methods.base import Problem, VectorMethod
from modalign.methods.ensemble import Ensemble, greedy_ensemble, log_probabilities
from modalign.methods.parameters import Positive, Seed, parameters
from modalign.methods.selection import accuracy, folds, held_out, log_likelihood

WITH_LABELS = ("anchored_gaussian", "tip_adapter", "lfa", "cmm", "tip_adapter_f", "linear_probe", "cross_modal_probe")
SETTINGS: dict[str, dict[str, Any]] = {"linear_probe": {"C": 10.0}}  # whose own search costs more than it brings here
REPRODUCED = 0.4  # share of changed answers that two halves must have in common
UNTEMPERED = 10.0  # temperature of a 512-dimensional Gaussian, where none can be fitted
SMALLEST = 2  # labeled images of most classes, below which nothing can be held out


@dataclass(kw_only=True, eq=False, repr=False)
class Auto(VectorMethod):
    r"""Several methods, judged on images that they have not seen, and the ensemble of the best of them.

    With labels, every candidate is fitted to four fifths of the labeled images and predicts the rest, five times.
    These out-of-fold predictions are calibrated (one temperature per candidate), and a weighted mean of
    log-probabilities is built greedily, one candidate at a time, as long as the log-loss falls. With text, zero-shot is
    among the candidates, so that not learning can win. The members are then fitted to all labeled images. Nothing is
    held out in the end.

    Unlabeled images (−1) are given to the candidates that can use them.

    Without labels, the anchored Gaussian is fitted to the images and kept if what it changes is reproducible: fitted to
    two halves of the images, both halves must agree on most of the answers that differ from zero-shot. Otherwise
    zero-shot is kept.

    The probabilities are calibrated: the temperature is that of the out-of-fold predictions, sharpened for the labeled
    images that the final models have beyond those of a fold (see :func:`~modalign.methods.ensemble.greedy_ensemble`).

    Cost: five fits of each candidate and one of each member. Candidates are tried in a fixed order until ``seconds``
    are used; what was not tried is named in ``diagnosis_``.

    Parameters
    ----------
    candidates : names of methods on vectors; None is a list that suits what is given. Zero-shot is always added where
        there is text.
    seconds : time for choosing, in seconds of wall time; the candidate that exceeds it is dropped. The first candidate
        is always finished.
    random_state : draws the folds and seeds the candidates.

    Attributes
    ----------
    members_ : the fitted methods of the ensemble.
    weights_, temperatures_ : (m,) their weights, and what their scores are divided by.
    sharpness_ : factor of the mean log-probability.
    table_ : per candidate its ``name``, ``accuracy`` and ``log_loss`` on images it has not seen, ``weight`` and
        ``seconds``; None where it was not finished.
    transduction_ : (n,) labels of the fitted images: given where there was one, found where there was none.
    prototypes_ : (C, d) unit class texts, or class means without text.
    diagnosis_ : the ensemble in words, accuracies and log-losses out of fold, beside zero-shot; without labels the
        share of changed answers that is ``reproduced``.

    References
    ----------
    Caruana et al., Ensemble selection from libraries of models, ICML 2004.
    """

    title = "Automatic choice"
    paper = "own method: ensemble selection (Caruana et al., ICML 2004) over the methods of this library"
    needs_labels = False

    candidates: tuple[str, ...] | list[str] | None = None
    seconds: Positive = 20.0
    random_state: Seed = None

    def _fit(self, problem: Problem) -> None:
        started, known = time.monotonic(), problem.y != UNLABELLED
        seed = int(np.random.default_rng(self.random_state).integers(2**31))
        self.prototypes_ = problem.prototypes()
        self.table_, self.diagnosis_ = [], {}
        sizes = torch.bincount(problem.y[known], minlength=problem.n_classes)
        validation = held_out(problem.validation)
        if validation is not None or int(sizes.median()) >= SMALLEST:
            ensemble = self._choose(problem, validation, seed, started + self.seconds)
        else:
            ensemble = self._unchosen(problem, seed)
        self.members_ = [_fit_member(name, problem, seed) for name in ensemble.weights]
        self.weights_ = np.array(list(ensemble.weights.values()))
        self.temperatures_ = np.array([ensemble.temperatures[name] for name in ensemble.weights])
        self.sharpness_ = ensemble.sharpness
        shares = sorted(ensemble.weights.items(), key=lambda item: -item[1])
        self.diagnosis_["ensemble"] = " + ".join(f"{weight:.2f} {name}" for name, weight in shares)
        found = self._scores(problem.X).argmax(dim=1).cpu()
        alone = self.members_[0] if len(self.members_) == 1 else None
        if hasattr(alone, "transduction_"):  # what was found together with the other images is better
            found = torch.as_tensor(np.asarray(alone.transduction_))
        self.transduction_ = self.classes_[torch.where(known.cpu(), problem.y.cpu(), found).numpy()]

    def _scores(self, X: Tensor) -> Tensor:
        parts = [
            weight * log_probabilities(member._scores(X), temperature)
            for member, weight, temperature in zip(self.members_, self.weights_, self.temperatures_, strict=True)
        ]
        return (self.sharpness_ * torch.stack(parts).sum(dim=0)).float()

    def _choose(
        self, problem: Problem, validation: tuple[Tensor, Tensor] | None, seed: int, deadline: float
    ) -> Ensemble:
        """Predictions of the candidates for images they have not seen, and the ensemble of them."""
        names = list(self.candidates or WITH_LABELS)
        for name in names:
            if name not in METHODS:
                raise UnknownNameError("method on vectors", name, METHODS)
        if problem.text is not None and "zero_shot" not in names:
            names.insert(0, "zero_shot")
        if validation is None:
            fold = folds(problem.y, random_state=seed)
            judged, growth = _judged(problem.y, fold)
            truth = problem.y[judged]
        else:
            truth, growth = validation[1], 1.0
        logits: dict[str, Tensor] = {}
        for name in names:
            started = time.monotonic()
            found = None
            if started < deadline or not logits.keys() - {"zero_shot"}:
                limit = deadline if logits.keys() - {"zero_shot"} else float("inf")
                if validation is None:
                    found = _out_of_fold(name, problem, fold, seed, limit)
                else:
                    found = _fit_member(name, problem, seed)._scores(validation[0])
            row = {"name": name, "accuracy": None, "log_loss": None, "weight": 0.0}
            if found is not None:
                logits[name] = found if validation is not None else found[judged]
            self.table_.append(row | {"seconds": round(time.monotonic() - started, 2)})
        ensemble = greedy_ensemble(logits, truth, growth=growth)
        for row in self.table_:
            if row["name"] in logits:
                own = log_probabilities(logits[row["name"]], ensemble.temperatures[row["name"]])
                row |= {"accuracy": accuracy(own, truth), "log_loss": -log_likelihood(own, truth)}
                row["weight"] = round(ensemble.weights.get(row["name"], 0.0), 3)
        combined = ensemble.combine(logits)
        self.diagnosis_ |= {
            "chosen_on": "cross-validation" if validation is None else "validation",
            "images": len(truth),
            "accuracy": accuracy(combined, truth),
            "log_loss": -log_likelihood(combined / ensemble.sharpness, truth),
            "not_tried": ", ".join(row["name"] for row in self.table_ if row["name"] not in logits) or "none",
        }
        if "zero_shot" in logits:
            self.diagnosis_["accuracy_zero_shot"] = accuracy(logits["zero_shot"], truth)
        return ensemble

    def _unchosen(self, problem: Problem, seed: int) -> Ensemble:
        """One member, where there are too few labels to choose by: the anchored Gaussian, or zero-shot."""
        name = "anchored_gaussian"
        self.diagnosis_["chosen_on"] = "nothing"
        if bool((problem.y == UNLABELLED).all()):
            share = _reproduced(problem, seed)
            name = name if share > REPRODUCED else "zero_shot"
            self.diagnosis_ |= {"chosen_on": "reproducibility", "reproduced": share}
        temperature = 1.0 if problem.text is not None else UNTEMPERED
        return Ensemble({name: 1.0}, {name: temperature}, 1.0)


def _fit_member(name: str, problem: Problem, seed: int, rows: Tensor | None = None) -> VectorMethod:
    """A method of the pool, fitted to the given rows of the problem."""
    cls = method_class(name)
    known = {p.name for p in parameters(cls)}
    settings = {"random_state": seed, "logit_scale": problem.logit_scale} | SETTINGS.get(name, {})
    method = cls(**{key: value for key, value in settings.items() if key in known})
    X, y = (problem.X, problem.y) if rows is None else (problem.X[rows], problem.y[rows])
    return method.fit(
        X, y, text=problem.text if method.takes_text else None, validation=problem.validation if rows is None else None
    )


def _out_of_fold(name: str, problem: Problem, fold: Tensor, seed: int, deadline: float) -> Tensor | None:
    """(n, C) logits of the labeled images by fits that have not seen them; None where time ran out."""
    logits = problem.X.new_zeros(len(fold), problem.n_classes)
    for k in range(int(fold.max()) + 1):
        if time.monotonic() > deadline:
            return None
        model = _fit_member(name, problem, seed, fold != k)
        scores = model._scores(problem.X[fold == k])
        table = scores.amin(dim=1, keepdim=True).repeat(1, problem.n_classes)  # an absent class is the least likely
        table[:, torch.as_tensor(model.classes_)] = scores
        logits[fold == k] = table
    return logits


def _judged(y: Tensor, fold: Tensor) -> tuple[Tensor, float]:
    """Which images can be judged, their class being in the other folds; how many more labels per class all have."""
    sizes = torch.bincount(y[fold >= 0], minlength=int(y.max()) + 1).double()
    held = [torch.bincount(y[fold == k], minlength=len(sizes)) for k in range(int(fold.max()) + 1)]
    inside = sizes - torch.stack(held)
    known = fold >= 0
    own = torch.zeros(len(y), dtype=torch.double, device=y.device)
    own[known] = inside[fold[known], y[known]]
    judged = own > 0
    return judged, float(2 ** (sizes[y[judged]] / own[judged]).log2().mean())


def _reproduced(problem: Problem, seed: int) -> float:
    """Of the answers that two fits, each to one half of the images, change from zero-shot, the share they share."""
    order = torch.from_numpy(np.random.default_rng(seed).permutation(len(problem.X)))
    zero_shot = (unit(problem.X) @ text_prototypes(problem.text).T).argmax(dim=1)
    half = [
        _fit_member("anchored_gaussian", problem, seed, part)._scores(problem.X).argmax(dim=1)
        for part in order.tensor_split(2)
    ]
    changed = (half[0] != zero_shot) | (half[1] != zero_shot)
    return float((half[0] == half[1])[changed].double().mean()) if bool(changed.any()) else 1.0
