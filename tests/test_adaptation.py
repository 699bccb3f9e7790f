"""What ``adapt`` does with a method and its settings: explicit values are used, objects stay as they are."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest

import modalign as ma
from modalign.errors import UnknownNameError
from modalign.methods import METHODS, method_class

QUICK = {"steps": 20, "epochs": 1, "C": 1.0}  # by parameter


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory):
    return ma.load_encoder("tiny", cache=tmp_path_factory.mktemp("cache"))


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


def test_a_method_keeps_its_own_seed_and_the_record_says_so(photos: Path, encoder) -> None:
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
