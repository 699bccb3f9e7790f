"""Classes and parts (train, validation, test) of images from the folders that contain them."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable

from modalign.data.blobs import Blob, FileBlob, unreadable_reason
from modalign.data.inventory import Listing, has_image_suffix, is_hidden, printable
from modalign.data.names import natural_key, quoted
from modalign.data.splits.division import divide_folders, part_called, part_within


def list_folder(root: str) -> Listing:
    """List every image below ``root``. Hidden files are skipped, other files are counted, links are followed once."""
    found: dict[str, Blob] = {}
    folders: list[str] = []
    listing = Listing(root=root)
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
                listing.hidden += 1
            elif kind == "folder":
                stack.append((name, entry.path, above | {here}))
            elif not has_image_suffix(entry.name):
                listing.skip(name, FileBlob(entry.path))
            elif kind == "file":
                found[name] = FileBlob(entry.path)
            else:
                listing.refuse(name, kind)
    assign_classes(listing, found, folders)
    return listing


def _kind(entry: os.DirEntry[str]) -> str:
    """Return ``folder``, ``file``, or the reason why the entry is neither."""
    try:
        if entry.is_dir():
            return "folder"
        return "file" if entry.is_file() else "a broken link" if not os.path.exists(entry) else "not a regular file"
    except OSError as error:  # a link that leads to itself
        return "a broken link" if entry.is_symlink() else unreadable_reason(error)


def assign_classes(
    listing: Listing,
    found: dict[str, Blob],
    folders: Iterable[str],
    archive: str | None = None,
) -> None:
    """Fill ``listing`` from relative paths: the first folder of a path is its class, deeper folders are free.

    Folders that contain everything else are skipped, and folders that name a part (train, val, test) set the part. An
    empty folder next to class folders is a class without images; a folder with other files only is not a class.

    Parameters
    ----------
    listing : Listing
        Filled in place.
    found : dict of str to Blob
        Relative path with ``/`` → blob.
    folders : iterable of str
        All folders, also empty ones.
    archive : str or None, default=None
        The name of the archive without its ending, if it is one.
    """
    paths = sorted(found, key=lambda path: [natural_key(part) for part in path.split("/")])
    # Files that are left out show where classes are, unless their paths lead elsewhere.
    refused = [q.id for q in listing.quarantined if has_image_suffix(q.id) and not {"", ".."} & set(q.id.split("/"))]
    above = {path: path.split("/")[:-1] for path in [*paths, *refused]}
    used = {"/".join(parents[:depth]) for parents in above.values() for depth in range(1, len(parents) + 1)}
    used |= {folder for path in listing.skipped for folder in _folders_above(path)}
    empty = [folder.split("/") for folder in folders if folder not in used]
    division = divide_folders(above.values(), empty)
    parts = dict.fromkeys(above, "")
    if division is not None:  # folders that hold images of no part are no classes
        placed = {path: division.place(parents) for path, parents in above.items()}
        parts = {path: part for path, (part, _) in placed.items()}
        above = {path: list(rest) for path, (part, rest) in placed.items() if part}
        empty = [list(rest) for part, rest in map(division.place, empty) if part and rest]
        listing.division = str(division)
        listing.hold_data_sets(division.several)
        above = _without_covers(above, parts)
    level = _depth(list(above.values()), empty, archive)
    key_of = {path: parents[level] for path, parents in above.items() if len(parents) > level}
    for path in paths:
        listing.add(path, found[path], key_of.get(path), parts[path])
    keys = set(key_of.values())
    loose = sum(path in above and path not in key_of for path in paths)
    if keys:
        bare = {parents[level] for parents in empty if len(parents) == level + 1} - keys
        listing.classes = sorted(keys | bare, key=natural_key)
        listing.notes += _doubts(listing)
        _doubt_levels(listing, [parents[level:] for parents in above.values()])
        if bare:
            names = quoted(sorted(bare, key=natural_key))
            listing.notes.append(f"{'class' if len(bare) == 1 else 'classes'} without an image: {names}")
        if loose:
            lie = "1 image lies" if loose == 1 else f"{loose} images lie"
            listing.notes.append(f"{lie} outside the class folders: taken as unlabeled")


def _doubts(listing: Listing) -> list[str]:
    """Return notes on folders that are read as classes but may be meant as parts."""
    notes = []
    within = {name: part for name in listing.classes if (part := part_within(name))}
    called = sorted(within) if len(set(within.values())) > 1 else sorted(filter(part_called, within))
    if called:
        are = "is taken for a class, not for a part" if len(called) == 1 else "are taken for classes, not for parts"
        notes.append(f"{quoted(called)} {are} of the data")
    taught, tested = (
        {key for key, own in zip(listing.keys, listing.parts, strict=True) if own == part} - {None}
        for part in ("train", "test")
    )
    if taught and tested and not taught & tested:
        notes.append("training images and test images have no class in common")
    return notes


def _doubt_levels(listing: Listing, parents: Iterable[list[str]]) -> None:
    """Note class folders that all hold the same sub-folders, which may be the classes; refuse one that names a part."""
    inner: dict[str, set[str]] = defaultdict(set)
    for outer, *below in filter(None, parents):
        inner[outer].add(below[0] if below else "")
    names = next(iter(inner.values()), set())
    if len(inner) < 2 or len(names) < 2 or "" in names or any(other != names for other in inner.values()):
        return
    outer, same = quoted(sorted(inner, key=natural_key), 3), quoted(sorted(names, key=natural_key), 3)
    listing.notes.append(
        f"{outer} are taken for the classes; each holds the folders {same}, which may be meant instead"
    )
    if any(map(part_called, inner)):
        listing.trouble = (
            f"Expected folders of classes, or of parts such as train, val and test, got {outer}, which hold the same "
            f"folders {same}; rename the parts, or give a table with columns path, label and split."
        )


def _without_covers(above: dict[str, list[str]], parts: dict[str, str]) -> dict[str, list[str]]:
    """Return the folders above the images of every part, without one that contains the classes of this part only.

    Such as ``images`` in ``train/cat/``, ``test/images/cat/``.
    """
    outer, inner = defaultdict(set), defaultdict(set)
    for path, (first, second, *_) in ((path, (*folders, "", "")) for path, folders in above.items()):
        outer[parts[path]].add(first)
        inner[parts[path]].add(second)
    classes = set().union(*(names for names in outer.values() if len(names) > 1)) - {""}
    covered = {
        part for part, names in outer.items() if len(names) == 1 and not names & classes and inner[part] & classes
    }
    return {path: folders[1:] if parts[path] in covered else folders for path, folders in above.items()}


def divide_by_folders(listing: Listing) -> None:
    """Set the parts of the images of a list or table by the folders in their names, if these divide them."""
    above = [name.split("/")[:-1] for name in listing.ids]
    division = divide_folders(above, alone=False)
    if division is not None:
        listing.division = str(division)
        listing.parts = [division.place(folders)[0] for folders in above]


def _depth(parents: list[list[str]], empty: list[list[str]], archive: str | None) -> int:
    """Return the number of nested outer folders that contain everything else and are not classes.

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
