"""Split files, passed by the user or found next to the images."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np

from modalign.core.errors import InputError, UndecodableError, argument
from modalign.core.files import parse_json, read_json
from modalign.data.blobs import Blob, FileBlob
from modalign.data.inventory import Listing, is_split_file
from modalign.data.names import name_classes, quoted
from modalign.data.splits.benchmarks import DATASETS
from modalign.data.splits.coop_files import AIRCRAFT, CUB, aircraft_lists, coop_lists, cub_lists
from modalign.data.splits.division import divide_folders
from modalign.data.splits.official import OfficialLists
from modalign.data.splits.split import FORMAT, PARTS, Split

Placed = dict[int, tuple[str, int]]
_STRICTEST = ("test", "validation", "train", "unlabeled")


def read_lists(file: str | os.PathLike[str]) -> OfficialLists:
    """Read the lists of a split file of CoOp or of :meth:`Split.save`.

    Raises
    ------
    InputError
        If the file has neither format.
    """
    return _lists_of(read_json(file, "a split file"), f"'{file}'")


def split_by_names(
    ids: Sequence[str], split: str | Path | Split | None = None, parts: Sequence[str] = ()
) -> Split | None:
    """Divide named images by a split file, by ``parts``, or by folders in the names.

    None if none of these applies. The indices of a :class:`Split` are checked.
    """
    if isinstance(split, Split):
        split.require(len(ids))
        return split
    if split is not None:
        placed = _placed(lists := read_lists(split), ids)
        known, origin = {i: part for i, (part, _) in placed.items()}, lists.origin
    elif parts:
        known, origin = dict(enumerate(parts)), "the parts that the source of the images marked"
    else:
        above = [name.split("/")[:-1] for name in ids]
        division = divide_folders(above, alone=False)
        if division is None:
            return None
        known, origin = {i: division.place(folders)[0] for i, folders in enumerate(above)}, str(division)
    train, validation, test, unlabeled = (
        np.array([i for i, own in known.items() if own == part], np.int64) for part in PARTS
    )
    return Split(train, validation, test, unlabeled, description=origin)


def divide_by(listing: Listing, lists: OfficialLists, classes: object = None) -> None:
    """Set the part, class and position of every image of a listing from official lists.

    Images that are not listed come last, without a part, and without a class if the lists name classes.

    Parameters
    ----------
    listing : Listing
        Changed in place.
    lists : OfficialLists
        Of this source, or of a larger one.
    classes : object, default=None
        Class names of the user; see :func:`~modalign.data.names.name_classes`. If they match the class folders but not
        the names in the lists, the folders determine the classes.

    Raises
    ------
    InputError
        If the lists are those of other images.
    """
    _apply(listing, lists, _placed(lists, listing.ids), classes)


def _apply(listing: Listing, lists: OfficialLists, placed: Placed, classes: object, *, found: bool = False) -> None:
    """Implement :func:`divide_by`; with lists that were ``found``, images in a folder called test stay test images."""
    order = [*placed, *(i for i in range(len(listing.ids)) if i not in placed)]
    new = [placed[i][0] if i in placed else "" for i in order]
    moved = [k for k, i in enumerate(order) if listing.parts[i] == "test" and new[k] in ("train", "validation")]
    if found:
        new = ["test" if listing.parts[i] == "test" else part for i, part in zip(order, new, strict=True)]
    if moved:
        what = "to learn from or to validate, but stay for testing" if found else "to learn from or to validate"
        listing.notes.append(f"{len(moved)} images of the test folder are listed in {lists.origin} {what}")
    listing.ids = [listing.ids[i] for i in order]
    listing.blobs = [listing.blobs[i] for i in order]
    listing.keys = [listing.keys[i] for i in order]
    listing.parts = new
    if lists.class_names and _fit(lists.class_names, classes, folders=listing.classes):
        listing.keys = [lists.class_names[placed[i][1]] if i in placed else None for i in order]
        listing.classes, listing.ordered = list(lists.class_names), True
    listing.division, listing.trouble = lists.origin, ""
    listing.notes += _about(lists, placed)


def divide_by_found(listing: Listing, beside: str, classes: object = None) -> None:
    """Divide a folder or an archive by a split file next to its images, if there is one.

    The file is searched in the folders that contain all images, from the innermost one outwards, then elsewhere in the
    source, then in the folder ``beside`` and its parents. A file that does not match the images is named in a note; if
    several match, ``listing.trouble`` is set. A folder of data sets is not divided at all.
    """
    data_sets = _data_sets(listing)
    if data_sets:
        listing.hold_data_sets(data_sets)
        return
    for candidates in _candidates(listing, beside):
        fitting = []
        for name, read in candidates:
            listing.skipped = [other for other in listing.skipped if other != name]  # either used or named
            try:
                lists = read()
                fitting.append((name, lists, _placed(lists, listing.ids)))
            except (InputError, UndecodableError) as error:
                listing.notes.append(f"'{name}' is not used to divide the images: {error}")
        if len(fitting) > 1:
            names = quoted([name for name, *_ in fitting])
            listing.trouble = f"Expected one split file for these images, got {names}; choose with {argument('split')}."
            listing.notes.append(f"several split files fit these images: {names}")
        if fitting:
            if len(fitting) == 1:
                _apply(listing, *fitting[0][1:], classes, found=True)
            return


def _lists_of(content: Any, origin: str) -> OfficialLists:
    form = content.get("format") if isinstance(content, dict) else None
    if form != FORMAT:
        if isinstance(form, str) and form.startswith(FORMAT.rstrip("0123456789")):
            raise InputError(f"Expected a split file of format {FORMAT}, {origin} is of {form:.40}; update modalign.")
        return coop_lists(content, origin)
    lists = {part: content.get(part, []) for part in PARTS}
    if not all(isinstance(ids, list) and all(isinstance(name, str) for name in ids) for ids in lists.values()):
        raise InputError(f"Expected lists of ids as {', '.join(map(repr, PARTS))} in {origin}.")
    rows = [(name, part) for part, ids in lists.items() for name in ids]
    paths, parts = zip(*rows, strict=True) if rows else ((), ())
    return OfficialLists(origin, paths, parts, np.full(len(rows), -1, dtype=np.int64))


def _placed(lists: OfficialLists, ids: Sequence[str]) -> Placed:
    """Index into ``ids`` → (part, label), in the order of the lists; of several parts the strictest."""
    if twice := [name for name, count in Counter(lists.class_names).items() if count > 1]:
        raise InputError(f"Expected every class name once in {lists.origin}, got {quoted(twice)} for several labels.")
    placed: Placed = {}
    for place, part, label in zip(lists.find(ids).tolist(), lists.parts, lists.labels.tolist(), strict=True):
        if place >= 0:
            known = placed.get(place, (part, label))[0]
            placed[place] = (min(part, known, key=_STRICTEST.index), label)
    return placed


def _fit(names: Sequence[str], classes: object, folders: Sequence[str]) -> bool:
    """Whether the names of the lists are to be the classes, rather than those of the folders."""
    if classes is None or not folders:
        return True
    try:
        name_classes(names, classes)
    except InputError:
        return False
    return True


def _about(lists: OfficialLists, placed: Placed) -> list[str]:
    notes = []
    parts_of: dict[str, set[str]] = {}
    for path, part in zip(lists.paths, lists.parts, strict=True):
        parts_of.setdefault(path, set()).add(part)
    if gone := len(parts_of) - len(placed):
        notes.append(f"{gone} of the {len(parts_of)} images of {lists.origin} are not here")
    if several := [path for path, parts in parts_of.items() if len(parts) > 1]:
        images = "1 image is" if len(several) == 1 else f"{len(several)} images are"
        notes.append(
            f"{images} in several lists, such as {quoted(several, 2)}: test comes before validation, before train"
        )
    return notes


_Candidate = tuple[str, Callable[[], OfficialLists]]  # a name, and its reader


def _candidates(listing: Listing, beside: str) -> Iterator[list[_Candidate]]:
    """Candidates for split files, by folder."""
    around, _ = _around(listing.ids)
    skipped = set(listing.skipped)
    elsewhere = dict(listing.documents)
    for depth in range(len(around), -1, -1):
        base = "".join(f"{folder}/" for folder in around[:depth])
        here = [name for name in elsewhere if name == base + _last(name)]
        found: list[_Candidate] = [(name, partial(_read, name, elsewhere.pop(name))) for name in here]
        if listing.root:
            files = {name for name in map(_last, skipped) if base + name in skipped}
            found += _text_files(os.path.join(listing.root, base), files)
        yield found
    yield [(name, partial(_read, name, blob)) for name, blob in elsewhere.items()]
    for up in range(1, _LEVELS_ABOVE + 1):
        try:
            files = {entry.name for entry in os.scandir(beside)}
        except OSError:
            return
        named = [("../" * up + name, FileBlob(os.path.join(beside, name))) for name in sorted(files) if _is_coop(name)]
        yield [(name, partial(_read, name, blob)) for name, blob in named] + _text_files(beside, files)
        beside = os.path.dirname(beside)


def _text_files(folder: str, files: set[str]) -> list[_Candidate]:
    return [(_TEXT_FILES, partial(read, folder)) for names, read in _TEXTS if files.issuperset(names)]


_LEVELS_ABOVE = 3  # data/pets/split_zhou_Pets.json for data/pets/all/images/dogs, and no further
_TEXT_FILES = "the text files of the data set"
_TEXTS = ((AIRCRAFT, aircraft_lists), (CUB, cub_lists))


def _around(ids: Sequence[str]) -> tuple[list[str], list[list[str]]]:
    """The folders that all images lie in, and the folders of each."""
    folders = [name.split("/")[:-1] for name in ids]
    ends = zip(min(folders), max(folders), strict=False)  # all share what the first and the last do
    return [a for a, _ in takewhile(lambda pair: pair[0] == pair[1], ends)], folders


def _last(name: str) -> str:
    return name.rpartition("/")[2]


def _is_coop(name: str) -> bool:
    return is_split_file(name) and name.casefold().startswith("split_")


def _read(name: str, blob: Blob) -> OfficialLists:
    try:
        text = blob.read().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"Expected a split file in UTF-8, '{name}' is not.") from None
    return _lists_of(parse_json(text, f"'{name}'", "a split file"), f"'{name}'")


def _data_sets(listing: Listing) -> list[str]:
    """Names of the folders beside each other that are data sets: with a split file of their own, or of the catalog."""
    around, folders = _around(listing.ids)
    inside: dict[str, set[str]] = {}
    for path in folders:
        if len(path) > len(around):
            inside.setdefault(path[len(around)], set()).update(path[len(around) + 1 :][:1])
    if len(inside) < 2:
        return []
    texts = {*AIRCRAFT, *CUB}
    files = (name.split("/") for name in listing.skipped if _is_coop(_last(name)) or _last(name) in texts)
    marked = {path[-2] for path in files if len(path) > 1 and path[:-2] == around and path[-2] in inside}
    known = {row.folder for row in DATASETS} & {name for name, classes in inside.items() if classes}
    return sorted(marked | known) if marked or len(known) > 1 else []
