"""Self-training after DPA: pseudo-labels from aligned text and image prototypes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from modalign.core.renaming import Formerly
from modalign.linalg.similarity import unit
from modalign.methods.contract.parameters import Fraction, NonNegative
from modalign.methods.contract.tower import Towers, cosine_logits
from modalign.methods.fair.fair_training import SelfTraining, SelfTrainingSettings
from modalign.methods.fair.self_training import SelfTrained
from modalign.tune.crops import CropBatch
from modalign.tune.history import Epoch

if TYPE_CHECKING:
    from modalign.encoders.towers.vision_tower import VisionTower
    from modalign.tune.batches import ImageBatches

RECENT = 32  # batches whose mean prediction evens out the text's


class DualPrototypes(SelfTraining):
    """Learner with trained layer norms and text prototypes; image prototypes are means of stored features.

    Parameters
    ----------
    towers : Towers
        The frozen encoder and the classes.
    method : FAIR
        The hyper-parameters.
    generator : Generator or None, default=None
        As for :class:`~modalign.methods.fair.fair_training.SelfTraining`.
    """

    recent: Tensor
    seen: Tensor
    image_prototypes: Tensor
    memory: Tensor

    def __init__(self, towers: Towers, method: DPALike, generator: Generator | None = None) -> None:
        super().__init__(towers, SelfTrainingSettings.of(method), generator)
        self.dual = method
        K = len(towers)
        self.register_buffer("recent", torch.zeros(RECENT, K))
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))
        self.register_buffer("image_prototypes", torch.zeros_like(self.first_anchors))

    def begin(self, data: ImageBatches) -> None:
        """Allocate a feature per image."""
        super().begin(data)
        self.register_buffer("memory", torch.zeros(len(data), self.anchors.shape[1], device=self.anchors.device))

    def loss(self, batch: CropBatch) -> dict[str, Tensor]:
        """Weighted self-training loss, fairness, and alignment of the prototypes once image prototypes exist."""
        terms = super().loss(batch)
        known = (self.image_prototypes != 0).any(dim=1)
        if not bool(known.any()):
            return terms
        similar = self.logit_scale * (self.image_prototypes @ unit(self.anchors).T)
        aligned = F.cross_entropy(similar[known], known.nonzero()[:, 0])
        return {**terms, "loss": terms["loss"] + self.dual.alignment_weight * aligned, "alignment": aligned}

    @torch.no_grad()
    def _pseudo_labels(self, batch: CropBatch, vision: VisionTower) -> tuple[Tensor, Tensor]:
        features = unit(vision(batch.pixels).pooled[0].float())
        rows = batch.indices.to(self.labels.device)
        self.memory[rows] = features
        text = self._evened(cosine_logits(features, self.anchors, self.logit_scale).softmax(dim=1))
        images = self._by_images(features)
        both = text if images is None else self.dual.image_weight * images + (1 - self.dual.image_weight) * text
        labels = both.argmax(dim=1)
        weights = _trust(text, labels) if images is None else _trust(text, labels) * _trust(images, labels)
        votes = text if images is None else torch.stack((text, images), dim=1)
        self.take(batch, labels, weights, votes.reshape(len(labels), -1, text.shape[1]).argmax(dim=2))
        return labels, weights

    def _evened(self, probabilities: Tensor) -> Tensor:
        """Probabilities over their mean in the last 32 batches, summing to one again."""
        self.recent[int(self.seen) % RECENT] = probabilities.mean(dim=0)
        self.seen += 1
        mean = self.recent[: int(self.seen.clamp(max=RECENT))].mean(dim=0)
        evened = probabilities / mean.clamp_min(torch.finfo(mean.dtype).tiny)
        return evened / evened.sum(dim=1, keepdim=True)

    def _by_images(self, features: Tensor) -> Tensor | None:
        """Probabilities by the image prototypes there are; classes without one have none."""
        absent = (self.image_prototypes == 0).all(dim=1)
        if bool(absent.all()):
            return None
        logits = self.logit_scale * (features @ self.image_prototypes.T)
        return logits.masked_fill(absent, -torch.inf).softmax(dim=1)

    def ended(self, epoch: Epoch) -> Mapping[str, float]:
        """New image prototypes from the memory, before the epoch counts as done."""
        with torch.no_grad():
            sums = torch.zeros_like(self.image_prototypes).index_add_(0, self.labels.clamp_min(0), self.memory)
            self.image_prototypes.copy_(unit(sums))
        return super().ended(epoch)


@dataclass(kw_only=True, eq=False, repr=False)
class DPALike(SelfTrained):
    r"""Self-training with two classifiers, trained text prototypes Z and image prototypes P; after DPA.

    f are the features of whole images in the current tower. They are stored; after every epoch P_k is the mean
    direction of the stored features with pseudo-label k.

    .. math::
        p^t &= \mathrm{norm}\bigl(\mathrm{softmax}(s f Z^\top) / \bar p\bigr), \quad
        p^v = \mathrm{softmax}(s f P^\top) \\
        \hat y &= \arg\max_y \; a\, p^v_y + (1 - a)\, p^t_y, \quad
        w = \frac{p^t_{\hat y}}{\max p^t} \cdot \frac{p^v_{\hat y}}{\max p^v} \\
        \mathcal L &= \mathrm{E}[-w \log p_{\hat y}(A(x))] - \tfrac1K \textstyle\sum_j \log \bar p_j
        + b \, \mathrm{CE}(s P Z^\top, I)

    with p̄ the mean of the last 32 batches in the first line and of the batch in the last. In the first epoch, before
    P exists, only p^t is used.

    Parameters
    ----------
    image_weight : float, default=0.5
        a.
    alignment_weight : float, default=1.0
        b; published: 0.01 for EuroSAT, 1 otherwise.
    fairness_weight : float, default=1.0
        Factor of the fairness term.
    learning_rate : float, default=0.0001
        Peak learning rate; published: 1e-6 to 1e-4 depending on the data set.

    Attributes
    ----------
    transduction_ : Tensor of shape (n,)
        Classes of the fitted images, −1 where one could not be decoded.
    diagnosis_ : dict
        As for :class:`~modalign.methods.fair.fair.FAIR`; ``gamma`` is w; ``agreement`` is the share of both classifiers
        that agree with the combined pseudo-label.

    Examples
    --------
    >>> import modalign as ma
    >>> from modalign.data.digits import load_digits
    >>> digits = load_digits().select(range(30))
    >>> method = ma.DPALike(epochs=1, random_state=0)
    >>> model = ma.adapt(digits, method=method, mirror=False)
    >>> model.predict_proba(digits.select([0, 1])).shape
    (2, 10)
    """

    title = "DPA-like"
    paper = "after Ali, Silva and Khan, DPA: dual prototypes alignment for unsupervised adaptation, WACV 2025"
    ablations: ClassVar[dict[str, dict[str, Any]]] = {
        "text prototypes alone": {"image_weight": 0.0},
        "no alignment": {"alignment_weight": 0.0},
        "no fairness": {"fairness_weight": 0.0},
    }

    image_weight: Annotated[Fraction, Formerly("mix")] = 0.5
    alignment_weight: NonNegative = 1.0
    fairness_weight: Annotated[NonNegative, Formerly("fairness")] = 1.0

    def _learner(self, towers: Towers, generator: Generator | None) -> DualPrototypes:
        return DualPrototypes(towers, self, generator)


def _trust(probabilities: Tensor, labels: Tensor) -> Tensor:
    """(b,) p[ŷ] / max p."""
    return probabilities.gather(1, labels[:, None])[:, 0] / probabilities.amax(dim=1)
