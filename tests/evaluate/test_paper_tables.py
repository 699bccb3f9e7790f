"""Tables as printed, with one's own runs beside the numbers they belong to, and beside no other."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from modalign.core.errors import UnknownNameError
from modalign.data.splits.benchmarks import dataset
from modalign.evaluate.benchmark.benchmark_records import BenchmarkRun
from modalign.evaluate.metrics import Accuracy, harmonic_mean
from modalign.evaluate.publications.bench_commands import bench_command, substitute_command
from modalign.evaluate.publications.own_runs import OwnRuns
from modalign.evaluate.publications.paper_settings import paper_settings
from modalign.evaluate.publications.printed_block import ELEVEN
from modalign.evaluate.publications.table_view import count_states, find_tables, paper_table
from modalign.evaluate.published import Published, published
from modalign.evaluate.runs import Run
from modalign.methods import method_class
from modalign.methods.contract.parameters import parameters

CLIP16 = "openai/clip-vit-base-patch16"
SENTENCES = {"dam": "hpt", "fair": "cupl", "wca": "cupl"}  # of the papers, where they are of a language model


def made(method: str, name: str, accuracy: float, n: int | None = None, **entries: Any) -> BenchmarkRun:
    """A run that measured an accuracy on the test list of a data set."""
    own: dict[str, Any] = {"protocol": "few-shot", "part": "test", "encoder": CLIP16, "shots": 16, "seed": 1}
    own |= {"changes": {}, "imbalance": None, "per_class": None, "sentences": SENTENCES.get(method, ""), **entries}
    defaults = {p.name: p.default for p in parameters(method_class(method))}
    printed = paper_settings(method, name, protocol=own["protocol"]).parameters
    size = dataset(name).n_test if n is None else n
    run = Run(
        method, own["shots"], own["seed"], Accuracy(accuracy, 0, 1, size), 1.0, 1.0, 16, 4, "drawn",
        defaults | printed | own["changes"], {}, "features", "test", 1, {},
    )  # fmt: skip
    return BenchmarkRun(
        own["protocol"], name, own["part"], own["encoder"], "paper", own["imbalance"], own["per_class"], False, 1.0,
        run, own["sentences"],
    )  # fmt: skip


def beside(runs: Iterable[BenchmarkRun]) -> dict[tuple[str, str, str, str, str], float]:
    """(paper, table, method, data set, metric) → own mean, for all printed numbers that get one."""
    own = OwnRuns(runs)
    found = {p: own(p) for p in published()}
    return {
        (p.paper, p.table, p.method, p.dataset, p.metric): own.value.mean for p, own in found.items() if own is not None
    }


def one(**entries: Any) -> Published:
    (number,) = published(**entries)
    return number


def test_a_run_with_templates_of_its_own_is_beside_no_printed_number() -> None:
    run = made("cmm", "fgvc_aircraft", 0.2, shots=1)
    assert beside([run])
    assert not beside([replace(run, templates=("a sign that says {}.",))])


def test_tables_are_found_by_their_numbers() -> None:
    assert find_tables(["cmm:1", "dam:4", "DAM:IV", "align:d.1"]) == [
        ("cmm", "Table 1"), ("dam", "Table IV"), ("align", "Table D.1")
    ]  # fmt: skip
    assert find_tables(["dam:5"]) == [("dam", f"Table V({letter})") for letter in "abc"]
    assert find_tables(["dam:5b"]) == find_tables(["dam:V(b)"]) == [("dam", "Table V(b)")]
    assert find_tables(["gpua", "gpua:1"]) == [("gpua", f"Table {n}") for n in range(1, 9)]
    with pytest.raises(UnknownNameError, match="Unknown paper 'foo'"):
        find_tables(["foo"])
    with pytest.raises(UnknownNameError, match="Unknown table of cmm '12'"):
        find_tables(["cmm:12"])


def test_all_tables_together_are_all_printed_numbers() -> None:
    tables = [paper_table(paper, table) for paper, table in find_tables(["all"])]
    cells = [cell.number for table in tables for cell in table.cells]
    assert sorted(map(str, cells)) == sorted(map(str, published()))
    counts = count_states(tables)
    assert sum(sum(row.values()) for row in counts.values()) == len(cells)
    for table in tables:
        assert all(len(row) == len(table.columns) for rows in table.groups.values() for _, row in rows)
        cautions = {cell.number.caution for cell in table.cells if cell.number.caution}
        assert set(table.footnotes) == cautions
        assert all(table.footnotes[c.footnote - 1] == c.number.caution for c in table.cells if c.footnote)


def test_rows_and_columns_are_those_of_the_page() -> None:
    speed = paper_table("cmm", "Table 1")
    assert speed.columns == ("no label", "1 shot", "2 shots", "4 shots", "8 shots", "16 shots", "seconds")
    assert list(speed.groups) == [""]
    printed = {name: [cell and cell.number.printed for cell in row] for name, row in speed.groups[""]}
    assert printed["CMM"] == [None, "65.5", "68.6", "71.8", "74.9", "77.6", "1min"]
    assert list(paper_table("fair", "Table 4").groups) == ["unsupervised, inductive", "unsupervised, transductive"]
    assert list(paper_table("align", "Table 1").groups)[:2] == ["average", "imagenet"]
    assert paper_table("dam", "Table VI").columns == tuple(ELEVEN.split())


def test_both_harmonic_means_are_given() -> None:
    (remark,) = (text for text in paper_table("dam", "Table I").remarks if "Means of the harmonic means" in text)
    assert "DAM 81.07" in remark
    assert "HPT 80.23" in remark
    assert not any("Means of" in text for text in paper_table("dam", "Table VII").remarks)


def test_a_run_stands_beside_the_numbers_of_its_key_alone() -> None:
    seeds = [made("align", "dtd", value, seed=seed) for seed, value in enumerate((0.70, 0.71, 0.72))]
    assert beside(seeds) == {("align", "Table D.1", "ALIGN", "dtd", "top-1"): pytest.approx(0.71)}
    own = OwnRuns(seeds)(one(paper="align", table="Table D.1", method="ALIGN", dataset="dtd", shots=16))
    assert own is not None
    assert (own.value.n, own.same_encoder, own.settings) == (3, True, "paper")
    assert beside([made("align", "dtd", 0.7, shots=8)]) == beside(seeds[:1])  # another cell of the same row
    assert OwnRuns(seeds)(one(paper="align", table="Table D.1", method="ALIGN", dataset="dtd", shots=8)) is None


def test_of_repeated_runs_the_last_one_counts() -> None:
    runs = [made("align", "dtd", 0.5), made("align", "dtd", 0.7)]
    assert list(beside(runs).values()) == [0.7]


def test_the_state_records_whether_the_encoder_is_the_published_one() -> None:
    for encoder, kind in ((CLIP16, "here"), ("/models/clip-vit-base-patch16", "here"), ("tiny", "other backbone")):
        table = paper_table("align", "Table D.1", OwnRuns([made("align", "dtd", 0.7, encoder=encoder)]))
        (cell,) = (cell for cell in table.cells if cell.own is not None)
        assert (cell.state.kind, cell.state.detail) == (kind, encoder)
    runs = [made("align", "dtd", 0.7, encoder="tiny"), made("align", "dtd", 0.6)]
    assert list(beside(runs).values()) == [0.6]  # the printed encoder goes first


def test_runs_on_another_test_list_stand_beside_nothing() -> None:
    assert beside([made("align", "dtd", 0.7, n=1880)]) == {}
    inductive = {"protocol": "inductive", "shots": 0, "encoder": "openai/clip-vit-base-patch32"}
    assert beside([made("fair", "caltech101", 0.9, **inductive)]) == {}  # 2,465 images of CoOp's list, not 6,645
    assert set(beside([made("fair", "caltech101", 0.9, n=6645, **inductive)])) == {
        ("fair", "Table 1", "FAIR", "caltech101", "top-1")
    }
    assert {table for _, table, *_ in beside([made("fair", "oxford_pets", 0.9, **inductive)])} == {
        "Table 1", "Table 2", "Table 3", "Table 4", "Table 7", "Table 8", "Table 10"
    }  # fmt: skip


def test_ablations_are_distinguished() -> None:
    deep = beside([made("cmm", "fgvc_aircraft", 0.2, shots=1, changes={"layers": 3})])
    assert deep == {("cmm", "Table 8", "CMM, 3 non-linear layers", "fgvc_aircraft", "top-1"): 0.2}
    assert set(beside([made("cmm", "fgvc_aircraft", 0.2, shots=1)])) == {
        ("cmm", "Table 8", "CMM, linear", "fgvc_aircraft", "top-1")
    }


def test_runs_with_other_settings_than_printed_stand_beside_nothing() -> None:
    assert beside([made("align", "dtd", 0.7, changes={"epochs": 3})]) == {}
    assert len(beside([made("align", "dtd", 0.7, changes={"random_state": 5})])) == 1
    defaults = {p.name: p.default for p in parameters(method_class("align"))}
    run = replace(made("align", "dtd", 0.7, changes=defaults), settings="default")
    own = OwnRuns([run])(one(paper="align", table="Table D.1", method="ALIGN", dataset="dtd", shots=16))
    assert own is not None
    assert own.settings == "default"


def test_unlabeled_images_per_class_are_distinguished() -> None:
    entries = {"protocol": "inductive", "shots": 0, "encoder": f"facebook/dinov2-base+{CLIP16}"}
    few, all_ = (beside([made("gpua", "dtd", 0.5, per_class=n, **entries)]) for n in (16, None))
    assert {key[2] for key in few} == {"GPUA, 16 unlabeled images per class", "GPUA, THS loss"}
    assert "GPUA" in {key[2] for key in all_}
    assert not {key[2] for key in few} & {key[2] for key in all_}


def test_rows_are_of_one_encoder_of_both_or_of_the_vision_only_one() -> None:
    entries = {"protocol": "inductive", "shots": 0, "per_class": 16}
    number = one(paper="gpua", table="Table 5", dataset="dtd", method="GPUA, vision only, 16 images per class",
                 backbone="DINOv2 and CLIP ViT-B/16")  # fmt: skip
    assert f" --encoder facebook/dinov2-base --clip-encoder {CLIP16} " in bench_command(number)
    assert substitute_command(number).endswith("--per-class 16 --encoder tiny-vision --clip-encoder tiny")
    rows = {}
    for encoder, clip_encoder in (("tiny-vision+tiny", ""), ("tiny-vision", "tiny"), ("tiny", "")):
        run = replace(made("gpua", "oxford_pets", 0.5, encoder=encoder, **entries), clip_encoder=clip_encoder)
        rows[encoder] = {(table, method) for _, table, method, *_ in beside([run])}
    assert rows["tiny"] == {("Table 3", "GPUA, CLIP features only")}
    assert rows["tiny-vision"] == {
        ("Table 3", "GPUA, vision-only features"), ("Table 5", "GPUA, vision only, 16 images per class")
    }  # fmt: skip
    assert ("Table 3", "GPUA, 16 unlabeled images per class") in rows["tiny-vision+tiny"]
    assert not rows["tiny-vision+tiny"] & (rows["tiny"] | rows["tiny-vision"])
    printed = made("gpua", "dtd", 0.5, encoder="/models/dinov2-base", **entries)
    own = OwnRuns([replace(printed, clip_encoder=CLIP16)])(number)
    assert own is not None
    assert own.same_encoder
    assert own.encoder == f"/models/dinov2-base with text of {CLIP16}"


def halves(name: str, base: float, new: float, seed: int, **entries: Any) -> list[BenchmarkRun]:
    n = dataset(name).n_test
    entries = {"protocol": "base-to-new", "seed": seed} | entries
    return [
        made("maple", name, base, n=n // 2, part="base", **entries),
        made("maple", name, new, n=n - n // 2, part="new", **entries),
    ]


def test_harmonic_means_are_of_each_seed_and_of_the_averages() -> None:
    names = ELEVEN.split()
    values = {
        (name, seed): (0.9 - 0.03 * i, 0.5 + 0.04 * i + 0.01 * seed) for i, name in enumerate(names) for seed in (1, 2)
    }
    runs = [run for (name, seed), (base, new) in values.items() for run in halves(name, base, new, seed)]
    found = beside(runs)
    key = ("align", "Table 1", "MaPLe")
    single = np.mean([harmonic_mean(*values["dtd", seed]) for seed in (1, 2)])
    assert found[*key, "dtd", "harmonic mean"] == pytest.approx(single)
    means = {seed: np.mean([values[name, seed] for name in names], axis=0) for seed in (1, 2)}
    assert found[*key, "average", "new"] == pytest.approx(np.mean([means[seed][1] for seed in (1, 2)]))
    assert found[*key, "average", "harmonic mean"] == pytest.approx(
        np.mean([harmonic_mean(*means[seed]) for seed in (1, 2)])
    )
    without = [run for run in runs if run.dataset != "dtd"]
    assert (*key, "average", "new") not in beside(without)
    assert (*key, "eurosat", "new") in beside(without)


def test_halves_count_only_where_both_make_up_the_test_list() -> None:
    assert beside(halves("dtd", 0.8, 0.6, 1)[:1]) == {}
    assert len(beside(halves("dtd", 0.8, 0.6, 1))) == 6  # base, new and H in two papers


def test_transfers_are_from_imagenet() -> None:
    entries = {"protocol": "domain", "n": 10_000, "part": "imagenetv2"}
    found = beside([made("maple", "imagenet", 0.64, **entries)])
    assert set(found) == {
        (paper, table, "MaPLe", "imagenetv2", "top-1") for paper, table in (("align", "Table 3"), ("dam", "Table III"))
    }
    assert beside([made("maple", "caltech101", 0.64, **entries)]) == {}


def test_long_tails_have_their_imbalance() -> None:
    entries = {"protocol": "long-tail", "shots": "all", "imbalance": 20.0}
    n = dataset("dtd").n_test
    parts = (("base", 0.8, n // 2), ("new", 0.6, n - n // 2))
    twenty = [made("lfa", "dtd", value, n=size, part=part, **entries) for part, value, size in parts]
    assert beside(twenty) == {}  # LFA is printed for 10 alone
    entries["imbalance"] = 10.0
    ten = [made("lfa", "dtd", value, n=size, part=part, **entries) for part, value, size in parts]
    assert beside(ten) == {("dam", "Table V(a)", "LFA", "dtd", "harmonic mean"): pytest.approx(0.96 / 1.4)}


def test_what_dam_learned_stands_beside_the_learned_hyper_parameters() -> None:
    n = dataset("dtd").n_test
    runs = []
    for seed, alpha in ((1, 0.51), (2, 0.53)):
        for part, size in (("base", n // 2), ("new", n - n // 2)):
            run = made("dam", "dtd", 0.8, n=size, part=part, protocol="base-to-new", seed=seed)
            diagnosis = {"alpha": alpha, "lambda_image": 0.3, "mu_image_to_text": 1.2}
            runs.append(replace(run, run=replace(run.run, diagnosis=diagnosis)))
    table = paper_table("dam", "Table VI", OwnRuns(runs))
    own = {cell.number.metric: cell.own for cell in table.cells if cell.own and cell.number.dataset == "dtd"}
    assert own.keys() == {"α", "μ_IT"}
    assert own["α"].value.mean == pytest.approx(0.52)
    assert str(own["α"]).startswith("0.5200 ± 0.127")
    assert str(own["μ_IT"]) == "1.2000 ± 0.0000"


def test_what_the_closest_runs_have_otherwise() -> None:
    numbers = [cell.number for cell in paper_table("dam", "Table VI").cells]
    halves: dict[str, Any] = {"protocol": "base-to-new", "part": "base", "n": 5}

    def closest(*runs: BenchmarkRun) -> str:
        return OwnRuns(runs).closest(numbers)

    digits = made("dam", "digits", 0.8, sentences="", **halves)
    assert closest(digits) == "the data set digits, no sentences of a language model"
    assert closest(digits, made("dam", "dtd", 0.8, n=5)) == "the protocol few-shot"
    assert closest(digits, made("dam", "dtd", 0.8, **halves)) == "other test lists, or not all data sets and parts"
    assert closest(made("lfa", "dtd", 0.8)) == ""


def test_plain_values_hold_states_commands_and_own_numbers() -> None:
    content = paper_table("align", "Table D.1", OwnRuns([made("align", "dtd", 0.7)])).as_dict()
    assert len(content["numbers"]) == 275
    (own,) = (entry for entry in content["numbers"] if "own" in entry)
    assert own["own"]["mean"] == 0.7
    assert {entry["state"] for entry in content["numbers"]} == {"here", "needs weights", "needs GPU-hours"}


def test_sentences_have_to_be_those_of_the_row() -> None:
    entries = {"protocol": "inductive", "shots": 0, "encoder": "openai/clip-vit-base-patch32"}
    rows = {}
    for sentences in ("", "hpt", "CuPL_prompts_ucf101"):
        found = beside([made("zero_shot", "ucf101", 0.6, sentences=sentences, **entries)])
        rows[sentences] = {method for paper, table, method, *_ in found if (paper, table) == ("fair", "Table 1")}
    assert rows == {"": {"CLIP"}, "hpt": set(), "CuPL_prompts_ucf101": {"CuPL"}}
    halves = {"protocol": "base-to-new", "part": "base", "n": 1}
    assert not beside([made("dam", "dtd", 0.8, sentences="", **halves)])
    (cupl,) = published(paper="fair", table="Table 1", method="CuPL", dataset="dtd")
    assert "--descriptions CUPL" in bench_command(cupl)
    (dam,) = published(paper="dam", table="Table I", method="DAM", dataset="dtd", metric="base")
    assert "--descriptions HPT" in bench_command(dam)
