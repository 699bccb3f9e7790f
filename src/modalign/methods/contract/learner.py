"""Base classes for training inside an encoder: the frozen towers with the classes, and the learner."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modalign.core.errors import InputError
from modalign.core.features import ClassText
from modalign.encoders.towers.convolutional import vision_tower
from modalign.encoders.towers.vision_tower import TextTower, VisionTower
from modalign.linalg.prototypes import text_prototypes
from modalign.linalg.similarity import unit
from modalign.methods.contract.rows import read_rows
from modalign.tune.batches import Batch, ImageBatches, center_batches
from modalign.tune.history import Epoch
from modalign.tune.steps import TRAIN_MILDER

if TYPE_CHECKING:
    from modalign.data.items import Items
    from modalign.encoders.clip import ClipEncoder


@dataclass(frozen=True, eq=False)
class Towers:
    """Frozen encoder and classes of a learner.

    Attributes
    ----------
    text, vision : TextTower
        Towers of the encoder.
    class_names : tuple of str
        K names.
    sentences : tuple of tuple of str
        Sentences of each class as passed by the user.
    class_text : Tensor of shape (K, T, d)
        Unit vectors of these sentences, padded with zero rows.
    logit_scale : float
        Inverse temperature of the encoder.
    gradient_checkpointing : bool, default=False
        Passed to the towers.
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
        """Open both towers of ``encoder`` for the classes of ``text``, which must be embedded by it."""
        towers = TextTower(encoder), vision_tower(encoder)
        encoder.spec.require(text.spec)
        if len(text) < 2:
            raise InputError(f"Expected text of at least 2 classes, got {len(text)}; one leaves nothing to decide.")
        vectors = read_rows(text, "text", (2, 3), zeros=True).to(encoder.device)
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
        """Unit mean directions of the class text, (K, d): the zero-shot classifier."""
        return text_prototypes(self.class_text)


B = TypeVar("B", bound=Batch)


class Learner(nn.Module, ABC, Generic[B]):
    """Module with the trained parameters of a tower method and its forward computation.

    Parameters
    ----------
    towers : Towers
        The frozen encoder and the classes.
    """

    fingerprint: str = ""  # of other inputs of the training than parameters, classes and images, such as files

    def __init__(self, towers: Towers) -> None:
        super().__init__()
        self.towers = towers

    def begin(self, data: ImageBatches) -> None:
        """Called once before training, for example to allocate buffers per image."""

    def classes(self) -> Any:
        """Compute the class features for :meth:`scores`; for every batch in training, once in prediction."""
        return None

    @abstractmethod
    def scores(self, pixels: Tensor, classes: Any) -> Tensor:
        """Return logits (B, K) of images (B, 3, H, W)."""

    def loss(self, batch: B) -> Tensor | Mapping[str, Tensor]:
        """Return the mean loss of a batch; by default the cross-entropy of the first view."""
        return F.cross_entropy(self.scores(batch.pixels, self.classes()).float(), batch.labels)

    def ended(self, epoch: Epoch) -> Mapping[str, float] | None:
        """Called at the end of every epoch; the returned numbers are added to the history."""
        return None

    def state(self) -> dict[str, Tensor]:
        """Return the tensors of a saved model; by default all parameters."""
        return {name: value.detach() for name, value in self.state_dict().items()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Load the tensors of :meth:`state` for prediction."""
        self.load_state_dict(state)


L = TypeVar("L", bound=Learner)


def cosine_logits(images: Tensor, classes: Tensor, scale: float) -> Tensor:
    """(B, K) scaled cosines of image features (B, d) and class features (K, d) of any length.

    Also under autocast in float32: in bfloat16 a cosine of 0.3 is off by up to 0.001, and the scale is about 100.
    """
    kind = images.device.type
    if torch.is_autocast_enabled(kind):
        with torch.autocast(kind, enabled=False):
            return cosine_logits(images, classes, scale)
    return scale * (unit(images.float()) @ unit(classes.float()).T)


def require_finite_scores(learner: Learner[Any], classes: Any, items: Items, encoder: ClipEncoder) -> None:
    """Raise if the scores of the first image are not finite: finite parameters can be too large to compute with."""
    with torch.inference_mode():
        for batch in center_batches(items, encoder, 1):
            if not bool(torch.isfinite(learner.scores(batch.pixels, classes)).all()):
                raise InputError(f"Expected finite scores after the training, got NaN or infinity; {TRAIN_MILDER}.")
            return
