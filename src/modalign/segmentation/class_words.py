"""Names of the classes of a segmentation, and their vectors."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from modalign.core.errors import InputError, UnknownNameError, argument
from modalign.core.files import read_text
from modalign.core.labels import require_encodable
from modalign.core.name_matching import did_you_mean, normalize
from modalign.data.names import siblings
from modalign.data.text.templates import TEMPLATES
from modalign.encoders.base import Encoder
from modalign.linalg.prototypes import text_prototypes

BACKGROUND = "background"
MOST_CLASSES = 65_535
_BLOCK = 64  # names whose sentences are embedded together

Classes = str | Path | Sequence[str | Sequence[str]]
"""A file of names, ``"cat; grass, lawn; sky"``, or a list with a name or several names per class."""


@dataclass(frozen=True)
class ClassWords:
    """K classes with one name or several each.

    Attributes
    ----------
    words : tuple of tuple of str
        The names of each class.
    background : bool
        Whether class 0 is the background.
    sha256 : str
        Hash of the file of names; for lists, of the equivalent file.
    notes : tuple of str, default=()
        Messages about the names.
    """

    words: tuple[tuple[str, ...], ...]
    background: bool
    sha256: str
    notes: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The first name of each class; "background" for that."""
        shown = [words[0] for words in self.words]
        return (BACKGROUND, *shown[1:]) if self.background else tuple(shown)

    @property
    def all_words(self) -> tuple[str, ...]:
        """All M names, class by class."""
        return tuple(word for words in self.words for word in words)

    @property
    def owner(self) -> Tensor:
        """(M,) the class of each name."""
        return torch.tensor([k for k, words in enumerate(self.words) for _ in words])


def read_class_words(classes: Classes, background: Sequence[str] | str = ()) -> ClassWords:
    """Parse the names of the classes.

    Parameters
    ----------
    classes : str, Path or sequence of str or sequence of str
        A file with a class per line and commas between its names; the same in one string with semicolons between
        classes; or a list with a name or several names per class.
    background : sequence of str or str, default=()
        Names of the background; a string with commas, or a list.

    Raises
    ------
    InputError
        An empty name, a name in two classes, one class alone, or a file that cannot be read.
    """
    rows, digest = _rows(classes)
    other = _split(background, "background") if isinstance(background, str) else [*background]
    if background:
        rows = [other, *rows]
        digest = hashlib.sha256(f"{digest}\n{', '.join(map(str, other))}".encode("utf-8", "surrogatepass")).hexdigest()
    words, notes = _checked(rows, bool(background))
    return ClassWords(words, bool(background), digest, notes)


def text_vectors(encoder: Encoder, words: ClassWords, templates: Sequence[str]) -> Tensor:
    """(M, d) float32 unit vectors of the names: each the mean direction of its sentences.

    Parameters
    ----------
    encoder : Encoder
        Encoder with a text tower; its store caches the sentences.
    words : ClassWords
        Names to embed.
    templates : sequence of str
        Sentences with a place ``{}`` for the name.
    """
    names, found = words.all_words, []
    for begin in range(0, len(names), _BLOCK):
        some = names[begin : begin + _BLOCK]
        sentences = [[template.format(name) for template in templates] for name in some]
        found.append(text_prototypes(torch.from_numpy(encoder.embed_texts(sentences, some).vectors)))
    return torch.cat(found).float()


def read_templates(templates: str | Sequence[str]) -> tuple[str, ...]:
    """Sentences by the name of a set, or as they are given."""
    if isinstance(templates, str):
        if templates in TEMPLATES:
            return TEMPLATES[templates]
        if "{}" not in templates:
            raise UnknownNameError("set of templates", templates, TEMPLATES, "Or give sentences with {} for the name.")
        templates = [templates]
    found = tuple(templates)
    if not found or not all(isinstance(text, str) and text.count("{}") == 1 for text in found):
        raise InputError(f"Expected templates as sentences with one {{}} for the name each, got {found!r:.80}.")
    return found


def _rows(classes: Classes) -> tuple[list[list[str]], str]:
    """Names by class, and the digest of their file."""
    if isinstance(classes, Path) or (isinstance(classes, str) and _is_file(classes)):
        text = read_text(Path(classes), "a file of class names")
        digest = hashlib.sha256(Path(classes).read_bytes()).hexdigest()
        return [_split(line, f"'{classes}'") for line in text.splitlines() if line.strip()], digest
    if isinstance(classes, str):
        rows = [_split(part, "classes") for part in classes.strip().removesuffix(";").split(";")]
    elif isinstance(classes, Sequence):
        rows = [[row] if isinstance(row, str) else [*row] for row in classes]
    else:
        raise InputError(
            f"Expected {argument('classes')} as a file, a text with semicolons or a list, got {type(classes).__name__}."
        )
    file = "\n".join(", ".join(map(str, row)) for row in rows) + "\n"
    return rows, hashlib.sha256(file.encode("utf-8", "surrogatepass")).hexdigest()


def _is_file(text: str) -> bool:
    """Return whether a string is the path of a file; raise for a missing file if the string can only be a path."""
    if ";" in text or "\n" in text:
        return False
    path = Path(text)
    try:
        if path.is_file():
            return True
    except (OSError, ValueError):
        return False
    if path.suffix in (".txt", ".csv", ".tsv", ".json") or "/" in text:
        raise InputError(
            f"Expected a file of class names, '{text}' does not exist.{did_you_mean(path.name, siblings(path))}"
        )
    return False


def _split(text: str, where: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    if not any(names):
        raise InputError(f"Expected a name for every class in {where}, got an empty one.")
    if not all(names):
        raise InputError(f"Expected names between commas in {where}, got an empty one in '{text.strip()}'.")
    return names


def _checked(rows: list[list[str]], background: bool) -> tuple[tuple[tuple[str, ...], ...], tuple[str, ...]]:
    """The names without repetitions inside a class, and notes of these."""
    if len(rows) < 2 or len(rows) > MOST_CLASSES:
        what = f"got only '{rows[0][0]}'" if len(rows) == 1 and rows[0] else f"got {len(rows)}"
        raise InputError(
            f"Expected 2 to {MOST_CLASSES:,} classes, {what}; one class needs no segmentation: separate classes by "
            f"semicolons, or name what else the photos show with {argument('background')}."
        )
    found: list[tuple[str, ...]] = []
    owners: dict[str, int] = {normalize(BACKGROUND): 0} if background else {}
    notes = []
    for k, row in enumerate(rows):
        if not row or not all(isinstance(name, str) and name.strip() for name in row):
            raise InputError(f"Expected one or more non-empty names for class {k}, got {row!r:.80}.")
        require_encodable(row, "classes")
        own: dict[str, str] = {}
        for name in (name.strip() for name in row):
            key = normalize(name)
            if key in own:
                notes.append(f"the name '{name}' occurs twice in one class and counts once")
                continue
            if owners.get(key, k) != k:
                raise InputError(f"Expected every name in one class, got '{name}' in two; leave one out.")
            own[key] = name
            owners[key] = k
        found.append(tuple(own.values()))
    return tuple(found), tuple(notes)
