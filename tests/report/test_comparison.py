"""The page of a comparison has every number of it, in words where required, and no others."""

from __future__ import annotations

import re
from dataclasses import replace
from html import unescape
from pathlib import Path

import numpy as np
import pytest
from test_page import Reader

from modalign.evaluate.comparison.findings import LeftOut, MethodDiagnostics, title
from modalign.evaluate.comparison.result import MethodComparison
from modalign.evaluate.metrics import ReliabilityBin, percent, proportion
from modalign.evaluate.paired import signed
from modalign.evaluate.runs import Run
from modalign.report.comparison_page import save_comparison_page
from modalign.report.comparison_tables import ablation_blocks, accuracies, against_reference, best_and_second

GAP = {"wasserstein2": 1.25, "centroid_distance": 0.75}
N, PROTOCOL = 200, "tested on a fixed 50% of every class"


def run(method: str, shots: int | str, seed: int, hits: int) -> Run:
    """The first ``hits`` of 200 images are right; another draw is right on one image more."""
    correct = np.arange(N) < hits + seed
    return Run(
        method, shots, seed, proportion(int(correct.sum()), N), 0.5, 0.01, 40, 8, PROTOCOL, {}, {},
        "f0", "t0", 1, {"python": "3.11"}, (), correct, 3 * 2**20,
    )  # fmt: skip


def found(**change: object) -> MethodComparison:
    hits = {
        ("zero_shot", 0): 120, ("gpua", 0): 121, ("lfa", 0): 118, ("lfa", 4): 160, ("linear_probe", 4): 90,
        ("linear_probe", "all"): 190, ("lfa", "all"): 189, ("lfa: identity map", 4): 120,
        ("lfa: no refinement", 4): 160,
    }  # fmt: skip
    rng = np.random.default_rng(0)
    look = MethodDiagnostics(
        "linear_probe", "all", 0, {"uncalibrated": (ReliabilityBin(0.8, 0.9, 150), ReliabilityBin(0.4, 0.5, 50))},
    )  # fmt: skip
    cloud = rng.normal(size=(30, 6)), rng.normal(size=(3, 6))
    mapped = MethodDiagnostics(
        "gpua", 0, 0, look.reliability,
        {"before": GAP | {"kl_pca2": 1.5}, "after": {"kl_pca2": None, "wasserstein2": 0.5}},
        {"before": cloud, "after": cloud}, np.arange(30) % 3,
    )  # fmt: skip
    given = {
        "runs": tuple(run(*key, seed, n) for key, n in hits.items() for seed in (0, 1)),
        "left_out": (LeftOut("tip_adapter", None, "needs <b>labels</b>"), LeftOut("cmm", 4, "no luck")),
        "notes": ("1 class has fewer than 3 labeled images",),
        "record": {"encoder": "tiny (abc)", "images": {"all": 400, "test": N}, "seeds": [0, 1], "seconds": 3.5,
                   "protocol": PROTOCOL, "classes": ["cat", "dog"],
                   "sentences": [["a photo of a cat."], ["a photo of a dog."]], "quarantined": []},
        "diagnostics": (look, mapped),
    }  # fmt: skip
    return MethodComparison(**{**given, **change})


def text_of(result: MethodComparison, tmp_path: Path) -> tuple[str, str]:
    document = save_comparison_page(result, tmp_path / "page.html").read_text()
    Reader(document)
    text = unescape(re.sub(r"<style.*?</style>|<[^>]+>", " ", document, flags=re.DOTALL)).replace("\u00a0", " ")
    return document, " ".join(text.split())


def test_the_page_has_every_number_and_makes_no_request(tmp_path: Path) -> None:
    result = found()
    document, text = text_of(result, tmp_path)
    assert not re.search(r'(?:src|href)="(?:https?:)?//|url\(http|<script', document)
    assert result.sentence in text
    for row in result.table:
        assert percent(row.accuracy.mean) in text
    for heading in ("Accuracy", "Significant differences", "Ablations", "Calibration", "Modality gap",
                    "Time and memory", "Notes", "Data, model and software"):  # fmt: skip
        assert heading in text
    assert document.count("<svg") == 3
    assert "<b>labels" not in document
    assert "Tip-Adapter any number needs <b>labels</b>" in text
    assert "CMM 4 labels no luck" in text
    assert "1 class has fewer than 3 labeled images." in text
    assert "tiny (abc)" in text
    assert "a photo of a cat." in text
    assert "a photo of a dog." not in text  # there may be thousands; the JSON has them
    assert "closer together: Wasserstein-2 distance 1.25 before and 0.5 after." in text


def test_chance_stands_in_every_table_and_figure_of_accuracies(tmp_path: Path) -> None:
    result = found()
    document, _ = text_of(result, tmp_path)
    assert accuracies(result).foot == [["Chance level", "50.0", "50.0", "50.0"]]
    for table in re.findall(r"<figure class=\"tabular\">.*?</figure>", document, flags=re.DOTALL):
        if re.search(r"Accuracy in percent|with it, %", table):
            assert "Chance level" in table
    labels = re.findall(r'aria-label="([^"]*)"', document)
    assert sum("Chance level is 50.0 %" in label for label in labels) == 1  # the curves
    assert document.count("chance level 50.0 %") == 2  # drawn in the curves and in the calibration plot
    unnamed, _ = text_of(found(record={}), tmp_path)
    assert "hance" not in unnamed


def test_what_is_significant_is_marked_and_what_labels_do_not_change_points_on() -> None:
    rows = {
        row[0]: [cell if isinstance(cell, str) else f"{cell.text} {cell.sign}".strip() for cell in row]
        for row in accuracies(found()).rows
    }
    assert rows["GPUA"] == ["GPUA", "60.7", "→", "→"]
    assert rows["Linear Feature Alignment"][1:] == ["59.2", "80.2 ▲", "94.8 ▲"]
    assert rows["Linear probe"][1:] == ["–", "45.2 ▼", "95.2 ▲"]


