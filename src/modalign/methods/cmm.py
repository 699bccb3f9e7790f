"""CMM: a learned linear map carries images to the class texts, which are learned with it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from modalign.errors import InputError
from modalign.features import Features
from modalign.linalg.gaussians import modality_gap
from modalign.linalg.similarity import unit
from modalign.methods.base import Problem, VectorMethod
from modalign.methods.cmm_selection import Selection
from modalign.methods.cmm_training import Learner, Objective, Schedule, batch_order, map_rows, threads_for, train
from modalign.methods.parameters import Count, NonNegative, Positive, Range, Seed
from modalign.methods.selection import accuracy, held_out

MEANS_SCALE = 10.0  # where class means stand in for text


@dataclass(kw_only=True, eq=False, repr=False)
class CMM(ClassNamePrefixFeaturesOutMixin, TransformerMixin, VectorMethod):
    r"""Cross-modal mapping: a linear map W of the images and the class texts T, learned together.

    With unit image vectors :math:`\hat x`, unit class texts :math:`t_c` from the encoder and trainable
    :math:`W \in \mathbb{R}^{d \times d}`, :math:`T \in \mathbb{R}^{C \times d}` (T starts at t)

    .. math::
        f &= \hat x (W + I) && (6) \\
        s^{\mathrm{CMM}}_c &= \cos(f, T_c), \quad s^{\mathrm{CLIP}}_c = \hat x^\top t_c && (7) \\
        d^+ &= 1 - s^{\mathrm{CMM}}_y, \quad d^- = \min_{c \ne y} 1 - s^{\mathrm{CMM}}_c && (9\text{–}11) \\
        s &= s^{\mathrm{CMM}} + \beta\, s^{\mathrm{CLIP}} && (14) \\
        L &= \mathrm{CE}(\tau^{-1} s, y) + \max(0,\; d^+ - d^- + m) && (12, 13, 15, 16)

    averaged over batches of 8, by AdamW with decoupled decay over 16,000 steps: 50 of linear warm-up, then half a
    cosine. β = 1 in training; the β of inference is chosen on ``validation`` from cached scores, 0.1…1.0.

    What the paper leaves open, and what is done here. Its values of learning rate and decay are not legible: those of
    its code lineage are the default. "Kaiming" is read as ``torch.nn.Linear``'s variance, since the true one drowns
    the identity; both are offered. T is normalised in the score. The triplet loss sees s_CMM only; with m = 1 it is
    active until the two cosines differ by more than 1, so it goes on when the cross-entropy is long satisfied. That
    harms with few images, and ``checkpoints`` answers it: with validation images the best of several moments of the
    schedule is kept. Best means the least log-loss on validation at the best temperature, which on few images is the
    steadier judge; ``criterion="accuracy"`` is the literal one. It is the triplet loss, late in training, that closes
    the modality gap, so a moment kept early can have most of the accuracy and nearly all of the gap.

    Without text, class means take its place. They are made of the training images, so s_CLIP already knows the
    answers in training, and 1/τ = 100 is no one's trained temperature: then 10 is used, which leaves the
    cross-entropy something to learn.

    Cost: a step reads and writes (d² + C d) numbers of parameters and AdamW state once; see
    :mod:`modalign.methods.cmm_training`. Validation costs O(n_v d (d + C)) a checkpoint.

    Published (top-1, RN50 unless said): mean of 11 datasets at 1/2/4/8/16 shots 65.5 / 68.6 / 71.8 / 74.9 / 77.6
    (Table 1); ImageNet, 16 shots, RN50 / RN101 / ViT-B/16 / ViT-B/32 66.17 / 68.93 / 74.23 / 69.17 (Table 2);
    ImageNet-V2 / A / R / Sketch 56.96 / 23.91 / 60.59 / 36.88 (Table 3); without fusion and triplet loss 64.02 on
    ImageNet instead of 66.17 (Table 5).

    Parameters
    ----------
    steps : optimiser steps.
    batch_size : images a step.
    learning_rate : highest learning rate.
    min_learning_rate : where the cosine ends.
    warmup_steps : steps of linear warm-up.
    weight_decay : decoupled decay of W and T.
    init : entries of W at the start: ``"linear"`` uniform of variance 1/(3d), ``"kaiming"`` normal of variance 2/d,
        ``"zero"`` for an exact zero-shot start.
    layers : 1 is the linear map; 2…5 put ReLU between as many residual linear layers (appendix 7.1, where it is worse).
    margin : m of the triplet loss.
    triplet_weight : factor of the triplet loss; 0 leaves it out.
    training_fusion : β in training, and at inference where nothing is there to choose it on.
    fusion : β at inference, or ``"auto"`` to choose it on validation images.
    fusion_low : lowest β to try.
    fusion_high : highest β to try, in steps of 0.1.
    checkpoints : how many moments of training the validation images judge, closer together at the start; 1 keeps the
        end of the schedule.
    criterion : what is compared on the validation images.
    logit_scale : 1/τ; None is that of the encoder with text, and 10 without.
    random_state : seed of W and of the order of the images; the same seed gives the same bits.

    Attributes
    ----------
    prototypes_ : (C, d) unit rows of the learned T.
    text_ : (C, d) unit class texts as given, the t of s_CLIP.
    weights_ : (layers, d, d) W of each layer.
    fusion_, logit_scale_ : β and 1/τ as used.
    losses_ : (steps,) loss of every step, in training.
    diagnosis_ : ``step`` that was kept and ``fusion``; ``modality_gap`` of training images and class texts ``before``,
        ``after`` (as kept) and, if that is not the same, at the ``end`` of training: Gaussian KL after PCA to 2
        dimensions (None with fewer than three texts) and Wasserstein-2 in all; how far images and texts were moved
        (1 − cosine); the share of images with an active triplet loss in the last tenth of training; and with
        validation images the accuracy there, of zero-shot, and with the map and with the fusion switched off.
    """

    title = "CMM"
    paper = "Yang et al., Cross-modal mapping: mitigating the modality gap, 2024, arXiv:2412.20110"
    mirrors: ClassVar[bool] = True
    ablations: ClassVar[dict[str, dict[str, Any]]] = {
        "identity map": {"init": "zero", "steps": 0},
        "no triplet loss": {"triplet_weight": 0.0},
    }

    steps: Annotated[int, Range(0)] = 16_000
    batch_size: Count = 8
    learning_rate: Positive = 1e-4
    min_learning_rate: NonNegative = 1e-5
    warmup_steps: Annotated[int, Range(0)] = 50
    weight_decay: NonNegative = 0.01
    init: Literal["linear", "kaiming", "zero"] = "linear"
    layers: Annotated[int, Range(1, 8)] = 1
    margin: NonNegative = 1.0
    triplet_weight: NonNegative = 1.0
    training_fusion: NonNegative = 1.0
    fusion: NonNegative | Literal["auto"] = "auto"
    fusion_low: NonNegative = 0.1
    fusion_high: NonNegative = 1.0
    checkpoints: Count = 24
    criterion: Literal["log-loss", "accuracy"] = "log-loss"
    logit_scale: Positive | None = None
    random_state: Seed = None

    def _fit(self, problem: Problem) -> None:
        X, y = problem.labelled()
        X, text = unit(X), problem.prototypes()
        if self.logit_scale is None and problem.text is None:
            self.logit_scale_ = MEANS_SCALE
        generator = torch.Generator()
        if self.random_state is None:
            generator.seed()
        else:
            generator.manual_seed(self.random_state)

        learner = Learner(
            self._initial_weights(X.shape[1], generator, X.device),
            text,
            Objective(self.logit_scale_, self.training_fusion, self.margin, self.triplet_weight),
        )
        order = batch_order(len(X), min(self.batch_size, len(X)), self.steps, generator)
        selection = Selection(learner, text, self._fusion_grid(), held_out(problem.validation), self.criterion)
        with threads_for(learner.flat):
            record = train(learner, X, y, order, self._schedule(), selection.judge, self._checkpoints(selection))
        best = selection.finish(self.steps)

        *weights, learned = best.parameters
        self.weights_, self.prototypes_, self.text_ = torch.stack(weights), unit(learned), text
        self.fusion_, self.losses_ = best.fusion, record.losses
        last_tenth = record.triplet_active[-max(1, self.steps // 10) :]
        self.diagnosis_ = {
            "step": best.step,
            "fusion": best.fusion,
            "triplet_active": last_tenth.mean().item() if self.steps else 0.0,
            **self._movement(X, learner, best.step),
        }
        if selection.validation is not None:
            self.diagnosis_ |= self._ablation(*selection.validation)

    def transform(self, X: ArrayLike | Tensor | Features) -> np.ndarray | Tensor:
        """(n, d) unit vectors of the images after the map, where :attr:`prototypes_` are their class texts."""
        check_is_fitted(self)
        with torch.no_grad():
            mapped = self._mapped(unit(self._read_vectors(X, reset=False)))
        return mapped if isinstance(X, Tensor) else mapped.cpu().numpy()

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags

    def _mapped(self, X: Tensor) -> Tensor:
        return unit(map_rows(self.weights_.to(X.device).unbind(), X))

    def _scores(self, X: Tensor) -> Tensor:
        X = unit(X)
        own = self._mapped(X) @ self.prototypes_.to(X.device).T
        return own.add_(X @ self.text_.to(X.device).T, alpha=self.fusion_).mul_(self.logit_scale_)

    def _initial_weights(self, d: int, generator: torch.Generator, device: torch.device) -> list[Tensor]:
        """Drawn on the CPU, so that one seed gives one start on every device."""
        if self.init == "zero":
            return [torch.zeros(d, d, device=device) for _ in range(self.layers)]
        if self.init == "linear":
            bound = d**-0.5
            draws = [torch.rand(d, d, generator=generator).mul_(2 * bound).sub_(bound) for _ in range(self.layers)]
        else:
            draws = [torch.randn(d, d, generator=generator).mul_((2 / d) ** 0.5) for _ in range(self.layers)]
        return [W.to(device) for W in draws]

    def _schedule(self) -> Schedule:
        if self.min_learning_rate > self.learning_rate:
            raise InputError(
                f"Expected min_learning_rate ≤ learning_rate, got {self.min_learning_rate:g} > {self.learning_rate:g}."
            )
        return Schedule(self.steps, self.learning_rate, self.min_learning_rate, self.warmup_steps, self.weight_decay)

    def _fusion_grid(self) -> list[float]:
        if self.fusion != "auto":
            return [float(self.fusion)]
        if self.fusion_low > self.fusion_high:
            raise InputError(f"Expected fusion_low ≤ fusion_high, got {self.fusion_low:g} > {self.fusion_high:g}.")
        count = int((self.fusion_high - self.fusion_low) / 0.1 + 1e-6) + 1
        return [round(self.fusion_low + 0.1 * i, 10) for i in range(count)]

    def _checkpoints(self, selection: Selection) -> set[int]:
        """Geometric from the end of the schedule down to its 50th step: early on more changes in a step."""
        if selection.validation is None or not self.steps:
            return set()
        return set(np.geomspace(self.steps, min(50, self.steps), self.checkpoints).round().astype(int).tolist())

    def _movement(self, X: Tensor, learner: Learner, step: int) -> dict[str, object]:
        """What the map and the learned texts did to where things lie, as kept and at the end of training."""
        mapped = self._mapped(X)
        found: dict[str, object] = {
            "images_moved": 1 - (X * mapped).sum(dim=1).mean().item(),
            "texts_moved": 1 - (self.text_ * self.prototypes_).sum(dim=1).mean().item(),
        }
        pairs = {"before": (X, self.text_), "after": (mapped, self.prototypes_)}
        if step < self.steps:
            pairs["end"] = unit(map_rows(learner.weights, X)), unit(learner.text)
        if X.shape[1] > 1:  # a line has no plane
            found["modality_gap"] = {
                when: {k: v if math.isfinite(v) else None for k, v in vars(modality_gap(*pair)).items()}
                for when, pair in pairs.items()
            }
        return found

    def _ablation(self, X: Tensor, y: Tensor) -> dict[str, float]:
        """Validation accuracy, and what is left of it when one ingredient of the fitted model is switched off."""
        clip = X @ self.text_.T
        own = self._mapped(X) @ self.prototypes_.T
        return {
            "validation_accuracy": accuracy(own + self.fusion_ * clip, y),
            "validation_accuracy_zero_shot": accuracy(clip, y),
            "validation_accuracy_without_map": accuracy(X @ self.prototypes_.T + self.fusion_ * clip, y),
            "validation_accuracy_without_fusion": accuracy(own, y),
        }
