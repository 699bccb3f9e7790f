"""Official split of a data set, as listed in one of its files."""

from __future__ import annotations

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from modalign.core.errors import InputError
from modalign.data.names import quoted

_SAMPLE = 32  # number of paths used to find the folder that the paths are relative to


@dataclass(frozen=True, eq=False)
class OfficialLists:
    """Official train, validation and test lists of a data set.

    Attributes
    ----------
    origin : str
        Source of the lists, for messages: "'split_zhou_OxfordPets.json'".
    paths : tuple of str
        Paths of the n images in the file, with ``/``.
    parts : tuple of str
        "train", "validation", "test" or "unlabeled" of each; the lists follow one another in this order.
    labels : ndarray of shape (n,), int64
        Indices into ``class_names``; −1 if the file has no class for an image.
    class_names : tuple of str, default=()
        Names of the classes in label order; empty if the file has none.
    """

    origin: str
    paths: tuple[str, ...]
    parts: tuple[str, ...]
    labels: np.ndarray
    class_names: tuple[str, ...] = ()

    def find(self, ids: Sequence[str]) -> np.ndarray:
        """Return the indices of the listed images in ``ids``, (n,), −1 for missing images.

        Paths are matched by name. The lists may be relative to another folder than ``ids``: the prefix to remove from
        all paths and the one to add are those with which most images are found. Case is ignored unless two ids differ
        by case alone.

        Raises
        ------
        InputError
            If fewer than half of the smaller side are found, so the lists belong to other images.
        """
        where = _places(ids)
        best = np.full(len(self.paths), -1, dtype=np.int64)
        for cut, put in _beginnings(self.paths, ids):
            moved = [put + path.split("/", cut)[-1] if path.count("/") >= cut else "" for path in self.paths]
            shared = {name for name, n in Counter(dict(zip(self.paths, moved, strict=True)).values()).items() if n > 1}
            found = np.array([-1 if name in shared else where(name) for name in moved], dtype=np.int64)
            if len(np.unique(found)) > len(np.unique(best)):
                best = found
            if best.min() >= 0:
                break
        count, listed = len(np.unique(best[best >= 0])), len(set(self.paths))
        if not count or count < min(listed, len(ids)) / 2:
            raise InputError(
                f"Expected the images of {self.origin} among those given, found {count} of {listed}: "
                f"it contains {quoted(self.paths, 1)}, the source {quoted(ids, 1)}."
            )
        return best


def _beginnings(paths: Sequence[str], ids: Sequence[str]) -> Iterable[tuple[int, str]]:
    """(how many folders to cut from a path, what to put before the rest) by which some path becomes some id."""
    named = defaultdict(list)
    for name in ids:
        named[_plain(name.rpartition("/")[2])].append(name)
    votes: Counter[tuple[int, str]] = Counter()
    for path in paths[:: max(1, len(paths) // _SAMPLE)]:
        parts = path.split("/")
        candidates = [(_common_end(parts, name.split("/")), name) for name in named[_plain(parts[-1])]]
        most = max((common for common, _ in candidates), default=0)
        for common, name in candidates:
            if common == most:
                before = name.split("/")[:-common]
                votes[len(parts) - common, "".join(f"{folder}/" for folder in before)] += 1
    return [beginning for beginning, _ in votes.most_common(_SAMPLE)]


def _common_end(a: Sequence[str], b: Sequence[str]) -> int:
    pairs = zip(reversed(a), reversed(b), strict=False)
    return next((k for k, (x, y) in enumerate(pairs) if _plain(x) != _plain(y)), min(len(a), len(b)))


def _places(ids: Sequence[str]) -> Callable[[str], int]:
    exact = {unicodedata.normalize("NFC", name): i for i, name in enumerate(ids)}
    plain = {_plain(name): i for i, name in enumerate(ids)}
    forgiving = len(plain) == len(ids)

    def where(path: str) -> int:
        return plain.get(_plain(path), -1) if forgiving else exact.get(unicodedata.normalize("NFC", path), -1)

    return where


def _plain(name: str) -> str:
    """Compose characters and ignore case: macOS decomposes file names, and Windows ignores case."""
    return unicodedata.normalize("NFC", name).casefold()
