r"""ReCLIP: label propagation in a projected space, and self-training of both towers where their labels agree.

Two classifiers share the frozen encoder. T trains the layer norms of the text tower and compares frozen image features
with its class texts; V trains those of the image tower and compares its image features with centroids C. Before the
first epoch and after each one both label all images:

.. math::
    P &= U_2 U_2^\top, \quad T = V S U^\top, \quad U = [u_1, U_2] \\
    \mathcal W &= D^{-1/2} \tfrac12 (A + A^\top) D^{-1/2}, \quad
        A_{ij} = \tfrac12 (1 + \cos(P x_i, P x_j)) \text{ for the nearest neighbors} \\
    (I - \alpha \mathcal W)\, z_k &= e_k, \quad \hat y_i = \arg\max_k z_{ki}

where x are the K class texts and the features of all images. C are the mean directions of the texts and images of each
label of V. Both are trained by cross-entropy on the images on which their labels agree, and the mean of their scores
answers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from modalign.core.features import UNLABELED
from modalign.linalg.similarity import unit
from modalign.methods.contract.parameters import Augmentations, Count, Positive, Range, Seed
from modalign.methods.contract.prompting import SENTENCES
from modalign.methods.contract.tower import Learner, TowerMethod, Towers, cosine_logits
from modalign.methods.fair.label_propagation import propagate, text_projection
from modalign.tune.batches import Batch, ImageBatches
from modalign.tune.history import Epoch
from modalign.tune.targets import LayerNorms

if TYPE_CHECKING:
    from modalign.data.items import Items
    from modalign.encoders.clip import ClipEncoder

CHUNK = 128  # images in one forward pass
IMAGES_PER_EPOCH = 5000
ITERATIONS = 20  # of conjugate gradients


@dataclass(kw_only=True, eq=False, repr=False)
class ReCLIP(TowerMethod["CrossModalLearner"]):
    r"""Self-training of the layer norms of both towers with labels propagated among the images; needs class names only.

    Images and class texts are projected to the directions in which the classes differ, and labels propagate from the
    texts over nearest neighbors, once for each tower. Equations: :mod:`modalign.methods.fair.reclip`. Cost of an epoch:
    two passes over the images, one of them with gradient; O(n² d) for the neighbors of n images.

    Parameters
    ----------
    neighbors : int, default=20
        Nearest neighbors of each image and class text in the graph of the propagation.
    alpha : float, default=0.99
        α, share of the neighbors in the propagation; below 1.
    projected : bool, default=True
        If False, neighbors are searched in the features without the projection.
    epochs : int or None, default=None
        Passes over the images; None is ⌊n / 5000⌋ + 2 for n images.
    batch_size : int, default=64
        Images per step.
    learning_rate : float, default=0.001
        Constant learning rate of SGD with momentum 0.9 and weight decay 1e-4.
    augmentation : str or list, default="center"
        Image augmentation.
    training : dict or None, default=None
        Further entries of :class:`~modalign.tune.recipe.Recipe`.
    random_state : int or None, default=None
        Seed of the order of the images.

    Attributes
    ----------
    transduction_ : ndarray of shape (n,)
        Class of each fitted image, −1 for images that could not be decoded.
    diagnosis_ : dict
        ``agreement``, the share of images with equal labels of both classifiers.

    Examples
    --------
    >>> import modalign as ma
    >>> from modalign.data.digits import load_digits
    >>> digits = load_digits().select(range(30))
    >>> method = ma.ReCLIP(epochs=1, random_state=0)
    >>> model = ma.adapt(digits, method=method, unlabeled=True, classes=digits.class_names, mirror=False)
    >>> model.predict(digits.select([0]))[0].name
    'zero'
    """

    title = "ReCLIP"
    paper = (
        "Hu et al., ReCLIP: refine contrastive language image pre-training with source free domain adaptation, "
        "WACV 2024, arXiv:2308.03793"
    )
    needs_labels = False
    ablations: ClassVar[dict[str, dict[str, Any]]] = {"no projection": {"projected": False}}
    recipe: ClassVar[dict[str, Any]] = {"weight_decay": 1e-4, "schedule": "constant", "warmup": 0}

    neighbors: Count = 20
    alpha: Annotated[float, Range(0, 1, strict_high=True)] = 0.99  # at 1 the propagation has no solution
    projected: bool = True
    epochs: Count | None = None
    batch_size: Count = 64
    learning_rate: Positive = 1e-3
    augmentation: Augmentations = "center"
    training: dict | None = None
    random_state: Seed = None

    def _epochs(self, labels: np.ndarray) -> int:
        return self.epochs or len(labels) // IMAGES_PER_EPOCH + 2

    def _learner(self, towers: Towers, generator: Generator) -> CrossModalLearner:
        return CrossModalLearner(towers, self.neighbors, self.alpha, projected=self.projected)

    def _class_axes(self) -> dict[str, int]:
        return {"centroids": 0}

    def _diagnose(self, learner: CrossModalLearner, data: ImageBatches) -> dict[str, Any]:
        return {"agreement": learner.agreement()}

    def _finish(self, items: Items, encoder: ClipEncoder) -> None:
        self.transduction_ = self.score_images(items, encoder).answers(items.ids)


class CrossModalLearner(Learner):
    """Layer norms of both towers, and the centroids that the image tower is compared with.

    Parameters
    ----------
    towers : Towers
        The frozen encoder and the classes.
    neighbors : int
        Nearest neighbors of each point.
    alpha : float
        α.
    projected : bool, default=True
        Whether points are projected.
    """

    centroids: Tensor
    labels: Tensor

    def __init__(self, towers: Towers, neighbors: int, alpha: float, *, projected: bool = True) -> None:
        super().__init__(towers)
        self.neighbors, self.alpha, self.projected = neighbors, alpha, projected
        self.image, self.text = LayerNorms(towers.vision), LayerNorms(towers.text)
        self.register_buffer("centroids", towers.prototypes())
        self.first = towers.text.tokenize([sentences[0] for sentences in towers.sentences], cut=True)
        self.data: ImageBatches | None = None

    def begin(self, data: ImageBatches) -> None:
        """Compute the frozen features of all images, and the labels for the first epoch."""
        self.data = data
        self.register_buffer("labels", torch.full((len(data),), UNLABELED, device=self.centroids.device))
        with torch.no_grad():
            self.frozen = self._all_images()
            self.relabel(self.frozen)

    @torch.no_grad()
    def relabel(self, images: Tensor) -> None:
        """Label all images by both classifiers, from features (n, d) of the image tower as it is now."""
        options: dict[str, Any] = {"neighbors": self.neighbors, "alpha": self.alpha, "iterations": ITERATIONS}
        by_image, by_text = (
            propagate(texts, points, text_projection(texts) if self.projected else None, **options)
            for texts, points in ((self.towers.prototypes(), images), (self.all_texts(), self.frozen))
        )
        agreed = by_image.labels == by_text.labels
        self.labels.copy_(torch.where(agreed, by_image.labels, UNLABELED))
        self.centroids.copy_(by_image.centroids)

    def classes(self) -> Tensor:
        """(K, d) features of the first sentence of each class by the text tower as it is now."""
        return self._read(self.first)

    def scores(self, pixels: Tensor, classes: Tensor) -> Tensor:
        """(B, K) mean of the scaled cosines of both classifiers."""
        return torch.stack(self._of_both(pixels, classes)).mean(dim=0)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Return the cross-entropy of both classifiers on the images on which they agree."""
        labels = self.labels[batch.indices.to(self.labels.device)]
        agreed = labels != UNLABELED
        by_image, by_text = (
            F.cross_entropy(logits[agreed], labels[agreed]) if bool(agreed.any()) else 0 * logits.sum()
            for logits in self._of_both(batch.pixels, self.classes())
        )
        return {"loss": by_image + by_text, "image_loss": by_image, "text_loss": by_text}

    def ended(self, epoch: Epoch) -> Mapping[str, float]:
        """Label the images again, and return the share of labels that agree."""
        with torch.no_grad():
            self.relabel(self._all_images())
        return {"agreement": self.agreement()}

    def agreement(self) -> float:
        """Return the share of images that both classifiers label alike."""
        return (self.labels != UNLABELED).double().mean().item()

    def state(self) -> dict[str, Tensor]:
        """Return the layer norms of both towers and the centroids."""
        return {name: value for name, value in super().state().items() if name != "labels"}

    def _of_both(self, pixels: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
        """(B, K) logits of the image tower with the centroids, and of frozen images with the texts."""
        tower, scale = self.image.tower(self.towers.vision), self.towers.logit_scale
        images = tower(pixels, checkpoint=self.towers.gradient_checkpointing).pooled[0]
        with torch.no_grad():
            frozen = self.towers.vision(pixels).pooled[0]
        return cosine_logits(images, self.centroids, scale), cosine_logits(frozen, classes, scale)

    def _all_images(self) -> Tensor:
        """(n, d) unit features of all images by the image tower as it is now."""
        assert self.data is not None
        tower = self.image.tower(self.towers.vision)
        return torch.cat([unit(tower(pixels).pooled[0].float()) for pixels in self.data.centered(CHUNK)])

    def all_texts(self) -> Tensor:
        """(K, d) mean directions of all sentences of each class by the text tower as it is now."""
        sentences = [sentence for own in self.towers.sentences for sentence in own]
        counts = torch.tensor([len(own) for own in self.towers.sentences])
        vectors = unit(self._read(self.towers.text.tokenize(sentences, cut=True)).float())
        owners = torch.repeat_interleave(torch.arange(len(counts)), counts).to(vectors.device)
        return unit(vectors.new_zeros(len(counts), vectors.shape[1]).index_add_(0, owners, vectors))

    def _read(self, sentences: Any) -> Tensor:
        checkpoint = self.towers.gradient_checkpointing
        chunk = SENTENCES if checkpoint or not torch.is_grad_enabled() else None
        tower = self.text.tower(self.towers.text)
        return tower(sentences, chunk=chunk, checkpoint=checkpoint).pooled[0]
