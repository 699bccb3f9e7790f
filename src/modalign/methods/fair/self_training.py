"""Base class of self-training methods."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
import torch
from torch import Generator

from modalign.core.errors import InputError
from modalign.core.features import UNLABELED
from modalign.core.renaming import Formerly
from modalign.data.copies import content_hash
from modalign.methods.contract.parameters import Augmentations, Count, Positive, Seed
from modalign.methods.contract.tower import TowerMethod, Towers
from modalign.methods.fair.fair_training import SelfTraining
from modalign.tune.crops import CropBatches
from modalign.tune.targets import Target

if TYPE_CHECKING:
    from modalign.data.items import Items
    from modalign.encoders.clip import ClipEncoder
    from modalign.tune.batches import ImageBatches


@dataclass(kw_only=True, eq=False, repr=False)
class SelfTrained(TowerMethod[SelfTraining]):
    """Base class of the self-training methods: shared hyper-parameters and optimizer defaults.

    Parameters
    ----------
    trainable : {"layer_norms", "lora", "k_adaptation"}, default="layer_norms"
        What is trained in the image tower: the weights and biases of its layer norms, LoRA updates, which need the
        package ``peft`` for their initial values, or K-Adaptation; see :mod:`~modalign.tune.targets`.
    trainable_options : dict or None, default=None
        Options of the latter two, such as ``{"rank": 8}``.
    logit_scale : float or None, default=None
        s; None is that of the encoder.
    epochs : int, default=15
        Passes over the images.
    batch_size : int, default=32
        Images per step.
    learning_rate : float, default=0.0001
        Peak learning rate.
    augmentation : str or list, default="strong"
        The strong view A; ``"strong"`` includes mirroring, which is unsuitable for letters and digits.
    training : dict or None, default=None
        Further entries of the recipe.
    random_state : int or None, default=None
        Seed of the order, the views and all other random numbers.

    Attributes
    ----------
    transduction_ : Tensor of shape (n,)
        Classes of the fitted images in their order, −1 where one could not be decoded.
    pseudo_labels_ : dict of str to Tensor
        Of the images that could be decoded: ``labels`` (epochs, n), int16, pseudo-labels by epoch, −1 in epochs that
        keep those before; ``images`` (n,), int64, hashes of their bytes.
    """

    needs_labels = False
    recipe: ClassVar[dict[str, Any]] = {
        "optimizer": "adamw",
        "weight_decay": 0.1,
        "undecayed": ("bias",),
        "schedule": "cosine by step",
        "warmup": 0,
        "final_rate": 2e-6,
    }

    trainable: Annotated[Target, Formerly("target")] = "layer_norms"
    trainable_options: Annotated[dict | None, Formerly("target_options")] = None
    logit_scale: Positive | None = None
    epochs: Count = 15
    batch_size: Count = 32
    learning_rate: Positive = 1e-4
    augmentation: Augmentations = "strong"
    training: dict | None = None
    random_state: Seed = None

    @abstractmethod
    def _learner(self, towers: Towers, generator: Generator | None) -> SelfTraining:
        """A fresh learner, or without a generator one that a saved state is restored to."""

    def _class_axes(self) -> dict[str, int]:
        return {"anchors": 0}

    def _served(self, towers: Towers) -> SelfTraining:
        return self._learner(towers, None)

    def _batches(self, items: Items, encoder: ClipEncoder, seed: int) -> CropBatches:
        return self._pairs(items, encoder, seed)

    def _pairs(
        self, items: Items, encoder: ClipEncoder, seed: int, weak: str = "random_resized_crop", **crops: Any
    ) -> CropBatches:
        """Return a weak view of every image for the pseudo-label, and a strong view for training."""
        if not isinstance(self.augmentation, str):
            raise InputError(f"Expected one augmentation, that of the strong view, got {self.augmentation}.")
        views = (weak, self.augmentation)
        return CropBatches(items, encoder, augmentation=views, seed=seed, **({"crops": 0} | crops))

    def _finish(self, items: Items, encoder: ClipEncoder) -> None:
        self.transduction_ = self.score_images(items, encoder).answers(items.ids)
        decoded = np.flatnonzero(self.transduction_ != UNLABELED).tolist()
        hashes = np.array([int(content_hash(items, i) or "0", 16) for i in decoded], dtype=np.uint64)
        self.pseudo_labels_["images"] = torch.from_numpy(hashes.view(np.int64))

    def _diagnose(self, learner: SelfTraining, data: ImageBatches) -> dict[str, Any]:
        refresh = learner.settings.refresh
        notes = [learner.notes(epoch) for epoch in range(self.epochs)]
        found: dict[str, Any] = {name: [note[name] for note in notes] for name in notes[0]}
        found["changed"] = [None if math.isnan(share) else share for share in found["changed"]]
        terms = learner.tally[:, 5:] / learner.tally[:, :1].clamp_min(1)
        found["self_training"], found["fairness"] = terms.T.tolist()
        last = self.epochs - 1 - (self.epochs - 1) % refresh
        found["pseudo_labels"] = learner.histogram[last].long().tolist()
        self.pseudo_labels_ = {"labels": learner.label_history.cpu()}
        found["changed_from_start"] = float((learner.labels != learner.first_labels).double().mean())
        messages = [learner.collapse(epoch) for epoch in range(self.epochs)]
        if any(messages):
            found["warning"] = next(filter(None, messages))
        if learner.class_prior is not None:
            found["class_prior"] = learner.class_prior.tolist()
        if refresh > 1:
            found["approximation"] = f"pseudo-labels recomputed every {refresh} epochs only"
        return found
