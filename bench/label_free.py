"""Methods without labels, on folders of every kind: ``python -m bench.label_free``.

Points against zero-shot on the same images, mean over draws: *transduction* is the answer for the images that the
method was fitted on, *new* that for the test images, which show every class. Caltech101 (68 classes with text,
CLIP ViT-B/32; the pool is the training and validation images, new images are the test split) and the handwritten digits
(the embedded encoder, half of the images each). Labels are used for evaluation only.
"""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.accuracy import Dataset, Judged, command, parse, report
from bench.label_free_tables import show, tables
from bench.machine import machine
from bench.resuming import Record
from bench.subsets import KINDS, subset
from modalign.core.features import ClassText, EncoderSpec
from modalign.core.progress import track
from modalign.data.digits import DIGIT_TEMPLATES, load_digits
from modalign.data.text.descriptions import sentences
from modalign.encoders import load_encoder
from modalign.evaluate.metrics import mean_interval
from modalign.methods import method_class
from modalign.methods.contract.parameters import parameters

METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "auto": ("auto", {}),
    "anchored_gaussian": ("anchored_gaussian", {}),
    "gpua": ("gpua", {}),
    "gpua, paper": ("gpua", {"preset": "paper"}),
    "gpua, released": ("gpua", {"preset": "official_code"}),
    "transclip": ("transclip", {}),
    "lfa": ("lfa", {}),
    "fair_vectors": ("fair_vectors", {}),
}
"""Name in the table → method and settings."""
FLOORED = ("auto", "anchored_gaussian", "gpua")  # required to be at most a point below zero-shot


@dataclass(frozen=True)
class Pool:
    """Images to fit on without labels and new images to test on; unit vectors."""

    name: str
    fitted: tuple[np.ndarray, np.ndarray]
    new: tuple[np.ndarray, np.ndarray]
    text: np.ndarray
    logit_scale: float

    def class_text(self) -> ClassText:
        """The text with the logit scale of its encoder."""
        spec = EncoderSpec(self.name, self.name, self.text.shape[1], logit_scale=self.logit_scale)
        return ClassText(self.text, tuple(map(str, range(len(self.text)))), spec=spec)


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
    required: float | None

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


def fit_and_mark(pool: Pool, method: str, kind: str, seed: int) -> dict[str, Any]:
    """The accuracies of one draw, in percent, transduction before new images, and those of zero-shot."""
    rows = subset(pool.fitted[1], len(pool.text), kind, seed)
    X, y = pool.fitted[0][rows], pool.fitted[1][rows]
    name, settings = METHODS[method]
    cls = method_class(name)
    if "random_state" in {p.name for p in parameters(cls)}:
        settings = {"random_state": seed, **settings}
    started = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that classes seem to be absent
        model = cls(**settings).fit(X, text=pool.class_text())
    seconds = time.process_time() - started
    answers = model.transduction_ if hasattr(model, "fitted_answers_") else model.predict(X)
    marked = ((np.asarray(answers).astype(int), y), (model.predict(pool.new[0]).astype(int), pool.new[1]))
    base = (((A @ pool.text.T).argmax(axis=1), b) for A, b in ((X, y), pool.new))
    return {
        "right": [100 * float(np.mean(found == true)) for found, true in marked],
        "zero_shot": [100 * float(np.mean(found == true)) for found, true in base],
        "images": len(rows),
        "seconds": seconds,
    }


def measure(pool: Pool, method: str, kind: str, seeds: int, record: Record | None = None) -> Row:
    """Fit on ``seeds`` draws of one kind of folder and compare with zero-shot; from the record what is there."""
    record, runs = record or Record(None), []
    for seed in range(seeds):
        run = {"dataset": pool.name, "method": method, "kind": kind, "seed": seed}
        figures = record.get(run)
        if figures is None:
            figures = fit_and_mark(pool, method, kind, seed)
            record.add(run, figures)
        runs.append(figures)
    base = np.array([figures["zero_shot"] for figures in runs])
    gains = np.array([figures["right"] for figures in runs]) - base
    interval = mean_interval(gains[:, 1].tolist())
    return Row(
        dataset=pool.name, method=method, kind=kind, images=float(np.mean([figures["images"] for figures in runs])),
        zero_shot=tuple(base.mean(axis=0).tolist()), transduction=float(gains[:, 0].mean()),
        new=float(gains[:, 1].mean()), worst=tuple(gains.min(axis=0).tolist()),
        new_half_width=0.0 if seeds == 1 else (interval.high - interval.low) / 2,
        seconds=float(np.mean([figures["seconds"] for figures in runs])),
        required=-1.0 if method in FLOORED else None,
    )  # fmt: skip


def cells(pools: Sequence[Pool], methods: Sequence[str], kinds: Sequence[str]) -> list[tuple[Pool, str, str]]:
    """All that is measured; with ten classes five present are half of them."""
    return [
        (pool, method, kind)
        for pool in pools
        for kind in kinds
        for method in methods
        if not (kind == "5 present" and len(pool.text) == 10)
    ]


def main(arguments: list[str] | None = None) -> int:
    parser = command("label_free", __doc__ or "")
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS), help="names of methods")
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=list(KINDS), help="kinds of folders")
    parser.add_argument("--datasets", nargs="+", default=["caltech101", "digits"], choices=["caltech101", "digits"])
    parser.add_argument("--seeds", type=int, default=3, help="draws of each folder")
    parser.add_argument("--out", type=Path, help="a Markdown file for the tables, beside which the figures are kept")
    options = parse(parser, arguments)
    record = Record(None if options.out is None else options.out.with_suffix(".jsonl"))
    pools = [{"caltech101": caltech, "digits": digits}[name]() for name in options.datasets]
    wanted = cells(pools, options.methods, options.kinds)
    rows = [measure(*cell, options.seeds, record) for cell in track(wanted, "folders and methods", unit="cells")]
    protocol = f"points against zero-shot, transduction / new images, mean of {options.seeds} draws"
    if options.out is not None:
        options.out.write_text(tables(rows, protocol, machine()), encoding="utf-8")
    return report(rows, show, options.json, protocol=protocol)


if __name__ == "__main__":
    sys.exit(main())
