"""Input of a comparison: features, class text and optional CLIP features, from images or vectors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from modalign.core.arrays import is_finite
from modalign.core.errors import InputError, argument
from modalign.core.features import UNLABELED, ClassText, Features
from modalign.core.part_files import is_features_source
from modalign.data.copies import learnable
from modalign.data.items import Items, load_items
from modalign.data.names import name_classes, quoted, read_classes
from modalign.data.splits.drawing import official_split, with_test
from modalign.data.splits.split import Split
from modalign.data.splits.split_files import split_by_names
from modalign.data.text.descriptions import class_sentences, sentence_notes
from modalign.encoders import load_encoder
from modalign.encoders.joined import JoinedEncoder
from modalign.evaluate.comparison.class_text import TextSource, class_text, load_class_text, require_names
from modalign.evaluate.protocol import require_clip_features

if TYPE_CHECKING:
    from modalign.encoders.base import Encoder

Sentences = Callable[[Sequence[str]], list[list[str]]]
TEST_SHARE = 0.5
TESTABLE = 3  # labeled images that a class needs: one for training, one for validation, one for testing


@dataclass(frozen=True)
class ComparisonInputs:
    """Validated input of a comparison.

    Attributes
    ----------
    features : Features
        Of all images.
    text : ClassText or None
        Of all classes, or None; in the space of ``clip_features`` where there are such.
    clip_features : Features or None
        The same images in the language-aligned space, or None.
    official : Split or None
        Lists to draw from, or None.
    notes : tuple of str
        Messages about the data.
    spaces : tuple of int, default=()
        Widths of the concatenated spaces in ``features``; empty for one space.
    items, encoder : Items and Encoder, default=None
        The same images as pictures and their encoder, for methods inside it; None where there are vectors only.
    """

    features: Features
    text: ClassText | None
    clip_features: Features | None
    official: Split | None
    notes: tuple[str, ...]
    spaces: tuple[int, ...] = ()
    items: Items | None = None
    encoder: Encoder | JoinedEncoder | None = None

    @property
    def logit_scale(self) -> float | None:
        """The trained inverse temperature of the language space."""
        spec = (self.features if self.clip_features is None else self.clip_features).spec
        return None if spec is None else spec.logit_scale


def load_inputs(
    source: Any,
    *,
    text: TextSource = None,
    encoder: str | Encoder | None = None,
    clip_encoder: str | Path | Encoder | Features | None = None,
    classes: Sequence[str] | str | Path | None = None,
    templates: str | Sequence[str] | None = None,
    descriptions: str | Path | None = None,
    split: str | Path | Split | None = None,
    test: float = TEST_SHARE,
    device: str = "auto",
) -> ComparisonInputs:
    """Read, validate and embed the input; arguments are those of :func:`~modalign.evaluate.comparison.compare.compare`.

    Raises
    ------
    InputError
        In one sentence; raised before anything is encoded if possible.
    """
    if isinstance(source, (str, Path)) and is_features_source(source):
        source = Features.open(source)
    text = load_class_text(text)

    def sentences(names: Sequence[str]) -> list[list[str]]:
        return class_sentences(names, templates, descriptions)

    if isinstance(source, Features):
        source, naming = _named(source, classes, text)
        inputs = _from_features(source, encoder, clip_encoder, split, sentences)
    else:
        if classes is None:
            require_names(text)
        naming = ()
        items = load_items(source, classes=classes, split=split)
        inputs = _from_images(items, encoder, clip_encoder, split, sentences, device)
    features, clip_features, reader, official = inputs.features, inputs.clip_features, inputs.reader, inputs.official
    if not is_finite(features.vectors):
        raise InputError("Expected finite image vectors, got NaN or infinity; embed the images again.")
    spec = (features if clip_features is None else clip_features).spec
    found = class_text(text, features.class_names, reader, encoder, spec, inputs.lines, device)
    notes = [*inputs.notes, *naming]
    if found is not None and text is None:
        notes += sentence_notes(features.class_names, templates, descriptions)
    if found is None:
        notes.append("there is no class text, so class means replace it: zero-shot is the nearest class mean")
    if found is not None and clip_features is None and found.vectors.shape[-1] != features.vectors.shape[1]:
        raise InputError(
            f"Expected class text of the width of the image vectors ({features.vectors.shape[1]}), got "
            f"{found.vectors.shape[-1]}; give {argument('clip_encoder')}, the same images in the space of the text, or "
            f"{argument('text', 'False')}."
        )
    require_clip_features(features, clip_features, found)
    if official is not None:
        official = _labeled_tests(with_test(features.labels, official, test), features.labels)
    return ComparisonInputs(
        features, found, clip_features, official, (*notes, *_about(features, official)), inputs.spaces, inputs.items,
        inputs.encoder,
    )  # fmt: skip


@dataclass(frozen=True)
class _Inputs:
    """The images of a comparison as vectors, and the sentences of their classes."""

    features: Features
    clip_features: Features | None
    reader: Encoder | JoinedEncoder | None
    official: Split | None
    lines: list[list[str]]
    notes: tuple[str, ...] = ()
    spaces: tuple[int, ...] = ()
    items: Items | None = None
    encoder: Encoder | JoinedEncoder | None = None


def _from_features(
    features: Features, encoder: Any, clip: Any, split: str | Path | Split | None, sentences: Sentences
) -> _Inputs:
    _require_testable(features.labels, features.class_names)
    lines = sentences(features.class_names)
    if isinstance(clip, (str, Path)):
        clip = Features.open(clip)
    if not isinstance(clip, (Features, type(None))):
        raise InputError(f"Expected {argument('clip_encoder')} to be features of the same images, or a file of them.")
    official = split_by_names(features.ids, split, features.parts)
    notes = () if official is None or isinstance(split, Split) else (f"divided by {official.description}",)
    return _Inputs(features, clip, encoder if _is_encoder(encoder) else None, official, lines, notes)


def _from_images(
    given: Items, encoder: Any, clip: Any, split: str | Path | Split | None, sentences: Sentences, device: str
) -> _Inputs:
    items = learnable(given)
    _require_testable(items.labels, items.class_names)
    official = official_split(items)
    lines = sentences(items.class_names)
    encoder = encoder if _is_encoder(encoder) else load_encoder(encoder or "tiny", device=device)
    features = encoder.embed_images(items)
    reader, spaces = encoder, tuple[int, ...]()
    if isinstance(encoder, JoinedEncoder):
        reader, spaces = encoder.language, encoder.widths
        clip = encoder.part_of(features, reader) if clip is None and reader is not None else clip
    if isinstance(clip, Features):
        clip = _rows_of(clip, features.ids)
    elif clip is not None:
        reader = clip if _is_encoder(clip) else load_encoder(clip, device=device)
        clip = reader.embed_images(items)
    if isinstance(split, Split):
        official = _kept(split, given, features)
    elif official is not None:
        official = _kept(official, items, features)
    notes = [*items.notes]
    if count := len(features.quarantined) - len(items.quarantined):
        notes.append(f"{count} {'file' if count == 1 else 'files'} could not be decoded; left out")
    row = {name: i for i, name in enumerate(items.ids)}
    decoded = items.select([row[name] for name in features.ids])
    return _Inputs(features, clip, reader, official, lines, tuple(notes), spaces, decoded, encoder)


def _rows_of(features: Features, ids: Sequence[str]) -> Features:
    """The rows of ``ids``, in that order; all rows where one of them is missing."""
    row = {name: i for i, name in enumerate(features.ids)}
    return features.select([row[name] for name in ids]) if row.keys() >= set(ids) else features


def _named(
    features: Features, classes: Sequence[str] | str | Path | None, text: TextSource
) -> tuple[Features, tuple[str, ...]]:
    """With a name for every class: own ones, matched with given ones; or given ones, those of the text, or numbers."""
    if features.class_names and classes is not None:
        naming = name_classes(features.class_names, classes)
        label_of = np.array([*(naming.index[name] for name in features.class_names), UNLABELED])
        return replace(features, labels=label_of[features.labels], class_names=naming.names), naming.notes
    count = int(features.labels.max(initial=UNLABELED)) + 1
    given = () if classes is None else tuple(read_classes(classes).values())
    names = tuple(features.class_names or given or (text.class_names if isinstance(text, ClassText) else ()))
    if not names:
        size = len(text) if isinstance(text, np.ndarray) else count
        names = tuple(f"class {k}" for k in range(max(size, count)))
    if len(names) < count:
        raise InputError(f"Expected a name for each of the {count} classes of the labels, got {len(names)}.")
    return replace(features, class_names=names), ()


def _require_testable(labels: np.ndarray, class_names: Sequence[str]) -> None:
    if len(class_names) < 2:
        raise InputError(f"Expected at least 2 classes, got {len(class_names)}; a single class needs no classifier.")
    if not (labels != UNLABELED).any():
        raise InputError(
            "Expected labeled images, got none: without a label nothing can be tested; "
            "sort some images into one folder per class."
        )


def _kept(split: Split | None, items: Items, features: Features) -> Split | None:
    """``split`` in the numbering of the images that could be embedded."""
    if split is None or len(features) == len(items):
        return split
    row = {name: i for i, name in enumerate(features.ids)}
    train, validation, test, unlabeled = (
        np.array([row[items.ids[i]] for i in part if items.ids[i] in row], dtype=np.int64)
        for part in (split.train, split.validation, split.test, split.unlabeled)
    )
    return replace(split, train=train, validation=validation, test=test, unlabeled=unlabeled)


def _labeled_tests(split: Split, labels: np.ndarray) -> Split:
    known = labels[split.test] != UNLABELED
    return split if known.all() else replace(split, test=split.test[known])


def _about(features: Features, official: Split | None) -> list[str]:
    """Notes on what limits a test on these images."""
    notes = []
    known = features.labels != UNLABELED
    if not known.all():
        some_have = "1 image has" if (~known).sum() == 1 else f"{int((~known).sum())} images have"
        notes.append(f"{some_have} no label; methods may use them, but they are not tested on")
    sizes = np.bincount(features.labels[known], minlength=len(features.class_names))
    if official is None and (few := np.flatnonzero(sizes < TESTABLE)).size:
        shown = quoted([features.class_names[k] for k in few], details=[str(sizes[k]) for k in few])
        subject = "1 class has" if len(few) == 1 else f"{len(few)} classes have"
        notes.append(f"{subject} fewer than {TESTABLE} labeled images and cannot be tested on: {shown}")
    copies = len(features) - len({hash(row.tobytes()) for row in np.ascontiguousarray(features.vectors)})
    if copies:
        some_have = "1 image has" if copies == 1 else f"{copies} images have"
        notes.append(
            f"{some_have} exactly the vector of another one; if copies are in both training and test, the "
            "measured accuracy is too high"
        )
    return notes


def _is_encoder(given: object) -> bool:
    return hasattr(given, "embed_images")
