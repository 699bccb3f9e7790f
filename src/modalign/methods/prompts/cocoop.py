"""CoCoOp: learned context tokens with an image-dependent shift."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Generator, Tensor

from modalign.encoders.towers.vision_tower import Sentences, VisionOutput
from modalign.linalg.inputs import traced
from modalign.linalg.similarity import unit
from modalign.methods.contract.parameters import Count
from modalign.methods.contract.prompting import DIAGNOSED, START, Loss, PromptLearner, PromptMethod
from modalign.methods.contract.tower import Learner, Towers
from modalign.tune.batches import ImageBatches
from modalign.tune.prompts import ConditionalPrompts


@dataclass(kw_only=True, eq=False, repr=False)
class CoCoOp(PromptMethod["ConditionalLearner"]):
    r"""Conditional context optimization: a small network adds an image-dependent shift to the trained context.

    .. math:: v_m(x) = v_m + h_\theta(f(x)), \qquad p(y = k \mid x) \propto \exp(\cos(f(x), g(t_k(x))) / \tau)

    with h = Linear, ReLU, Linear and a bottleneck of d/16. The text tower encodes B·K prompts per step; the published
    batch size is therefore one image. Prompts depend on the image, so class features cannot be cached.

    Parameters
    ----------
    words : str, default=START
        Initial words of the context; they also determine the number of tokens.
    conditional : bool, default=True
        If False, the input of the network is zero, and the shift is the same for all images.
    loss : {"cross-entropy", "logit-adjusted"}, default="cross-entropy"
        As in CoOp.

    Examples
    --------
    >>> import modalign as ma
    >>> from modalign.data.digits import load_digits
    >>> digits = load_digits().select(range(30))
    >>> model = ma.adapt(digits, method=ma.CoCoOp(epochs=1, random_state=0), validation="none", mirror=False)
    >>> model.predict_proba(digits.select([0, 1])).shape
    (2, 10)
    """

    title = "CoCoOp"
    paper = "Zhou et al., Conditional prompt learning for vision-language models, CVPR 2022, arXiv:2203.05557"
    ablations: ClassVar[dict[str, dict[str, Any]]] = {"same context for all images": {"conditional": False}}

    words: str = START
    conditional: bool = True
    loss: Loss = "cross-entropy"
    epochs: Count = 10
    batch_size: Count = 1

    def _learner(self, towers: Towers, generator: Generator) -> ConditionalLearner:
        words, dim = towers.text.words(self.words).cpu(), towers.vision.dim
        prompts = ConditionalPrompts(len(words), towers.text.width, dim, words=words, generator=generator)
        return ConditionalLearner(towers, prompts, self.conditional, self.loss)


class ConditionalLearner(PromptLearner):
    """Learner whose prompts depend on the image, so class features are not cached.

    Parameters
    ----------
    towers : Towers
        The frozen encoder and the classes.
    prompts : ConditionalPrompts
        Context and network.
    conditional : bool
        Whether the network gets the image features.
    loss : {"cross-entropy", "logit-adjusted"}, default="cross-entropy"
        As for :class:`~modalign.methods.contract.prompting.PromptLearner`.
    """

    prompts: ConditionalPrompts
    sentences: Sentences
    state, restore = Learner.state, Learner.restore

    def __init__(
        self, towers: Towers, prompts: ConditionalPrompts, conditional: bool, loss: Loss = "cross-entropy"
    ) -> None:
        super().__init__(towers, prompts, "{}.", prompts.text.length, loss)
        self.conditional = conditional

    def classes(self) -> None:
        """Nothing is common to all images."""

    def logits_of(self, output: VisionOutput, classes: None) -> Tensor:
        """(B, K) scaled cosines, every image with the class texts of its own prompts."""
        images = self._frozen(output)
        contexts = self._contexts(images)
        if traced():
            texts = self.towers.text.unpacked(self.sentences, contexts[0])
        else:
            texts = self.read(self.sentences, contexts).pooled
        texts = unit(texts.to(images.dtype))
        return self.towers.logit_scale * torch.einsum("bd,bkd->bk", images, texts)

    @torch.no_grad()
    def diagnose(self, data: ImageBatches) -> dict[str, Any]:
        """Return the variation of the context between images, relative to its mean length."""
        context = self._contexts(self._frozen(self.image_output(next(data.in_order(DIAGNOSED)).pixels)))[0].flatten(1)
        spread = (context - context.mean(dim=0)).norm(dim=1).mean() / context.norm(dim=1).mean()
        return {"context_spread": spread.item()}

    def _frozen(self, output: VisionOutput) -> Tensor:
        """(B, d) unit image features, in the type of the network."""
        return unit(output.pooled[0].to(self.prompts.text.layers[0].dtype))

    def _visual(self) -> tuple[()]:
        return ()

    def _contexts(self, images: Tensor) -> tuple[Tensor, ...]:
        return self.prompts.prompts(images if self.conditional else torch.zeros_like(images)).text
