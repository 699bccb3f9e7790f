"""The comparison on data of known structure: ranking, refused methods, ablations, and sealed test labels."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path

import numpy as np
import pytest
from drawings import draw

from modalign.core.errors import InputError, UnknownNameError
from modalign.core.features import ClassText, EncoderSpec, Features
from modalign.data.digits import DIGIT_TEMPLATES, load_digits
from modalign.data.splits.split import Split
from modalign.evaluate.comparison import schedule as module
from modalign.evaluate.comparison.compare import compare
from modalign.evaluate.comparison.comparison_inputs import load_inputs
from modalign.evaluate.comparison.findings import SEPARATOR
from modalign.evaluate.comparison.result import MethodComparison
from modalign.evaluate.comparison.schedule import RANDOM_TEXT
from modalign.evaluate.metrics import proportion
from modalign.evaluate.runs import read_runs
from modalign.methods import METHODS, OTHER_METHODS, method_class, register_method
from modalign.methods.baselines.linear_probe import LinearProbe

NAMES = ("cat", "dog", "elk", "fox")
QUICK = {
    "cmm": {"steps": 60}, "cross_modal_probe": {"steps": 60}, "wise_ft": {"steps": 60},
    "tip_adapter_f": {"epochs": 2, "beta": 5.5},
    "lfa": {"steps": 20}, "gpua": {"steps": 10}, "linear_probe": {"C": 10.0}, "tip_adapter": {"beta": 5.5},
}  # fmt: skip
FEW = ("zero_shot", "linear_probe", "lfa", "tip_adapter", "cma", "gpua")


def problem(per_class: int = 40, d: int = 16, seed: int = 0, turn: float = 1.0) -> tuple[Features, ClassText]:
    """Images tightly around four directions; texts are these directions turned into other dimensions and pushed aside
    together: zero-shot is often wrong, and what learns from a few labels hardly ever."""
    rng = np.random.default_rng(seed)
    y = np.repeat(np.arange(4), per_class)
    X = np.eye(4, d)[y] + 0.16 * rng.normal(size=(len(y), d))
    text = np.eye(4, d) + turn * rng.normal(size=(4, d)) * 0.8
    text[:, -1] += 1.5
    X, text = (a / np.linalg.norm(a, axis=1, keepdims=True) for a in (X, text))
    order = rng.permutation(len(y))
    spec = EncoderSpec("mine", "f" * 64, d, logit_scale=50.0)
    names = tuple(f"{NAMES[y[i]]}/{i}.jpg" for i in order)
    features = Features(X[order].astype(np.float32), names, y[order], NAMES, spec=spec)
    return features, ClassText(text.astype(np.float32), NAMES, spec=spec)


def run(features: Features, text: ClassText | bool, **options: object) -> MethodComparison:
    methods = options.setdefault("methods", FEW)
    options.setdefault("hyperparameters", {k: v for k, v in QUICK.items() if k in methods})
    return compare(features, text=text, **{"shots": (0, 1, 4), "seeds": 2, **options})


@pytest.fixture(scope="module")
def found() -> MethodComparison:
    return run(*problem(), shots=(0, 1, 4, "all"), seeds=2)


def mean(result: MethodComparison, method: str, shots: int | str) -> float:
    return result.at(method, shots).accuracy.mean


# -- what comes out ---------------------------------------------------------------------------------------------------


def test_the_order_of_the_methods_is_the_known_one(found: MethodComparison) -> None:
    zero_shot = mean(found, "zero_shot", 0)
    assert 0.3 < zero_shot < 0.9
    assert mean(found, "linear_probe", "all") > max(0.95, zero_shot + 0.1)
    assert mean(found, "tip_adapter", 4) > zero_shot
    assert mean(found, "cma", 4) == mean(found, "cma", 0) == zero_shot  # its published form cannot differ
    assert found.best.accuracy.mean == max(row.accuracy.mean for row in found.table)


def test_every_method_runs_where_it_can(found: MethodComparison) -> None:
    budgets = {m: [row.shots for row in found.table if row.method == m] for m in found.methods}
    few = [1, 4, "all"]
    assert budgets == {"zero_shot": [0], "linear_probe": few, "lfa": [0, *few], "tip_adapter": few, "cma": [0, *few],
                       "gpua": [0]}  # fmt: skip
    assert found.at("gpua", 4) == found.at("gpua", 0)
    assert found.at("linear_probe", 0) is None
    assert all(row.accuracy.n == 2 for row in found.table)
    assert found.shots == (0, 1, 4, "all")
    assert found.left_out == ()


def test_verdicts_compare_every_method_with_zero_shot_and_the_best_with_the_second(found: MethodComparison) -> None:
    for shots in found.shots:
        standing = [row.method for row in found.standing(shots)]
        own = [v for v in found.verdicts if v.shots == shots]
        assert {v.first for v in own if v.kind == "reference"} == {*standing} - {"zero_shot"}
        (duel,) = (v for v in own if v.kind == "runner-up")
        assert (duel.first, duel.second) == tuple(standing[:2])
        for v in own:
            a, b = found.at(v.first, shots), found.at(v.second, shots)
            assert v.comparison.difference == pytest.approx(a.accuracy.mean - b.accuracy.mean)
            assert v.comparison.low <= v.comparison.difference <= v.comparison.high
    by = {(v.first, v.shots): v for v in found.verdicts if v.kind == "reference"}
    assert by["linear_probe", "all"].comparison.significant
    assert by["linear_probe", "all"].sentence.startswith(
        "all labels: Linear probe is significantly better than Zero-shot CLIP"
    )
    assert not by["cma", 4].comparison.significant
    assert by["cma", 4].sentence.startswith("4 labels: No significant difference between Cross-modal alignment")


def test_two_rows_of_the_table_have_one_verdict_wherever_they_are_compared(found: MethodComparison) -> None:
    said: dict[frozenset, set] = {}
    for v in found.verdicts:
        rows = [(v.first, found.at(v.first, v.shots)), (v.second, found.at(v.second, v.shots))]
        c = v.comparison if rows[0][0] < rows[1][0] else v.comparison.reversed()
        said.setdefault(frozenset(rows), set()).add((c.significant, c.low, c.high, c.p_value, c.level))
    assert max(map(len, said.values())) == 1
    for v in (*found.verdicts, *found.ablations):
        assert v.comparison.significant == (v.comparison.low > 0 or v.comparison.high < 0)
    for shots in found.shots:  # corrected together: no comparison that is made here alone is at the full level
        levels = [v.comparison.level for v in found.verdicts if v.shots == shots]
        assert min(levels) < 0.05 or len(levels) == 1


def test_chance_level_stands_in_the_table_and_in_the_sentence(found: MethodComparison) -> None:
    assert found.chance == 1 / 4
    assert found.rows[-1] == ["Chance level", *["25.0"] * len(found.shots)]
    assert "Chance level is 25.0 %." in found.sentence
    assert found.as_dict()["chance"] == 0.25
    unnamed = replace(found, record={})
    assert (unnamed.chance, unnamed.rows) == (None, found.rows[:-1])
    assert "hance" not in unnamed.sentence


@pytest.mark.parametrize("share", [0.2, 0.25, 0.3, 0.5])
def test_the_best_method_is_called_different_from_chance_only_where_it_is(
    found: MethodComparison, share: float
) -> None:
    n, hits = found.n_test, round(share * found.n_test)
    runs = [
        replace(r, accuracy=proportion(hits, n), correct=np.arange(n) < hits) for r in found.runs if r.method == "lfa"
    ]
    result = replace(found, runs=tuple(runs))
    above = proportion(hits, n).low > 0.25
    assert ("Chance level is 25.0 %." in result.sentence) == above
    assert ("does not differ significantly from chance level, 25.0 %." in result.sentence) == (not above)


def test_every_ingredient_is_switched_off_once(found: MethodComparison) -> None:
    have = {(a.method, a.ingredient, a.shots) for a in found.ablations}
    expected = set()
    for name in found.methods:
        cls = method_class(name)
        own = {k for k in (0, 4) if found.at(name, k) is not None and (k == 0 or name not in ("zero_shot", "gpua"))}
        words = [*cls.ablations, *([RANDOM_TEXT] if cls.takes_text else [])]
        expected |= {(name, word, k) for word in words for k in own}
    assert have == expected
    rows = {(a.method, a.ingredient, a.shots): a for a in found.ablations}
    for name, word in (("lfa", "identity map"), ("tip_adapter", "no cache"), ("cma", "cosine alone")):
        row = rows[name, word, 4]
        assert row.without.mean == pytest.approx(mean(found, "zero_shot", 0))
        assert row.comparison.difference == pytest.approx(row.accuracy.mean - row.without.mean)
    chance = rows["zero_shot", RANDOM_TEXT, 0]
    assert chance.without.mean < chance.accuracy.mean
    assert chance.accuracy == found.at("zero_shot", 0).accuracy


def test_without_ablations_there_are_none() -> None:
    result = run(*problem(), ablations=False, seeds=1, methods=("zero_shot", "lfa"))
    assert result.ablations == ()
    assert not any(SEPARATOR in r.method for r in result.runs)


def test_costs_are_measured(found: MethodComparison) -> None:
    assert [c.method for c in found.costs] == list(found.methods)
    for cost in found.costs:
        assert cost.fit_seconds >= 0
        assert cost.n_test == 80
        assert cost.peak_bytes is None or cost.peak_bytes >= 0
    assert {c.shots for c in found.costs if c.method not in ("zero_shot", "gpua")} == {"all"}


def test_the_best_and_the_best_with_a_map_have_diagnostics(found: MethodComparison) -> None:
    first = found.diagnostics[0]
    assert (first.method, first.shots) == (found.best.method, found.best.shots)
    assert sum(b.n for b in first.reliability["uncalibrated"]) == 80
    (mapped,) = (look for look in found.diagnostics if look.clouds)
    assert mapped.method == "gpua"
    assert mapped.clouds["before"][0].shape == (80, 16)
    assert set(mapped.gap) == {"before", "after"}
    assert list(mapped.reliability) == ["uncalibrated"]  # nothing to fit a temperature on without labels


def test_json_gives_everything_back(found: MethodComparison, tmp_path: Path) -> None:
    path = found.save(tmp_path / "found.json")
    content = json.loads(path.read_text())
    again = MethodComparison.from_dict(content)
    assert again.runs == found.runs
    for name in ("table", "verdicts", "ablations", "costs", "left_out", "notes", "sentence"):
        assert getattr(again, name) == getattr(found, name), name
    assert [(look.method, look.reliability, look.gap) for look in again.diagnostics] == [
        (look.method, look.reliability, look.gap) for look in found.diagnostics
    ]
    assert content["sentence"] == found.sentence
    assert len(content["verdicts"]) == len(found.verdicts)
    with pytest.raises(InputError, match="format modalign-comparison-1"):
        MethodComparison.from_dict({})


# -- nobody peeks -----------------------------------------------------------------------------------------------------


def test_no_test_uses_training_images_and_labels_are_read_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[Split] = []
    once = module.run_once

    def watch(name, method, features, text, split, seed, **options):
        fit = method.fit

        def fit_and_look(X, **given):
            assert not set(map(bytes, X.vectors[X.labels >= 0])) & set(map(bytes, features.vectors[split.test]))
            if given["validation"] is not None:
                held = set(map(bytes, given["validation"].vectors))
                assert not held & set(map(bytes, features.vectors[split.test]))
                assert not held & set(map(bytes, X.vectors[X.labels >= 0]))
            return fit(X, **given)

        method.fit = fit_and_look
        seen.append(split)
        return once(name, method, features, text, split, seed, **options)

    monkeypatch.setattr(module, "run_once", watch)
    result = run(*problem())
    assert len(seen) == len(result.runs)
    assert len({r.test for r in result.runs}) == 1
    assert {r.asked for r in result.runs} == {1}
    for split in seen:
        assert not np.intersect1d(split.test, np.concatenate([split.train, split.validation, split.unlabeled])).size


def test_other_labels_on_the_test_images_change_no_choice() -> None:
    """Accuracies follow the labels; what the methods learned, and so the answers, must not."""
    features, text = problem()
    rows = module.Draws(load_inputs(features, text=text), 0.5).split(0, 1).test
    labels = features.labels.copy()
    groups = [rows[labels[rows] == k] for k in range(4)]
    moved = labels.copy()
    for k, group in enumerate(groups):  # every class keeps its number of test images, and the draw its images
        moved[group] = (k + 1) % 4
    official = Split(np.setdiff1d(np.arange(len(labels)), rows), test=rows, description="mine")
    pair = [
        run(replace(features, labels=y), text, ablations=False, seeds=1, split=official,
            methods=("linear_probe", "tip_adapter", "lfa"))
        for y in (labels, moved)
    ]  # fmt: skip
    for before, after in zip(pair[0].runs, pair[1].runs, strict=True):
        assert before.parameters == after.parameters
        assert before.diagnosis == after.diagnosis
        assert not (before.correct & after.correct).any()  # one answer cannot be right under both


# -- going on after a kill --------------------------------------------------------------------------------------------


def test_a_run_that_is_in_the_record_is_not_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record, calls = tmp_path / "runs.jsonl", []
    once = module.run_once

    def count(name, *arguments, **options):
        calls.append(name)
        return once(name, *arguments, **options)

    monkeypatch.setattr(module, "run_once", count)
    features, text = problem()
    own = {"lfa": QUICK["lfa"], "linear_probe": QUICK["linear_probe"]}
    options = {"methods": ("zero_shot", "lfa", "linear_probe"), "record": record}
    whole = run(features, text, **options)
    lines = record.read_bytes().splitlines(keepends=True)
    assert len(lines) == len(whole.runs) == len(calls)

    kept = b"".join(lines[:9])
    record.write_bytes(kept + lines[9][:40])  # killed while the tenth line was written
    calls.clear()
    with pytest.warns(UserWarning, match="no complete runs"):
        again = run(features, text, **options)
    assert len(calls) == len(whole.runs) - 9
    assert record.read_bytes().startswith(kept)
    assert len(record.read_bytes().splitlines()) == len(lines), "nothing of the line that was cut short is left"
    assert [(r.key, r.correct.tolist()) for r in again.runs] == [(r.key, r.correct.tolist()) for r in whole.runs]
    assert again.table[0].accuracy == whole.table[0].accuracy

    calls.clear()
    run(features, text, **options, hyperparameters={**own, "lfa": {"steps": 30}})
    assert {name.partition(SEPARATOR)[0] for name in calls} == {"lfa"}
    calls.clear()
    other = run(replace(features, vectors=features.vectors[:, ::-1].copy()), text, **options)
    assert len(calls) == len(other.runs)
    assert len(read_runs(record)) > 2 * len(whole.runs)


@dataclass(kw_only=True, eq=False, repr=False)
class OwnProbe(LinearProbe):
    """A method that has a name in this process only."""

    title = "Own probe"
    C: float = 10.0


def test_several_processes_find_what_one_finds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OTHER_METHODS, "registered", {})
    register_method("own_probe", OwnProbe)
    features, text = problem(per_class=12)
    options = {"methods": ("zero_shot", "lfa", "own_probe"), "shots": (0, 1, 2), "seeds": 2}
    alone = run(features, text, **options)
    together = run(features, text, **options, jobs=2, record=tmp_path / "runs.jsonl")
    assert len(alone.runs) >= 2 * module.CELLS_A_JOB
    assert [(r.key, r.correct.tolist()) for r in together.runs] == [(r.key, r.correct.tolist()) for r in alone.runs]
    assert {r.key for r in read_runs(tmp_path / "runs.jsonl")} == {r.key for r in alone.runs}


# -- what the data do not allow ---------------------------------------------------------------------------------------


def test_without_text_zero_shot_is_the_nearest_mean_and_nothing_runs_without_labels() -> None:
    features, _ = problem()
    result = run(features, False)
    assert 0 not in result.shots
    assert {row.shots for row in result.table if row.method in ("zero_shot", "gpua")} == {1, 4}
    assert any(note.startswith("no labels: left out") for note in result.notes)
    assert not any(a.ingredient == RANDOM_TEXT for a in result.ablations)
    split = module.Draws(load_inputs(features, text=False), 0.5).split(4, 1)
    means = np.stack([features.vectors[split.train[features.labels[split.train] == k]].mean(axis=0) for k in range(4)])
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    right = (features.vectors[split.test] @ means.T).argmax(axis=1) == features.labels[split.test]
    (own,) = (r for r in result.runs if (r.method, r.shots, r.seed) == ("zero_shot", 4, 1))
    np.testing.assert_array_equal(own.correct, right)


def test_a_method_without_labels_says_how_to_keep_it() -> None:
    features, text = problem(per_class=8)
    result = run(features, text, shots=(1,), methods=("zero_shot", "linear_probe"), seeds=1)
    assert [(e.method, e.reason.partition("; ")[2]) for e in result.left_out] == [("zero_shot", "add 0 to shots=…")]


def test_numbers_of_labels_that_the_images_do_not_give_are_left_out_aloud() -> None:
    features, text = problem(per_class=8)  # 4 a class are tested on, 1 is kept to choose on
    result = run(features, text, shots=(0, 1, 2, 4, 8, 16, "all"), methods=("zero_shot", "linear_probe"), seeds=1)
    assert result.shots == (0, 1, 2, "all")
    for k in (4, 8, 16):
        assert any(note.startswith(f"{k} labels per class: left out, since 4 of 4 classes") for note in result.notes)


def test_a_class_of_one_image_is_trained_on_and_reported_as_untested() -> None:
    features, text = problem()
    lonely = np.flatnonzero(features.labels == 3)[1:]
    features = features.select(np.setdiff1d(np.arange(len(features)), lonely))
    result = run(features, text, methods=("zero_shot", "linear_probe", "gpua"), seeds=1)
    assert any(note.startswith("1 class has fewer than 3 labeled images") and "'fox' (1)" in note
               for note in result.notes)  # fmt: skip
    assert any("1 class has fewer than 4 training images" in note for note in result.notes)
    assert len(result.runs[0].correct) == 60


def test_a_method_that_refuses_does_not_end_the_comparison() -> None:
    refused = {"gpua": {"marginals": [0.5, 0.5]}}
    result = run(*problem(), hyperparameters=refused, methods=("gpua", "zero_shot"), seeds=1)
    assert result.methods == ("zero_shot",)
    assert {(entry.method, entry.shots) for entry in result.left_out if "4 positive numbers" in entry.reason} == {
        ("gpua", 0), ("gpua: uniform plan", 0), ("gpua: no refinement", 0), ("gpua: text scores alone", 0),
        (f"gpua: {RANDOM_TEXT}", 0),
    }  # fmt: skip
    with pytest.raises(InputError, match=r"at least one method that can be run .*gpua: Expected class_prior"):
        run(*problem(), hyperparameters=refused, methods=("gpua",), seeds=1, ablations=False)


def test_copies_of_an_image_are_detected() -> None:
    features, text = problem()
    rows = np.r_[np.arange(len(features)), [0, 0, 5]]
    result = run(replace(features.select(rows), ids=()), text, methods=("zero_shot",), seeds=1, ablations=False)
    assert any(note.startswith("3 images have exactly the vector of another one") for note in result.notes)


def test_unlabeled_images_are_used_and_not_tested_on() -> None:
    features, text = problem()
    labels = features.labels.copy()
    labels[::2] = -1
    result = run(replace(features, labels=labels), text, methods=("zero_shot", "transclip"), seeds=1, ablations=False)
    assert any(note.startswith("80 images have no label") for note in result.notes)
    assert "unlabeled images" in next(r for r in result.runs if r.method == "transclip" and r.shots == 4).protocol


# -- two spaces -------------------------------------------------------------------------------------------------------


def test_with_an_anchor_gpua_learns_the_other_space_and_all_others_stay_in_the_anchor() -> None:
    anchor, text = problem(turn=0.3)
    vectors = np.eye(4, 24)[anchor.labels] + 0.08 * np.random.default_rng(7).normal(size=(len(anchor), 24))
    vision = replace(anchor, vectors=vectors.astype(np.float32), spec=EncoderSpec("eyes", "e" * 64, 24))
    methods = ("zero_shot", "linear_probe", "gpua")
    both = run(vision, text, clip_encoder=anchor, methods=methods, seeds=1)
    alone = run(anchor, text, methods=methods, seeds=1)
    for a, b in zip(both.runs, alone.runs, strict=True):
        assert (a.method, a.shots) == (b.method, b.shots)
        same = a.diagnosis == b.diagnosis and np.array_equal(a.correct, b.correct)
        assert same == (a.method.partition(SEPARATOR)[0] != "gpua")
    assert mean(both, "gpua", 0) > 0.9
    assert both.record["clip_encoder"].startswith("mine")
    (look,) = (look for look in both.diagnostics if look.method == "gpua")
    assert look.clouds["before"][0].shape[1] == look.clouds["after"][0].shape[1] == 16


# -- sources ----------------------------------------------------------------------------------------------------------


def test_digits_from_pictures_to_verdicts(tmp_path: Path) -> None:
    digits = load_digits().select(np.arange(120))
    result = compare(
        digits, templates=DIGIT_TEMPLATES, methods=("zero_shot", "tip-adapter", "gpua"), shots=(0, 4), seeds=1,
        ablations=False,
    )  # fmt: skip
    assert mean(result, "zero_shot", 0) > 0.75
    assert result.record["sentences"][3] == ["a photo of the digit three."]
    assert result.record["encoder"].startswith("tiny (")
    assert result.runs[0].parameters["logit_scale"] != 100.0  # that of the encoder

    from modalign.encoders import load_encoder

    path = load_encoder("tiny").embed_images(digits).save(tmp_path / "digits.npz")
    options = {"methods": ("zero_shot",), "shots": (0,), "seeds": 1, "ablations": False}
    by_name = compare(path, templates=DIGIT_TEMPLATES, **options)  # text from the encoder that the file names
    assert by_name.runs[0].correct.tolist() == result.runs[0].correct.tolist()


def test_text_from_a_file_is_matched_by_name(tmp_path: Path) -> None:
    features, text = problem()
    path = features.save(tmp_path / "features.npz")
    order = [2, 0, 3, 1]
    np.savez(tmp_path / "text.npz", text=text.vectors[order], text_names=np.array(NAMES)[order])
    options = {"methods": ("zero_shot",), "shots": (0,), "seeds": 1, "ablations": False}
    from_file = compare(path, text=tmp_path / "text.npz", **options)
    assert from_file.runs[0].correct.tolist() == compare(features, text=text, **options).runs[0].correct.tolist()


@pytest.mark.parametrize("order", [(2, 0, 3, 1), (3, 2, 1, 0)])
def test_names_decide_where_classes_are_given_in_another_order(order: tuple[int, ...]) -> None:
    features, text = problem()
    plain = load_inputs(features, text=text)
    names = [NAMES[k].upper() for k in order]
    named = {
        "ClassText": ClassText(text.vectors, tuple(name.upper() for name in NAMES)),
        "array": text.vectors[[*order]],
    }
    for kind, rows in named.items():
        found = load_inputs(features, text=rows, classes=names)
        assert found.features.class_names == found.text.class_names == tuple(names), kind
        for k, name in enumerate(names):
            own = NAMES.index(name.lower())
            np.testing.assert_array_equal(found.text.vectors[k], plain.text.vectors[own])
            np.testing.assert_array_equal(found.features.labels == k, features.labels == own)


def test_unnamed_text_is_refused_where_no_order_of_the_classes_is_given(tmp_path: Path) -> None:
    root = draw(tmp_path / "photos", per_class=4)
    np.savez(tmp_path / "text.npz", text=np.eye(2, 64, dtype=np.float32))
    for text in (np.eye(2, 64, dtype=np.float32), tmp_path / "text.npz"):
        with pytest.raises(InputError, match="class text that names its rows"):
            load_inputs(root, text=text)


def test_codes_as_class_names_are_reported_where_they_become_sentences(tmp_path: Path) -> None:
    root = draw(tmp_path / "photos", per_class=4)
    (root / "disc").rename(root / "n01440764")
    assert any("'n01440764' look like numbers or codes" in note for note in load_inputs(root, encoder="tiny").notes)
    assert not any("codes" in note for note in load_inputs(root, encoder="tiny-vision").notes)
    assert not any("codes" in note for note in load_inputs(root, encoder="tiny", text=False).notes)


def test_official_lists_are_drawn_from_and_tested_on() -> None:
    features, text = problem()
    rows = np.random.default_rng(1).permutation(len(features))
    official = Split(rows[:80], rows[80:100], rows[100:], description="mine")
    result = run(features, text, split=official, methods=("linear_probe",), seeds=2, ablations=False)
    assert {len(r.correct) for r in result.runs} == {60}
    assert result.record["images"]["test"] == 60
    assert result.record["protocol"] == "tested on the test list of mine"
    fewer = replace(official, train=official.train[:-8])
    other = run(features, text, split=fewer, methods=("linear_probe",), seeds=2, ablations=False)
    assert not {r.key for r in result.runs} & {r.key for r in other.runs}  # other lists, other draws


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"methods": ("zero_shot", "cnm")}, UnknownNameError, "did you mean 'cmm'"),
        ({"methods": ()}, InputError, "methods=… to hold at least one"),
        ({"seeds": (1, 1)}, InputError, "different integers"),
        ({"seeds": 0}, InputError, "at least one, got"),
        ({"jobs": 0}, InputError, "jobs to be at least 1"),
        ({"shots": (1, -1)}, InputError, "numbers ≥ 0 or 'all'"),
        ({"shots": ("some",)}, InputError, "numbers ≥ 0 or 'all'"),
        ({"shots": (32,)}, InputError, "that the images allow, got none"),
        ({"hyperparameters": {"lfa": {"stepz": 1}}}, UnknownNameError, "did you mean 'steps'"),
        ({"hyperparameters": {"lfa": {"steps": -1}}}, InputError, "steps"),
        ({"hyperparameters": {"lfaa": {"steps": 1}}}, UnknownNameError, "did you mean 'lfa'"),
        ({"record": "no/such/folder/runs.jsonl"}, InputError, r"its folder .* does not exist"),
        ({"text": None}, InputError, r"'mine'.*on this machine.*text=False"),
        ({"text": np.ones((4, 9))}, InputError, r"width of the image vectors \(16\), got 9"),
        ({"text": ClassText(np.eye(3, 16), NAMES[:3])}, InputError, "text for all 4 classes, got none for 'fox'"),
        ({"text": "nowhere.npz"}, InputError, "file of text vectors"),
        ({"clip_encoder": Features(np.ones((3, 16), dtype=np.float32))}, InputError, "the same images"),
        ({"clip_encoder": 5}, InputError, "features of the same images"),
        ({"classes": ["a", "b"]}, InputError, "among the 2 given class names, got 'cat', 'dog', 'elk', 'fox'"),
        ({"text": np.ones((3, 16))}, InputError, "one row of text for each of the 4 classes, got 3"),
        ({"labels": np.full(160, -1)}, InputError, "without a label nothing can be tested"),
        ({"vectors": np.full((160, 16), np.nan, dtype=np.float32)}, InputError, "NaN"),
        ({"rows": np.arange(0)}, InputError, "without a label nothing can be tested"),
    ],
)
def test_mistakes_are_one_sentence_before_anything_is_fitted(
    change: dict, error: type, words: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(module, "run_once", lambda *a, **k: pytest.fail("fitted"))
    features, text = problem()
    rows = change.pop("rows", None)
    features = replace(features, **{k: change.pop(k) for k in ("labels", "vectors") if k in change})
    features = features if rows is None else features.select(rows)
    with pytest.raises(error, match=words) as caught:
        run(features, change.pop("text", text), **change)
    assert "\n" not in str(caught.value)


def test_images_too_few_to_set_any_aside() -> None:
    features, text = problem(per_class=2)
    with pytest.raises(InputError, match="can be set aside to test on"):
        run(features, text)


def test_a_comparison_shows_its_table_and_not_its_runs(found: MethodComparison) -> None:
    assert len(repr(found)) <= 300
    assert f"MethodComparison({len(found.methods)} methods on {found.n_test} test images" in repr(found)
    assert str(found).count("\n") == len(found.rows) + 2
    page = found._repr_html_()
    assert all(escape(text) in page for text in (found.sentence, *found.header, *(row[0] for row in found.rows)))


def test_all_methods_are_found_by_discovery() -> None:
    features, text = problem(per_class=12)
    result = compare(features, text=text, shots=(0, 2), seeds=1, ablations=False, hyperparameters=QUICK)
    assert {*result.methods, *(entry.method for entry in result.left_out)} == set(METHODS)
    assert len(result.methods) >= 10


def test_uninformative_class_text_and_an_encoder_for_digits_are_noted(found: MethodComparison) -> None:
    assert not any("does not know" in note or "digits" in note for note in found.notes)
    features, text = problem()
    rolled = replace(text, vectors=np.roll(text.vectors, 1, axis=0))  # every class has the text of another
    toy = replace(features, spec=replace(features.spec, name="tiny"))
    notes = run(toy, rolled, methods=["zero_shot"], shots=(0,)).notes
    assert any("this encoder does not recognize these classes by their text" in note for note in notes)
    assert any("the encoder 'tiny' is made for drawings of digits" in note for note in notes)
