"""The papers' tables must agree with themselves: their own averages and harmonic means catch a slip of the pen."""

from __future__ import annotations

import doctest
import re
from collections import Counter, defaultdict

import numpy as np
import pytest

from modalign.core.errors import UnknownNameError
from modalign.data.splits.benchmarks import DATASETS, dataset
from modalign.evaluate import published as module
from modalign.evaluate.metrics import harmonic_mean
from modalign.evaluate.publications.printed_block import PrintedBlock, printed_value, rounding
from modalign.evaluate.publications.printed_tables import BLOCKS, REMARKS
from modalign.evaluate.published import PAPERS, Published, published

ELSEWHERE = {"average", "not stated", "ade20k", "voc20", "context59", "cityscapes", "coco_stuff164k"}
ACCURACIES = ("top-1", "base", "new", "harmonic mean")
WITHOUT_SOURCE = ("cross-dataset", "domain generalization")
PRINTED = {"cmm": 194, "align": 574, "dam": 819, "fair": 416, "gpua": 370}


def key(p: Published) -> tuple:
    return (p.paper, p.table, p.setting, p.method, p.backbone, p.metric, p.shots)


def rows() -> dict[tuple, dict[str, Published]]:
    found: dict[tuple, dict[str, Published]] = defaultdict(dict)
    for p in published():
        found[key(p)][p.dataset] = p
    return found


def test_all_printed_numbers_are_there() -> None:
    assert Counter(p.paper for p in published()) == PRINTED
    sizes = Counter((p.paper, p.table) for p in published())
    assert [sizes["dam", f"Table {n}"] for n in ("I", "II", "III", "IV", "VI", "X")] == [372, 96, 60, 24, 66, 10]
    assert [sizes["align", f"Table {n}"] for n in ("1", "2", "3", "D.1")] == [216, 48, 35, 275]
    assert [sizes["cmm", f"Table {n}"] for n in range(1, 10)] == [54, 24, 40, 32, 6, 12, 5, 5, 11]
    assert [sizes["fair", f"Table {n}"] for n in (1, 2, 3, 4, 5, 7, 8, 9, 10)] == [126, 49, 77, 77, 3, 28, 21, 14, 21]
    assert [sizes["gpua", f"Table {n}"] for n in range(1, 9)] == [144, 30, 12, 25, 72, 60, 12, 15]


def test_every_number_is_named_once_and_known() -> None:
    keys = [(*key(p), p.dataset) for p in published()]
    assert len(keys) == len(set(keys))
    assert {p.paper for p in published()} == set(PAPERS)
    assert {p.dataset for p in published()} <= {d.name for d in DATASETS} | ELSEWHERE
    assert all(0 < p.value < 100 for p in published() if p.metric in (*ACCURACIES, "mIoU"))
    assert all(p.value == printed_value(p.printed) for p in published())
    assert all(p.prompts and p.backbone for p in published())
    assert {p.seeds for p in published(paper="align", method="ALIGN")} == {3}
    assert {p.seeds for p in published() if p.shots == 0 or p.paper in ("fair", "gpua")} == {None}


def average_of(row: dict[str, Published]) -> float:
    some = next(iter(row.values()))
    sourced = some.setting in WITHOUT_SOURCE
    return float(np.mean([p.value for n, p in row.items() if n != "average" and not (sourced and n == "imagenet")]))


def test_averages_that_are_not_those_of_their_rows_carry_a_caution() -> None:
    checked, wrong = 0, set()
    for name, row in rows().items():
        if name[5] not in ("top-1", "base", "new") or "average" not in row or len(row) < 4:
            continue
        tolerance = rounding(row["average"].printed) + float(np.mean([rounding(p.printed) for p in row.values()]))
        checked += 1
        if abs(average_of(row) - row["average"].value) > tolerance + 1e-9:
            wrong.add((*name[:2], name[3], name[5]))
            assert any(p.caution for p in row.values()), name
    assert checked == 129
    assert wrong == {
        ("align", "Table 1", "PLOT", "new"),
        ("align", "Table 2", "CoOp", "top-1"),
        ("align", "Table 2", "ALIGN", "top-1"),
        ("dam", "Table III", "MaPLe", "top-1"),
        ("fair", "Table 4", "DPA", "top-1"),
    }


def test_harmonic_means_that_are_not_those_of_base_and_new_carry_a_caution() -> None:
    found: dict[tuple, dict[str, Published]] = defaultdict(dict)
    for p in published():
        if p.metric in ("base", "new", "harmonic mean") and not p.setting.startswith("long tail"):
            found[p.paper, p.table, p.method, p.dataset][p.metric] = p
    whole = {name: row for name, row in found.items() if len(row) == 3}
    assert len(whole) == 6 * 12 + 10 * 12 + 8 + 4 + 4
    assert {name[2] for name in found.keys() - whole.keys()} == {"DECoOp"}
    wrong = set()
    for name, row in whole.items():
        # Base and new are rounded, and some harmonic means are cut off where others are rounded.
        tolerance = 2 * max(rounding(p.printed) for p in row.values()) + 0.005
        if abs(harmonic_mean(row["base"].value, row["new"].value) - row["harmonic mean"].value) > tolerance + 1e-9:
            wrong.add(name)
            assert row["harmonic mean"].caution, name
    assert wrong == {
        ("align", "Table 1", "CLIP", "imagenet"),
        ("align", "Table 1", "CoCoOp", "stanford_cars"),
        ("align", "Table 1", "PLOT", "eurosat"),
        ("dam", "Table VII", "DAM, no alignment", "average"),
    }


