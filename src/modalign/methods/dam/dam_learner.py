"""Trained parameters of DAM: prompts in both towers and the eleven scalars of the alignment."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from modalign.linalg.similarity import unit
from modalign.methods.contract.tower import Towers
from modalign.methods.dam.dam_alignment import DAMAlignment, DualAlignment
from modalign.methods.dam.hierarchical_text import HierarchicalText
from modalign.methods.dam.hpt_learner import HPTLearner
from modalign.tune.batches import Batch, ImageBatches
from modalign.tune.prompts import Prompts

SAMPLE = 256  # number of fitted images in the diagnosis


class DAMLearner(HPTLearner):
    """Prompts of both towers and the eleven scalars of the alignment.

    Parameters
    ----------
    towers : Towers
        The frozen encoder and the classes.
    visual : Prompts
        Prompts of every layer of the vision tower.
    text : HierarchicalText or None
        Text tower with prompts; None for prediction from the features passed to :meth:`restore`.
    alignment : DAMAlignment
        Alignment of prompted and frozen features, and score.
    loss_weight : float
        ν.
    """

    frozen_texts: Tensor

    def __init__(
        self,
        towers: Towers,
        visual: Prompts,
        text: HierarchicalText | None,
        alignment: DAMAlignment,
        loss_weight: float,
    ) -> None:
        super().__init__(towers, visual, text)
        self.alignment, self.loss_weight = alignment, loss_weight
        self.register_buffer("frozen_texts", towers.prototypes(), persistent=False)

    def scores(self, pixels: Tensor, classes: Tensor) -> Tensor:
        """Return logits (B, K); both vision towers get the same view."""
        return self.compared(pixels, pixels, classes)[0].logits

    def loss(self, batch: Batch) -> Mapping[str, Tensor]:
        """Cross-entropy + ν L_SMA, equation 13, under one random graph per class."""
        found, _ = self.compared(batch.views[0], batch.views[-1], self.drawn_texts())
        cross_entropy = F.cross_entropy(found.logits, batch.labels)
        return {
            "loss": cross_entropy + self.loss_weight * found.loss,
            "cross_entropy": cross_entropy,
            "same_modal": found.loss,
        }

    def compared(self, prompted_view: Tensor, frozen_view: Tensor, texts: Tensor) -> tuple[DualAlignment, Tensor]:
        """Return the alignment of both vision towers with the texts, and the cosines (B, K) without it."""
        images = self.images(prompted_view)
        with torch.no_grad():
            frozen = self.towers.vision(frozen_view).pooled[0]
        sets = {}
        if self.alignment.cross_modal == "sets":
            sets = {
                "image_set": torch.stack([images, frozen], dim=1),
                "text_set": torch.cat([unit(texts)[:, None], self.towers.class_text], dim=1),
            }
        found = self.alignment(frozen, images, self.frozen_texts, texts, **sets)
        return found, unit(images) @ unit(texts).T

    def scalars(self) -> dict[str, float]:
        """Return the learned scalars by their symbols in the paper."""
        own, nothing = self.alignment, self.frozen_texts
        from_image, from_text = own.cross_scales[1::2].exp()
        values = {
            "lambda_image": own.images.ridge(nothing),
            "lambda_text": own.texts.ridge(nothing),
            "rho_image": own.images.rho,
            "rho_text": own.texts.rho,
            "mu_image_to_text": from_image,
            "mu_text_to_image": from_text,
            "alpha": own.alpha,
            "omega": own.omega,
            "beta": own.blend,
        }
        return {name: value.item() for name, value in values.items()}

    @torch.no_grad()
    def effect(self, data: ImageBatches, batch_size: int) -> dict[str, float]:
        """Return the effect of both alignments on training images, with the augmentation of the first epoch."""
        texts, rows = self.classes(), []
        for batch in data.in_order(batch_size):
            found, cosine = self.compared(batch.views[0], batch.views[-1], texts)
            cross = torch.zeros_like(cosine) if found.cross_modal is None else found.cross_modal
            decisions = [scores.argmax(dim=1) for scores in (cosine, found.cosine, found.logits)]
            changed = [(one != other).double() for one, other in pairwise(decisions)]
            rows.append(torch.stack([cross.std(dim=1, correction=0).double(), *changed], dim=1))
            if sum(map(len, rows)) >= SAMPLE:
                break
        spread, by_sma, by_cma = torch.cat(rows).mean(dim=0).tolist()
        return {"cma_spread": spread, "changed_by_sma": by_sma, "changed_by_cma": by_cma}
