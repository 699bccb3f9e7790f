"""A self-trainer after LaFTer: a classifier learned from sentences, then frozen, labels the images it is tuned on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from modalign.linalg.optimizers import Descent, cosine_rates, descend
from modalign.linalg.similarity import unit
from modalign.methods.contract.descent import seeded
from modalign.methods.contract.parameters import NonNegative, Positive, Range
from modalign.methods.contract.tower import Towers
from modalign.methods.fair.fair_training import SelfTraining, SelfTrainingSettings
from modalign.methods.fair.self_training import SelfTrained

if TYPE_CHECKING:
    from modalign.tune.batches import ImageBatches

TEXT_RATE = 1e-3  # of AdamW on the classifier of sentences


class TaughtByText(SelfTraining):
    """Layer norms alone learn; the anchors are what sentences taught, before any image was seen.

    Parameters
    ----------
    towers : the frozen encoder and the classes.
    method : the hyper-parameters.
    generator : as for :class:`~modalign.methods.fair.fair_training.SelfTraining`.
    """

    def __init__(self, towers: Towers, method: LaFTerLike, generator: Generator | None = None) -> None:
        frozen = {"alignment": "fixed", "weighting": "none", "fairness_weight": 0.0}
        super().__init__(towers, SelfTrainingSettings.of(method, **frozen), generator)
        self.anchors.requires_grad_(False)
        self._text = method

    def begin(self, data: ImageBatches) -> None:
        """Learn the classifier, which then stays as it is."""
        super().begin(data)
        learned = text_classifier(
            self.towers.class_text,
            steps=self._text.text_steps,
            noise=self._text.text_noise,
            logit_scale=self.logit_scale,
            random_state=self._text.random_state or 0,
        )
        self.anchors.data.copy_(learned)
        self.first_anchors.copy_(learned)


@dataclass(kw_only=True, eq=False, repr=False)
class LaFTerLike(SelfTrained):
    r"""Self-training of the image tower's layer norms by a frozen classifier that was learned from sentences alone.

    As FAIR's paper describes LaFTer (Mirza et al. 2023): since text and images share a space, a linear classifier
    with unit rows Z is learned from the sentences of all classes,

    .. math:: \min_Z \; \mathrm{E}\, \mathrm{CE}\bigl(s Z (t + \epsilon)/\lVert t + \epsilon \rVert, \; y(t)\bigr),

    frozen, and then names whole images as the tuned tower sees them; the tower learns the same names for strong views:

    .. math:: \hat y = \arg\max_y \cos(f(\alpha(x)), Z_y), \quad
              \mathcal L = \mathrm{E}\bigl[-\log p_{\hat y}(A(x))\bigr] .

    What is not known here, and taken as said: the original also tunes visual prompts and has its own augmentation of
    text and images; its paper and code were not read. Only layer norms learn here, ε is Gaussian, α is a random
    resized crop. So these are not LaFTer's figures. Cost: 2 forward passes and one backward pass an image.

    Parameters
    ----------
    text_steps : updates of the classifier of sentences; 0 keeps the mean direction of each class.
    text_noise : length of ε in units of that of a sentence vector.

    Attributes
    ----------
    transduction_ : (n,) classes of the fitted images, −1 where one could not be decoded.
    diagnosis_ : as for :class:`~modalign.methods.fair.fair.FAIR`; all weights γ are 1 and fairness plays no part.
    """

    title = "LaFTer-like"
    paper = "after Mirza et al., LaFTer: label-free tuning of zero-shot classifier, NeurIPS 2023"
    ablations: ClassVar[dict[str, dict[str, Any]]] = {"mean sentences": {"text_steps": 0}}

    text_steps: Annotated[int, Range(0)] = 400
    text_noise: NonNegative = 0.5
    learning_rate: Positive = 5e-4

    def _learner(self, towers: Towers, generator: Generator | None) -> TaughtByText:
        return TaughtByText(towers, self, generator)


def text_classifier(text: Tensor, *, steps: int, noise: float, logit_scale: float, random_state: int) -> Tensor:
    """(K, d) unit rows that tell the sentences of the classes apart, also when these are moved a little.

    Parameters
    ----------
    text : (K, T, d) unit vectors, zero rows where a class has fewer sentences.
    steps : of AdamW on all sentences, each time with fresh noise; from the mean direction of each class.
    noise : expected length of the Gaussian noise.
    logit_scale : inverse temperature.
    random_state : seed of the noise.
    """
    present = (text != 0).any(dim=2)
    rows, labels = text[present], present.nonzero()[:, 0]
    classifier = unit(unit(text).sum(dim=1))
    draws, deviation = seeded(random_state), noise / text.shape[2] ** 0.5

    def gradients(step: int) -> tuple[Tensor, list[Tensor]]:
        moved = unit(rows + deviation * torch.randn(rows.shape, generator=draws).to(rows))
        with torch.enable_grad():
            Z = classifier.detach().requires_grad_()
            loss = F.cross_entropy(logit_scale * (moved @ unit(Z).T), labels)
            (slope,) = torch.autograd.grad(loss, Z)
        return loss.detach()[None], [slope]

    if steps:
        descend([Descent(classifier, cosine_rates(steps, TEXT_RATE), 0.0)], gradients)
    return unit(classifier)
