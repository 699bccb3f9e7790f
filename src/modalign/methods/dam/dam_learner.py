"""What DAM trains: prompts in both towers and the eleven scalars that align them with the frozen features."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from modalign.linalg.similarity import unit
from modalign.methods.contract.tower import Learner, Towers
from modalign.methods.dam.dam_alignment import DAMAlignment, DualAlignment
from modalign.methods.dam.hpt import HierarchicalText
from modalign.tune.batches import Batch, ImageBatches
from modalign.tune.prompts import Prompts

SAMPLE = 256  # fitted images that the diagnosis looks at


class DAMLearner(Learner):
    """Prompts of both towers and the eleven scalars of the alignment.

    Parameters
    ----------
    towers : Towers
        The frozen encoder and the classes.
    visual : Prompts
        Of every layer of the vision tower.
    text : HierarchicalText or None
        The text side; None for prediction, from the features that :meth:`restore` is given.
    alignment : DAMAlignment
        Of prompted with frozen features, and the score.
    loss_weight : float
        ν.
    """

    frozen_texts: Tensor
    kept_texts: Tensor

    def __init__(
        self,
        towers: Towers,
        visual: Prompts,
        text: HierarchicalText | None,
        alignment: DAMAlignment,
        loss_weight: float,
    ) -> None:
        super().__init__(towers)
        self.visual, self.text, self.alignment, self.loss_weight = visual, text, alignment, loss_weight
        self.fingerprint = "" if text is None else text.fingerprint
        self.register_buffer("frozen_texts", towers.prototypes(), persistent=False)

    def classes(self) -> Tensor:
        """(K, d) prompted text features, the mean over the graphs of each class."""
        return self.kept_texts if self.text is None else self.text.mean()

    def scores(self, pixels: Tensor, classes: Tensor) -> Tensor:
        """(B, K) logits; both vision towers see the same view."""
        return self.compared(pixels, pixels, classes)[0].logits

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Cross-entropy + ν L_SMA, equation 13, under one random graph per class.

        The graphs are drawn from torch's own generator, which the training seeds anew at every step.
        """
        assert self.text is not None
        graphs = torch.randint(self.text.graphs, (len(self.towers),))
        found, _ = self.compared(batch.views[0], batch.views[-1], self.text(graphs))
        cross_entropy = F.cross_entropy(found.logits, batch.labels)
        return {
            "loss": cross_entropy + self.loss_weight * found.loss,
            "cross_entropy": cross_entropy,
            "same_modal": found.loss,
        }

    def compared(self, prompted_view: Tensor, frozen_view: Tensor, texts: Tensor) -> tuple[DualAlignment, Tensor]:
        """The alignment of what both vision towers see with the texts, and the cosines (B, K) without it."""
        checkpoint = self.towers.gradient_checkpointing
        images = self.towers.vision(prompted_view, self.visual.prompts(), checkpoint=checkpoint).pooled[0]
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

    def state(self) -> dict[str, Tensor]:
        """All parameters, and the text features that are the same for all images."""
        return {**super().state(), "text_features": self.classes()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take over the parameters; and for prediction alone the text features too."""
        self.load_state_dict({name: state[name] for name in self.state_dict()})
        if self.text is None:
            self.register_buffer("kept_texts", state["text_features"], persistent=False)

    def scalars(self) -> dict[str, float]:
        """What the alignment has learned, by the letters of the paper."""
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
        """What both alignments do to training images, as training sees them in its first epoch."""
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
