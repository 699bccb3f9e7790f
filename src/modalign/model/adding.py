"""Addition of a class to a fitted classifier."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from modalign.core.display import n_images
from modalign.core.errors import InputError, argument
from modalign.core.features import UNLABELED, ClassText, Quarantined
from modalign.core.labels import require_encodable
from modalign.core.name_matching import is_blank, quoted, spelling_key
from modalign.core.renaming import stacklevel_outside
from modalign.data.copies import content_hash
from modalign.data.items import Items, load_items
from modalign.data.text.descriptions import class_sentences, readable
from modalign.linalg.prototypes import text_prototypes
from modalign.methods.added.added_classes import LOST, AddedClasses
from modalign.methods.contract.tower import TowerMethod
from modalign.methods.contract.vectors import VectorMethod
from modalign.model.scoring import require_clip

if TYPE_CHECKING:
    from modalign.model.classifier import Classifier


def with_class(
    model: Classifier, name: str, images: Any, sentences: Sequence[str] | None, check: Any = None
) -> Classifier:
    """See :meth:`Classifier.add_class <modalign.Classifier.add_class>`."""
    name = name.strip() if isinstance(name, str) else name
    texts = _all_sentences(model, name, sentences)
    items = None if images is None else load_items(images)
    names = (*model.class_names, name)
    text = model.encoder.embed_texts(texts, names)
    method = model.method
    if isinstance(method, TowerMethod) and check is not None:
        raise InputError(
            f"Expected a method on vectors with {argument('check')}, got {type(method).__name__}, which has no "
            "correction; leave it out."
        )
    if isinstance(method, TowerMethod):
        added: Any = method.for_classes(text, require_clip(model.encoder))
        temperature = model.temperature
    else:
        added, temperature = _extended(model, text, items), 1.0
    hashes = frozenset() if items is None else frozenset(content_hash(items, i) for i in range(len(items)))
    measured: dict[str, Any] = {}
    remarks: list[str] = []
    if check is not None:
        others, remarks = _of_others(model, name, check, hashes - {""})
        X = model.encoder.embed_images(others)
        remarks += _about_refused(argument("check"), *others.quarantined, *X.quarantined)
        added, measured["check"] = _bounded(added, torch.tensor(X.vectors))
        remarks += _about_few(name, measured["check"]["images"])
    made = replace(
        model,
        method=added,
        class_names=names,
        temperature=temperature,
        fitted_on=model.fitted_on | hashes - {""},
        rejection=None,  # its reference is of classifications without the class
    )
    if items is not None:
        answers = made.predict(items).names
        measured["given"] = {"images": len(answers), "found": answers.count(name)}
    remarks = [*_remarks(model, name, items, hashes), *_about_given(name, measured.get("given")), *remarks]
    for remark in remarks:
        warnings.warn(remark, stacklevel=stacklevel_outside())
    notes = [*model.record.get("notes", []), f"the class '{name}' was added without another fit", *remarks]
    made.record = model.record | {
        "sentences": texts,
        "notes": notes,
        "added": [*model.record.get("added", []), name],
        "additions": model.record.get("additions", {}) | {name: measured},
        "outcome": None,  # the accuracy of the fit is that of fewer classes
    }
    return made


def method_in_words(method: VectorMethod | TowerMethod) -> str:
    """Name of the class of a method, and how many classes were added to it."""
    if not isinstance(method, AddedClasses):
        return type(method).__name__
    n = len(method.corrections_)
    return f"{type(method.members_[0]).__name__} with {n} added {'class' if n == 1 else 'classes'}"


def _bounded(added: AddedClasses, X: torch.Tensor) -> tuple[AddedClasses, dict[str, Any]]:
    """The method with a bounded correction, and the shares of images of other classes that the new class takes."""
    bounded = added.bounded(X)
    return bounded, {"images": len(X), "taken_before": added.taken(X), "taken": bounded.taken(X)}


def _about_few(name: str, n: int) -> list[str]:
    """A note if the share of images that a class may take is less than one image to check."""
    needed = round(1 / LOST)
    if n >= needed:
        return []
    return [
        f"'{name}' may take at most {100 * LOST:.0f} % of the images of other classes, which {n_images(n)} cannot "
        f"test; give at least {needed} as {argument('check')}"
    ]


def _about_given(name: str, given: dict[str, int] | None) -> list[str]:
    """A note if most of the images of a new class get another answer."""
    if given is None or 2 * given["found"] >= given["images"]:
        return []
    return [f"{given['found']} of the {n_images(given['images'])} given are answered as '{name}'; fit again with them"]


def _about_refused(whose: str, *refused: Quarantined) -> list[str]:
    """A note on images that cannot be decoded and are left out, if there are any."""
    left = list(dict.fromkeys(entry.id for entry in refused))
    return [f"{n_images(len(left))} of {whose} cannot be decoded: {quoted(left, 3)}"] if left else []


def _remarks(model: Classifier, name: str, items: Items | None, hashes: frozenset[str]) -> list[str]:
    """What was not done with the images of a new class, or speaks against them."""
    if items is None:
        return []
    remarks = []
    if isinstance(model.method, TowerMethod):
        remarks.append(f"the images of '{name}' are not used, since {type(model.method).__name__} adds a class by text")
    else:
        remarks += _about_refused(f"'{name}'", *items.quarantined, *model.encoder.embed_images(items).quarantined)
    if known := len(hashes & model.fitted_on - {""}):
        remarks.append(
            f"{n_images(known)} of '{name}' {'was' if known == 1 else 'were'} in the fit of the other classes"
        )
    return remarks


def _extended(model: Classifier, text: ClassText, items: Items | None) -> AddedClasses:
    """Return the method with the class of the last text; images of the class set its correction."""
    prototypes = text_prototypes(torch.tensor(text.vectors))
    width = model.encoder.spec.dim
    if prototypes.shape[1] != width:
        raise InputError(
            f"Expected an encoder whose images and texts lie in one space to add a class by its text, "
            f"'{model.encoder.name}' has images of width {width} and texts of width {prototypes.shape[1]}; fit again "
            "with images of the class."
        )
    assert not isinstance(model.method, TowerMethod)
    added = AddedClasses.of(model.method, model.temperature, prototypes, text.class_names)
    if items is None:
        return added
    known = items.labels[items.labels != UNLABELED]
    if len(set(known.tolist())) > 1:
        raise InputError(f"Expected images of '{text.class_names[-1]}' alone, got images of several classes.")
    return added.corrected(torch.tensor(model.encoder.embed_images(items).vectors))


def _of_others(model: Classifier, name: str, check: Any, given: frozenset[str]) -> tuple[Items, list[str]]:
    """The images to check that the model was not fitted on and that are not of the new class, and notes.

    Those of the new class are labeled as it or have the hash of an image that was given for it.
    """
    items = load_items(check)
    own = [k for k, other in enumerate(items.class_names) if spelling_key(other) == spelling_key(name)]
    others = [i for i in range(len(items)) if items.labels[i] not in own and content_hash(items, i) not in given]
    kept = [i for i in others if content_hash(items, i) not in model.fitted_on]
    if not kept:
        raise InputError(
            f"Expected images of the other classes that the model was not fitted on as {argument('check')}, none of "
            f"{len(items)} is left; give others."
        )
    unlabeled = int((items.labels[kept] == UNLABELED).sum())
    left_out = [(len(items) - len(others), f"of '{name}'"), (len(others) - len(kept), "of the fit")]
    listed = [f"{n_images(n)} {which}" for n, which in left_out if n]
    notes = [f"left out of {argument('check')}: {', '.join(listed)}"] if listed else []
    if unlabeled:
        notes.append(f"taken for images of other classes than '{name}': {n_images(unlabeled)} without a label")
    return items.select(kept), notes


def _all_sentences(model: Classifier, name: str, sentences: Sequence[str] | None) -> list[list[str]]:
    """Return the sentences of the fitted classes and of the new one, by the same templates."""
    if not isinstance(name, str) or is_blank(name):
        raise InputError(f"Expected the name of a class, got {name!r:.60}.")
    require_encodable([name], argument("name"))
    if spelling_key(name) in map(spelling_key, model.class_names):
        raise InputError(f"Expected a class that the model does not have, got '{name}'.")
    if not model.encoder.has_text:
        raise InputError(
            f"Expected an encoder with a text tower to add a class, '{model.encoder.name}' has none; fit "
            "again with images of the class."
        )
    before = model.record.get("sentences") or class_sentences(model.class_names)
    if isinstance(sentences, str):
        sentences = [sentences]
    if sentences is not None:
        if not isinstance(sentences, Sequence):
            raise InputError(f"Expected {argument('sentences')} as a list of sentences, got {sentences!r:.60}.")
        return [*before, list(sentences)]
    fitted = model.class_names[: len(model.class_names) - len(model.record.get("added", []))]
    if before[: len(fitted)] == class_sentences(fitted):
        return [*before, *class_sentences([name])]
    frames = _frames(fitted, before[: len(fitted)])
    if frames is None or len(before) != len(model.class_names):
        raise InputError(
            f"Expected sentences about '{name}', since the model was fitted with descriptions; give "
            f"{argument('sentences', '[…]')}."
        )
    return [*before, [start + readable(name) + end for start, end in frames]]


def _frames(names: Sequence[str], sentences: Sequence[Sequence[str]]) -> list[tuple[str, str]] | None:
    """What stands before and behind the name in the sentences of every class; None if no template gave these."""
    words = [readable(name) for name in names]

    def fits(frame: tuple[str, str], k: int) -> bool:
        return all(own[k] == frame[0] + word + frame[1] for word, own in zip(words, sentences, strict=True))

    if len({len(own) for own in sentences}) != 1:
        return None
    found = []
    for k, sentence in enumerate(sentences[0]):
        places = (match.start() for match in re.finditer(f"(?={re.escape(words[0])})", sentence))
        frames = ((sentence[:at], sentence[at + len(words[0]) :]) for at in places)
        found.append(next((frame for frame in frames if fits(frame, k)), None))
    return [frame for frame in found if frame is not None] if None not in found else None
