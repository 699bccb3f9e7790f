"""Segmentation in one call."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from modalign.core.arguments.argument_types import checked_arguments
from modalign.encoders.base import Encoder
from modalign.segmentation.class_words import Classes
from modalign.segmentation.segmented import Segmentations
from modalign.segmentation.segmenter import Segmenter


@checked_arguments
def segment(
    images: Any, classes: Classes, *, encoder: str | Path | Encoder, features: str = "scclip", **settings: Any
) -> Segmentations:
    """Segment photos by class names: ``Segmenter(encoder, classes, …).segment(images)``.

    Parameters
    ----------
    images : object
        Any source of :func:`~modalign.load_items`.
    classes, encoder, features : object
        As for :class:`~modalign.Segmenter`.
    **settings
        Further parameters of :class:`~modalign.Segmenter`.

    Returns
    -------
    Segmentations
        Iterator of a :class:`~modalign.Segmentation` per photo, as they are computed.

    Examples
    --------
    >>> import modalign as ma
    >>> from PIL import Image
    >>> photo = Image.new("RGB", (64, 48), "white")
    >>> for result in ma.segment([photo], ["circle", "square"], encoder="tiny", features="window"):
    ...     result.labels.shape
    (48, 64)
    """
    return Segmenter(encoder, classes, features=features, **settings).segment(images)
