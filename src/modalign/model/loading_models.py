"""Loading of saved models."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from PIL import Image

from modalign.core.arguments.argument_types import checked_arguments
from modalign.core.card_names import MULTI_LABEL, SEGMENTER, holds
from modalign.core.errors import InputError, argument
from modalign.core.files import local_path
from modalign.data.items import load_items
from modalign.encoders import find_encoder, load_encoder
from modalign.methods.contract.tower import TowerMethod
from modalign.methods.contract.vectors import VectorMethod
from modalign.model.classifier import Classifier
from modalign.model.hub.hub_transfer import is_hub_name, pull
from modalign.model.persistence import check_scores, load_model
from modalign.model.scoring import require_clip

if TYPE_CHECKING:
    from modalign.encoders.base import Encoder
    from modalign.encoders.joined import JoinedEncoder
    from modalign.model.multi_label import MultiLabelClassifier
    from modalign.segmentation.segmenter import Segmenter


@checked_arguments
def load(
    folder: str | Path, *, encoder: str | Encoder | JoinedEncoder | None = None, revision: str | None = None
) -> Classifier | VectorMethod | TowerMethod | Segmenter | MultiLabelClassifier:
    """Load a saved :class:`Classifier`, fitted method or :class:`~modalign.Segmenter`.

    The model is checked completely before it is used, see :func:`~modalign.model.persistence.load_model`. The encoder
    is searched on this machine, see :func:`~modalign.encoders.find_encoder`. ``encoder`` gives it explicitly: a name
    that may be downloaded, a folder, or a loaded encoder. An encoder with another fingerprint than that of the fit is
    refused.

    ``user/name`` is a model on the Hugging Face hub, see :meth:`Classifier.push_to_hub`, where no such folder is here:
    its card, its page and the weights that the card names are fetched, at ``revision`` if that is given.

    Examples
    --------
    >>> import modalign as ma
    >>> from modalign.data.digits import load_digits
    >>> digits = load_digits().select(range(30))
    >>> folder = ma.adapt(digits, method="zero_shot", mirror=False).save("digits")
    >>> ma.load(folder).predict(digits.select([0, 1])).names
    ('zero', 'one')
    """
    folder = local_path(folder)
    if is_hub_name(os.fspath(folder)):
        folder = pull(os.fspath(folder), revision)
    elif revision is not None:
        raise InputError(f"Expected a name on the hub where {argument('revision')} is given, got '{folder}'.")
    if holds(folder, MULTI_LABEL):  # the modules of each kind are imported for models of that kind only
        from modalign.model.multi_label.multi_label_files import load_multi_label

        return load_multi_label(folder, encoder=encoder)
    if holds(folder, SEGMENTER):
        from modalign.segmentation.segmenter_files import load_segmenter

        return load_segmenter(folder, encoder=encoder)  # type: ignore[arg-type]  # refuses encoders that are joined
    method, described = load_model(folder)
    if described is None:
        return method
    if encoder is None:
        encoder = find_encoder(described.encoder)
    elif isinstance(encoder, (str, os.PathLike)):
        encoder = load_encoder(encoder, dtype=described.encoder.dtype)
    described.encoder.require(encoder.spec)
    if isinstance(method, TowerMethod):
        _try(method, encoder, folder)
    return Classifier(method=method, **vars(described) | {"encoder": encoder})


def _try(method: TowerMethod, encoder: Encoder | JoinedEncoder, folder: str | Path) -> None:
    """Predict one picture with a method inside an encoder, which cannot be checked without the encoder."""
    try:
        found = method.score_images(load_items([Image.new("RGB", (64, 48), "gray")]), require_clip(encoder))
        check_scores(found.logits, 1, len(method.classes_))
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # parts that do not fit each other fail in every way a network can
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"The model in '{folder}' cannot be used with encoder '{encoder.name}': {reason}") from None
