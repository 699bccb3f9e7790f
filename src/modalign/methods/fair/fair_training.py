"""Trained parameters and loss of FAIR: Algorithm 1."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal, Self

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from modalign.core.features import UNLABELED
from modalign.core.renaming import stacklevel_outside
from modalign.encoders.towers.vision_tower import VisionTower
from modalign.linalg.divergence import divergence_from_uniform
from modalign.linalg.similarity import softmax_weights
from modalign.methods.contract.tower import Learner, Towers, cosine_logits
from modalign.methods.fair.fair_score import (
    SMALL_VOCABULARY,
    CropScores,
    Scale,
    Weighting,
    align,
    collapse,
    crop_weights,
    fairness,
    sample_confidence,
    zero_shot_shares,
)
from modalign.methods.fair.pseudo_labels import Labeler, PseudoLabeler, pseudo_labeler
from modalign.tune.crops import CropBatch
from modalign.tune.history import Epoch
from modalign.tune.targets import Target, trainable_module

if TYPE_CHECKING:
    from modalign.tune.batches import ImageBatches

CHUNK = 128  # crops in one forward pass
COLUMNS = ("images", "compared", "changed", "agreement", "gamma", "self_training", "fairness")


@dataclass(frozen=True, kw_only=True)
class SelfTrainingSettings:
    """Settings of Algorithm 1; the fields are parameters of :class:`~modalign.methods.fair.fair.FAIR`.

    By default, pseudo-labels are computed from whole images with the current class embeddings.
    """

    epochs: int
    logit_scale: float | None
    trainable: Target
    trainable_options: dict | None
    crops: int = 1
    keep: int | None = 1
    view: Literal["crops", "global"] = "global"
    labeler: Literal["fair", Labeler] = "fair"
    image_temperature: float = 1.0
    text_temperature: float = 1.0
    wca_keep: int | None = None
    wca_weights: Literal["softmax", "cls"] = "softmax"
    alignment: Literal["learned", "fixed"] = "learned"
    crop_weights: Literal["cls", "softmax"] = "cls"
    score_scale: Scale = "prob"
    weighting: Weighting = "margin"
    fairness_weight: float = 1.0
    class_prior: Literal["uniform", "estimate"] = "uniform"
    momentum: float | None = None
    refresh: int = 1

    @classmethod
    def of(cls, method: object, **own: Any) -> Self:
        """Return the settings of a method, with some of them replaced."""
        known = {f.name: getattr(method, f.name) for f in fields(cls) if hasattr(method, f.name)}
        return cls(**{**known, **own})


class SelfTraining(Learner[CropBatch]):
    """Trained parameters of the image tower, class embeddings, and the loss of Algorithm 1.

    Parameters
    ----------
    towers : Towers
        The frozen encoder and the classes.
    settings : SelfTrainingSettings
        The hyper-parameters.
    generator : Generator or None, default=None
        Generator of initial parameters; None if a saved state is loaded next.
    """

    first_anchors: Tensor
    average: Tensor
    histogram: Tensor
    tally: Tensor
    labels: Tensor
    first_labels: Tensor
    label_history: Tensor
    gammas: Tensor

    def __init__(self, towers: Towers, settings: SelfTrainingSettings, generator: Generator | None = None) -> None:
        super().__init__(towers)
        self.settings = settings
        self.logit_scale = settings.logit_scale or towers.logit_scale
        K = len(towers)
        self.anchors = nn.Parameter(towers.prototypes())
        self.tuned = trainable_module(
            settings.trainable, towers.vision, generator=generator, **(settings.trainable_options or {})
        )
        self.register_buffer("first_anchors", towers.prototypes(), persistent=False)
        momentum = settings.momentum
        self.momentum = (0.0 if K < SMALL_VOCABULARY else 0.5) if momentum is None else momentum
        self.register_buffer("average", torch.full((K,), 1 / K))
        self.register_buffer("histogram", torch.zeros(settings.epochs, K))
        self.register_buffer("tally", torch.zeros(settings.epochs, len(COLUMNS), dtype=torch.float64))
        self.class_prior: Tensor | None = None
        self.labeler: PseudoLabeler | None = None
        self.warned = False

    def begin(self, data: ImageBatches) -> None:
        """Allocate pseudo-label and weight of each image."""
        device = self.anchors.device
        self.register_buffer("labels", torch.full((len(data),), UNLABELED, device=device))
        self.register_buffer("first_labels", self.labels.clone())
        history = torch.full((self.settings.epochs, len(data)), UNLABELED, dtype=torch.int32, device=device)
        self.register_buffer("label_history", history)
        self.register_buffer("gammas", torch.zeros(len(data), device=device))
        if self.settings.class_prior == "estimate":
            self.class_prior = self.first_shares(data)
        if self.settings.labeler != "fair":
            self.labeler = pseudo_labeler(
                self.settings.labeler,
                self.towers,
                image_temperature=self.settings.image_temperature,
                text_temperature=self.settings.text_temperature,
                keep=self.settings.wca_keep,
            )

    @torch.no_grad()
    def first_shares(self, data: ImageBatches) -> Tensor:
        """Return the class shares (K,) by zero-shot classification of the images."""
        total = torch.zeros_like(self.average)
        for pixels in data.centered(CHUNK):
            found = self.towers.vision(pixels).pooled[0].float()
            total += len(pixels) * zero_shot_shares(found, self.first_anchors, self.logit_scale)
        return total / len(data)

    def vision(self) -> VisionTower:
        """Return the image tower with the current parameters."""
        return self.tuned.tower(self.towers.vision)

    def classes(self) -> Tensor:
        """Return the class embeddings (K, d)."""
        return self.anchors

    def scores(self, pixels: Tensor, classes: Tensor) -> Tensor:
        """Return scaled cosines of the images with the class embeddings."""
        return cosine_logits(self.vision()(pixels).pooled[0], classes, self.logit_scale)

    def loss(self, batch: CropBatch) -> dict[str, Tensor]:
        """Return L = mean γ · CE(strong view, pseudo-label) + L_reg (lines 16 to 29 of Algorithm 1), and its terms."""
        vision = self.vision()
        labels, gamma = self._pseudo_labels(batch, vision)  # equations 11 to 16, no gradient
        strong = vision(batch.views[1], checkpoint=self.towers.gradient_checkpointing).pooled[0]
        logits = cosine_logits(strong, self.anchors, self.logit_scale)
        training = (gamma * F.cross_entropy(logits, labels, reduction="none")).mean()  # equation 17
        fair, self.average = fairness(logits, self.average, self.momentum, self.class_prior)
        with torch.no_grad():
            here = torch.stack((gamma.mean(), training, fair)).double() * len(labels)
            self.tally[batch.epoch, 4:] += here
            self.tally[batch.epoch, 0] += len(labels)
        return {"loss": training + self.settings.fairness_weight * fair, "self_training": training, "fairness": fair}

    @torch.no_grad()
    def _pseudo_labels(self, batch: CropBatch, vision: VisionTower) -> tuple[Tensor, Tensor]:
        """Return pseudo-labels (b,) and weights, computed now or stored in the last refresh."""
        rows = batch.indices.to(self.labels.device)
        if batch.epoch % self.settings.refresh == 0:
            found = self.alignment(batch, vision)
            gammas = sample_confidence(
                found, score=self.settings.score_scale, weighting=self.settings.weighting, logit_scale=self.logit_scale
            )
            self.take(batch, found.scores.argmax(dim=1), gammas, found.votes)
        return self.labels[rows], self.gammas[rows]

    @torch.no_grad()
    def alignment(self, batch: CropBatch, vision: VisionTower) -> CropScores:
        """Compute ψ of the weak view (equations 11 to 14), from its crops or from the image."""
        settings, whole = self.settings, vision(batch.pixels)
        parts = settings.view == "crops" and batch.crops.shape[1] > 0
        encoded = [vision(few) for few in batch.chunks(CHUNK)] if parts else []

        def crops(kind: Literal["pooled", "classes"]) -> Tensor:
            vectors = torch.cat([getattr(some, kind)[0] for some in encoded])
            return vectors.float().unflatten(0, (len(batch.indices), -1))

        if self.labeler is not None:
            by_cls = settings.wca_weights == "cls"
            weights = crop_weights(whole.classes[0].float(), crops("classes")) if by_cls else None
            return self.labeler(whole.pooled[0].float(), crops("pooled") if encoded else None, weights)
        anchors = self.anchors if settings.alignment == "learned" else self.first_anchors
        if not encoded:
            one = torch.ones_like(whole.pooled[0, :, :1], dtype=torch.float32)
            return align(one, whole.pooled[0, :, None].float(), anchors, 1)
        if settings.crop_weights == "softmax":
            weights = softmax_weights(whole.pooled[0].float(), crops("pooled"))
        else:
            weights = crop_weights(whole.classes[0].float(), crops("classes"))
        return align(weights, crops("pooled"), anchors, settings.keep or settings.crops)

    def take(self, batch: CropBatch, labels: Tensor, gammas: Tensor, votes: Tensor) -> None:
        """Store the pseudo-labels (b,) of a batch and their weights, and count changes.

        Parameters
        ----------
        votes : Tensor of shape (b, k)
            Class predicted from each crop (or description) separately.
        """
        rows, epoch = batch.indices.to(self.labels.device), batch.epoch
        before = self.labels[rows]
        known = before != UNLABELED
        self.labels[rows], self.gammas[rows] = labels, gammas
        self.label_history[epoch, rows] = labels.int()
        self.first_labels[rows] = torch.where(known, self.first_labels[rows], labels)
        self.histogram[epoch] += torch.bincount(labels, minlength=len(self.towers))
        agreement = (votes == labels[:, None]).double().mean(dim=1).sum()
        changed = ((before != labels) & known).sum()
        self.tally[epoch, 1:4] += torch.stack((known.sum().double(), changed.double(), agreement))

    def ended(self, epoch: Epoch) -> Mapping[str, float]:
        """Return statistics of the epoch; warn once if the pseudo-labels collapse."""
        found = self.collapse(epoch.epoch)
        if found and not self.warned:
            self.warned = True
            warnings.warn(found, stacklevel=stacklevel_outside())
        return {name: value for name, value in self.notes(epoch.epoch).items() if not math.isnan(value)}

    def notes(self, epoch: int) -> dict[str, float]:
        """Return share of changed labels, agreement of the crops, KL from uniform and mean γ of an epoch."""
        epoch -= epoch % self.settings.refresh
        images, compared, changed, agreement, gamma, *_ = self.tally[epoch].tolist()
        return {
            "changed": changed / compared if compared else math.nan,
            "agreement": agreement / max(images, 1),
            "divergence": float(divergence_from_uniform(self.histogram[epoch])),
            "gamma": gamma / max(images, 1),
        }

    def collapse(self, epoch: int) -> str:
        """Return a warning if the pseudo-labels of an epoch have collapsed, else ""."""
        found = collapse(self.histogram[epoch - epoch % self.settings.refresh])
        return f"Epoch {epoch + 1}: {found}" if found else ""

    def state(self) -> dict[str, Tensor]:
        """Return trained parameters and class embeddings; 45,056 numbers at ViT-B/32 with ten classes."""
        return {name: value.detach() for name, value in self.named_parameters()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Load the tensors of :meth:`state`."""
        self.load_state_dict(state, strict=False)
