"""Random draws of train, validation and test images: the few-shot protocols of the literature.

All lists are indices into the items; images with label −1 are only in ``unlabeled``. A draw depends on the order of
the images; :func:`~modalign.data.items.load_items` lists them in the same order on every machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from random import Random

import numpy as np

from modalign.core.arguments.argument_types import checked_arguments
from modalign.core.errors import InputError, argument
from modalign.core.features import UNLABELED
from modalign.core.randomness import require_seed
from modalign.data.itemset import Items
from modalign.data.splits.coop_files import read_coop_split
from modalign.data.splits.split import Split, official_split

Labels = Items | np.ndarray | Sequence[int]


@checked_arguments
def few_shot(
    labels: Labels,
    shots: int | str,
    seed: int = 0,
    *,
    validation_shots: int | None = None,
    official: Split | None = None,
    test: float | None = None,
    class_names: Sequence[str] = (),
) -> Split:
    """Draw k labeled images per class, as in CoOp.

    Python's ``random.Random(seed)`` samples ``shots`` images of each class, classes in order of first appearance; the
    same generator then samples the validation images. With ``official`` lists, the draw is identical to that of CoOp
    and Dassl: training images from the train list, validation images from the validation list, all of the test list.
    Without official lists (``official=None``) or without a validation list, validation images are drawn from the
    remaining training images; at least one per class is reserved for it if a class has two.

    Parameters
    ----------
    labels : array-like
        Class indices, −1 = unknown; or items, whose class names are then used in notes.
    shots : int or str
        Images per class; 0 for none; ``"all"`` for every image, minus a fifth for validation if there is no official
        validation list.
    seed : int, default=0
        Seed of the draw.
    validation_shots : int or None, default=None
        Validation images per class. Default: min(shots, 4) as in CoOp; with ``"all"``, the whole validation list or a
        fifth.
    official : Split or None, default=None
        Lists to draw from, for example of :func:`draw_split` or of a benchmark's split file. Default: those of the
        items, if their source marks parts.
    test : float or None, default=None
        Without official lists, the share of each class that is set aside for testing first, by a draw that does not
        depend on ``seed`` or ``shots``, so that all draws have the same test images. None: the remaining images are
        tested.
    class_names : sequence of str, default=()
        Names of the classes for notes. Default: those of the items, else the class indices.

    Returns
    -------
    Split
        Its ``unlabeled`` contains the rest of the training images and, without official lists, the images without a
        label.

    Examples
    --------
    >>> import modalign as ma
    >>> import numpy as np
    >>> y = np.repeat([0, 1], 10)
    >>> split = ma.few_shot(y, shots=2, seed=0, test=0.5)
    >>> y[split.train]
    array([0, 0, 1, 1])
    """
    require_seed(seed, "seed")
    y, names = label_array(labels)
    names = tuple(class_names) or names
    official = official_lists(labels, official)
    if shots != "all" and (isinstance(shots, (bool, str)) or int(shots) != shots or shots < 0):
        raise InputError(f"Expected shots as a number ≥ 0 or 'all', got {shots!r}.")
    if validation_shots is not None and validation_shots < 0:
        raise InputError(f"Expected {argument('validation_shots')} as a number ≥ 0, got {validation_shots!r}.")
    if official is not None and test is not None:
        raise InputError(f"Expected {argument('test')} only without official lists; those have a test list.")
    wanted = validation_shots
    if wanted is None and shots != "all":
        wanted = min(int(shots), 4)
    rng = Random(seed)
    described = "all images" if shots == "all" else f"{shots} shots per class"
    if official is not None and (len(official.validation) or wanted == 0):
        train, short = _sample(y, official.train, shots, rng)
        validation, _ = _sample(y, official.validation, "all" if wanted is None else wanted, rng)
    else:
        if official is not None:
            pool = official.train
        elif test is not None:
            fixed, pool = _set_aside(y, test, np.flatnonzero(y != UNLABELED))
        else:
            pool = np.flatnonzero(y != UNLABELED)
        train, validation, short = _share(y, pool, shots, wanted, rng)
    notes = shortage(short, shots, names)
    if official is not None:
        rest = np.setdiff1d(np.concatenate([official.train, official.unlabeled]), np.concatenate([train, validation]))
        description = f"{described} from the official lists"
        return Split(train, validation, official.test, rest, seed, description, (*official.notes, *notes))
    rest = np.setdiff1d(pool, np.concatenate([train, validation]))
    nameless = np.flatnonzero(y == UNLABELED)
    if test is None:
        return Split(train, validation, rest, nameless, seed, f"{described}, tested on what is left over", notes)
    description = f"{described}, tested on a fixed {test:.0%} of every class"
    return Split(train, validation, fixed, np.union1d(rest, nameless), seed, description, notes)


def with_test(labels: Labels, official: Split, share: float) -> Split:
    """Add a test list to official lists without one, from a share of each class of the train list."""
    if len(official.test):
        return official
    y, _ = label_array(labels)
    test, train = _set_aside(y, share, official.train)
    return replace(
        official, train=train, test=test, description=f"{official.description}, {share:.0%} of it to test on"
    )


def draw_split(labels: Labels, *, train: float = 0.5, validation: float = 0.2, seed: int = 0) -> Split:
    """Divide each class into train, validation and test lists by shares (CoOp: 50, 20, 30 %), as official lists.

    Small classes get one image for training, then one for validation, then one for testing.
    """
    y, _ = label_array(labels)
    if not (0 < train <= 1 and 0 <= validation <= 1 and train + validation <= 1 + 1e-9):
        raise InputError(f"Expected shares with train + validation ≤ 1, got {train} and {validation}.")
    require_seed(seed, "seed")
    rng = Random(seed)
    parts: tuple[list[int], list[int], list[int]] = ([], [], [])
    share = (train, validation, max(0.0, 1 - train - validation))
    for group in by_class(y, np.flatnonzero(y != UNLABELED)).values():
        rng.shuffle(group)
        counts = _counts(len(group), share)
        for part, count in zip(parts, counts, strict=True):
            part += group[:count]
            del group[:count]
    description = f"{train:.0%} / {validation:.0%} / {share[2]:.0%} of every class"
    learned, validated, tested = map(np.sort, parts)
    return Split(learned, validated, tested, np.flatnonzero(y == UNLABELED), seed, description)


def official_lists(labels: Labels, official: Split | None) -> Split | None:
    """Return the lists to draw from: those passed, else those of the source, whose test images are never drawn."""
    return official_split(labels) if official is None and isinstance(labels, Items) else official


def mostly_short(labels: np.ndarray, split: Split, shots: int, classes: np.ndarray) -> str:
    """Return why a draw is not one of ``shots`` images per class: most classes have fewer; empty if it is one.

    Parameters
    ----------
    labels : ndarray of shape (n,)
        Class of each image.
    split : Split
        The draw.
    shots : int
        Images per class that were requested.
    classes : ndarray
        Classes that have an image to learn from.
    """
    drawn = np.bincount(labels[split.train], minlength=int(classes.max(initial=0)) + 1)[classes]
    few = int((drawn < shots).sum())
    return f"{few} of {len(classes)} classes have fewer than {shots} to learn from" if few > len(classes) / 2 else ""


def label_array(labels: Labels) -> tuple[np.ndarray, tuple[str, ...]]:
    """One integer per image, −1 where unknown, and the class names if there are any."""
    y = np.asarray(labels.labels if isinstance(labels, Items) else labels)
    if y.ndim != 1 or (y.size and not np.issubdtype(y.dtype, np.integer)):
        raise InputError(f"Expected labels as one integer per image, got {y.dtype} of shape {y.shape}.")
    if y.size and y.min() < UNLABELED:
        raise InputError(f"Expected labels ≥ 0, or −1 for unlabeled, got {y.min()}.")
    return y.astype(np.int64), labels.class_names if isinstance(labels, Items) else ()


def by_class(y: np.ndarray, indices: np.ndarray) -> dict[int, list[int]]:
    """Indices of every class, classes in order of first appearance among ``indices``."""
    groups: dict[int, list[int]] = {}
    for i in indices.tolist():
        if y[i] != UNLABELED:
            groups.setdefault(int(y[i]), []).append(i)
    return groups


def _sample(y: np.ndarray, pool: np.ndarray, shots: int | str, rng: Random) -> tuple[np.ndarray, dict[int, int]]:
    """Dassl's draw: ``shots`` of every class of ``pool``, all of a class that has fewer (without a draw)."""
    drawn: list[int] = []
    short: dict[int, int] = {}
    for label, group in by_class(y, pool).items():
        if shots == "all" or len(group) < int(shots):
            drawn += group
            if shots != "all":
                short[label] = len(group)
        else:
            drawn += rng.sample(group, int(shots))
    return np.array(drawn, dtype=np.int64), short


