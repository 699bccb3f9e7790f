"""Trained parameters of HPT: hierarchical prompts in both towers."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from modalign.methods.contract.tower import Learner, Towers, cosine_logits
from modalign.methods.dam.hierarchical_text import HierarchicalText
from modalign.tune.batches import Batch
from modalign.tune.history import Epoch
from modalign.tune.prompts import Prompts


class HPTLearner(Learner):
    """Prompts of both towers.

    Parameters
    ----------
    towers : Towers
        The frozen encoder and the classes.
    visual : Prompts
        Prompts of every layer of the vision tower.
    text : HierarchicalText or None
        Text tower with prompts; None for prediction from the features passed to :meth:`restore`.
    """

    kept_texts: Tensor

    def __init__(self, towers: Towers, visual: Prompts, text: HierarchicalText | None) -> None:
        super().__init__(towers)
        self.visual, self.text = visual, text
        self.seconds: list[float] = []
        self.fingerprint = "" if text is None else text.fingerprint

    def classes(self) -> Tensor:
        """(K, d) prompted text features, the mean over the graphs of each class."""
        return self.kept_texts if self.text is None else self.text.mean()

    def images(self, pixels: Tensor) -> Tensor:
        """(B, d) prompted image features of images (B, 3, H, W), not normalized."""
        checkpoint = self.towers.gradient_checkpointing
        return self.towers.vision(pixels, self.visual.prompts(), checkpoint=checkpoint).pooled[0]

    def scores(self, pixels: Tensor, classes: Tensor) -> Tensor:
        """Return logits (B, K), scaled cosines."""
        return cosine_logits(self.images(pixels), classes, self.towers.logit_scale)

    def drawn_texts(self) -> Tensor:
        """(K, d) prompted text features under one random graph per class.

        The graphs are drawn from the global generator of torch, which the training loop seeds at every step.
        """
        assert self.text is not None
        return self.text(torch.randint(self.text.graphs, (len(self.towers),)))

    def loss(self, batch: Batch) -> Mapping[str, Tensor]:
        """Cross-entropy of the first view under one random graph per class."""
        return {"loss": F.cross_entropy(self.scores(batch.pixels, self.drawn_texts()), batch.labels)}

    def ended(self, epoch: Epoch) -> None:
        """Note the time of an epoch."""
        self.seconds.append(epoch.seconds)

    def state(self) -> dict[str, Tensor]:
        """Return all parameters and the text features."""
        return {**super().state(), "text_features": self.classes()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Load the parameters and, for prediction, the text features."""
        self.load_state_dict({name: state[name] for name in self.state_dict()})
        if self.text is None:
            self.register_buffer("kept_texts", state["text_features"], persistent=False)
