"""Source of benchmark data: a data root, a folder of images, or files of image vectors."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from modalign.core.errors import InputError, UnknownNameError, argument
from modalign.core.features import UNLABELED, ClassText, Features
from modalign.core.files import read_npz
from modalign.data.digits import DIGIT_TEMPLATES, load_digits
from modalign.data.items import load_items
from modalign.data.splits.benchmark_sets import DATASETS, Dataset, dataset, open_dataset
from modalign.data.splits.drawing import draw_split
from modalign.data.splits.split import EMPTY, Split, official_split
from modalign.data.text.templates import DEFAULT_TEMPLATE
from modalign.evaluate.benchmark.benchmark_set import BenchmarkSet

if TYPE_CHECKING:
    from modalign.encoders.base import Encoder
    from modalign.encoders.joined import JoinedEncoder

DIGITS = "digits"
_SHOTS = re.compile(r"shots(\d+)_images")


class BenchmarkSource:
    """The data sets below a path, opened when they are needed.

    Parameters
    ----------
    path : str or Path
        A data root in CoOp's layout; one data set of it; a folder of class folders; a file or a folder of image
        vectors (``.npz``); or ``"digits"`` for the digits that come with the library (``"./digits"`` is a folder
        of that name).
    datasets : sequence of str, optional
        Names of data sets. Default: all that are found.
    encoder : Encoder, optional
        For images; not needed for vectors.
    templates : sequence of str, optional
        Sentences for the class names. Default: the published ones of each data set.

    Raises
    ------
    InputError
        There is no data set, or one of the requested is missing.
    """

    def __init__(
        self,
        path: str | Path,
        datasets: Sequence[str] | None = None,
        encoder: Encoder | JoinedEncoder | None = None,
        templates: Sequence[str] | None = None,
    ) -> None:
        self.path, self.encoder, self.templates = Path(path), encoder, templates
        self._opened: dict[str, BenchmarkSet] = {}
        self._of_library = str(path) == DIGITS
        if self._of_library:
            self.names: tuple[str, ...] = (DIGITS,)
        elif not self.path.exists():
            raise InputError(f"Expected a data root, a folder of images or image vectors, '{path}' is not there.")
        else:
            self.names = self._found()
        if datasets is not None:
            self.names = tuple(dict.fromkeys(map(self._known, datasets)))

    @property
    def of_vectors(self) -> bool:
        """Whether there are vectors only."""
        return bool(self._files())

    def open(self, name: str) -> BenchmarkSet:
        """The data set of that name; opened once."""
        if name not in self._opened:
            self._opened[name] = self._open(name)
        return self._opened[name]

    def _files(self) -> dict[str, Path]:
        """Name → file of vectors. Files without labeled images, such as a bank of texts, are none."""
        if self._of_library:
            return {}
        if self.path.is_file():
            return {self.path.stem: self.path}
        return {file.stem: file for file in sorted(self.path.glob("*.npz")) if _holds_images(file)}

    def _found(self) -> tuple[str, ...]:
        if files := self._files():
            return tuple(files)
        rows = tuple(row.name for row in DATASETS if (self.path / row.folder).is_dir())
        own = self._row()
        return rows or (self.path.name if own is None else own.name,)

    def _row(self) -> Dataset | None:
        """The benchmark whose own folder the path is."""
        own = (row for row in DATASETS if row.folder == self.path.name and (self.path / (row.lists or ".")).exists())
        return next(own, None)

    def _known(self, name: str) -> str:
        if name in self.names:
            return name
        try:
            known = dataset(name).name
        except UnknownNameError:
            raise UnknownNameError("data set", name, self.names) from None
        if known not in self.names:
            place = self.path / dataset(name).folder
            raise InputError(
                f"Expected data set '{name}' as folder '{place}', it is not there; leave it out of "
                f"{argument('datasets')}, or get it from: {dataset(name).source}."
            )
        return known

    def _open(self, name: str) -> BenchmarkSet:
        if file := self._files().get(name):
            return read_vectors(name, file, self.encoder)
        if self.encoder is None:
            raise InputError(f"Expected {argument('encoder')} for the images of '{self.path}', got none.")
        if self._of_library:
            items = load_digits()
            lists = draw_split(items, train=0.5, validation=0.2)
            return BenchmarkSet.of_images(name, items, lists, self.encoder, self.templates or DIGIT_TEMPLATES)
        rows = {row.name: row for row in DATASETS}
        if name in rows:
            items, split = open_dataset(name, self.path)
            own = rows[name].templates
            return BenchmarkSet.of_images(name, items, split, self.encoder, self.templates or own)
        items = load_items(self.path)
        own = (DEFAULT_TEMPLATE,)
        return BenchmarkSet.of_images(name, items, official_split(items), self.encoder, self.templates or own)


def read_vectors(name: str, file: Path, encoder: Encoder | JoinedEncoder | None) -> BenchmarkSet:
    """Image vectors with labels, of :meth:`Features.save <modalign.Features.save>` or with an array per list.

    The second form has ``train_images``, ``val_images``, ``test_images`` (n, d) with ``…_labels`` (n,), few-shot
    training sets as ``shots16_images`` with their labels, and class text as ``text`` (K, d) with ``text_names`` and,
    where only some classes have text, ``text_labels``, the class of each row; classes without text are left out.

    Raises
    ------
    InputError
        The file has neither form, no labeled images, or arrays whose shapes or types do not fit each other.
    """
    arrays: dict[str, Any] = read_npz(file, "a file of image vectors (.npz)")
    if "vectors" in arrays:
        features = Features.load(file)
        if not (features.labels != UNLABELED).any():
            raise InputError(f"Expected labeled images in '{file}', got none.")
        split = official_split_of(features) or draw_split(features.labels)
        names = features.class_names or tuple(f"class {k}" for k in range(int(features.labels.max()) + 1))
        return BenchmarkSet(name, features.labels, names, split, encoder=encoder, given=features)
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
    vectors = np.concatenate([arrays[f"{part}_images"] for part in lists])[kept].astype(np.float32)
    ids = tuple(f"{part}/{i}" for i, part in enumerate(parts))
    features = Features(vectors, ids=ids, labels=labels[kept], class_names=names)
    rows = {part: np.flatnonzero(parts == part) for part in lists}
    official = Split(rows.get("train", EMPTY), rows.get("val", EMPTY), rows["test"], description="the file's lists")
    notes: tuple[str, ...] = ()
    if not len(official.train):
        official = Split(EMPTY, official.validation, official.test, official.validation, description="the file's lists")
        notes = (f"{name} has no train list: methods without labels are fitted on the validation list",)
    shots = {int(found[1]): rows[part] for part in lists if (found := _SHOTS.fullmatch(f"{part}_images"))}
    return BenchmarkSet(name, features.labels, names, official, shots, given=features, given_text=text, notes=notes)


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
    """The lists that the parts of saved features make; None if they make none."""
    if not features.parts or not {"train", "test"} <= set(features.parts):
        return None
    return Split.by_part(np.array(features.parts), "the parts in the features file")


def _text_of(arrays: dict[str, Any], labels: np.ndarray) -> tuple[ClassText | None, tuple[str, ...], np.ndarray]:
    """Class text, class names, and labels renumbered by the rows of the text; -1 for a class without text."""
    if "text" not in arrays:
        return None, tuple(f"class {k}" for k in range(int(labels.max()) + 1)), labels
    text = arrays["text"].astype(np.float32)
    of_row = arrays["text_labels"].astype(np.int64) if "text_labels" in arrays else np.arange(len(text))
    names = tuple(map(str, arrays["text_names"])) if "text_names" in arrays else tuple(f"class {k}" for k in of_row)
    row = np.full(max(int(labels.max()), int(of_row.max())) + 1, UNLABELED, dtype=np.int64)
    row[of_row] = np.arange(len(of_row))
    return ClassText(text, names), names, row[labels]


def _holds_images(file: Path) -> bool:
    """Whether a file of arrays has labeled images, by the names of its arrays alone."""
    try:
        with np.load(file, allow_pickle=False) as arrays:
            return {"vectors", "labels"} <= set(arrays.files) or "test_images" in arrays.files
    except (OSError, ValueError):
        return False
