"""The main job on the embedded default: real handwritten digits and a model that has never seen one."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modalign.classifier import Classifier
from modalign.data.digits import DIGIT_TEMPLATE, load_digits
from modalign.data.prompts import sentences
from modalign.data.split import Split
from modalign.encoders import load_encoder
from modalign.evaluate.metrics import percent
from modalign.evaluate.protocol import Method, few_shot_protocol
from modalign.evaluate.runs import Run, Summary, summarise
from modalign.linalg.calibration import fit_temperature
from modalign.methods import method_class
from modalign.methods.base import VectorMethod
from modalign.record import plain

METHODS = ("zero_shot", "linear_probe", "cmm")
SHOTS = (1, 4, 16)


@dataclass(frozen=True)
class Demo:
    """What the demonstration found: every run, the table over seeds, and how long it took."""

    runs: tuple[Run, ...]
    table: tuple[Summary, ...]
    seconds: float

    @property
    def header(self) -> list[str]:
        """Columns of :attr:`rows`."""
        return ["method", "labels a class", "accuracy", "95 % interval", "seconds to fit"]

    @property
    def rows(self) -> list[list[str]]:
        """The table in words, percent."""
        return [
            [
                row.method,
                str(row.shots) if row.shots else "none",
                f"{percent(row.accuracy.mean)} %",
                f"{percent(max(0.0, row.accuracy.low))} to {percent(min(1.0, row.accuracy.high))}",
                f"{row.fit_seconds:.2f}",
            ]
            for row in self.table
        ]

    @property
    def sentence(self) -> str:
        """The outcome in one sentence."""
        best = max(self.table, key=lambda row: row.accuracy.mean)
        free = max((row for row in self.table if not row.shots), key=lambda row: row.accuracy.mean)
        return (
            f"Without a label {percent(free.accuracy.mean)} % of the digits are named right; "
            f"{best.method} with {best.shots} labels a class brings {percent(best.accuracy.mean)} %. "
            f"All of it took {self.seconds:.0f} s."
        )

    def as_dict(self) -> dict[str, Any]:
        """For machines."""
        table = [dict(zip(self.header, row, strict=True)) for row in self.rows]
        return {"table": table, "summary": plain([vars(row) for row in self.table]), "seconds": self.seconds}


def run_demo(out: str | Path = "demo-report.html", *, seeds: int = 3) -> Demo:
    """Embed the digits, run every method of the demonstration over shots and seeds, and write one HTML page.

    Mirrored views are not used: the mirror image of a digit is not that digit.

    Parameters
    ----------
    out : where the page goes.
    seeds : how many draws of the labelled images.
    """
    from modalign.report.demo import save_demo_page

    started = time.perf_counter()
    digits = load_digits()
    encoder = load_encoder("tiny")
    features = encoder.embed_images(digits)
    text = encoder.embed_texts(sentences(digits.class_names, DIGIT_TEMPLATE), class_names=digits.class_names)
    shown: dict[str, Any] = {}

    def keep(run: Run, method: Method, split: Split) -> None:
        if isinstance(method, method_class("cmm")) and run.shots == SHOTS[-1] and run.seed == 1:
            validation = features.select(split.validation)
            temperature = fit_temperature(method.scores(validation), validation.labels).value
            shown["classifier"] = Classifier(encoder, method, digits.class_names, temperature)
            shown["test"] = digits.select(split.test)

    runs = few_shot_protocol(
        features,
        text,
        {method_class(name).title: _factory(name, encoder.logit_scale) for name in METHODS},
        shots=SHOTS,
        seeds=range(1, seeds + 1),
        test=0.5,
        on_run=keep,
    )
    demo = Demo(tuple(runs), tuple(summarise(runs)), time.perf_counter() - started)
    save_demo_page(demo, shown["classifier"], text, shown["test"], out)
    return demo


def _factory(name: str, logit_scale: float | None) -> Callable[[int], Method]:
    """seed → an unfitted method that knows the encoder's temperature."""

    def build(seed: int) -> VectorMethod:
        method = method_class(name)()
        own = {"random_state": seed, "logit_scale": logit_scale}
        return method.set_params(**{k: v for k, v in own.items() if v is not None and k in method.get_params()})

    return build
