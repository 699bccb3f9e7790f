"""Opening of a session: images, vectors, classes, and earlier labels."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from modalign.app.studio.gallery import Gallery, content_hashes_of
from modalign.app.studio.image_list import listed_images
from modalign.app.studio.label_log import LOG_FILE, LabelLog
from modalign.app.studio.label_state import LabelState
from modalign.app.studio.labeling import Labeling, checked_name
from modalign.app.studio.session import Session, SessionSettings
from modalign.app.studio.sets.set_labeling import SetLabeling
from modalign.app.studio.sets.set_refitting import SetAnswers
from modalign.app.studio.sets.set_session import SetSession
from modalign.app.studio.state_folder import kept_settings, require_place
from modalign.core.errors import InputError, argument
from modalign.core.features import UNLABELED, Features
from modalign.core.label_matrix import UNKNOWN
from modalign.core.name_matching import match_names, quoted
from modalign.core.randomness import require_seed
from modalign.core.renaming import stacklevel_outside
from modalign.data.items import Items, load_items
from modalign.data.label_sets import load_label_sets
from modalign.data.text.descriptions import resolve_templates
from modalign.encoders import load_encoder
from modalign.encoders.base import Encoder
from modalign.encoders.joined import JoinedEncoder
from modalign.methods.contract.tower import TowerMethod
from modalign.model.classifier import Classifier
from modalign.model.loading_models import load
from modalign.model.multi_label.multi_label_classifier import MultiLabelClassifier
from modalign.model.scoring import require_one


def open_session(
    source: Any,
    *,
    state: Path,
    classes: Any = None,
    encoder: str | Encoder | None = None,
    model: Path | None = None,
    templates: tuple[str, ...] | None = None,
    import_labels: bool = False,
    multi_label: bool = False,
    listed: Path | None = None,
    seed: int = 0,
    thorough: bool = True,
    device: str = "auto",
) -> Session:
    """Open a session, new or as it was left.

    Parameters
    ----------
    source : object
        Any source of :func:`~modalign.load_items`.
    state : Path
        Folder for labels and thumbnails.
    classes : object, default=None
        Class names; by default those of the source, of the model, or of the session as it was left.
    encoder : str, Encoder or None, default=None
        Encoder of the images; None is that of the model, or ``"tiny"`` without one. With a model it must be the same.
    model : Path or None, default=None
        A saved classifier whose answers to begin with; of several classes per image with ``multi_label``.
    templates : tuple of str or None, default=None
        Sentences with ``{}`` for the class name, for an encoder with a text tower.
    import_labels : bool, default=False
        Take the labels of the source over, those of the exam set as its answers.
    multi_label : bool, default=False
        Whether an image may show several classes; the labels of the source are read as
        :func:`~modalign.data.label_sets.load_label_sets` does.
    listed : Path or None, default=None
        Images to show first; see :func:`~modalign.app.studio.image_list.listed_images`.
    seed : int, default=0
        Random seed; a session keeps its first seed.
    thorough : bool, default=True
        Whether several methods are tried when there is time.
    device : str, default="auto"
        Device of the encoder.

    Raises
    ------
    InputError
        No images, fewer than two classes, a folder that is in use, another encoder than before, or a model of the other
        kind of labels. A new folder is made only after all of this is checked.
    """
    require_seed(seed, "seed")
    classifier = None if model is None else _classifier(model, multi_label, encoder)
    sets = load_label_sets(source, classes=classes) if multi_label else None
    items = load_items(source, classes=classes) if sets is None else replace(sets.items, class_names=sets.class_names)
    names = items.class_names or (() if classifier is None else classifier.class_names)
    first = () if listed is None else listed_images(listed, items.ids)
    known = items.labels != UNLABELED if sets is None else sets.matrix != UNKNOWN
    if import_labels and not known.any():
        raise InputError(
            f"Expected labels to import, no image of the source has one; leave {argument('import_labels')} out."
        )
    require_place(state, source)
    earlier = LabelLog(state) if (state / LOG_FILE).exists() else None
    log = earlier
    try:
        _require_classes(names, earlier)
        encoder = _encoder(encoder if classifier is None else classifier.encoder, templates, device)
        features = encoder.embed_images(items)
        place = {name: i for i, name in enumerate(items.ids)}
        rows = [place[name] for name in features.ids]
        items = items.select(rows)
        contents = content_hashes_of(items, encoder.store)
        base = _answers_of(classifier, features, items) if isinstance(classifier, Classifier) else None
        given = _sets_of(classifier, features) if isinstance(classifier, MultiLabelClassifier) else None
        log = earlier or LabelLog(state)  # nothing is written before everything that can be refused
        kept = kept_settings(state, encoder, contents, seed, multi_label)
        kind = SetLabeling if multi_label else Labeling
        labeling = kind(items.ids, contents, log, kept["seed"], int(kept["exam_limit"]))
        for name in names:
            if name not in labeling.state.ever:
                labeling.add_class(name, by="start")
        if import_labels and isinstance(labeling, SetLabeling) and sets is not None:
            _import_sets(labeling, sets.matrix[rows], sets.class_names)
        elif import_labels:
            _import_labels(labeling, items.labels, items.class_names)
        notes = [*items.notes, *(f"{q.id}: {q.reason}" for q in features.quarantined)]
        notes += [] if classifier is None else _about_model(classifier, labeling)
        if log.dropped:
            notes.append("the last line of the label log was incomplete and is left out")
        title = Path(source).name if isinstance(source, (str, Path)) else "images"
        place = {name: i for i, name in enumerate(features.ids)}
        shown = tuple(place[name] for name in first if name in place)
        settings = SessionSettings(title, kept["seed"], templates, thorough, tuple(notes), shown)
        gallery = Gallery(items, contents, state / "thumbnails")
        if isinstance(labeling, SetLabeling):
            return SetSession(features, labeling, gallery, encoder, settings, given)
        return Session(features, labeling, gallery, encoder, settings, base)
    except BaseException:
        if log is not None:
            log.close()
        raise


def _encoder(given: str | Encoder | JoinedEncoder | None, templates: tuple[str, ...] | None, device: str) -> Encoder:
    """The one encoder of a session; sentences need one that reads them."""
    encoder = require_one(
        load_encoder(given or "tiny", device=device) if given is None or isinstance(given, str) else given
    )
    if templates is not None:
        resolve_templates(templates)
    if templates is not None and not encoder.has_text:
        raise InputError(
            f"Expected an encoder of images and text with {argument('templates')}, got '{encoder.name}', which reads "
            "no sentences; leave them out."
        )
    return encoder


def _require_classes(names: Sequence[str], log: LabelLog | None) -> None:
    """Raise unless the source, the model or an earlier session has two classes, and new names can be added."""
    state = LabelState.replay([] if log is None else log.events)
    if len(names) < 2 and state.n_classes_ever < 2:
        raise InputError(
            f"Expected at least 2 classes, got {len(names)}; name them by {argument('classes')}, or sort some "
            "images into one folder per class."
        )
    present = [*state.names.values()]
    for name in names:
        if name not in state.ever:
            present.append(checked_name(name, present))


def _classifier(folder: Path, multi_label: bool, encoder: str | Encoder | None) -> Classifier | MultiLabelClassifier:
    found = load(folder, encoder=encoder)
    if (multi_label and isinstance(found, MultiLabelClassifier)) or (not multi_label and isinstance(found, Classifier)):
        return found
    got, advice = "another kind of model", "give another model"
    if isinstance(found, (Classifier, MultiLabelClassifier)):
        got = f"a model of {'one class' if multi_label else 'several classes'} per image"
        advice += f", or open the studio {'without' if multi_label else 'with'} {argument('multi_label')}"
    raise InputError(
        f"Expected a model of {'several classes' if multi_label else 'one class'} per image in '{folder}', got {got}; "
        f"{advice}."
    )


def _about_model(model: Classifier | MultiLabelClassifier, labeling: Labeling) -> list[str]:
    """A note, also as a warning, if classes of the model are not among those of the session."""
    unused = [name for name in model.class_names if name not in match_names(model.class_names, labeling.state.ever)]
    if not unused:
        return []
    verb = "is" if len(unused) == 1 else "are"
    note = f"{quoted(unused)} of the model {verb} not among the classes; name all classes by {argument('classes')}"
    warnings.warn(note, stacklevel=stacklevel_outside())
    return [note]


def _sets_of(
    model: MultiLabelClassifier, features: Features
) -> Callable[[tuple[int, ...], tuple[str, ...]], SetAnswers]:
    """The answers of a model for the images, with columns of other class names."""
    found, limits = model.model.predict_proba(features), model.model.thresholds

    def answers(ids: tuple[int, ...], names: tuple[str, ...]) -> SetAnswers:
        known = match_names(names, model.class_names)
        P, thresholds = np.zeros((len(found), len(names)), dtype=np.float32), np.full(len(names), 0.5)
        for k, name in enumerate(names):
            if name in known:
                own = model.class_names.index(known[name])
                P[:, k], thresholds[k] = found[:, own], limits[own]
        return SetAnswers("the given model", ids, P, 0, thresholds=thresholds)

    return answers


def _answers_of(model: Classifier, features: Features, items: Items) -> Callable[[tuple[str, ...]], np.ndarray]:
    """The probabilities of a model for the images, with columns of other class names.

    A method inside an encoder computes them from the images.
    """
    P = model.predict_proba(items if isinstance(model.method, TowerMethod) else features)

    def columns(names: tuple[str, ...]) -> np.ndarray:
        known = match_names(names, model.class_names)
        found = np.full((len(P), len(names)), 1e-3, dtype=np.float32)  # a class that is not one of the model
        for k, name in enumerate(names):
            if name in known:
                found[:, k] = P[:, model.class_names.index(known[name])]
        return found / found.sum(axis=1, keepdims=True)

    return columns


def _import_labels(labeling: Labeling, labels: np.ndarray, names: tuple[str, ...]) -> None:
    """Take over the labels of the source for images that have none."""
    number_of = {name: number for number, name in labeling.state.names.items()}
    for k, name in enumerate(names):
        rows = np.flatnonzero((labels == k) & (labeling.labels == UNLABELED))
        if len(rows) and name in number_of:
            labeling.label(rows.tolist(), number_of[name], by="import")


def _import_sets(labeling: SetLabeling, matrix: np.ndarray, names: tuple[str, ...]) -> None:
    """Take over the sets of the source for images that have no label; what is known in part is no set."""
    number_of = {name: number for number, name in labeling.state.names.items()}
    free = (matrix != UNKNOWN).all(axis=1) & (labeling.labels == UNLABELED)
    for row in np.unique(matrix[free], axis=0):
        rows = np.flatnonzero(free & (matrix == row).all(axis=1))
        classes = [number_of[name] for name, shown in zip(names, row, strict=True) if shown and name in number_of]
        labeling.label_sets(rows.tolist(), classes, by="import")
