"""Methods without labels, on folders of every kind: ``python -m bench.label_free``.

Points against zero-shot on the same images, mean over draws: *transduction* is the answer for the images that the
method was fitted on, *new* that for the test images, which show every class. Caltech101 (68 classes with text,
CLIP ViT-B/32; the pool is the training and validation images, new images are the test split) and the handwritten digits
(the embedded encoder, half of the images each). Labels are read by the marking only.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass

import numpy as np

from bench.accuracy import Dataset, Judged, command, parse, report
from bench.subsets import KINDS, subset
from modalign.data.digits import DIGIT_TEMPLATES, load_digits
from modalign.data.prompts import sentences
from modalign.encoders import load_encoder
from modalign.evaluate.metrics import mean_interval
from modalign.methods import method_class
from modalign.methods.parameters import parameters
from modalign.progress import track

METHODS = ("anchored_gaussian", "gpua", "transclip", "lfa", "fair_vectors")


@dataclass(frozen=True)
class Pool:
    """Images to fit on without labels and new images to test on; unit vectors."""

    name: str
    fitted: tuple[np.ndarray, np.ndarray]
    new: tuple[np.ndarray, np.ndarray]
    text: np.ndarray
    logit_scale: float


@dataclass(frozen=True)
class Row(Judged):
    """Points against zero-shot of one method on one kind of folder: mean, and the worst draw."""

    dataset: str
    method: str
    kind: str
    images: float
    zero_shot: tuple[float, float]
    transduction: float
    new: float
    worst: tuple[float, float]
    new_half_width: float  # of the 95 % interval over draws
    seconds: float
    required: float | None = -1.0

    def judged(self) -> float:
        return min(self.transduction, self.new)


def caltech() -> Pool:
    """The shots and the validation images as the pool, the test split as new images."""
    data = Dataset.load("caltech101")
    parts = [data.parts["shots16"], data.parts["val"]]
    X, y = (np.concatenate([part[i] for part in parts]) for i in (0, 1))
    return Pool(data.name, (X, y), data.parts["test"], data.text, 100.0)


def digits() -> Pool:
    """Half of the handwritten digits each, drawn once."""
    items, encoder = load_digits(), load_encoder("tiny")
    X = encoder.embed_images(items)
    text = encoder.embed_texts(sentences(items.class_names, DIGIT_TEMPLATES), class_names=items.class_names)
    directions = text.vectors.sum(axis=1)
    order = np.random.default_rng(0).permutation(len(X))
    half, rest = order[: len(X) // 2], order[len(X) // 2 :]
    text_vectors = directions / np.linalg.norm(directions, axis=1, keepdims=True)
    vectors, labels = X.vectors, X.labels
    fitted, new = (vectors[half], labels[half]), (vectors[rest], labels[rest])
    return Pool("digits", fitted, new, text_vectors, float(X.spec.logit_scale))


def measure(pool: Pool, method: str, kind: str, seeds: int) -> Row:
    """Fit on ``seeds`` draws of one kind of folder and compare with zero-shot."""
    cls = method_class(method)
    known = {p.name for p in parameters(cls)}
    gains, bases, seconds, sizes = [], [], [], []
    for seed in range(seeds):
        rows = subset(pool.fitted[1], len(pool.text), kind, seed)
        X, y = pool.fitted[0][rows], pool.fitted[1][rows]
        settings = {"random_state": seed, "logit_scale": pool.logit_scale}
        started = time.process_time()
        model = cls(**{name: value for name, value in settings.items() if name in known})
        model.fit(X, text=pool.text)
        seconds.append(time.process_time() - started)
        answers = model.transduction_ if hasattr(model, "transduction_") else model.predict(X)
        right = np.array([np.mean(answers == y), np.mean(model.predict(pool.new[0]) == pool.new[1])])
        base = np.array(
            [np.mean((A @ pool.text.T).argmax(axis=1) == b) for A, b in ((X, y), (pool.new[0], pool.new[1]))]
        )
        gains.append(100 * (right - base))
        bases.append(100 * base)
        sizes.append(len(rows))
    mean, worst = np.mean(gains, axis=0), np.min(gains, axis=0)
    interval = mean_interval([float(gain[1]) for gain in gains])
    half_width = 0.0 if seeds == 1 else (interval.high - interval.low) / 2
    zero_shot = tuple(np.mean(bases, axis=0).tolist())
    return Row(
        dataset=pool.name, method=method, kind=kind, images=float(np.mean(sizes)), zero_shot=zero_shot,
        transduction=float(mean[0]), new=float(mean[1]), worst=tuple(worst.tolist()), new_half_width=half_width,
        seconds=float(np.mean(seconds)),
    )  # fmt: skip


def show(rows: list[Row], protocol: str) -> None:
    """One table per data set: kinds of folders down, methods across."""
    print(protocol)
    for name in dict.fromkeys(row.dataset for row in rows):
        own = [row for row in rows if row.dataset == name]
        methods = list(dict.fromkeys(row.method for row in own))
        print(f"\n{name:14} {'images':>6}  {'zero-shot':>11}  " + "  ".join(f"{m:>17}" for m in methods))
        for kind in dict.fromkeys(row.kind for row in own):
            line = {row.method: row for row in own if row.kind == kind}
            first = next(iter(line.values()))
            cells = [f"{line[m].transduction:+6.1f} / {line[m].new:+6.1f}" for m in methods]
            base = f"{first.zero_shot[0]:.1f}/{first.zero_shot[1]:.1f}"
            print(f"{kind:14} {first.images:6.0f}  {base:>11}  " + "  ".join(f"{cell:>17}" for cell in cells))
        seconds = [np.mean([row.seconds for row in own if row.method == m]) for m in methods]
        print(f"{'CPU s per fit':14} {'':6}  {'':>11}  " + "  ".join(f"{s:>17.2f}" for s in seconds))


def main(arguments: list[str] | None = None) -> int:
    parser = command("label_free", __doc__ or "")
    parser.add_argument("--methods", nargs="+", default=list(METHODS), help="names of methods")
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=list(KINDS), help="kinds of folders")
    parser.add_argument("--datasets", nargs="+", default=["caltech101", "digits"], choices=["caltech101", "digits"])
    parser.add_argument("--seeds", type=int, default=3, help="draws of each folder")
    options = parse(parser, arguments)
    pools = [{"caltech101": caltech, "digits": digits}[name]() for name in options.datasets]
    cells = [
        (pool, method, kind)
        for pool in pools
        for kind in options.kinds
        for method in options.methods
        if not (kind == "5 present" and len(pool.text) == 10)  # half of ten classes
    ]
    rows = [measure(*cell, options.seeds) for cell in track(cells, "folders and methods", unit="cells")]
    protocol = f"points against zero-shot, transduction / new images, mean of {options.seeds} draws"
    return report(rows, show, options.json, protocol=protocol)


if __name__ == "__main__":
    sys.exit(main())
