"""Labels of WebDataset archives: a sample is the files that share a name up to its first dot."""

from __future__ import annotations

import json
import os
import tarfile
from collections.abc import Sequence
from io import BytesIO
from typing import IO

from modalign.core.errors import InputError
from modalign.core.features import UNLABELED
from modalign.data.interchange.labeled_rows import (
    Label,
    LabeledRow,
    class_key,
    file_names,
    one_or_several,
    require_format,
)
from modalign.data.inventory import Listing
from modalign.data.splits.division import part_called

_LABEL_FIELDS = ("class_name", "class", "label", "cls")
_LABEL_LIMIT = 2**16  # bytes of a file that holds a label


def add_sample_labels(listing: Listing, path: str | os.PathLike[str]) -> bool:
    """Set the labels by ``.cls`` files, or by a field ``class``, ``label`` or ``cls`` of ``.json`` files.

    A list in a field is a set of classes. A field ``split`` names the part. Captions (``.txt``) are no classes. An
    archive that has labels by its folders keeps these. Returns whether labels were looked for.

    Raises
    ------
    InputError
        Such a file of an image cannot be read, or its label is neither a name, a number nor a list of these.
    """
    if any(key is not None for key in listing.keys) or not tarfile.is_tarfile(path):
        return False
    names = {sample_of(name) for name in listing.ids}
    found: dict[str, tuple[Label, str]] = {}
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                ending, sample = member.name.rpartition(".")[2].lower(), sample_of(member.name)
                is_label = ending in ("cls", "json") and member.isreg() and member.size <= _LABEL_LIMIT
                if is_label and sample in names and (ending == "cls" or sample not in found):
                    file = archive.extractfile(member)
                    told = _told(ending, file.read() if file else b"", f"{path}: {member.name}", listing.known)
                    if told is not None:
                        found[sample] = told
    except (tarfile.TarError, OSError, EOFError):
        pass  # the damage is reported where the images are listed
    for i, name in enumerate(listing.ids):
        label, part = found.get(sample_of(name), (None, ""))
        listing.keys[i] = class_key(listing, name, label, f"'{path}'")
        listing.parts[i] = part_called(part) or listing.parts[i]
    keys = list(dict.fromkeys(key for key in listing.keys if key is not None))
    listing.classes = keys
    if any(part for _, part in found.values()):
        listing.division = f"'{path}'"
    return True


def sample_of(name: str) -> str:
    """``a/0001`` of ``./a/0001.left.jpg``."""
    folder, slash, file = name.removeprefix("./").rpartition("/")
    return folder + slash + file.split(".")[0]


def _told(ending: str, data: bytes, where: str, known: set[str]) -> tuple[Label, str] | None:
    """The label and the part that a file tells; None without either. Names in a list are added to ``known``."""
    try:
        text = data.decode().strip()
        content = text if ending == "cls" else json.loads(text)
    except ValueError:
        kind = "text" if ending == "cls" else "JSON"
        raise InputError(f"Expected {kind} in '{where}', got something else; repair it or leave it out.") from None
    if ending == "cls":
        return (text, "") if text else None
    fields = content if isinstance(content, dict) else {}
    value = next((fields[name] for name in _LABEL_FIELDS if name in fields), None)
    values: list[object] = value if isinstance(value, list) else [value]
    missing = (None, "", UNLABELED) if isinstance(value, list) else (None, "")
    given = [own for own in map(_plain, values) if own not in missing]
    sound = all(isinstance(own, (str, int)) for own in given)
    require_format(sound, "the name or the number of a class, or a list of these,", where, value)
    if isinstance(value, list):
        known.update(own for own in given if isinstance(own, str))
    label = one_or_several(map(str, given), empty=None if value != [] else ())
    part = fields.get("split")
    part = part if isinstance(part, str) else ""
    return None if label is None and not part else (label, part)


def _plain(value: object) -> object:
    """A label as tables have it: text without blanks around it, a whole number without ``.0``."""
    if isinstance(value, str):
        return value.strip()
    return int(value) if isinstance(value, float) and value.is_integer() else value


def write_tar(rows: Sequence[LabeledRow], file: IO[bytes]) -> None:
    """A WebDataset archive: for every image its file, and a ``.json`` with its class, part and score.

    Entries carry no times and no owner, so that equal images give equal bytes.
    """
    with tarfile.open(fileobj=file, mode="w") as archive:
        for i, (row, name) in enumerate(zip(rows, file_names(rows), strict=True)):
            sample = f"{i:06}"
            fields = {"id": row.name, "label": row.label, "split": row.part, "score": row.score}
            metadata = json.dumps({key: value for key, value in fields.items() if value not in (None, "")})
            for ending, data in ((name.rpartition(".")[2], row.blob.read()), ("json", metadata.encode())):
                entry = tarfile.TarInfo(f"{sample}.{ending}")
                entry.size = len(data)
                archive.addfile(entry, BytesIO(data))
