"""Multi-label classifier: an encoder and a binary model for each class."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from modalign.core.display import shorten_all, shorten_repr
from modalign.core.errors import InputError, argument
from modalign.core.label_matrix import UNKNOWN
from modalign.core.record import versions
from modalign.data.copies import content_hash
from modalign.data.items import load_items
from modalign.data.label_sets import learnable_sets, load_label_sets
from modalign.encoders.base import Encoder
from modalign.encoders.joined import JoinedEncoder
from modalign.evaluate.multi_label_metrics import multi_label_scores
from modalign.methods.contract.vectors import VectorMethod
from modalign.methods.multi_label.one_against_rest import OneAgainstRest
from modalign.model.multi_label.multi_label_answers import MultiLabelEvaluation, MultiLabelPredictions


@dataclass(repr=False)
class MultiLabelClassifier:
    """A classifier of images that may show several classes, or none.

    Attributes
    ----------
    encoder : Encoder or JoinedEncoder
        Encoder of the images.
    model : OneAgainstRest
        Fitted on such vectors.
    fitted_on : frozenset of str, default=frozenset()
        Content hashes of the images whose labels were learned from.
    record : dict
        Record of the fit: method, seed, counts, seconds, notes.

    Examples
    --------
    >>> from modalign.data.digit_pairs import load_digit_pairs
    >>> from modalign.model.multi_label import adapt_multi_label
    >>> pairs = load_digit_pairs(100, 50)
    >>> model = adapt_multi_label(pairs, method="gda")
    >>> model.evaluate(pairs).scores.n
    50
    """

    encoder: Encoder | JoinedEncoder
    model: OneAgainstRest
    fitted_on: frozenset[str] = frozenset()
    record: dict[str, Any] = field(default_factory=dict)

    @property
    def class_names(self) -> tuple[str, ...]:
        """The C names."""
        return self.model.class_names_

    @property
    def method(self) -> VectorMethod:
        """What every class is a question for; not fitted."""
        return self.model.method

    def predict(self, images: Any) -> MultiLabelPredictions:
        """Predict the classes of images, whatever their labels; any source of :func:`~modalign.load_items`."""
        features = self.encoder.embed_images(load_items(images, labels=-1))
        probabilities = self.model.predict_proba(features)
        origin = {
            "version": versions()["modalign"],
            "encoder": {"name": self.encoder.spec.name, "fingerprint": self.encoder.spec.fingerprint},
            "model": {"method": type(self.model.method).__name__, "multi_label": True},
        }
        answers = (probabilities >= self.model.thresholds).astype(np.int8)
        return MultiLabelPredictions(
            features.ids, self.class_names, probabilities, answers, features.quarantined, origin
        )

    def evaluate(self, images: Any, *, split: Any = None, include_fitted: bool = False) -> MultiLabelEvaluation:
        """Average precision and F1 on labeled images, see :func:`~modalign.data.label_sets.load_label_sets`.

        Of a source that marks some images as test, only these count. Images that the model was fitted on are recognized
        by their bytes and left out, unless ``include_fitted``. Copies of one image count once, and not at all if their
        labels differ.

        Raises
        ------
        InputError
            No labeled image is left, or a class is not one of the model.
        """
        source = load_label_sets(images, split=split)
        if (source.items.parts == "test").any():
            source = source.part("test")
        source = source.for_classes(self.class_names)
        labeled = (source.matrix != UNKNOWN).any(axis=1)
        fitted_before = np.array(
            [not include_fitted and content_hash(source.items, i) in self.fitted_on for i in range(len(source))],
            dtype=bool,
        )
        chosen = source.select(labeled & ~fitted_before)
        if len(chosen):
            one_part = replace(chosen.items, parts=np.full(len(chosen), ""), division="")
            chosen = learnable_sets(replace(chosen, items=one_part))
        else:
            raise InputError(
                "Expected labeled images that the model was not fitted on, got none; give other images, or "
                f"{argument('include_fitted', 'True')}."
            )
        found = self.predict(chosen.items)
        place = {name: i for i, name in enumerate(chosen.items.ids)}
        labels = chosen.matrix[[place[name] for name in found.ids]]
        scores = multi_label_scores(labels, found.probabilities, self.model.thresholds, class_names=self.class_names)
        left_out = tuple(source.items.ids[i] for i in np.flatnonzero(labeled & fitted_before))
        return MultiLabelEvaluation(
            scores, found.ids, self.class_names, labels, found.probabilities, found.answers, left_out,
            tuple(dict.fromkeys([*chosen.items.quarantined, *found.quarantined])), chosen.items.notes,
        )  # fmt: skip

    def save(self, folder: str | Path) -> Path:
        """Write the model as safetensors and a JSON card; the encoder is named and hashed, not copied."""
        from modalign.model.multi_label.multi_label_files import save_multi_label

        return save_multi_label(self, folder)

    def __repr__(self) -> str:
        return (
            f"MultiLabelClassifier({type(self.model.method).__name__} on {shorten_repr(self.encoder.spec.name)}, "
            f"{len(self.class_names)} classes: {shorten_all(self.class_names)})"
        )
