"""The contract of methods on towers: they see pictures, not vectors, since gradients go through the encoder.

A method's own file holds its hyper-parameters and a :class:`Learner`: what is trained, how it turns the classes and a
batch of pictures into scores, and its loss. Everything that all of them share — reading images, labels and class text,
training with resumption, scoring, what a saved model keeps — is here, once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.utils.validation import check_is_fitted
from torch import Generator, Tensor, nn

from modalign.encoders.towers import TextTower, VisionTower
from modalign.errors import InputError
from modalign.features import UNLABELLED, ClassText, Quarantined, Scored
from modalign.linalg.prototypes import text_prototypes
from modalign.linalg.similarity import unit
from modalign.methods.parameters import Parametrized, check_parameters
from modalign.tune.batches import Batch, ImageBatches, centre_batches
from modalign.tune.checkpoint import check_checkpoint
from modalign.tune.history import Epoch
from modalign.tune.loop import train
from modalign.tune.prompts import count
from modalign.tune.recipe import Recipe, recipe_entries
from modalign.tune.threads import threads_for

if TYPE_CHECKING:
    from modalign.data.items import Items
    from modalign.encoders.clip import ClipEncoder


@dataclass(frozen=True, eq=False)
class Towers:
    """What a learner works with; nothing in it is trained.

    Attributes
    ----------
    text, vision : the encoder, opened up.
    class_names : K names.
    sentences : the sentences of every class, as the user gave them.
    class_text : (K, T, d) unit vectors of these sentences, zero rows where a class has fewer than T.
    logit_scale : inverse temperature of the encoder.
    gradient_checkpointing : to be handed to the towers.
    """

    text: TextTower
    vision: VisionTower
    class_names: tuple[str, ...]
    sentences: tuple[tuple[str, ...], ...]
    class_text: Tensor
    logit_scale: float
    gradient_checkpointing: bool = False

    @classmethod
    def open(cls, encoder: ClipEncoder, text: ClassText, **options: Any) -> Towers:
        """Both towers of ``encoder`` for the classes of ``text``, which must come from it."""
        towers = TextTower(encoder), VisionTower(encoder)
        encoder.spec.require(text.spec)
        if len(text) < 2:
            raise InputError(f"Expected text of at least 2 classes, got {len(text)}; one leaves nothing to decide.")
        vectors = torch.from_numpy(np.array(text.vectors, dtype=np.float32)).to(encoder.device)
        vectors = vectors[:, None] if vectors.ndim == 2 else vectors
        scale = float(encoder.logit_scale or 100.0)
        return cls(*towers, tuple(text.class_names), tuple(text.sentences), vectors, scale, **options)

    @property
    def device(self) -> torch.device:
        """Of the encoder."""
        return self.vision.device

    def __len__(self) -> int:
        return len(self.class_names)

    def prototypes(self) -> Tensor:
        """(K, d) unit mean directions of the class text: what zero-shot classification compares images with."""
        return text_prototypes(self.class_text)


class Learner(nn.Module, ABC):
    """What a tower method trains, as parameters, and what it does with them.

    Parameters
    ----------
    towers : the frozen encoder and the classes.
    """

    fingerprint: str = ""  # of what decides the training beside parameters, classes and images, such as files

    def __init__(self, towers: Towers) -> None:
        super().__init__()
        self.towers = towers

    def begin(self, data: ImageBatches) -> None:
        """Told of the images once, before training: the place for buffers of their number."""

    def classes(self) -> Any:
        """The text side, whatever :meth:`scores` needs of it; computed for every batch in training, once afterwards."""
        return None

    @abstractmethod
    def scores(self, pixels: Tensor, classes: Any) -> Tensor:
        """(B, K) logits of pictures (B, 3, H, W)."""

    def loss(self, batch: Batch) -> Tensor | Mapping[str, Tensor]:
        """Mean over the pictures of a batch; by default the cross-entropy of the first view."""
        return F.cross_entropy(self.scores(batch.pixels, self.classes()).float(), batch.labels)

    def ended(self, epoch: Epoch) -> Mapping[str, float] | None:
        """Called at the end of every epoch; what it returns stands in the history."""
        return None

    def state(self) -> dict[str, Tensor]:
        """What a saved model keeps, by default all parameters; small, and enough for :meth:`restore`."""
        return {name: value.detach() for name, value in self.state_dict().items()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Become what :meth:`state` was taken from, for prediction."""
        self.load_state_dict(state)


