r"""PromptSRC: prompts in both towers, kept near the frozen features, and averaged over the epochs.

With prompts in the first layers of both towers (independent of each other), f_p and g_p are the unit image and text
features, and f and g those of the frozen towers for the same view. g is the mean direction of all sentences given
(textual diversity). With p and q the probabilities of f_p with g_p, and of f with g,

.. math::
    L = L_{\mathrm{CE}} + \lambda_1 \operatorname{mean}_{k,i} |g_{p,ki} - g_{ki}|
      + \lambda_2 \operatorname{mean}_{b,i} |f_{p,bi} - f_{bi}|
      + \frac{\lambda_3}{B K} \sum_{b,k} q_{bk} \log \frac{q_{bk}}{p_{bk}}

The prompts for prediction are a Gaussian-weighted mean of those at the ends of the epochs e = 1 … E,

.. math:: P = \sum_e w_e P_e, \qquad w_e \propto \exp\bigl(-(e - \mu)^2 / 2 \sigma^2\bigr), \quad \sum_e w_e = 1
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from modalign.linalg.similarity import unit
from modalign.methods.contract.parameters import Count, NonNegative, Positive
from modalign.methods.contract.prompting import PromptLearner, PromptMethod, fitting_depth, initial_words
from modalign.methods.contract.tower import Towers, cosine_logits
from modalign.tune.batches import Batch
from modalign.tune.history import Epoch
from modalign.tune.prompts import IndependentPrompts, Prompts


@dataclass(kw_only=True, eq=False, repr=False)
class PromptSRC(PromptMethod["SelfRegulated"]):
    r"""Self-regulating prompts: deep prompts in both towers that agree with the frozen features.

    Three constraints keep the prompts from overfitting: agreement of features and scores with those of the frozen
    towers, a Gaussian-weighted mean of the prompts over training, and frozen texts of many templates. Equations:
    :mod:`modalign.methods.prompts.promptsrc`. Cost of a step: that of MaPLe, and one more pass of the vision tower
    without gradient.

    Parameters
    ----------
    n_ctx : int, default=4
        Tokens per tower and layer. The first textual ones start as "a photo of a"; with more than four, at random.
    depth : int, default=9
        Layers with prompts of their own, at most those of the tower with fewer layers.
    text_weight : float, default=25.0
        λ₁, weight of the difference of class features with and without prompts.
    image_weight : float, default=10.0
        λ₂, weight of the difference of image features with and without prompts.
    score_weight : float, default=1.0
        λ₃, weight of the divergence of the predictions with and without prompts.
    diverse : bool, default=True
        If False, class features without prompts are those of the first sentence of each class only.
    aggregated : bool, default=True
        If False, the prompts at the end of training are used for prediction.
    aggregation_mean : float, default=15.0
        μ, the epoch with the largest weight in the average of the prompts; chosen for 20 epochs.
    aggregation_std : float, default=1.0
        σ of these weights, in epochs.

    Examples
    --------
    >>> import modalign as ma
    >>> from modalign.data.digits import load_digits
    >>> digits = load_digits().select(range(30))
    >>> model = ma.adapt(digits, method=ma.PromptSRC(epochs=1, random_state=0), validation="none", mirror=False)
    >>> model.predict_proba(digits.select([0, 1])).shape
    (2, 10)
    """

    title = "PromptSRC"
    paper = (
        "Khattak et al., Self-regulating prompts: foundational model adaptation without forgetting, ICCV 2023, "
        "arXiv:2307.06948"
    )
    ablations: ClassVar[dict[str, dict[str, Any]]] = {
        "no agreement": {"text_weight": 0.0, "image_weight": 0.0, "score_weight": 0.0},
        "last prompts": {"aggregated": False},
        "one sentence per class": {"diverse": False},
    }

    n_ctx: Count = 4
    depth: Count = 9
    text_weight: NonNegative = 25.0
    image_weight: NonNegative = 10.0
    score_weight: NonNegative = 1.0
    diverse: bool = True
    aggregated: bool = True
    aggregation_mean: Positive = 15.0
    aggregation_std: Positive = 1.0
    epochs: Count = 20
    batch_size: Count = 4
    learning_rate: NonNegative = 0.0025

    def _learner(self, towers: Towers, generator: Generator) -> SelfRegulated:
        depth = fitting_depth(self.depth, towers)
        words, sentence = initial_words(towers.text, self.n_ctx)
        text = Prompts(self.n_ctx, towers.text.width, depth=depth, words=words, generator=generator)
        vision = Prompts(self.n_ctx, towers.vision.width, depth=depth, generator=generator)
        return SelfRegulated(towers, IndependentPrompts(text, vision), sentence, self)


class SelfRegulated(PromptLearner):
    """Prompts of both towers, the loss of PromptSRC, and the mean of the prompts over the epochs.

    Parameters
    ----------
    towers : Towers
        The frozen encoder and the classes.
    prompts : object
        Prompts of both towers.
    sentence : str
        Sentence with ``{}`` for the class name after the trained tokens.
    settings : PromptSRC
        Hyper-parameters.
    """

    frozen_texts: Tensor
    weights: Tensor

    def __init__(self, towers: Towers, prompts: nn.Module, sentence: str, settings: PromptSRC) -> None:
        super().__init__(towers, prompts, sentence, settings.n_ctx)
        self.settings = settings
        texts = towers.prototypes() if settings.diverse else unit(towers.class_text[:, 0])
        self.register_buffer("frozen_texts", texts, persistent=False)
        self.register_buffer("weights", epoch_weights(settings), persistent=False)
        for i, prompt in enumerate(prompts.parameters()):
            self.register_buffer(f"sum_{i}", torch.zeros_like(prompt))

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Return L and its four terms without their factors."""
        own, scale = self.settings, self.towers.logit_scale
        texts, images = self.classes()[0].float(), self.encode_images(batch.pixels).pooled[0].float()
        with torch.no_grad():
            frozen = unit(self.towers.vision(batch.pixels).pooled[0].float())
            expected = cosine_logits(frozen, self.frozen_texts, scale).log_softmax(dim=1)
        logits = cosine_logits(images, texts, scale)
        cross_entropy = F.cross_entropy(logits, batch.labels)
        of_texts = F.l1_loss(unit(texts), self.frozen_texts)
        of_images = F.l1_loss(unit(images), frozen)
        of_scores = (expected.exp() * (expected - logits.log_softmax(dim=1))).mean()
        agreement = own.text_weight * of_texts + own.image_weight * of_images + own.score_weight * of_scores
        return {
            "loss": cross_entropy + agreement,
            "cross_entropy": cross_entropy,
            "text_distance": of_texts,
            "image_distance": of_images,
            "score_divergence": of_scores,
        }

    @torch.no_grad()
    def ended(self, epoch: Epoch) -> Mapping[str, float]:
        """Add the prompts at the end of an epoch; after the last one, the weighted mean takes their place."""
        weight, last = self.weights[epoch.epoch], epoch.epoch + 1 == len(self.weights)
        for i, prompt in enumerate(self.prompts.parameters()):
            total = self.get_buffer(f"sum_{i}")
            total.add_(weight * prompt)
            if last and self.settings.aggregated:
                prompt.copy_(total)
        return {"weight": weight.item()}


def epoch_weights(settings: PromptSRC) -> Tensor:
    """Return w_e (E,), the weights of the epochs, which sum to one."""
    epochs = torch.arange(1, settings.epochs + 1, dtype=torch.float64)
    return (-((epochs - settings.aggregation_mean) ** 2) / (2 * settings.aggregation_std**2)).softmax(dim=0).float()
