"""Comparison of methods on the user's images with significance tests."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from modalign.core.errors import InputError, UnknownNameError, argument, require_some
from modalign.core.features import UNLABELED
from modalign.core.labels import as_objects
from modalign.core.progress import track
from modalign.core.randomness import require_seeds
from modalign.core.record import versions
from modalign.core.renaming import renamed_arguments
from modalign.data.splits.drawing import mostly_short
from modalign.data.splits.split import Split
from modalign.evaluate.comparison.class_text import TextSource
from modalign.evaluate.comparison.comparison_inputs import TEST_SHARE, ComparisonInputs, load_inputs
from modalign.evaluate.comparison.diagnostics import compute_diagnostics
from modalign.evaluate.comparison.findings import REFERENCE, LeftOut, title_of_run
from modalign.evaluate.comparison.result import MethodComparison
from modalign.evaluate.comparison.schedule import RANDOM_TEXT, Draws, GridCell, build, run_all
from modalign.evaluate.measuring import fingerprint_of
from modalign.evaluate.metrics import chance_level
from modalign.evaluate.outcome import about_encoder, about_guessing
from modalign.evaluate.protocol import budgets
from modalign.evaluate.publications.printed_methods import refuse_printed_rows
from modalign.evaluate.result_files import check_record
from modalign.evaluate.runs import Run, Shots, amount, check_shots, labels_per_class, warn_of
from modalign.methods import method_class, method_name, vector_methods
from modalign.methods.contract.parameters import check_parameters, known_parameters
from modalign.methods.contract.vectors import VectorMethod

if TYPE_CHECKING:
    from modalign.core.features import Features
    from modalign.encoders.base import Encoder

SHOTS: tuple[Shots, ...] = (0, 1, 2, 4, 8, 16, "all")


@renamed_arguments(anchor="clip_encoder")
def compare(
    source: Any,
    *,
    text: TextSource = None,
    encoder: str | Encoder | None = None,
    clip_encoder: str | Path | Encoder | Features | None = None,
    methods: str | Sequence[str] | None = None,
    shots: Shots | Sequence[Shots] = SHOTS,
    seeds: int | Sequence[int] = 3,
    test: float = TEST_SHARE,
    split: str | Path | Split | None = None,
    classes: Sequence[str] | str | Path | None = None,
    templates: str | Sequence[str] | None = None,
    descriptions: str | Path | None = None,
    hyperparameters: Mapping[str, Mapping[str, Any]] | None = None,
    ablations: bool = True,
    record: str | Path | None = None,
    jobs: int = 1,
    device: str = "auto",
) -> MethodComparison:
    """Run all applicable methods on your images, for several numbers of labels.

    All runs are tested on the same images, which are not used for fitting. For each seed and number of labels per
    class, the same training images and at most four validation images per class are drawn for all methods. Methods that
    use unlabeled images get the remaining ones without labels. Each method is also run with each of its components
    switched off, and with random class texts.

    Equal fits of several runs, such as a method and the automatic method that has it as a candidate, are computed once.
    Time and memory count in each run.

    Parameters
    ----------
    source : object
        Anything :func:`~modalign.load_items` takes; or :class:`~modalign.Features`, or a file of ``modalign embed``.
    text : ClassText, ndarray, str, Path, bool or None, default=None
        Class texts: an array, :class:`~modalign.ClassText`, or a file. None embeds the names; False omits text.
    encoder : str, Encoder or None, default=None
        Encoder of images and class names. Default: ``"tiny"`` for images, and the one that made the features.
    clip_encoder : str, Path, Encoder, Features or None, default=None
        Vision-language encoder, or its features of the same images, if ``encoder`` is vision-only. Only GPUA uses both.
    methods : str, sequence of str or None, default=None
        Names (see ``modalign list``), or one; by default all on vectors. Methods inside an encoder need images.
    shots : int or str or sequence of int or str, default=SHOTS
        Labeled images per class: numbers and ``"all"``, or one of them. 0 is without labels.
    seeds, test : int or sequence of int and float
        Number of draws, or their seeds; share of each class to test on if there is no official split.
    split : str, Path, Split or None, default=None
        A split file, or a split of the images. Default: the split of the source.
    classes, templates, descriptions : object, default=None
        As for :func:`~modalign.adapt`.
    hyperparameters, ablations : mapping and bool, default=None and True
        Method → name → value; whether every method is also run with its components switched off.
    record : str, Path or None, default=None
        Results file that every run is appended to; runs in the file are not repeated.
    jobs : int, default=1
        Number of parallel processes with one thread each. More than one increases the reported times.
    device : str, default="auto"
        Device of the encoder.

    Raises
    ------
    InputError
        The input is invalid; raised before anything is fitted.

    Warns
    -----
    UserWarning
        Warnings of the methods, each once, at the end; ``remarks`` holds them with the names of the methods.

    Examples
    --------
    >>> import modalign as ma
    >>> from modalign.testing import few_shot_problem
    >>> X, y, Xv, yv, Xt, yt, T = few_shot_problem()
    >>> result = ma.compare(ma.Features(Xt, labels=yt), text=T, methods=["zero_shot", "gda"], shots=[0, 4], seeds=2)
    >>> sorted({(row.method, row.shots) for row in result.table})
    [('gda', 0), ('gda', 4), ('zero_shot', 0)]
    """
    started = time.perf_counter()
    draws = tuple(range(1, seeds + 1)) if isinstance(seeds, int) else tuple(seeds)
    methods = (methods,) if isinstance(methods, str) else methods
    shots = (shots,) if isinstance(shots, (str, int)) else tuple(as_objects(shots))
    settings = _checked(methods, shots, draws, hyperparameters, record)
    if jobs < 1:
        raise InputError(f"Expected jobs to be at least 1, got {jobs}.")
    given = load_inputs(
        source, text=text, encoder=encoder, clip_encoder=clip_encoder, classes=classes, templates=templates,
        descriptions=descriptions, split=split, test=test, device=device,
    )  # fmt: skip
    if all(issubclass(method_class(name), VectorMethod) for name in settings):
        given = replace(given, items=None, encoder=None)  # not to be copied to other processes
    protocol = Draws(given, test)
    kept, notes = _possible(protocol, shots, draws[0])
    left_out: list[LeftOut] = []
    cells = list(_cells(given, settings, kept, draws, ablations, left_out))
    made = run_all(cells, given, settings, test, record, jobs)
    done = dict(track(made, "comparing methods", total=len(cells), unit="runs"))
    outcomes = [done[number] for number in range(len(cells))]
    runs = [run for run in outcomes if isinstance(run, Run)]
    left_out += [missing for missing in outcomes if isinstance(missing, LeftOut)]
    result = MethodComparison(tuple(runs), tuple(left_out), (*given.notes, *notes, *_about_encoder(given, runs)))
    if not result.table:
        reasons = "; ".join(f"{entry.method}: {entry.reason}" for entry in left_out[:3])
        raise InputError(f"Expected at least one method that can be run on these images, got none ({reasons}).")
    found = compute_diagnostics(result, given, protocol.split, lambda name, s: build(name, s, given, settings[name]))
    warn_of(runs, title_of_run)
    account = _record(given, protocol, draws, runs) | {"jobs": jobs}
    return replace(result, diagnostics=found, record=account | {"seconds": round(time.perf_counter() - started, 1)})


def _about_encoder(given: ComparisonInputs, runs: Sequence[Run]) -> list[str]:
    """Notes if zero-shot may be guessing, and if the encoder is not made for these images."""
    names = given.features.class_names
    alone = [run.accuracy for run in runs if run.method == REFERENCE and given.text is not None][:1]
    guessing = [note for accuracy in alone for note in about_guessing(accuracy, chance_level(len(names)))]
    encoder = "" if given.features.spec is None else given.features.spec.name
    return [*guessing, *about_encoder(encoder, names, guesses=bool(guessing))]


def _cells(
    given: ComparisonInputs,
    settings: Mapping[str, Mapping[str, Any]],
    shots: Sequence[Shots],
    seeds: Sequence[int],
    ablations: bool,
    left_out: list[LeftOut],
) -> Iterator[GridCell]:
    """Return the cells to run, methods outermost; cells that cannot run are added to ``left_out``."""
    numbers = [k for k in shots if k not in (0, "all")]
    for name in settings:
        cls = method_class(name)
        if reason := _hindrance(cls, given):
            left_out.append(LeftOut(name, None, reason))
            continue
        possible = budgets(build(name, seeds[0], given, settings[name]), shots, given.text)
        own = [k for k in possible if k in shots]
        if not own:
            advice = f"; add 0 to {argument('shots')}" if possible else ""  # which is then [0]
            left_out.append(LeftOut(name, None, f"no requested number of labels is possible{advice}"))
        yield from (GridCell(name, k, seed) for k in own for seed in seeds)
        if not ablations:
            continue
        most = max(numbers or own or [0], key=amount)
        on_text = issubclass(cls, VectorMethod) and cls.takes_text and given.text is not None
        ingredients = [*cls.ablations, *([RANDOM_TEXT] if on_text else [])]
        yield from (
            GridCell(name, k, seed, ingredient)
            for ingredient in ingredients
            for k in own
            if k in (0, most)
            for seed in seeds
        )


def _hindrance(cls: type, given: ComparisonInputs) -> str:
    """Return why a method cannot run on this data; empty if it can."""
    if not issubclass(cls, VectorMethod):
        return "" if given.items is not None else "learns inside an encoder and needs images, these are vectors"
    if cls.needs_text and given.text is None:
        return "needs class text, and there is none"
    if cls.needs_clip_features and given.clip_features is None:
        return f"needs a second, language-aligned feature space of the images ({argument('clip_encoder')})"
    return ""


def _possible(draws: Draws, shots: Sequence[Shots], seed: int) -> tuple[list[Shots], list[str]]:
    """Return the numbers of labels that the images allow, ascending, and notes on the others."""
    labels, largest = draws.given.features.labels, 0
    kept: list[Shots] = []
    notes: list[str] = []
    if not len(draws.split(0, seed).test):
        raise InputError(
            "Expected images that can be set aside to test on, got none; "
            "at least one class must have 3 labeled images, or give a split with a test list."
        )
    for k in sorted(set(shots), key=amount):
        split = draws.split(k, seed)
        pool = draws.split("all", seed)
        classes = np.unique(labels[np.concatenate([pool.train, pool.validation])])
        if k == 0:
            if draws.given.text is None:
                notes.append("no labels: left out, since no method works without labels and without class text")
                continue
        elif k == "all":
            if len(split.train) <= largest:
                notes.append(f"all labels: left out, since they are no more than {kept[-1]} per class")
                continue
        elif reason := mostly_short(labels, split, int(k), classes):
            notes.append(f"{labels_per_class(k)}: left out, since {reason}")
            continue
        kept.append(k)
        largest = len(split.train)
        notes += [f"{labels_per_class(k)}: {note}" for note in split.notes if note not in notes]
    if not kept:
        raise InputError(f"Expected numbers of labels that the images allow, got none ({'; '.join(notes)}).")
    return kept, list(dict.fromkeys(notes))


def _checked(
    methods: Sequence[str] | None,
    shots: Sequence[Shots],
    seeds: Sequence[int],
    hyperparameters: Mapping[str, Mapping[str, Any]] | None,
    record: str | Path | None,
) -> dict[str, Mapping[str, Any]]:
    """Method → its hyper-parameters, after checking what can be checked without the data."""
    refuse_printed_rows(methods or (), "methods")
    names = vector_methods() if methods is None else [method_name(name) for name in methods]
    given = {method_name(name): values for name, values in (hyperparameters or {}).items()}
    require_some(methods=names, shots=shots)
    require_seeds(seeds)
    check_shots(shots)
    for name in given:
        if name not in names:
            raise UnknownNameError("compared method", name, names)
    for name in names:
        cls = method_class(name)
        given[name] = known_parameters(cls, given.get(name, {}))
        check_parameters(cls(**given[name]))
    if record is not None:
        check_record(record, Run.from_json)
    return {name: given[name] for name in dict.fromkeys(names)}


def _record(given: ComparisonInputs, draws: Draws, seeds: Sequence[int], runs: Sequence[Run]) -> dict[str, Any]:
    """Return the record of the comparison."""
    features, split = given.features, draws.split(0, seeds[0])
    spec = {
        what: part.spec
        for what, part in (("encoder", features), ("clip_encoder", given.clip_features))
        if part is not None
    }
    return {
        **{what: "unknown" if s is None else f"{s.name} ({s.fingerprint[:12]})" for what, s in spec.items()},
        "features": fingerprint_of(features, given.text, given.clip_features),
        "classes": list(features.class_names),
        "images": {
            "all": len(features),
            "labeled": int((features.labels != UNLABELED).sum()),
            "test": len(split.test),
        },
        "sentences": [list(lines) for lines in given.text.sentences] if given.text is not None else [],
        "protocol": _protocol(given, split),
        "seeds": list(seeds),
        "asked": max((run.asked for run in runs), default=0),
        "quarantined": [asdict(q) for q in features.quarantined],
        "versions": versions(),
    }


def _protocol(given: ComparisonInputs, split: Split) -> str:
    if given.official is not None:
        return f"tested on the test list of {given.official.description or 'the given split'}"
    return split.description.partition(", ")[2]
