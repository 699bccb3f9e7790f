"""The labeled images and the sentences that contribute to an answer."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from modalign.core.display import shorten_repr
from modalign.core.errors import InputError
from modalign.core.features import UNLABELED
from modalign.data.copies import content_hash
from modalign.data.items import Items, load_items
from modalign.linalg.similarity import unit
from modalign.methods.baselines.lfa import LFA
from modalign.methods.baselines.tip_adapter import TipAdapter
from modalign.methods.contract.vectors import VectorMethod
from modalign.model.scoring import embed_images
from modalign.model.tested_items import labels_among

if TYPE_CHECKING:
    from modalign.model.classifier import Classifier

NEIGHBORS, SENTENCES = 8, 8  # named in an explanation
_SIDE = (192, 192)  # pixels of the picture of a neighbor


class Neighbor(NamedTuple):
    """A labeled image near to the image.

    Attributes
    ----------
    id, class_name : str
        The image, and its label.
    cosine : float
        Of the vectors of both images.
    weight : float or None
        What a cache method adds to the score of the class for it; None for other methods.
    picture : ndarray of shape (h, w, 3), uint8, or None
        A small picture, if the image was given.
    """

    id: str
    class_name: str
    cosine: float
    weight: float | None = None
    picture: np.ndarray | None = None

    def __repr__(self) -> str:
        return f"Neighbor({shorten_repr(self.id)}: {shorten_repr(self.class_name)}, cosine {self.cosine:.3f})"


class SentenceShare(NamedTuple):
    """A sentence about a class near to the image.

    Attributes
    ----------
    sentence, class_name : str
        The sentence, and its class.
    cosine : float
        Of the image and the sentence, in the space where the method compares images with text.
    share : float
        Part of the score of its class that is due to it; see :func:`shares_of_sentences`.
    """

    sentence: str
    class_name: str
    cosine: float
    share: float


def nearest_images(
    model: Classifier, x: np.ndarray, labeled: Any, content: str = "", *, of: int | None = None
) -> tuple[Neighbor, ...]:
    r"""The labeled images with the largest weight in a cache method, else with the largest cosine.

    Tip-Adapter adds :math:`\alpha \exp(-\beta (1 - \hat x^\top F_i))` to the score of the class of its key i. A key is
    named after the image of its class in ``labeled`` with the largest cosine: its own, unless keys were trained.

    Parameters
    ----------
    model : Classifier
        A fitted classifier.
    x : ndarray of shape (d,)
        Vector of the image, by the encoder of the model.
    labeled : object
        Labeled images, in any form that :func:`~modalign.load_items` takes, or None.
    content : str, default=""
        Content hash of the image, which is not its own neighbor by cosine.
    of : int or None, default=None
        The class of the labeled images; None is any class.

    Returns
    -------
    tuple of Neighbor
        At most 8; none without a cache and without labeled images. Cost: the vectors of the labeled images, O(n d).
    """
    items, rows, labels = _labeled_vectors(model, labeled)
    image = unit(torch.tensor(x))
    method = model.method
    if not isinstance(method, TipAdapter):
        cosines = (rows @ image).numpy()
        nearest = (i for i in np.argsort(-cosines, kind="stable") if of is None or labels[i] == of)
        others = (i for i in nearest if items and content_hash(items, int(i)) != content)
        order = islice(others, NEIGHBORS)
        return tuple(_neighbor(model, items, int(i), labels[i], cosines[i], None) for i in order)
    keys, owners = method.keys_.cpu(), method.key_classes_.cpu().numpy()
    weights = (method.alpha_ * (method.beta_ * (keys @ image - 1)).exp()).numpy()
    found = []
    nearest = (i for i in np.argsort(-weights, kind="stable") if of is None or owners[i] == of)
    for i in islice(nearest, NEIGHBORS):
        own = np.flatnonzero(labels == owners[i])
        cosine, weight = float(unit(keys[i]) @ image), float(weights[i])
        if len(own):
            place = int(own[int((rows[own] @ keys[i]).argmax())])
            found.append(_neighbor(model, items, place, owners[i], cosine, weight))
        else:
            found.append(Neighbor(f"image {i + 1} of the cache", model.class_names[owners[i]], cosine, weight))
    return tuple(found)


def shares_of_sentences(model: Classifier, x: np.ndarray) -> tuple[SentenceShare, ...]:
    r"""The sentences of the fit that are nearest to an image, with their shares in the score of their class.

    With the image u in the space of the text (:math:`\hat x`, or what LFA, CMM and GPUA map it to) and the unit
    sentences :math:`\hat t_{cs}` of class c, the cosine with the class text is a sum over its sentences,
    :math:`u^\top \bar t_c / \lVert \bar t_c \rVert = \sum_s a_{cs}` with
    :math:`a_{cs} = u^\top \hat t_{cs} / (T_c \lVert \bar t_c \rVert)`. The share of a sentence is
    :math:`a_{cs} / \sum_{s'} |a_{cs'}|`.

    Parameters
    ----------
    model : Classifier
        A fitted classifier.
    x : ndarray of shape (d,)
        Vector of the image, by the encoder of the model.

    Returns
    -------
    tuple of SentenceShare
        At most 8, nearest first; none if the model was fitted without class text, or compares images with other
        vectors. Cost: the vectors of the sentences, O(C T d).
    """
    method, sentences = model.method, model.record.get("sentences") or ()
    if not (isinstance(method, VectorMethod) and model.encoder.has_text and len(sentences) == len(model.class_names)):
        return ()
    if not getattr(method, "fitted_with_text_", True):
        return ()
    text = model.encoder.embed_texts([list(own) for own in sentences], model.class_names)
    vectors = torch.tensor(text.vectors)
    image = in_text_space(method, torch.tensor(x)[None])[0].cpu()
    if image.shape != vectors.shape[2:]:
        return ()
    cosines = vectors @ image  # sentences that a class lacks are zero rows, and add nothing
    shares = cosines / cosines.abs().sum(dim=1, keepdim=True).clamp_min(1e-12)
    there = vectors.any(dim=2)
    order = cosines.masked_fill(~there, -torch.inf).flatten().argsort(descending=True, stable=True)
    T = vectors.shape[1]
    best = [divmod(int(place), T) for place in order[: min(SENTENCES, int(there.sum()))]]
    return tuple(
        SentenceShare(sentences[c][s], model.class_names[c], float(cosines[c, s]), float(shares[c, s])) for c, s in best
    )


def maps_images(method: VectorMethod) -> bool:
    """Whether a method maps image vectors before it compares them with class vectors: LFA, CMM and GPUA."""
    return isinstance(method, LFA) or hasattr(method, "transform")


def in_text_space(method: VectorMethod, X: Tensor) -> Tensor:
    """Unit vectors of images (n, d) as the method compares them with class vectors."""
    if isinstance(method, LFA):
        return unit(unit(X) @ method.weight_.to(X.device))
    transform = getattr(method, "transform", unit)
    return transform(X)


def _labeled_vectors(model: Classifier, labeled: Any) -> tuple[Items | None, Tensor, np.ndarray]:
    """Labeled images with their unit vectors (n, d) and their classes (n,) among those of the model."""
    if labeled is None:
        return None, torch.empty(0, model.encoder.spec.dim), np.empty(0, dtype=np.int64)
    items = load_items(labeled)
    labels = labels_among(model.class_names, items)
    known = np.flatnonzero(labels != UNLABELED)
    if not len(known):
        raise InputError(f"Expected labeled images to find neighbors among, got {len(items)} images without a label.")
    features = embed_images(model.encoder, items.select(known))
    place = {name: i for i, name in enumerate(items.ids)}
    kept = np.array([place[name] for name in features.ids])
    return items.select(kept), unit(torch.tensor(features.vectors)), labels[kept]


def _neighbor(
    model: Classifier, items: Items | None, i: int, label: int, cosine: float, weight: float | None
) -> Neighbor:
    assert items is not None
    picture = items.open(i)
    picture.thumbnail(_SIDE)
    return Neighbor(items.ids[i], model.class_names[label], float(cosine), weight, np.asarray(picture.convert("RGB")))
