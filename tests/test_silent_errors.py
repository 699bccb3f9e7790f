"""Arguments that would be misread without a word are refused: masked entries, hidden test images, unnamed text."""

import numpy as np
import pytest
import torch
from scipy.sparse import csr_matrix

import modalign as ma
from modalign.methods.multi_label.one_against_rest import OneAgainstRest

NAMES = ("zebra", "ant", "cat", "bee", "yak")  # not in alphabetical order


@pytest.fixture(scope="module")
def clusters():
    """Vectors around the texts of five well separated classes."""
    rng = np.random.default_rng(0)
    text, y = rng.normal(size=(5, 32)), np.arange(40) % 5
    return text[y] + 0.4 * rng.normal(size=(40, 32)), y, text


def features(clusters, **changes):
    X, y, _ = clusters
    return ma.Features(**{"vectors": X, "labels": y, "class_names": NAMES} | changes)


@pytest.mark.parametrize("part", [("test",) * 40, ("train", "test") * 20])
def test_labels_of_test_images_are_refused_by_every_fit(clusters, part):
    _, y, text = clusters
    marked = features(clusters, parts=part)
    named = ma.ClassText(text, NAMES)
    with pytest.raises(ma.InputError, match="marks as test"):
        ma.GDA().fit(marked, text=named)
    with pytest.raises(ma.InputError, match="marks as test"):
        ma.GDA().fit(marked, y, text=named)
    with pytest.raises(ma.InputError, match="marks as test"):
        ma.GDA().fit(features(clusters), text=named, validation=marked)
    kept = marked.select([p != "test" for p in part]) if "train" in part else None
    if kept is not None:  # the way out that the message names
        ma.GDA().fit(kept, text=named)
    ma.GPUA().fit(marked, np.full(40, -1), text=named)  # without labels, as in transductive protocols


@pytest.mark.parametrize("parts", ["train", ("train",) * 3, ("holdout",) * 40, (1,) * 40])
def test_features_have_a_known_part_for_every_image(clusters, parts):
    with pytest.raises(ma.InputError, match="as parts, got"):
        features(clusters, parts=parts)


def test_masked_entries_are_not_taken_for_data(clusters):
    X, y, text = clusters
    hidden = np.ma.masked_array(y, mask=y == 1)
    with pytest.raises(ma.InputError, match="masked"):
        ma.GDA().fit(X, hidden, text=text)
    with pytest.raises(ma.InputError, match="masked"):
        ma.GDA().fit(np.ma.masked_array(X, mask=X > 0), y, text=text)
    with pytest.raises(ma.InputError, match="masked"):
        features(clusters, labels=hidden)
    with pytest.raises(ma.InputError, match="masked"):
        OneAgainstRest(ma.ZeroShot()).fit(X, np.ma.masked_array(np.eye(5)[y], mask=np.eye(5)[y] > 0), text=text)
    whole = np.ma.masked_array(y, mask=False)  # nothing is hidden
    assert ma.GDA().fit(X, whole, text=text).score(X, y) == ma.GDA().fit(X, y, text=text).score(X, y)


@pytest.mark.parametrize("label", [2**64 - 1, 2**40])
def test_labels_that_lost_their_sign_are_refused(clusters, label):
    with pytest.raises(ma.InputError, match=str(label)):
        features(clusters, labels=np.full(40, label, dtype=np.uint64), class_names=())


def test_sets_of_names_are_not_matched_with_rows_of_unnamed_text(clusters):
    X, y, text = clusters
    sets = [{NAMES[k]} for k in y]
    with pytest.raises(ma.InputError, match="names of the rows of text"):
        OneAgainstRest(ma.ZeroShot()).fit(X, sets, text=text)
    by_name = OneAgainstRest(ma.ZeroShot()).fit(X, sets, text=ma.ClassText(text, NAMES))
    by_order = OneAgainstRest(ma.ZeroShot()).fit(X, sets, text=text, class_names=NAMES)
    assert by_name.class_names_ == by_order.class_names_ == NAMES
    assert np.array_equal(by_name.predict(X), np.eye(5)[y])
    assert np.array_equal(by_order.predict(X), np.eye(5)[y])


