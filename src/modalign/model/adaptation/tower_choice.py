"""Candidates inside the encoder for the automatic choice, if there is time for them.

Training inside the encoder takes minutes to hours. A candidate is therefore timed on a few steps, and is started only
if it can end in time, including the fit to all images. Candidate and ensemble are compared on held-out predictions for
the same images. A candidate replaces the ensemble only if it is significantly better.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from modalign.core.errors import InputError, MissingExtraError
from modalign.core.features import UNLABELED, ClassText
from modalign.core.scored import Scored
from modalign.data.items import Items
from modalign.encoders.clip import ClipEncoder
from modalign.linalg.calibration import fit_temperature
from modalign.linalg.inputs import as_single
from modalign.linalg.similarity import groups_of_copies
from modalign.linalg.student import student_quantile
from modalign.methods import method_class
from modalign.methods.contract.estimators.estimator import unfitted
from modalign.methods.contract.selection import folds
from modalign.methods.contract.tower import TowerMethod
from modalign.model.adaptation.fitting import FitTask, Fitted, fit_tower

CANDIDATES: dict[str, dict[str, Any]] = {"coop": {}, "clip_lora": {}, "maple": {}}
"""Name → settings, in the order in which they are tried."""
SECONDS = 300.0  # with less total time, no method inside the encoder is tried
SURE = 0.95  # one-sided confidence in the gain in log-likelihood
FEW, STEPS = 4, 5  # images in the first timed step, and number of whole batches that are timed afterwards
RESERVE = 1.1  # of the expected time, since a machine may become slower


@dataclass(frozen=True)
class TowerTrial:
    """A candidate with its held-out predictions.

    Attributes
    ----------
    method : TowerMethod
        Not fitted.
    scored : Scored
        Predictions of images that neither the candidate nor the ensemble was fitted on.
    rows : list of int
        Rows of these images among the predictions of the ensemble.
    gain : float
        Mean gain in log-likelihood over the ensemble.
    final : float
        Seconds that the fit to all images is expected to take.
    """

    method: TowerMethod
    scored: Scored
    rows: list[int]
    gain: float
    final: float


@dataclass
class TowerChoice:
    """Trial of the candidates inside the encoder.

    Attributes
    ----------
    task : FitTask
        The images.
    encoder : ClipEncoder
        Encoder of the candidates; it is not modified.
    vectors : Fitted
        Fit of the ensemble on vectors, with predictions of held-out images.
    deadline : float
        By the monotonic clock.
    table : list of dict
        A row per candidate, as in ``Auto.table_``.
    notes : list of str
        Messages about trials and decisions.
    """

    task: FitTask
    encoder: ClipEncoder
    vectors: Fitted
    deadline: float
    table: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def run(self) -> tuple[TowerMethod, Fitted] | None:
        """Try the candidates; return the best one, fitted to all images, if it is significantly better."""
        text = self.encoder.embed_texts(self.task.prompts, class_names=self.task.items.class_names)
        divisions = self._divisions()
        best: TowerTrial | None = None
        for name, settings in CANDIDATES.items():
            started = time.monotonic()
            row: dict[str, Any] = {"name": name, "accuracy": None, "log_loss": None, "weight": 0.0}
            self.table.append(row)
            try:
                trial = self._try(name, settings, text, divisions, 0.0 if best is None else best.final, row)
            except (InputError, MissingExtraError) as error:  # such as peft for CLIP-LoRA
                trial = None
                self.notes.append(f"{name} was not tried inside the encoder. {error}")
            row["seconds"] = round(time.monotonic() - started, 2)
            if trial is not None and (best is None or trial.gain > best.gain):
                best = trial
        return None if best is None else self._settle(best)

    @property
    def _crossed(self) -> bool:
        return self.task.holdout is not None and self.task.holdout.cross

    def _divisions(self) -> list[tuple[Items, Items]]:
        """Return pairs of training and held-out images: folds of the labeled images, or the validation images."""
        learn, validation = self.task.learn, self.task.validation
        if not self._crossed:
            return [] if validation is None else [(learn, validation)]
        X = self.encoder.embed_images(learn)
        place = {name: i for i, name in enumerate(learn.ids)}
        rows = torch.tensor([place[name] for name in X.ids])
        groups = torch.arange(len(learn))
        groups[rows] = rows[groups_of_copies(as_single(X.vectors))]
        fold = folds(torch.from_numpy(learn.labels), groups=groups, random_state=self.task.random_state).numpy()
        return [
            (learn.select(np.flatnonzero(fold != k)), learn.select(np.flatnonzero(fold == k)))
            for k in range(int(fold.max()) + 1)
        ]

    def _try(
        self,
        name: str,
        settings: dict[str, Any],
        text: ClassText,
        divisions: list[tuple[Items, Items]],
        reserved: float,
        row: dict[str, Any],
    ) -> TowerTrial | None:
        """Time a candidate, and evaluate it on as many divisions as there is time for."""
        cls = method_class(name)
        assert issubclass(cls, TowerMethod)
        method = cls(**{"random_state": self.task.random_state, **settings})
        whole = self._expected_seconds(method, text)
        final = whole if self._crossed else 0.0  # with validation images, the evaluated fit is the final one
        left = (self.deadline - time.monotonic()) / RESERVE - max(final, reserved)
        count = min(len(divisions), int(left / whole)) if left > 0 else 0
        if not count:
            needed = f"about {whole + final:.0f} s" if math.isfinite(whole) else "far more"
            self.notes.append(
                f"{name} was not tried inside the encoder: it needs {needed}, of which {max(0.0, left):.0f} were left"
            )
            return None
        parts = []
        for learn, judged in divisions[:count]:
            fitted = unfitted(method).fit(learn, text=text, encoder=self.encoder)
            parts.append(fitted.score_images(judged, self.encoder))
        return self._compared(name, method, parts, final, row)

    def _expected_seconds(self, method: TowerMethod, text: ClassText) -> float:
        """Return an upper estimate of the seconds of a fit to all images, from a few timed steps and their setup.

        Infinite if even these take too long.
        """
        learn = self.task.learn
        labeled = np.flatnonzero(learn.labels != UNLABELED)
        recipe = method._recipe(learn.labels[labeled])
        size = min(recipe.batch_size, len(labeled))

        def timed(count: int, epochs: int) -> float:
            started = time.monotonic()
            quick = unfitted(method).set_params(epochs=epochs, batch_size=count)
            quick.fit(learn.select(labeled[:count]), text=text, encoder=self.encoder)
            return time.monotonic() - started

        step = timed(min(FEW, size), 1) * max(1.0, size / FEW)
        if STEPS * step > (self.deadline - time.monotonic()) / 4:
            return math.inf
        return timed(size, STEPS) / STEPS * recipe.epochs * recipe.steps_per_epoch(len(labeled))

    def _compared(
        self, name: str, method: TowerMethod, parts: list[Scored], final: float, row: dict[str, Any]
    ) -> TowerTrial | None:
        """Compare a candidate with the ensemble on the same images; None unless it is significantly better."""
        assert self.vectors.held_out is not None
        place = {known: i for i, known in enumerate(self.vectors.held_out.ids)}
        ids = [known for part in parts for known in part.ids]
        kept = [i for i, known in enumerate(ids) if known in place]
        rows = [place[ids[i]] for i in kept]
        own = np.concatenate([part.logits for part in parts])[kept]
        ensemble, labels = self.vectors.held_out.logits[rows], self.vectors.held_out.labels[rows]
        y = torch.from_numpy(labels)
        likelihood, reference = _likelihoods(own, y), _likelihoods(ensemble, y)
        gain, n = likelihood - reference, len(rows)
        error = gain.std().item() / math.sqrt(n) if n > 1 else math.inf
        significant = gain.mean().item() > student_quantile(SURE, max(1, n - 1)) * error
        right = [float((z.argmax(axis=1) == labels).mean()) for z in (own, ensemble)]
        row |= {"accuracy": right[0], "log_loss": -likelihood.mean().item()}
        self.notes.append(
            f"{name} inside the encoder: {100 * right[0]:.1f} % of {n} held-out images, log-loss "
            f"{-likelihood.mean().item():.3f}; the ensemble on vectors {100 * right[1]:.1f} %, "
            f"{-reference.mean().item():.3f}; "
            f"{'significantly' if significant else 'not significantly'} better"
        )
        scored = Scored(tuple(ids[i] for i in kept), labels, own)
        return TowerTrial(method, scored, rows, gain.mean().item(), final) if significant else None

    def _settle(self, best: TowerTrial) -> tuple[TowerMethod, Fitted] | None:
        """Fit the best candidate to all images, if there is still time."""
        if time.monotonic() + best.final > self.deadline:
            self.notes.append(f"{best.method.title} is not chosen: no time was left to fit it to all images")
            return None
        fitted = fit_tower(best.method, self.encoder, self.task, None)
        for row in self.table:
            row["weight"] = float(method_class(row["name"]) is type(best.method))
        self.notes.append(f"{best.method.title} is chosen")
        zero_shot = self.vectors.zero_shot
        return best.method, replace(
            fitted,
            held_out=best.scored,
            zero_shot=None if zero_shot is None else zero_shot[best.rows],
            how=fitted.how or self.vectors.how,
        )


def _likelihoods(logits: np.ndarray, y: Tensor) -> Tensor:
    """(n,) log-likelihoods at the temperature that suits the (n, C) logits best."""
    z = torch.from_numpy(logits).double()
    return -F.cross_entropy(z / fit_temperature(z, y), y, reduction="none")
