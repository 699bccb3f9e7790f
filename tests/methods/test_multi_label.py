"""One against the rest: calibration, thresholds, absent classes, and measures beside those of scikit-learn."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, f1_score

import modalign as ma
from modalign.core.errors import InputError
from modalign.core.features import ClassText, Features
from modalign.core.label_matrix import label_matrix, label_sets
from modalign.data.digit_pairs import load_digit_pairs
from modalign.data.label_sets import LabeledSets, load_label_sets, note_on_sets
from modalign.data.names import natural_key
from modalign.data.tables import safe_cell
from modalign.evaluate.multi_label_metrics import multi_label_scores
from modalign.methods import method_class
from modalign.methods.contract.cross_fitting import cross_fit
from modalign.methods.multi_label.class_decision import ClassDecision, fit_decision, held_out_answers
from modalign.methods.multi_label.one_against_rest import OneAgainstRest
from modalign.model.adaptation.images import read_items
from modalign.model.multi_label import MultiLabelClassifier, adapt_multi_label


@pytest.fixture(scope="module")
def pairs() -> LabeledSets:
    return load_digit_pairs(150, 150)


@pytest.fixture(scope="module")
def vectors(pairs: LabeledSets) -> Features:
    return ma.load_encoder("tiny", cache=False).embed_images(pairs.items)


@pytest.fixture(scope="module")
def text(pairs: LabeledSets) -> ClassText:
    sentences = [[f"a photo of the digit {name}."] for name in pairs.class_names]
    return ma.load_encoder("tiny", cache=False).embed_texts(sentences, pairs.class_names)


@pytest.fixture(scope="module")
def classifier(pairs: LabeledSets) -> MultiLabelClassifier:
    return adapt_multi_label(pairs, encoder=ma.load_encoder("tiny", cache=False), method="gda")


# --- labels


def test_sets_and_matrices_are_two_forms_of_one() -> None:
    matrix, names = label_matrix([{"b", "a"}, set(), None, ["b"]], ["a", "b"])
    assert matrix.tolist() == [[1, 1], [0, 0], [-1, -1], [0, 1]]
    assert label_sets(matrix, names) == [("a", "b"), (), (), ("b",)]
    again, numbered = label_matrix(matrix)
    np.testing.assert_array_equal(again, matrix)
    assert numbered == ("0", "1")


@pytest.mark.parametrize(
    ("labels", "names", "words"),
    [
        ([[0, 2]], (), "values from 0 to 2"),
        ([[0, 1], [1]], (), "set of class names"),
        ([[0, 1]], ["a"], "2 columns of labels, got 1"),
        ([{"a", "c"}], ["a", "b"], "got 'c'"),
        ([{"a"}, {3}], (), "set of class names"),
        ([{"a"}, {"\u200b"}], (), "set of class names"),
        ([["1", "0"], ["0", "1"]], (), "these numbers as text"),
        ([[0, 1]], ["a", "\u2060 "], "non-empty text"),
        ([{"a"}, "b"], (), "set of class names"),
        (np.zeros(3), (), "shape"),
    ],
)
def test_other_labels_are_refused(labels: object, names: list[str], words: str) -> None:
    with pytest.raises(InputError, match=words):
        label_matrix(labels, names)


@pytest.fixture
def folder(photos: Path) -> Path:
    for i in range(4):
        (photos / "disc" / f"{i}.png").rename(photos / f"{i}.png")
    return photos


SETS = "path,labels\n0.png,disc;red thing\n1.png,red thing\n2.png,;\n3.png,\n"
COLUMNS = "path,disc,split,red thing\n0.png,1,train,1\n1.png,0,train,1\n2.png,0,test,0\n3.png,,test,-1\n"


@pytest.mark.parametrize("content", [SETS, COLUMNS], ids=["sets", "columns"])
def test_tables_of_both_forms_are_read(content: str, folder: Path) -> None:
    (folder / "labels.csv").write_text(content, encoding="utf-8")
    found = load_label_sets(folder / "labels.csv", classes=["red thing", "disc"])
    assert found.items.ids == ("0.png", "1.png", "2.png", "3.png")
    assert found.class_names == ("red thing", "disc")
    assert found.matrix.tolist() == [[1, 1], [1, 0], [0, 0], [-1, -1]]
    assert found.complete == (content == SETS)
    assert load_label_sets(folder / "labels.csv").class_names == ("disc", "red thing")
    assert len(found.part("test")) == (2 if content == COLUMNS else 0)


def test_rows_of_one_image_agree_and_names_hold_any_separator_of_lines(folder: Path) -> None:
    (folder / "0.png").rename(folder / "a\u2028b.png")
    table = folder / "labels.csv"
    table.write_text("path,disc,square\na\u2028b.png,1,0\n1.png,0,1\n./1.png,0,1\n", encoding="utf-8")
    assert load_label_sets(table).matrix.tolist() == [[1, 0], [0, 1]]
    table.write_text("path,disc,square\n2.png,1,0\n1.png,0,1\n./1.png,1,1\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"two for './1.png' that differ"):
        load_label_sets(table)


@pytest.mark.parametrize(("flag", "classes"), [("is_test", ("cat", "dog")), ("train", ("cat", "dog", "train"))])
def test_a_column_of_parts_is_no_class_and_a_class_may_be_called_train(
    flag: str, classes: tuple[str, ...], folder: Path
) -> None:
    (folder / "parts.csv").write_text(f"path,cat,dog,{flag}\n0.png,1,0,1\n1.png,0,1,0\n2.png,1,1,0\n")
    found = load_label_sets(folder / "parts.csv")
    assert found.class_names == classes
    assert found.items.parts.tolist() == (["test", "train", "train"] if flag == "is_test" else ["", "", ""])


@pytest.mark.parametrize("sign", ["=", "+", "-", "@", "'"])
def test_cells_that_no_spreadsheet_computes_read_back(sign: str, folder: Path) -> None:
    (folder / f"{sign}a\nb.png").write_bytes((folder / "0.png").read_bytes())
    with (folder / "signs.csv").open("w", newline="") as file:
        rows = [["path", "label"], [f"{sign}a\nb.png", f"{sign}x"], ["0.png", "y"], ["1.png", f"{sign}x"]]
        csv.writer(file).writerows([map(safe_cell, row) for row in rows])
    found = load_label_sets(folder / "signs.csv")
    assert found.class_names == tuple(sorted([f"{sign}x", "y"], key=natural_key))
    assert found.items.ids[0] == f"{sign}a\nb.png"
    with (folder / "columns.csv").open("w", newline="") as file:
        rows = [["path", f"{sign}x", "y"], [f"{sign}a\nb.png", "1", "0"], ["0.png", "0", "1"]]
        csv.writer(file).writerows([map(safe_cell, row) for row in rows])
    again = load_label_sets(folder / "columns.csv")
    assert again.matrix.tolist() == [[1, 0], [0, 1]]
    assert again.class_names == (f"{sign}x", "y")


def test_cells_that_differ_by_the_sign_against_formulas_stay_different(folder: Path) -> None:
    (folder / "0.png").rename(folder / "=a.png")
    (folder / "1.png").rename(folder / "'=a.png")
    (folder / "own.csv").write_text("path,label\n'=a.png,=x\n=a.png,'=x\n")
    found = load_label_sets(folder / "own.csv")
    assert set(found.items.ids) == {"=a.png", "'=a.png"}
    assert set(found.class_names) == {"=x", "'=x"}
    (folder / "own.csv").write_text("path,=x,'=x\n'=a.png,1,0\n=a.png,0,1\n")
    assert load_label_sets(folder / "own.csv").matrix.tolist() in ([[1, 0], [0, 1]], [[0, 1], [1, 0]])


def test_an_unnamed_class_is_absent_in_sets_and_unknown_in_columns(folder: Path) -> None:
    for content, value in ((SETS, 0), (COLUMNS, -1)):
        (folder / "labels.csv").write_text(content, encoding="utf-8")
        wider = load_label_sets(folder / "labels.csv").for_classes(["disc", "blue", "red thing"])
        assert wider.matrix[:, 1].tolist() == [value, value, value, -1]
        with pytest.raises(InputError, match="red thing"):
            wider.for_classes(["disc", "blue"])


@pytest.mark.parametrize("name", ["salt;pepper", "salt|pepper"])
def test_names_with_a_separator_of_sets_are_refused(name: str, folder: Path) -> None:
    table = folder / "labels.csv"
    table.write_text(SETS, encoding="utf-8")
    with pytest.raises(InputError, match="rename the class"):
        load_label_sets(table, classes=["disc", "red thing", name])
    table.write_text(f'path,disc,"{name}"\n0.png,1,0\n1.png,0,1\n', encoding="utf-8")
    with pytest.raises(InputError, match="rename the class"):
        load_label_sets(table)
    with pytest.raises(InputError, match="rename the class"):
        load_label_sets([folder / "0.png"], labels=[{name}])
    (folder / "1.png").rename(folder / "disc" / "1.png")
    (folder / "disc").rename(folder / name)
    with pytest.raises(InputError, match="rename the class"):
        load_label_sets(folder)


@pytest.mark.parametrize(
    ("names", "noted"),
    [
        (["cat;dog", "dog;fish", "cat"], True),
        (["cat|dog", "cat", "cat|fish"], True),
        (["cat;dog", "fish;bird", "cow"], False),
        (["cat;dog", "cat", "dog"], False),
        (["cat", "dog", "fish"], False),
    ],
)
def test_labels_of_one_class_that_look_like_sets_get_a_note(names: list[str], noted: bool) -> None:
    items = ma.load_items([b"0", b"1", b"2"], labels=[0, 1, 2], classes=names)
    assert any("--multi-label" in note for note in note_on_sets(items)) == noted
    assert any("--multi-label" in note for note in read_items(items, None, False).notes) == noted


# --- calibration and thresholds


def test_probabilities_are_calibrated_and_the_threshold_has_the_highest_f1() -> None:
    rng = np.random.default_rng(0)
    z = rng.normal(size=4000)
    y = (rng.random(4000) < 1 / (1 + np.exp(-(2 * z - 1)))).astype(int)
    found = fit_decision(100 * z + 7, y)
    assert found.slope * 100 == pytest.approx(2, rel=0.15)
    p = found.probabilities(100 * z + 7)
    assert p.mean() == pytest.approx(y.mean(), abs=0.01)
    best = max(f1_score(y, p >= t) for t in np.linspace(0.01, 0.99, 99))
    assert f1_score(y, p >= found.threshold) >= best - 1e-9


def test_calibration_is_finite_for_separable_and_for_constant_scores() -> None:
    y = np.repeat([0, 1], 20)
    found = fit_decision(np.linspace(-1, 1, 40), y)
    assert np.isfinite([found.slope, found.offset]).all()
    assert ((found.probabilities(np.linspace(-1, 1, 40)) >= found.threshold) == y).all()
    inverted = fit_decision(-np.linspace(-1, 1, 40), y)
    assert inverted.slope > 0
    assert fit_decision(np.ones(40), y) == fit_decision(np.arange(40.0), np.ones(40)) == ClassDecision()
    few = fit_decision(np.linspace(-1, 1, 40), np.arange(40) >= 37)
    assert few.calibrated
    assert few.threshold == 0.5


# --- measures


def test_measures_are_those_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, (80, 4))
    p = np.round(rng.random((80, 4)) + 0.3 * y, 1)  # with ties
    found = multi_label_scores(y, p, [0.4, 0.5, 0.6, 0.7], draws=50)
    answers = p >= [0.4, 0.5, 0.6, 0.7]
    for k, row in enumerate(found.per_class):
        assert row.average_precision.value == pytest.approx(average_precision_score(y[:, k], p[:, k]))
        assert row.f1.value == pytest.approx(f1_score(y[:, k], answers[:, k]))
        assert row.average_precision.low <= row.average_precision.value <= row.average_precision.high
    assert found.mean_average_precision.value == pytest.approx(average_precision_score(y, p, average="macro"))
    assert found.micro_f1.value == pytest.approx(f1_score(y, answers, average="micro"))
    assert found.macro_f1.value == pytest.approx(f1_score(y, answers, average="macro"))
    assert found.exact.value == pytest.approx((answers == y).all(axis=1).mean())


def test_a_bootstrap_draw_weights_images_as_scikit_learn_does() -> None:
    from modalign.evaluate.multi_label_metrics import _average_precision

    rng = np.random.default_rng(1)
    y, p, w = rng.integers(0, 2, 60), np.round(rng.random(60), 1), rng.integers(0, 4, (5, 60))
    expected = [average_precision_score(y, p, sample_weight=row) for row in w]
    np.testing.assert_allclose(_average_precision(y == 1, p, w), expected)


def test_unknown_labels_count_in_no_measure() -> None:
    rng = np.random.default_rng(2)
    y, p = rng.integers(0, 2, (60, 3)), rng.random((60, 3))
    y[40:] = -1
    y[:5, 1] = -1
    found, known = (multi_label_scores(labels, scores, draws=5) for labels, scores in ((y, p), (y[:40], p[:40])))
    assert found.totals["micro F1"].value == known.totals["micro F1"].value
    assert found.mean_average_precision.value == known.mean_average_precision.value
    assert found.exact.value == known.exact.value
    assert [row.n for row in found.per_class] == [40, 35, 40]


def test_sets_are_counted_among_images_whose_labels_are_all_known() -> None:
    y, p = np.array([[1, 0], [1, -1], [-1, 1], [0, -1]]), np.tile([0.9, 0.1], (4, 1))
    none = multi_label_scores(y[1:], p[1:], draws=5)
    assert none.exact is None
    assert str(none).endswith("exactly right sets: –")
    few = multi_label_scores(y, p, draws=200)  # a draw without the one such image counts as none
    assert (few.exact.low, few.exact.value, few.exact.high) == (1, 1, 1)


def test_a_class_that_no_image_shows_has_no_measure() -> None:
    found = multi_label_scores([[1, 0], [0, 0]], [[0.9, 0.1], [0.2, 0.3]], draws=5)
    assert found.per_class[1].average_precision is None
    assert found.mean_average_precision.value == 1
    with pytest.raises(InputError, match="shows one"):
        multi_label_scores([[0, 0]], [[0.1, 0.2]])


# --- the estimator


@pytest.mark.parametrize(
    "method", [ma.ZeroShot(), ma.GDA(), ma.TipAdapter(), ma.CMM(steps=60), ma.Auto(candidates=["gda"])]
)
def test_every_kind_of_method_answers_and_learning_helps(
    method: object, pairs: LabeledSets, vectors: Features, text: ClassText
) -> None:
    few = [0, 1, 4] if isinstance(method, (ma.CMM, ma.Auto)) else list(range(10))  # enough to see that they work
    names = tuple(pairs.class_names[k] for k in few)
    matrix = pairs.matrix[:, few]
    model = OneAgainstRest(method).fit(vectors.select(range(150)), matrix[:150], text=text.select(names))
    p = model.predict_proba(vectors.select(range(150, 300)))
    assert p.shape == (150, len(few))
    assert ((p > 0) & (p < 1)).all()
    found = multi_label_scores(matrix[150:], p, model.thresholds, draws=2)
    floor = matrix[150:].mean() + (0 if isinstance(method, ma.ZeroShot) else 0.1)
    assert found.mean_average_precision.value > floor
    assert all(decision.calibrated for decision in model.decisions_)


def test_sets_of_test_images_are_not_learned_from(pairs: LabeledSets, vectors: Features) -> None:
    marked = replace(vectors, parts=("test",) * 3 + ("train",) * (len(vectors) - 3))
    with pytest.raises(InputError, match="got 3 labeled images that the source marks as test"):
        OneAgainstRest(ma.GDA()).fit(marked, pairs.matrix)
    hidden = pairs.matrix.copy()
    hidden[:3] = -1
    assert OneAgainstRest(ma.GDA()).fit(marked, hidden).predict(vectors).shape == pairs.matrix.shape


def test_each_class_is_learned_for_itself(pairs: LabeledSets, vectors: Features) -> None:
    """Without text, more classes, or unknown labels of another class, change nothing."""
    X, Y = vectors.select(range(150)), pairs.matrix[:150]
    whole = OneAgainstRest(ma.GDA()).fit(X, Y).margins(vectors)
    part = OneAgainstRest(ma.GDA()).fit(X, Y[:, [3, 7]]).margins(vectors)
    np.testing.assert_allclose(whole[:, [3, 7]], part, rtol=1e-6)
    hidden = Y.copy()
    hidden[:100, 3] = -1
    masked = OneAgainstRest(ma.GDA()).fit(X, hidden).margins(vectors)
    np.testing.assert_allclose(masked[:, 7], whole[:, 7], rtol=1e-6)
    assert np.abs(masked[:, 3] - whole[:, 3]).max() > 1e-3


def test_a_class_without_images_is_answered_by_its_text(pairs: LabeledSets, vectors: Features, text: ClassText) -> None:
    Y = pairs.matrix[:150].copy()
    Y[:, 9] = 0
    model = OneAgainstRest(ma.GDA()).fit(vectors.select(range(150)), Y, text=text)
    assert isinstance(model.members_[9], ma.ZeroShot)
    assert [d.calibrated for d in model.decisions_] == [True] * 9 + [False]
    with pytest.raises(InputError, match="'nine'"):
        OneAgainstRest(ma.GDA()).fit(vectors.select(range(150)), Y, class_names=pairs.class_names)


@pytest.mark.parametrize("method", ["linear_probe", "auto"])
@pytest.mark.parametrize("named", [True, False])
def test_a_class_with_one_image_is_fitted_and_counts_in_what_is_measured(
    method: str, named: bool, pairs: LabeledSets, vectors: Features, text: ClassText
) -> None:
    """Its image cannot be held out and learned from: it is counted as missed, and no label of an image is left open."""
    rows = [*np.flatnonzero(pairs.matrix[:150, 0] == 0)[:24], np.flatnonzero(pairs.matrix[:150, 0] == 1)[0]]
    Y, own = pairs.matrix[rows][:, [0, 1, 2]], text.select(text.class_names[:3])
    candidates = {"candidates": ["gda"]} if method == "auto" else {}
    model = OneAgainstRest(method_class(method)(**candidates, random_state=0))
    model.fit(vectors.select(rows), Y, text=own if named else None, class_names=own.class_names)
    assert model.held_out_ is not None
    np.testing.assert_array_equal(model.held_out_.labels, Y)
    assert model.held_out_.answers[-1, 0] == 0
    assert [d.calibrated for d in model.decisions_] == [False, True, True]
    assert np.isfinite(model.predict_proba(vectors)).all()


@pytest.mark.parametrize("named", [True, False])
def test_auto_judges_a_class_with_one_image_by_what_it_answers_with(
    named: bool, pairs: LabeledSets, vectors: Features, text: ClassText
) -> None:
    """The margins of the others are those of models without them, and answered at the threshold of the class."""
    rows = [*np.flatnonzero(pairs.matrix[:150, 0] == 0)[:24], np.flatnonzero(pairs.matrix[:150, 0] == 1)[0]]
    Y, X = pairs.matrix[rows][:, [0, 1]], vectors.select(rows)
    names, auto = text.class_names[:2], ma.Auto(candidates=["gda"], random_state=0)
    model = OneAgainstRest(auto).fit(X, Y, text=text.select(names) if named else None, class_names=names)
    assert model.held_out_ is not None
    margins = model.held_out_.margins[:24, 0]
    np.testing.assert_array_equal(model.held_out_.answers[:24, 0], margins >= 0)
    assert (model.decisions_[0].probabilities(margins) >= model.thresholds[0]).tolist() == (margins >= 0).tolist()
    assert np.abs(margins - model.margins(X)[:24, 0]).max() > 1e-6
    if not named:
        alone = cross_fit(auto, Features(X.vectors, X.ids, Y[:, 0].astype(np.int64))).scored
        np.testing.assert_allclose(
            margins[np.isin(X.ids[:24], alone.ids)], np.diff(alone.logits[alone.labels == 0])[:, 0]
        )


def test_copies_are_tested_on_once(classifier: MultiLabelClassifier, pairs: LabeledSets) -> None:
    test = pairs.part("test").select(range(20))
    twice = replace(
        test,
        items=replace(
            test.items,
            ids=(*test.items.ids, "copy", "other"),
            blobs=(*test.items.blobs, test.items.blobs[0], test.items.blobs[1]),
            labels=np.full(22, -1),
            parts=np.full(22, "test"),
            given=(),
        ),
        matrix=np.concatenate([test.matrix, test.matrix[:1], 1 - test.matrix[1:2]]),
    )
    found, once = classifier.evaluate(twice), classifier.evaluate(test.select([0, *range(2, 20)]))
    assert found.ids == once.ids
    assert found.scores.mean_average_precision.value == once.scores.mean_average_precision.value
    assert any("each counts once" in note for note in found.notes)
    assert {entry.id for entry in found.quarantined} == {"copy", test.items.ids[1], "other"}


def test_what_cannot_be_learned_from_is_refused(vectors: Features, pairs: LabeledSets) -> None:
    X, Y = vectors.select(range(150)), pairs.matrix[:150]
    with pytest.raises(InputError, match="at least 2 classes"):
        OneAgainstRest(ma.GDA()).fit(X, Y[:, :1])
    for labels in ([set(), set()], [{"cat"}, {"cat"}]):
        few = load_label_sets([pairs.items.open(0), pairs.items.open(1)], labels=labels)
        with pytest.raises(InputError, match=r"labels of at least 2 classes, got (none|1); give a table"):
            adapt_multi_label(few, method="gda")
    with pytest.raises(InputError, match="150 images, got 149"):
        OneAgainstRest(ma.GDA()).fit(X, Y[:149])
    with pytest.raises(InputError, match="fit first"):
        OneAgainstRest(ma.GDA()).margins(X)
    with pytest.raises(InputError, match="inside the encoder"):
        adapt_multi_label(pairs, method="coop")


# --- the classifier


def test_a_saved_classifier_answers_bit_for_bit(
    classifier: MultiLabelClassifier, pairs: LabeledSets, tmp_path: Path
) -> None:
    some = pairs.items.select(range(140, 160))
    loaded = ma.load(classifier.save(tmp_path / "model"), encoder=classifier.encoder)
    assert isinstance(loaded, MultiLabelClassifier)
    first, second = classifier.predict(some), loaded.predict(some)
    np.testing.assert_array_equal(first.probabilities, second.probabilities)
    assert first.sets == second.sets
    assert loaded.record["thresholds"] == classifier.record["thresholds"]


def test_a_damaged_model_is_refused_in_one_sentence(classifier: MultiLabelClassifier, tmp_path: Path) -> None:
    folder = classifier.save(tmp_path / "model")
    card = folder / "multi_label.json"
    content = card.read_text(encoding="utf-8")
    card.write_text(content.replace('"threshold": 0.', '"threshold": 7.', 1), encoding="utf-8")
    with pytest.raises(InputError):
        ma.load(folder)
    card.write_text(content[:500], encoding="utf-8")
    with pytest.raises(InputError):
        ma.load(folder)


def test_images_that_were_fitted_on_are_not_tested_on(classifier: MultiLabelClassifier, pairs: LabeledSets) -> None:
    whole = LabeledSets(replace(pairs.items, parts=None, division=""), pairs.matrix, pairs.class_names)
    found = classifier.evaluate(whole)
    assert found.scores.n == 150
    assert len(found.left_out) == 150
    assert classifier.evaluate(whole, include_fitted=True).scores.n == 300
    assert classifier.evaluate(pairs).ids == found.ids
    with pytest.raises(InputError, match="include_fitted"):
        classifier.evaluate(whole.select(range(150)))


def test_a_file_of_answers_reads_back_as_labels(
    classifier: MultiLabelClassifier, pairs: LabeledSets, tmp_path: Path
) -> None:
    for i in range(150, 160):
        (tmp_path / f"{i}.png").write_bytes(pairs.items.read(i))
    found = classifier.predict(tmp_path)
    assert load_label_sets(found.save(tmp_path / "a.csv"), classes=list(found.class_names)).matrix.tolist() == (
        found.answers.tolist()
    )


def test_copies_count_once_and_what_cannot_be_used_is_listed(pairs: LabeledSets, tmp_path: Path) -> None:
    names = [";".join(shown) for shown in label_sets(pairs.matrix[:40], pairs.class_names)]
    for i in range(40):
        (tmp_path / f"{i}.png").write_bytes(pairs.items.read(i))
    (tmp_path / "copy.png").write_bytes(pairs.items.read(0))
    (tmp_path / "other.png").write_bytes(pairs.items.read(1))
    (tmp_path / "broken.png").write_bytes(b"no image")
    added = [f"copy.png,{names[0]}", "other.png,;", f"broken.png,{names[0]}", f"missing.png,{names[0]}"]
    lines = ["path,labels", *(f"{i}.png,{shown}" for i, shown in enumerate(names)), *added]
    (tmp_path / "labels.csv").write_text("\n".join(lines), encoding="utf-8")
    encoder = ma.load_encoder("tiny", cache=False)
    record = adapt_multi_label(tmp_path / "labels.csv", encoder=encoder, method="gda").record
    assert record["images"]["train"] == record["quality"]["images"] == 39
    left_out = {entry["id"] for entry in record["quarantined"]}
    assert left_out == {"copy.png", "1.png", "other.png", "broken.png", "missing.png"}
    notes = " ".join(record["notes"])
    assert "'copy.png' of '0.png': each counts once" in notes
    assert "two labels: '1.png'" in notes


# --- what a fit says of itself


def test_the_quality_of_a_fit_is_that_of_its_out_of_fold_predictions(
    classifier: MultiLabelClassifier, pairs: LabeledSets, vectors: Features
) -> None:
    """Against the measures of scikit-learn, and against pairs that were not learned from."""
    held, quality = classifier.model.held_out_, classifier.record["quality"]
    assert held is not None
    train = pairs.items.parts == "train"
    np.testing.assert_array_equal(held.labels, pairs.matrix[train])
    assert quality["images"] == train.sum()
    expected = np.mean([average_precision_score(held.labels[:, k] == 1, held.margins[:, k]) for k in range(10)])
    assert quality["mean_average_precision"]["value"] == pytest.approx(expected)
    assert quality["micro_F1"]["value"] == pytest.approx(f1_score(held.labels, held.answers, average="micro"))
    assert quality["mean_average_precision"]["low"] < expected < quality["mean_average_precision"]["high"]
    true = classifier.evaluate(pairs).scores.mean_average_precision
    assert true.low - 0.1 < expected < true.high + 0.1


def test_answers_on_their_own_images_are_not_better_than_chance_for_labels_without_meaning() -> None:
    """A threshold of the highest F1 on the same images is: it takes in whatever helps by accident."""
    rng = np.random.default_rng(0)
    honest, own = [], []
    for _ in range(30):
        margins, labels = rng.normal(size=40), (rng.random(40) < 0.3).astype(int)
        decision = fit_decision(margins, labels)
        own.append(f1_score(labels, decision.probabilities(margins) >= decision.threshold))
        honest.append(f1_score(labels, held_out_answers(margins, labels)))
    every_image = 2 * 0.3 / 1.3  # F1 of answering yes to all, the best without knowledge
    assert np.mean(own) > every_image + 0.03
    assert np.mean(honest) < every_image
    gained = np.subtract(own, honest)
    assert gained.mean() > 3 * gained.std() / np.sqrt(len(gained))
    assert held_out_answers(np.zeros(1), np.ones(1, dtype=int)).tolist() == [0]
