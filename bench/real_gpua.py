"""GPUA without labels on real CLIP ViT-B/32 features of Caltech101: ``python -m bench.real_gpua``.

The 68 classes that have a text vector. *Transductive* is the accuracy on the fitted images; *inductive* that on the
test images, by the map that was learned on the validation images. All fits use images and texts only, with default
settings unless the row has others. Labels are used to compute accuracies, and in one row for the true class sizes.
Subsets of the test images: ``flat`` has at most 12 of each class, ``long tail`` falls by a factor of 50 from the
largest class to the smallest, classes in random order."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench.accuracy import Dataset, Judged, command, parse, report
from modalign.evaluate.sealed import SealedLabels
from modalign.methods.gpua.gpua import GPUA

LONG_TAIL_SEEDS = (0, 1, 2)
LOSSES = ("adaptive", "triplet", "contrastive", "csls")


@dataclass(frozen=True)
class Row(Judged):
    """One fit; percent. ``required`` of the inductive accuracy where there is one, else of the transductive."""

    fitted_on: str
    images: int
    spaces: str
    settings: str
    zero_shot: float
    transductive: float
    inductive: float | None
    required: float | None
    seconds: float
    diagnosis: dict[str, Any]

    def judged(self) -> float:
        return self.transductive if self.inductive is None else self.inductive


@dataclass(frozen=True)
class Views:
    """CLIP vectors, those of the second network, and labels of one set of images."""

    clip: np.ndarray
    second: np.ndarray
    y: np.ndarray

    def visual(self, spaces: str) -> np.ndarray:
        parts = {"CLIP": [self.clip], "second": [self.second], "second + CLIP": [self.second, self.clip]}[spaces]
        return np.concatenate(parts, axis=1)

    def select(self, rows: np.ndarray) -> Views:
        return Views(self.clip[rows], self.second[rows], self.y[rows])

    def percent(self, answers: np.ndarray) -> float:
        return 100 * SealedLabels(self.y).score(answers).top1

    def zero_shot(self, text: np.ndarray) -> float:
        return self.percent((self.clip @ text.T).argmax(axis=1))


def load() -> tuple[np.ndarray, dict[str, Views]]:
    """Text (68, 512), and the two parts that have features of the second network."""
    data = Dataset.load("caltech101")
    return data.text, {
        part: Views(clip=data.parts[part][0], second=second, y=data.parts[part][1])
        for part, second in data.second.items()
    }


def at_most(y: np.ndarray, cap: int) -> np.ndarray:
    """The first ``cap`` images of each class."""
    return np.sort(np.concatenate([np.flatnonzero(y == c)[:cap] for c in np.unique(y)]))


def long_tail(y: np.ndarray, factor: float, seed: int) -> np.ndarray:
    """Class sizes fall geometrically from 1.5 times the median one."""
    rng, counts = np.random.default_rng(seed), np.bincount(y)
    K = len(counts)
    sizes = np.maximum(1, np.round(1.5 * np.median(counts) * factor ** (-np.arange(K) / (K - 1)))).astype(int)
    rows = [rng.permutation(np.flatnonzero(y == c))[:size] for c, size in zip(rng.permutation(K), sizes, strict=True)]
    return np.sort(np.concatenate(rows))


def run(
    name: str,
    views: Views,
    spaces: str,
    text: np.ndarray,
    *,
    test: Views | None = None,
    required: float | None = None,
    says: str = "",
    **settings: Any,
) -> Row:
    """Fit on ``views``, score there and on ``test``."""
    started = time.perf_counter()
    method = GPUA(random_state=0, **settings).fit(
        views.visual(spaces), text=text, clip_features=None if spaces == "CLIP" else views.clip
    )
    seconds = time.perf_counter() - started
    return Row(
        fitted_on=name,
        images=len(views.y),
        spaces=spaces,
        settings=says or ", ".join(f"{k}={v}" for k, v in settings.items()) or "default",
        zero_shot=views.zero_shot(text),
        transductive=views.percent(method.transduction_),
        inductive=None if test is None else test.percent(method.predict(test.visual(spaces))),
        required=required,
        seconds=seconds,
        diagnosis=method.diagnosis_,
    )


def measure() -> list[Row]:
    """All rows."""
    text, parts = load()
    val, test = parts["val"], parts["test"]
    flat = test.select(at_most(test.y, 12))
    true = (np.bincount(val.y) / len(val.y)).tolist()
    rows = [
        run("val", val, "CLIP", text, required=95.4),
        run("val", val, "CLIP", text, class_prior="uniform"),
        run("val", val, "CLIP", text, class_prior=true, says="the true class sizes"),
        run("val", val, "second + CLIP", text, required=95.4),
        run("flat", flat, "CLIP", text, required=95.2),
        run("flat", flat, "CLIP", text, class_prior="uniform"),
        run("flat", flat, "CLIP", text, class_prior="estimate"),
        run("flat", flat, "second + CLIP", text, required=95.2),
        run("test", test, "CLIP", text),
    ]
    for seed in LONG_TAIL_SEEDS:
        tail = test.select(long_tail(test.y, 50, seed))
        rows += [
            run(f"long tail {seed}", tail, spaces, text, required=tail.zero_shot(text) - 0.2)
            for spaces in ("CLIP", "second + CLIP")
        ]
    rows += [
        run("val", val, "CLIP", text, test=test),
        run("val", val, "second", text, test=test, required=91.0),
        run("val", val, "second + CLIP", text, test=test, required=95.0),
        run("val", val, "second + CLIP", text, test=test, says="W₀, no refinement", steps=0),
        run("val", val, "second + CLIP", text, test=test, hubs="share"),
        *(run("val", val, "second + CLIP", text, test=test, loss=loss) for loss in LOSSES),
        run("val", val, "second + CLIP", text, test=test, preset="official_code"),
    ]
    return rows


def show(rows: list[Row]) -> None:
    """Print the table."""
    heads = ("zero", "trans.", "ind.", "required")
    print(f"{'fitted on':12} {'n':>5}  {'spaces':14} {'settings':21} {'{:>6} {:>6} {:>6} {:>9}'.format(*heads)}  s")
    for row in rows:
        inductive = "" if row.inductive is None else f"{row.inductive:.2f}"
        print(
            f"{row.fitted_on:12} {row.images:5}  {row.spaces:14} {row.settings:21} {row.zero_shot:6.2f} "
            f"{row.transductive:6.2f} {inductive:>6} {row.verdict():>9}  {row.seconds:.1f}"
        )


def main(arguments: list[str] | None = None) -> int:
    """Run, print, and return 1 if a requirement was missed."""
    options = parse(command("real_gpua", __doc__), arguments)
    return report(measure(), show, options.json)


if __name__ == "__main__":
    sys.exit(main())
