"""Source of benchmark data: a data root, a folder of images, or files of image vectors."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from modalign.core.errors import InputError, UnknownNameError, argument
from modalign.data.items import load_items
from modalign.data.splits.benchmark_sets import DATASETS, Dataset, dataset, open_dataset
from modalign.data.splits.benchmarks import find_dataset
from modalign.data.splits.split import official_split
from modalign.data.text.sentence_files import SentenceFiles, find_sentence_files
from modalign.data.text.templates import DEFAULT_TEMPLATE
from modalign.encoders.joined import JoinedEncoder
from modalign.evaluate.benchmark.benchmark_set import BenchmarkSet
from modalign.evaluate.benchmark.benchmark_vectors import has_train_list, read_vectors, vector_files
from modalign.evaluate.benchmark.library_sets import DIGITS, LIBRARY_SETS, TARGETS, open_library_set

if TYPE_CHECKING:
    from modalign.encoders.base import Encoder

_PAPERS_SOURCE = "imagenet"  # of their transfers, so it is the first of several data sets


class BenchmarkSource:
    """The data sets below a path, opened when they are needed.

    Parameters
    ----------
    path : str or Path
        A data root in CoOp's layout; one data set of it; images as for :func:`~modalign.load_items`; a file or a folder
        of files of image vectors (``.npz``, ``.safetensors``); a folder of parts that ``embed`` wrote; or ``"digits"``
        for the digits that come with the library (``"./digits"`` is a folder of that name).
    datasets : sequence of str, optional
        Names of data sets. Default: all that are found; of vectors first ImageNet, or the first with training images,
        which is the source of transfers. With ``"digits"`` also
        :data:`~modalign.evaluate.benchmark.library_sets.TARGETS`.
    encoder : Encoder, optional
        For images. Vectors need none: their class names are embedded by the encoder that made them.
    templates : sequence of str, optional
        Sentences for the class names. Default: the published ones of each data set.
    device : str
        Device of an encoder that is loaded for class names of vectors.
    descriptions : str or Path, optional
        Sentences of a language model; see :func:`~modalign.data.text.sentence_files.find_sentence_files`. They take
        the place of published sentences, and are added to ``templates``.
    clip_encoder : Encoder, optional
        Encoder of the class text for images, where ``encoder`` has no text tower.

    Raises
    ------
    InputError
        There is no data set, one of the requested is missing, or ``clip_encoder`` cannot be used.
    """

    def __init__(
        self,
        path: str | Path,
        datasets: Sequence[str] | None = None,
        encoder: Encoder | JoinedEncoder | None = None,
        templates: Sequence[str] | None = None,
        device: str = "auto",
        descriptions: str | Path | None = None,
        clip_encoder: Encoder | JoinedEncoder | None = None,
    ) -> None:
        self.path, self.encoder, self.templates, self.device = Path(path), encoder, templates, device
        self.descriptions = descriptions
        self.clip_encoder = _of_text(clip_encoder, encoder)
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
        for name in self.names:
            self._sentence_files(name)  # which raises before any work

    @property
    def of_vectors(self) -> bool:
        """Whether there are vectors only."""
        return bool(self._files())

    def names_for(self, protocol: str) -> tuple[str, ...]:
        """The data sets of a protocol: :attr:`names`; of a transfer from the digits alone, also its targets."""
        alone = self._of_library and self.names == (DIGITS,)
        return (*self.names, *TARGETS.get(protocol, ())) if alone else self.names

    def open(self, name: str) -> BenchmarkSet:
        """The data set of that name; opened once."""
        if name not in self._opened:
            self._opened[name] = self._open(name)
        return self._opened[name]

    def _files(self) -> dict[str, Path]:
        return {} if self._of_library else vector_files(self.path)

    def _found(self) -> tuple[str, ...]:
        if files := self._files():
            first = _PAPERS_SOURCE
            if first not in files and len(files) > 1:
                first = next((name for name in sorted(files) if has_train_list(files[name])), "")
            return tuple(sorted(files, key=lambda name: (name != first, name)))
        rows = tuple(row.name for row in DATASETS if (self.path / row.folder).is_dir())
        own = self._row()
        return rows or (self.path.name if own is None else own.name,)

    def _row(self) -> Dataset | None:
        """The benchmark whose own folder the path is."""
        own = (row for row in DATASETS if row.folder == self.path.name and (self.path / (row.lists or ".")).exists())
        return next(own, None)

    def _known(self, name: str) -> str:
        if name in self.names or (self._of_library and name in LIBRARY_SETS):
            return name
        if self._of_library:
            raise UnknownNameError("data set", name, LIBRARY_SETS)
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

    def _sentence_files(self, name: str) -> SentenceFiles | None:
        return None if self.descriptions is None else find_sentence_files(self.descriptions, name)

    def _open(self, name: str) -> BenchmarkSet:
        described = self._sentence_files(name)

        def sentences(own: Sequence[str]) -> Sequence[str] | None:
            return self.templates or (own if described is None else None)

        if file := self._files().get(name):
            row = find_dataset(name)
            patterns = sentences((DEFAULT_TEMPLATE,) if row is None else row.templates)
            return read_vectors(name, file, self.encoder, patterns, described, self.device)
        if self.encoder is None:
            raise InputError(f"Expected {argument('encoder')} for the images of '{self.path}', got none.")
        if self._of_library:
            items, lists, own = open_library_set(name)
        elif (row := {row.name: row for row in DATASETS}.get(name)) is not None:
            items, lists = open_dataset(name, self.path)
            own = row.templates
        else:
            items = load_items(self.path)
            lists, own = official_split(items), (DEFAULT_TEMPLATE,)
        return BenchmarkSet.of_images(name, items, lists, self.encoder, sentences(own), described, self.clip_encoder)


def _of_text(clip_encoder: Encoder | JoinedEncoder | None, encoder: Encoder | JoinedEncoder | None) -> Encoder | None:
    """The encoder of the class text; raise unless it is one with a text tower and that of the images has none."""
    if clip_encoder is None:
        return None
    if encoder is None:
        raise InputError(f"Expected images for {argument('clip_encoder')}, got vectors, which have their own encoder.")
    if isinstance(clip_encoder, JoinedEncoder) or not clip_encoder.has_text:
        raise InputError(
            f"Expected {argument('clip_encoder')} to be one encoder with a text tower, got '{clip_encoder.name}'."
        )
    if encoder.has_text:
        raise InputError(
            f"Expected {argument('encoder')} without a text tower beside {argument('clip_encoder')}, got "
            f"'{encoder.name}'; leave out {argument('clip_encoder')}."
        )
    return clip_encoder
