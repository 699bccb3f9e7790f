"""What a folder, an archive or a table of paths holds, before anything is decoded."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from modalign.data.blobs import Blob, FileBlob, why_unreadable
from modalign.data.division import Division, divide_folders, purposes
from modalign.data.names import natural_key, some
from modalign.data.sniff import IMAGE_SUFFIXES
from modalign.features import Quarantined


@dataclass
class Listing:
    """Images and their class keys, in order; a reader fills it.

    Attributes
    ----------
    ids, blobs, keys, parts : one entry per image; a key is the class as the source names it, None if it does not say;
        a part is "train", "validation" or "test", "" if the source does not say.
    classes : all class keys, also those without an image.
    quarantined, notes : what is left out, and what a person should know.
    division : what divides the images into parts, in words; "" if nothing does.
    trouble : why nothing can be learned from the source, or tested on it, as a whole; "" if it can.
    given : names of all entries of a list in its order, also of what is left out; of other sources nothing.
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


def list_folder(root: str) -> Listing:
    """Every image below ``root``: hidden files are passed over, other files are counted, links are followed once."""
    found: dict[str, Blob] = {}
    folders: list[str] = []
    listing = Listing()
    skipped: list[str] = []
    hidden = 0
    stack: list[tuple[str, str, frozenset[tuple[int, int]]]] = [("", root, frozenset())]
    while stack:
        relative, folder, above = stack.pop()
        try:
            status = os.stat(folder)
            entries = list(os.scandir(folder))
        except OSError as error:
            listing.refuse(relative or ".", f"the folder cannot be read: {(error.strerror or str(error)).lower()}")
            continue
        here = (status.st_dev, status.st_ino)
        if here in above:
            listing.refuse(relative, "a link to a folder that holds it")
            continue
        if relative:
            folders.append(relative)
        for entry in entries:
            name = printable(f"{relative}/{entry.name}" if relative else entry.name)
            kind = _kind(entry)
            if is_hidden(entry.name):
                hidden += 1
            elif kind == "folder":
                stack.append((name, entry.path, above | {here}))
            elif not has_image_suffix(entry.name):
                skipped.append(name)
            elif kind == "file":
                found[name] = FileBlob(entry.path)
            else:
                listing.refuse(name, kind)
    assign_classes(listing, found, folders, skipped, hidden)
    return listing


def _kind(entry: os.DirEntry[str]) -> str:
    """``folder``, ``file``, or why the entry is neither."""
    try:
        if entry.is_dir():
            return "folder"
        return "file" if entry.is_file() else "a broken link" if not os.path.exists(entry) else "not a regular file"
    except OSError as error:  # a link that leads to itself
        return "a broken link" if entry.is_symlink() else why_unreadable(error)


def assign_classes(
    listing: Listing,
    found: dict[str, Blob],
    folders: Iterable[str],
    skipped: Sequence[str],
    hidden: int,
    archive: str | None = None,
) -> None:
    """Fill ``listing`` from relative paths: the first folder of a path is its class, deeper folders are free.

    Folders around everything else are seen through, and so are folders that name a part (train, val, test), which is
    noted. An empty folder beside class folders is a class without images; one with only other files is not a class.

    Parameters
    ----------
    listing : filled in place.
    found : relative path with ``/`` → blob.
    folders : all folders, also empty ones.
    skipped : files that are no images.
    hidden : how many hidden entries were passed over.
    archive : the name of the archive without its ending, if it is one.
    """
    paths = sorted(found, key=lambda path: [natural_key(part) for part in path.split("/")])
    refused = [q.id for q in listing.quarantined if has_image_suffix(q.id)]  # files, which show where classes are
    above = {path: path.split("/")[:-1] for path in [*paths, *refused]}
    used = {"/".join(parents[:depth]) for parents in above.values() for depth in range(1, len(parents) + 1)}
    used |= {folder for path in skipped for folder in _folders_above(path)}
    empty = [folder.split("/") for folder in folders if folder not in used]
    division = divide_folders(above.values(), empty)
    parts = dict.fromkeys(above, "")
    if division is not None:
        placed = {path: division.place(parents) for path, parents in above.items()}
        parts = {path: part for path, (part, _) in placed.items()}
        above = {path: list(parents) for path, (_, parents) in placed.items()}
        empty = [rest for parents in empty if (rest := list(division.place(parents)[1]))]
    level = _depth(list(above.values()), empty, archive)
    for path in paths:
        parents = above[path]
        listing.add(path, found[path], parents[level] if len(parents) > level else None, parts[path])
    if division is not None:
        _report_division(listing, division)
    keys = {parents[level] for parents in above.values() if len(parents) > level}
    loose = sum(key is None for key in listing.keys)
    if keys:
        bare = {parents[level] for parents in empty if len(parents) == level + 1} - keys
        listing.classes = sorted(keys | bare, key=natural_key)
        if bare:
            names = some(sorted(bare, key=natural_key))
            listing.notes.append(f"{'class' if len(bare) == 1 else 'classes'} without an image: {names}")
        if loose:
            lie = "1 image lies" if loose == 1 else f"{loose} images lie"
            listing.notes.append(f"{lie} outside the class folders: taken as unlabelled")
    if skipped:
        kinds = Counter(PurePosixPath(path).suffix.lower() or "no ending" for path in skipped).most_common(5)
        text = ", ".join(f"{kind} ({count})" for kind, count in kinds)
        listing.notes.append(f"skipped {_files(len(skipped))} without an image ending: {text}")
    if hidden:
        listing.notes.append(f"skipped {_files(hidden, 'hidden file')}")


def _report_division(listing: Listing, division: Division) -> None:
    """Say which folders divide the images, and how many are for what."""
    listing.division = str(division)
    listing.notes.append(f"divided into {listing.division.removeprefix('the folders ')}: {purposes(listing.parts)}")
    if division.several:
        held = some(division.several)
        listing.trouble = f"Expected one data set, got {len(division.several)}: {held}; give the folder of one of them."
        listing.notes.append(f"these are {len(division.several)} data sets, each divided on its own: {held}")


def _depth(parents: list[list[str]], empty: list[list[str]], archive: str | None) -> int:
    """How many folders lie around everything else, one inside the other, and are no classes.

    The innermost of them is a class if images lie directly in it, unless it is called as the archive is.
    """
    depth = 0
    while parents and all(len(path) > depth for path in parents):
        if len({path[depth] for path in [*parents, *empty] if len(path) > depth}) > 1:
            break
        depth += 1
    loose = any(len(path) == depth for path in parents)
    return depth - 1 if depth and loose and parents[0][depth - 1] != archive else depth


def _folders_above(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[:depth]) for depth in range(1, len(parts))]


def printable(name: str) -> str:
    r"""A file name that can be saved: bytes that are no UTF-8 become escapes (``\xff``), so that no two become one."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def is_hidden(name: str) -> bool:
    """Files that no person put there: dot files, macOS resource forks, Windows thumbnails."""
    return name.startswith(".") or name in ("__MACOSX", "Thumbs.db", "desktop.ini", "@eaDir")


def has_image_suffix(name: str) -> bool:
    """Whether the ending of a file name promises an image."""
    return os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES


def _files(count: int, what: str = "file") -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"
