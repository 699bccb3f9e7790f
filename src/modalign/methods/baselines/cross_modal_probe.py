r"""The cross-modal linear probe: trained on images and prompts, initialized with the class texts.

With unit images :math:`\hat x` and unit prompts :math:`\hat t` in one space

.. math:: \min_W \; \tfrac12 \Bigl[ \operatorname{mean}_i \mathrm{CE}\bigl(100\, W \hat x_i, y_i\bigr)
          + \operatorname{mean}_j \mathrm{CE}\bigl(100\, W \hat t_j, c_j\bigr) \Bigr],
          \qquad W_0 = \text{class texts}

by AdamW over batches of which one half is images and the other prompts. Then WiSE-FT interpolates the weights,
:math:`W = (1 - r)\, W_0 + r\, W_{\mathrm{learned}}`. Without text the weights start at the class means and only
images are samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar, Literal

import torch
from torch import Tensor

from modalign.core.renaming import Formerly
from modalign.linalg.optimizers import AdamW, Descent, cosine_rates
from modalign.linalg.similarity import unit
from modalign.methods.baselines.cross_modal_samples import Samples, gradients_of_parts
from modalign.methods.contract.best_candidate import Best, Criterion
from modalign.methods.contract.parameters import Count, Fraction, NonNegative, Positive, Range, Seed, require_stop
from modalign.methods.contract.selection import share_correct, unit_held_out
from modalign.methods.contract.training_steps import checkpoints
from modalign.methods.contract.vectors import Problem, VectorMethod

LEARNING_RATES, WEIGHT_DECAYS, RATIOS = (1e-3, 1e-4), (0.0, 0.01, 1e-4), tuple(i / 10 for i in range(11))
HALVINGS = (1 / 2, 2 / 3)  # shares of the evaluations after which the worse half of the candidates is dropped
DEFAULTS = (1e-4, 0.01, 0.5)  # default values of the three without validation images


@dataclass(kw_only=True, eq=False, repr=False)
class CrossModalProbe(VectorMethod):
    r"""Linear classifier trained on images and prompts.

    Logistic regression from the class texts, interpolated with them (WiSE-FT). Equations: this module's docstring.

    Parameters
    ----------
    steps : int, default=12800
        Optimizer steps of each candidate.
    batch_size : int, default=8
        Samples per step, at most all; the larger half is images.
    learning_rate : float or "auto", default="auto"
        Peak learning rate.
    weight_decay : float or "auto", default="auto"
        Decoupled weight decay.
    warmup_steps : int, default=50
        Steps of linear warmup; then a half cosine to zero.
    probe_weight : float or "auto", default="auto"
        r: 0 is zero-shot, 1 the trained probe. ``"auto"`` selects each of the three on validation images.
    stop : int or None, default=None
        Step after which training ends, on the schedule of `steps`. None is the best on validation images, or the last.
    n_evaluations : int, default=24
        Evaluations on validation images, more frequent at the start.
    cross_modal : bool, default=True
        Whether prompts are samples. If False, the weights still start at the text.
    criterion : {"log-loss", "accuracy"}, default="log-loss"
        Criterion on validation images; the other one breaks ties.
    logit_scale : float or None, default=None
        Inverse temperature; None is that of the encoder.
    random_state : int or None, default=None
        Seed of the order of images and prompts.

    Attributes
    ----------
    coef_ : Tensor of shape (C, d)
        Interpolated W.
    learned_ : Tensor of shape (C, d)
        W before the interpolation.
    prototypes_ : Tensor of shape (C, d)
        W₀, the unit class texts.
    learning_rate_, weight_decay_, probe_weight_, stop_ : float
        Values used.
    losses_ : Tensor of shape (n_steps,)
        Training loss of the selected candidate.
    diagnosis_ : dict
        Values used, what they were ``chosen_on``, the number of ``sentences``; with validation images the accuracy
        there, of zero-shot and of the trained weights alone.

    References
    ----------
    .. [1] Lin et al., "Multimodality helps unimodality: cross-modal few-shot learning with multimodal models", 2023,
       arXiv:2301.06267.

    Examples
    --------
    >>> import modalign as ma
    >>> from modalign.testing import few_shot_problem
    >>> X, y, Xv, yv, Xt, yt, T = few_shot_problem()
    >>> probe = ma.CrossModalProbe(steps=100, random_state=0).fit(X, y, text=T)
    >>> probe.predict(T)
    array([0, 1, 2, 3, 4])
    """

    title = "Cross-modal linear probe"
    streams = True
    paper = (
        "Lin et al., Multimodality helps unimodality: cross-modal few-shot learning with multimodal models, 2023, "
        "arXiv:2301.06267"
    )
    mirrors: ClassVar[bool] = True
    small_steps: ClassVar[bool] = True
    refits_to_calibrate: ClassVar[bool] = True
    choices: ClassVar[tuple[str, ...]] = ("learning_rate", "weight_decay", "probe_weight", "stop")
    ablations: ClassVar[dict[str, dict[str, Any]]] = {"images only": {"cross_modal": False}}

    steps: Count = 12_800
    batch_size: Annotated[int, Range(2)] = 8
    learning_rate: Positive | Literal["auto"] = "auto"
    weight_decay: NonNegative | Literal["auto"] = "auto"
    warmup_steps: Annotated[int, Range(0)] = 50
    probe_weight: Annotated[Fraction | Literal["auto"], Formerly("ratio")] = "auto"
    stop: Annotated[int, Range(0)] | None = None
    n_evaluations: Annotated[Count, Formerly("checkpoints")] = 24
    cross_modal: bool = True
    criterion: Criterion = "log-loss"
    logit_scale: Positive | None = None
    random_state: Seed = None

    def _fit(self, problem: Problem) -> None:
        require_stop(self.stop, self.steps)
        start, validation = problem.prototypes(), unit_held_out(problem.validation)
        samples = Samples.of(problem, self.batch_size, self.steps, self.random_state_, sentences=self.cross_modal)
        settings = self._settings(validation is not None)
        choice, losses = self._train(samples, settings, start, validation)

        self.prototypes_, self.learned_ = start, choice.learned
        self.coef_ = torch.lerp(start, choice.learned, choice.probe_weight)
        self.losses_ = losses.clone()
        self.learning_rate_, self.weight_decay_ = settings[choice.candidate]
        self.probe_weight_, self.stop_ = choice.probe_weight, choice.step
        self.diagnosis_ = {
            "learning_rate": self.learning_rate_,
            "weight_decay": self.weight_decay_,
            "step": self.stop_,
            "probe_weight": self.probe_weight_,
            "chosen_on": "nothing" if validation is None else "validation",
            "sentences": samples.sentences,
        }
        if validation is not None:
            X, y = validation
            for what, weights in {"": self.coef_, "_zero_shot": start, "_without_interpolation": self.learned_}.items():
                self.diagnosis_[f"validation_accuracy{what}"] = share_correct(X @ weights.T, y)

    @staticmethod
    def _refit(models: Sequence[CrossModalProbe], problems: Sequence[Problem]) -> None:
        """Train side by side, with equal results, where the batches are of one shape."""
        one = models[0]
        cross_modal, seed = one.cross_modal, one.random_state_
        parts = [Samples.of(own, one.batch_size, one.steps, seed, sentences=cross_modal) for own in problems]
        if len({part.batches.shape for part in parts}) > 1:
            VectorMethod._refit(models, problems)
            return
        W = torch.stack([own.prototypes() for own in problems])
        starts, (rate, decay) = W.clone(), one._settings(False)[0]
        optimizer = AdamW([Descent(W, cosine_rates(one.steps, rate, warmup=one.warmup_steps), decay)])
        gradients = gradients_of_parts(parts, W, one.logit_scale_)
        for step in range(one.steps if one.stop is None else one.stop):
            optimizer.step([gradients(step)])
        for model, start, learned in zip(models, starts, W, strict=True):
            model.prototypes_, model.learned_ = start, learned
            model.coef_ = torch.lerp(start, learned, _given(one.probe_weight, DEFAULTS[2]))

    def _train(
        self,
        samples: Samples,
        settings: Sequence[tuple[float, float]],
        start: Tensor,
        validation: tuple[Tensor, Tensor] | None,
    ) -> tuple[SelectedProbe, Tensor]:
        """Train all candidates side by side on the same batches; the best of them, and its losses."""
        racing, W = list(range(len(settings))), start.repeat(len(settings), 1, 1)
        rates = {rate: cosine_rates(self.steps, rate, warmup=self.warmup_steps) for rate, _ in settings}
        optimizer = AdamW(
            [Descent(weights, rates[rate], decay) for weights, (rate, decay) in zip(W, settings, strict=True)]
        )
        gradients = samples.gradients(W, self.logit_scale_)
        steps = self.steps if self.stop is None else self.stop
        likelihoods = start.new_empty(steps, samples.batches.shape[1], len(settings))
        evaluation_steps, halvings = self._evaluation_steps(steps)
        judges = [] if validation is None else [ProbeJudge(*validation, start, self.criterion) for _ in settings]
        ratios = RATIOS if self.probe_weight == "auto" else (float(self.probe_weight),)
        for step in range(steps + 1):
            if step in evaluation_steps and judges:
                for candidate, weights in zip(racing, W, strict=True):
                    judges[candidate].update(SelectedProbe(candidate, step, 0.0, weights), ratios)
                if step in halvings and len(racing) > 1:
                    order = sorted(range(len(racing)), key=lambda k: judges[racing[k]].best.standing, reverse=True)
                    kept = sorted(order[: len(racing) // 2])
                    racing, W, likelihoods = [racing[k] for k in kept], W[kept], likelihoods[:, :, kept]
                    optimizer.keep(kept, list(W))
                    gradients = samples.gradients(W, self.logit_scale_)
            if step < steps:
                likelihoods[step], slopes = gradients(step)
                optimizer.step(slopes)
        losses = samples.losses(likelihoods)
        if not judges:
            return SelectedProbe(0, steps, _given(self.probe_weight, DEFAULTS[2]), W[0]), losses[:, 0]
        choice = max((judges[candidate].best for candidate in racing), key=lambda best: best.standing).choice
        return choice, losses[:, racing.index(choice.candidate)]

    def _evaluation_steps(self, steps: int) -> tuple[set[int], set[int]]:
        """Return the steps after which the candidates are evaluated, and after which the worse half is dropped."""
        if self.stop is not None:
            return {steps}, set()
        chosen = sorted(checkpoints(steps, self.n_evaluations))
        return set(chosen), {chosen[max(1, round(share * len(chosen))) - 1] for share in HALVINGS}

    def _settings(self, several: bool) -> list[tuple[float, float]]:
        """Learning rate and decay of every candidate."""
        if not several:
            return [(_given(self.learning_rate, DEFAULTS[0]), _given(self.weight_decay, DEFAULTS[1]))]
        rates = LEARNING_RATES if self.learning_rate == "auto" else (float(self.learning_rate),)
        decays = WEIGHT_DECAYS if self.weight_decay == "auto" else (float(self.weight_decay),)
        return [(rate, decay) for rate in rates for decay in decays]

    def _scores(self, X: Tensor) -> Tensor:
        return self.logit_scale_ * (unit(X) @ self.coef_.to(X.device).T)


@dataclass(frozen=True)
class SelectedProbe:
    """Selected candidate, stopping step, interpolation ratio, and W before the interpolation."""

    candidate: int
    step: int
    probe_weight: float
    learned: Tensor


class ProbeJudge:
    """Keeps the state of a candidate with the best score on held-out images.

    Parameters
    ----------
    X, y : Tensor of shape (h, d)
        Their unit vectors and (h,) class indices.
    start : Tensor of shape (C, d)
        W₀.
    criterion : {"log-loss", "accuracy"}
        As of :class:`~modalign.methods.contract.best_candidate.Best`.
    """

    def __init__(self, X: Tensor, y: Tensor, start: Tensor, criterion: Criterion) -> None:
        self.best = Best[SelectedProbe](criterion, y)
        self._X, self._zero_shot = X, X @ start.T

    def update(self, now: SelectedProbe, ratios: Sequence[float]) -> None:
        """Evaluate the current weights ``now`` with all ratios, and keep the best."""
        scores = self._X @ now.learned.T
        self.best.climb(
            ratios,
            lambda ratio: torch.lerp(self._zero_shot, scores, ratio),
            lambda ratio: replace(now, probe_weight=ratio, learned=now.learned.clone()),
        )


def _given(value: float | str, default: float) -> float:
    return default if value == "auto" else float(value)