class TowerMethod(Parametrized):
    """Base of all methods that learn inside an encoder.

    Subclasses are dataclasses of their hyper-parameters, set the class attributes and make a :class:`Learner`. They all
    have ``epochs``, ``batch_size``, ``learning_rate``, ``augmentation``, ``training`` (further entries of
    :class:`~modalign.tune.recipe.Recipe`) and ``random_state``.

    Attributes
    ----------
    classes_ : (K,) 0 … K − 1, in the order of the class text.
    class_names_, sentences_, class_text_ : the classes, as :class:`Towers` has them.
    tensors_ : what was learned, by name.
    encoder_ : the :class:`~modalign.features.EncoderSpec` it was learned in.
    diagnosis_ : number of trainable parameters, loss of the last epoch, and what shows whether the active ingredient
        of the method does anything.
    """

    title: ClassVar[str] = ""
    paper: ClassVar[str] = ""
    needs_text: ClassVar[bool] = True
    needs_labels: ClassVar[bool] = True  # learns from labelled images only
    takes_anchor: ClassVar[bool] = False
    mirrors: ClassVar[bool] = False
    ablations: ClassVar[dict[str, dict[str, Any]]] = {}  # an active ingredient switched off → the settings that do it
    recipe: ClassVar[dict[str, Any]] = {}  # what the method was published with, where it is not the usual recipe

    epochs: int
    batch_size: int
    learning_rate: float
    augmentation: str | list
    training: dict | None
    random_state: int | None

    @abstractmethod
    def _learner(self, towers: Towers, generator: Generator) -> Learner:
        """A fresh learner; raises for whatever does not fit the classes or the encoder."""

    def _served(self, towers: Towers) -> Learner:
        """A learner to be restored for prediction; another one where training needs what prediction does not."""
        return self._learner(towers, torch.Generator().manual_seed(0))

    def _batches(self, items: Items, encoder: ClipEncoder, seed: int) -> ImageBatches:
        """The images as the learner's loss wants them."""
        return ImageBatches(items, encoder, augmentation=self.augmentation, seed=seed)

    def _diagnose(self, learner: Learner, data: ImageBatches) -> dict[str, Any]:
        """Numbers of the method's own for ``diagnosis_``."""
        return {}

    def _finish(self, items: Items, encoder: ClipEncoder) -> None:
        """Once fitted: what else is to be known of the images."""

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
        """Learn from images.

        Parameters
        ----------
        items : the images; their own labels are used unless ``labels`` is given.
        labels : (n,) indices into the classes of ``text``; −1 = unlabelled.
        text : sentences of the classes and their vectors, from ``encoder.embed_texts``.
        encoder : a CLIP whose towers are opened up; it stays as it is.
        validation : labelled images; their accuracy is reported in ``diagnosis_`` and nothing is chosen by it.
        checkpoint : a folder for the state of the training, so that it goes on after an interruption.

        Raises
        ------
        InputError : one sentence saying what was expected, what came and what to do, before any work starts.
        """
        check_parameters(self)
        if checkpoint is not None:
            check_checkpoint(checkpoint)
        recipe = self._recipe()
        towers = Towers.open(encoder, text, gradient_checkpointing=recipe.gradient_checkpointing)
        items = self._read_items(items, labels, len(towers))
        learner = self._learner(towers, torch.Generator().manual_seed(recipe.seed)).to(towers.device)
        data = self._batches(items, encoder, recipe.seed)
        learner.begin(data)
        identity = {
            "method": type(self).__name__,
            "parameters": self.get_params(deep=False),
            "encoder": encoder.spec.fingerprint,
            "classes": [towers.class_names, towers.sentences],
            "learner": learner.fingerprint,
        }
        history = train(
            learner,
            learner.loss,
            data,
            recipe,
            checkpoint=checkpoint,
            run=identity,
            on_epoch=learner.ended,
            threads=threads_for(encoder),
            description=f"{self.title} on {encoder.device_name}",
        )
        self.classes_ = np.arange(len(towers))
        self.class_names_ = list(towers.class_names)
        self.sentences_ = [list(s) for s in towers.sentences]
        self.class_text_ = towers.class_text.cpu()
        self.encoder_ = encoder.spec
        self.tensors_ = {name: value.cpu() for name, value in learner.state().items()}
        self.diagnosis_ = {
            "trainable": count(learner),
            "steps": history.steps,
            "loss": history.epochs[-1].loss,
            "left_out": len(data.quarantined),
            **self._diagnose(learner, data),
        }
        self._bound = None
        self._finish(items, encoder)
        if validation is not None:
            scored = self.score_images(validation, encoder)
            right = scored.logits.argmax(axis=1) == scored.labels
            self.diagnosis_["validation_accuracy"] = float(right[scored.labels != UNLABELLED].mean())
        return self

    def score_images(self, items: Items, encoder: ClipEncoder, *, batch_size: int | None = None) -> Scored:
        """Logits of images as the encoder prepares them.

        Parameters
        ----------
        items : the images; undecodable ones are left out and listed.
        encoder : the one it was fitted on.
        batch_size : images a forward pass.
        """
        check_is_fitted(self)
        self.encoder_.require(encoder.spec)
        learner, classes = self._bind(encoder)
        reasons: dict[int, str] = {}
        kept, logits = [], []
        with torch.inference_mode():
            for batch in centre_batches(items, encoder, batch_size or encoder.batch_size, reasons=reasons):
                kept.append(batch.indices)
                logits.append(learner.scores(batch.pixels, classes).float().cpu())
        left_out = (*items.quarantined, *(Quarantined(items.ids[i], reasons[i]) for i in sorted(reasons)))
        if not kept:
            raise InputError(f"Expected images, none of the {len(items)} can be decoded.")
        rows = torch.cat(kept).numpy()
        ids = tuple(items.ids[i] for i in rows)
        return Scored(ids, items.labels[rows], torch.cat(logits).numpy(), left_out)

    def for_classes(self, text: ClassText, encoder: ClipEncoder) -> Self:
        """The same learned state for other classes, as prompts allow it: from base to new, or to another data set.

        Parameters
        ----------
        text : sentences of the other classes and their vectors.
        encoder : the one it was fitted on.

        Raises
        ------
        InputError : what was learned belongs to its own classes.
        """
        check_is_fitted(self)
        other = copy(self)
        other.classes_ = np.arange(len(text))
        other.class_names_ = list(text.class_names)
        other.sentences_ = [list(sentences) for sentences in text.sentences]
        other.class_text_ = torch.from_numpy(np.array(text.vectors, dtype=np.float32))
        if other.class_text_.ndim == 2:
            other.class_text_ = other.class_text_[:, None]
        try:
            other._bind(encoder)
        except (InputError, RuntimeError) as error:  # torch's own where tensors of another number of classes meet
            raise InputError(
                f"What this {type(self).__name__} learned does not go with other classes: {error}"
            ) from error
        return other

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "diagnosis_")

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_bound"}

    def _bind(self, encoder: ClipEncoder) -> tuple[Learner, Any]:
        """The learner on the towers of ``encoder`` and its text side, made when first needed and then kept."""
        bound = getattr(self, "_bound", None)
        if bound is None or bound[0] is not encoder:
            sentences = tuple(map(tuple, self.sentences_))
            text = ClassText(self.class_text_.numpy(), tuple(self.class_names_), sentences, encoder.spec)
            learner = self._served(Towers.open(encoder, text))
            try:
                learner.restore({name: value.to(encoder.device) for name, value in self.tensors_.items()})
            except (KeyError, RuntimeError) as error:  # torch's own where tensors of other shapes meet
                raise InputError(
                    f"What this {type(self).__name__} learned does not fit its settings: {error}"
                ) from error
            learner.to(encoder.device).eval()
            with torch.inference_mode():
                bound = encoder, learner, learner.classes()
            self._bound = bound
        return bound[1:]

    def _recipe(self) -> Recipe:
        own = {
            "epochs": self.epochs,
            "batch_size": self.batch_size,
            "learning_rate": self.learning_rate,
            "seed": self.random_state or 0,
        }
        return Recipe(**own, **self.recipe | recipe_entries(self.training, taken=own))

    def _read_items(self, items: Items, labels: np.ndarray | None, n_classes: int) -> Items:
        """The images to learn from, labelled in the numbering of the classes."""
        if labels is not None:
            labels = np.asarray(labels)
            if labels.shape != (len(items),) or not np.issubdtype(labels.dtype, np.integer):
                raise InputError(f"Expected one whole number an image ({len(items)}) as label, got {labels.shape}.")
            items = replace(items, labels=labels.astype(np.int64))
        known = items.labels[items.labels != UNLABELLED]
        if len(known) and not 0 <= known.min() <= known.max() < n_classes:
            raise InputError(f"Expected labels in 0…{n_classes - 1} or -1, got {known.min()}…{known.max()}.")
        if not self.needs_labels:
            return items
        if not len(known):
            raise InputError(f"{type(self).__name__} learns from labelled images, got none.")
        return items.select(np.flatnonzero(items.labels != UNLABELLED))


def cosine_logits(images: Tensor, classes: Tensor, scale: float) -> Tensor:
    """(B, K) scaled cosines of image features (B, d) and class features (K, d) of any length."""
    return scale * (unit(images.float()) @ unit(classes.float()).T)
