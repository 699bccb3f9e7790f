"""Published protocols as tasks: training images, tested images and label spaces."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import inf
from numbers import Real
from typing import TYPE_CHECKING

import numpy as np

from modalign.core.errors import InputError, argument
from modalign.core.features import UNLABELED
from modalign.core.name_matching import match_names
from modalign.data.splits.drawing import few_shot, mostly_short
from modalign.data.splits.protocols import LARGEST_CLASS, base_to_new, long_tail, unlabeled
from modalign.data.splits.split import Split
from modalign.evaluate.benchmark.benchmark_set import BenchmarkSet
from modalign.evaluate.runs import Shots, check_count, labels_per_class

if TYPE_CHECKING:
    from modalign.evaluate.benchmark.benchmark_source import BenchmarkSource

PROTOCOLS = (
    "few-shot", "base-to-new", "cross-dataset", "domain", "long-tail", "inductive", "transductive"
)  # fmt: skip
WITHOUT_LABELS = ("inductive", "transductive")
TRANSFER = ("cross-dataset", "domain")
IMBALANCES = (10.0, 20.0, 50.0)


@dataclass(frozen=True)
class TaskKey:
    """Identity of a task, from which it can be drawn again.

    Attributes
    ----------
    protocol : str
        One of :data:`PROTOCOLS`.
    dataset : str
        Data set of the training images.
    shots : int or str
        Labeled images per class, ``"all"``, or 0 without labels.
    seed : int
        Of the draw and of the method.
    imbalance : float, optional
        Ratio of the largest class to the smallest, of the long-tail protocol.
    per_class : int, optional
        Unlabeled images per class of the inductive protocol; None takes the whole list.
    """

    protocol: str
    dataset: str
    shots: Shots
    seed: int
    imbalance: float | None = None
    per_class: int | None = None


@dataclass(frozen=True, eq=False)
class TestPart:
    """Images to test on, in a label space of their own.

    Attributes
    ----------
    name : str
        ``"test"``, ``"base"``, ``"new"``, or the name of the data set.
    data : BenchmarkSet
        Data set of the images.
    rows : ndarray
        Their rows.
    classes : ndarray
        The classes between which a method decides, as indices into the class names of ``data``.
    renamed : mapping of str to str
        Class names that the training data spell differently, with their spelling there.
    """

    name: str
    data: BenchmarkSet
    rows: np.ndarray
    classes: np.ndarray
    renamed: Mapping[str, str] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of :attr:`classes` as the training data spell them."""
        own = (self.data.class_names[c] for c in self.classes)
        return tuple(self.renamed.get(name, name) for name in own)


@dataclass(frozen=True, eq=False)
class BenchmarkTask:
    """Images that a method is fitted on and tested on.

    Attributes
    ----------
    key : TaskKey
        Its name.
    data : BenchmarkSet
        Training data.
    split : Split
        Rows for training, for validation, and without labels.
    classes : ndarray
        Training classes.
    parts : tuple of TestPart
        Tested parts.
    """

    key: TaskKey
    data: BenchmarkSet
    split: Split
    classes: np.ndarray
    parts: tuple[TestPart, ...]

    @property
    def text_alone(self) -> BenchmarkTask:
        """The same task with the encoder of the class text alone."""
        parts = tuple(replace(part, data=part.data.text_alone) for part in self.parts)
        return replace(self, data=self.data.text_alone, parts=parts)


def task_keys(
    protocol: str,
    datasets: Sequence[str],
    shots: Sequence[Shots],
    seeds: Sequence[int],
    imbalances: Sequence[float],
    per_class: int | None,
) -> Iterator[TaskKey]:
    """The tasks of a protocol, data sets outermost. A transfer protocol learns from the first data set only."""
    if protocol in TRANSFER and len(datasets) < 2:
        raise InputError(
            f"Expected at least two {argument('datasets')} for {argument('protocol', protocol)}: the first is for "
            f"training, the others for testing; got {', '.join(datasets) or 'none'}."
        )
    for dataset in datasets[:1] if protocol in TRANSFER else datasets:
        if protocol in WITHOUT_LABELS:
            yield from (TaskKey(protocol, dataset, 0, seed, per_class=per_class) for seed in seeds)
        elif protocol == "long-tail":
            yield from (TaskKey(protocol, dataset, "all", seed, ratio) for ratio in imbalances for seed in seeds)
        else:
            yield from (TaskKey(protocol, dataset, k, seed) for k in shots for seed in seeds)


def check_draws(protocols: Sequence[str], imbalances: Sequence[float] | None, per_class: int | None) -> Sequence[float]:
    """The imbalances; raise for arguments that are wrong or that no protocol uses."""
    for name, value, user in (("imbalances", imbalances, "long-tail"), ("per_class", per_class, "inductive")):
        if value is not None and user not in protocols:
            raise InputError(f"Expected {argument(name)} only with {argument('protocol', user)}.")
    if per_class is not None:
        check_count("per_class", per_class)
    found = IMBALANCES if imbalances is None else tuple(imbalances)
    if not found or not all(isinstance(ratio, Real) and 1 <= float(ratio) < inf for ratio in found):
        raise InputError(f"Expected {argument('imbalances')} as numbers ≥ 1, such as 10, 20 and 50, got {list(found)}.")
    return found


def draw_task(key: TaskKey, source: BenchmarkSource) -> BenchmarkTask:
    """The images of a task."""
    return _DRAWN[key.protocol](key, source)


def _few_shot(key: TaskKey, source: BenchmarkSource) -> BenchmarkTask:
    data = source.open(key.dataset)
    split = unlabeled(data.labels, official=_pool(data)) if key.shots == 0 else _drawn(data, key.shots, key.seed)
    everything = np.arange(len(data.class_names))
    return BenchmarkTask(key, data, split, everything, (TestPart("test", data, split.test, everything),))


