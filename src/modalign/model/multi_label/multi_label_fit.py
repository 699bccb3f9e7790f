"""Adaptation to images that may show several classes, in one call."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from modalign.core.errors import InputError, argument
from modalign.core.label_matrix import PRESENT, UNKNOWN
from modalign.core.record import versions
from modalign.data.copies import content_hash
from modalign.data.label_sets import learnable_sets, load_label_sets
from modalign.data.text.descriptions import class_sentences
from modalign.encoders import load_encoder
from modalign.encoders.base import Encoder
from modalign.encoders.joined import JoinedEncoder
from modalign.evaluate.multi_label_metrics import multi_label_scores
from modalign.evaluate.outcome import about_encoder
from modalign.methods.auto.auto import SECONDS, Auto
from modalign.methods.contract.vectors import VectorMethod
from modalign.methods.multi_label.one_against_rest import OneAgainstRest
from modalign.model.adaptation.settings import configure
from modalign.model.multi_label.multi_label_classifier import MultiLabelClassifier

LEAST = 1.0  # seconds of ``auto`` per class


def adapt_multi_label(
    images: Any,
    *,
    encoder: str | Encoder | JoinedEncoder = "tiny",
    device: str = "auto",
    method: str | VectorMethod = "gda",
    classes: Sequence[str] | str | Path | None = None,
    split: Any = None,
    templates: str | Sequence[str] | None = None,
    descriptions: str | Path | None = None,
    random_state: int = 0,
    **hyperparameters: Any,
) -> MultiLabelClassifier:
    """Adapt a classifier to images that may show several classes.

    Each class is a binary problem for the method, see
    :class:`~modalign.methods.multi_label.one_against_rest.OneAgainstRest`. All labeled images are learned from, but
    those that the source marks as test; of copies, one counts. Calibration and thresholds come from
    out-of-fold predictions of them.

    Parameters
    ----------
    images : object
        See :func:`~modalign.data.label_sets.load_label_sets`.
    encoder, device : str or Encoder
        As for :func:`~modalign.load_encoder`.
    method : str or VectorMethod, default="gda"
        A method on vectors; ``"auto"`` chooses for each class, and shares its time among them.
    classes, split : object, default=None
        As for :func:`~modalign.data.label_sets.load_label_sets`.
    templates, descriptions : object, default=None
        The sentences of the classes, as for :func:`~modalign.adapt`.
    random_state : int, default=0
        Seed.
    **hyperparameters : Any
        Of the method.

    Raises
    ------
    InputError
        Labels that cannot be learned from, or a method that does not learn on vectors.
    """
    started = time.perf_counter()
    configured = configure(method, hyperparameters, random_state)
    if not isinstance(configured, VectorMethod):
        raise InputError(
            f"Expected {argument('method')} as a method on vectors for several classes per image, got "
            f"{type(configured).__name__}, which learns inside the encoder."
        )
    source = learnable_sets(load_label_sets(images, classes=classes, split=split))
    if len(source.class_names) < 2:
        raise InputError(
            f"Expected labels of at least 2 classes, got {len(source.class_names) or 'none'}; give a table with labels "
            f"such as 'cat;dog', or {argument('classes')}."
        )
    test = source.items.parts == "test"
    labeled_test = int((source.matrix[test] != UNKNOWN).any(axis=1).sum())
    source = source.select(~test)
    if isinstance(configured, Auto):
        share = (configured.seconds or SECONDS) / max(1, len(source.class_names))
        configured.set_params(seconds=max(LEAST, share))
    loaded = load_encoder(encoder, device=device) if isinstance(encoder, str) else encoder
    text = None
    if loaded.has_text and not isinstance(loaded, JoinedEncoder):
        sentences = class_sentences(source.class_names, templates, descriptions)
        text = loaded.embed_texts(sentences, source.class_names)
    elif configured.needs_text:
        raise InputError(
            f"{type(configured).__name__} needs class text, and the encoder '{loaded.name}' has none for its vectors; "
            f"choose another {argument('encoder')} or {argument('method')}."
        )
    features = loaded.embed_images(source.items)
    place = {name: i for i, name in enumerate(source.items.ids)}
    rows = [place[name] for name in features.ids]
    matrix = source.matrix[rows]
    model = OneAgainstRest(configured, random_state).fit(features, matrix, text=text, class_names=source.class_names)
    labeled = [i for i, row in zip(rows, matrix, strict=True) if (row != UNKNOWN).any()]
    record = {
        "method": type(configured).__name__,
        "random_state": random_state,
        "images": {"train": len(labeled), "unlabeled": len(rows) - len(labeled), "test": labeled_test},
        "labels": {n: int(c) for n, c in zip(source.class_names, (matrix == PRESENT).sum(axis=0), strict=True)},
        "thresholds": dict(zip(source.class_names, np.round(model.thresholds, 4).tolist(), strict=True)),
        "uncalibrated": [n for n, d in zip(source.class_names, model.decisions_, strict=True) if not d.calibrated],
        "quality": _quality(model),
        "seconds": round(time.perf_counter() - started, 3),
        "notes": [*source.items.notes, *about_encoder(loaded.name, source.class_names, guesses=False)],
        "quarantined": [asdict(q) for q in dict.fromkeys([*source.items.quarantined, *features.quarantined])],
        "versions": versions(),
    }
    return MultiLabelClassifier(loaded, model, frozenset(content_hash(source.items, i) for i in labeled), record)


def _quality(model: OneAgainstRest) -> dict[str, Any] | None:
    """Measures on out-of-fold predictions with their intervals; None where no class has such."""
    held = model.held_out_
    if held is None or not (held.labels == PRESENT).any():
        return None
    judged = (held.labels != UNKNOWN).any(axis=1)
    scores = multi_label_scores(held.labels[judged], held.margins[judged], answers=held.answers[judged])
    totals = {name.replace(" ", "_"): share and asdict(share) for name, share in scores.totals.items()}
    return {"of": "out-of-fold predictions", "images": scores.n, **totals}
