"""Class probabilities of the patches of an image, and of images with some patches blanked."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from modalign.core.errors import InputError, UndecodableError
from modalign.data.items import Items
from modalign.encoders.base import Encoder
from modalign.methods.contract.prompting import PromptLearner
from modalign.methods.contract.tower import TowerMethod
from modalign.model.scoring import require_clip
from modalign.segmentation.calibrated import Calibration
from modalign.segmentation.patch_features import PatchFeatures

if TYPE_CHECKING:
    from modalign.model.classifier import Classifier

FEATURES = "sclip"
"""Patch features of an open CLIP tower. Of the kinds of :mod:`modalign.segmentation.dense`, the only one whose maps
passed the deletion test for all of seven methods on validation images; see the guide."""

BLOCK = 2**20  # patches times classes that a prompt method scores at once; ALIGN has 16 numbers for each


class PatchScorer:
    r"""Scores of the patches of an image by a classifier.

    A method on vectors scores the vector :math:`\hat z_j` of patch j as it scores an image,
    :math:`m_{cj} = \log \mathrm{softmax}_c\, s(\hat z_j) / T`. Vectors of an open CLIP tower are those of SCLIP, of
    other networks the tokens of the last layer. A prompt method scores its own patch features, ALIGN and PLOT with
    their transport plans (:meth:`PromptLearner.patch_scores`).

    Parameters
    ----------
    model : Classifier
        A fitted classifier.

    Attributes
    ----------
    why_not : str
        Why the classifier has no patch scores; empty if it has.
    """

    def __init__(self, model: Classifier) -> None:
        self.model = model
        self._features: PatchFeatures | None = None
        self.why_not = self._open()

    def _open(self) -> str:
        encoder, method = self.model.encoder, self.model.method
        if not isinstance(encoder, Encoder):
            return "it has several encoders"
        if encoder.preprocessing.resize == "patches":
            return f"'{encoder.name}' takes images of any shape"
        if isinstance(method, TowerMethod):
            learner, classes = method._bind(require_clip(encoder))
            known = isinstance(learner, PromptLearner) and classes is not None
            return "" if known else f"{method.title} compares no patches with classes"
        if self.model.crops and method.scores_parts:
            return f"{method.title} scores crops of the image"
        try:
            self._features = PatchFeatures(encoder, FEATURES, Calibration(), None)
        except InputError:  # no CLIP, or one whose tower is not open
            return self._without_tower(encoder)
        return ""

    def _without_tower(self, encoder: Encoder) -> str:
        side = encoder.preprocessing.crop or encoder.preprocessing.size
        try:
            tokens = encoder.encode([np.zeros((*side, 3), dtype=np.uint8)], tokens=True)[1]
        except (InputError, NotImplementedError):
            tokens = None
        if tokens is None or tokens.shape[2] != encoder.spec.dim or math.isqrt(tokens.shape[1]) ** 2 != tokens.shape[1]:
            return f"'{encoder.name}' gives no vectors of patches in the space of its images"
        return ""

    def probabilities(self, prepared: Sequence[np.ndarray]) -> np.ndarray:
        """(n, C) class probabilities of prepared images (H, W, 3)."""
        with torch.no_grad():
            parts = [self._log_softmax(self._scores(batch)) for batch in self._batches(prepared)]
        return torch.cat(parts).exp().cpu().numpy()

    def of_patches(self, prepared: Sequence[np.ndarray]) -> np.ndarray:
        """(n, C, rows, columns) log-probabilities of the classes for each patch of prepared images."""
        with torch.no_grad():
            parts = [self._log_softmax(self._patch_logits(batch)) for batch in self._batches(prepared)]
        found = torch.cat(parts)
        rows = math.isqrt(found.shape[2])
        return found.unflatten(2, (rows, rows)).cpu().numpy()

    def _scores(self, prepared: Sequence[np.ndarray]) -> Tensor:
        """(n, C)."""
        encoder, method = self.model.encoder, self.model.method
        assert isinstance(encoder, Encoder)
        if isinstance(method, TowerMethod):
            learner, classes = method._bind(require_clip(encoder))
            return learner.scores(self._pixels(prepared), classes)
        return method._scores(encoder.encode(prepared)[0])

    def _patch_logits(self, prepared: Sequence[np.ndarray]) -> Tensor:
        """(n, C, patches)."""
        encoder, method = self.model.encoder, self.model.method
        assert isinstance(encoder, Encoder)
        if isinstance(method, TowerMethod):
            learner, classes = method._bind(require_clip(encoder))
            images = max(1, BLOCK // (len(self.model.class_names) * learner.towers.vision.patches))
            few = self._pixels(prepared).split(images)
            return torch.cat([learner.patch_scores(pixels, classes) for pixels in few])
        if self._features is not None:
            pixels = torch.from_numpy(np.stack(prepared)).permute(0, 3, 1, 2)
            patches = self._features(pixels).flatten(1, 2)
        else:
            tokens = encoder.encode(prepared, tokens=True)[1]
            assert tokens is not None
            patches = tokens
        n, L, d = patches.shape
        return method._scores(patches.reshape(n * L, d)).view(n, L, -1).transpose(1, 2)

    def _log_softmax(self, logits: Tensor) -> Tensor:
        return (logits.double() / self.model.temperature).log_softmax(dim=1)

    def _pixels(self, prepared: Sequence[np.ndarray]) -> Tensor:
        encoder = self.model.encoder
        assert isinstance(encoder, Encoder)
        return encoder.preprocessing.inputs(prepared, encoder.device, encoder.dtype)["pixel_values"]

    def _batches(self, prepared: Sequence[np.ndarray]) -> Iterator[Sequence[np.ndarray]]:
        assert isinstance(self.model.encoder, Encoder)
        size = self.model.encoder.batch_size
        return (prepared[start : start + size] for start in range(0, len(prepared), size))


def prepared_images(items: Items, encoder: Encoder) -> list[np.ndarray]:
    """The images that can be decoded, (H, W, 3) uint8 after preprocessing."""
    found = []
    for i in range(len(items)):
        try:
            picture = items.open(i, target=encoder.preprocessing.target)
        except UndecodableError:
            continue
        found.append(encoder.preprocessing.prepare(picture))
    return found


def blanked(image: np.ndarray, patches: np.ndarray, side: int) -> np.ndarray:
    """A copy with the given patches of a grid of ``side`` × ``side`` in the mean color of the image.

    Parameters
    ----------
    image : ndarray of shape (H, W, 3), uint8
        Image.
    patches : ndarray of int
        Numbers of patches, row by row.
    side : int
        Patches per row and column.
    """
    out = image.copy()
    color = image.reshape(-1, image.shape[2]).mean(axis=0).round().astype(np.uint8)
    edges = [np.linspace(0, size, side + 1).round().astype(int) for size in image.shape[:2]]
    for row, column in zip(*np.divmod(patches, side), strict=True):
        out[edges[0][row] : edges[0][row + 1], edges[1][column] : edges[1][column + 1]] = color
    return out
