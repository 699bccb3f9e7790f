"""Every printed number has one state, by rules, and a command line wherever the method is built."""

from __future__ import annotations

import shlex
from collections import Counter

import pytest

from modalign.cli.arguments.assignments import hyperparameters_by_method
from modalign.data.splits.benchmarks import find_dataset
from modalign.evaluate.publications.bench_commands import ENCODERS, SEGMENTERS, bench_command, encoder_of
from modalign.evaluate.publications.gpu_hours import gpu_hours, sets_of_average
from modalign.evaluate.publications.number_states import KINDS, RULES, NumberState, number_state
from modalign.evaluate.publications.paper_settings import PROTOCOLS
from modalign.evaluate.publications.parameter_counts import SIZES, counted, fair_parameters, hpt_parameters
from modalign.evaluate.publications.printed_block import rounding
from modalign.evaluate.publications.printed_methods import built_method, switches
from modalign.evaluate.published import Published, published
from modalign.methods import ALL_METHODS, method_class
from modalign.methods.contract.parameters import check_parameters
from modalign.segmentation.dense import FEATURES

STATES = {number: number_state(number) for number in published()}


def one(**entries: object) -> NumberState:
    (number,) = published(**entries)  # type: ignore[arg-type]
    return number_state(number)


def test_no_number_is_without_a_state_and_each_rule_is_used() -> None:
    deciding = Counter(next(rule.__name__ for rule in RULES if rule(number) is not None) for number in STATES)
    assert set(deciding) == {rule.__name__ for rule in RULES}
    assert {state.kind for state in STATES.values()} == set(KINDS)
    assert all(state.detail for state in STATES.values())


def test_the_state_follows_what_is_missing() -> None:
    few = {"paper": "align", "table": "Table D.1", "method": "CoOp"}
    assert one(**few, shots=1, dataset="dtd").kind == "needs weights"
    assert one(**few, shots=16, dataset="imagenet").kind == "needs GPU-hours"
    assert one(paper="cmm", table="Table 2", method="CMM", backbone="RN50").words == "needs images: imagenet"
    assert one(paper="cmm", table="Table 6", method="CMM, map only", dataset="oxford_flowers").kind == "other backbone"
    assert one(paper="dam", table="Table X", method="DAM", metric="seconds").kind == "not reproducible"
    assert one(paper="dam", table="Table IV", method="CLIP + CMA", dataset="dtd").kind == "not reproducible"
    assert one(paper="dam", table="Table IV", method="CLIP", dataset="dtd").kind == "needs images"
    assert one(paper="gpua", table="Table 7", method="GPUA", dataset="imagenet").kind == "not reproducible"
    assert one(paper="fair", table="Table 1", method="POUF", dataset="dtd").words == "method not built: POUF"
    assert one(paper="fair", table="Table 1", method="CLIP", dataset="dtd").words == "needs images: dtd, VISSL's lists"
    assert "lafter_like" in one(paper="fair", table="Table 1", method="LaFTer", dataset="dtd").detail
    coder = one(paper="fair", table="Table 7", method="FAIR, CODER labels", dataset="dtd")
    assert coder.kind == "method not built"
    assert "images whose true class is among the five best" in coder.detail


@pytest.mark.parametrize("number", [n for n, s in STATES.items() if s.kind == "method not built"][::40])
def test_what_is_not_built_has_no_command(number: Published) -> None:
    assert STATES[number].command == bench_command(number) == ""


def test_every_other_number_has_a_command_that_parses() -> None:
    commands = {}
    for number, state in STATES.items():
        if state.kind in ("method not built", "not reproducible") or number.setting == "segmentation":
            continue
        assert state.command, number
        commands[state.command] = number
    assert len(commands) > 500
    for command, number in commands.items():
        program, name, *words = shlex.split(command)
        assert program == "modalign"
        if name == "tables":
            continue
        options = list(zip(words[1::2], words[2::2], strict=True))
        given = dict(options)
        assert given["--protocol"] in PROTOCOLS
        assert given["--methods"] in ALL_METHODS
        assert all(s == "all" or find_dataset(s) for s in given["--datasets"].split(","))
        assert ("--encoder" in given) == (words[0] == "ROOT")
        changes = hyperparameters_by_method([value for option, value in options if option == "--set"])
        assert set(changes) <= {given["--methods"]}
        check_parameters(method_class(given["--methods"])(**changes.get(given["--methods"], {})))
        few = "16" in number.method or (number.paper, number.setting) == ("gpua", "ablation")
        assert ("--per-class" in given) == few


