"""The papers' tables must agree with themselves: their own averages and harmonic means catch a slip of the pen."""

from __future__ import annotations

import doctest
from collections import defaultdict

import numpy as np
import pytest

from modalign.core.errors import UnknownNameError
from modalign.data.splits.benchmark_sets import DATASETS
from modalign.evaluate import published as module
from modalign.evaluate.metrics import harmonic_mean
from modalign.evaluate.published import PAPERS, Published, published

ELSEWHERE = {"average", "ade20k", "voc20", "context59", "cityscapes", "coco_stuff164k"}
SOURCE_NOT_AVERAGED = ("cross-dataset", "domain generalization")


def test_every_number_is_named_once_and_known() -> None:
    keys = [tuple(v for k, v in vars(p).items() if k not in ("value", "caution")) for p in published()]
    assert len(keys) == len(set(keys))
    assert {p.paper for p in published()} == set(PAPERS)
    assert {p.dataset for p in published()} <= {d.name for d in DATASETS} | ELSEWHERE
    assert all(0 < p.value < 100 for p in published())


def test_stated_averages_are_the_averages() -> None:
    rows: dict[tuple, dict[str, Published]] = defaultdict(dict)
    for p in published():
        if p.metric in ("top-1", "base", "new"):
            rows[p.paper, p.table, p.setting, p.method, p.backbone, p.metric, p.shots][p.dataset] = p
    checked = 0
    for key, row in rows.items():
        if "average" not in row or len(row) < 4 or any(p.caution and p.metric == "top-1" for p in row.values()):
            continue
        single = [
            p.value for name, p in row.items()
            if name != "average" and not (name == "imagenet" and key[2] in SOURCE_NOT_AVERAGED)
        ]  # fmt: skip
        precision = 0.06 if key[0] == "gpua" else 0.011  # its tables have one decimal
        assert np.mean(single) == pytest.approx(row["average"].value, abs=precision), key
        checked += 1
    assert checked > 25


def test_stated_harmonic_means_are_those_of_base_and_new() -> None:
    rows: dict[tuple, dict[str, float]] = defaultdict(dict)
    for p in published(setting="base-to-new"):
        rows[p.paper, p.method, p.dataset][p.metric] = p.value
    assert len(rows) > 30
    for key, row in rows.items():
        assert harmonic_mean(row["base"], row["new"]) == pytest.approx(row["harmonic mean"], abs=0.035), key


def test_look_up_by_any_entry_in_any_case() -> None:
    (number,) = published(paper="CMM", method="cmm", dataset="ImageNet", backbone="vit-b/16", shots=16)
    assert number.value == 74.23
    assert number.source.endswith("Table 2 (ViT-B/16, few-shot)")
    assert published(method="no such method") == ()


def test_more_shots_help_in_the_papers_averages() -> None:
    values = [p.value for p in published(paper="cmm", method="CMM", dataset="average")]
    assert values == sorted(values)
    assert [p.shots for p in published(paper="cmm", method="CMM", dataset="average")] == [1, 2, 4, 8, 16]


def test_the_example_in_the_docs_runs() -> None:
    assert doctest.testmod(module).failed == 0


def test_unknown_papers_get_a_suggestion() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'cmm'"):
        published(paper="cmn")
