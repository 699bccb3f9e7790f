"""Drawn photos, and a segmenter that segments them by color."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter

from modalign.core.errors import UndecodableError
from modalign.core.features import Quarantined
from modalign.data.items import load_items
from modalign.segmentation.segmented import Segmentation, Segmentations, label_type, none_label

NAMES = ("cat", "grass", "sky")
PAINT = np.array([[150, 90, 40], [60, 160, 50], [120, 170, 235]], dtype=np.uint8)


def scene(seed: int, size: tuple[int, int] = (60, 80), n_classes: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Smooth regions of classes, and a picture in their colors with noise: labels (H, W) and pixels (H, W, 3)."""
    rng = np.random.default_rng(seed)
    heat = np.stack([gaussian_filter(rng.normal(size=size), 9, mode="wrap") for _ in range(n_classes)])
    labels = heat.argmax(axis=0).astype(np.uint8)
    paint = PAINT if n_classes <= 3 else rng.integers(0, 256, (n_classes, 3))
    pixels = np.clip(paint[labels] + rng.normal(0, 10, (*size, 3)), 0, 255).astype(np.uint8)
    return labels, pixels


def draw_scenes(folder: Path, n: int) -> Path:
    """``n`` pictures of several sizes as PNG."""
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(n):
        Image.fromarray(scene(i, (50 + 3 * (i % 5), 70))[1]).save(folder / f"photo{i:03d}.png")
    return folder


class ColorSegmenter:
    """Stands in for :class:`modalign.Segmenter`: a pixel has the class of the nearest color, if it is near enough."""

    def __init__(self, radius: float = 60.0, names: tuple[str, ...] = NAMES) -> None:
        self.names, self.radius = names, radius
        self.words = SimpleNamespace(names=names, words=tuple((name,) for name in names), background=False)
        self.segmented: list[str] = []

    @property
    def settings(self) -> dict[str, Any]:
        return {"encoder": "colors", "features": "pixels", "radius": self.radius, "names_sha256": "0" * 64}

    def result(self, file: str, pixels: np.ndarray) -> Segmentation:
        far = np.linalg.norm(pixels[..., None, :].astype(float) - PAINT, axis=-1)
        labels = far.argmin(axis=-1).astype(label_type(len(self.names)))
        labels[far.min(axis=-1) > self.radius] = none_label(labels.dtype)
        shares = {name: float((labels == k).mean()) for k, name in enumerate(self.names)}
        sure = np.exp(-far.min(axis=-1) / 100).astype(np.float16)
        none = float((labels == none_label(labels.dtype)).mean())
        return Segmentation(file, labels, self.names, sure, shares, none, self.settings, lambda: pixels, lambda: far)

    def segment(self, images: Any, **_: Any) -> Segmentations:
        items = load_items(images)
        refused: list[Quarantined] = []

        def results() -> Iterator[Segmentation]:
            for i, file in enumerate(items.ids):
                self.segmented.append(file)
                try:
                    pixels = np.asarray(items.open(i))
                except UndecodableError as error:
                    refused.append(Quarantined(file, str(error)))
                    continue
                yield self.result(file, pixels)

        return Segmentations(results(), len(items), refused)