def test_transfer_commands_name_their_source_first() -> None:
    (number,) = published(paper="dam", table="Table II", method="DAM", dataset="eurosat")
    assert "--protocol cross-dataset --methods dam --datasets imagenet,eurosat --shots 16" in bench_command(number)
    (number,) = published(paper="dam", table="Table V(b)", method="DAM", dataset="eurosat")
    assert "--protocol long-tail --methods dam --datasets eurosat --imbalances 20 --encoder" in bench_command(number)


def test_every_backbone_has_an_encoder() -> None:
    assert {number.backbone for number in STATES} <= set(ENCODERS)
    assert encoder_of("RN50") != encoder_of("RN101")


def test_rows_of_tables_are_methods_with_their_switches() -> None:
    rows = {number.method for number in STATES if number.setting != "segmentation"}
    built = {row for row in rows if built_method(row) is not None}
    assert {"CMM, map only", "HPT", "DAM, texts aligned", "FAIR, LoRA", "GPUA, CSLS loss", "TransCLIP-ZS"} <= built
    assert not {"POUF", "LaFTer", "DPA", "ProGrad", "Candle"} & built
    assert {"map", "layers", "triplet_weight"} <= set(switches("cmm"))
    assert built_method("CMM") is not None
    assert not built_method("CMM").changes  # type: ignore[union-attr]


def test_segmenters_are_those_of_the_library() -> None:
    assert {*SEGMENTERS} <= {*FEATURES}
    plain = {name.replace("-", "").lower() for name in SEGMENTERS.values()}
    assert plain <= {*FEATURES, "proxyclip"}


def test_numbers_of_segmentation_have_a_command_of_segment() -> None:
    (number,) = (n for n in STATES if (n.table, n.method, n.dataset) == ("Table 8", "SC-CLIP + GPUA", "cityscapes"))
    assert STATES[number].command == (
        "modalign segment --dataset cityscapes --root ROOT --features scclip "
        "--encoder openai/clip-vit-base-patch16 --gpua facebook/dinov3-vitb16-pretrain-lvd1689m"
    )


def test_counts_of_parameters_are_the_printed_ones() -> None:
    found = [number for number in STATES if "parameters" in number.metric and STATES[number].kind == "here"]
    assert len(found) == 9
    for number in found:
        count = counted(number.method, number.metric, number.backbone)
        unit = 1000 if number.printed.endswith("K") else 1
        assert count is not None
        assert abs(count - number.value) <= unit * rounding(number.printed.rstrip("K")) * (unit > 1)
    assert hpt_parameters(SIZES["ViT-B/16"]) == 295_960
    assert fair_parameters(SIZES["ViT-B/32"], 10) == 45_056


def test_hours_follow_from_the_arithmetic() -> None:
    """CoOp on ImageNet, 16 shots: 50 epochs of 500 steps of 32 images and 1,000 classes, three seeds."""
    (number,) = published(paper="align", table="Table 2", method="CoOp", dataset="dtd")
    step = (32 * 35e9 + 1000 * 2 * 6e9) / 30e12
    assert gpu_hours(number, "cross-dataset", ("dtd",)) == pytest.approx(3 * 50 * 500 * step / 3600)


def test_hours_of_an_average_are_those_of_its_data_sets() -> None:
    (average,) = published(paper="dam", table="Table I", method="DAM", dataset="average", metric="new")
    names = sets_of_average(average, ())
    assert len(names) == 11
    single = [gpu_hours(average, "base-to-new", (name,)) for name in names]
    assert gpu_hours(average, "base-to-new", names) == pytest.approx(sum(single))
    assert sets_of_average(average, ("dtd", "eurosat")) == ("dtd", "eurosat")
