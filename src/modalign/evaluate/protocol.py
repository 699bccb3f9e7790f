"""Published evaluation protocols in which methods have no access to test labels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike

from modalign.core.errors import InputError, argument
from modalign.core.features import UNLABELED, ClassText, Features, concatenate
from modalign.core.progress import track
from modalign.core.randomness import require_seeds
from modalign.core.renaming import renamed_arguments
from modalign.data.splits.drawing import few_shot
from modalign.data.splits.split import Split
from modalign.evaluate.measuring import fingerprint_of, measured
from modalign.evaluate.runs import Run, Shots, append_run, warn_of
from modalign.evaluate.runs import Summary as Summary
from modalign.evaluate.runs import summarize as summarize
from modalign.evaluate.sealed import SealedLabels


class Method(Protocol):
    """Interface of a method; implemented by every :class:`~modalign.methods.contract.vectors.VectorMethod`.

    ``takes_labels`` (by default as ``needs_labels``), ``takes_unlabeled`` (True), ``takes_clip_features`` (False) and
    ``mirrors`` (False) are read as well, and ``fit`` gets ``clip_features=`` only where it takes one.
    """

    needs_labels: bool

    def fit(self, X: Features, *, text: ClassText | None, validation: Features | None) -> object: ...
    def predict(self, X: Features) -> ArrayLike: ...
    def get_params(self, deep: bool = ...) -> dict[str, object]: ...


@renamed_arguments(anchor="clip_features")
def few_shot_protocol(
    features: Features,
    text: ClassText | None,
    methods: Mapping[str, Callable[[int], Method]],
    *,
    shots: Sequence[Shots] = (1, 4, 16),
    seeds: Sequence[int] = (1, 2, 3),
    official: Split | None = None,
    test: float | None = None,
    mirror: Features | None = None,
    clip_features: Features | None = None,
    record: str | Path | None = None,
    on_run: Callable[[Run, Method, Split], None] | None = None,
) -> list[Run]:
    """Run every method for every number of labels and seed, and test each run once.

    For each seed and number of shots the images are drawn by :func:`~modalign.data.splits.drawing.few_shot`. A method
    gets the training rows with labels, the validation rows with labels for its own choices, and the test rows without
    labels and without file names, which often contain the class. Methods that need no labels, given text, are run
    once per seed at 0 shots. They get the training pool, or without a pool the test images, without any label (the
    record then has "transductive"). Those that can use labels are also run at all ``shots``, with the rest of the pool
    as unlabeled images.

    Parameters
    ----------
    features : Features
        All images, labeled 0…C−1.
    text : ClassText or None
        Class-text vectors in the order of the classes, or None.
    methods : mapping of str to callable
        Name → function of a seed that returns an unfitted method.
    shots : sequence of int or str
        Labeled images per class; ``"all"`` for every one less what validation takes.
    seeds : sequence of int
        Draws; also given to the methods.
    official : Split or None, default=None
        Train, validation and test lists to draw from; None draws from one pool.
    test : float or None, default=None
        Without official lists, the share of images set aside for testing; None tests on what is left over.
    mirror : Features or None, default=None
        The same images mirrored, row by row, for methods published with mirrored training images.
    clip_features : Features or None, default=None
        The same images in the language-aligned space, row by row, where ``features`` are of a vision-only encoder and
        ``text`` of that space. Methods that take ``clip_features`` get both; all others run on these alone, which is
        the only space of the two that has text.
    record : str, Path or None, default=None
        A results file; every run is added to it as soon as it is done.
    on_run : callable or None, default=None
        Called with each run, its fitted method and its split; for progress and pictures.

    Returns
    -------
    list of Run
        The runs, methods outermost, then shots, then seeds.

    Raises
    ------
    InputError
        Before anything is fitted or written.
    """
    cells = _cells(features, text, methods, shots, seeds, mirror, clip_features, record)
    fingerprint = fingerprint_of(features, text, clip_features)
    runs = []
    for name, k, seed in track(cells, "few-shot runs", unit="runs"):
        split = few_shot(features.labels, k, seed, official=official, test=test)
        method = methods[name](seed)
        run = run_once(
            name, method, features, text, split, seed,
            shots=k, mirror=mirror, clip_features=clip_features, fingerprint=fingerprint,
        )  # fmt: skip
        runs.append(run)
        if record is not None:
            append_run(record, run)
        if on_run is not None:
            on_run(run, method, split)
    warn_of(runs)
    return runs


def run_once(
    name: str,
    method: Method,
    features: Features,
    text: ClassText | None,
    split: Split,
    seed: int,
    *,
    shots: Shots,
    mirror: Features | None = None,
    clip_features: Features | None = None,
    fingerprint: str | None = None,
) -> Run:
    """Fit ``method`` on the training part of ``split``, test it once, and return the run.

    With ``shots=0`` every label is withheld, of training and validation too; the other arguments are those of
    :func:`few_shot_protocol`.
    """
    sealed = SealedLabels(features.labels[split.test])
    protocol, validation = split.description, None
    aligned = clip_features if getattr(method, "takes_clip_features", False) else None
    space = (
        features
        if clip_features is None or aligned is not None
        else replace(clip_features, labels=features.labels, class_names=features.class_names)
    )
    space = replace(space, parts=())  # the split decides what is learned from
    rest = np.union1d(split.train, split.unlabeled)
    n_train = n_unlabeled = 0
    if shots:
        rows, train = split.train, space.select(split.train)
        validation = space.select(split.validation) if len(split.validation) else None
        n_train = len(train)
        if mirror is not None and getattr(method, "mirrors", False):
            train, rows = concatenate([train, mirror.select(split.train)]), np.concatenate([rows, rows])
        if not method.needs_labels and len(split.unlabeled):  # also one that ignores them: auto shares its fit
            train = _below(train, _blind(space, split.unlabeled))
            rows = np.concatenate([rows, split.unlabeled])
            if learns_from_unlabeled(method):
                n_unlabeled = len(split.unlabeled)
                protocol += f"; with {n_unlabeled} unlabeled images"
    else:
        protocol += "" if len(rest) else "; transductive"
        rows = rest if len(rest) else split.test
        train, n_unlabeled = _blind(space, rows), len(rows)
    also = {} if aligned is None else {"clip_features": _blind(aligned, rows)}
    return measured(
        name,
        method,
        lambda: method.fit(train, text=text, validation=validation, **also),
        lambda: method.predict(_blind(space, split.test)),  # copied after the fit, which has its own copy of the rest
        split,
        sealed,
        seed=seed,
        shots=shots,
        n_train=n_train,
        n_unlabeled=n_unlabeled,
        n_validation=0 if validation is None else len(validation),
        protocol=protocol,
        features=fingerprint or fingerprint_of(features, text, clip_features),
    )


def learns_from_unlabeled(method: Method) -> bool:
    """Whether images without a label have an effect beside labeled ones."""
    return not method.needs_labels and getattr(method, "takes_unlabeled", True)


def budgets(method: Method, shots: Sequence[Shots], text: ClassText | None) -> list[Shots]:
    """Return the numbers of labels for ``method``: 0 if it needs no labels, ``shots`` if it can use labels."""
    free = not method.needs_labels and text is not None
    helped = not free or getattr(method, "takes_labels", method.needs_labels)
    return [0] * free + [k for k in shots if k and helped]


def _below(upper: Features, lower: Features) -> Features:
    """The rows of both, without names."""
    return replace(
        upper,
        vectors=np.concatenate([upper.vectors, lower.vectors]),
        labels=np.concatenate([upper.labels, lower.labels]),
        ids=(),
        tokens=None,
        parts=(),
    )


def _blind(features: Features, rows: np.ndarray) -> Features:
    """Return the images without labels and without names, since a path often contains the class."""
    return replace(features.select(rows), labels=np.full(len(rows), UNLABELED, dtype=np.int64), ids=(), quarantined=())


def _cells(
    features: Features,
    text: ClassText | None,
    methods: Mapping[str, Callable[[int], Method]],
    shots: Sequence[Shots],
    seeds: Sequence[int],
    mirror: Features | None,
    clip_features: Features | None,
    record: str | Path | None,
) -> list[tuple[str, Shots, int]]:
    """(method, shots, seed) to run, after checking all that can be checked beforehand."""
    if not (features.labels != UNLABELED).any():
        raise InputError("Expected labeled images to test on, got none; give labels, or one folder per class.")
    if text is not None and features.class_names and text.class_names != features.class_names:
        raise InputError("Expected images and class text with the same class names in the same order.")
    if mirror is not None and mirror.ids != features.ids:
        raise InputError(f"Expected {argument('mirror')} to be the same images in the same order as features.")
    if mirror is not None and clip_features is not None:
        raise InputError(
            f"Expected {argument('mirror')} or {argument('clip_features')}, got both; "
            "there are no CLIP features of mirrored images."
        )
    require_clip_features(features, clip_features, text)
    if not methods:
        raise InputError("Expected at least one method, got none.")
    require_seeds(seeds)
    if any(k != "all" and (isinstance(k, str) or k < 0) for k in shots):
        raise InputError(f"Expected shots ≥ 0 or 'all', got {list(shots)}.")
    if record is not None and not Path(record).resolve().parent.is_dir():
        raise InputError(f"Expected the folder of results file '{record}' to exist.")

    return [
        (name, k, seed) for name in methods for k in budgets(methods[name](seeds[0]), shots, text) for seed in seeds
    ]


def require_clip_features(features: Features, clip_features: Features | None, text: ClassText | None) -> None:
    """Raise unless ``clip_features`` is absent, or has the rows of ``features`` and the space of ``text``."""
    if clip_features is None:
        return
    if len(clip_features) != len(features) or clip_features.ids != features.ids:
        raise InputError(
            f"Expected {argument('clip_features')} to be the same images in the same order as features "
            f"({len(features)} rows), got {len(clip_features)} rows"
            f"{'' if len(clip_features) != len(features) else ' with other ids'}."
        )
    if text is not None and clip_features.vectors.shape[1] != text.vectors.shape[-1]:
        raise InputError(
            f"Expected {argument('clip_features')} in the space of the text ({text.vectors.shape[-1]} columns), "
            f"got {clip_features.vectors.shape[1]}; embed both with one vision-language encoder."
        )
