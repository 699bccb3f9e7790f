"""The order of rows that a table prints, and what runs on other data state about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from modalign.evaluate.benchmark.benchmark_records import BenchmarkRun
from modalign.evaluate.metrics import proportion
from modalign.evaluate.paired import Comparison
from modalign.evaluate.publications.bench_commands import bench_command
from modalign.evaluate.publications.shapes.row_claims import printed_rows, row_claims
from modalign.evaluate.publications.shapes.shape_statements import OwnShapes, ShapeStatement, by_place, count_verdicts
from modalign.evaluate.publications.table_view import find_tables
from modalign.evaluate.published import published
from modalign.evaluate.runs import Run
from modalign.methods import method_class
from modalign.methods.contract.parameters import parameters

N = 200


def made(method: str, hits: int, *, seed: int = 1, part: str = "test", **entries: Any) -> BenchmarkRun:
    """A run on the digits with so many right answers, from the first image on."""
    own = {"protocol": "few-shot", "shots": 16, "imbalance": None, "per_class": None, "parameters": {}} | entries
    settings = {p.name: p.default for p in parameters(method_class(method))} | own["parameters"]
    run = Run(
        method, own["shots"], seed, proportion(hits, N), 1.0, 1.0, 16, 4, "drawn", settings, {}, "features",
        f"images of {part}", 1, {}, correct=np.arange(N) < hits,
    )  # fmt: skip
    return BenchmarkRun(
        own["protocol"], "digits", part, "tiny", "default", own["imbalance"], own["per_class"], False, 1.0, run
    )


def verdicts(runs: Sequence[BenchmarkRun], paper: str, table: str) -> dict[tuple[str, str], str]:
    return {(one.claim.second.name, one.tested): one.verdict for one in OwnShapes(runs)(paper, table)}


def differences(paper: str, table: str) -> dict[tuple[str, str], float]:
    return {(c.second.name, c.metric): round(c.difference("average"), 2) for c in row_claims(paper, table)}


def test_a_claim_is_the_method_of_the_paper_against_another_row() -> None:
    assert differences("cmm", "Table 5") == {
        ("CMM, mapped scores only", "top-1"): 2.15,
        ("CMM, mapped scores and triplet", "top-1"): 1.78,
        ("CMM, mapped and zero-shot scores", "top-1"): 1.29,
        ("CMM, mapped and zero-shot scores and triplet", "top-1"): 0.96,
        ("CMM, mapped and weighted zero-shot scores", "top-1"): 0.23,
    }
    assert differences("dam", "Table VIII")["DAM, image-to-text only", "new"] == 0.05
    assert {metric for _, metric in differences("dam", "Table VIII")} == {"base", "new"}
    assert {metric for _, metric in differences("dam", "Table V(b)")} == {"harmonic mean"}
    assert differences("dam", "Table IV") == {("CLIP", "top-1"): 0.51}
    assert [claim.first.shots for claim in row_claims("cmm", "Table 1") if claim.second.name == "CLIP"] == [
        1,
        2,
        4,
        8,
        16,
    ]
    claims = row_claims("gpua", "Table 3")
    assert {claim.first.name for claim in claims} == {"GPUA, 16 unlabeled images per class"}
    assert {claim.second.name: round(claim.difference("oxford_pets"), 1) for claim in claims} == {
        "GPUA, semantic scores only": 5.3, "GPUA, CLIP features only": 3.3, "GPUA, vision-only features": 1.4
    }  # fmt: skip


def test_every_ablation_that_can_be_switched_has_a_claim() -> None:
    rows = [(p, t, row) for p, t in find_tables(["all"]) for row in printed_rows(p, t) if row.changes]
    claimed = {(p, t, c.second.key) for p, t, _ in rows for c in row_claims(p, t)}
    first = {(p, t, c.first.key) for p, t, _ in rows for c in row_claims(p, t)}
    assert len(rows) > 40
    assert not [(p, t, row.name) for p, t, row in rows if (p, t, row.key) not in claimed | first]


def test_the_verdict_follows_the_interval() -> None:
    ours = [made("cmm", 150), made("linear_probe", 110), made("clip_adapter", 149), made("tip_adapter_f", 190)]
    found = verdicts([*ours, made("zero_shot", 120, shots=0)], "cmm", "Table 2")
    assert found == {
        ("CLIP", "few-shot, 16 labels"): "confirmed",
        ("CLIP-Adapter", "few-shot, 16 labels"): "not confirmed",
        ("Tip-Adapter-F", "few-shot, 16 labels"): "reversed",
    }
    statements = OwnShapes(ours)("cmm", "Table 2")
    assert count_verdicts(statements) == {"confirmed": 0, "not confirmed": 1, "reversed": 1}
    for one in statements:
        assert (one.verdict == "not confirmed") == (one.comparison.low <= 0 <= one.comparison.high)
        assert one.sentence.startswith("CMM above")


def test_an_ablation_is_compared_with_the_same_other_settings() -> None:
    fair = {"protocol": "inductive", "shots": 0}
    few, many = {"epochs": 2}, {"epochs": 9}
    ours = [
        made("fair", 150, **fair, parameters=many),
        made("fair", 160, **fair, parameters=few),
        made("fair", 110, **fair, parameters=few | {"weighting": "none"}),
        made("fair", 100, **fair, parameters=many | {"weighting": "top"}),
    ]
    found = by_place(OwnShapes(ours)("fair", "Table 5"))
    assert {place: [(one.claim.second.name, round(one.comparison.difference * N)) for one in group]
            for place, group in found.items()} == {
        "digits, tiny, fair.epochs=2, 1 seed": [("FAIR without pseudo-label weight", 50)],
        "digits, tiny, fair.epochs=9, 1 seed": [("FAIR, weight by highest score", 50)],
    }  # fmt: skip
    assert verdicts(ours[1:2], "fair", "Table 5") == {}


def test_rows_of_other_methods_name_the_changes_of_both() -> None:
    unlabeled = {"protocol": "inductive", "shots": 0}
    ours = [made("gpua", hits, **unlabeled, parameters=own) for hits, own in ((150, {}), (160, {"preset": "paper"}))]
    found = by_place(OwnShapes([made("zero_shot", 90, **unlabeled), *ours])("gpua", "Table 1"))
    hits = {place: round(one.comparison.difference * N) for place, (one,) in found.items()}
    assert hits == {"digits, tiny, 1 seed": 60, "digits, tiny, gpua.preset=paper, 1 seed": 70}


def test_a_row_below_zero_shot_is_named() -> None:
    ours = [made("cmm", 150), made("clip_adapter", 99), made("tip_adapter_f", 101), made("zero_shot", 100, shots=0)]
    ends = {one.claim.second.name: one.cells[-1] for one in OwnShapes(ours)("cmm", "Table 2")}
    assert ends["CLIP-Adapter"] == "confirmed (CLIP-Adapter below zero-shot)"
    assert ends["Tip-Adapter-F"] == ends["CLIP"] == "confirmed"


def test_ablations_of_few_unlabeled_images_are_compared_on_all_where_there_are_no_others() -> None:
    gpua = {"protocol": "inductive", "shots": 0}
    alone = {"semantic_weight": 1.0}
    whole = [made("gpua", 150, **gpua), made("gpua", 90, **gpua, parameters=alone)]
    (one,) = OwnShapes(whole)("gpua", "Table 3")
    assert (one.tested, one.comparison.difference) == ("inductive, all images", pytest.approx(60 / N))
    few = [made("gpua", 120, **gpua, per_class=16), made("gpua", 130, **gpua, per_class=16, parameters=alone)]
    assert OwnShapes([whole[0], few[1]])("gpua", "Table 3") == [], "equally many images"
    (one,) = OwnShapes([*whole, *few])("gpua", "Table 3")
    assert (one.tested, one.comparison.difference) == ("inductive, 16 images per class", pytest.approx(-10 / N))


def test_rows_of_other_vectors_are_compared_where_both_encoders_were_used() -> None:
    blind: dict[str, Any] = {"protocol": "inductive", "shots": 0}
    joined = {"parameters": {"spaces": [2, 1]}}
    both, all_images = (made("gpua", 150, **blind, **joined, per_class=n) for n in (16, None))
    both, all_images = (replace(run, encoder="tiny-vision+tiny") for run in (both, all_images))
    vision, clip = (made("gpua", hits, **blind, per_class=16) for hits in (90, 60))
    vision = replace(vision, encoder="tiny-vision", clip_encoder="tiny")
    shapes = OwnShapes([both, all_images, vision, clip, made("zero_shot", 100, **blind)])
    found = {
        (table, one.encoder, one.claim.second.name): round(one.comparison.difference * N)
        for table in ("Table 1", "Table 3", "Table 5")
        for one in shapes("gpua", table)
    }
    place = "tiny-vision+tiny"
    assert found == {
        ("Table 1", place, "CLIP"): 50,
        ("Table 1", place, "GPUA, 16 unlabeled images per class"): 0,
        ("Table 3", place, "GPUA, vision-only features"): 60,
        ("Table 3", place, "GPUA, CLIP features only"): 90,
        ("Table 5", place, "GPUA, 16 unlabeled images per class"): 0,
        ("Table 5", place, "GPUA, vision only, 16 images per class"): 60,
    }
    assert OwnShapes([both, clip])("gpua", "Table 5") == []


def test_rows_are_compared_on_common_seeds_and_on_the_same_images() -> None:
    dam = {"protocol": "base-to-new", "shots": 16}
    bare = {"parameters": {"sma": "none", "cma": "none"}}
    ours = [made("dam", 150, **dam, seed=seed, part=part) for seed in (1, 2) for part in ("base", "new")]
    ours += [made("dam", hits, **dam, **bare, seed=2, part=part) for part, hits in (("base", 150), ("new", 100))]
    found = {one.tested: one for one in OwnShapes(ours)("dam", "Table VII")}
    assert {tested: one.verdict for tested, one in found.items()} == {
        "base-to-new, 16 labels, base classes": "not confirmed",
        "base-to-new, 16 labels, new classes": "confirmed",
    }
    assert {one.seeds for one in found.values()} == {1}
    tail = {"protocol": "long-tail", "shots": "all", "imbalance": 20.0}
    both = [made(m, h, **tail, part=part) for m, h in (("dam", 150), ("coop", 90)) for part in ("base", "new")]
    adjusted = [one for one in both if one.run.method == "dam"]
    adjusted += [made("coop", 90, **tail, part=p, parameters={"loss": "logit-adjusted"}) for p in ("base", "new")]
    assert verdicts(both, "dam", "Table V(b)") == {}
    (one,) = OwnShapes(adjusted)("dam", "Table V(b)")
    assert (one.comparison.n, one.tested) == (2 * N, "long-tail, imbalance 20")


def test_rows_are_compared_with_the_same_prompts() -> None:
    unlabeled = {"protocol": "inductive", "shots": 0}
    clip, gpua = made("zero_shot", 90, **unlabeled), made("gpua", 150, **unlabeled)
    signs = ("a sign that says {}.",)
    assert len(OwnShapes([clip, gpua])("gpua", "Table 1")) == 1
    assert OwnShapes([clip, replace(gpua, templates=signs)])("gpua", "Table 1") == []
    (one,) = OwnShapes([replace(run, templates=signs) for run in (clip, gpua)])("gpua", "Table 1")
    assert list(by_place([one])) == ["digits, tiny, 'a sign that says {}.', 1 seed"]
    read = BenchmarkRun.from_json(replace(gpua, templates=signs).to_json())
    assert read.templates == signs


def test_the_ablations_of_gpua_learn_from_16_images_per_class() -> None:
    (number,) = published(paper="gpua", table="Table 6", method="GPUA, CSLS loss", dataset="average")
    assert "--per-class 16" in bench_command(number)


@pytest.mark.parametrize(("half", "words"), [(0.0, "not confirmed (equal)"), (0.1, "not confirmed")])
def test_rows_that_answer_alike_are_called_equal(half: float, words: str) -> None:
    claim = next(one for one in row_claims("gpua", "Table 3") if one.second.changes)
    own = Comparison(0.0, -half, half, 1.0, 100, False, 0.05)
    assert ShapeStatement(claim, "letters", "features", "", "default", 1, own).cells[-1] == words
