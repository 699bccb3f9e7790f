"""Files of image vectors as benchmark data sets: of ``modalign embed``, or with an array per list."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from modalign.core.arrays import narrowed
from modalign.core.errors import InputError, ModalignError, argument
from modalign.core.features import UNLABELED, ClassText, Features
from modalign.core.files import read_npz
from modalign.core.files.mapped import read_mapped
from modalign.core.part_files import is_features_source
from modalign.data.splits.benchmarks import in_sentences
from modalign.data.splits.division import DIVISIONS, part_within
from modalign.data.splits.drawing import draw_split
from modalign.data.splits.split import EMPTY, Split
from modalign.data.text.descriptions import class_sentences
from modalign.data.text.sentence_files import SentenceFiles
from modalign.data.text.templates import DEFAULT_TEMPLATE
from modalign.encoders import find_encoder
from modalign.encoders.joined import JoinedEncoder
from modalign.evaluate.benchmark.benchmark_set import BenchmarkSet

if TYPE_CHECKING:
    from modalign.encoders.base import Encoder

_SHOTS = re.compile(r"shots(\d+)_images")


def vector_files(path: Path) -> dict[str, Path]:
    """Name → file of labeled image vectors, or folder of parts. Other files, such as a bank of texts, are left out.

    Raises
    ------
    InputError
        Two files have one name, or are parts of one data set, as ``train.npz`` and ``test.npz`` are.
    """
    if is_features_source(path):
        return {path.stem: path}
    found = [file for file in sorted([*path.glob("*.npz"), *path.glob("*.safetensors")]) if _holds_images(file)]
    seen: dict[tuple[str, bool], Path] = {}
    for file in found:
        part = part_within(file.stem)
        words = re.findall(r"[^\W_]+", file.stem.casefold())
        key = " ".join(word for word in words if word not in DIVISIONS) if part else file.stem
        other = seen.setdefault((key, bool(part)), file)
        if other.stem == file.stem and other != file:
            raise InputError(f"Expected one file per data set, got '{other}' and '{file.name}'; leave one out.")
        if part and other != file:
            raise InputError(
                f"Expected a file per data set in '{path}', '{other.name}' and '{file.name}' are parts of one; embed "
                "the folder that holds both parts of the images, so that one file has all and marks the parts."
            )
    return {file.stem: file for file in found}


def read_vectors(
    name: str,
    file: Path,
    encoder: Encoder | JoinedEncoder | None = None,
    templates: Sequence[str] | None = (DEFAULT_TEMPLATE,),
    sentence_files: SentenceFiles | None = None,
    device: str = "auto",
) -> BenchmarkSet:
    """Image vectors with labels, of ``modalign embed`` or with an array per list.

    The first form has no class text: the class names are embedded by the encoder that made the vectors.

    The second form has ``train_images``, ``val_images``, ``test_images`` (n, d) with ``…_labels`` (n,), few-shot
    training sets as ``shots16_images`` with their labels, and class text as ``text`` (K, d) with ``text_names`` and,
    where only some classes have text, ``text_labels``, the class of each row; classes without text are left out.

    Parameters
    ----------
    name : str
        Name of the data set.
    file : Path
        The file, or a folder of parts.
    encoder : Encoder, optional
        Encoder of the class names. Default: the one that made the vectors, if it is on this machine.
    templates : sequence of str, optional
        Sentences for the class names; None for those of the files alone.
    sentence_files : SentenceFiles, optional
        Sentences of a language model.
    device : str
        Device of the encoder.

    Raises
    ------
    InputError
        The file has neither form, no labeled images, or arrays whose shapes or types do not fit each other.
    """
    arrays: dict[str, Any] = {}
    if file.suffix.lower() == ".npz":
        arrays = read_npz(file, "a file of image vectors (.npz)")
    if "vectors" in arrays or (is_features_source(file) and not arrays):
        features = Features.open(file)
        described = None if sentence_files is None else sentence_files.descriptions
        lines = class_sentences(in_sentences(name, features.class_names), templates, described)
        reader, missing = _reader(name, features, encoder, lines, device)
        read = replace(_of_features(name, file, features), sentence_files=sentence_files)
        if reader is None:
            return replace(read, notes=(*read.notes, missing))
        read = replace(read, given_text=reader.embed_texts(lines, class_names=features.class_names))
        if not isinstance(reader, JoinedEncoder) or reader.language is None:
            return read
        return replace(read, given_clip=reader.part_of(features, reader.language))
    lists = [key.removesuffix("_images") for key in arrays if key.endswith("_images")]
    if "test" not in lists or any(f"{part}_labels" not in arrays for part in lists):
        raise InputError(
            f"Expected 'vectors', or 'test_images' with 'test_labels', in '{file}', got {', '.join(arrays)}."
        )
    _check_arrays(arrays, lists, file)
    labels = np.concatenate([arrays[f"{part}_labels"] for part in lists]).astype(np.int64)
    text, names, labels = _text_of(arrays, labels)
    kept = np.flatnonzero(labels != UNLABELED)
    parts = np.repeat(lists, [len(arrays[f"{part}_labels"]) for part in lists])[kept]
    vectors = narrowed(np.concatenate([arrays[f"{part}_images"] for part in lists])[kept])
    ids = tuple(f"{part}/{i}" for i, part in enumerate(parts))
    features = Features(vectors, ids=ids, labels=labels[kept], class_names=names)
    rows = {part: np.flatnonzero(parts == part) for part in lists}
    official = Split(rows.get("train", EMPTY), rows.get("val", EMPTY), rows["test"], description="the file's lists")
    notes: tuple[str, ...] = ()
    if not len(official.train) and len(official.validation):
        official = Split(EMPTY, official.validation, official.test, official.validation, description="the file's lists")
        notes = (f"{name} has no train list: methods without labels are fitted on the validation list",)
    shots = {int(found[1]): rows[part] for part in lists if (found := _SHOTS.fullmatch(f"{part}_images"))}
    return BenchmarkSet(name, features.labels, names, official, shots, given=features, given_text=text, notes=notes)


def has_train_list(file: Path) -> bool:
    """Whether a file of image vectors has images to learn from, or images without lists, which are divided."""
    if file.suffix.lower() == ".npz":
        with np.load(file, allow_pickle=False) as arrays:
            if "vectors" not in arrays.files:
                return any(key == "train_images" or _SHOTS.fullmatch(key) for key in arrays.files)
    official = official_split_of(Features.open(file))
    return official is None or len(official.train) > 0


def _of_features(name: str, file: Path, features: Features) -> BenchmarkSet:
    """What ``modalign embed`` wrote, without class text."""
    if not (features.labels != UNLABELED).any():
        raise InputError(f"Expected labeled images in '{file}', got none.")
    official = official_split_of(features)
    names = features.class_names or tuple(f"class {k}" for k in range(int(features.labels.max()) + 1))
    notes: tuple[str, ...] = ()
    if official is None and (marked := sorted(set(features.parts) - {""})):
        notes = (f"{name} marks images as {' and '.join(marked)}, not as train and test: all of them are divided anew",)
    split = official or draw_split(features.labels)
    return BenchmarkSet(name, features.labels, names, split, given=features, notes=notes)


def _reader(
    name: str,
    features: Features,
    encoder: Encoder | JoinedEncoder | None,
    lines: list[list[str]],
    device: str,
) -> tuple[Encoder | JoinedEncoder | None, str]:
    """Encoder of the class names, or a note on why there is none."""
    spec = features.spec
    if not lines:
        return None, f"{name} has no class text: the file has no class names"
    if encoder is not None:
        encoder.spec.require(spec)
        reader = encoder
    elif spec is None:
        return None, f"{name} has no class text: the file does not name its encoder; give {argument('encoder')}"
    else:
        try:
            reader = find_encoder(spec, device=device)
        except ModalignError as error:
            return None, f"{name} has no class text: {error}"
    if not reader.has_text:
        return None, f"{name} has no class text: encoder '{reader.name}' encodes none"
    return reader, ""


def _check_arrays(arrays: dict[str, Any], lists: Sequence[str], file: Path) -> None:
    """Raise unless images are (n, d) with one d, labels (n,) class numbers, and text has a name and class per row."""
    d = arrays["test_images"].shape[-1:]
    for part in lists:
        images, labels = arrays[f"{part}_images"], arrays[f"{part}_labels"]
        if images.ndim != 2 or images.shape[1:] != d or labels.shape != images.shape[:1]:
            raise InputError(
                f"Expected '{part}_images' (n, d) with the d of the test images, {d}, and '{part}_labels' (n,) in "
                f"'{file}', got {images.shape} and {labels.shape}."
            )
    lowest = {f"{part}_labels": UNLABELED for part in lists} | {"text_labels": 0}
    for key in filter(arrays.__contains__, lowest):
        labels = arrays[key]
        if labels.dtype.kind not in "iu" or labels.min(initial=0) < lowest[key]:
            got = labels.min() if labels.dtype.kind in "iu" else labels.dtype
            raise InputError(f"Expected integers from {lowest[key]}, class numbers, in '{key}' of '{file}', got {got}.")
    for key in filter(arrays.__contains__, ("text_names", "text_labels")):
        if "text" in arrays and arrays[key].shape != arrays["text"].shape[:1]:
            raise InputError(
                f"Expected an entry per row of 'text' in '{key}' of '{file}', got {arrays[key].shape} for "
                f"{arrays['text'].shape}."
            )


def official_split_of(features: Features) -> Split | None:
    """The lists that the parts of saved features make; None if they make none.

    Where all parts are ``"test"``, as of a variant of ImageNet, nothing is for training.
    """
    marked = set(features.parts)
    if not {"train", "test"} <= marked and marked != {"test"}:
        return None
    return Split.by_part(np.array(features.parts), "the parts in the features file")


def _text_of(arrays: dict[str, Any], labels: np.ndarray) -> tuple[ClassText | None, tuple[str, ...], np.ndarray]:
    """Class text, class names, and labels renumbered by the rows of the text; -1 for a class without text."""
    if "text" not in arrays:
        return None, tuple(f"class {k}" for k in range(int(labels.max()) + 1)), labels
    text = narrowed(arrays["text"])
    of_row = arrays["text_labels"].astype(np.int64) if "text_labels" in arrays else np.arange(len(text))
    names = tuple(map(str, arrays["text_names"])) if "text_names" in arrays else tuple(f"class {k}" for k in of_row)
    row = np.full(max(int(labels.max()), int(of_row.max())) + 1, UNLABELED, dtype=np.int64)
    row[of_row] = np.arange(len(of_row))
    return ClassText(text, names), names, row[labels]


def _holds_images(file: Path) -> bool:
    """Whether a file of arrays has labeled images, by the names of its arrays alone."""
    try:
        if file.suffix == ".safetensors":
            return {"vectors", "labels"} <= set(read_mapped(file, "a file of image vectors")[0])
        with np.load(file, allow_pickle=False) as arrays:
            return {"vectors", "labels"} <= set(arrays.files) or "test_images" in arrays.files
    except (OSError, ValueError):
        return False
