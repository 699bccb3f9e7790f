"""Methods with few labels on real CLIP features: ``python -m bench.few_shot``.

The labels are the shots and min(shots, 4) validation images per class, the same for every method. ``auto`` and methods
that cross-validate learn from all of them; a method that needs validation images gets the second part as that. With
class text (where there is some) and without. Test images are marked once per fit. Columns: top-1 accuracy over seeds
with its 95 % interval, calibration error of ``predict_proba``, zero-shot on the same images, processor seconds of the
fit, and what ``auto`` chose.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass

import numpy as np
import torch

from bench.accuracy import Dataset, Judged, add_cells, command, few_per_class, parse, report
from modalign.evaluate.metrics import mean_interval
from modalign.linalg.calibration import expected_calibration_error
from modalign.methods import method_class
from modalign.methods.base import VectorMethod
from modalign.methods.parameters import parameters
from modalign.progress import track

METHODS = ("auto", "anchored_gaussian", "cmm", "lfa", "tip_adapter_f", "linear_probe", "zero_shot")
BELOW = 0.3  # points that a method with text may lie below zero-shot


@dataclass(frozen=True)
class Row(Judged):
    """One method at one number of shots; percent."""

    dataset: str
    text: bool
    shots: int
    method: str
    top1: float
    half_width: float
    zero_shot: float | None
    calibration_error: float
    seconds: float
    chosen: str
    required: float | None

    def judged(self) -> float:
        return self.top1


def measure(data: Dataset, shots: int, method: str, seeds: int, *, text: bool) -> Row:
    """Fit for every seed, which draws the validation images, and mark the answers for the test images."""
    (Xs, ys), (Xv, yv), (Xt, yt) = (data.parts[part] for part in (f"shots{shots}", "val", "test"))
    T = data.text if text else None
    cls = method_class(method)
    merits, errors, seconds, chosen = [], [], [], ""
    for seed in range(seeds):
        held = few_per_class(yv, min(shots, 4), seed)
        settings = {"random_state": seed} if "random_state" in {p.name for p in parameters(cls)} else {}
        model: VectorMethod = cls(**settings)
        started = time.process_time()
        if model.cross_validates or model.judges_itself:
            model.fit(np.concatenate([Xs, Xv[held]]), np.concatenate([ys, yv[held]]), text=T)
        else:
            model.fit(Xs, ys, text=T, validation=(Xv[held], yv[held]))
        seconds.append(time.process_time() - started)
        p = torch.from_numpy(np.asarray(model.predict_proba(Xt), dtype=np.float64))
        merits.append(100 * float((p.argmax(dim=1).numpy() == yt).mean()))
        errors.append(100 * expected_calibration_error(p / p.sum(dim=1, keepdim=True), torch.from_numpy(yt)))
        chosen = str(model.diagnosis_.get("ensemble", ""))
    interval = mean_interval(merits)
    base = None if T is None else 100 * float(((Xt @ T.T).argmax(axis=1) == yt).mean())
    return Row(
        dataset=data.name, text=text, shots=shots, method=method, top1=interval.mean,
        half_width=0.0 if seeds == 1 else (interval.high - interval.low) / 2, zero_shot=base,
        calibration_error=float(np.mean(errors)), seconds=float(np.mean(seconds)), chosen=chosen,
        required=base - BELOW if base is not None and method in ("auto", "anchored_gaussian", "cmm", "lfa") else None,
    )  # fmt: skip


def show(rows: list[Row], protocol: str) -> None:
    print(protocol)
    print(
        f"{'data':15} {'text':4} {'shots':>5}  {'method':18} {'top-1':>14} {'zero-shot':>9}  {'ECE':>5}  {'CPU s':>6}"
    )
    for row in rows:
        base = "" if row.zero_shot is None else f"{row.zero_shot:.1f}"
        print(
            f"{row.dataset:15} {'yes' if row.text else 'no':4} {row.shots:>5}  {row.method:18} "
            f"{row.top1:6.2f} ± {row.half_width:5.2f} {base:>9}  {row.calibration_error:5.1f}  {row.seconds:6.2f}  "
            f"{row.chosen}"
        )


def main(arguments: list[str] | None = None) -> int:
    parser = command("few_shot", __doc__ or "")
    add_cells(parser, [1, 2, 4, 8, 16])
    parser.add_argument("--methods", nargs="+", default=list(METHODS), help="names of methods")
    options = parse(parser, arguments)
    cells = [
        (data, shots, method, with_text)
        for data in map(Dataset.load, options.datasets)
        for with_text in ([True, False] if data.text is not None else [False])
        for shots in options.shots
        for method in options.methods
        if with_text or method != "zero_shot"
    ]
    rows = [
        measure(data, shots, method, options.seeds, text=with_text)
        for data, shots, method, with_text in track(cells, "methods and shots", unit="cells")
    ]
    return report(rows, show, options.json, protocol=f"shots + min(shots, 4) labels per class, {options.seeds} seeds")


if __name__ == "__main__":
    sys.exit(main())
