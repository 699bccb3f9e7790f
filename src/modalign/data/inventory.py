"""The list of images that a reader collects from a folder, an archive or a table, before decoding."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from modalign.core.features import Quarantined
from modalign.core.label_matrix import SEPARATORS
from modalign.data.blobs import Blob
from modalign.data.decoding.sniff import IMAGE_SUFFIXES
from modalign.data.names import quoted
from modalign.data.splits.division import part_within, purposes

NO_LABEL = "-1"
"""Label of an image whose class is unknown, as written in tables."""
_WITH_ZERO = re.compile(r"\s*-?\d+\.0\s*")
_NEGATIVE = re.compile(r"\s*-\d+\s*")
_SEPARATOR = re.compile(f"[{SEPARATORS}]")
_ABSENT = {"nan", "none", "null", "n/a", "na", "nil", "<na>", "?", "unknown", "unlabeled"}
_LISTS = {".txt", ".csv", ".tsv", ".json", ".lst", ".mat"}


@dataclass
class Listing:
    """Ordered images with their class keys, filled by a reader.

    Attributes
    ----------
    ids : list of str
        Name of each image.
    blobs : list of Blob
        What reads the bytes of each image.
    keys : list of str or None
        Class name of each image in the source, or None.
    classes : list of str
        All class keys, also those without an image.
    quarantined : list of Quarantined
        Items that are left out, with reasons.
    notes : list of str
        Notes for the user.
    parts : list of str
        "train", "validation" or "test" for each image, or "" if the source does not specify it.
    division : str, default=""
        Description of what divides the images into parts; "" if nothing does.
    trouble : str, default=""
        Why the source cannot be used for training or testing; "" if it can.
    several : str, default=""
        The beginning of an error where images have sets of classes, which are then the keys; "" where none has.
    ordered : bool, default=False
        Whether ``classes`` is in label order; otherwise it is sorted in natural order.
    numbered : bool, default=False
        Whether the keys are integers that are class indices.
    root : str, default=""
        Folder on disk; "" for other sources.
    skipped : list of str
        Files that are not images.
    hidden : int, default=0
        Number of hidden entries.
    documents : dict of str to Blob
        Skipped files that may be split files.
    given : list of str
        Names of all entries of a list in order, including those left out; empty for other sources.
    written : bool, default=False
        Whether the keys are labels as somebody wrote them, of which blanks and -1 may mean no label.
    known : set of str
        Keys that the source has as names; -1 among them is a class.
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
    several: str = ""
    ordered: bool = False
    numbered: bool = False
    root: str = ""
    skipped: list[str] = field(default_factory=list)
    hidden: int = 0
    documents: dict[str, Blob] = field(default_factory=dict)
    given: list[str] = field(default_factory=list)
    written: bool = False
    known: set[str] = field(default_factory=set)

    def add(self, name: str, blob: Blob, key: str | None = None, part: str = "") -> None:
        """Add an image."""
        self.ids.append(name)
        self.blobs.append(blob)
        self.keys.append(key)
        self.parts.append(part)

    def refuse(self, name: str, reason: str) -> None:
        """Add an item that is left out, with the reason."""
        self.quarantined.append(Quarantined(name, reason))

    def skip(self, name: str, blob: Blob) -> None:
        """Add a file that is not an image."""
        self.skipped.append(name)
        if is_split_file(name):
            self.documents[name] = blob

    def leave_unlabeled(self, known: Collection[str] = ()) -> None:
        """Take blank labels, and -1 among at least two other labels, for no label; note labels that may mean none.

        -1 is a class if it is one of the ``known`` names, of the source or of the caller, in a set with other names,
        and beside other negative labels. Labels that are all whole numbers with ``.0``, as a column with gaps is
        written, are these numbers.
        """
        known = {*known, *self.known}
        self.keys = [None if key is None or not key.strip() else key for key in self.keys]
        if all(key is None or (_WITH_ZERO.fullmatch(key) and key not in known) for key in self.keys):
            self.keys = [None if key is None else key.strip().removesuffix(".0") for key in self.keys]
            self.classes = list(dict.fromkeys(key.strip().removesuffix(".0") for key in self.classes))
        named = set(self.keys) - {None, NO_LABEL}
        negative = any(key is not None and _NEGATIVE.fullmatch(key) for key in named)
        in_a_set = any(NO_LABEL in map(str.strip, _SEPARATOR.split(key)) for key in named if key is not None)
        is_class = negative or in_a_set or NO_LABEL in known
        if len(named) > 1 and not is_class and (n := self.keys.count(NO_LABEL)):
            self.keys = [None if key == NO_LABEL else key for key in self.keys]
            images = "image is" if n == 1 else "images are"
            self.notes.append(f"label '{NO_LABEL}' means no label: {n} {images} unlabeled")
        if absent := sorted({key for key in named if key is not None and key.casefold() in _ABSENT}):
            are = "is a class" if len(absent) == 1 else "are classes"
            self.notes.append(f"{quoted(absent)} {are}; leave labels empty where they are unknown")
        dropped = {key for key in self.classes if not key.strip() or (key == NO_LABEL and key not in self.keys)}
        self.classes = [key for key in self.classes if key not in dropped]
        self.numbered &= NO_LABEL not in self.classes

    def hold_data_sets(self, names: Sequence[str]) -> None:
        """Note that these folders are data sets of their own, if there are any."""
        if names:
            held = quoted(names)
            self.trouble = f"Expected one data set, got a folder of data sets: {held}; give one of them."
            self.notes.append(f"a folder of data sets: {held}")

    def all_notes(self) -> tuple[str, ...]:
        """Return all notes for the user."""
        notes = []
        if self.division:
            notes.append(f"divided by {self.division}: {purposes(self.parts)}")
        notes += self.notes
        lists = [] if self.division else sorted(filter(_may_be_list, self.skipped))
        if lists:
            notes.append(
                f"{quoted(lists)} may be lists of training and test images, and "
                f"{'is' if len(lists) == 1 else 'are'} not read; use a column of a table or a split file"
            )
        if self.skipped:
            kinds = Counter(PurePosixPath(path).suffix.lower() or "no ending" for path in self.skipped).most_common(5)
            text = ", ".join(f"{kind} ({count})" for kind, count in kinds)
            notes.append(f"skipped {_files(len(self.skipped))} without an image ending: {text}")
        if self.hidden:
            notes.append(f"skipped {_files(self.hidden, 'hidden file')}")
        return tuple(notes)


def printable(name: str) -> str:
    r"""Escape bytes of a file name that are not UTF-8 (``\xff``), so that names can be saved and stay distinct."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def is_hidden(name: str) -> bool:
    """Return whether a file is hidden: dot files, macOS resource forks, Windows thumbnails."""
    return name.startswith(".") or name in ("__MACOSX", "Thumbs.db", "desktop.ini", "@eaDir")


def is_split_file(name: str) -> bool:
    """Return whether a file has the name of a split file, such as CoOp's ``split_zhou_OxfordPets.json``."""
    name = os.path.basename(name).casefold()
    return "split" in name and name.endswith(".json")


def _may_be_list(name: str) -> bool:
    """Return whether a file has the name of a list of a part: ``test.txt``, ``trainlist01.csv``, ``val.json``."""
    stem, suffix = os.path.splitext(os.path.basename(name))
    return suffix.lower() in _LISTS and bool(part_within(stem.casefold().replace("list", " ")))


def has_image_suffix(name: str) -> bool:
    """Return whether the ending of a file name is that of an image."""
    return os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES


def _files(count: int, what: str = "file") -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"
