"""Segmentation of photos by class names: the object that is configured once, fitted if wanted, saved and loaded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modalign.segmentation.segmented import Segmentation as Segmentation
from modalign.segmentation.segmented import Segmentations

if TYPE_CHECKING:
    from modalign.encoders.base import Encoder

Classes = str | Path | Sequence[str | Sequence[str]]
"""A file of names, ``"cat; grass, lawn; sky"``, or a list with a name or several names a class."""


class Segmenter:
    """Segments photos into classes that are given by their names.

    Parameters
    ----------
    encoder : a name, a folder or an encoder with text.
    classes : names of the classes; see :data:`Classes`.
    features : which features of the patches are compared with the names.
    background : names of what is no class of interest; they become class 0, ``"background"``.
    templates : sentences that names are put into.
    window, stride : pixels of the side of a window and between two; None: of the encoder's images, and half of that.
    short_side : the photo's shorter side is brought to this; None: one and a half windows.
    logit_scale : factor of the cosines before the softmax.
    prob_threshold : pixels whose best probability is below it become background, or none.
    area_threshold : with background: classes with at most this share of the pixels that are not background are left
        out.
    vfm : the vision-only encoder of ``features="proxy"``.
    """

    names: tuple[str, ...]

    def __init__(
        self,
        encoder: str | Path | Encoder,
        classes: Classes,
        *,
        features: str = "scclip",
        background: Sequence[str] | str = (),
        templates: str | Sequence[str] = "imagenet_80",
        window: int | None = None,
        stride: int | None = None,
        short_side: int | None = None,
        logit_scale: float = 40.0,
        prob_threshold: float = 0.0,
        area_threshold: float | None = None,
        resize: str = "antialias",
        calibration: dict[str, Any] | None = None,
        vfm: str | Path | Encoder | None = None,
        device: str = "auto",
        batch_size: int | None = None,
    ) -> None:
        raise NotImplementedError

    @property
    def settings(self) -> dict[str, Any]:
        """All that decides the labels, as JSON knows it; with ``names_sha256`` and the hash of the map."""
        raise NotImplementedError

    def segment(self, images: Any, *, transductive: bool = False, progress: bool | None = None) -> Segmentations:
        """The classes of the pixels of photos, one result a photo, as they are computed.

        Parameters
        ----------
        images : anything :func:`~modalign.load_items` takes.
        transductive : accept photos that the map was fitted on.
        progress : show a bar or not; by default in a terminal.
        """
        raise NotImplementedError

    def fit_map(
        self,
        images: Any,
        *,
        vfm: str | Path | Encoder | None,
        z: str = "vfm+clip",
        top: int | None = 1024,
        stride: int | None = None,
        progress: bool | None = None,
        **parameters: Any,
    ) -> Segmenter:
        """Learn, without labels, the map of GPUA from patches of photos; returns the segmenter itself."""
        raise NotImplementedError

    def save(self, folder: str | Path) -> Path:
        """Write names, text vectors, settings and the map; the encoders are named and hashed, not copied."""
        raise NotImplementedError


def segment(
    images: Any, classes: Classes, *, encoder: str | Path | Encoder, features: str = "scclip", **settings: Any
) -> Segmentations:
    """Segment photos by class names, in one call: ``Segmenter(encoder, classes, …).segment(images)``."""
    return Segmenter(encoder, classes, features=features, **settings).segment(images)
