"""Base class of methods inside an encoder, which take images because gradients pass through the encoder.

A method defines its hyper-parameters and a :class:`Learner` with trained parameters, scores and loss. Input validation,
training with resumption, prediction and saved state are implemented here.
"""

from __future__ import annotations

from abc import abstractmethod
from copy import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Self

import numpy as np
import torch
from torch import Generator

from modalign.core.errors import InputError
from modalign.core.features import UNLABELED, ClassText
from modalign.core.labels import places_of, renumbered
from modalign.core.scored import Scored
from modalign.methods.contract.estimators.estimator import Parametrized, require_fitted
from modalign.methods.contract.labeled_items import labeled_items
from modalign.methods.contract.learner import L, Learner, Towers, cosine_logits, require_finite_scores
from modalign.methods.contract.parameters import Augmentations, check_parameters
from modalign.methods.contract.rows import read_text_vectors
from modalign.tune.batches import ImageBatches, center_batches
from modalign.tune.loop import train
from modalign.tune.prompts import count_parameters
from modalign.tune.recipe import Recipe, recipe_entries
from modalign.tune.threads import threads_for
from modalign.tune.training_precision import settled_precision
from modalign.tune.training_state import check_checkpoint

if TYPE_CHECKING:
    from modalign.data.items import Items
    from modalign.encoders.clip import ClipEncoder

_SCHEDULE = ("epochs", "batch_size", "learning_rate", "augmentation", "training", "random_state")


