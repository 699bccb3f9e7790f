"""The page of a benchmark: what is compared is comparable, and no name covers another."""

from __future__ import annotations

import re
from dataclasses import replace
from html import unescape
from pathlib import Path

import numpy as np
import pytest

from modalign.evaluate.benchmark.benchmark_records import BenchmarkRun
from modalign.evaluate.benchmark.benchmark_result import BenchmarkResult, places_once
from modalign.evaluate.metrics import Accuracy
from modalign.evaluate.runs import Run
from modalign.report.benchmark_page import CURVES, save_benchmark_page
from modalign.report.papers.sweeps import MethodCost, cost_bubbles

METHODS = [
    "zero_shot", "linear_probe", "cmm", "lfa", "tip_adapter", "tip_adapter_f", "cross_modal_probe", "wise_ft", "gda",
    "task_res", "clip_adapter",
]  # fmt: skip


def run(method: str, accuracy: float, shots: int, protocol: str = "few-shot", part: str = "test") -> BenchmarkRun:
    own = Run(method, shots, 1, Accuracy(accuracy, 0, 1, 50), 1.0, 1.0, 16, 4, "drawn", {}, {}, "f", "t", 1, {})
    return BenchmarkRun(protocol, "digits", part, "tiny", "default", None, None, False, accuracy, own)


def written(runs: list[BenchmarkRun], folder: Path) -> str:
    return unescape(save_benchmark_page(BenchmarkResult(tuple(runs)), folder / "page.html").read_text("utf-8"))


def sections(page: str) -> dict[str, str]:
    parts = re.split(r"<h2[^>]*>", page)[1:]
    return {part.partition("</h2>")[0]: part for part in parts}


def test_a_figure_of_many_methods_has_the_best_ones_and_zero_shot(tmp_path: Path) -> None:
    few = [run(name, 0.5 + 0.01 * i + 0.001 * shots, shots) for i, name in enumerate(METHODS[1:]) for shots in (1, 16)]
    page = sections(written([run("zero_shot", 0.4, 0), *few], tmp_path))["Few labels"]
    assert f"zero-shot and the {CURVES} methods with the highest accuracy" in page
    described = re.search(r"Accuracy by labeled images per class for ([^;]+);", page)
    assert described is not None
    assert described[1].split(", ") == [
        "Zero-shot CLIP", "Linear Feature Alignment", "Tip-Adapter", "Tip-Adapter-F", "Cross-modal linear probe",
        "WiSE-FT", "GDA", "TaskRes", "CLIP-Adapter",
    ]  # fmt: skip


def test_the_costs_are_of_one_protocol(tmp_path: Path) -> None:
    runs = [run("gda", 0.8, 1), run("gda", 0.9, 16), run("gda", 0.1, 0, "inductive"), run("gpua", 0.2, 0, "inductive")]
    page = sections(written(runs, tmp_path))["Cost"]
    assert "by the protocol few-shot" in page
    assert re.findall(r"<t[dh][^>]*>([^<]+)", page)[-4:] == ["GDA", "16 labels", "90.0", "0.90"]


def test_base_and_new_classes_have_a_table_per_setting_the_last_one_first(tmp_path: Path) -> None:
    runs = [
        run(method, value, shots, "base-to-new", part)
        for method, shots, value in (("lfa", 1, 0.6), ("lfa", 16, 0.8), ("zero_shot", 0, 0.5))
        for part in ("base", "new")
    ]
    page = sections(written(runs, tmp_path))["From base to new classes"]
    tables = re.findall(r"<table.*?</table>", page, re.S)
    assert [re.findall(r">(\d+\.\d)<", table) for table in tables] == [
        ["80.0"] * 3 + ["50.0"] * 3,
        ["60.0"] * 3 + ["50.0"] * 3,
    ]
    assert re.findall(r"digits, (\d+ labels?)<", page) == ["16 labels", "1 label"]
    assert "Base and new classes, 16 labels" in page
    assert "of 2 methods" in page


def test_targets_are_counted_as_data_sets_each_with_its_own_images(tmp_path: Path) -> None:
    runs = [
        replace(one, run=replace(one.run, accuracy=Accuracy(value, 0, 1, n)))
        for part, value, n in (("digits", 0.9, 50), ("letters", 0.6, 50), ("shapes", 0.2, 1500))
        for one in [run("gda", value, 16, "cross-dataset", part)]
    ]
    page = written(runs, tmp_path)
    assert "1 method on 3 data sets" in page
    average, own = re.findall(r"<table.*?</table>.*?(?=<table|</section)", page, re.S)[:2]
    assert "Percent, averaged over 2 data sets, with 1,550 predictions per seed." in average
    assert re.findall(r">([\d,]+)<", own[own.index("test images") :]) == ["50", "50", "1,500"]


def test_a_place_is_listed_once() -> None:
    methods = ["cmm (dtd on new)", "gda (dtd on new)", "lfa (eurosat)", "coop", "cmm (a on b)", "gda (a on b)"]
    assert places_once([*methods, "lfa"]) == "cmm, gda (dtd on new; a on b); lfa (eurosat); coop, lfa"
    assert places_once(["lfa (eurosat)", "lfa"]) == "lfa (eurosat); lfa"


@pytest.mark.parametrize("seed", range(3))
def test_names_of_points_cover_neither_each_other_nor_points(seed: int) -> None:
    rng = np.random.default_rng(seed)
    costs = [MethodCost(f"method {i}", 0.9 + 0.05 * rng.random(), 10.0 ** rng.uniform(-2, 0)) for i in range(24)]
    figure = cost_bubbles(costs).figure
    names = [text for text in figure.axes[0].texts if text.get_text().startswith("method")]
    boxes = [text.get_window_extent() for text in names]
    assert len(boxes) >= 12
    assert names[0].get_text() == max(costs, key=lambda cost: cost.accuracy).name
    for i, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[:i])
        dots = figure.axes[0].transData.transform([(cost.seconds, 100 * cost.accuracy) for cost in costs])
        assert not any(box.contains(*dot) for dot in dots)
