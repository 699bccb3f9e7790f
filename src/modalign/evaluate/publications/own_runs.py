"""Matching of the user's runs of ``modalign bench`` with printed numbers of the same method, protocol and test list.

A run matches a number if its test list has the size of the printed one. FAIR's numbers on VISSL's lists therefore do
not match runs on CoOp's, except for data sets on which both lists have the same size.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

import numpy as np

from modalign.data.splits.benchmarks import find_dataset
from modalign.evaluate.benchmark.benchmark_records import BenchmarkRun
from modalign.evaluate.metrics import Interval, harmonic_mean, mean_interval
from modalign.evaluate.publications.bench_commands import (
    assignment,
    encoders_of,
    protocol_of,
    sentences_of,
    unlabeled_per_class,
)
from modalign.evaluate.publications.gpu_hours import sets_of_average
from modalign.evaluate.publications.number_states import sets_beside
from modalign.evaluate.publications.paper_settings import SOURCE_PROTOCOLS, paper_settings
from modalign.evaluate.publications.printed_methods import BuiltMethod, built_method, switches
from modalign.evaluate.publications.published_number import Published
from modalign.methods import method_class
from modalign.methods.contract.parameters import parameters

_METRICS = ("top-1", "base", "new", "harmonic mean")
_LEARNED = {"α": "alpha", "β": "beta", "ω": "omega", "μ_IT": "mu_image_to_text", "μ_TI": "mu_text_to_image"}
"""Learned hyper-parameters of DAM by their entry of its diagnosis. λ is not one: images and texts have their own."""
BySeed = dict[int, float]


@dataclass(frozen=True)
class OwnNumber:
    """Result of the user's runs for a printed number.

    Attributes
    ----------
    value : Interval
        Over seeds, as a share, or of a learned hyper-parameter.
    encoder : str
        Encoder of the images, with that of the class text where it is another one.
    settings : str
        ``"paper"`` or ``"default"``.
    same_encoder : bool
        Whether the encoder is the printed one.
    learned : bool, default=False
        Whether it is a hyper-parameter, which is not printed in percent.
    """

    value: Interval
    encoder: str
    settings: str
    same_encoder: bool
    learned: bool = False

    def __str__(self) -> str:
        """The mean with its interval."""
        if not self.learned:
            return str(self.value)
        spread = "(one run)" if self.value.n == 1 else f"± {self.value.half_width:.4f}"
        return f"{self.value.mean:.4f} {spread}"


class OwnRuns:
    """Runs by what they measured; called with a printed number.

    Parameters
    ----------
    runs : iterable of BenchmarkRun
        Of repeated runs the last one counts.
    """

    def __init__(self, runs: Iterable[BenchmarkRun]) -> None:
        self._groups: dict[tuple[str, str, str], list[BenchmarkRun]] = {}
        for run in runs:
            self._groups.setdefault((run.encoder, run.clip_encoder, run.settings), []).append(run)

    def __call__(self, number: Published) -> OwnNumber | None:
        """Return the user's number, preferably with the printed encoder and settings; None without a match."""
        method = built_method(number.method)
        learned = number.metric in _LEARNED
        if method is None or not (learned or number.metric in _METRICS):
            return None
        found = []
        for (*encoders, settings), runs in self._groups.items():
            suiting = [run for run in runs if run.run.method == method.name and not any(_unlike(run, number, method))]
            if values := _values(suiting, number):
                interval = mean_interval(values, bounds=(-math.inf, math.inf) if learned else (0, 1))
                found.append(OwnNumber(interval, suiting[0].encoders, settings, _same(encoders, number), learned))
        return max(found, key=lambda own: (own.same_encoder, own.settings == "paper"), default=None)

    def closest(self, numbers: Iterable[Published]) -> str:
        """What the closest runs of the methods of numbers have otherwise, in words; ``""`` where there are none."""
        runs: dict[tuple[object, ...], BenchmarkRun] = {}
        for run in (run for group in self._groups.values() for run in group):
            data = (run.protocol, run.dataset, run.part, run.drawn, run.prompts, run.encoders, run.settings)
            runs[run.run.method, run.run.shots, *data] = run
        kinds = {(one.method, one.metric, one.setting, one.shots, one.backbone): one for one in numbers}
        found: list[list[str]] = []
        for number in kinds.values():
            method = built_method(number.method)
            if method is None or number.metric not in (*_METRICS, *_LEARNED):
                continue
            found += [_differences(run, number, method) for run in runs.values() if run.run.method == method.name]
        fewest: list[str] = min(found, key=len, default=[])
        return ", ".join(fewest)


def _differences(run: BenchmarkRun, number: Published, method: BuiltMethod) -> list[str]:
    """What a run has otherwise than a number and those beside it, in words."""
    tested = run.part if run.protocol in SOURCE_PROTOCOLS else run.dataset
    sets = sets_beside(number.paper, number.table) or sets_of_average(number, ())
    other = [] if tested in sets else [f"the data set {tested}"]
    return [*other, *_unlike(run, number, method)] or ["other test lists, or not all data sets and parts"]


