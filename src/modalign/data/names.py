"""Class names: natural order, matching regardless of case and underscores, and the ``classes=`` argument."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

from modalign.core.errors import InputError, argument
from modalign.core.files import read_json, read_text
from modalign.core.labels import require_encodable
from modalign.core.name_matching import did_you_mean, match_names, normalize, numeral, quoted
from modalign.core.name_matching import plural_key as plural_key

_DIGITS = re.compile(r"(\d+)")
_WORDNET = re.compile(r"^(n\d{8})\s+(.+)$")


def natural_key(text: str) -> tuple[tuple[int, int, str], ...]:
    """Return a sort key that orders ``img2`` before ``img10``, the same on every machine and unique per text."""
    key = []
    for part in filter(None, _DIGITS.split(text.casefold())):
        digits = part.lstrip("0")
        key.append((1, len(digits), digits) if part.isdecimal() else (2, 0, part))
    return (*key, (0, 0, text))


@dataclass(frozen=True)
class Naming:
    """The classes of a data set.

    Attributes
    ----------
    names : tuple of str
        Display names, in label order.
    index : dict of str to int
        Label of every key (folder name, CSV label) of the source.
    notes : tuple of str, default=()
        Messages for the user.
    """

    names: tuple[str, ...]
    index: dict[str, int]
    notes: tuple[str, ...] = ()


def name_classes(found: Sequence[str], classes: object = None, *, indices: bool = False) -> Naming:
    """Match the class keys of a source with the class names of the user.

    Keys are matched with names regardless of order, case, blanks and underscores. If no key is a name and all keys are
    numbers, they are indices into the names, from 0; a note then states this.

    Parameters
    ----------
    found : sequence of str
        Keys of the source, such as folder names.
    classes : object, default=None
        None (the keys themselves, in natural order); a list of names, which fixes the order and may hold names without
        an image; a mapping key → display name, where two keys with one name are merged; or the path of a file with one
        of these (one name per line, ``n01440764 tench`` lines, or JSON).
    indices : bool, default=False
        Whether the keys are integers, which are always indices into the names.
    """
    require_encodable(found, "the source")
    if classes is None:
        names = tuple(sorted(found, key=natural_key))
        return Naming(names, {name: i for i, name in enumerate(names)}, _twins(names))
    wanted = read_classes(classes)
    names = tuple(dict.fromkeys(wanted.values()))
    matched = {} if indices else match_names(found, wanted)
    index = {key: names.index(wanted[known]) for key, known in matched.items()}
    notes = [*_twins(names), *_merged(matched)]
    numbers = {key: number for key in found if (number := numeral(key)) is not None}
    if found and not index and all(key in numbers for key in found):
        index = {key: number for key, number in numbers.items() if number < len(names)}
        if len(set(index.values())) < len(index):
            raise InputError(f"Expected one spelling of every number among the classes, got {quoted(found)}.")
        if not indices:
            notes.append(f"the classes {quoted(found, 3)} count the given names from 0, so that 0 is '{names[0]}'")
    strangers = [key for key in found if key not in index]
    if strangers:
        counted = f" Numbers count the names from 0 to {len(names) - 1}." if strangers[0].isdecimal() else ""
        raise InputError(
            f"Expected every class of the images among the {len(names)} given class names, got {quoted(strangers)}, "
            f"which {'is' if len(strangers) == 1 else 'are'} not.{counted}{did_you_mean(strangers[0], wanted)} "
            "Rename, or give a JSON file that maps folder to class name."
        )
    without = [name for i, name in enumerate(names) if i not in set(index.values())] if found else []
    if without:
        notes.append(f"{_count(without)} of the given list without an image: {quoted(without)}")
    return Naming(names, index, tuple(notes))


def read_classes(classes: object) -> dict[str, str]:
    """Return the ``classes=`` argument as key → display name, in order; see :func:`name_classes`."""
    origin = "classes"
    if isinstance(classes, (str, Path)):
        origin = f"'{classes}'"
        classes = _read_file(Path(classes))
    if isinstance(classes, Mapping):
        pairs = list(classes.items())
    elif isinstance(classes, Iterable) and not isinstance(classes, (str, bytes, Set)):  # a set has no order
        pairs = [(name, name) for name in classes]
    else:
        raise InputError(
            f"Expected classes as a list of names, a mapping folder → name or a file, got {type(classes).__name__}."
        )
    if not all(isinstance(text, str) and text.strip() for pair in pairs for text in pair):
        raise InputError(f"Expected class names in {origin} to be non-empty text.")
    require_encodable((name for _, name in pairs), origin)
    pairs = [(key.strip(), name.strip()) for key, name in pairs]
    seen: dict[str, str] = {}
    for key, name in pairs:
        if key in seen:
            raise InputError(f"Expected every class name once in {origin}, got '{key}' twice.")
        seen[key] = name
    if not seen:
        raise InputError(f"Expected at least one class name in {origin}, got none.")
    return seen


def _read_file(path: Path) -> object:
    if path.suffix.lower() == ".json":
        return read_json(path, "a file of class names")
    text = read_text(path, "a file of class names")
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    wordnet = [_WORDNET.match(line) for line in lines]
    return {m[1]: m[2] for m in wordnet if m} if lines and all(wordnet) else lines


def distinct(names: Sequence[str]) -> tuple[str, ...]:
    """Return distinct names; later ones of equal names, such as two birds called crane, get a number."""
    counts: Counter[str] = Counter()
    found = []
    for name in names:
        counts[name] += 1
        found.append(name if counts[name] == 1 else f"{name} ({counts[name]})")
    return tuple(found)


def siblings(path: Path) -> list[str]:
    """Return the names in the folder of a path that does not exist, for suggestions."""
    try:
        return [entry.name for entry in path.absolute().parent.iterdir()]
    except OSError:
        return []


def _twins(names: Sequence[str]) -> tuple[str, ...]:
    """Return notes on names that differ only by case, blanks or underscores, which is rarely intended."""
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(normalize(name), []).append(name)
    return tuple(
        f"class names {quoted(group)} differ only by case or blanks and are kept apart; "
        f"to merge them give {argument('classes')}, a JSON file or mapping of folder → name"
        for group in groups.values()
        if len(group) > 1
    )


def _merged(matched: Mapping[str, str]) -> list[str]:
    """Return notes on keys that were matched with the same name."""
    groups: dict[str, list[str]] = {}
    for key, name in matched.items():
        groups.setdefault(name, []).append(key)
    return [f"{quoted(keys)} are taken for one class, '{name}'" for name, keys in groups.items() if len(keys) > 1]


def _count(names: Sequence[str]) -> str:
    return "1 class" if len(names) == 1 else f"{len(names)} classes"
