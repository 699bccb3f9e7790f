"""Result of a segmentation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from modalign.core.features import Quarantined

MOST_BYTE_CLASSES = 255
"""Labels of up to this many classes are uint8, above they are uint16; the largest number of the type means "none"."""


def none_label(dtype: np.dtype[Any] | type) -> int:
    """The label of pixels without a class in labels of this type: 255 of uint8, 65535 of uint16."""
    return int(np.iinfo(dtype).max)


def label_type(n_classes: int) -> np.dtype[Any]:
    """The type of labels of so many classes."""
    return np.dtype(np.uint8 if n_classes <= MOST_BYTE_CLASSES else np.uint16)


@dataclass(frozen=True, eq=False, repr=False)
class Segmentation:
    """The classes of the pixels of one photo.

    Attributes
    ----------
    file : str
        Name of the photo, as in :attr:`~modalign.Items.ids`.
    labels : ndarray of shape (H, W)
        Index of the class of each pixel, of the photo as a viewer shows it (EXIF rotation applied); uint8, or uint16
        above 255 classes. 255, or 65535, is "none": the probability is below ``prob_threshold``.
    names : tuple of str
        K class names; the first name of each class.
    confidence : ndarray of shape (H, W), float16
        Probability of the class that was chosen, or of the best one where none was.
    shares : dict of str to float
        Class name → share of the pixels, of all K classes.
    none_share : float
        Share of the pixels without a class.
    settings : dict
        Settings: encoder, features, windows, thresholds, names, map.

    Examples
    --------
    >>> import modalign as ma
    >>> from PIL import Image
    >>> photo = Image.new("RGB", (64, 48), "white")
    >>> segmenter = ma.Segmenter("tiny", ["circle", "square"], features="window")
    >>> result = next(iter(segmenter.segment([photo])))
    >>> result.names, round(sum(result.shares.values()), 3)
    (('circle', 'square'), 1.0)
    """

    file: str
    labels: np.ndarray
    names: tuple[str, ...]
    confidence: np.ndarray
    shares: dict[str, float]
    none_share: float
    settings: dict[str, Any]
    _picture: Callable[[], np.ndarray] = field(repr=False)
    _scores: Callable[[], np.ndarray] = field(repr=False)

    def picture(self) -> np.ndarray:
        """The photo, (H, W, 3) uint8 RGB; decoded again by each call, so that a list of results stays small."""
        return self._picture()

    def scores(self) -> np.ndarray:
        """(K, H, W) float32 probabilities of the classes before thresholds, computed again by each call.

        Names share one softmax and a class has the largest of its names, so that they add up to at most one.
        """
        return self._scores()

    def __repr__(self) -> str:
        best = sorted(self.shares.items(), key=lambda share: -share[1])[:3]
        shares = ", ".join(f"{name} {share:.0%}" for name, share in best if share > 0)
        return f"Segmentation('{self.file}', {self.labels.shape[1]} × {self.labels.shape[0]}: {shares or 'none'})"


class Segmentations(Iterator[Segmentation]):
    """Results one by one, as they are computed.

    Attributes
    ----------
    n_images : int
        Number of given photos.
    quarantined : list of Quarantined
        Those that could not be used so far, with reasons; complete when the last result was taken.
    """

    def __init__(self, results: Iterator[Segmentation], n_images: int, quarantined: list[Quarantined]) -> None:
        self._results = results
        self.n_images = n_images
        self.quarantined = quarantined

    def __iter__(self) -> Iterator[Segmentation]:
        return self

    def __next__(self) -> Segmentation:
        return next(self._results)

    def __repr__(self) -> str:
        return f"Segmentations(n_images={self.n_images})"
