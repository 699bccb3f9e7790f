"""The cross-modal linear probe: sentences are training samples like images, and the text is where the weights start."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from modalign.linalg.similarity import unit
from modalign.methods.contract.descent import (
    Best,
    Criterion,
    Descent,
    batch_order,
    checkpoints,
    cosine_rates,
    descend,
    seeded,
)
from modalign.methods.contract.parameters import Count, Fraction, NonNegative, Positive, Range, Seed, require_stop
from modalign.methods.contract.selection import held_out, share_correct
from modalign.methods.contract.vectors import Problem, VectorMethod

LEARNING_RATES, WEIGHT_DECAYS, RATIOS = (1e-3, 1e-4), (0.0, 0.01, 1e-4), tuple(i / 10 for i in range(11))
DEFAULTS = (1e-4, 0.01, 0.5)  # of the three, where there is nothing to choose them on


@dataclass(kw_only=True, eq=False, repr=False)
class CrossModalProbe(VectorMethod):
    r"""A linear classifier on images and texts alike: n images of a class and its sentence are n + 1 shots.

    With unit images :math:`\hat x` and unit sentences :math:`\hat t` in one space

    .. math:: \min_W \; \tfrac12 \Bigl[ \operatorname{mean}_i \mathrm{CE}\bigl(100\, W \hat x_i, y_i\bigr)
              + \operatorname{mean}_j \mathrm{CE}\bigl(100\, W \hat t_j, c_j\bigr) \Bigr],
              \qquad W_0 = \text{class texts}

    by AdamW over batches of which one half is images and the other sentences; 50 steps of linear warm-up, then half a
    cosine to zero. Then WiSE-FT interpolates the weights, :math:`W = (1 - r)\, W_0 + r\, W_{\mathrm{learned}}`:
    r = 0 is zero-shot and r = 1 the probe itself.

    As published, learning rate (10⁻³, 10⁻⁴), decay (0, 10⁻², 10⁻⁴) and the step at which to stop are chosen on
    ``validation``; here r also, as one more dimension of the same grid, each r being an addition to cached scores.
    Without validation images the last step at 10⁻⁴ and 10⁻² is taken, with r = 0.5.

    Without text, the class means are where the weights start, and there is nothing but images to learn from: the
    uni-modal probe.

    Cost: O(b C d) a step and candidate; one fused pass over C d weights.

    Published, RN50, mean of 11 data sets at 1/2/4/8/16 shots: linear 64.1 / 67.0 / 70.3 / 73.0 / 76.0 (CMM, Table 1);
    ImageNet at 16 shots 64.5, with WiSE-FT 65.2 (CMM, Table 3).

    Parameters
    ----------
    steps : optimizer steps of each candidate.
    batch_size : samples a step; the greater half is images.
    learning_rate : highest learning rate, or ``"auto"`` to choose it on validation images.
    weight_decay : decoupled decay, or ``"auto"`` to choose it on validation images.
    warmup_steps : steps of linear warm-up.
    ratio : r of the interpolation, or ``"auto"`` to choose it on validation images.
    stop : the step after which training ends, on the schedule of ``steps``; None is the best one on validation images,
        or the last.
    checkpoints : how many moments of training the validation images judge, closer together at the start.
    cross_modal : whether the sentences are samples; without them the text is still where the weights start.
    criterion : what is compared on them; the other breaks ties.
    logit_scale : inverse temperature; None is that of the encoder.
    random_state : seed of the order of images and sentences.

    Attributes
    ----------
    coef_ : (C, d) the interpolated W.
    learned_ : (C, d) W before the interpolation.
    prototypes_ : (C, d) W₀, the unit class texts.
    learning_rate_, weight_decay_, ratio_, stop_ : as used.
    losses_ : loss of every step of the candidate that was kept.
    diagnosis_ : ``learning_rate``, ``weight_decay``, ``step`` and ``ratio`` as used, ``chosen_on``, the number of
        ``sentences``; with validation images the accuracy there, of zero-shot and of the learned weights alone.

    References
    ----------
    Lin et al., Multimodality helps unimodality: cross-modal few-shot learning with multimodal models, 2023,
    arXiv:2301.06267.
    Wortsman et al., Robust fine-tuning of zero-shot models (WiSE-FT), 2022, arXiv:2109.01903.
    """

    title = "Cross-modal linear probe"
    paper = (
        "Lin et al., Multimodality helps unimodality: cross-modal few-shot learning with multimodal models, 2023, "
        "arXiv:2301.06267"
    )
    mirrors: ClassVar[bool] = True
    choices: ClassVar[tuple[str, ...]] = ("learning_rate", "weight_decay", "ratio", "stop")
    ablations: ClassVar[dict[str, dict[str, Any]]] = {"images only": {"cross_modal": False}}

    steps: Count = 12_800
    batch_size: Annotated[int, Range(2)] = 8
    learning_rate: Positive | Literal["auto"] = "auto"
    weight_decay: NonNegative | Literal["auto"] = "auto"
    warmup_steps: Annotated[int, Range(0)] = 50
    ratio: Fraction | Literal["auto"] = "auto"
    stop: Annotated[int, Range(0)] | None = None
    checkpoints: Count = 24
    cross_modal: bool = True
    criterion: Criterion = "log-loss"
    logit_scale: Positive | None = None
    random_state: Seed = None

    def _fit(self, problem: Problem) -> None:
        require_stop(self.stop, self.steps)
        start, validation = problem.prototypes(), held_out(problem.validation)
        if validation is not None:
            validation = unit(validation[0]), validation[1]
        samples = Samples.of(problem, self.batch_size, self.steps, self.random_state_, sentences=self.cross_modal)
        settings = self._settings(validation is not None)
        W = start.repeat(len(settings), 1, 1)  # all candidates learn side by side from the same batches
        descents = [
            Descent(weights, cosine_rates(self.steps, rate, warmup=self.warmup_steps)[: self.stop], decay)
            for weights, (rate, decay) in zip(W, settings, strict=True)
        ]
        gradients = samples.gradients(W, self.logit_scale_)
        if validation is None:
            losses = descend(descents, gradients)
            choice = SelectedProbe(
                0, self.steps if self.stop is None else self.stop, _given(self.ratio, DEFAULTS[2]), W[0]
            )
        else:
            X, y = validation
            best = Best[SelectedProbe](self.criterion, y)
            zero_shot = X @ start.T
            ratios = RATIOS if self.ratio == "auto" else (float(self.ratio),)

            def judge(step: int) -> None:
                for candidate, weights in enumerate(W):
                    learned = X @ weights.T
                    for ratio in ratios:
                        found = partial(SelectedProbe.copied, candidate, step, ratio, weights)
                        best.offer(torch.lerp(zero_shot, learned, ratio), found)

            moments = checkpoints(self.steps, self.checkpoints) if self.stop is None else {self.stop}
            if self.stop == 0:
                judge(0)
            losses = descend(descents, gradients, judge, moments)
            choice = best.choice

        self.prototypes_, self.learned_ = start, choice.learned
        self.coef_ = torch.lerp(start, choice.learned, choice.ratio)
        self.losses_ = losses[:, choice.candidate].clone()
        self.learning_rate_, self.weight_decay_ = settings[choice.candidate]
        self.ratio_, self.stop_ = choice.ratio, choice.step
        self.diagnosis_ = {
            "learning_rate": self.learning_rate_,
            "weight_decay": self.weight_decay_,
            "step": self.stop_,
            "ratio": self.ratio_,
            "chosen_on": "nothing" if validation is None else "validation",
            "sentences": samples.sentences,
        }
        if validation is not None:
            for what, weights in {"": self.coef_, "_zero_shot": start, "_without_interpolation": self.learned_}.items():
                self.diagnosis_[f"validation_accuracy{what}"] = share_correct(X @ weights.T, y)

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
    """Which candidate, when it was stopped, the ratio of the interpolation, and W before it."""

    candidate: int
    step: int
    ratio: float
    learned: Tensor

    @classmethod
    def copied(cls, candidate: int, step: int, ratio: float, learned: Tensor) -> SelectedProbe:
        """With a copy of W as it is now."""
        return cls(candidate, step, ratio, learned.clone())


@dataclass(frozen=True)
class Samples:
    """Images and sentences below each other, and which of them make each batch.

    Attributes
    ----------
    rows : (n + s, d) unit vectors, images first.
    targets : (n + s, C) one-hot classes.
    batches : (steps, b) row numbers.
    weights : (b, 1) share of each place of a batch in the loss: a half for images, a half for sentences.
    sentences : s.
    """

    rows: Tensor
    targets: Tensor
    batches: Tensor
    weights: Tensor
    sentences: int

    @classmethod
    def of(cls, problem: Problem, batch_size: int, steps: int, seed: int | None, *, sentences: bool = True) -> Samples:
        """All labeled images and, if wanted, all sentences; the order of both is drawn from one generator."""
        X, y = problem.labelled()
        if problem.text is None or not sentences:
            text, classes = X[:0], y[:0]
        else:
            present = (problem.text != 0).any(dim=2)
            text, classes = problem.text[present], present.nonzero()[:, 0]
            order = torch.argsort(text[:, 0], stable=True)  # of the vectors, so that the order of the classes is free
            text, classes = text[order], classes[order]
        generator = seeded(seed)
        of_text = batch_size // 2 if len(text) else 0
        of_images = batch_size - of_text
        batches = batch_order(len(X), of_images, steps, generator)
        halves = [torch.full((of_images,), 1 / of_images)]
        if of_text:
            batches = torch.cat([batches, len(X) + batch_order(len(text), of_text, steps, generator)], dim=1)
            halves = [torch.full((of,), 1 / (2 * of)) for of in (of_images, of_text)]
        return cls(
            rows=unit(torch.cat([X, text])),
            targets=F.one_hot(torch.cat([y, classes]), problem.n_classes).float(),
            batches=batches.to(X.device),
            weights=torch.cat(halves)[:, None].to(X.device),
            sentences=len(text),
        )

    def gradients(self, W: Tensor, scale: float) -> Callable[[int], tuple[Tensor, Tensor]]:
        """Step → the losses of its batch and gradients at W (candidates, C, d) as it is then."""
        stacked, weights = W.flatten(0, 1), self.weights[:, :, None]

        def at(step: int) -> tuple[Tensor, Tensor]:
            x, truth = self.rows[self.batches[step]], self.targets[self.batches[step]][:, None]
            logits = torch.mm(x, stacked.T).mul_(scale).view(len(x), *W.shape[:2])
            likelihood = torch.log_softmax(logits, dim=2)
            losses = -(likelihood * truth * weights).sum(dim=(0, 2))
            slope = likelihood.exp_().sub_(truth).mul_(scale * weights)
            return losses, (slope.flatten(1).T @ x).view(W.shape)

        return at


def _given(value: float | str, default: float) -> float:
    return default if value == "auto" else float(value)
