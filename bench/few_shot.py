"""Methods with few labels on real CLIP features: ``python -m bench.few_shot``.

With class text (where there is some) and without, with validation images and without. With them the labels are the
shots and min(shots, 4) validation images per class, the same for every method: ``auto`` and methods that cross-validate
learn from all of them, a method that needs validation images gets the second part as that. Without them the labels are
the shots. Each fit is evaluated once on the test images. Figures: top-1 accuracy over seeds with its 95 % interval,
calibration error of ``predict_proba``, zero-shot on the same images, processor seconds of the fit, and what ``auto``
chose.

``--out FILE.md`` writes tables. The figures of every fit are kept in ``FILE.jsonl`` beside it and read again, so that
an interrupted run can be resumed; delete that file to measure again. The page's section "Studies of auto" is kept.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.accuracy import Dataset, Judged, add_cells, command, few_per_class, parse, report
from bench.few_shot_tables import tables, written_by_hand
from bench.machine import machine
from bench.resuming import Record
from modalign.core.progress import track
from modalign.evaluate.metrics import mean_interval
from modalign.linalg.calibration import expected_calibration_error
from modalign.methods import method_class
from modalign.methods.contract.parameters import parameters
from modalign.methods.contract.vectors import VectorMethod

METHODS = (
    "zero_shot", "auto", "anchored_gaussian", "gda", "cmm", "lfa", "tip_adapter", "tip_adapter_f", "linear_probe",
    "cross_modal_probe", "task_res", "clip_adapter", "lp_plus_plus", "clap",
)  # fmt: skip
FLOORED = ("auto", "anchored_gaussian", "cmm", "lfa")  # required to be at most BELOW points below zero-shot
BELOW = 0.3  # points that these may lie below zero-shot with text


@dataclass(frozen=True)
class Cell:
    """What is fitted for every seed."""

    data: Dataset
    text: bool
    validation: bool
    shots: int
    method: str
    settings: dict[str, Any] = field(default_factory=dict)

    def run(self, seed: int) -> dict[str, Any]:
        """What a fit is recorded under."""
        return {**vars(self), "data": self.data.name, "seed": seed}


@dataclass(frozen=True)
class Row(Judged):
    """One method at one number of shots; percent."""

    dataset: str
    text: bool
    validation: bool
    shots: int
    method: str
    top1: float
    half_width: float
    zero_shot: float | None
    calibration_error: float
    seconds: float
    wall: float | None  # the longest, in seconds; None where it was not measured
    chosen: str
    not_tried: str
    required: float | None

    def judged(self) -> float:
        return self.top1


def fit_and_mark(cell: Cell, seed: int) -> dict[str, Any]:
    """Fit with a seed, which also draws the validation images, and score the predictions for the test images."""
    data = cell.data
    (Xs, ys), (Xv, yv), (Xt, yt) = (data.parts[part] for part in (f"shots{cell.shots}", "val", "test"))
    T = data.text if cell.text else None
    cls = method_class(cell.method)
    settings = {"random_state": seed} if "random_state" in {p.name for p in parameters(cls)} else {}
    model: VectorMethod = cls(**settings, **cell.settings)
    held = few_per_class(yv, min(cell.shots, 4), seed) if cell.validation else np.empty(0, dtype=np.int64)
    began, started = time.perf_counter(), time.process_time()
    if model.cross_validates or model.judges_itself or not cell.validation:
        model.fit(np.concatenate([Xs, Xv[held]]), np.concatenate([ys, yv[held]]), text=T)
    else:
        model.fit(Xs, ys, text=T, validation=(Xv[held], yv[held]))
    seconds, wall = time.process_time() - started, time.perf_counter() - began
    p = torch.from_numpy(np.asarray(model.predict_proba(Xt), dtype=np.float64))
    return {
        "top1": 100 * float((p.argmax(dim=1).numpy() == yt).mean()),
        "calibration_error": 100 * expected_calibration_error(p / p.sum(dim=1, keepdim=True), torch.from_numpy(yt)),
        "seconds": seconds,
        "wall": wall,
        "chosen": str(model.diagnosis_.get("ensemble", "")),
        "not_tried": str(model.diagnosis_.get("not_tried", "")),
    }


def measure(cell: Cell, seeds: int, record: Record) -> Row:
    """The row of a cell, from the record as far as it has the runs."""
    runs = []
    for seed in range(seeds):
        figures = record.get(cell.run(seed))
        if figures is None:
            figures = fit_and_mark(cell, seed)
            record.add(cell.run(seed), figures)
        runs.append(figures)
    interval = mean_interval([run["top1"] for run in runs])
    Xt, yt = cell.data.parts["test"]
    walls = [run["wall"] for run in runs if "wall" in run]
    base = 100 * float(((Xt @ cell.data.text.T).argmax(axis=1) == yt).mean()) if cell.text else None
    return Row(
        dataset=cell.data.name, text=cell.text, validation=cell.validation, shots=cell.shots, method=cell.method,
        top1=interval.mean, half_width=0.0 if seeds == 1 else (interval.high - interval.low) / 2, zero_shot=base,
        calibration_error=float(np.mean([run["calibration_error"] for run in runs])),
        seconds=float(np.mean([run["seconds"] for run in runs])), wall=max(walls, default=None),
        chosen=runs[-1]["chosen"], not_tried=runs[-1]["not_tried"],
        required=base - BELOW if base is not None and cell.method in FLOORED else None,
    )  # fmt: skip


def show(rows: Sequence[Row], protocol: str) -> None:
    print(protocol)
    print(
        f"{'data':15} {'text':4} {'val':4} {'shots':>5}  {'method':18} {'top-1':>14} {'zero-shot':>9}  {'ECE':>5}  "
        f"{'CPU s':>6}"
    )
    for row in rows:
        base = "" if row.zero_shot is None else f"{row.zero_shot:.1f}"
        text, validation = ("yes" if given else "no" for given in (row.text, row.validation))
        print(
            f"{row.dataset:15} {text:4} {validation:4} {row.shots:>5}  {row.method:18} "
            f"{row.top1:6.2f} ± {row.half_width:5.2f} {base:>9}  {row.calibration_error:5.1f}  {row.seconds:6.2f}  "
            f"{row.chosen}"
        )


def cells(options: argparse.Namespace) -> Iterator[Cell]:
    """All that is measured; zero-shot, which learns nothing, only with text."""
    settings = {"auto": {"seconds": options.seconds}}
    for data in map(Dataset.load, options.datasets):
        for text in (True, False) if data.text is not None else (False,):
            for given, count in product(options.validation, options.shots):
                for method in options.methods:
                    if text or method != "zero_shot":
                        yield Cell(data, text, given == "few", count, method, settings.get(method, {}))


def main(arguments: list[str] | None = None) -> int:
    parser = command("few_shot", __doc__ or "")
    add_cells(parser, [1, 2, 4, 8, 16])
    parser.add_argument("--methods", nargs="+", default=list(METHODS), help="names of methods")
    parser.add_argument(
        "--validation", nargs="+", choices=["few", "none"], default=["few", "none"],
        help="with min(shots, 4) validation images per class, without any, or both",
    )  # fmt: skip
    parser.add_argument(
        "--seconds", type=float, default=20.0, help="wall time of auto; more make up for other work on the machine"
    )
    parser.add_argument("--note", default="", help="a sentence for the page, such as what else ran on the machine")
    parser.add_argument("--machine", default="", help="the machine that the records are of, where it is another one")
    parser.add_argument("--recorded", action="store_true", help="measure nothing; tables of what was measured before")
    parser.add_argument("--out", type=Path, help="a Markdown file for the tables, beside which the figures are kept")
    options = parse(parser, arguments)
    record = Record(None if options.out is None else options.out.with_suffix(".jsonl"))
    wanted = list(cells(options))
    if options.recorded:
        wanted = [cell for cell in wanted if all(record.get(cell.run(seed)) for seed in range(options.seeds))]
    rows = [measure(cell, options.seeds, record) for cell in track(wanted, "methods and shots", unit="cells")]
    protocol = (
        f"{options.seeds} {'seed' if options.seeds == 1 else 'seeds'}; labels per class are the shots and "
        f"min(shots, 4) validation images, or the shots alone; `auto` had {options.seconds:g} s of wall time"
    )
    if options.out is not None:
        where = f"{options.machine or machine()}. {options.note}".strip()
        before = options.out.read_text(encoding="utf-8") if options.out.exists() else ""
        options.out.write_text(tables(rows, protocol, where) + written_by_hand(before), encoding="utf-8")
    return report(rows, show, options.json, protocol=protocol)


if __name__ == "__main__":
    sys.exit(main())
