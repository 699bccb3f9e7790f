"""Vectors count as their directions: any finite scale gives the same answers, and nothing public is ever NaN."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from problems import FewShot, few_shot, needs, quick

from modalign.core.features import ClassText, Features
from modalign.linalg.inputs import single
from modalign.linalg.similarity import unit
from modalign.methods import METHODS
from modalign.methods.contract.vectors import VectorMethod

SCALES = {"float32": (1e-30, 1e30), "float64": (1e-300, 1e300)}


def fit(name: str, data: FewShot, **extra: np.ndarray) -> VectorMethod:
    method = quick(name)
    return method.fit(data.X, data.y, text=data.text, validation=(data.Xv, data.yv), **(needs(method, data.X) | extra))


@pytest.fixture(scope="module")
def fitted():
    """Every method fitted once on vectors of length one; tests do not modify it."""
    data, found = few_shot(), {}

    def of(name: str) -> tuple[FewShot, VectorMethod]:
        if name not in found:
            found[name] = fit(name, data)
        return data, found[name]

    return of


def same(found: np.ndarray, expected: np.ndarray) -> None:
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found, expected, atol=2e-4 * np.abs(expected).max())


@pytest.mark.parametrize("name", METHODS)
@settings(max_examples=15)
@given(exponent=st.floats(-30, 30), dtype=st.sampled_from(list(SCALES)), each=st.booleans(), torch_too=st.booleans())
def test_any_scale_of_the_new_images_gives_the_same_answers(fitted, name, exponent, dtype, each, torch_too) -> None:
    data, method = fitted(name)
    images = data.Xt[:20]
    scale = np.full(len(images), 10.0**exponent)
    if each:  # every row its own
        scale **= np.linspace(-1, 1, len(images))
    scaled = (images * scale[:, None]).astype(dtype)
    for X in (scaled, *([torch.from_numpy(scaled)] if torch_too else [])):
        same(np.asarray(method.scores(X)), method.scores(images))
        probabilities = np.asarray(method.predict_proba(X))
        assert np.isfinite(probabilities).all()
        np.testing.assert_array_equal(np.asarray(method.predict(X)), method.predict(images))
        if hasattr(method, "transform"):
            same(np.asarray(method.transform(X)), method.transform(images))


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize(("dtype", "scale"), [(dtype, scale) for dtype in SCALES for scale in SCALES[dtype]])
def test_any_scale_of_what_is_learned_from_gives_the_same_model(fitted, name, dtype, scale) -> None:
    data, method = fitted(name)
    large = data._replace(X=data.X * np.array(scale, dtype), Xv=data.Xv * np.array(scale, dtype),
                          text=data.text / np.array(scale, dtype))  # fmt: skip
    anchor = {key: value * np.array(scale, dtype) for key, value in needs(method, data.X).items()}
    again = fit(name, large, **anchor)
    same(again.scores(data.Xt), method.scores(data.Xt))


@pytest.mark.parametrize("name", [n for n in METHODS if quick(n).takes_parts])
@pytest.mark.parametrize("scale", SCALES["float64"])
def test_any_scale_of_crops_and_sentences_too(name: str, scale: float) -> None:
    data, rng = few_shot(), np.random.default_rng(0)
    crops = data.X[:, None] + 0.1 * rng.normal(size=(len(data.X), 3, data.X.shape[1]))
    crops[0, 2] = 0  # this image has two
    sentences = np.stack([data.text, 0.5 * data.text + 0.1, np.zeros_like(data.text)], axis=1).astype(float)
    names = tuple("abcde")

    def scores(factor: float) -> np.ndarray:
        features = Features(data.X, labels=data.y, class_names=names, tokens=crops * factor)
        method = quick(name).fit(features, text=ClassText(sentences * factor, names))
        return method.scores(Features(data.X, tokens=crops * factor))

    same(scores(scale), scores(1.0))


@pytest.mark.parametrize(("dtype", "scale"), [("float16", 1e-3), ("float32", 1e30), ("float64", 1e-300)])
def test_a_memory_map_of_any_scale_is_read_like_an_array(tmp_path: Path, dtype: str, scale: float) -> None:
    data = few_shot()
    np.save(tmp_path / "X.npy", (data.Xt.astype(float) * scale).astype(dtype))
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    method = quick("gpua").fit(mapped, text=data.text)
    expected = quick("gpua").fit(np.array(mapped), text=data.text)
    same(method.scores(mapped), expected.scores(np.array(mapped)))
    tolerance = 2e-2 if dtype == "float16" else 2e-4
    exact = quick("gpua").fit(data.Xt, text=data.text).scores(data.Xt)
    np.testing.assert_allclose(method.scores(data.Xt), exact, atol=tolerance * np.abs(exact).max())


@pytest.mark.parametrize("name", METHODS)
def test_a_row_of_zeros_has_no_effect_and_is_reported(fitted, name: str) -> None:
    data, method = fitted(name)
    images = data.Xt[:6].copy()
    images[4] = 0
    with pytest.warns(UserWarning, match="1 row of X with zeros only, first row 4"):
        scores = method.scores(images)
    assert np.isfinite(scores).all()
    rest = [0, 1, 2, 3, 5]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        same(method.scores(images[rest]), scores[rest])


@given(exponent=st.integers(-149, 120), seed=st.integers(0, 9))
def test_unit_rows_keep_their_bits_under_powers_of_two(exponent: int, seed: int) -> None:
    X = torch.randn(5, 7, generator=torch.Generator().manual_seed(seed))
    scaled = (X.double() * 2.0**exponent).float()
    if exponent > -100:  # below, entries lose digits themselves
        assert torch.equal(unit(scaled), unit(X))
    lengths = unit(scaled).norm(dim=1)
    assert torch.allclose(lengths[scaled.any(dim=1)], torch.ones(()))


@given(exponent=st.integers(-1000, 1000))
def test_rows_that_float32_cannot_hold_are_scaled_and_others_are_not(exponent: int) -> None:
    X = torch.randn(4, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    X[1:3] *= 2.0**exponent
    found = single(X)
    assert found.dtype == torch.float32
    assert torch.equal(found[[0, 3]], X[[0, 3]].float())
    torch.testing.assert_close(unit(found), unit(X).float())
    if -90 < exponent < 90:
        assert torch.equal(found, X.float())
