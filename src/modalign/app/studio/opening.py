"""Opening of a session: images, vectors, classes, and earlier labels."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from modalign.app.studio.exam import exam_limit
from modalign.app.studio.gallery import Gallery, content_hashes_of
from modalign.app.studio.image_list import listed_images
from modalign.app.studio.label_log import LOCK_FILE, LOG_FILE, LabelLog
from modalign.app.studio.labeling import Labeling
from modalign.app.studio.session import Session, SessionSettings
from modalign.app.studio.sets.set_labeling import SetLabeling
from modalign.app.studio.sets.set_refitting import SetAnswers
from modalign.app.studio.sets.set_session import SetSession
from modalign.core.errors import EncoderMismatchError, InputError, argument
from modalign.core.features import UNLABELED, Features
from modalign.core.files import read_json, require_own_folder, write
from modalign.core.label_matrix import UNKNOWN
from modalign.core.name_matching import match_names, quoted
from modalign.core.randomness import require_seed
from modalign.core.renaming import stacklevel_outside
from modalign.data.items import load_items
from modalign.data.label_sets import load_label_sets
from modalign.data.text.descriptions import resolve_templates
from modalign.encoders import load_encoder
from modalign.encoders.base import Encoder
from modalign.encoders.joined import JoinedEncoder
from modalign.model.classifier import Classifier
from modalign.model.loading_models import load
from modalign.model.multi_label.multi_label_classifier import MultiLabelClassifier
from modalign.model.scoring import require_one

SETTINGS_FILE = "studio.json"


def state_folder(source: Path) -> Path:
    """Where the state of a source is kept by default: next to it, never inside."""
    path = source.resolve()
    return path.parent / f"{path.name}.studio"


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
    _require_place(state, source)
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
        log = earlier or LabelLog(state)  # nothing is written before everything that can be refused
        kept = _settings(state, encoder, contents, seed, multi_label)
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
            given = _sets_of(classifier, features) if isinstance(classifier, MultiLabelClassifier) else None
            return SetSession(features, labeling, gallery, encoder, settings, given)
        base = _answers_of(classifier, features) if isinstance(classifier, Classifier) else None
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
    """Raise unless the source, the model or an earlier session has two classes."""
    added = set() if log is None else {event["name"] for event in log.events if event["kind"] == "add"}
    if len(names) < 2 and len(added) < 2:
        raise InputError(
            f"Expected at least 2 classes, got {len(names)}; name them by {argument('classes')}, or sort some "
            "images into one folder per class."
        )


def _classifier(folder: Path, multi_label: bool, encoder: str | Encoder | None) -> Classifier | MultiLabelClassifier:
    found = load(folder, encoder=encoder)
    if (multi_label and isinstance(found, MultiLabelClassifier)) or (not multi_label and isinstance(found, Classifier)):
        return found
    advice = "give another model"
    if isinstance(found, (Classifier, MultiLabelClassifier)):
        advice += f", or open the studio {'without' if multi_label else 'with'} {argument('multi_label')}"
    raise InputError(
        f"Expected a saved classifier of {'several classes' if multi_label else 'one class'} per image, got "
        f"{type(found).__name__} in '{folder}'; {advice}."
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


def _answers_of(model: Classifier, features: Features) -> Callable[[tuple[str, ...]], np.ndarray]:
    """The probabilities of a model for the images, with columns of other class names."""
    P = model.predict_proba(features)

    def columns(names: tuple[str, ...]) -> np.ndarray:
        known = match_names(names, model.class_names)
        found = np.full((len(P), len(names)), 1e-3, dtype=np.float32)  # a class that is not one of the model
        for k, name in enumerate(names):
            if name in known:
                found[:, k] = P[:, model.class_names.index(known[name])]
        return found / found.sum(axis=1, keepdims=True)

    return columns


def _require_place(state: Path, source: Any) -> None:
    """Raise unless ``state`` is empty or of a studio, and not in ``source``, whose images its thumbnails would be."""
    require_own_folder(state, "a studio", LOG_FILE, lambda name: name in (LOCK_FILE, SETTINGS_FILE))
    if isinstance(source, (str, Path)) and Path(state).resolve().is_relative_to(Path(source).resolve()):
        raise InputError(
            f"Expected a folder for the state that is not among the images, '{state}' is in '{source}'; choose another "
            f"one with {argument('state')}."
        )


def _settings(state: Path, encoder: Encoder, contents: list[str], seed: int, multi_label: bool) -> dict[str, Any]:
    """Return the fixed settings of the session: encoder, seed, exam set, and the kind of labels."""
    path = state / SETTINGS_FILE
    if not path.exists():
        fixed = {"v": 1, "encoder": encoder.spec.name, "fingerprint": encoder.spec.fingerprint, "seed": seed}
        fixed |= {"multi_label": True} if multi_label else {}
        fixed["exam_limit"] = str(exam_limit(contents, seed))  # more digits than JSON numbers reliably keep
        write(path, json.dumps(fixed, indent=1))
        return fixed
    kept = read_json(path, "the settings of a studio")
    if not _is_kept(kept):
        raise InputError(f"Expected the settings of a studio in '{path}', got something else; choose another folder.")
    if kept["fingerprint"] != encoder.spec.fingerprint:
        raise EncoderMismatchError(
            f"Expected the encoder '{kept.get('encoder')}' of the earlier session, got '{encoder.spec.name}'; "
            f"use the same, or another folder with {argument('state')}."
        )
    if kept.get("multi_label", False) != multi_label:
        has, wants = ("several classes", "one class") if not multi_label else ("one class", "several classes")
        raise InputError(
            f"Expected a studio folder with {wants} per image, '{state}' has {has}; open it with the same kind "
            f"({argument('multi_label')}), or choose another folder with {argument('state')}."
        )
    return kept


def _is_kept(entries: object) -> bool:
    """Whether these are the settings that a studio writes."""
    if not isinstance(entries, dict) or not {"fingerprint", "seed", "exam_limit"} <= set(entries):
        return False
    limit, seed = entries["exam_limit"], entries["seed"]
    is_limit = isinstance(limit, str) and re.fullmatch(r"[0-9]{1,20}", limit) is not None and int(limit) < 2**64
    return is_limit and isinstance(seed, int) and seed >= 0


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
