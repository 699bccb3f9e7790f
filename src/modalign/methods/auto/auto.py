"""Auto: the best classifier that images, labels, texts and time allow, chosen by cross-validation."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from modalign.core.features import UNLABELLED
from modalign.methods.auto.auto_pool import Pool, member_scores
from modalign.methods.auto.auto_trials import groups_of_views, trials
from modalign.methods.auto.auto_unjudged import Unjudged
from modalign.methods.auto.auto_unlabeled import Agreement, agreed
from modalign.methods.auto.ensemble import greedy_ensemble, log_probabilities
from modalign.methods.contract.parameters import Positive, Seed
from modalign.methods.contract.selection import log_likelihood, share_correct
from modalign.methods.contract.sharing import clock
from modalign.methods.contract.transduction import keep_answers
from modalign.methods.contract.vectors import Problem, VectorMethod

SECONDS = 20.0  # for the default candidates


@dataclass(kw_only=True, eq=False, repr=False)
class Auto(VectorMethod):
    r"""Several methods, judged on images that they have not seen, and the ensemble of the best of them.

    With labels, every candidate is fitted to all images, where it chooses its hyper-parameters. With these it is then
    fitted to four fifths of the labeled images and predicts the rest, five times. These out-of-fold predictions are
    calibrated (one temperature per candidate), and a weighted mean of log-probabilities is built greedily, one
    candidate at a time, as long as the log-loss falls. With text, zero-shot is among the candidates, so that not
    learning can win. The members of the ensemble are the candidates that were fitted to all labeled images; nothing is
    held out in the end. Images that are given as ``validation`` take the place of the folds. Where some classes have
    text and no labeled image, candidates are also judged on classes that they were not shown.

    One labeled image per class leaves nothing to judge on. With text, the anchored Gaussian and CLAP are then mixed
    with zero-shot in parts that grow with the labels; without text, the anchored Gaussian stands alone. See
    :class:`~modalign.methods.auto.auto_unjudged.Unjudged`.

    Unlabeled images (−1) are given to the candidates that can use them.

    Without labels, no image can be judged. An image then gets the answer on which the anchored Gaussian and GPUA agree,
    with the mean of their log-probabilities, and that of zero-shot where they do not. Agreement of the two costs little
    of what each of them gains, and most of what they get wrong on folders where classes are few, absent or uneven is
    not got wrong by both. Other ``candidates`` must all agree likewise.

    The probabilities are calibrated: the temperature is that of the out-of-fold predictions, sharpened for the labeled
    images that the final models have beyond those of a fold (see
    :func:`~modalign.methods.auto.ensemble.greedy_ensemble`).

    Cost: six fits of each candidate, one of which chooses its hyper-parameters. Candidates are tried in the given order
    as far as ``seconds`` allow; what was not tried is named in ``diagnosis_``. A limit on time makes the choice depend
    on how busy the machine is. The same data, seed and ``candidates=model.candidates_`` give the same model again on
    any machine.

    Parameters
    ----------
    candidates : names of methods on vectors; None is a list that suits what is given. Zero-shot is always added where
        there is text.
    seconds : time for choosing, in seconds of wall time. A candidate that is not expected to end in time is not
        started, from what it took elsewhere and how much slower this machine was so far. The first candidate is always
        finished. None is 20 for the default candidates, and no limit for candidates that are given.
    random_state : draws the folds and seeds the candidates.

    Attributes
    ----------
    candidates_ : names of the methods that were judged, in order.
    members_ : the fitted methods of the ensemble.
    agreement_ : whether zero-shot, the last member, answers where the others do not agree; without labels.
    weights_, temperatures_ : (m,) their weights, and what their scores are divided by.
    sharpness_ : factor of the mean log-probability.
    table_ : per candidate its ``name``, ``accuracy`` and ``log_loss`` on images it has not seen, ``weight`` and
        ``seconds``; None where it was not finished.
    transduction_ : (n,) labels of the fitted images: given where there was one, found where there was none.
    class_sizes_ : (C,) estimated images of each class, of the first member that estimates them; without labels.
    prototypes_ : (C, d) unit class texts, or class means without text.
    diagnosis_ : the ensemble in words, accuracies and log-losses out of fold, beside zero-shot; without labels the
        share of the images on which the candidates ``agree``, and of those whose answer is ``changed`` from zero-shot.

    References
    ----------
    Caruana et al., Ensemble selection from libraries of models, ICML 2004.
    """

    title = "Automatic choice"
    paper = "own method: ensemble selection (Caruana et al., ICML 2004) over the methods of this library"
    needs_labels = False
    cross_validates = True
    judges_itself = True
    choices: ClassVar[tuple[str, ...]] = ("candidates",)

    candidates: tuple[str, ...] | list[str] | None = None
    seconds: Positive | None = None
    random_state: Seed = None

    def out_of_fold(self) -> tuple[np.ndarray, np.ndarray] | None:
        """Calibrated predictions of labeled images by ensembles that have not seen them, of the last ``fit``.

        Returns
        -------
        (m,) rows of the fitted images and their (m, C) logits; None where nothing was held out, and after loading.
        """
        return getattr(self, "_judged", None)

    def _fit(self, problem: Problem) -> None:
        started, known, seed = clock(), problem.y != UNLABELLED, self.random_state_
        self.prototypes_ = problem.prototypes()
        self.table_: list[dict[str, Any]] = []
        self.diagnosis_, self._judged, self.agreement_ = {}, None, False
        self.__dict__.pop("class_sizes_", None)
        drawn = int(np.random.default_rng(seed).integers(2**31))  # candidates divide images too, by the seed itself
        division = trials(problem, groups_of_views(problem), drawn)
        seconds = self.seconds or (SECONDS if self.candidates is None else math.inf)
        if division is not None:
            self._choose(problem, Pool.judge(problem, self.candidates, division, seed, started + seconds))
        elif bool(known.any()):
            self._mix(problem, Unjudged.fit(problem, self.candidates, seed, started + seconds))
        else:
            self._agree(problem, Agreement.fit(problem, self.candidates, seed, seconds))
        for member in self.members_:
            member.__dict__.pop("fitted_answers_", None)
        if not self.agreement_:
            found = self._scores(problem.X).argmax(dim=1).cpu()
            alone = self.members_[0] if len(self.members_) == 1 else None
            if alone is not None and hasattr(
                alone, "transduction_"
            ):  # what was found together with the other images is better
                found = torch.as_tensor(np.asarray(alone.transduction_))
            self.transduction_ = self.classes_[torch.where(known.cpu(), problem.y.cpu(), found).numpy()]

    def _scores(self, X: Tensor) -> Tensor:
        scores = (member_scores(member, X, len(self.classes_)) for member in self.members_)
        parts = [log_probabilities(found, t) for found, t in zip(scores, self.temperatures_, strict=True)]
        if getattr(self, "agreement_", False):  # not in the first cards
            return agreed(parts).to(X.dtype)
        weighted = (weight * part for weight, part in zip(self.weights_, parts, strict=True))
        return (self.sharpness_ * torch.stack([*weighted]).sum(dim=0)).to(X.dtype)

    def _choose(self, problem: Problem, pool: Pool) -> None:
        """The ensemble that the judged images like best."""
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

    def _mix(self, problem: Problem, found: Unjudged) -> None:
        """Candidates in fixed parts, where there are too few labels to choose by."""
        self.table_, self.candidates_ = found.table, list(found.fitted)
        self.diagnosis_ |= {
            "chosen_on": "nothing",
            "not_tried": ", ".join(row["name"] for row in found.table if row["name"] not in found.fitted) or "none",
        }
        self._set_members(found.fitted, found.weights, dict.fromkeys(found.weights, 1.0), 1 / found.temperature)

    def _agree(self, problem: Problem, found: Agreement) -> None:
        """All candidates, of which zero-shot answers where the others do not agree."""
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
        before = found.fitted["zero_shot"]._scores(problem.X).argmax(dim=1).cpu()
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
