"""Labels of WebDataset archives: a sample is the files that share a name up to its first dot."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import IO

import numpy as np

from modalign.core.labels import UNLABELED
from modalign.data.interchange.labeled_rows import LabeledRow, file_names
from modalign.data.itemset import Items
from modalign.data.names import natural_key

_LABEL_FIELDS = ("class_name", "class", "label", "cls")
_LABEL_LIMIT = 2**16  # bytes of a file that holds a label


def with_sample_labels(items: Items, path: Path) -> Items:
    """The images with the labels of ``.cls`` files, or of a field ``class``, ``label`` or ``cls`` of ``.json`` files.

    Captions (``.txt``) are no classes. An archive that has labels by its folders keeps these.
    """
    if (items.labels != UNLABELED).any() or not tarfile.is_tarfile(path):
        return items
    found: dict[str, str] = {}
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                ending = member.name.rpartition(".")[2].lower()
                if ending in ("cls", "json") and member.isreg() and member.size <= _LABEL_LIMIT:
                    file = archive.extractfile(member)
                    label = _label(ending, file.read() if file else b"")
                    if label is not None and (ending == "cls" or sample_of(member.name) not in found):
                        found[sample_of(member.name)] = label
    except (tarfile.TarError, OSError, EOFError, ValueError):
        pass  # the damage is reported where the images are listed
    labels = [found.get(sample_of(name)) for name in items.ids]
    names = tuple(sorted({label for label in labels if label is not None}, key=natural_key))
    index = {name: k for k, name in enumerate(names)}
    numbers = [UNLABELED if label is None else index[label] for label in labels]
    return replace(items, labels=np.array(numbers, dtype=np.int64), class_names=names)


def sample_of(name: str) -> str:
    """``a/0001`` of ``./a/0001.left.jpg``."""
    folder, slash, file = name.removeprefix("./").rpartition("/")
    return folder + slash + file.split(".")[0]


def _label(ending: str, data: bytes) -> str | None:
    try:
        text = data.decode().strip()
        if ending == "cls":
            return text or None
        content = json.loads(text)
    except ValueError:
        return None
    fields = content if isinstance(content, dict) else {}
    value = next((fields[name] for name in _LABEL_FIELDS if name in fields), None)
    return str(value) if isinstance(value, (str, int)) and not isinstance(value, bool) and str(value) else None


def write_tar(rows: Sequence[LabeledRow], file: IO[bytes]) -> None:
    """A WebDataset archive: for every image its file, and a ``.json`` with its class, part and score.

    Entries carry no times and no owner, so that equal images give equal bytes.
    """
    with tarfile.open(fileobj=file, mode="w") as archive:
        for i, (row, name) in enumerate(zip(rows, file_names(rows), strict=True)):
            sample = f"{i:06}"
            fields = {"id": row.name, "label": row.label, "split": row.part, "score": row.score}
            told = json.dumps({key: value for key, value in fields.items() if value not in (None, "")})
            for ending, data in ((name.rpartition(".")[2], row.blob.read()), ("json", told.encode())):
                entry = tarfile.TarInfo(f"{sample}.{ending}")
                entry.size = len(data)
                archive.addfile(entry, BytesIO(data))