def test_blank_labels_and_validation_without_labels_are_refused(clusters):
    X, y, text = clusters
    words = np.array(NAMES)[y]
    words[3] = " "
    with pytest.raises(ma.InputError, match="blank text at 3"):
        ma.GDA().fit(X, words)
    with pytest.raises(ma.InputError, match="for validation, got none"):
        ma.TipAdapterF(epochs=1).fit(X, y, text=text, validation=(X, np.full(40, -1)))


@pytest.mark.parametrize("kind", ["float", "object", "Int64", "category", "string"])
def test_missing_labels_of_any_type_are_named_with_their_place(clusters, kind):
    X, y, text = clusters
    values = pytest.importorskip("pandas").Series(np.array(NAMES)[y] if kind in ("category", "string") else y)
    labels = values.astype("float" if kind == "float" else "object").mask(np.arange(40) == 3)
    with pytest.raises(ma.InputError, match=r"at 3 \(counted from 0\); leave images without a label out"):
        ma.Auto().fit(X, labels if kind == "float" else labels.astype(kind), text=ma.ClassText(text, NAMES))


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda X, y, T: ma.GDA().fit(csr_matrix(X), y), "[Ss]parse"),
        (lambda X, y, T: ma.Auto(candidates=[]).fit(X, y, text=T), "candidates=… as names of methods, got \\[\\]"),
        (lambda X, y, T: ma.Auto(candidates=[None]).fit(X, y, text=T), "candidates=… as names of methods"),
        (lambda X, y, T: ma.ImageEmbedder(None).fit(["a.png"]), "encoder=… as a name or an encoder, got None"),
        (lambda X, y, T: ma.ZeroShot().fit(X, y, text=T).for_classes(T), "ClassText"),
        (lambda X, y, T: OneAgainstRest("gda").fit(X, np.eye(5)[y]), "method on vectors"),
        (lambda X, y, T: ma.Features(X, spec="tiny"), "EncoderSpec"),
        (lambda X, y, T: ma.Features(X, quarantined=["a.jpg"]), "Quarantined"),
        (lambda X, y, T: ma.ClassText(T, NAMES, sentences=NAMES), "list of sentences"),
    ],
)
def test_arguments_of_a_wrong_kind_get_a_sentence(clusters, call, said):
    with pytest.raises(ma.InputError, match=said):
        call(*clusters)


@pytest.mark.parametrize("ending", ["npz", "safetensors"])
@pytest.mark.parametrize("scale", [1.0, 1e300, 1e-300])
def test_what_is_saved_is_what_is_loaded_or_nothing_is_written(clusters, tmp_path, ending, scale):
    X, y, text = clusters
    path = tmp_path / f"features.{ending}"
    if ending == "safetensors" and scale != 1:  # float32
        with pytest.raises(ma.InputError, match="scale the vectors"):
            ma.Features(X * scale).save(path)
        assert not list(tmp_path.iterdir())
        return
    ma.Features(X * scale).save(path)
    method = ma.GDA().fit(X, y, text=text)
    assert np.array_equal(method.predict(ma.Features.load(path)), method.predict(X))


@pytest.mark.parametrize("ending", ["npz", "safetensors"])
def test_features_that_could_not_be_loaded_are_not_written(clusters, tmp_path, ending):
    X = np.array(clusters[0])
    path = features(clusters).save(tmp_path / f"features.{ending}")
    before = path.read_bytes()
    X[7, 0] = np.nan
    with pytest.raises(ma.InputError, match="row 7"):
        ma.Features(X).save(path)
    with pytest.raises(ma.InputError, match="row 0"):
        ma.Features(X[:2], tokens=np.full((2, 1, 32), np.inf)).save(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("name", ["a\0", "a\udcff"])
def test_names_come_back_as_they_were(clusters, tmp_path, name):
    made = ma.Features(clusters[0][:2], ids=[name, "b"])
    assert ma.Features.load(made.save(tmp_path / "f.safetensors")).ids == (name, "b")
    with pytest.raises(ma.InputError, match=r"use \.safetensors"):
        made.save(tmp_path / "f.npz")


@pytest.mark.parametrize("n", [1, 12])
def test_gpua_of_identical_images_answers(clusters, n):
    X, _, text = clusters
    fitted = ma.GPUA(random_state=0).fit(np.tile(X[:1], (n, 1)), text=text)
    probability = fitted.predict_proba(torch.from_numpy(X).float())
    assert bool(torch.isfinite(probability).all())
    assert fitted.predict(X[:1])[0] == 0
