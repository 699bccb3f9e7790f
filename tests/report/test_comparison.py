"""The page says what the comparison found: every number of it, in words where it must, and nothing from elsewhere."""

from __future__ import annotations

import re
from dataclasses import replace
from html import unescape
from pathlib import Path

import numpy as np
import pytest
from test_page import Reader

from modalign.errors import InputError
from modalign.evaluate.comparison import LeftOut, Look, MethodComparison
from modalign.evaluate.metrics import ReliabilityBin, percent, proportion
from modalign.evaluate.runs import Run
from modalign.report.comparison import check_page, save_comparison_page

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
    look = Look(
        "linear_probe", "all", 0, {"as it comes": (ReliabilityBin(0.8, 0.9, 150), ReliabilityBin(0.4, 0.5, 50))},
    )  # fmt: skip
    cloud = rng.normal(size=(30, 6)), rng.normal(size=(3, 6))
    mapped = Look(
        "gpua", 0, 0, look.reliability, {"before": {"kl_pca2": 1.5}, "after": {"kl_pca2": None}},
        {"before": cloud, "after": cloud}, np.arange(30) % 3,
    )  # fmt: skip
    given = {
        "runs": tuple(run(*key, seed, n) for key, n in hits.items() for seed in (0, 1)),
        "left_out": (LeftOut("tip_adapter", None, "needs <b>labels</b>"), LeftOut("cmm", 4, "no luck")),
        "notes": ("1 class has fewer than 3 labelled images",),
        "record": {"encoder": "tiny (abc)", "images": {"all": 400, "test": N}, "seeds": [0, 1], "seconds": 3.5,
                   "protocol": PROTOCOL, "classes": ["cat", "dog"],
                   "sentences": [["a photo of a cat."], ["a photo of a dog."]], "quarantined": []},
        "looks": (look, mapped),
    }  # fmt: skip
    return MethodComparison(**{**given, **change})


def text_of(result: MethodComparison, tmp_path: Path) -> tuple[str, str]:
    document = save_comparison_page(result, tmp_path / "page.html").read_text()
    Reader(document)
    text = unescape(re.sub(r"<style.*?</style>|<[^>]+>", " ", document, flags=re.DOTALL)).replace("\u00a0", " ")
    return document, " ".join(text.split())


def test_the_page_holds_every_number_and_asks_nobody(tmp_path: Path) -> None:
    result = found()
    document, text = text_of(result, tmp_path)
    assert not re.search(r'(?:src|href)="(?:https?:)?//|url\(http|<script', document)
    assert result.sentence in text
    for row in result.table:
        assert percent(row.accuracy.mean) in text
    for heading in ("Which method", "Is it luck?", "What really acts", "probabilities", "Where images",
                    "Time and memory", "What is missing", "What these numbers rest on"):  # fmt: skip
        assert heading in text
    assert document.count("<svg") == 3
    assert "no significant difference" in text
    assert "<b>labels" not in document
    assert "Tip-Adapter always needs <b>labels</b>" in text
    assert "CMM 4 labels no luck" in text
    assert "1 class has fewer than 3 labelled images." in text
    assert "tiny (abc)" in text
    assert "a photo of a cat." in text
    assert "a photo of a dog." not in text  # there may be thousands; the JSON has them
    assert "KL 1.50" in text


def test_what_is_beyond_luck_is_marked_and_what_labels_do_not_change_points_on(tmp_path: Path) -> None:
    _, text = text_of(found(), tmp_path)
    table = text[text.index("no labels 4 labels all labels") :]
    lines = {name: table[table.index(name) :] for name in ("GPUA", "Linear Feature Alignment", "Linear probe")}
    assert re.match(r"GPUA 60\.7 ± \S+ → →", lines["GPUA"])
    assert re.match(r"Linear Feature Alignment 59\.2 ± \S+ 80\.2 ▲ ± \S+ 94\.8 ▲", lines["Linear Feature Alignment"])
    assert re.match(r"Linear probe 45\.2 ▼ ± \S+ 95\.2 ▲", lines["Linear probe"])


def test_an_ingredient_that_acts_and_one_that_does_not(tmp_path: Path) -> None:
    _, text = text_of(found(), tmp_path)
    part = text[text.index("What really acts") :]
    assert re.search(r"identity map 4 labels 80\.2 60\.2 ± \S+ \+20\.0 \+\S+ to \+\S+ helps", part)
    assert re.search(r"no refinement 4 labels 80\.2 80\.2 ± \S+ \+0\.0 \+0\.0 to \+0\.0 changes nothing", part)


def test_a_comparison_with_little_in_it_still_makes_a_page(tmp_path: Path) -> None:
    runs = tuple(run("linear_probe", 4, seed, 100) for seed in (0, 1))
    document, text = text_of(found(runs=runs, left_out=(), notes=(), looks=()), tmp_path)
    assert "Is it luck?" not in text
    assert "What is missing" not in text
    assert document.count("<svg") == 1


def test_a_page_of_what_was_read_back_from_json_lacks_only_the_clouds(tmp_path: Path) -> None:
    result = found()
    again = MethodComparison.from_dict(result.as_dict())
    _, text = text_of(again, tmp_path)
    assert "Where images and texts lie" not in text
    lean = replace(result, looks=tuple(replace(look, clouds={}, labels=None) for look in result.looks))
    assert text == text_of(lean, tmp_path)[1]


@pytest.mark.parametrize("name", ["page.txt", "no/such/folder/page.html"])
def test_a_page_that_cannot_be_written_is_refused_beforehand(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"ending in \.html in a folder that exists"):
        check_page(tmp_path / name)
