"""Auto: ensemble of methods, selected by cross-validation within a time limit."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from modalign.core.features import UNLABELED
from modalign.linalg.inputs import single
from modalign.methods.auto.auto_one_shot import OneShotMixture
from modalign.methods.auto.auto_pool import Pool, member_scores, spread_scores
from modalign.methods.auto.auto_trials import groups_of_views, trials
from modalign.methods.auto.auto_unlabeled import Agreement, agreed
from modalign.methods.auto.ensemble import greedy_ensemble, log_probabilities
from modalign.methods.contract.parameters import Positive, Seed
from modalign.methods.contract.selection import log_likelihood, share_correct
from modalign.methods.contract.sharing import clock
from modalign.methods.contract.transduction import keep_answers
from modalign.methods.contract.vectors import SCORED, Problem, VectorMethod

SECONDS = 20.0  # for the default candidates


@dataclass(kw_only=True, eq=False, repr=False)
class Auto(VectorMethod):
    r"""Ensemble of the methods that are best on held-out predictions.

    With labels, each candidate predicts the labeled images out of fold (5-fold cross-validation, or `validation`), and
    a weighted mean of calibrated log-probabilities is built greedily as long as the log-loss falls. With text,
    zero-shot is among the candidates. The members are fitted to all labeled images. Without labels, an image gets the
    answer on which the anchored Gaussian and GPUA agree, and that of zero-shot where they differ.

    Cost: six fits of each candidate, within `seconds`.

    Parameters
    ----------
    candidates : sequence of str or None, default=None
        Names of methods on vectors; None is a list that suits the data. Zero-shot is added if there is text.
    seconds : float or None, default=None
        Wall time for choosing. A candidate that exceeds it is dropped, and none is started with less time left than
        the last one took; the first is always finished. None is 20 for the default candidates, else no limit.
    random_state : int or None, default=None
        Seed of the folds and of the candidates.

    Attributes
    ----------
    candidates_ : list of str
        Methods that were evaluated, in order.
    members_ : list of VectorMethod
        Fitted methods of the ensemble.
    agreement_ : bool
        Whether the last member, zero-shot, decides where the others differ; without labels.
    weights_, temperatures_ : Tensor of shape (n_members,)
        Weights of the members, and divisors of their scores.
    sharpness_ : float
        Factor of the mean log-probability.
    table_ : list of dict
        Per candidate ``name``, ``accuracy`` and ``log_loss`` on held-out images, ``weight`` and ``seconds``; None if
        it was not finished.
    transduction_ : ndarray of shape (n,)
        Class of each fitted image: its label, or the prediction.
    class_sizes_ : Tensor of shape (C,)
        Estimated number of images per class; without labels.
    prototypes_ : Tensor of shape (C, d)
        Unit class texts, or class means without text.
    diagnosis_ : dict
        The ensemble as text, out-of-fold accuracies and log-losses of it and of zero-shot; without labels the shares of
        images on which the candidates ``agree`` and whose answer is ``changed`` from zero-shot.

    References
    ----------
    .. [1] Caruana et al., "Ensemble selection from libraries of models", ICML 2004.

    Examples
    --------
    >>> import modalign as ma
    >>> from modalign.testing import few_shot_problem
    >>> X, y, Xv, yv, Xt, yt, T = few_shot_problem()
    >>> auto = ma.Auto(candidates=["gda", "linear_probe"], random_state=0).fit(X, y, text=T)
    >>> [row["name"] for row in auto.table_]
    ['zero_shot', 'gda', 'linear_probe']
    """

    title = "Automatic choice"
    paper = "own method: ensemble selection (Caruana et al., ICML 2004) over the methods of this library"
    needs_labels = False
    streams = True
    cross_validates = True
    judges_itself = True
    choices: ClassVar[tuple[str, ...]] = ("candidates",)

    candidates: tuple[str, ...] | list[str] | None = None
    seconds: Positive | None = None
    random_state: Seed = None

    def out_of_fold(self) -> tuple[np.ndarray, np.ndarray] | None:
        """Return calibrated out-of-fold predictions of labeled images by the ensembles of the last ``fit``.

        Returns
        -------
        tuple of (ndarray, ndarray) or None
            (m,) rows of the fitted images and their (m, C) logits; None where nothing was held out, and after loading.
        """
        return getattr(self, "_judged", None)

    def _fit(self, problem: Problem) -> None:
        started, known, seed = clock(), problem.y != UNLABELED, self.random_state_
        self.prototypes_ = problem.prototypes()
        self.table_: list[dict[str, Any]] = []
        self.diagnosis_, self._judged, self.agreement_ = {}, None, False
        self.__dict__.pop("class_sizes_", None)
        drawn = int(
            np.random.default_rng(seed).integers(2**31)
        )  # candidates also divide images, with the unmodified seed
        division = trials(problem, groups_of_views(problem), drawn)
        seconds = self.seconds or (SECONDS if self.candidates is None else math.inf)
        if division is not None:
            self._choose(problem, Pool.judge(problem, self.candidates, division, seed, started + seconds))
        elif bool(known.any()):
            self._mix(problem, OneShotMixture.fit(problem, self.candidates, seed, started + seconds))
        else:
            self._agree(problem, Agreement.fit(problem, self.candidates, seed, seconds))
        for member in self.members_:
            member.__dict__.pop("fitted_answers_", None)
        if not self.agreement_:
            found = _best(self, problem.X)
            alone = self.members_[0] if len(self.members_) == 1 else None
            if alone is not None and hasattr(alone, "transduction_"):  # transductive predictions are better
                found = torch.as_tensor(np.asarray(alone.transduction_))
            self.transduction_ = self.classes_[torch.where(known.cpu(), problem.y.cpu(), found).numpy()]

    def _scores(self, X: Tensor) -> Tensor:
        return self._combined([member_scores(member, X, len(self.classes_)) for member in self.members_], X.dtype)

    def head(self) -> Callable[[Tensor], Tensor]:
        heads = [(member, member.head()) for member in self.members_]
        C = len(self.classes_)
        return lambda X: self._combined([spread_scores(own(X), member, C) for member, own in heads], X.dtype)

    def _combined(self, scores: Sequence[Tensor], dtype: torch.dtype) -> Tensor:
        """(n, C) log-probabilities of the ensemble, of the scores of its members."""
        parts = [log_probabilities(found, t) for found, t in zip(scores, self.temperatures_, strict=True)]
        if getattr(self, "agreement_", False):  # absent in the first version of saved models
            return agreed(parts).to(dtype)
        weighted = (weight * part for weight, part in zip(self.weights_, parts, strict=True))
        return (self.sharpness_ * torch.stack([*weighted]).sum(dim=0)).to(dtype)

    def _choose(self, problem: Problem, pool: Pool) -> None:
        """Return the ensemble with the lowest log-loss on the held-out images."""
        ensemble = greedy_ensemble(pool.logits, pool.truth, growth=pool.growth)
        pool.mark(ensemble)
        combined = ensemble.combine(pool.logits)
        self._set_members(pool.fitted, ensemble.weights, ensemble.temperatures, ensemble.final_sharpness)
        self.table_, self.candidates_ = pool.table, list(pool.logits)
        if pool.rows is not None:
            self._judged = pool.rows.cpu().numpy(), combined[: len(pool.rows)].cpu().numpy()
        self.diagnosis_ |= {
            "chosen_on": "validation" if pool.rows is None else "cross-validation",
            "images": len(pool.truth),
            "accuracy": share_correct(combined, pool.truth),
            "log_loss": -log_likelihood(combined, pool.truth),
            "not_tried": ", ".join(row["name"] for row in pool.table if row["name"] not in pool.logits) or "none",
        }
        if "zero_shot" in pool.logits:
            self.diagnosis_["accuracy_zero_shot"] = share_correct(pool.logits["zero_shot"], pool.truth)

    def _mix(self, problem: Problem, found: OneShotMixture) -> None:
        """Combine candidates with fixed weights, if there are too few labels for a selection."""
        self.table_, self.candidates_ = found.table, list(found.fitted)
        self.diagnosis_ |= {
            "chosen_on": "nothing",
            "not_tried": ", ".join(row["name"] for row in found.table if row["name"] not in found.fitted) or "none",
        }
        self._set_members(found.fitted, found.weights, found.temperatures, 1 / found.temperature)

    def _agree(self, problem: Problem, found: Agreement) -> None:
        """Combine all candidates; zero-shot predicts the images on which the others differ."""
        others = [name for name in found.fitted if name != "zero_shot"]
        weights = {name: 1 / len(others) for name in others} | {"zero_shot": 0.0 if others else 1.0}
        for row in found.table:
            row["weight"] = round(weights.get(row["name"], 0.0), 3)
        answers, share = found.answers(problem.X)
        self._set_members(found.fitted, weights, dict.fromkeys(weights, 1.0), 1.0)
        self.agreement_, self.table_, self.candidates_ = True, found.table, list(found.fitted)
        self.fitted_answers_ = keep_answers(problem.X, answers)
        self.transduction_ = self.classes_[answers.classes[:, 0].cpu().numpy()]
        sizes = [member.class_sizes_ for member in self.members_ if hasattr(member, "class_sizes_")]
        if sizes:
            self.class_sizes_ = sizes[0]
        before = _best(found.fitted["zero_shot"], problem.X)
        self.diagnosis_ |= {
            "chosen_on": "agreement",
            "agree": share,
            "changed": (answers.classes[:, 0].cpu() != before).double().mean().item(),
            "not_tried": ", ".join(row["name"] for row in found.table if row["name"] not in found.fitted) or "none",
        }
        if others:
            self.diagnosis_["ensemble"] = f"answers on which {' and '.join(others)} agree, else zero_shot"

    def _set_members(
        self,
        fitted: dict[str, VectorMethod],
        weights: dict[str, float],
        temperatures: dict[str, float],
        sharpness: float,
    ) -> None:
        names = sorted(weights, key=lambda name: -weights[name])
        self.members_ = [fitted[name] for name in names]
        self.weights_ = np.array([weights[name] for name in names])
        self.temperatures_ = np.array([temperatures[name] for name in names])
        self.sharpness_ = sharpness
        self.diagnosis_["ensemble"] = " + ".join(f"{weights[name]:.2f} {name}" for name in names)


def _best(method: VectorMethod, X: Tensor) -> Tensor:
    """(n,) class with the highest score of each image; X may be a memory map and is read in blocks."""
    return torch.cat([method._scores(single(rows)).argmax(dim=1).cpu() for rows in X.split(SCORED)])
