"""Image vectors and class vectors of a classifier, of the frozen encoder and as its method compares them."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from modalign.core.features import ClassText, Features
from modalign.data.items import Items
from modalign.encoders.clip import ClipEncoder
from modalign.encoders.joined import JoinedEncoder
from modalign.linalg.prototypes import text_prototypes
from modalign.linalg.similarity import unit
from modalign.methods.contract.prompting import PromptLearner
from modalign.methods.contract.tower import TowerMethod
from modalign.methods.fair.fair_training import SelfTraining
from modalign.model.classifier import Classifier
from modalign.model.explaining.patch_scores import prepared_images
from modalign.model.explaining.reasons import in_text_space, maps_images


class Space(NamedTuple):
    """Unit image vectors (n, d) and class vectors (C, d)."""

    images: np.ndarray
    texts: np.ndarray


def frozen_space(model: Classifier, vectors: np.ndarray) -> Space | None:
    """Images and class text by the encoder, of several by that of the text; None without text in the image space.

    Parameters
    ----------
    model : Classifier
        A fitted classifier.
    vectors : ndarray of shape (n, d)
        Vectors of images by its encoder.
    """
    text = _text_of(model)
    encoder = model.encoder
    if isinstance(encoder, JoinedEncoder) and encoder.language is not None:
        vectors = encoder.part_of(Features(vectors), encoder.language).vectors
    if text is None or text.shape[1] != vectors.shape[1]:
        return None
    return Space(unit(torch.tensor(vectors)).numpy(), text)


def vision_parts(model: Classifier, vectors: np.ndarray) -> dict[str, np.ndarray]:
    """Name → (n, d) vectors of each encoder beside that of the class text, of several encoders joined."""
    encoder = model.encoder
    if not isinstance(encoder, JoinedEncoder) or encoder.language is None:
        return {}
    others = [part for part in encoder.parts if part is not encoder.language]
    return {part.name: encoder.part_of(Features(vectors), part).vectors for part in others}


def _text_of(model: Classifier) -> np.ndarray | None:
    """(C, d) unit class text of the fit; None if there was none."""
    if isinstance(model.method, TowerMethod):
        return text_prototypes(model.method.class_text_).numpy()
    sentences = model.record.get("sentences") or ()
    if not model.encoder.has_text or len(sentences) != len(model.class_names):
        return None
    text: ClassText = model.encoder.embed_texts([list(own) for own in sentences], model.class_names)
    return text_prototypes(torch.tensor(text.vectors)).numpy()


def adapted_space(model: Classifier, items: Items, vectors: np.ndarray) -> Space | None:
    """Images and class vectors as the method compares them by their cosine; None if it does not.

    LFA, CMM and GPUA map image vectors; prompt methods with one prompt per class and self-training methods embed the
    images again.

    Parameters
    ----------
    model : Classifier
        A fitted classifier.
    items : Items
        The images, all of which can be decoded.
    vectors : ndarray of shape (n, d)
        Their vectors by the encoder.
    """
    method = model.method
    if isinstance(method, TowerMethod):
        assert isinstance(model.encoder, ClipEncoder)
        return _of_tower(method, items, model.encoder)
    if not maps_images(method):
        return None
    return Space(in_text_space(method, torch.tensor(vectors)).numpy(), method.prototypes_.cpu().numpy())


@torch.no_grad()
def _of_tower(method: TowerMethod, items: Items, encoder: ClipEncoder) -> Space | None:
    learner, classes = method._bind(encoder)
    encode: Any  # a function from pixels to what an image tower returns
    if isinstance(learner, PromptLearner) and isinstance(classes, Tensor) and len(classes) == 1:
        encode, texts = learner.encode_images, classes[0]
    elif isinstance(learner, SelfTraining):
        encode, texts = learner.vision(), classes
    else:
        return None
    prepared, size = prepared_images(items, encoder), encoder.batch_size
    batches = [prepared[start : start + size] for start in range(0, len(prepared), size)]
    pixels = (encoder.preprocessing.inputs(batch, encoder.device, encoder.dtype)["pixel_values"] for batch in batches)
    found = torch.cat([unit(encode(batch).pooled[0].float()).cpu() for batch in pixels])
    return Space(found.numpy(), unit(texts.float()).cpu().numpy())
