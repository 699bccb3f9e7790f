"""Files of sentences of a language model, one per benchmark data set: the folders of CuPL and of HPT."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from modalign.core.errors import InputError
from modalign.core.files import require_path
from modalign.data.names import quoted
from modalign.data.splits.benchmarks import find_dataset

_DESCRIPTIONS, _STRUCTURES = "description", "structure"  # folders of HPT
_PREFIX = "CuPL_prompts_"  # of CuPL's files


@dataclass(frozen=True)
class SentenceFiles:
    """The files of one data set.

    Attributes
    ----------
    source : str
        Name of the folder or file that they were looked up in, such as ``"hpt"``.
    descriptions : Path
        Class name → sentences; see :func:`~modalign.data.text.descriptions.read_descriptions`.
    structures : Path or None, default=None
        Class name → graphs; see :func:`~modalign.data.text.descriptions.read_structures`.
    """

    source: str
    descriptions: Path
    structures: Path | None = None


def find_sentence_files(path: str | Path, dataset: str) -> SentenceFiles:
    """Return the files of a data set.

    Parameters
    ----------
    path : str or Path
        A JSON file, which is used for every data set; a folder with a file per data set; or a folder with the
        sub-folders ``description`` and ``structure`` of HPT. A file is named after its data set, as here or in the
        literature: ``eurosat.json``, ``OxfordPets.json``, ``CuPL_prompts_eurosat.json``.
    dataset : str
        Name of the data set.

    Raises
    ------
    InputError
        The path does not exist, or has no file for the data set.
    """
    path = Path(path)
    what = "a JSON file of sentences, or a folder with one per data set,"
    require_path(path, what)
    if not path.exists():
        raise InputError(f"Expected {what} '{path}' is not there.")
    if not path.is_dir():
        return SentenceFiles(path.stem, path)
    nested = (path / _DESCRIPTIONS).is_dir()
    files = sorted((path / _DESCRIPTIONS if nested else path).glob("*.json"))
    found = _of(dataset, files)
    if found is None:
        held = quoted([file.name for file in files]) if files else "none"
        raise InputError(f"Expected a file of sentences for data set '{dataset}' in '{path}', got {held}.")
    structures = _of(dataset, sorted((path / _STRUCTURES).glob("*.json"))) if nested else None
    return SentenceFiles(path.resolve().name, found, structures)


def _of(dataset: str, files: Iterable[Path]) -> Path | None:
    row = find_dataset(dataset)
    for file in files:
        name = file.stem.removeprefix(_PREFIX)
        if name == dataset or (row is not None and find_dataset(name) == row):
            return file
    return None
