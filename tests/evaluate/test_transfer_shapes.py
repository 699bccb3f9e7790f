"""The order of rows in tables of transfers: the source, each target, and the average of the targets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from modalign.cli import run as run_command
from modalign.data.digit_shifts import shown_digits
from modalign.evaluate.benchmark.benchmark_records import BenchmarkRun
from modalign.evaluate.metrics import proportion
from modalign.evaluate.paired import compare_pair
from modalign.evaluate.publications.bench_commands import substitute_command
from modalign.evaluate.publications.shapes.row_claims import SOURCE, TARGETS, row_claims
from modalign.evaluate.publications.shapes.shape_statements import OwnShapes, ShapeStatement
from modalign.evaluate.published import published
from modalign.evaluate.runs import Run
from modalign.methods import method_class
from modalign.methods.contract.parameters import parameters

SIZES = {"digits": 539, "digits_inverted": 539, "digits_blurred": 539, "digits_noise": 266, "letters": 60, "shapes": 25}


def answers(method: str, share: float, *parts: str, seed: int = 1, same: bool = False) -> list[BenchmarkRun]:
    """Runs by the protocol of domain generalization; with ``same``, a digit has the same answer in each variant."""
    settings = {p.name: p.default for p in parameters(method_class(method))}
    shots = 0 if method == "zero_shot" else 16
    made = []
    for number, part in enumerate(parts):
        rng = np.random.default_rng([seed, len(method), 0 if same else number])
        correct = rng.random(SIZES[part]) < share
        run = Run(
            method, shots, seed, proportion(int(correct.sum()), len(correct)), 1.0, 1.0, 16, 4, "drawn", settings, {},
            "features", f"images of {part}", 1, {}, correct=correct,
        )  # fmt: skip
        made.append(BenchmarkRun("domain", "digits", part, "tiny", "default", None, None, False, 1.0, run))
    return made


def stated(runs: list[BenchmarkRun], compared: str) -> list[ShapeStatement]:
    return [one for one in OwnShapes(runs)("dam", "Table III") if one.claim.metric == compared]


def printed(paper: str, table: str, compared: str) -> dict[str, float]:
    claims = (claim for claim in row_claims(paper, table) if claim.metric == compared)
    return {claim.second.name: round(claim.difference("digits"), 2) for claim in claims}


def test_a_claim_is_about_the_source_a_target_or_the_average_of_the_targets() -> None:
    assert printed("align", "Table 2", SOURCE)["CoOp"] == 0.52
    assert printed("align", "Table 2", "caltech101")["CoOp"] == 0.21
    assert printed("align", "Table 2", TARGETS)["CoCoOp"] == 1.41, "as the table has it"
    mean = np.mean([64.64 - 64.07, 49.96 - 49.15, 50.94 - 50.90, 76.16 - 76.98])
    assert printed("align", "Table 3", TARGETS)["MaPLe"] == pytest.approx(mean, abs=0.005), "it has no average"
    assert printed("dam", "Table III", TARGETS)["CLIP"] == 4.33, "which learned from no labels"
    assert printed("cmm", "Table 3", SOURCE).keys() == printed("cmm", "Table 3", TARGETS).keys()
    (number,) = published(paper="dam", table="Table III", method="DAM", dataset="average")
    assert substitute_command(number).startswith("modalign bench digits --protocol domain --methods dam --shots 16")


def test_the_average_weighs_targets_equally_whatever_their_sizes() -> None:
    parts = ("digits", "digits_noise", "letters", "shapes")
    ours = [*answers("dam", 0.8, *parts), *answers("coop", 0.5, *parts)]
    (one,) = stated(ours, TARGETS)
    accuracy = {(run.run.method, run.part): run.run.correct.mean() for run in ours}
    expected = np.mean([accuracy["dam", part] - accuracy["coop", part] for part in parts[1:]])
    assert one.comparison.difference == pytest.approx(expected)
    assert one.comparison.n == 266 + 60 + 25
    assert one.comparison.low < expected < one.comparison.high
    assert one.verdict == "confirmed"
    assert one.tested == "domain, 16 labels, average of the targets"
    (source,) = stated(ours, SOURCE)
    assert source.comparison.difference == pytest.approx(accuracy["dam", "digits"] - accuracy["coop", "digits"])


def test_a_digit_in_two_variants_is_one_image() -> None:
    """Equal answers in both variants tell no more than one of them does."""
    parts = ("digits", "digits_inverted", "digits_blurred")
    ours, others = (answers(method, share, *parts, same=True) for method, share in (("dam", 0.8), ("coop", 0.77)))
    (one,), (source,) = (stated([*ours, *others], compared) for compared in (TARGETS, SOURCE))
    alone = compare_pair(ours[0].run.correct, others[0].run.correct, level=one.comparison.level)
    assert (one.comparison.low, one.comparison.high) == pytest.approx((alone.low, alone.high), abs=0.002)
    assert one.comparison.n == source.comparison.n == 539
    several = stated([*answers("dam", 0.8, *parts), *answers("coop", 0.77, *parts)], TARGETS)[0].comparison
    assert several.high - several.low < 0.85 * (alone.high - alone.low), "other answers tell more"


def test_the_answers_of_a_digit_are_added_up() -> None:
    """By a loop over the digits, for variants of which one has half of the classes."""
    parts = ("digits_inverted", "digits_noise")
    ours, others = answers("dam", 0.8, *parts), answers("coop", 0.6, *parts)
    of_digit: dict[int, float] = {}
    for mine, other in zip(ours, others, strict=True):
        for row, a, b in zip(shown_digits(mine.part), mine.run.correct, other.run.correct, strict=True):
            of_digit[int(row)] = of_digit.get(int(row), 0.0) + (float(a) - float(b)) / (2 * SIZES[mine.part])
    values = 539 * np.array(list(of_digit.values()))
    bound = np.abs(values).max() * 1.01
    expected = compare_pair(np.clip(values / bound, 0, 1), np.clip(-values / bound, 0, 1))
    (one,) = stated([*ours, *others], TARGETS)
    own = (one.comparison.difference, one.comparison.low, one.comparison.high)
    assert own == pytest.approx((bound * expected.difference, bound * expected.low, bound * expected.high), abs=0.002)


def test_rows_are_averaged_over_the_same_targets_and_seeds() -> None:
    all_parts, fewer = ("digits", "digits_noise", "letters", "shapes"), ("digits", "digits_noise", "letters")
    assert not stated([*answers("dam", 0.8, *all_parts), *answers("coop", 0.5, *fewer)], TARGETS)
    assert not stated([*answers("dam", 0.8, *fewer[:2]), *answers("coop", 0.5, *fewer[:2])], TARGETS), (
        "one is no average"
    )
    ours = [*answers("dam", 0.8, *all_parts), *answers("dam", 0.8, *fewer, seed=2)]
    both = [*answers("coop", 0.5, *all_parts), *answers("coop", 0.5, *all_parts, seed=2)]
    (one,) = stated([*ours, *both], TARGETS)
    assert one.seeds == 1
    (free,) = (one for one in stated([*ours, *answers("zero_shot", 0.5, *all_parts)], TARGETS))
    assert free.claim.second.name == "CLIP"


def test_one_command_states_the_order_on_features_of_variants(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    text, names = rng.standard_normal((4, 16)).astype(np.float32), np.array(list("abcd"))
    for name, classes, lists in (
        ("imagenet", [0, 1, 2, 3], {"train": 20, "test": 10}),
        ("imagenetv2", [0, 1, 2, 3], {"test": 9}),
        ("imagenet_r", [3, 1], {"test": 8}),
        ("a_photo_set", [2, 0], {"test": 8}),
    ):
        arrays: dict[str, np.ndarray] = {}
        for part, each in lists.items():
            labels = np.repeat(np.arange(len(classes)), each)
            noise = rng.standard_normal((len(labels), 16)).astype(np.float32)
            arrays |= {f"{part}_images": text[classes][labels] + noise, f"{part}_labels": labels}
        np.savez(tmp_path / f"{name}.npz", text=text[classes], text_names=names[classes], **arrays)
    words = ["tables", "cmm:3", "--on", str(tmp_path), "--seeds", "1", "--set", "cmm.steps=3"]
    assert run_command([*words, "--record", str(tmp_path / "runs.jsonl")]) == 0
    printed = capsys.readouterr()
    assert "Order of rows on imagenet, features, cmm.steps=3, 1 seed:" in printed.out, (
        "the source is not the first by name"
    )
    tested = {line.split("16 labels, ")[1].split("  ")[0] for line in printed.out.splitlines() if "CMM above" in line}
    assert tested == {"source", "imagenetv2", "imagenet_r", "average of the targets"}
    assert "left out CoOp, CoCoOp: it learns inside an encoder" in printed.err
