r"""UPL: prompts trained on the images of which zero-shot classification is most confident.

With p the zero-shot probabilities, image i is pseudo-labeled :math:`\hat y_i = \arg\max_k p_k(x_i)`. The chosen images
of class k are the `per_class` ones with :math:`\hat y_i = k` and the largest p, so that a class which zero-shot
predicts too often has no more of them than the others. On these images, N contexts are trained independently from
random values,

.. math::
    \min_{v^1 \dots v^N} \sum_n \operatorname{mean}_i \mathrm{CE}\bigl(s^n(x_i), \hat y_i\bigr), \qquad
    s^n_k(x) = \cos(f(x), g(t_k(v^n))) / \tau

and the mean of their N scores is used for prediction.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Generator, Tensor

from modalign.encoders.towers.vision_tower import VisionOutput
from modalign.methods.contract.parameters import Count
from modalign.methods.contract.prompting import PromptLearner, PromptMethod, text_prompts
from modalign.methods.contract.tower import Towers, cosine_logits
from modalign.tune.batches import Batch, ImageBatches, center_batches

if TYPE_CHECKING:
    from modalign.data.items import Items
    from modalign.encoders.clip import ClipEncoder


@dataclass(kw_only=True, eq=False, repr=False)
class UPL(PromptMethod["PromptEnsemble"]):
    r"""Unsupervised prompt learning: CoOp on the most confident pseudo-labels of each class; needs class names only.

    Pseudo-labels are made once, by zero-shot with the sentences given, and labels of images are not used. The scores of
    several contexts are averaged. Equations: :mod:`modalign.methods.prompts.upl`. Cost: one pass of the vision tower
    over all images; a step as in CoOp, with `prompts` passes of the text tower.

    Parameters
    ----------
    per_class : int, default=16
        Pseudo-labeled images of each class, or all where a class has fewer.
    prompts : int, default=16
        N, contexts that are trained side by side and averaged.
    n_ctx : int, default=16
        Trained tokens per context.

    Attributes
    ----------
    transduction_ : ndarray of shape (n,)
        Class of each fitted image, −1 for images that could not be decoded.
    diagnosis_ : dict
        ``pseudo_labels``, the number of chosen images of each class.

    Examples
    --------
    >>> import modalign as ma
    >>> from modalign.data.digits import load_digits
    >>> digits = load_digits().select(range(30))
    >>> method = ma.UPL(epochs=1, prompts=2, random_state=0)
    >>> model = ma.adapt(digits, method=method, unlabeled=True, classes=digits.class_names, mirror=False)
    >>> model.predict_proba(digits.select([0, 1])).shape
    (2, 10)
    """

    title = "UPL"
    paper = "Huang, Chu and Wei, Unsupervised prompt learning for vision-language models, 2022, arXiv:2204.03649"
    needs_labels = False
    ablations: ClassVar[dict[str, dict[str, Any]]] = {"one context": {"prompts": 1}}

    per_class: Count = 16
    prompts: Count = 16
    n_ctx: Count = 16
    epochs: Count = 50

    def _chosen(self, items: Items, towers: Towers, encoder: ClipEncoder) -> Items:
        reasons: dict[int, str] = {}
        rows, logits = [], []
        with torch.inference_mode():
            for batch in center_batches(items, encoder, encoder.batch_size, reasons=reasons):
                images = towers.vision(batch.pixels).pooled[0]
                logits.append(cosine_logits(images, towers.prototypes(), towers.logit_scale).cpu())
                rows.append(batch.indices)
        if not rows:
            return items  # no image can be decoded; the error is raised where batches are made
        confidence, labels = torch.cat(logits).softmax(dim=1).max(dim=1)
        best = most_confident(confidence, labels, self.per_class)
        chosen = items.select(torch.cat(rows)[best].numpy())
        pseudo, names = labels[best].numpy(), towers.class_names
        return replace(chosen, labels=pseudo, class_names=names, quarantined=items.left_out(reasons))

    def _learner(self, towers: Towers, generator: Generator) -> PromptEnsemble:
        prompts = text_prompts(towers, self.n_ctx, generator, sets=self.prompts)
        return PromptEnsemble(towers, prompts, "{}.", self.n_ctx)

    def _finish(self, items: Items, encoder: ClipEncoder) -> None:
        self.transduction_ = self.score_images(items, encoder).answers(items.ids)


class PromptEnsemble(PromptLearner):
    """Several independent contexts of the text tower, and the mean of their scores."""

    def logits_of(self, output: VisionOutput, classes: Tensor) -> Tensor:
        """(B, K) mean over the contexts of scaled cosines, from class features (N, K, d)."""
        return self._of_each(output, classes).mean(dim=0)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Return the sum of the losses of the contexts, so that each has the gradient of its own, and their mean."""
        texts = self.classes()
        own = torch.stack([self.cross_entropy(s, batch.labels) for s in self._of_each(self.batch_output(batch), texts)])
        return {"loss": own.sum(), "cross_entropy": own.mean()}

    def _of_each(self, output: VisionOutput, classes: Tensor) -> Tensor:
        return torch.stack([cosine_logits(output.pooled[0], own, self.towers.logit_scale) for own in classes])

    @torch.no_grad()
    def diagnose(self, data: ImageBatches) -> dict[str, Any]:
        """Return the change of the texts and the number of training images of each class."""
        counts = np.bincount(data.items.labels, minlength=len(self.towers))
        return {**super().diagnose(data), "pseudo_labels": counts.tolist()}


def most_confident(confidence: Tensor, labels: Tensor, per_class: int) -> Tensor:
    """Return the indices (m,), increasing, of the ``per_class`` most confident images of each label.

    Parameters
    ----------
    confidence, labels : Tensor of shape (n,)
        Largest probability of each image, and its class.
    per_class : int
        Images of each class; of equal ones the first.
    """
    order = torch.argsort(confidence, descending=True, stable=True)
    return torch.cat([order[labels[order] == k][:per_class] for k in labels.unique()]).sort().values
