"""Self-training after LaFTer: pseudo-labels from a frozen classifier that was trained on sentences."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from modalign.linalg.optimizers import Descent, cosine_rates, descend
from modalign.linalg.similarity import unit
from modalign.methods.contract.parameters import NonNegative, Positive, Range
from modalign.methods.contract.tower import Towers
from modalign.methods.contract.training_steps import seeded
from modalign.methods.fair.fair_training import SelfTraining, SelfTrainingSettings
from modalign.methods.fair.self_training import SelfTrained

if TYPE_CHECKING:
    from modalign.tune.batches import ImageBatches

TEXT_RATE = 1e-3  # of AdamW on the classifier of sentences


class TaughtByText(SelfTraining):
    """Learner with trained layer norms and class embeddings that were trained on sentences and then frozen.

    Parameters
    ----------
    towers : Towers
        The frozen encoder and the classes.
    method : FAIR
        The hyper-parameters.
    generator : Generator or None, default=None
        As for :class:`~modalign.methods.fair.fair_training.SelfTraining`.
    """

    def __init__(self, towers: Towers, method: LaFTerLike, generator: Generator | None = None) -> None:
        frozen = {"alignment": "fixed", "weighting": "none", "fairness_weight": 0.0}
        super().__init__(towers, SelfTrainingSettings.of(method, **frozen), generator)
        self.anchors.requires_grad_(False)
        self._text = method

    def begin(self, data: ImageBatches) -> None:
        """Train the classifier, which is then frozen."""
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
    r"""Self-training of the layer norms by a frozen classifier that was trained on prompts alone; after LaFTer.

    A linear classifier with unit rows Z is trained on the prompts t of all classes,

    .. math:: \min_Z \; \mathrm{E}\, \mathrm{CE}\bigl(s Z (t + \epsilon)/\lVert t + \epsilon \rVert, \; y(t)\bigr),

    then frozen. Its predictions for whole images are the pseudo-labels of their strong views:

    .. math:: \hat y = \arg\max_y \cos(f(\alpha(x)), Z_y), \quad
              \mathcal L = \mathrm{E}\bigl[-\log p_{\hat y}(A(x))\bigr] .

    Cost: two forward passes and one backward pass per image.

    Parameters
    ----------
    text_steps : int, default=400
        Optimizer steps of the text classifier; 0 uses the mean direction of each class.
    text_noise : float, default=0.5
        Norm of ε relative to that of a sentence vector.

    Attributes
    ----------
    transduction_ : Tensor of shape (n,)
        Classes of the fitted images, −1 where one could not be decoded.
    diagnosis_ : dict
        As for :class:`~modalign.methods.fair.fair.FAIR`; all weights γ are 1, and there is no fairness term.

    Examples
    --------
    >>> import modalign as ma
    >>> from modalign.data.digits import load_digits
    >>> digits = load_digits().select(range(30))
    >>> method = ma.LaFTerLike(epochs=1, random_state=0)
    >>> model = ma.adapt(digits, method=method, mirror=False)
    >>> model.predict_proba(digits.select([0, 1])).shape
    (2, 10)
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
    """Train a linear classifier with unit rows (K, d) on the sentences of the classes with noise.

    Parameters
    ----------
    text : Tensor of shape (K, T, d)
        Unit vectors, zero rows where a class has fewer sentences.
    steps : int
        Of AdamW on all sentences, each time with fresh noise; from the mean direction of each class.
    noise : float
        Expected length of the Gaussian noise.
    logit_scale : float
        Inverse temperature.
    random_state : int
        Seed of the noise.
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