def test_every_table_has_the_same_rule_and_an_interval_has_one_verdict(tmp_path: Path) -> None:
    result = found()
    _, text = text_of(result, tmp_path)
    rule = "rejects “no difference” at the 5 % level, corrected for all"
    assert text.count(rule) == 2  # with the verdicts, and with the ablations
    assert text.count("(Holm)") == 2
    significant = {(v.first, v.second, v.shots): v.comparison.significant for v in result.verdicts}
    for row in against_reference(result).rows:
        for cell in row[1:]:
            if not isinstance(cell, str):
                low, high = (float(end.replace("−", "-")) for end in cell.note.split(" to "))
                assert cell.strong == (low > 0 or high < 0)
    for shots, first, second, difference, verdict in best_and_second(result).rows:
        low, high = (float(end.replace("−", "-")) for end in difference.note.split(" to "))
        assert (verdict == "significantly better") == difference.strong == (low > 0 or high < 0)
        assert (verdict == "no significant difference") == (not difference.strong)
        (own,) = (v for v in result.verdicts if v.kind == "runner-up" and title(v.first) == first and
                  title(v.second) == second and str(v.shots) in shots.replace("no", "0"))  # fmt: skip
        assert significant[own.first, own.second, own.shots] == difference.strong


def test_ablations_that_change_something_come_first_by_method_and_the_others_are_folded(tmp_path: Path) -> None:
    result = found()
    document, text = text_of(result, tmp_path)
    table, fold = ablation_blocks(result)
    assert list(table.rows) == ["Linear Feature Alignment"]
    ((ingredient, labels, whole, without, difference, effect),) = table.rows["Linear Feature Alignment"]
    assert (ingredient, labels, whole, without, effect) == ("identity map", "4 labels", "80.2", "60.2", "helps")
    assert difference.text == signed(0.2)
    assert fold.summary == "1 ablation without a significant difference"
    assert "no refinement" in fold.html()
    assert "the same images are right" in fold.html()
    assert "1 of 2 ablations changes the accuracy significantly" in text
    assert document.index("identity map") < document.index("<details") < document.index("no refinement")


def test_harm_is_called_harm() -> None:
    runs = tuple(run(m, 4, s, n) for m, n in (("lfa", 100), ("lfa: no refinement", 160)) for s in (0, 1))
    (table,) = ablation_blocks(found(runs=runs))
    assert table.rows["Linear Feature Alignment"][0][-1] == "hurts"


def test_a_comparison_with_little_in_it_still_makes_a_page(tmp_path: Path) -> None:
    runs = tuple(run("linear_probe", 4, seed, 100) for seed in (0, 1))
    document, text = text_of(found(runs=runs, left_out=(), notes=(), diagnostics=()), tmp_path)
    for absent in ("Significant differences", "Ablations", "Calibration", "Not run"):
        assert absent not in text
    assert document.count("<svg") == 1


@pytest.mark.parametrize(
    ("change", "sentence", "said"),
    [
        ({}, "Methods make all choices on validation images", True),
        ({"n_validation": 0}, "Methods make all choices on validation images", False),
        ({"protocol": PROTOCOL + "; transductive"}, "adapt to the test images themselves", True),
        ({}, "adapt to the test images themselves", False),
        ({}, "mean over up to 2 draws", True),
    ],
)
def test_the_protocol_is_reported_as_it_was(change: dict, sentence: str, said: bool, tmp_path: Path) -> None:
    result = found()
    _, text = text_of(replace(result, runs=tuple(replace(r, **change) for r in result.runs)), tmp_path)
    assert (sentence in text) == said


def test_one_draw_has_neither_intervals_nor_a_mean(tmp_path: Path) -> None:
    result = found()
    _, text = text_of(replace(result, runs=tuple(r for r in result.runs if r.seed == 0)), tmp_path)
    assert "Each number is from one run, so there is no interval." in text
    assert "mean over" not in text
    assert "intervals over these draws" not in text


def test_calibration_records_whether_a_temperature_was_fitted(tmp_path: Path) -> None:
    look = found().diagnostics[0]
    for names, fitted in ((("uncalibrated",), False), (("uncalibrated", "calibrated"), True)):
        bins = dict.fromkeys(names, look.reliability["uncalibrated"])
        _, text = text_of(found(diagnostics=(replace(look, reliability=bins),)), tmp_path)
        assert ("predictions (validation images); none of these images is shown here" in text) == fitted
        assert ("No temperature was fitted" in text) == (not fitted)


def test_no_folder_of_the_maker_is_on_the_page(tmp_path: Path) -> None:
    record = found().record | {"encoder": f"{tmp_path}/clip (abc)", "clip_encoder": "/home/jane/models/dino (def)"}
    left_out = (LeftOut("dam", None, f"Expected '{tmp_path}/structures.json' to exist"),)
    document, text = text_of(found(record=record, left_out=left_out, notes=("see /home/jane/x",)), tmp_path)
    assert str(tmp_path) not in document
    assert "/home" not in document
    for kept in ("clip (abc)", "dino (def)", "Expected 'structures.json' to exist"):
        assert kept in text


def test_a_page_of_what_was_read_back_from_json_lacks_only_the_clouds(tmp_path: Path) -> None:
    result = found()
    again = MethodComparison.from_dict(result.as_dict())
    _, text = text_of(again, tmp_path)
    assert "Modality gap" not in text
    lean = replace(result, diagnostics=tuple(replace(look, clouds={}, labels=None) for look in result.diagnostics))
    assert text == text_of(lean, tmp_path)[1]
