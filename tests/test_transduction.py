"""Answers for the fitted images: every method's are kept, recognized by bytes or vectors, saved, and marked."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

import modalign as ma
from modalign import cli
from modalign.core.errors import InputError
from modalign.data.digits import DIGIT_TEMPLATES, load_digits
from modalign.methods.anchored.anchored_gaussian import AnchoredGaussian
from modalign.methods.contract.transduction import (
    KEPT,
    keep_answers,
    kept_answers,
    likeliest,
    name_answers,
    vector_hashes,
)
from modalign.model.persistence import load_model, save_model
from modalign.report.evaluation import fitted_images_note, save_evaluation_page

METHODS = {
    "auto": {},
    "anchored_gaussian": {},
    "gpua": {},
    "gpua paper": {"preset": "paper", "steps": 3},
    "gpua released": {"preset": "official_code"},
    "transclip": {},
    "lfa": {"max_steps": 3},
    "fair_vectors": {"steps": 3},
}


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory):
    return ma.load_encoder("tiny", cache=tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def digits() -> ma.Items:
    return load_digits()


def fitted(name: str, images: ma.Items, encoder) -> ma.Classifier:
    settings = {"templates": DIGIT_TEMPLATES, "encoder": encoder, "random_state": 0}
    return ma.adapt(images.unlabeled(), method=name.split()[0], **settings, **METHODS[name])


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.filterwarnings("ignore:About")
def test_fitted_images_get_the_answers_that_were_found_together(name, digits, encoder, tmp_path):
    rows = np.random.default_rng(0).permutation(len(digits))
    seen, new = digits.select(rows[:160]), digits.select(rows[160:200])
    model = fitted(name, seen, encoder)
    expected = [model.class_names[k] for k in model.method.transduction_]
    mixed = digits.select(np.concatenate([rows[160:200], rows[:160][::-1]]))  # new images, then the others reversed
    for one in (model, ma.load(model.save(tmp_path / "model"), encoder=encoder)):
        found = one.predict(mixed)
        assert found.transductive.tolist() == [False] * 40 + [True] * 160
        assert list(found.names)[40:] == expected[::-1]
        assert [p.transductive for p in found] == found.transductive.tolist()
        np.testing.assert_allclose(found.probabilities.sum(axis=1), 1)
        by_vector = one.predict(encoder.embed_images(mixed))
        np.testing.assert_array_equal(by_vector.transductive, found.transductive)
        np.testing.assert_array_equal(by_vector.probabilities, found.probabilities)
    by_itself = ma.Classifier(encoder, model.method, model.class_names)
    alone = np.asarray(model.method.scores(encoder.embed_images(new))).argmax(axis=1)
    assert [by_itself.class_names.index(n) for n in found.names[:40]] == alone.tolist()


def test_a_classifier_of_a_method_fitted_on_vectors_records_its_images(digits, encoder):
    items = digits.select(np.arange(0, 1600, 10))
    X = encoder.embed_images(items.unlabeled())
    text = encoder.embed_texts([[t.format(n) for t in DIGIT_TEMPLATES] for n in digits.class_names])
    method = AnchoredGaussian().fit(X, text=text.vectors)
    model = ma.Classifier(encoder, method, digits.class_names)
    for images in (X, items):
        found = model.predict(images)
        assert found.transductive.all()
        assert [model.class_names.index(name) for name in found.names] == method.transduction_.tolist()


def test_with_labels_nothing_is_kept_of_labeled_images(digits, encoder):
    model = ma.adapt(digits.select(np.arange(200)), method="anchored_gaussian", encoder=encoder)
    found = model.predict(digits.select(np.arange(200)))
    assert found.transductive is None
    assert not any(p.transductive for p in found)


def test_copies_under_other_names_are_recognized_and_evaluated(photos: Path, encoder, tmp_path: Path):
    names = ["disc", "square"]
    model = ma.adapt(photos, method="anchored_gaussian", encoder=encoder, classes=names, unlabeled=True)
    found = model.predict(photos)
    assert found.transductive.all()
    for i, file in enumerate(sorted(photos.rglob("*.png"))):
        target = tmp_path / "moved" / file.parent.name
        target.mkdir(parents=True, exist_ok=True)
        (target / f"other {i}.png").write_bytes(file.read_bytes())
    assert model.predict(tmp_path / "moved").transductive.all()
    result = model.evaluate(photos)
    assert "16 images are among those that the model was fitted on without labels" in result.notes[0]
    np.testing.assert_array_equal(result.probabilities, found.probabilities)
    assert fitted_images_note(model, result) == ""
    assert "keeps no list" not in save_evaluation_page(model, result, tmp_path / "page.html").read_text()


@given(
    P=arrays.arrays(np.float64, st.tuples(st.integers(1, 6), st.integers(2, 9)), elements=st.floats(1e-6, 1)),
    temperature=st.floats(0.2, 5),
)
def test_kept_answers_are_distributions_with_the_same_order_at_the_top(P, temperature):
    P /= P.sum(axis=1, keepdims=True)
    n, C = P.shape
    X = torch.from_numpy(np.arange(1, n + 1)[:, None] * np.ones((1, 3), dtype=np.float32))
    kept = keep_answers(X, torch.from_numpy(P))
    known, found = kept_answers(kept, "vectors", vector_hashes(np.concatenate([X.numpy(), -X.numpy()])), C)
    assert known.tolist() == [True] * n + [False] * n
    np.testing.assert_allclose(found.sum(axis=1), 1)
    single = P.astype(np.float32)
    np.testing.assert_array_equal(found.argmax(axis=1), single.argmax(axis=1))
    if C <= KEPT:
        np.testing.assert_allclose(found, P, atol=1e-6)
    else:
        top = np.sort(found, axis=1)[:, ::-1]
        np.testing.assert_allclose(top[:, :KEPT], np.sort(P, axis=1)[:, ::-1][:, :KEPT], atol=1e-6)
        others = np.delete(found, np.argsort(-single, axis=1, kind="stable")[0, :KEPT], axis=1)[0]
        assert others.max() <= top[0, KEPT - 1]


def test_hashes_follow_the_numbers_not_their_type():
    X = np.random.default_rng(0).normal(size=(5000, 7)).astype(np.float16)
    plain = vector_hashes(X)
    assert len(set(plain.tolist())) == 5000
    for same in (X.astype(np.float32), torch.from_numpy(X.astype(np.float64)), np.where(X == 0, -0.0, X)):
        np.testing.assert_array_equal(vector_hashes(same), plain)
    kept = keep_answers(torch.from_numpy(X[::-1].copy()), likeliest(torch.rand(5000, 9)))
    name_answers(kept, X, np.arange(5000))
    assert kept["images"].tolist() == list(range(5000))[::-1]


def test_a_saved_model_has_some_bytes_per_image_whatever_the_number_of_classes(tmp_path):
    rng = np.random.default_rng(0)
    text = rng.normal(size=(300, 16))
    sizes = []
    for n in (500, 1500):
        X = text[np.arange(n) % 300] + 0.3 * rng.normal(size=(n, 16))
        method = AnchoredGaussian(rounds=1).fit(X, text=text)
        folder = save_model(tmp_path / str(n), method)
        sizes.append(sum(file.stat().st_size for file in folder.iterdir()))
    assert sizes[1] - sizes[0] <= 1000 * 64


def spoil(answers: dict[str, torch.Tensor], what: str) -> object:
    classes, probabilities = answers["classes"].clone(), answers["probabilities"].clone()
    changed = {
        "class beyond": {"classes": classes + 3},
        "class below": {"classes": classes - 1},
        "class twice": {"classes": torch.zeros_like(classes)},
        "other order": {"probabilities": probabilities.flip(1)},
        "negative": {"probabilities": probabilities - 0.5},
        "above one": {"probabilities": probabilities * 3},
        "nothing": {"probabilities": probabilities * 0},
        "fewer": {"probabilities": probabilities[:-1]},
        "narrower": {"probabilities": probabilities[:, :2], "classes": classes[:, :2]},
        "other type": {"classes": classes.float()},
        "hashes": {"vectors": answers["vectors"][:-1]},
        "hash type": {"images": answers["vectors"].double()},
        "unknown": {"names": answers["vectors"]},
        "none": {name: value[:0] for name, value in answers.items()},
    }
    return answers | changed[what]


CASES = [
    "class beyond", "class below", "class twice", "other order", "negative", "above one", "nothing", "fewer",
    "narrower", "other type", "hashes", "hash type", "unknown", "none",
]  # fmt: skip


@pytest.mark.parametrize("what", CASES)
def test_answers_that_do_not_fit_are_refused_when_loaded(what, tmp_path):
    rng = np.random.default_rng(0)
    text = rng.normal(size=(7, 8))
    method = AnchoredGaussian().fit(text[np.arange(40) % 7] + 0.3 * rng.normal(size=(40, 8)), text=text)
    save_model(tmp_path / "model", method)
    load_model(tmp_path / "model")
    method.fitted_answers_ = spoil(method.fitted_answers_, what)
    save_model(tmp_path / "model", method)
    with pytest.raises(InputError, match="answers for the images that it was fitted on"):
        load_model(tmp_path / "model")


def test_the_command_line_marks_transductive_answers(digits, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MODALIGN_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    for part, rows in {"seen": range(0, 300, 3), "new": range(1, 30, 3)}.items():
        (tmp_path / part).mkdir()
        for i in rows:
            digits.open(i).save(tmp_path / part / f"{i}.png")
    Path("names.txt").write_text("\n".join(digits.class_names), encoding="utf-8")
    fit = ["fit", "seen", "-o", "model", "-m", "anchored_gaussian", "--classes", "names.txt", "--unlabeled"]
    assert cli.run(fit) == 0
    told = capsys.readouterr().out
    assert "Estimated images of each class: zero " in told
    assert "Class sizes may be equal." in told
    for file in (tmp_path / "new").iterdir():
        file.rename(tmp_path / "seen" / f"new-{file.name}")
    assert cli.run(["predict", "model", "seen", "-o", "answers.csv"]) == 0
    assert "which predicted the images jointly: 100 of 110" in capsys.readouterr().err
    with open("answers.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["id"] for row in rows if row["transductive"] == "False"} == {f"new-{i}.png" for i in range(1, 30, 3)}
    assert len(rows) == 110


def test_a_refit_with_labels_drops_earlier_answers():
    rng = np.random.default_rng(0)
    text = rng.normal(size=(4, 8))
    X = text[np.arange(40) % 4] + 0.3 * rng.normal(size=(40, 8))
    method = AnchoredGaussian().fit(X, text=text)
    assert len(method.fitted_answers_["vectors"]) == 40
    method.fit(X, np.arange(40) % 4, text=text)
    assert not hasattr(method, "fitted_answers_")
