"""Checks for problematic class names."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np

from modalign.core.errors import InputError, argument
from modalign.core.name_matching import normalize, plural_key, quoted

_CODE = re.compile(
    r"[\d\W_]+"  # 0, 3.1, 707-320
    r"|[a-z]{0,3}[\W_]?\d+"  # n01440764, c12, X-7
    r"|(class|label|category|group|type|species|item|object|folder|sample|image|cluster)[\W_]?\d+"
    r"|\d{2,}[._-]\D.*"  # 001.Black_footed_Albatross
    r"|(?=[a-f]*\d)(?=\d*[a-f])[0-9a-f]{8,}",
    flags=re.IGNORECASE,
)
"""Names, or beginnings of names, without meaning: numbers, codes, generic words, hashes."""

Kind = Literal["same", "similar", "contained", "code", "meaning"]


@dataclass(frozen=True)
class NameWarning:
    """A possible problem with class names.

    Attributes
    ----------
    kind : {"same", "similar", "contained", "code", "meaning"}
        ``same``, ``similar``, ``contained``, ``code`` or ``meaning``.
    names : tuple of str
        The classes concerned.
    message : str
        The problem and what to do.
    """

    kind: Kind
    names: tuple[str, ...]
    message: str

    def __str__(self) -> str:
        return self.message


def lint(
    class_names: Sequence[str], vectors: np.ndarray | None = None, *, threshold: float = 0.95
) -> list[NameWarning]:
    """Find class names that are duplicates, contained in each other, or without meaning.

    Each pair is reported once, by the first match of: equal up to case, blanks and underscores; equal up to spelling
    (plural, blank, or one letter of a long word); one name contained in the other as complete words; nearly equal text
    vectors. Time linear in C, plus one C × C product with vectors.

    Parameters
    ----------
    class_names : sequence of str
        C names.
    vectors : ndarray of shape (C, d) or None, default=None
        Text vectors of the names, or (C, T, d) of several sentences each; need not have length 1.
    threshold : float, default=0.95
        Cosine above which two classes are reported as similar in meaning.
    """
    names = [normalize(name) for name in class_names]
    cosine = None if vectors is None else _cosines(np.asarray(vectors, dtype=np.float64), len(names))
    findings: dict[tuple[int, ...], NameWarning] = {}

    def report(kind: Kind, message: str, *where: int) -> None:
        shown = tuple(class_names[i] for i in where)
        findings.setdefault(tuple(sorted(where)), NameWarning(kind, shown, message.format(*shown)))

    for i, j in _sharing(names, lambda name: {name}):
        report("same", "'{0}' and '{1}' are the same name; rename one or merge the classes.", i, j)
    for i, j in _sharing(names, _spellings):
        report("similar", "'{0}' and '{1}' differ only in spelling; are they one class?", i, j)
    for short, long in _containments(names):
        report(
            "contained", "'{0}' is part of '{1}', so its sentences fit both; make the names more specific.", short, long
        )
    for i, name in enumerate(class_names):
        if _CODE.fullmatch(name.strip()):
            report("code", "'{0}' looks like a number or code, which has no meaning for a text encoder; use words.", i)
    if cosine is not None:
        for i, j in zip(*np.nonzero(np.triu(cosine > threshold, 1)), strict=True):
            message = f"mean nearly the same to this text encoder (cosine {cosine[i, j]:.2f}); describe them further."
            report("meaning", f"'{{0}}' and '{{1}}' {message}", int(i), int(j))
    return list(findings.values())


def lint_notes(class_names: Sequence[str], *, numbers: bool = False) -> tuple[str, ...]:
    """Return the findings of :func:`lint`, one note per kind, for names used in prompts.

    ``numbers``: whether the prompts are meaningful for numbers ("a photo of the digit 7").
    """
    found: dict[str, list[tuple[str, ...]]] = defaultdict(list)
    for finding in lint(class_names):
        if not (numbers and finding.kind == "code" and finding.names[0].strip().isdecimal()):
            found[finding.kind].append(finding.names)
    notes = []
    if codes := [names[0] for names in found["code"]]:
        notes.append(
            f"class names {quoted(codes, 3)} look like numbers or codes, which have no meaning for a text encoder; "
            f"name the classes in words with {argument('classes')}"
        )
    for kind, what in (("similar", "differ only in spelling"), ("contained", "are part of one another")):
        if pairs := [" and ".join(f"'{name}'" for name in names) for names in found[kind]]:
            more = f", and {len(pairs) - 3} more pairs," if len(pairs) > 3 else ""
            notes.append(f"class names {'; '.join(pairs[:3])}{more} {what}: their sentences are hardly distinguishable")
    return tuple(notes)


def _sharing(names: Sequence[str], keys: Callable[[str], set[str]]) -> Iterator[tuple[int, int]]:
    """Pairs of names that have one of their ``keys(name)`` in common."""
    groups: dict[str, list[int]] = defaultdict(list)
    for i, name in enumerate(names):
        for key in keys(name):
            groups[key].append(i)
    return (pair for members in groups.values() for pair in combinations(members, 2))


def _spellings(name: str) -> set[str]:
    """Return keys that a name shares with its misspellings: the plural key and, if it is long, itself without one
    letter.

    Two long words are one letter apart only if they agree after deleting at most one letter of each.
    """
    bare = re.sub(r"[\W_]", "", name)
    if not bare:
        return set()
    forms = {plural_key(name)}
    if len(bare) >= 8 and not re.search(r"\d", bare):
        forms |= {f"{bare[:k]}{bare[k + 1 :]}" for k in range(len(bare))} | {bare}
    return forms


def _containments(names: Sequence[str]) -> Iterator[tuple[int, int]]:
    """(short, long) where the words of one name occur in a row inside another."""
    place = defaultdict(list)
    for i, name in enumerate(names):
        place[name].append(i)
    for long, name in enumerate(names):
        words = name.split()
        parts = {" ".join(words[a:b]) for a, b in combinations(range(len(words) + 1), 2)} - {name}
        yield from ((short, long) for part in sorted(parts) for short in place.get(part, ()))


def _cosines(vectors: np.ndarray, n: int) -> np.ndarray:
    if vectors.ndim == 3:
        vectors = vectors.sum(axis=1)
    if vectors.ndim != 2 or len(vectors) != n:
        raise InputError(f"Expected text vectors of shape ({n}, d), one row per class name, got {vectors.shape}.")
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = vectors / np.where(length > 0, length, 1)
    return unit @ unit.T
