"""Shared parts of prompt methods: hyper-parameters, and a learner with prompts in both towers."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from modalign.encoders.towers.vision_tower import Sentences, TextOutput, TextTower, VisionOutput
from modalign.linalg.similarity import unit
from modalign.methods.contract.kept_images import KeptImages
from modalign.methods.contract.parameters import Augmentations, Count, NonNegative, Seed
from modalign.methods.contract.tower import Learner, TowerMethod, Towers, cosine_logits
from modalign.tune.batches import Batch, ImageBatches
from modalign.tune.prompts import IndependentPrompts, ProjectedPrompts, Prompts, Sides

SENTENCES = 512  # encoded at a time where memory is to be saved
DIAGNOSED = 16  # images of a diagnosis
START = "a photo of a"
_ARTICLES = ("", "a ", "an ", "A ", "An ")
Loss = Literal["cross-entropy", "logit-adjusted"]

P = TypeVar("P", bound="PromptLearner")


@dataclass(kw_only=True, eq=False, repr=False)
class PromptMethod(TowerMethod[P]):
    """Base class of the prompt methods: shared hyper-parameters; the schedule is that of the CoOp code at 16 shots.

    Parameters
    ----------
    epochs : int, default=200
        Passes over the images.
    batch_size : int, default=32
        Images per step.
    learning_rate : float, default=0.002
        Peak learning rate of SGD with momentum 0.9, after one epoch of warmup, with cosine decay.
    augmentation : str or list, default="random_resized_crop_flip"
        Image augmentation, or one per view; see :class:`~modalign.tune.batches.ImageBatches`. Mirroring, as published,
        is unsuitable for digits and letters.
    training : dict or None, default=None
        Further entries of :class:`~modalign.tune.recipe.Recipe`, such as ``{"precision": "float32"}``, which turns
        off the choice of bfloat16 where a step is faster in it and agrees.
    random_state : int or None, default=None
        Seed of the prompts, of the order of the images and of their augmentation.
    """

    epochs: Count = 200
    batch_size: Count = 32
    learning_rate: NonNegative = 0.002
    augmentation: Augmentations = "random_resized_crop_flip"
    training: dict | None = None
    random_state: Seed = None

    def _diagnose(self, learner: P, data: ImageBatches) -> dict[str, Any]:
        return learner.diagnose(data)


class FixedPrompts(nn.Module):
    """Trained prompts of both towers, without the modules that generated them.

    Parameters
    ----------
    sides : Sides
        Of both towers.
    """

    def __init__(self, sides: Sides) -> None:
        super().__init__()
        self._layers = tuple(map(len, sides))
        for name, layers in sides._asdict().items():
            for layer, prompt in enumerate(layers):
                self.register_buffer(f"{name}_{layer}", prompt.detach().clone())

    def prompts(self) -> Sides:
        """As given."""
        names = zip(Sides._fields, self._layers, strict=True)
        return Sides(*(tuple(getattr(self, f"{name}_{i}") for i in range(count)) for name, count in names))


class PromptLearner(Learner[Batch]):
    """Learner with prompts in both towers and cosine scores.

    Where no prompt of the vision tower is learned and the images are the same in every epoch, their features are
    computed once and kept, see :class:`~modalign.methods.contract.kept_images.KeptImages`.

    Parameters
    ----------
    towers : Towers
        The frozen encoder and the classes.
    prompts : object
        Module whose ``prompts()`` returns :class:`~modalign.tune.prompts.Sides`.
    sentence : str or None, default=None
        Sentence with ``{}`` for the class name, preceded by the learnable tokens. None uses the frozen features of the
        user's sentences.
    slots : int, default=0
        Number of learnable tokens.
    loss : {"cross-entropy", "logit-adjusted"}, default="cross-entropy"
        See :func:`log_shares`.
    """

    prompts: Any  # modules of several kinds

    def __init__(
        self,
        towers: Towers,
        prompts: nn.Module,
        sentence: str | None = None,
        slots: int = 0,
        loss: Loss = "cross-entropy",
    ) -> None:
        super().__init__(towers)
        self.prompts = prompts
        self.sentences = None if sentence is None else sentences_with_slots(towers, sentence, slots)
        self.adjusted, self.offsets = loss == "logit-adjusted", torch.zeros(())
        self._kept: KeptImages | None = None

    def begin(self, data: ImageBatches) -> None:
        """Count the images of each class if the loss needs it; prepare to keep their features if they stay the same."""
        if self.adjusted:
            self.offsets = log_shares(data.items.labels, len(self.towers))
        self._kept = KeptImages(self.image_output, data) if data.constant and not self._visual() else None

    def loss(self, batch: Batch) -> Tensor | Mapping[str, Tensor]:
        """Return the mean cross-entropy of the logits, to which a logit-adjusted loss adds log π."""
        return self.cross_entropy(self.logits_of(self.batch_output(batch), self.classes()), batch.labels)

    def batch_output(self, batch: Batch) -> VisionOutput:
        """Return :meth:`image_output` of the first view, from what is kept where that is the case."""
        kept = None if self._kept is None else self._kept.rows(batch.indices)
        return self.image_output(batch.pixels) if kept is None else kept

    def cross_entropy(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the loss of logits (B, K) and labels (B,)."""
        return F.cross_entropy(logits.float() + self.offsets.to(logits.device), labels)

    def classes(self) -> Any:
        """(N, K, d) class features of N textual prompts."""
        if self.sentences is None:
            return self.towers.prototypes()[None]
        return self.read(self.sentences, self.prompts.prompts().text).pooled

    def scores(self, pixels: Tensor, classes: Any) -> Tensor:
        """Return logits (B, K) of images (B, 3, H, W)."""
        return self.logits_of(self.image_output(pixels), classes)

    def image_output(self, pixels: Tensor) -> VisionOutput:
        """Return the inputs of :meth:`logits_of` for images (B, 3, H, W)."""
        return self.encode_images(pixels)

    def logits_of(self, output: VisionOutput, classes: Any) -> Tensor:
        """Return scaled cosines (B, K) of the first prompt of each tower."""
        return cosine_logits(output.pooled[0], classes[0], self.towers.logit_scale)

    def read(self, sentences: Sentences, prompts: tuple[Tensor, ...], *, tokens: bool = False) -> TextOutput:
        """Apply the text tower, in chunks of classes to save memory."""
        checkpoint = self.towers.gradient_checkpointing
        sets = prompts[0].shape[0] if prompts and prompts[0].ndim > 2 else 1
        chunk = max(1, SENTENCES // sets) if checkpoint or not torch.is_grad_enabled() else None
        return self.towers.text(sentences, prompts, tokens=tokens, chunk=chunk, checkpoint=checkpoint)

    def encode_images(self, pixels: Tensor, *, tokens: bool = False) -> VisionOutput:
        """Apply the vision tower with the visual prompts."""
        checkpoint = self.towers.gradient_checkpointing
        return self.towers.vision(pixels, self._visual(), tokens=tokens, checkpoint=checkpoint)

    def _visual(self) -> tuple[Tensor, ...]:
        """Prompts of the vision tower, () for none."""
        return self.prompts.prompts().vision

    def patches(self, pixels: Tensor) -> Tensor:
        """(N, B, patches, d) patch features under the visual prompts."""
        tokens = self.encode_images(pixels, tokens=True).tokens
        assert tokens is not None
        return tokens[:, :, 1:]

    def patch_scores(self, pixels: Tensor, classes: Any) -> Tensor:
        """(B, K, patches) scaled cosines of the patches of images with the first prompt of each class."""
        patches = self._own_patches(pixels)[0]
        return cosine_logits(patches, classes[0], self.towers.logit_scale).transpose(1, 2)

    def _own_patches(self, pixels: Tensor) -> Tensor:
        """:meth:`patches` without the tokens of visual prompts, which are behind them."""
        return self.patches(pixels)[:, :, : self.towers.vision.patches]

    def state(self) -> dict[str, Tensor]:
        """Return the prompts, not the networks that generate them, which have 3.5 million parameters in MaPLe."""
        with torch.no_grad():
            sides = self.prompts.prompts()._asdict()
            return {
                f"{side}.{i:02}": prompt.detach() for side, layers in sides.items() for i, prompt in enumerate(layers)
            }

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Replace the prompt module by fixed prompts."""
        sides = (tuple(state[n] for n in sorted(state) if n.startswith(f"{side}.")) for side in Sides._fields)
        self.prompts = FixedPrompts(Sides(*sides))

    @torch.no_grad()
    def diagnose(self, data: ImageBatches) -> dict[str, Any]:
        """Return the change of class texts and images: one minus the mean cosine with the frozen features."""
        found: dict[str, Any] = {}
        if self.sentences is not None:
            moved = unit(self.classes().float().mean(dim=0))
            found["text_moved"] = 1 - (moved * self.towers.prototypes()).sum(dim=1).mean().item()
        if self._visual():
            pixels = next(data.in_order(DIAGNOSED)).pixels
            both = self.towers.vision(pixels).pooled, self.encode_images(pixels).pooled
            frozen, tuned = (unit(p.float()) for p in both)
            found["image_moved"] = 1 - (frozen * tuned).sum(dim=-1).mean().item()
        return found


def log_shares(labels: np.ndarray, classes: int) -> Tensor:
    r"""Return log π, the logarithms of the class shares among labels (n,), of shape (K,).

    The logit-adjusted loss is :math:`-\log \operatorname{softmax}(s + \log \pi)_y` for scores s. A class without an
    image has −∞ and is left out of the softmax. In prediction, the scores are not adjusted.

    References
    ----------
    Menon et al., Long-tail learning via logit adjustment, ICLR 2021, arXiv:2007.07314 (equation 10 with τ = 1).
    """
    counts = torch.from_numpy(np.bincount(labels, minlength=classes)).float()
    return (counts / counts.sum()).log()


def sentences_with_slots(towers: Towers, sentence: str, slots: int) -> Sentences:
    """Return the sentence of each class with slots at its start; raise if one is longer than the context."""
    return towers.text.tokenize([sentence.replace("{}", name) for name in towers.class_names], slots)


def template_places(
    class_names: Sequence[str], sentences: Sequence[Sequence[str]], *, any_article: bool = False
) -> list[int]:
    """Return the positions of sentences that differ between classes in the class name only, or also in its article."""
    names = [name.replace("_", " ") for name in class_names]
    rows = list(zip(*sentences, strict=False)) if len(sentences) == len(names) else []
    return [place for place, row in enumerate(rows) if _one_template(names, row, _ARTICLES if any_article else ())]


def _one_template(names: Sequence[str], row: Sequence[str], articles: Sequence[str]) -> bool:
    """Whether one template makes sentence k of name k, for all k, with one of the articles where some are given.

    The name may also occur elsewhere in the sentence.
    """
    first, sentence = names[0], row[0]
    starts = [i for i in range(len(sentence)) if first and sentence.startswith(first, i)]
    ends = [(sentence[:i], sentence[i + len(first) :]) for i in starts]
    if articles:
        ends = [(re.sub(r"\b[Aa]n? $", "", head), tail) for head, tail in ends]
    return any(
        all(s in [f"{head}{a}{name}{tail}" for a in articles or ("",)] for name, s in zip(names, row, strict=True))
        for head, tail in ends
    )


def initial_words(text: TextTower, length: int, words: str = START) -> tuple[Tensor | None, str]:
    """Return the embeddings of the first ``length`` tokens of some words, and the sentence with the remaining words.

    MaPLe and ALIGN train two tokens, initialized with "a photo", and keep "of a". Further tokens are random.
    """
    tokens, kept = text.words(words).cpu(), words.split()
    if length > len(kept) or len(tokens) != len(kept):
        return None, "{}."
    return tokens[:length], " ".join([*kept[length:], "{}."])


def fitting_depth(depth: int, towers: Towers) -> int:
    """Return the number of layers with prompts: ``depth``, but at most that of the shallower tower."""
    return min(depth, towers.text.depth, towers.vision.depth)


def projected_prompts(text: Prompts, towers: Towers, generator: Generator) -> ProjectedPrompts:
    """Visual prompts as linear images of the textual ones."""
    return ProjectedPrompts(text, towers.vision.width, generator=generator)


def text_prompts(towers: Towers, length: int, generator: Generator, **options: Any) -> IndependentPrompts:
    """Prompts of the text tower alone."""
    return IndependentPrompts(text=Prompts(length, towers.text.width, generator=generator, **options))
