"""What ``adapt`` does with a method and with labels: explicit values are used, and every label teaches and tests."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import modalign as ma
from modalign.core.errors import InputError, UnknownNameError
from modalign.data.digits import load_digits
from modalign.data.text.descriptions import class_sentences
from modalign.linalg.calibration import fit_temperature
from modalign.linalg.rejection import fit_rejection
from modalign.methods import METHODS, method_class
from modalign.methods.baselines.tip_adapter import TipAdapter
from modalign.methods.contract.cross_fitting import cross_fit

QUICK = {"steps": 20, "epochs": 1, "C": 1.0, "candidates": ("anchored_gaussian",)}  # by parameter


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory):
    return ma.load_encoder("tiny", cache=tmp_path_factory.mktemp("cache"))


def digits(per_class: int, classes: int = 3) -> ma.Items:
    """The first images of some digits, with the names of these only."""
    source = load_digits()
    rows = [np.flatnonzero(source.labels == c)[:per_class] for c in range(classes)]
    return replace(source.select(np.concatenate(rows)), class_names=source.class_names[:classes])


def quick(name: str, **settings: object):
    known = method_class(name)().get_params()
    return method_class(name)(**{k: v for k, v in {**QUICK, **settings}.items() if k in known})


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.filterwarnings("ignore::UserWarning")  # the tiny encoder knows no shapes
def test_a_given_method_stays_as_it_is_and_the_record_gives_the_same_model(name: str, photos: Path, encoder) -> None:
    mine = quick(name)
    before = deepcopy(vars(mine))
    first, second = (ma.adapt(photos, encoder=encoder, method=mine, random_state=3) for _ in range(2))
    assert vars(mine) == before
    assert first.method is not mine
    assert first.record["random_state"] == first.method.random_state == 3
    np.testing.assert_array_equal(first.predict(photos).probabilities, second.predict(photos).probabilities)

    settings = {k: v for k, v in mine.get_params().items() if k != "random_state"}
    by_name = ma.adapt(photos, encoder=encoder, method=name, random_state=3, **settings)
    np.testing.assert_array_equal(first.predict(photos).probabilities, by_name.predict(photos).probabilities)


@pytest.mark.parametrize("scale", [50.0, 100.0])
def test_an_explicit_logit_scale_is_used_and_the_encoders_otherwise(scale: float, photos: Path, encoder) -> None:
    for model in (
        ma.adapt(photos, encoder=encoder, method=ma.ZeroShot(logit_scale=scale)),
        ma.adapt(photos, encoder=encoder, method="zero_shot", logit_scale=scale),
        ma.adapt(photos, encoder=encoder, method=ma.ZeroShot(logit_scale=7.0), logit_scale=scale),
    ):
        assert model.method.logit_scale == model.method.logit_scale_ == scale
        X = encoder.embed_images(photos)
        np.testing.assert_allclose(
            model.method.scores(X), scale * X.vectors @ model.method.prototypes_.numpy().T, atol=1e-4
        )
    for method in ("zero_shot", ma.ZeroShot()):
        assert ma.adapt(photos, encoder=encoder, method=method).method.logit_scale_ == encoder.logit_scale != scale


def test_a_method_keeps_its_own_seed_and_the_record_has_it(photos: Path, encoder) -> None:
    settings = {"encoder": encoder, "shots": 2, "steps": 20}
    own = ma.adapt(photos, method=ma.CMM(random_state=7), random_state=3, **settings)
    assert own.record["random_state"] == own.method.random_state == 7
    same = ma.adapt(photos, method=ma.CMM(random_state=7), random_state=3, **settings)
    np.testing.assert_array_equal(own.method.prototypes_, same.method.prototypes_)
    assert own.method.steps == 20


def test_hyper_parameters_beside_a_method_are_checked_like_those_of_a_name(photos: Path, encoder) -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'steps'"):
        ma.adapt(photos, encoder=encoder, method=ma.CMM(), stepz=3)


def test_spaces_that_were_given_are_kept(photos: Path, encoder) -> None:
    joined = ma.load_encoder("tiny-vision+tiny", cache=encoder.store)
    first, second = joined.widths
    split = [first // 2, first - first // 2, second]
    mine = ma.GPUA(spaces=split, steps=5)
    given = ma.adapt(photos, encoder=joined, method=mine)
    assert given.method.spaces_ == mine.spaces == split
    assert ma.adapt(photos, encoder=joined, method=ma.GPUA(steps=5)).method.spaces_ == list(joined.widths)


def test_the_final_model_learns_from_all_and_its_calibration_rests_on_cross_fitting(encoder) -> None:
    source = digits(12)
    model = ma.adapt(source, encoder=encoder, method="tip_adapter", random_state=4)
    X = encoder.embed_images(source)
    text = encoder.embed_texts(class_sentences(source.class_names, None, None), class_names=source.class_names)
    crossed = cross_fit(TipAdapter(random_state=4), X, text=text, random_state=4)
    final = TipAdapter(random_state=4, **crossed.chosen).fit(X, text=text)
    np.testing.assert_allclose(model.method.scores(X), final.scores(X), rtol=1e-6)
    labels = torch.from_numpy(source.labels)
    temperature = fit_temperature(torch.from_numpy(crossed.scored.logits), labels)
    assert model.temperature == pytest.approx(temperature)
    expected = fit_rejection(torch.from_numpy(crossed.scored.logits / model.temperature), labels)
    assert model.rejection == expected
    assert model.record["images"] == {"train": 36, "validation": 0}
    assert model.record["validation"] == {
        "asked": "auto", "random_state": 4, "how": "cross-fitting over 5 folds", "images": 36, "labeled": 36,
        "chosen": crossed.chosen,
    }  # fmt: skip
    outcome = model.record["outcome"]
    assert outcome["held_out"]["accuracy"] == (crossed.scored.logits.argmax(axis=1) == source.labels).mean()
    assert outcome["zero_shot"]["accuracy"] == ma.ZeroShot().fit(X, text=text).score(X, source.labels)


@pytest.mark.parametrize("shots", [1, 2, 3, 4, 100, None])
@pytest.mark.parametrize("method", ["zero_shot", "linear_probe", "auto"])
def test_rejection_works_at_any_shots_as_soon_as_there_are_19_labeled_images(method, shots, encoder) -> None:
    settings = {"encoder": encoder, "method": quick(method), "shots": shots}
    source = digits(7)
    assert len(ma.adapt(source, **settings).predict(source, reject=0.05)) == 21
    short = ma.adapt(source.select(np.arange(18)), **settings)
    with pytest.raises(
        InputError, match=r"at least 19 held-out .*; fit with at least 19 labeled images \(there were 18\)"
    ):
        short.predict(source, reject=0.05)


@pytest.mark.parametrize(
    ("settings", "advice"),
    [
        ({"validation": 2}, "fit again with validation='cross',"),
        ({"validation": "none"}, "fit again with validation='cross'."),
        ({"shots": 3, "validation": 2}, "fit again with validation='cross' and without shots=…,"),
    ],
)
def test_the_advice_of_a_refused_rejection_leads_out_of_it(settings, advice, encoder) -> None:
    source = digits(10)
    common = {"encoder": encoder, "method": "zero_shot"}
    with pytest.raises(InputError) as caught:
        ma.adapt(source, **common, **settings).predict(source, reject=0.04)
    assert advice in str(caught.value)
    assert len(ma.adapt(source, **common, validation="cross").predict(source, reject=0.04)) == 30


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_one_image_of_most_classes_is_enough_to_fit_and_hold_out_the_others(name, encoder) -> None:
    source = digits(20).select([*range(18), 20, 40])
    model = ma.adapt(source, encoder=encoder, method=quick(name))
    assert np.isfinite(model.predict(source).probabilities).all()
    named_by_text = method_class(name).takes_text
    assert model.record["validation"]["images"] == (20 if named_by_text else 18)
    if named_by_text:
        model.predict(source, reject=0.05)
    else:
        with pytest.raises(InputError, match="more images of the classes that have only one"):
            model.predict(source, reject=0.05)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_inside_an_encoder_enough_images_are_held_out_and_compared_with_zero_shot(encoder) -> None:
    source = digits(14)
    recipe = {"epochs": 1, "batch_size": 14, "augmentation": "center"}
    model = ma.adapt(source, encoder=encoder, method="coop", **recipe)
    assert model.record["images"] == {"train": 21, "validation": 21}
    assert model.record["outcome"]["held_out"]["n"] == model.record["outcome"]["zero_shot"]["n"] == 21
    assert len(model.predict(source, reject=0.05)) == 42
    few = ma.adapt(source, encoder=encoder, method="coop", validation=2, **recipe)
    with pytest.raises(InputError, match=r"fit again with validation=7, or allow 0\.143 or more"):
        few.predict(source, reject=0.05)


def test_without_labels_agreement_and_the_sizes_of_the_classes_are_on_record(encoder) -> None:
    source = digits(8).unlabeled()
    outcome = ma.adapt(source, encoder=encoder, method="gpua", steps=5).record["outcome"]
    assert outcome["held_out"] is outcome["zero_shot"] is None
    assert 0 <= outcome["agreement"]["accuracy"] <= 1
    assert sum(outcome["class_sizes"].values()) == 24
    assert ma.adapt(source, encoder=encoder, method="zero_shot").record["outcome"]["agreement"] is None


def test_an_encoder_without_text_needs_an_image_of_every_class(encoder) -> None:
    vision = ma.load_encoder("tiny-vision", cache=encoder.store)
    source = digits(6)
    missing = replace(source, class_names=(*source.class_names, "three"))
    with pytest.raises(InputError, match=r"a labeled image of every class, .* got none of 'three'"):
        ma.adapt(missing, encoder=vision, method="zero_shot")
    assert ma.adapt(missing, encoder=encoder, method="zero_shot").class_names[-1] == "three"


def test_a_model_detects_whether_images_are_left_to_test_it_on(photos: Path, encoder) -> None:
    assert ma.adapt(photos, encoder=encoder, method="zero_shot", shots=2).can_evaluate(photos)
    all_used = ma.adapt(photos, encoder=encoder, method="zero_shot")
    assert not all_used.can_evaluate(photos)
    assert not all_used.can_evaluate(photos / "disc")  # no label
    (photos / "disc" / "broken.png").write_bytes(b"no image")
    assert not all_used.can_evaluate(photos)
    (photos / "disc" / "0.png").rename(photos / "square" / "moved.png")
    assert not all_used.can_evaluate(photos)