class TowerMethod(Parametrized, Generic[L]):
    """Base class of all methods that learn inside an encoder.

    Subclasses are dataclasses of their hyper-parameters, set the class attributes and create a :class:`Learner`.

    Attributes
    ----------
    classes_ : Tensor of shape (K,)
        0 … K − 1, in the order of the class names of the images, followed by those of the text only.
    class_names_, sentences_, class_text_, tensors_ : object
        Classes as in :class:`Towers`, and the learned tensors by name.
    encoder_, random_state_ : EncoderSpec and int
        Identity of the encoder, and the seed as used (0 if ``random_state`` is None).
    diagnosis_ : dict
        Number of trainable parameters, loss of the last epoch, and whether the central component has an effect.
    """

    title: ClassVar[str] = ""
    paper: ClassVar[str] = ""
    needs_text: ClassVar[bool] = True
    needs_labels: ClassVar[bool] = True  # learns from labeled images only
    takes_clip_features: ClassVar[bool] = False
    mirrors: ClassVar[bool] = False
    ablations: ClassVar[dict[str, dict[str, Any]]] = {}  # an active ingredient switched off → the settings that do it
    recipe: ClassVar[dict[str, Any]] = {}  # what the method was published with, where it is not the usual recipe

    epochs: int | None
    batch_size: int
    learning_rate: float | None
    augmentation: Augmentations
    training: dict | None
    random_state: int | None

    @abstractmethod
    def _learner(self, towers: Towers, generator: Generator) -> L:
        """Create a learner; raise if the settings do not match the classes or the encoder."""

    def _served(self, towers: Towers) -> L:
        """Create a learner to be restored for prediction."""
        return self._learner(towers, torch.Generator().manual_seed(0))

    def _batches(self, items: Items, encoder: ClipEncoder, seed: int) -> ImageBatches:
        """Return the batches for the loss of the learner."""
        return ImageBatches(items, encoder, augmentation=self.augmentation, seed=seed)

    def _chosen(self, items: Items, towers: Towers, encoder: ClipEncoder) -> Items:
        """Return the images to train on, by default all; those that could not be decoded are quarantined."""
        return items

    def _diagnose(self, learner: L, data: ImageBatches) -> dict[str, Any]:
        """Return additional entries of ``diagnosis_``."""
        return {}

    def _finish(self, items: Items, encoder: ClipEncoder) -> None:
        """Hook called after fitting, for example to compute ``transduction_``."""

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
        """Fit to images.

        Parameters
        ----------
        items : Items
            Images; their own labels are used unless ``labels`` is passed.
        labels : ndarray of shape (n,) or None, default=None
            Class names, or indices into those of ``items`` (else of ``text``); −1 is unlabeled.
        text : ClassText
            Text of ``encoder.embed_texts``, matched by name with the classes of ``items``, which must all have text.
        encoder : ClipEncoder
            CLIP encoder; not changed.
        validation : Items or None, default=None
            Labeled images for the accuracy in ``diagnosis_``; not used for selection.
        checkpoint : str, Path or None, default=None
            Folder for the training state; an interrupted training continues from it.

        Raises
        ------
        InputError
            The input is invalid; raised before the computation starts.
        """
        check_parameters(self)
        if checkpoint is not None:
            check_checkpoint(checkpoint)
        items, text = labeled_items(items, labels, text)
        if self.needs_labels:
            if not (items.labels != UNLABELED).any():
                raise InputError(f"{type(self).__name__} learns from labeled images, got none.")
            items = items.select(np.flatnonzero(items.labels != UNLABELED))
        recipe = self._recipe(items.labels)
        towers = Towers.open(encoder, text, gradient_checkpointing=recipe.gradient_checkpointing)
        learner = self._learner(towers, torch.Generator().manual_seed(recipe.seed)).to(towers.device)
        data = self._batches(self._chosen(items, towers, encoder), encoder, recipe.seed)
        learner.begin(data)
        identity = {
            "method": type(self).__name__,
            "parameters": self.get_params(deep=False),
            "encoder": encoder.spec.fingerprint,
            "classes": [towers.class_names, towers.sentences],
            "learner": learner.fingerprint,
        }
        threads = threads_for(encoder)
        recipe = settled_precision(
            learner, learner.loss, data, recipe, encoder=encoder, checkpoint=checkpoint, purpose=self._purpose(),
            threads=threads,
        )  # fmt: skip
        history = train(
            learner,
            learner.loss,
            data,
            recipe,
            checkpoint=checkpoint,
            run=identity,
            on_epoch=learner.ended,
            threads=threads,
            description=f"{self.title} on {encoder.device_name}, {recipe.precision}",
        )
        self.classes_ = np.arange(len(towers))
        self.class_names_ = list(towers.class_names)
        self.sentences_ = [list(s) for s in towers.sentences]
        self.class_text_ = towers.class_text.cpu()
        self.encoder_ = encoder.spec
        self.random_state_ = recipe.seed
        self.tensors_ = {name: value.cpu() for name, value in learner.state().items()}
        self._bound: tuple[ClipEncoder, L, Any] | None = None
        require_finite_scores(*self._bind(encoder), items, encoder)
        self.diagnosis_ = {
            "trainable": count_parameters(learner),
            "steps": history.steps,
            "loss": history.epochs[-1].loss,
            "precision": recipe.precision,
            "left_out": len(data.quarantined),
            **self._diagnose(learner, data),
        }
        self._finish(items, encoder)
        if validation is not None:
            scored = self.score_images(validation, encoder)
            right = scored.logits.argmax(axis=1) == scored.labels
            self.diagnosis_["validation_accuracy"] = float(right[scored.labels != UNLABELED].mean())
        return self

    def score_images(self, items: Items, encoder: ClipEncoder, *, batch_size: int | None = None) -> Scored:
        """Compute logits of images, with their labels in the numbering of :attr:`classes_`.

        Parameters
        ----------
        items : Items
            Images; those that cannot be decoded are left out and listed.
        encoder : ClipEncoder
            Encoder that the method was fitted on.
        batch_size : int or None, default=None
            Images per forward pass.
        """
        require_fitted(self)
        self.encoder_.require(encoder.spec)
        learner, classes = self._bind(encoder)
        reasons: dict[int, str] = {}
        kept, logits = [], []
        with torch.inference_mode():
            for batch in center_batches(items, encoder, batch_size or encoder.batch_size, reasons=reasons):
                kept.append(batch.indices)
                logits.append(learner.scores(batch.pixels, classes).float().cpu())
        if not kept:
            raise InputError("Expected an image that can be decoded, got none.")
        rows, labels = torch.cat(kept).numpy(), items.labels
        ids = tuple(items.ids[i] for i in rows)
        if items.class_names:
            labels = renumbered(labels, items.class_names, self.class_names_)
        return Scored(ids, labels[rows], torch.cat(logits).numpy(), items.left_out(reasons))

    def for_classes(self, text: ClassText, encoder: ClipEncoder) -> Self:
        """Apply the learned state to other classes; class-specific parameters are matched by name.

        Raises
        ------
        InputError
            The method has class-specific parameters, and a class has none.
        """
        require_fitted(self)
        other = copy(self)
        other.classes_ = np.arange(len(text))
        other.class_names_ = list(text.class_names)
        other.sentences_ = [list(sentences) for sentences in text.sentences]
        other.class_text_ = read_text_vectors(text, self.class_text_.shape[2], "the fitted text", anchored=True)
        axes = self._class_axes()
        if axes:
            own = f"What this {type(self).__name__} learned does not go with other classes. Expected only its own"
            places = torch.tensor(places_of(text.class_names, self.class_names_, own, "got also"))
            other.tensors_ = {
                name: value.index_select(axes[name], places) if name in axes else value
                for name, value in self.tensors_.items()
            }
        other._bind(encoder)
        return other

    def _class_axes(self) -> dict[str, int]:
        """Names of ``tensors_`` with an entry for every class, and the axis that counts the classes."""
        return {}

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_bound"}

    def _bind(self, encoder: ClipEncoder) -> tuple[L, Any]:
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

    def _purpose(self) -> str:
        """What decides between precisions, with encoder and machine: the method and what its loss depends on."""
        own = {name: value for name, value in self.get_params(deep=False).items() if name not in _SCHEDULE}
        return f"{type(self).__name__} {sorted(own.items())!r}"

    def _epochs(self, labels: np.ndarray) -> int:
        """Passes over the images to learn from, which have these labels."""
        assert self.epochs is not None  # methods that leave the number open define it here
        return self.epochs

    def _recipe(self, labels: np.ndarray) -> Recipe:
        own: dict[str, Any] = {
            "epochs": self._epochs(labels),
            "batch_size": self.batch_size,
            "learning_rate": self.learning_rate,
            "seed": self.random_state or 0,
        }
        published = getattr(self, "preset", None) == "official_code"  # not left to the machine
        precision = {"precision": "float32" if published else "auto"}
        return Recipe(**own, **precision | self.recipe | recipe_entries(self.training, taken=own))


__all__ = ["Learner", "TowerMethod", "Towers", "cosine_logits"]
