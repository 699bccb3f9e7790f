"""The published protocols by one call: data sets × methods × labels × seeds, resumable."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from modalign.core.arguments.argument_types import checked_arguments
from modalign.core.errors import InputError, UnknownNameError, options_of_method, require_some
from modalign.core.progress import track
from modalign.core.randomness import require_seeds
from modalign.data.text.descriptions import read_structures, resolve_templates
from modalign.evaluate.benchmark.benchmark_grid import BenchmarkCell, BenchmarkGrid, BenchmarkPlan
from modalign.evaluate.benchmark.benchmark_notes import all_names, benchmark_notes, reasons_in_words
from modalign.evaluate.benchmark.benchmark_records import BenchmarkRun
from modalign.evaluate.benchmark.benchmark_result import BenchmarkResult
from modalign.evaluate.benchmark.benchmark_source import BenchmarkSource
from modalign.evaluate.benchmark.benchmark_tasks import (
    PROTOCOLS,
    WITHOUT_LABELS,
    check_draws,
    task_keys,
)
from modalign.evaluate.benchmark.library_sets import DIGITS
from modalign.evaluate.comparison.findings import LeftOut, title
from modalign.evaluate.parallel_runs import run_in_parallel, run_on_ray
from modalign.evaluate.publications.printed_methods import refuse_printed_rows
from modalign.evaluate.result_files import check_record, sole_record
from modalign.evaluate.runs import Shots, check_count, check_shots, seeds_of, warn_of
from modalign.methods import ALL_METHODS, method_class, method_name, vector_methods
from modalign.methods.contract.parameters import check_parameters
from modalign.methods.contract.vectors import VectorMethod

SHOTS: dict[str, tuple[Shots, ...]] = {"few-shot": (1, 2, 4, 8, 16)}
ONE_BUDGET: tuple[Shots, ...] = (16,)  # of the other protocols that draw shots
SETTINGS = ("default", "paper")


class NoRunsError(InputError):
    """No method of a benchmark can be run on the data; ``reasons`` says why, as text."""

    def __init__(self, reasons: str) -> None:
        super().__init__(f"Expected at least one run that can be made, got none ({reasons}).")
        self.reasons = reasons


@checked_arguments
def run_benchmark(
    source: str | Path,
    *,
    protocol: str | Sequence[str] = "few-shot",
    methods: str | Sequence[str] = "all",
    datasets: Sequence[str] | None = None,
    shots: Shots | Sequence[Shots] | None = None,
    seeds: int | Sequence[int] = 3,
    encoder: str | None = None,
    clip_encoder: str | None = None,
    templates: str | Sequence[str] | None = None,
    descriptions: str | Path | None = None,
    settings: str = "default",
    hyperparameters: Mapping[str, Mapping[str, Any]] | None = None,
    imbalances: Sequence[float] | None = None,
    per_class: int | None = None,
    record: str | Path | None = None,
    jobs: int = 1,
    ray: str | None = None,
    device: str = "auto",
) -> BenchmarkResult:
    """Run published protocols on benchmark data sets.

    The protocols are: ``"few-shot"`` (CoOp's draws, tested on the whole test list), ``"base-to-new"`` (learned on the
    first half of the classes, each half tested in its own label space), ``"cross-dataset"`` and ``"domain"`` (learned
    on the first data set, tested on it and on those with other classes, or on its variants, which have no other
    classes), ``"long-tail"`` (base classes with exponentially falling sizes),
    ``"inductive"`` (the train list without labels) and ``"transductive"`` (the test list without labels, and answers
    for these images). Test labels are sealed. Methods on vectors and methods inside the encoder are in one grid.

    Parameters
    ----------
    source : str or Path
        See :class:`~modalign.evaluate.benchmark.benchmark_source.BenchmarkSource`.
    protocol : str or sequence of str
        One of the above, or several.
    methods : str or sequence of str
        Names; ``"all"`` for all that run on the data, ``"vectors"`` for those on vectors.
    datasets : sequence of str, optional
        Names; by default all that are found. Transfer protocols train on the first one,
        by default ImageNet where it is found.
    shots : int, str or sequence, optional
        Labeled images per class. Default: 1, 2, 4, 8 and 16 for few-shot, 16 for the others.
    seeds : int or sequence of int
        Number of draws, or their seeds.
    encoder : str, optional
        Name or folder; by default ``"tiny"`` for images, and for class names of vectors the encoder that made them.
        With two, ``"dinov2+clip"``, methods that take both spaces get both, and the others that of the class text.
    clip_encoder : str, optional
        Encoder of the class text where ``encoder`` has no text tower.
    templates : str or sequence of str, optional
        Sentences with ``{}`` for the class name, or the name of a set of them. Default: the published ones of each data
        set.
    descriptions : str or Path, optional
        Sentences of a language model, in place of the published ones or in addition to ``templates``: a JSON file, or a
        folder with one per data set, such as CuPL's or HPT's, whose structures DAM uses; see
        :func:`~modalign.data.text.sentence_files.find_sentence_files`.
    settings : str
        ``"default"``, or ``"paper"`` for the published settings of the method, the data set and the protocol.
    hyperparameters : mapping, optional
        Method → name → value, which override the settings.
    imbalances : sequence of float, optional
        Of the long-tail protocol. Default: 10, 20 and 50.
    per_class : int, optional
        Unlabeled images per class of the inductive protocol, drawn by their labels. 16 corresponds to the results that
        GPUA's paper marks with a star. Default: the whole list.
    record : str or Path, optional
        Results file (``.jsonl``). Every run is added as soon as it is done; runs in the file are not repeated. One
        call at a time may add to it.
    jobs : int
        Number of parallel processes with one thread each.
    ray : str, optional
        Address of a Ray cluster on whose machines the source and the record have the same paths; ``jobs`` tasks at a
        time run there in place of processes here. ``"local"`` starts Ray on this machine.
    device : str
        Device of the encoder.

    Returns
    -------
    BenchmarkResult
        With all runs, and a reason for each that is missing.

    Raises
    ------
    InputError
        Before anything is fitted, in one sentence.

    Examples
    --------
    >>> import modalign as ma
    >>> from modalign.testing import few_shot_problem
    >>> X, y, Xv, yv, Xt, yt, T = few_shot_problem()
    >>> path = ma.Features(Xt, labels=yt, class_names=list("abcde")).save("letters.npz")
    >>> result = ma.run_benchmark(path, methods=["gda", "linear_probe"], shots=4, seeds=2)
    >>> sorted({(row.run.method, row.run.shots) for row in result.runs})
    [('gda', 4), ('linear_probe', 4)]
    """
    protocols = (protocol,) if isinstance(protocol, str) else tuple(protocol)
    seeds = seeds_of(seeds)
    hyperparameters = {method_name(name): dict(values) for name, values in (hyperparameters or {}).items()}
    require_some(protocol=protocols, methods=methods, datasets=("all",) if datasets is None else datasets)
    _check(protocols, seeds, settings, jobs, record)
    imbalances = check_draws(protocols, imbalances, per_class)
    names = _method_names(methods, hyperparameters)
    given = BenchmarkSource(source, datasets, descriptions=descriptions)
    plan = BenchmarkPlan(
        source=str(source) if ray is None else _everywhere(source),
        datasets=given.names,
        encoder=encoder if given.of_vectors else encoder or "tiny",
        clip_encoder=clip_encoder,
        device=device,
        templates=None if templates is None else resolve_templates(templates),
        descriptions=None if descriptions is None else os.path.abspath(descriptions),
        settings=settings,
        hyperparameters=hyperparameters,
        record=None if record is None else os.path.abspath(record),
    )
    if methods == "all" and given.of_vectors:
        names = [name for name in names if issubclass(method_class(name), VectorMethod)]
    keys = [
        key
        for one in protocols
        for key in task_keys(one, given.names_for(one), _shots(one, shots), seeds, imbalances, per_class)
    ]
    cells = [cell for name in names for cell in _cells(name, keys)]
    with sole_record(plan.record):
        opened = plan.open()
        found = list(_made(plan, opened, cells, jobs, ray))
    runs = tuple(run for run in found if isinstance(run, BenchmarkRun))
    left_out = tuple(entry for entry in found if isinstance(entry, LeftOut))
    if not runs:
        raise NoRunsError(reasons_in_words(left_out))
    warn_of([run.run for run in runs], title)
    return BenchmarkResult(runs, tuple(dict.fromkeys(left_out)), benchmark_notes(opened, protocols, runs, datasets))


def _made(
    plan: BenchmarkPlan, opened: BenchmarkSource, cells: Sequence[BenchmarkCell], jobs: int, ray: str | None
) -> Iterator[BenchmarkRun | LeftOut]:
    found: Iterable[list[BenchmarkRun | LeftOut]]
    if ray is not None:
        _embed(opened, cells)
        found = run_on_ray(BenchmarkGrid, (plan,), cells, jobs, ray)
    elif jobs == 1:
        found = map(BenchmarkGrid(plan, opened).run, cells)
    else:
        _embed(opened, cells)
        found = run_in_parallel(BenchmarkGrid, (plan,), cells, jobs)
    for made in track(found, "benchmark", total=len(cells), unit="fits"):
        yield from made


def _everywhere(source: str | Path) -> str:
    """A path as processes with another working folder have it; a name such as "digits" as it is."""
    return os.path.abspath(source) if str(source) != DIGITS and os.path.exists(source) else str(source)


def _embed(opened: BenchmarkSource, cells: Sequence[BenchmarkCell]) -> None:
    """Store the vectors in the cache, so that the processes do not compute them again."""
    protocols = [cell.task.protocol for cell in cells if issubclass(method_class(cell.method), VectorMethod)]
    for name in all_names(opened, protocols):
        _ = opened.open(name).vectors  # with those of each part


def _cells(name: str, keys: Sequence[Any]) -> Iterator[BenchmarkCell]:
    """The tasks that suit a method; one that uses no labels has one task per protocol, data set and seed."""
    method: Any = method_class(name)
    needs = bool(method.needs_labels)
    helped = needs or getattr(method, "takes_labels", False)
    made = set()
    for key in keys:
        if key.protocol in WITHOUT_LABELS:
            suits = not needs
        else:
            suits = True
            if not helped:
                key = replace(key, shots=0)
        if suits and key not in made:
            made.add(key)
            yield BenchmarkCell(name, key)


def _method_names(methods: str | Sequence[str], hyperparameters: Mapping[str, Mapping[str, Any]]) -> list[str]:
    if methods == "all":
        names = list(dict.fromkeys([*vector_methods(), *ALL_METHODS]))
    elif methods == "vectors":
        names = vector_methods()
    else:
        given = (methods,) if isinstance(methods, str) else tuple(methods)
        refuse_printed_rows(given, "methods")
        names = [method_name(name) for name in given]
    for name in hyperparameters:
        if name not in names:
            raise UnknownNameError("method of this benchmark", name, names)
    for name in names:
        with options_of_method(name):
            check_parameters(method_class(name)(**hyperparameters.get(name, {})))
        if (file := hyperparameters.get(name, {}).get("structures")) is not None:
            read_structures(file, ())  # whose classes are compared with the data later
    return list(dict.fromkeys(names))


def _shots(protocol: str, shots: Shots | Sequence[Shots] | None) -> tuple[Shots, ...]:
    if shots is None:
        return SHOTS.get(protocol, ONE_BUDGET)
    shots = (shots,) if isinstance(shots, (int, str)) else tuple(shots)
    check_shots(shots)
    return shots


def _check(protocols: Sequence[str], seeds: Sequence[int], settings: str, jobs: int, record: str | Path | None) -> None:
    for protocol in protocols:
        if protocol not in PROTOCOLS:
            raise UnknownNameError("protocol", protocol, PROTOCOLS)
    require_seeds(seeds)
    if settings not in SETTINGS:
        raise UnknownNameError("settings", settings, SETTINGS)
    check_count("jobs", jobs)
    if record is not None:
        check_record(record, BenchmarkRun.from_json)