def test_both_harmonic_means_are_as_the_cautions_have_them() -> None:
    """Averages of H in Table I are harmonic means of averages; DECoOp's alone is the mean of its harmonic means."""
    of_rows = {}
    for method in dict.fromkeys(p.method for p in published(paper="dam", table="Table I")):
        row = published(paper="dam", table="Table I", method=method, metric="harmonic mean")
        of_rows[method] = np.mean([p.value for p in row if p.dataset != "average"])
    said = {"CLIP": 71.58, "CoCoOp": 75.44, "MaPLe": 78.27, "LFA": 78.59, "PromptSRC": 79.77, "CoPrompt": 80.30}
    said |= {"HPT": 80.23, "2SFS": 79.88, "FCPrompt-G": 79.96, "DAM": 81.07, "DECoOp": 76.13}
    assert of_rows.keys() == said.keys()
    for method, value in said.items():
        assert of_rows[method] == pytest.approx(value, abs=0.01), method


def test_averages_of_the_long_tail_are_of_two_kinds_as_in_the_remark() -> None:
    above = {}
    for name, row in rows().items():
        if name[2].startswith("long tail"):
            above[name[1], name[3]] = row["average"].value - average_of(row)
    assert len(above) == 13
    assert abs(above.pop(("Table V(a)", "LFA"))) < 0.01
    assert min(above.values()) > 0.05
    assert above["Table V(a)", "DAM"] == pytest.approx(0.24, abs=0.01)


def test_repeated_numbers_agree_or_carry_a_caution() -> None:
    """What one paper prints in two tables under one name and setting is one number."""
    found: dict[tuple, list[Published]] = defaultdict(list)
    for p in published():
        if p.metric in ACCURACIES and p.dataset != "average":
            setting = {"ablation": "unsupervised, inductive"}.get(p.setting, p.setting)
            found[p.paper, setting, p.method, p.dataset, p.backbone, p.metric, p.shots].append(p)
    repeated = [row for row in found.values() if len(row) > 1]
    assert len(repeated) > 60
    for row in repeated:
        assert len({p.value for p in row}) == 1 or any(p.caution for p in row), row


def test_test_lists_are_those_of_the_papers() -> None:
    for p in published():
        if p.n_test is not None:
            row = dataset(p.dataset)
            assert p.n_test == (row.vissl[1] if p.paper == "fair" and row.vissl else row.n_test)
    assert {p.split for p in published(paper="fair", metric="top-1")} == {"vissl"}
    assert {p.split for p in published(paper="gpua", metric="mIoU")} == {"own"}
    (fair,) = published(paper="fair", table="Table 1", method="FAIR", dataset="caltech101")
    (gpua,) = published(paper="gpua", table="Table 1", method="GPUA", dataset="caltech101")
    assert (fair.n_test, gpua.n_test) == (6645, 2465)
    assert published(paper="dam", table="Table I", dataset="dtd", method="DAM")[0].n_test is None
    assert published(paper="cmm", table="Table 9", dataset="dtd")[0].n_test is None


def test_five_lists_of_fair_have_other_sizes_than_coops() -> None:
    """FAIR, Table 6."""
    sizes = {d.name: (d.test_size("vissl"), d.n_test) for d in DATASETS if d.vissl}
    assert len(sizes) == 14
    assert {name for name, (theirs, ours) in sizes.items() if theirs != ours} == {
        "caltech101", "dtd", "eurosat", "food101", "sun397"
    }  # fmt: skip


def test_cautions_and_remarks_meet_a_number() -> None:
    for paper, remarks in REMARKS.items():
        tables = {block.table.partition("(")[0] for block in BLOCKS[paper]}
        assert {table for table, _ in remarks} <= tables
    cautioned = [p for p in published() if p.caution]
    assert len(cautioned) > 60
    assert {p.paper for p in cautioned} == set(PAPERS)


@pytest.mark.parametrize(
    ("printed", "value"),
    [("63.3", 63.3), ("+2.62", 2.62), ("-3.89", -3.89), ("8.2K", 8200), ("1.14M", 1_140_000), ("12k", 12_000),
     ("1min", 60), ("14hr", 50_400), ("14h40min", 52_800), ("2.5min", 150), ("149620737", 149_620_737)],
)  # fmt: skip
def test_numbers_are_read_as_printed(printed: str, value: float) -> None:
    assert printed_value(printed) == pytest.approx(value)


def test_a_row_of_another_length_than_its_head_is_refused() -> None:
    with pytest.raises(ValueError, match="shorter"):
        list(PrintedBlock("Table 1", "few-shot", "RN50", {"shots": "1 2"}, "CMM: 60.1").cells())
    cells = list(PrintedBlock("Table 1", "few-shot", "RN50", {"shots": "1 2"}, "CMM: - 60.1").cells())
    assert cells == [({"backbone": "RN50", "method": "CMM", "shots": 2}, "60.1")]


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


def test_no_text_of_a_caution_is_left_unfinished() -> None:
    texts = [p.caution for p in published() if p.caution]
    assert all(not re.search(r"[.;{}]$|^\W|  ", text) for text in texts)
    assert all(text.endswith(".") for remarks in REMARKS.values() for _, text in remarks)
