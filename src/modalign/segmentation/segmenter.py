"""Segmentation of photos by class names, with an optional learned map; can be saved and loaded."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from modalign.core.arguments.argument_types import checked_arguments
from modalign.core.arrays import is_integer
from modalign.core.display import shorten_all, shorten_repr
from modalign.core.errors import InputError
from modalign.core.progress import progress as showing
from modalign.core.record import versions
from modalign.core.renaming import stacklevel_outside
from modalign.data.items import Items, load_items
from modalign.encoders.base import Encoder
from modalign.segmentation.calibrated import read_calibration
from modalign.segmentation.class_words import Classes, ClassWords, read_class_words, read_templates, text_vectors
from modalign.segmentation.map_fitting import learn_map, require_map
from modalign.segmentation.patch_features import PatchFeatures
from modalign.segmentation.patch_map import TOP, PatchMap
from modalign.segmentation.photos import content_hashes, digest, identity, open_encoder, require_apart
from modalign.segmentation.pixel_labels import Decision
from modalign.segmentation.segmented import Segmentations
from modalign.segmentation.segmenting import results
from modalign.segmentation.windows import Sliding


class Segmenter:
    """Segment photos into classes that are given by their names.

    A photo is resized, cut into overlapping windows, and each patch of a window is compared with the names; cosines are
    averaged where windows overlap, interpolated to the photo's size, and the class of a pixel is that of the name with
    the largest. Nothing is trained. :meth:`fit_map` adds a map that is learned from photos without labels.

    The labels of a photo do not depend on other photos. Memory: names · h · w numbers of the resized photo, and strips.

    Parameters
    ----------
    encoder : Encoder
        A name, a folder or an encoder with text, such as ``"openai/clip-vit-base-patch16"``.
    classes : str, Path or sequence of str or sequence of str
        A file with a class per line, ``"cat; grass, lawn; sky"``, or a list with one or several names per class.
    features : str, default="scclip"
        Which features of the patches are compared with the names, see :mod:`modalign.segmentation.dense`: ``"scclip"``,
        ``"sclip"``, ``"maskclip"``, ``"maskclip-residual"``, ``"clearclip"``, ``"proxy"``, ``"clip"``, or ``"window"``,
        the vector of each whole window, which every encoder with text has.
    background : sequence of str or str, default=()
        Names of the background; they become class 0, ``"background"``.
    templates : str or sequence of str, default="imagenet_80"
        The name of a set of sentences, or sentences with ``{}`` for the name.
    window, stride : int or None, default=None
        Pixels of the side of a window and between two; None: of the encoder's pictures (224), and half.
    short_side : int or None, default=None
        The photo's shorter side is brought to this; None: one and a half windows (336).
    logit_scale, prob_threshold : float, default=40.0 and 0.0
        Factor of the cosines before the softmax; pixels with a lower probability become background, or none.
    area_threshold : float or None, default=None
        With background: classes with at most this share of the other pixels are left out.
    resize : str, default="antialias"
        ``"antialias"``, or ``"opencv"`` for the filter of published pipelines.
    calibration, vfm : object, default=None
        Constants of ``"scclip"``, see :class:`~modalign.segmentation.calibrated.Calibration`; encoder of ``"proxy"``.
    device, batch_size : object
        Device of encoders that are given by name; windows per forward pass, chosen by default.

    Attributes
    ----------
    names, words : tuple of str and ClassWords
        K class names, and all names of all classes.
    map, fitted_on : PatchMap or None and ndarray
        Result of :meth:`fit_map`, and content hashes of the photos that it was fitted on, sorted uint64.

    Raises
    ------
    InputError
        Names, sizes or thresholds that do not fit, or an encoder without these features.

    Examples
    --------
    >>> import modalign as ma
    >>> from PIL import Image
    >>> photo = Image.new("RGB", (64, 48), "white")
    >>> segmenter = ma.Segmenter("tiny", ["circle", "square"], features="window")
    >>> [result.labels.shape for result in segmenter.segment([photo])]
    [(48, 64)]
    """

    words: ClassWords
    map: PatchMap | None
    map_vfm: Encoder | None
    fitted_on: np.ndarray

    @checked_arguments
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
        words, sentences = read_class_words(classes, background), read_templates(templates)
        decision = Decision(
            logit_scale=logit_scale,
            prob_threshold=prob_threshold,
            area_threshold=area_threshold,
            background=words.background,
        )
        constants = read_calibration(calibration, features)
        opened = open_encoder(encoder, device)
        guide = None if vfm is None else open_encoder(vfm, device)
        patches = PatchFeatures(opened, features, constants, guide)
        side = patches.side if window is None else window
        sliding = Sliding(
            window=side,
            stride=max(1, side // 2) if stride is None else stride,
            short_side=round(1.5 * side) if short_side is None else short_side,
            patch=patches.patch,
            resize=resize,
        )
        batch_size = opened.batch_size if batch_size is None else batch_size
        if not is_integer(batch_size) or batch_size < 1:
            raise InputError(f"Expected batch_size to be an integer of at least 1, got {batch_size!r}.")
        self._set(patches, sliding, decision, words, text_vectors(opened, words, sentences), batch_size)
        for note in (*words.notes, *patches.notes()):
            warnings.warn(note, stacklevel=stacklevel_outside())

    def _set(
        self,
        patches: PatchFeatures,
        sliding: Sliding,
        decision: Decision,
        words: ClassWords,
        text: Tensor,
        batch_size: int,
    ) -> None:
        self.patches, self.sliding, self.decision = patches, sliding, decision
        self.words, self.text, self.batch_size = words, text, batch_size
        self.map, self.map_vfm = None, None
        self.fitted_on = np.empty(0, np.uint64)

    @property
    def encoder(self) -> Encoder:
        """The encoder with text."""
        return self.patches.encoder

    @property
    def names(self) -> tuple[str, ...]:
        """The K class names, the first of each class."""
        return self.words.names

    @property
    def settings(self) -> dict[str, Any]:
        """All settings that affect the labels, JSON values."""
        scclip = self.patches.features == "scclip"
        return {
            "encoder": identity(self.encoder.spec),
            "features": self.patches.features,
            "calibration": asdict(self.patches.calibration) if scclip else None,
            "proxy": None if self.patches.guide is None else identity(self.patches.guide.spec),
            **asdict(self.sliding),
            **asdict(self.decision),
            "classes": [list(words) for words in self.words.words],
            "names_sha256": self.words.sha256,
            "text_sha256": digest(self.text),
            "map": None if self.map is None else self._map_settings(self.map),
            "versions": versions(),
        }

    @checked_arguments
    def segment(self, images: Any, *, transductive: bool = False, progress: bool | None = None) -> Segmentations:
        """Segment photos; yields one result per photo.

        Photos that cannot be decoded are left out and listed in ``quarantined`` of the result.

        Parameters
        ----------
        images : object
            Any source of :func:`~modalign.load_items`; labels are ignored.
        transductive : bool, default=False
            Accept photos that the map was fitted on.
        progress : bool or None, default=None
            Show a bar or not; by default in a terminal.

        Raises
        ------
        InputError
            Photos that the map was fitted on; in iteration, if no photo can be decoded.
        """
        items = load_items(images)
        if not transductive:
            self._require_new(items)
        quarantined = list(items.quarantined)
        return Segmentations(results(self, items, quarantined, progress), len(items), quarantined)

    def fit_map(
        self,
        images: Any,
        *,
        vfm: str | Path | Encoder | None = None,
        z: str = "vfm+clip",
        top: int | None = TOP,
        stride: int | None = None,
        device: str = "auto",
        progress: bool | None = None,
        **parameters: Any,
    ) -> Segmenter:
        """Learn the map of GPUA from photos without labels, and use it from now on; returns the segmenter.

        For each class the ``top`` patches with the largest cosine to its names are taken, and W maps them, see
        :class:`~modalign.GPUA`, with uniform class shares. Classes of several names are represented by the mean of
        these; in segmenting, each name is compared.

        Parameters
        ----------
        images : object
            Any source of :func:`~modalign.load_items`; labels are ignored.
        vfm : str, Path, Encoder or None, default=None
            A vision-only encoder, such as ``"facebook/dinov2-base"``.
        z : str, default="vfm+clip"
            ``"vfm+clip"`` maps its patches together with those of the encoder, ``"vfm"`` its patches alone, ``"clip"``
            those of the encoder alone, without a vision-only one.
        top : int or None, default=TOP
            Patches per class; None for all, which are then held in memory.
        stride : int or None, default=None
            Pixels between windows; None for that of segmenting.
        device : str, default="auto"
            Device of a ``vfm`` that is given by name.
        progress : bool or None, default=None
            Show a bar or not; by default in a terminal.
        parameters : object
            Of :class:`~modalign.GPUA`.

        Raises
        ------
        InputError
            No vision-only encoder where one is needed, features without patches, fewer patches than classes.

        Warns
        -----
        UserWarning
            Classes with fewer patches than ``top``, or most of whose patches are closer to another class.
        """
        require_map(self.patches.features, z, vfm is not None)
        other = None if vfm is None else open_encoder(vfm, device)
        sliding = self.sliding if stride is None else replace(self.sliding, stride=stride)
        items = load_items(images)
        with showing(progress) if progress is not None else nullcontext():
            found = learn_map(self, items, sliding, other, z=z, top=top, parameters=parameters)
        self.map, self.map_vfm = found, other
        self.fitted_on = np.unique(content_hashes(items))
        return self

    def save(self, folder: str | Path) -> Path:
        """Write names, text vectors, settings and the map; the encoders are named and hashed, not copied.

        Read again by :func:`modalign.load`. Size: 4 bytes per number of the text vectors, 2 per number of the map (1.3
        MB for 1,280 columns and width 512), and 8 per photo that the map was learned from.
        """
        from modalign.segmentation.segmenter_files import save_segmenter

        return save_segmenter(self, folder)

    def _require_new(self, items: Items) -> None:
        """Raise if the map was fitted on one of these photos."""
        if len(self.fitted_on):
            require_apart(items, self.fitted_on)

    def _map_settings(self, found: PatchMap) -> dict[str, Any]:
        vfm = None if self.map_vfm is None else identity(self.map_vfm.spec)
        return {"z": found.kind, "vfm": vfm, "sha256": digest(found.weight)}

    def __repr__(self) -> str:
        mapped = "" if self.map is None else f", map of {self.map.kind}"
        return (
            f"Segmenter({shorten_repr(self.encoder.spec.name)}, {len(self.names)} classes: {shorten_all(self.names)}, "
            f"features='{self.patches.features}'{mapped})"
        )
