"""What methods that train on their own labels share: labels given are never read, labels made are watched."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from modalign.features import UNLABELLED, ClassText
from modalign.methods.fair_training import SelfTraining
from modalign.methods.tower import TowerMethod

if TYPE_CHECKING:
    from modalign.data.items import Items
    from modalign.encoders.clip import ClipEncoder
    from modalign.tune.batches import ImageBatches


class SelfTrained(TowerMethod):
    """Base of FAIR and of the self-trainers beside it; AdamW with the recipe of their code bases.

    Attributes
    ----------
    transduction_ : (n,) classes of the fitted images in their order, −1 where one could not be decoded.
    """

    needs_labels = False
    recipe: ClassVar[dict[str, Any]] = {
        "optimiser": "adamw",
        "weight_decay": 0.1,
        "undecayed": ("bias",),
        "schedule": "cosine by step",
        "warmup": 0,
        "final_rate": 2e-6,
    }

    def fit(
        self,
        items: Items,
        labels: np.ndarray | None = None,
        *,
        text: ClassText,
        encoder: ClipEncoder,
        validation: Items | None = None,
        checkpoint: str | Path | None = None,
    ) -> Self:
        """Learn from images, then name them; see :meth:`TowerMethod.fit`. Labels are not used."""
        super().fit(items, labels, text=text, encoder=encoder, validation=validation, checkpoint=checkpoint)
        scored = self.score_images(items, encoder)
        classes = dict(zip(scored.ids, scored.logits.argmax(axis=1).tolist(), strict=True))
        self.transduction_ = np.array([classes.get(name, UNLABELLED) for name in items.ids])
        return self

    def _diagnose(self, learner: SelfTraining, data: ImageBatches) -> dict[str, Any]:
        refresh = learner.method.refresh
        notes = [learner.notes(epoch) for epoch in range(self.epochs)]
        found: dict[str, Any] = {name: [note[name] for note in notes] for name in notes[0]}
        found["changed"] = [None if math.isnan(share) else share for share in found["changed"]]
        terms = learner.tally[:, 5:] / learner.tally[:, :1].clamp_min(1)
        found["self_training"], found["fairness"] = terms.T.tolist()
        last = self.epochs - 1 - (self.epochs - 1) % refresh
        found["pseudo_labels"] = learner.histogram[last].long().tolist()
        found["changed_from_start"] = float((learner.labels != learner.first_labels).double().mean())
        said = [learner.collapse(epoch) for epoch in range(self.epochs)]
        if any(said):
            found["warning"] = next(filter(None, said))
        if learner.shares is not None:
            found["shares"] = learner.shares.tolist()
        if refresh > 1:
            found["approximation"] = f"pseudo-labels made anew in every {refresh} epochs only"
        return found
