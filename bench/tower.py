"""Accuracy of the methods that train inside an encoder: ``python -m bench.tower [--method NAME …]``.

On the 1,797 real digits, or on any folder with one sub-folder per class. Half of the images are tested, always the same
ones; each seed draws the labeled images from the other half and everything random in a method. Methods that need no
labels get all images of that half without labels. The test labels are sealed and nothing is chosen on them. Each
method is also measured with each of its components switched off. Zero-shot classification is measured with the given
sentence and with the plain one.

Base to new: the same training on the first half of the classes, tested on each half in its own label space, with the
harmonic mean of the two. A dash marks methods that learn parameters per class and cannot classify new ones.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch

import modalign as ma
from modalign.core.errors import InputError, ModalignError
from modalign.core.features import ClassText
from modalign.core.record import plain, versions
from modalign.data.digits import DIGIT_TEMPLATES, load_digits
from modalign.data.items import Items
from modalign.data.splits.drawing import few_shot
from modalign.data.splits.protocols import base_to_new, relabel
from modalign.data.text.descriptions import DEFAULT_TEMPLATE, sentences
from modalign.encoders.base import Encoder
from modalign.evaluate.metrics import harmonic_mean, mean_interval
from modalign.evaluate.sealed import SealedLabels
from modalign.evaluate.tower_runs import nameless
from modalign.linalg.prototypes import text_prototypes
from modalign.methods import TOWER_METHODS, method_class
from modalign.methods.contract.tower import TowerMethod

TESTED = 0.5
ASKED = {"maple": 8.0, "align": 8.0, "dam": 8.0, "fair": 10.0}  # points above zero-shot

ADAMW = {"optimizer": "adamw", "weight_decay": 0.01}
PROMPTS = {"augmentation": "center", "batch_size": 16, "epochs": 20, "training": ADAMW}
SELF_TRAINED = {"augmentation": "randaugment", "epochs": 3}
SETTINGS: dict[str, dict[str, Any]] = {
    "align": PROMPTS | {"learning_rate": 0.005, "coupling": "projected", "epochs": 12},
    "coop": PROMPTS | {"learning_rate": 0.02, "words": "a photo of the digit"},
    "cocoop": PROMPTS | {"learning_rate": 0.005, "words": "a photo of the digit", "epochs": 10},
    "vpt": PROMPTS | {"learning_rate": 0.01, "length": 8},
    "upt": PROMPTS | {"learning_rate": 0.005, "depth": 3},
    "maple": PROMPTS | {"learning_rate": 0.01},
    "plot": PROMPTS | {"learning_rate": 0.02},
    "dam": PROMPTS | {"learning_rate": 0.01, "loss_weight": 1.0},
    "fair": SELF_TRAINED | {"learning_rate": 1e-3, "smallest_crop": 0.75, "largest_crop": 1.0, "momentum": 0.9},
    "lafter_like": SELF_TRAINED | {"learning_rate": 2e-4},
    "dpa_like": SELF_TRAINED | {"learning_rate": 1e-3, "fairness": 2.0},
}
"""For the tiny pair on the digits, chosen on 40 validation images per class of the half that is not tested, seed 0.

The published recipes are for CLIP: SGD at these rates hardly moves a tower of width 128 in so few steps, and mirrored
or cropped digits are other digits. Methods that are not here run as published. PLOT stays below zero-shot at every
rate tried: it compares texts with patches, and those of the tiny vision tower were never trained to agree with text.