def _share(
    y: np.ndarray, pool: np.ndarray, shots: int | str, wanted: int | None, rng: Random
) -> tuple[np.ndarray, np.ndarray, dict[int, int]]:
    """Draw training and then validation images from one pool; training leaves the minimum for validation."""
    train: list[int] = []
    left: list[list[int]] = []
    short: dict[int, int] = {}
    for label, group in by_class(y, pool).items():
        most = len(group) - _reserve(len(group), shots, wanted)
        drawn = rng.sample(group, most if shots == "all" else min(int(shots), most))
        if shots != "all" and len(drawn) < int(shots):
            short[label] = len(drawn)
        train += drawn
        chosen = set(drawn)
        left.append([i for i in group if i not in chosen])
    validation: list[int] = []
    for group in left:
        validation += rng.sample(group, len(group) if wanted is None else min(wanted, len(group)))
    return np.array(train, dtype=np.int64), np.array(validation, dtype=np.int64), short


def _reserve(n: int, shots: int | str, wanted: int | None) -> int:
    """Return how many of n images training must leave for validation: one, or with all shots the requested number."""
    if wanted is None:
        return max(1, round(n / 5)) if n > 1 else 0
    return min(wanted, n // 2 if shots == "all" else n - 1, n if shots == "all" else 1)


def _set_aside(y: np.ndarray, share: float, pool: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(test, rest): a fixed share of every class of ``pool``, but never so much that fewer than two images are left."""
    if not 0 <= share < 1:
        raise InputError(f"Expected test as a share in [0, 1), got {share}.")
    rng = Random("modalign test")  # not the user's seed: every draw is tested on the same images
    test: list[int] = []
    for group in by_class(y, pool).values():
        count = min(max(1, round(share * len(group))), len(group) - 2) if share else 0
        test += rng.sample(group, max(0, count))
    fixed = np.sort(np.array(test, dtype=np.int64))
    return fixed, np.setdiff1d(pool, fixed)


def _counts(n: int, share: tuple[float, float, float]) -> tuple[int, int, int]:
    """n images by shares, where every part with a share gets one before any gets two, in the order of the parts."""
    counts = [0, 0, 0]
    for part in range(3):
        counts[part] = min(1 if share[part] > 1e-9 else 0, n - sum(counts))
    goal = [s * n for s in share]
    while sum(counts) < n:
        behind = max((p for p in range(3) if share[p] > 1e-9), key=lambda p: (goal[p] - counts[p], -p))
        counts[behind] += 1
    return counts[0], counts[1], counts[2]


def shortage(
    short: dict[int, int], wanted: int | str, names: tuple[str, ...], kind: str = "training"
) -> tuple[str, ...]:
    """A note on classes, as label → number of images, that have fewer images of a kind than wanted."""
    if not short:
        return ()
    shown = [f"{names[label] if names else label} ({count})" for label, count in list(short.items())[:5]]
    more = f" and {len(short) - 5} more" if len(short) > 5 else ""
    subject = "1 class has" if len(short) == 1 else f"{len(short)} classes have"
    return (f"{subject} fewer than {wanted} {kind} images: {', '.join(shown)}{more}",)


__all__ = ["Split", "draw_split", "few_shot", "official_split", "read_coop_split", "with_test"]