def _unlike(run: BenchmarkRun, number: Published, method: BuiltMethod) -> Iterator[str]:
    """What a run of the method of a number has otherwise, in words; the test list aside."""
    protocol = protocol_of(number)
    imbalance = float(number.setting.rpartition(" ")[2]) if protocol == "long-tail" else None
    if (run.protocol, run.imbalance) != (protocol, imbalance):
        yield f"the protocol {run.protocol}" + ("" if run.imbalance is None else f" with {run.drawn}")
    if run.templates:
        yield "templates of your own"
    if not _same_kind_of_sentences(run.sentences, number):
        yield f"the sentences of '{run.sentences}'" if run.sentences else "no sentences of a language model"
    if not _same_kind_of_encoders(run, number):
        yield f"the encoder {run.encoders}"
    if run.per_class != unlabeled_per_class(number) or (number.shots is not None and run.run.shots != number.shots):
        yield run.drawn
    if protocol in SOURCE_PROTOCOLS and run.dataset != "imagenet":
        yield f"the source {run.dataset}"
    own = run.run.parameters
    other = {name: own.get(name) for name, value in _settings(run, method).items() if own.get(name) != value}
    if other:
        yield ", ".join(assignment(method.name, *entry) for entry in sorted(other.items()))


def _same_kind_of_sentences(source: str, number: Published) -> bool:
    """Whether sentences are from a language model where the printed ones are; CuPL's are known by their name."""
    wanted = sentences_of(number)
    if wanted is None:
        return True
    return "cupl" in source.lower() if wanted == "CUPL" else bool(source) == bool(wanted)


def _same_kind_of_encoders(run: BenchmarkRun, number: Published) -> bool:
    """Whether images are of one encoder, of several together, or of a vision-only one beside CLIP, as printed."""
    kinds = (("+" in images, bool(text)) for images, text in ((run.encoder, run.clip_encoder), encoders_of(number)))
    return number.backbone == "not stated" or len(set(kinds)) == 1


def _settings(run: BenchmarkRun, method: BuiltMethod) -> Mapping[str, Any]:
    """The values that make a run one of this row: what the papers print, or the defaults, with the row's changes."""
    shots = run.run.shots if isinstance(run.run.shots, int) else None
    printed = paper_settings(method.name, run.dataset, protocol=run.protocol, shots=shots).parameters
    own: dict[str, Any] = {p.name: p.default for p in parameters(method_class(method.name))}
    own |= (printed if run.settings == "paper" else {}) | method.changes
    return {name: own[name] for name in printed.keys() | switches(method.name).keys()}


def _values(runs: list[BenchmarkRun], number: Published) -> list[float]:
    """A value per seed, as a share; none where a data set, or a seed of it, is missing."""
    sets = sets_of_average(number, sets_beside(number.paper, number.table))
    if number.dataset == "average" and protocol_of(number) in SOURCE_PROTOCOLS:
        sets = tuple(name for name in sets if name != "imagenet")
    parts = {"harmonic mean": ("base", "new")}.get(number.metric, (number.metric,))
    means: list[BySeed] = []
    for part in parts:
        of_sets = [_part(runs, name, part, number) for name in sets]
        seeds = set.intersection(*(set(values) for values in of_sets)) if of_sets else set()
        means.append({seed: float(np.mean([values[seed] for values in of_sets])) for seed in sorted(seeds)})
    if len(means) == 1:
        return list(means[0].values())
    base, new = means
    return [harmonic_mean(base[seed], new[seed]) for seed in base if seed in new]


def _part(runs: list[BenchmarkRun], name: str, metric: str, number: Published) -> BySeed:
    """Seed → accuracy on one tested part of a data set, of test lists of the printed size, or what was learned."""
    row = find_dataset(name)
    size = None if row is None else row.test_size(number.split)
    if protocol_of(number) in SOURCE_PROTOCOLS:
        own = [run for run in runs if run.part == name]
    else:
        own = [run for run in runs if run.dataset == name]
    tested: dict[int, dict[str, int]] = {}
    for run in own:
        tested.setdefault(run.run.seed, {})[run.part] = run.run.accuracy.n
    part = metric if metric in ("base", "new") else "base" if metric in _LEARNED else None
    entry = _LEARNED.get(metric)
    return {
        run.run.seed: run.run.accuracy.top1 if entry is None else run.run.diagnosis[entry]
        for run in own
        if (part is None or run.part == part)
        and sum(tested[run.run.seed].values()) == size
        and (entry is None or entry in run.run.diagnosis)
    }


def _same(encoders: Sequence[str], number: Published) -> bool:
    """Whether the names or the folders of the encoders, of images and of text, are the printed ones."""
    known = encoders, encoders_of(number)
    ours, theirs = ([[PurePath(part).name for part in name.split("+")] for name in names] for names in known)
    return number.backbone != "not stated" and ours == theirs
