r"""CLIP-LoRA: low-rank updates of the attention of both towers.

With a frozen map W, :math:`A \in \mathbb{R}^{r \times \text{inputs}}` drawn from
:math:`U(\pm 1/\sqrt{\text{inputs}})` and B = 0 initially, which is exactly zero-shot,

.. math::
    W x + \gamma B A \operatorname{dropout}(x), \qquad \gamma = \frac{\alpha}{\sqrt r}, \qquad
    p(y = k) \propto \exp(\cos(f(x), g(t_k)) / \tau)

trained by cross-entropy, where :math:`t_k` is `template` with the name of the class. In prediction W + γ B A
replaces W, so an image costs as much as in zero-shot. The updates apply to other classes too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Generator, Tensor

from modalign.core.errors import InputError
from modalign.linalg.similarity import unit
from modalign.methods.contract.parameters import Augmentations, Count, Fraction, NonNegative, Positive, Seed
from modalign.methods.contract.prompting import DIAGNOSED, SENTENCES, sentences_with_slots
from modalign.methods.contract.tower import Learner, TowerMethod, Towers, cosine_logits
from modalign.tune.batches import ImageBatches
from modalign.tune.updates import LoRA


@dataclass(kw_only=True, eq=False, repr=False)
class CLIPLoRA(TowerMethod["LowRankLearner"]):
    r"""Low-rank updates of the attention maps in every layer of the image tower and of the text tower.

    Initially equal to zero-shot and trained by cross-entropy. The updates apply to other classes too. Equations:
    :mod:`modalign.methods.prompts.clip_lora`.

    Parameters
    ----------
    rank : int, default=2
        r.
    alpha : float, default=1.0
        α.
    dropout : float, default=0.25
        Share of the inputs of B A that is set to zero in training.
    maps : str, default="qkv"
        Which attention maps are updated, letters of ``"qkv"``.
    towers : {"both", "image", "text"}, default="both"
        Which towers are updated.
    template : str
        Prompt of a class, with ``{}`` for its name.
    updates_per_shot : int, default=500
        Optimizer steps per labeled image of a class.
    epochs : int or None, default=None
        Passes over the images, in place of `updates_per_shot`.
    batch_size : int, default=32
        Images per step.
    learning_rate : float, default=2e-4
        Peak learning rate.
    augmentation : str or list of str
        Image augmentation. Mirroring, as published, is unsuitable for digits and letters.
    training : dict or None, default=None
        Further entries of :class:`~modalign.tune.recipe.Recipe`, such as ``{"precision": "float32"}``, which turns
        off the choice of bfloat16 where a step is faster in it and agrees.
    random_state : int or None, default=None
        Seed of A, of the dropout, of the order of the images and of their augmentation.

    Attributes
    ----------
    tensors_ : dict of str to Tensor
        A and B of every map, by tower, layer and map.
    diagnosis_ : dict
        ``text_moved`` and ``image_moved``, one minus the mean cosine with the frozen features.

    References
    ----------
    .. [1] Zanella and Ben Ayed, "Low-rank few-shot adaptation of vision-language models", 2024, arXiv:2405.18541.

    Examples
    --------
    >>> import modalign as ma
    >>> from modalign.data.digits import load_digits
    >>> digits = load_digits().select(range(30))
    >>> method = ma.CLIPLoRA(epochs=1, augmentation="center", random_state=0)
    >>> model = ma.adapt(digits, method=method, validation="none")
    >>> model.predict(digits.select([0]))[0].name
    'zero'
    """

    title = "CLIP-LoRA"
    paper = (
        "Zanella and Ben Ayed, Low-rank few-shot adaptation of vision-language models, CVPR Workshops 2024, "
        "arXiv:2405.18541"
    )
    ablations: ClassVar[dict[str, dict[str, Any]]] = {
        "image tower only": {"towers": "image"},
        "text tower only": {"towers": "text"},
        "no dropout": {"dropout": 0.0},
    }
    recipe: ClassVar[dict[str, Any]] = {
        "optimizer": "adamw",
        "weight_decay": 0.01,
        "schedule": "cosine by step",
        "warmup": 0,
        "final_rate": 1e-6,
    }

    rank: Count = 2
    alpha: Positive = 1.0
    dropout: Fraction = 0.25
    maps: str = "qkv"
    towers: Literal["both", "image", "text"] = "both"
    template: str = "a photo of a {}."
    updates_per_shot: Count = 500
    epochs: Count | None = None
    batch_size: Count = 32
    learning_rate: NonNegative = 2e-4
    augmentation: Augmentations = "random_resized_crop_flip"
    training: dict | None = None
    random_state: Seed = None

    def _epochs(self, labels: np.ndarray) -> int:
        if self.epochs is not None:
            return self.epochs
        shots = len(labels) / max(1, len(np.unique(labels)))
        per_epoch = math.ceil(len(labels) / self.batch_size)
        return max(1, math.ceil(self.updates_per_shot * shots / per_epoch))

    def _learner(self, towers: Towers, generator: Generator | None) -> LowRankLearner:
        if "{}" not in self.template:
            raise InputError(f"Expected a template with {{}} for the name of the class, got {self.template!r}.")
        return LowRankLearner(towers, self, generator)

    def _served(self, towers: Towers) -> LowRankLearner:
        return self._learner(towers, None)

    def _diagnose(self, learner: LowRankLearner, data: ImageBatches) -> dict[str, Any]:
        return learner.diagnose(data)


class LowRankLearner(Learner):
    """A and B of both towers.

    Parameters
    ----------
    towers : Towers
        The frozen encoder and the classes.
    method : CLIPLoRA
        The hyper-parameters.
    generator : Generator or None
        Generator of A; None if a saved state is loaded next.
    """

    def __init__(self, towers: Towers, method: CLIPLoRA, generator: Generator | None) -> None:
        super().__init__(towers)
        self.dropout = method.dropout
        self.sentences = sentences_with_slots(towers, method.template, 0)
        settings: dict[str, Any] = {
            "rank": method.rank,
            "alpha": method.alpha * math.sqrt(method.rank),  # which LoRA divides by the rank
            "maps": tuple(method.maps),
            "generator": generator,
            "start": generator is not None,
        }
        self.image = LoRA(towers.vision, **settings) if method.towers != "text" else None
        self.text = LoRA(towers.text, **settings) if method.towers != "image" else None

    def classes(self) -> Tensor:
        """(K, d) features of the class sentences."""
        checkpoint = self.towers.gradient_checkpointing
        chunk = SENTENCES if checkpoint or not torch.is_grad_enabled() else None
        tower = self._updated(self.text, self.towers.text)
        return tower(self.sentences, chunk=chunk, checkpoint=checkpoint).pooled[0]

    def scores(self, pixels: Tensor, classes: Tensor) -> Tensor:
        """(B, K) scaled cosines."""
        return cosine_logits(self._encode_images(pixels), classes, self.towers.logit_scale)

    @torch.no_grad()
    def diagnose(self, data: ImageBatches) -> dict[str, Any]:
        """Return the change of texts and images."""
        self.eval()
        pixels = next(data.in_order(DIAGNOSED)).pixels
        frozen = self.towers.text(self.sentences, chunk=SENTENCES).pooled[0], self.towers.vision(pixels).pooled[0]
        pairs = zip(("text_moved", "image_moved"), frozen, (self.classes(), self._encode_images(pixels)), strict=True)
        return {
            name: 1 - (unit(before.float()) * unit(after.float())).sum(dim=1).mean().item()
            for name, before, after in pairs
        }

    def _encode_images(self, pixels: Tensor) -> Tensor:
        tower = self._updated(self.image, self.towers.vision)
        return tower(pixels, checkpoint=self.towers.gradient_checkpointing).pooled[0]

    def _updated(self, update: LoRA | None, tower: Any) -> Any:
        """Return a tower with the current updates, with dropout while training."""
        return tower if update is None else update.tower(tower, self.dropout if self.training else 0.0)