The self-trainers learned from all 899 images of that half without labels and were compared by their accuracy on the
same ones. What held FAIR back are its crops: of 8 x 8 pixels, a square of half the side is no digit any more. Before
learning, the four of 16 that it keeps name 77 % of the images rightly with sides from 0.5 to 0.9, 87 % from 0.75 to 1,
the whole picture 92 %, one random rectangle 59 %. The momentum steadies the mean prediction of 32 images. Six epochs,
rates from 3e-4 to 3e-3, batches of 16, other factors of fairness, and strong views that are cropped, mirrored or none
were no better. DPA-like and LaFTer-like, whose labels come from such a rectangle, got 12 and 8 fits, FAIR 37; at higher
rates and after more epochs LaFTer-like collapses."""


@dataclass(frozen=True)
class Row:
    """One method or one ablation of it; accuracies in percent, ``low`` … ``high`` the 95 % interval over seeds."""

    method: str
    switched_off: str
    labels: str
    accuracies: tuple[float, ...]
    mean: float
    low: float | None
    high: float | None
    base: float | None
    new: float | None
    harmonic: float | None
    trainable: int
    fit_seconds: float
    diagnosis: dict[str, Any]


@dataclass(frozen=True)
class Task:
    """Images, their classes as sentences, and an encoder."""

    items: Items
    templates: tuple[str, ...]
    encoder: Encoder

    def text(self, names: Sequence[str]) -> ClassText:
        """The sentences of some classes and their vectors."""
        return self.encoder.embed_texts(sentences(names, self.templates), class_names=names)

    def some(self, classes: np.ndarray, indices: np.ndarray) -> Items:
        """Images of some classes, in the label space of these."""
        chosen, names = self.items.select(indices), tuple(self.items.class_names[c] for c in classes)
        return replace(chosen, labels=relabel(chosen, classes), class_names=names)


def mark(method: TowerMethod, items: Items, encoder: Encoder) -> float:
    """Percent right on sealed labels; an image that cannot be decoded counts as wrong."""
    sealed, shown = SealedLabels(items.labels), nameless(items)
    return 100 * sealed.score(method.score_images(shown, encoder).answers(shown.ids)).top1


def fitted(name: str, settings: dict[str, Any], seed: int, train: Items, task: Task) -> tuple[TowerMethod, float]:
    """The method and the processor seconds it took."""
    method = method_class(name)(**settings, random_state=seed)
    started = time.process_time()
    method.fit(train, text=task.text(train.class_names), encoder=task.encoder)
    return method, time.process_time() - started


def goes_over(method: TowerMethod, text: ClassText, encoder: Encoder) -> bool:
    """Whether what a method learned is of use for other classes."""
    try:
        method.for_classes(text, encoder)
    except InputError:
        return False
    return True


def measure(
    task: Task, name: str, off: str, settings: dict[str, Any], shots: int, seeds: Sequence[int], *, new: bool
) -> Row:
    """One row: every seed on all classes, and from base to new classes."""
    needs_labels = method_class(name).needs_labels
    everything = np.arange(len(task.items.class_names))
    accuracies, seconds, halves, first = [], [], [], None
    for seed in seeds:
        split = few_shot(task.items, shots, seed, test=TESTED)
        pool = np.concatenate([split.train, split.validation, split.unlabeled])

        def learn_from(classes: np.ndarray, few: np.ndarray, pool: np.ndarray = pool) -> Items:
            if needs_labels:
                return task.some(classes, few)
            return nameless(task.some(classes, pool[np.isin(task.items.labels[pool], classes)]))

        method, took = fitted(name, settings, seed, learn_from(everything, split.train), task)
        accuracies.append(mark(method, task.some(everything, split.test), task.encoder))
        seconds.append(took)
        first = first or method.diagnosis_
        parts = base_to_new(task.items, len(everything), split)
        tested, other = task.some(parts.base_classes, parts.base.test), task.some(parts.new_classes, parts.new_test)
        text = task.text(other.class_names)
        new = new and goes_over(method, text, task.encoder)
        if new:
            base, _ = fitted(name, settings, seed, learn_from(parts.base_classes, parts.base.train), task)
            carried = base.for_classes(text, task.encoder)
            halves.append((mark(base, tested, task.encoder), mark(carried, other, task.encoder)))
    interval = mean_interval(accuracies, bounds=(0, 100))
    several = len(accuracies) > 1
    base_mean, new_mean = np.mean(halves, axis=0).tolist() if halves else (None, None)
    labels = f"{shots} per class" if needs_labels else "none"
    return Row(
        method=name,
        switched_off=off,
        labels=labels,
        accuracies=tuple(accuracies),
        mean=interval.mean,
        low=interval.low if several else None,
        high=interval.high if several else None,
        base=base_mean,
        new=new_mean,
        harmonic=float(np.mean([harmonic_mean(*pair) for pair in halves])) if halves else None,
        trainable=first["trainable"],
        fit_seconds=float(np.mean(seconds)),
        diagnosis={key: value for key, value in first.items() if isinstance(value, (int, float))},
    )


def zero_shot(task: Task) -> Row:
    """Accuracy of the encoder without training."""
    classes = np.arange(len(task.items.class_names))
    split = few_shot(task.items, 0, 0, test=TESTED)
    parts = base_to_new(task.items, len(classes), split)

    def percent(classes: np.ndarray, indices: np.ndarray) -> float:
        items = task.some(classes, indices)
        prototypes = text_prototypes(torch.from_numpy(np.array(task.text(items.class_names).vectors)))
        features = task.encoder.embed_images(nameless(items))
        answers = (torch.from_numpy(np.array(features.vectors)).float() @ prototypes.float().T).argmax(dim=1)
        by_id = dict(zip(features.ids, answers.tolist(), strict=True))
        return 100 * SealedLabels(items.labels).score([by_id.get(f"{i:06d}", -1) for i in range(len(items))]).top1

    top1 = percent(classes, split.test)
    base, new = percent(parts.base_classes, parts.base.test), percent(parts.new_classes, parts.new_test)
    sentence = " / ".join(task.templates)
    return Row(
        f"zero-shot, “{sentence}”", "", "none", (top1,), top1, None, None, base, new, harmonic_mean(base, new), 0, 0, {}
    )


def rows(task: Task, names: Sequence[str], options: argparse.Namespace, settings: dict[str, dict]) -> Iterator[Row]:
    """Zero-shot, then every method with its ablations behind it."""
    yield zero_shot(task)
    if task.templates != (DEFAULT_TEMPLATE,):
        yield zero_shot(replace(task, templates=(DEFAULT_TEMPLATE,)))
    for name in names:
        own = settings.get(name, {}) | ({} if options.epochs is None else {"epochs": options.epochs})
        seeds = range(options.seeds)
        yield measure(task, name, "", own, options.shots, seeds, new=not options.no_new)
        for off, changes in method_class(name).ablations.items() if not options.no_ablations else ():
            yield measure(task, name, off, own | changes, options.shots, seeds, new=False)


def line(row: Row, reference: Row) -> str:
    """One row for people."""
    name = row.method if not row.switched_off else f"  {row.method}: {row.switched_off}"
    seeds = "" if row.low is None else f"{row.low:.1f} to {row.high:.1f}"
    halves = [row.base, row.new, row.harmonic]
    shown = " ".join("    –" if value is None else f"{value:5.1f}" for value in halves)
    gain = f"{row.mean - reference.mean:+5.1f}" if row.trainable else "     "
    took = f"{row.fit_seconds:6.1f} s" if row.trainable else ""
    return f"{name:52.52} {row.labels:>10} {row.mean:6.1f}  {seeds:14} {gain}  {shown} {row.trainable:>9,} {took}"


HEAD = (
    f"{'method':52} {'labels':>10} {'top-1':>6}  {'over seeds':14} {'gain':>5}  {'base':>5} {'new':>5} {'H':>5} "
    f"{'trained':>9}  a fit"
)


def verdicts(found: Sequence[Row]) -> list[str]:
    """The required gains of some methods over every zero-shot row, and whether they are reached."""
    references = [row for row in found if not row.trainable]
    told = []
    for row in found:
        if row.method in ASKED and not row.switched_off:
            for reference in references:
                gain, asked = row.mean - reference.mean, ASKED[row.method]
                reached = "reached" if gain >= asked else f"missed; at most {100 - reference.mean:.1f} are possible"
                told.append(f"{row.method}: {gain:+.1f} points on {reference.method}, asked {asked:+.1f}: {reached}")
    return told


def main(arguments: list[str] | None = None) -> int:
    """Run and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.tower", description=__doc__.split("\n\n")[0])
    parser.add_argument("--encoder", default="tiny", help="a name for modalign.load_encoder")
    parser.add_argument("--method", nargs="+", default=list(TOWER_METHODS), help=f"of {', '.join(TOWER_METHODS)}")
    parser.add_argument("--data", help="a folder with one sub-folder per class, in place of the digits")
    parser.add_argument("--template", nargs="+", help="sentences with {} for the class name")
    parser.add_argument("--shots", type=int, default=16, help="labeled images per class")
    parser.add_argument("--seeds", type=int, default=3, help="how many, from 0")
    parser.add_argument("--epochs", type=int, help="in place of every method's own")
    parser.add_argument("--published", action="store_true", help="published settings also for tiny on the digits")
    parser.add_argument("--no-ablations", action="store_true", help="the methods alone")
    parser.add_argument("--no-new", action="store_true", help="without base to new")
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    tuned = options.encoder == "tiny" and options.data is None and not options.published
    try:
        for name in options.method:
            method_class(name)
        items = load_digits() if options.data is None else ma.load_items(options.data)
        templates = tuple(options.template or (DIGIT_TEMPLATES if options.data is None else (DEFAULT_TEMPLATE,)))
        task = Task(items, templates, ma.load_encoder(options.encoder, dtype="float32"))
        found: list[Row] = []
        if not options.json:
            print(HEAD)
        for row in rows(task, options.method, options, SETTINGS if tuned else {}):
            found.append(row)
            if not options.json:
                print(line(row, found[0]), flush=True)
    except ModalignError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    told = verdicts(found)
    if options.json:
        settings = {name: SETTINGS.get(name, {}) if tuned else {} for name in options.method}
        print(json.dumps(plain({
            "arguments": vars(options), "settings": settings, "rows": [asdict(row) for row in found],
            "verdicts": told, "versions": versions(),
        }), indent=1, ensure_ascii=False))  # fmt: skip
    else:
        print("\n".join(told))
    return 0


if __name__ == "__main__":
    sys.exit(main())
