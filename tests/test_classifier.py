"""From a folder to a saved classifier and back, on rendered images and the embedded encoder."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import modalign as ma
from modalign.core.errors import EncoderMismatchError, InputError, UnknownNameError
from modalign.data.digits import DIGIT_TEMPLATES, load_digits
from modalign.encoders.features.crop_features import embed_crops
from modalign.linalg.similarity import unit
from modalign.model.predictions import NONE_OF_THESE


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory):
    return ma.load_encoder("tiny", cache=tmp_path_factory.mktemp("cache"))


def test_folder_to_classifier_to_file_and_back(photos: Path, tmp_path: Path, encoder) -> None:
    model = ma.adapt(photos, encoder=encoder, method="cmm", shots=4, steps=200)
    predictions = model.predict([photos / "disc" / "0.png", Image.open(photos / "square" / "1.png")])
    assert set(predictions.names) <= {"disc", "square"}
    np.testing.assert_allclose(predictions.probabilities.sum(axis=1), 1)
    assert predictions[0].probability == predictions.probabilities[0].max() == predictions[0].top[0][1]
    assert [p.name for p in predictions] == list(predictions.names)

    again = ma.load(model.save(tmp_path / "model"))
    np.testing.assert_array_equal(again.predict(photos).probabilities, model.predict(photos).probabilities)
    assert again.class_names == model.class_names
    assert again.fitted_on == model.fitted_on
    assert again.record == model.record


def test_images_it_was_fitted_on_are_never_tested_on(photos: Path, encoder) -> None:
    model = ma.adapt(photos, encoder=encoder, method="zero_shot", shots=3)
    result = model.evaluate(photos)
    fitted = model.record["images"]["train"] + model.record["images"]["validation"]
    assert len(result.left_out) == fitted == len(model.fitted_on)
    assert result.accuracy.n == 16 - fitted
    assert result.confusion.sum() == result.accuracy.n
    assert model.evaluate(photos, include_fitted=True).accuracy.n == 16

    renamed = photos.parent / "elsewhere"
    photos.rename(renamed)
    (renamed / "disc").rename(renamed / "temporary")
    (renamed / "square").rename(renamed / "disc")  # the same bytes under other names are still recognised
    (renamed / "temporary").rename(renamed / "square")
    assert len(model.evaluate(renamed).left_out) == fitted


def test_a_lack_of_new_test_images_is_reported(photos: Path, encoder) -> None:
    model = ma.adapt(photos, encoder=encoder, method="zero_shot")
    with pytest.raises(InputError, match=r"not fitted on.*include_fitted=True"):
        model.evaluate(photos)
    with pytest.raises(InputError, match="got 8 without a label") as refused:
        model.evaluate(photos / "disc")
    assert "include_fitted" not in str(refused.value)  # which would not help


def test_images_without_a_label_are_accounted_for(photos: Path, encoder) -> None:
    model = ma.adapt(photos, encoder=encoder, method="zero_shot", shots=3)
    tested = model.evaluate(photos)
    assert not tested.notes
    for name in ("1", "2"):
        Image.new("RGB", (40, 40), (int(name), 0, 0)).save(photos / f"{name}.png")
    again = model.evaluate(photos)
    assert again.accuracy == tested.accuracy
    assert "2 images have no label and cannot be tested on" in again.notes


def test_classes_are_matched_by_name_not_by_order(photos: Path, encoder) -> None:
    model = ma.adapt(photos, encoder=encoder, method="zero_shot", classes=["square", "disc"], shots=3)
    assert model.class_names == ("square", "disc")
    result = model.evaluate(photos)
    assert [c.name for c in result.per_class] == ["square", "disc"]
    (photos / "triangle").mkdir()
    Image.new("RGB", (9, 9)).save(photos / "triangle" / "0.png")
    with pytest.raises(InputError, match="got also 'triangle'"):
        model.evaluate(photos)


def test_without_any_label_the_text_decides(photos: Path, encoder) -> None:
    flat = photos / "disc"
    model = ma.adapt(flat, encoder=encoder, method="zero_shot", classes=["disc", "square"])
    assert model.record["calibrated"] is False
    assert len(model.predict(flat)) == 8
    with pytest.raises(InputError, match="learns from labeled images"):
        ma.adapt(flat, encoder=encoder, method="cmm", classes=["disc", "square"])


def test_a_vision_only_encoder_needs_no_text(photos: Path, tmp_path: Path) -> None:
    encoder = ma.load_encoder("tiny-vision", cache=tmp_path / "cache")
    model = ma.adapt(photos, encoder=encoder, method="cmm", shots=2, steps=100)
    assert model.evaluate(photos).accuracy.n > 0


def test_another_encoder_is_refused(photos: Path, tmp_path: Path, encoder) -> None:
    folder = ma.adapt(photos, encoder=encoder, method="zero_shot", shots=2).save(tmp_path / "model")
    with pytest.raises(EncoderMismatchError):
        ma.load(folder, encoder="tiny-vision")


def test_probabilities_of_digits_are_calibrated(encoder) -> None:
    digits = load_digits().select(np.arange(0, 1797, 3))
    model = ma.adapt(digits, encoder=encoder, method="zero_shot", shots=10, templates=DIGIT_TEMPLATES)
    result = model.evaluate(digits)
    assert result.accuracy.top1 > 0.7
    assert result.calibration_error < 0.1


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"method": "cnm"}, "did you mean 'cmm'"),
        ({"method": "cmm", "stepz": 3}, "did you mean 'steps'"),
        ({"method": "cmm", "steps": -1}, "expected int in"),
        ({"encoder": "tinny"}, "did you mean 'tiny'"),
        ({"shots": 0}, "shots"),
        ({"templates": "a photo"}, "{}"),
        ({"templates": "{}", "descriptions": "x.json"}, "'x.json' does not exist"),
    ],
)
def test_wrong_inputs_are_refused_before_any_work(change: dict, sentence: str, photos: Path, monkeypatch) -> None:
    from modalign.encoders.base import Encoder

    def encodes(*_: object, **__: object) -> None:
        raise AssertionError("an image was encoded")

    monkeypatch.setattr(Encoder, "embed_images", encodes)
    with pytest.raises((InputError, UnknownNameError), match=sentence.replace("{", r"\{")):
        ma.adapt(photos, **change)


def test_one_class_leaves_nothing_to_decide(tmp_path: Path) -> None:
    (tmp_path / "only").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "only" / "a.png")
    with pytest.raises(InputError, match="at least 2 classes"):
        ma.adapt(tmp_path)


def test_none_of_these(tmp_path: Path, encoder) -> None:
    """Digits are rejected at the set rate, other pictures far more often; a saved file keeps it all."""
    digits = load_digits()
    known = digits.select(np.flatnonzero(digits.labels < 6))
    known = dataclasses.replace(known, class_names=known.class_names[:6])
    model = ma.adapt(known.select(np.arange(0, len(known), 2)), encoder=encoder, method="linear_probe")
    again = ma.load(model.save(tmp_path / "model"), encoder=encoder)
    assert again.rejection == model.rejection

    held_out = known.select(np.arange(1, len(known), 2))
    answers, plain = again.predict(held_out, reject=True), again.predict(held_out)
    assert 0.01 < answers.rejected.mean() < 0.09
    assert plain.rejected is None
    np.testing.assert_array_equal(answers.probabilities, plain.probabilities)
    strangers = again.predict(digits.select(np.flatnonzero(digits.labels >= 6)), reject=True)
    assert strangers.rejected.mean() > 0.5
    refused = strangers[int(strangers.rejected.argmax())]
    assert refused.rejected
    assert refused.name == NONE_OF_THESE
    assert refused.top[0][0] in known.class_names
    assert strangers.names.count(NONE_OF_THESE) == strangers.rejected.sum()
    assert again.predict(held_out, reject=0.3).rejected.mean() > answers.rejected.mean()


def test_rejection_without_held_out_images_is_refused_before_work(photos: Path, encoder, monkeypatch) -> None:
    model = ma.adapt(photos, encoder=encoder, method="linear_probe")
    few = dataclasses.replace(model, rejection=dataclasses.replace(model.rejection, reference=(0.5, 0.6)))
    monkeypatch.setattr(type(encoder), "embed_images", lambda *_, **__: pytest.fail("work began"))
    with pytest.raises(InputError, match="at least 19 held-out images"):
        few.predict(photos, reject=True)
    with pytest.raises(InputError, match="between 0 and 1"):
        few.predict(photos, reject=0.0)
    with pytest.raises(InputError, match="got none; fit with at least 19 labeled images"):
        dataclasses.replace(model, rejection=None).predict(photos, reject=True)


def test_two_encoders_without_a_label(tmp_path: Path, encoder) -> None:
    """GPUA beside each other and with the anchor for learning only; both find digits that zero-shot does not."""
    digits = load_digits().select(np.arange(0, 1797, 3))
    unlabeled = dataclasses.replace(digits, labels=np.full(len(digits), -1))
    settings = {"method": "gpua", "templates": DIGIT_TEMPLATES}
    joined = ma.load_encoder("tiny-vision+tiny", cache=encoder.store)
    both = ma.adapt(unlabeled, encoder=joined, **settings)
    eyes = ma.load_encoder("tiny-vision", cache=encoder.store)
    learned = ma.adapt(unlabeled, encoder=eyes, clip_encoder=encoder, **settings)
    zero_shot = ma.adapt(unlabeled, encoder=encoder, method="zero_shot", templates=DIGIT_TEMPLATES)
    right = [
        (m.predict(digits).probabilities.argmax(axis=1) == digits.labels).mean() for m in (zero_shot, both, learned)
    ]
    assert right[1] > right[0]
    assert right[2] > right[0] - 0.02
    assert both.method.spaces_ == list(joined.widths)
    assert learned.encoder is eyes

    again = ma.load(both.save(tmp_path / "both"))
    np.testing.assert_allclose(again.predict(digits).probabilities, both.predict(digits).probabilities, atol=1e-6)
    with pytest.raises(EncoderMismatchError):
        ma.load(tmp_path / "both", encoder="tiny+tiny-vision")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"method": "cmm", "clip_encoder": "tiny"}, "learns in one space; leave out clip_encoder"),
        ({"method": "gpua", "clip_encoder": "tiny-vision"}, "with a text tower"),
        ({"method": "gpua", "unlabeled": True}, "names of the classes"),
        ({"method": "cmm", "unlabeled": True, "classes": ["disc", "square"]}, "learns from labeled images"),
    ],
)
def test_what_does_not_go_together_is_refused(change: dict, sentence: str, photos: Path) -> None:
    with pytest.raises(InputError, match=sentence):
        ma.adapt(photos, **change)


def test_a_method_on_crops_gets_them_in_fit_and_predict(photos: Path, tmp_path: Path, encoder) -> None:
    model = ma.adapt(photos, encoder=encoder, method="wca", shots=3, crops=5)
    assert model.crops == model.record["crops"] == 5
    seen = embed_crops(photos, encoder, crops=5, by_content=True)
    f, crops = unit(torch.from_numpy(seen.vectors.copy())), unit(torch.from_numpy(seen.tokens.copy()))
    logits = []
    for whole, parts in zip(f, crops, strict=True):  # WCA as printed: temperatures of one
        weights = torch.stack([part @ whole for part in parts]).softmax(0)
        logits.append(sum(w * part for w, part in zip(weights, parts, strict=True)) @ model.method.prototypes_.T)
    expected = (model.method.logit_scale_ * torch.stack(logits).double() / model.temperature).softmax(1).numpy()
    answers = model.predict(photos)
    np.testing.assert_allclose(answers.probabilities, expected, atol=1e-4)
    whole = dataclasses.replace(model, crops=0).predict(photos).probabilities
    assert np.abs(answers.probabilities - whole).max() > 0.01

    again = ma.load(model.save(tmp_path / "model"), encoder=encoder)
    assert again.crops == 5
    np.testing.assert_array_equal(again.predict(photos).probabilities, answers.probabilities)
    alone = again.predict([Image.open(photos / "square" / "7.png")])  # last in its folder, now first of one
    np.testing.assert_allclose(alone.probabilities[0], answers.probabilities[-1], atol=1e-5)
    tested = again.evaluate(photos, include_fitted=True)
    np.testing.assert_array_equal(tested.probabilities, answers.probabilities)


@pytest.mark.filterwarnings("ignore:The pseudo-labels fall on about")  # the tiny encoder knows no shapes
def test_a_method_that_learns_from_crops_alone_predicts_without_any(photos: Path, encoder, monkeypatch) -> None:
    settings = {"encoder": encoder, "method": "fair_vectors", "classes": ["disc", "square"], "unlabeled": True}
    model, whole = ma.adapt(photos, crops=4, **settings), ma.adapt(photos, **settings)
    assert model.method.diagnosis_["crops"] == 4
    assert whole.method.diagnosis_["crops"] == whole.crops == 0
    assert not np.array_equal(model.method.prototypes_, whole.method.prototypes_)
    monkeypatch.setattr("modalign.model.scoring.embed_crops", lambda *_, **__: pytest.fail("crops were cut"))
    assert len(model.predict(photos)) == 16


def test_models_saved_before_there_were_crops_use_whole_images(photos: Path, tmp_path: Path, encoder) -> None:
    model = ma.adapt(photos, encoder=encoder, method="wca", shots=3)
    card = model.save(tmp_path / "model") / "card.json"
    entries = json.loads(card.read_text())
    assert entries["classifier"].pop("crops") == 0
    del entries["digest"]
    card.write_text(json.dumps(entries | {"format": "modalign-model/1"}))
    again = ma.load(tmp_path / "model", encoder=encoder)
    assert again.crops == 0
    np.testing.assert_array_equal(again.predict(photos).probabilities, model.predict(photos).probabilities)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"method": "cmm", "crops": 4}, "takes no crops"),
        ({"method": "maple", "crops": 4}, "takes no crops"),
        ({"method": "wca", "crops": -1}, "number of crops"),
        ({"method": "wca", "crops": True}, "number of crops"),
        ({"method": "wca", "crops": 4, "mirror": True}, "crops or mirrored"),
        ({"method": "wca", "crops": 4, "encoder": "tiny-vision+tiny"}, "one encoder to embed crops with"),
        ({"method": "fair", "crops": 3}, "keep at most all 3 crops"),
    ],
)
def test_crops_go_to_methods_on_parts_only(change: dict, sentence: str, photos: Path, monkeypatch) -> None:
    monkeypatch.setattr("modalign.model.scoring.embed_crops", lambda *_, **__: pytest.fail("work began"))
    with pytest.raises(InputError, match=sentence):
        ma.adapt(photos, **change)


@pytest.mark.parametrize("method", ["auto", "linear_probe", "gda"])
def test_two_encoders_go_to_methods_that_map_between_spaces(method: str, photos: Path) -> None:
    with pytest.raises(InputError, match="compares images with class text in one space, got 'tiny-vision"):
        ma.adapt(photos, encoder="tiny-vision+tiny", method=method)


def test_without_labels_and_without_text_there_is_nothing_to_learn_from(photos: Path) -> None:
    with pytest.raises(InputError, match="labeled images or an encoder with a text tower, got neither"):
        ma.adapt(photos, encoder="tiny-vision", unlabeled=True, classes=["a", "b"])


@pytest.mark.parametrize("shots", [1, 3])
def test_auto_learns_from_mirrored_images(shots: int, photos: Path, encoder) -> None:
    """With one image per class and its mirror image nothing is held out, and no image is judged by its mirror image."""
    model = ma.adapt(
        photos, encoder=encoder, mirror=True, shots=shots, validation="none", candidates=["anchored_gaussian"]
    )
    assert len(model.predict(photos)) > 0
    assert model.method.diagnosis_["chosen_on"] == ("nothing" if shots == 1 else "cross-validation")
