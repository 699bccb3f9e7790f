"""What a session does with vectors alone: similarity, sentences, and a map."""

from __future__ import annotations

import threading

import numpy as np

from modalign.app.studio.gallery import project
from modalign.app.studio.labeling import Labeling
from modalign.core.errors import InputError
from modalign.core.features import ClassText, Features
from modalign.data.text.descriptions import class_sentences
from modalign.encoders.base import Encoder

ON_MAP = 5_000  # images


class VectorView:
    """Vectors of n images, and the encoder that made them.

    Parameters
    ----------
    features : Features
        Vectors of all n images.
    labeling : Labeling
        Has the exam images, which are hidden.
    encoder : Encoder
        Made the vectors, and reads class names if it can.
    seed : int
        Of the map.
    templates : tuple of str or None
        Sentences with ``{}`` for the class name.

    Attributes
    ----------
    version : int
        Increased by every change of what a page shows.
    positions : tuple of (ndarray, ndarray, str) or None
        Rows on the map, their places, and by what.
    """

    def __init__(
        self, features: Features, labeling: Labeling, encoder: Encoder, seed: int, templates: tuple[str, ...] | None
    ) -> None:
        self.features, self.labeling, self.encoder = features, labeling, encoder
        self.lock = threading.RLock()
        self.version = 1
        self.positions: tuple[np.ndarray, np.ndarray, str] | None = None
        self._seed, self._templates = seed, templates
        self._texts: dict[tuple[str, ...], ClassText] = {}
        self._queries: dict[str, np.ndarray] = {}

    def similarity(self, row: int) -> np.ndarray:
        """(n,) cosines of all images with one."""
        if not 0 <= row < len(self.labeling):
            raise InputError(f"Expected a row in 0…{len(self.labeling) - 1}, got {row}.")
        return self.features.vectors @ self.features.vectors[row]

    def text_similarity(self, query: str) -> np.ndarray:
        """(n,) cosines of all images with a sentence; for encoders with a text tower."""
        if query not in self._queries:
            found = self.encoder.embed_texts([[query]], class_names=[query], progress=False)
            vector = found.vectors.reshape(-1, found.vectors.shape[-1])[0]
            if len(self._queries) > 100:
                self._queries.clear()
            self._queries[query] = self.features.vectors @ vector
        return self._queries[query]

    def draw_map(self) -> None:
        """Find positions of the images on a map, first by principal components and then by t-SNE.

        Exam images without a label are left out; of more than 5,000 images, so many are drawn.
        """
        labeling = self.labeling
        shown = np.flatnonzero(~labeling.reserved)
        if len(shown) > ON_MAP:
            generator = np.random.default_rng(self._seed)
            shown = np.sort(generator.choice(shown, ON_MAP, replace=False))
        for tsne in (False, True):
            places = project(self.features.vectors, shown, tsne=tsne, seed=self._seed)
            self.positions = shown, places, "t-SNE" if tsne else "principal components"
            self._touch()

    def class_text(self, names: tuple[str, ...]) -> ClassText | None:
        """Text of classes; None for an encoder that reads none."""
        if not self.encoder.has_text:
            return None
        if names not in self._texts:
            sentences = class_sentences(names, self._templates)
            self._texts = {names: self.encoder.embed_texts(sentences, class_names=names, progress=False)}
        return self._texts[names]

    def _touch(self) -> None:
        with self.lock:
            self.version += 1
