"""What a folder, an archive or a table of paths holds, before anything is decoded."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from modalign.core.features import Quarantined
from modalign.data.blobs import Blob
from modalign.data.decoding.sniff import IMAGE_SUFFIXES
from modalign.data.names import some
from modalign.data.splits.division import part_within, purposes

_LISTS = {".txt", ".csv", ".tsv", ".json", ".lst", ".mat"}


@dataclass
class Listing:
    """Images and their class keys, in order; a reader fills it.

    Attributes
    ----------
    ids, blobs, keys, parts : list of str
        One entry per image; a key is the class as the source names it, None if it does not say; a part is "train",
        "validation" or "test", "" if the source does not say.
    classes : list of str
        All class keys, also those without an image.
    quarantined, notes : list of Quarantined
        What is left out, and what a person should know.
    division : str, default=""
        What divides the images into parts, in words; "" if nothing does.
    trouble : str, default=""
        Why nothing can be learned from the source, or tested on it, as a whole; "" if it can.
    ordered : bool, default=False
        Whether ``classes`` stand in the order of their labels; otherwise they are put into natural order.
    numbered : bool, default=False
        Whether the keys are the decimals of integers that count the classes.
    root : str, default=""
        The folder on disk; "" for other sources.
    skipped, hidden : list of str
        Files that are no images, and how many hidden entries there are.
    documents : dict of str to Blob
        Those of the skipped files that may be split files.
    given : list of str
        Names of all entries of a list in its order, also of what is left out; of other sources nothing.
    """

    ids: list[str] = field(default_factory=list)
    blobs: list[Blob] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    classes: list[str] = field(default_factory=list)
    quarantined: list[Quarantined] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    parts: list[str] = field(default_factory=list)
    division: str = ""
    trouble: str = ""
    ordered: bool = False
    numbered: bool = False
    root: str = ""
    skipped: list[str] = field(default_factory=list)
    hidden: int = 0
    documents: dict[str, Blob] = field(default_factory=dict)
    given: list[str] = field(default_factory=list)

    def add(self, name: str, blob: Blob, key: str | None = None, part: str = "") -> None:
        """One more image."""
        self.ids.append(name)
        self.blobs.append(blob)
        self.keys.append(key)
        self.parts.append(part)

    def refuse(self, name: str, reason: str) -> None:
        """One item that is left out."""
        self.quarantined.append(Quarantined(name, reason))

    def skip(self, name: str, blob: Blob) -> None:
        """One file that is no image."""
        self.skipped.append(name)
        if is_split_file(name):
            self.documents[name] = blob

    def hold_data_sets(self, names: Sequence[str]) -> None:
        """Say that these folders are data sets of their own, if there are any."""
        if names:
            held = some(names)
            self.trouble = f"Expected one data set, got a folder of data sets: {held}; give one of them."
            self.notes.append(f"a folder of data sets: {held}")

    def told(self) -> tuple[str, ...]:
        """All that a person should know, in words."""
        notes = []
        if self.division:
            notes.append(f"divided by {self.division}: {purposes(self.parts)}")
        notes += self.notes
        lists = [] if self.division else sorted(filter(_may_be_list, self.skipped))
        if lists:
            notes.append(
                f"{some(lists)} may say which images are for training and which for testing, and "
                f"{'is' if len(lists) == 1 else 'are'} not read; say it by a column of a table or by a split file"
            )
        if self.skipped:
            kinds = Counter(PurePosixPath(path).suffix.lower() or "no ending" for path in self.skipped).most_common(5)
            text = ", ".join(f"{kind} ({count})" for kind, count in kinds)
            notes.append(f"skipped {_files(len(self.skipped))} without an image ending: {text}")
        if self.hidden:
            notes.append(f"skipped {_files(self.hidden, 'hidden file')}")
        return tuple(notes)


def printable(name: str) -> str:
    r"""A file name that can be saved: bytes that are no UTF-8 become escapes (``\xff``), so that no two become one."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def is_hidden(name: str) -> bool:
    """Files that no person put there: dot files, macOS resource forks, Windows thumbnails."""
    return name.startswith(".") or name in ("__MACOSX", "Thumbs.db", "desktop.ini", "@eaDir")


def is_split_file(name: str) -> bool:
    """Whether a file is called as a split file, such as CoOp's ``split_zhou_OxfordPets.json``."""
    name = os.path.basename(name).casefold()
    return "split" in name and name.endswith(".json")


def _may_be_list(name: str) -> bool:
    """Whether a file is called as a list of the images of a part: ``test.txt``, ``trainlist01.csv``, ``val.json``."""
    stem, suffix = os.path.splitext(os.path.basename(name))
    return suffix.lower() in _LISTS and bool(part_within(stem.casefold().replace("list", " ")))


def has_image_suffix(name: str) -> bool:
    """Whether the ending of a file name promises an image."""
    return os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES


def _files(count: int, what: str = "file") -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"