def _base_to_new(key: TaskKey, source: BenchmarkSource) -> BenchmarkTask:
    data = source.open(key.dataset)
    return _halves(key, data, _pool(data) if key.shots == 0 else _drawn(data, key.shots, key.seed))


def _long_tail(key: TaskKey, source: BenchmarkSource) -> BenchmarkTask:
    data = source.open(key.dataset)
    drawn = replace(data, shot_lists={}, official=data.lists).draw(LARGEST_CLASS, key.seed)
    base = replace(base_to_new(data.labels, len(data.class_names), drawn).base, notes=())
    assert key.imbalance is not None
    split = long_tail(data.labels, key.imbalance, key.seed, official=base, class_names=data.class_names)
    return _halves(key, data, replace(split, test=data.official.test))


def _halves(key: TaskKey, data: BenchmarkSet, split: Split) -> BenchmarkTask:
    """Learn on the first half of the classes, test on each half in its own label space."""
    halves = base_to_new(data.labels, len(data.class_names), split)
    parts = (
        TestPart("base", data, halves.base.test, halves.base_classes),
        TestPart("new", data, halves.new_test, halves.new_classes),
    )
    return BenchmarkTask(key, data, halves.base, halves.base_classes, parts)


def _transfer(key: TaskKey, source: BenchmarkSource) -> BenchmarkTask:
    """Learn on one data set, test on it and on its targets, each with its own classes.

    Targets of the protocol ``"domain"`` have no other classes than the source, those of ``"cross-dataset"`` have.
    """
    task = _few_shot(key, source)
    targets, others = transfer_targets(key.protocol, task.data, source)
    if not targets:
        shifted = key.protocol == "domain"
        wanted = f"with no other class than '{key.dataset}'" if shifted else f"with other classes than '{key.dataset}'"
        other = next(one for one in TRANSFER if one != key.protocol)
        raise InputError(
            f"Expected a data set {wanted} for {argument('protocol', key.protocol)}, got "
            f"{', '.join(one.name for one in others)}; {argument('protocol', other)} tests on these."
        )
    parts = (
        TestPart(one.name, one, one.as_target, np.arange(len(one.class_names)), _renamed(one, task.data))
        for one in targets
    )
    return replace(task, parts=(replace(task.parts[0], name=key.dataset), *parts))


def transfer_targets(
    protocol: str, learned: BenchmarkSet, source: BenchmarkSource
) -> tuple[list[BenchmarkSet], list[BenchmarkSet]]:
    """The data sets that a transfer protocol tests on beside the one that is learned, and those that it leaves out."""
    others = [source.open(name) for name in source.names_for(protocol) if name != learned.name]
    targets: tuple[list[BenchmarkSet], list[BenchmarkSet]] = [], []
    for one in others:
        shifted = len(_renamed(one, learned)) == len(one.class_names)
        targets[shifted != (protocol == "domain")].append(one)
    return targets


def _renamed(target: BenchmarkSet, learned: BenchmarkSet) -> dict[str, str]:
    """Class names of a target with their spelling in the learned data; none if two would become one."""
    found = match_names(target.class_names, learned.class_names)
    return found if len(set(found.values())) == len(found) else {}


def _inductive(key: TaskKey, source: BenchmarkSource) -> BenchmarkTask:
    data = source.open(key.dataset)
    split = unlabeled(data.labels, official=_pool(data))
    if key.per_class is not None:
        pool = Split(split.unlabeled, test=split.test)
        drawn = few_shot(
            data.labels, key.per_class, key.seed, validation_shots=0, official=pool, class_names=data.class_names
        )
        even = f"{key.per_class} unlabeled images per class"
        _require_shots(data.labels, drawn, key.per_class, pool.train, even)
        even += ", which were drawn by their labels"
        split = replace(split, unlabeled=drawn.train, seed=key.seed, description=even, notes=drawn.notes)
    everything = np.arange(len(data.class_names))
    return BenchmarkTask(key, data, split, everything, (TestPart("test", data, split.test, everything),))


def _transductive(key: TaskKey, source: BenchmarkSource) -> BenchmarkTask:
    data = source.open(key.dataset)
    split = unlabeled(data.labels, official=data.official, transductive=True)
    everything = np.arange(len(data.class_names))
    return BenchmarkTask(key, data, split, everything, (TestPart("test", data, split.test, everything),))


def _drawn(data: BenchmarkSet, shots: Shots, seed: int) -> Split:
    """Images drawn per class."""
    split = data.draw(shots, seed)
    if shots != "all":
        _require_shots(data.labels, split, int(shots), data.lists.train, labels_per_class(shots))
    return split


def _require_shots(labels: np.ndarray, split: Split, shots: int, pool: np.ndarray, asked: str) -> None:
    """Raise if most classes of ``pool`` have fewer images than ``shots``, since that is another number of labels."""
    present = np.unique(labels[np.concatenate([pool, split.train])])
    if reason := mostly_short(labels, split, shots, present[present != UNLABELED]):
        raise InputError(f"{asked}: {reason}.")


def _pool(data: BenchmarkSet) -> Split:
    """Return the official lists; without a train list, the unlabeled images replace it."""
    return data.official if len(data.official.train) or len(data.official.unlabeled) else data.lists


_DRAWN: dict[str, Callable[[TaskKey, BenchmarkSource], BenchmarkTask]] = {
    "few-shot": _few_shot,
    "base-to-new": _base_to_new,
    "cross-dataset": _transfer,
    "domain": _transfer,
    "long-tail": _long_tail,
    "inductive": _inductive,
    "transductive": _transductive,
}
