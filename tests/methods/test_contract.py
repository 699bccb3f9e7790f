"""What every method promises, whatever it computes: run on all that discovery finds."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from problems import few_shot, needs, quick
from sklearn.base import clone

from modalign.core.errors import EncoderMismatchError, InputError
from modalign.core.features import ClassText, EncoderSpec, Features
from modalign.methods import METHODS

TEXT = [True, False]


def fitted(name: str, with_text: bool = True, data=None, **settings):
    data = data or few_shot()
    method = quick(name, **settings)
    if not with_text and type(method).needs_text:
        pytest.skip("this method needs text")
    return method.fit(
        data.X, data.y, text=data.text if with_text else None, validation=(data.Xv, data.yv), **needs(method, data.X)
    )


pytestmark = pytest.mark.parametrize("name", METHODS)


@pytest.mark.parametrize("with_text", TEXT)
def test_learns_something(name, with_text):
    data = few_shot()
    assert fitted(name, with_text).score(data.Xt, data.yt) > 0.5  # chance is 0.2


@pytest.mark.parametrize("with_text", TEXT)
def test_renaming_the_classes_permutes_the_scores(name, with_text):
    data = few_shot()
    new = np.array([3, 0, 4, 1, 2])  # class c becomes class new[c]
    text = np.empty_like(data.text)
    text[new] = data.text
    renamed = data._replace(y=new[data.y], yv=new[data.yv], yt=new[data.yt], text=text)
    scores, permuted = (fitted(name, with_text, d).scores(data.Xt) for d in (data, renamed))
    scale = np.abs(scores).max()
    # L-BFGS stops at a tolerance, and rounding that depends on the order of sums moves where that is
    np.testing.assert_allclose(permuted[:, new], scores, atol=(1e-3 if name == "linear_probe" else 1e-4) * scale)


def test_an_image_scores_alike_in_any_batch(name):
    data = few_shot()
    method = fitted(name)
    together = method.scores(data.Xt)
    alone = np.concatenate([method.scores(row[None]) for row in data.Xt[:25]])
    shuffled = np.random.default_rng(0).permutation(len(data.Xt))
    scale = np.abs(together).max()
    np.testing.assert_allclose(alone, together[:25], atol=1e-5 * scale)
    np.testing.assert_allclose(method.scores(data.Xt[shuffled]), together[shuffled], atol=1e-5 * scale)


@pytest.mark.parametrize("with_text", TEXT)
def test_what_validation_chose_gives_the_same_model_without_validation(name, with_text):
    if name == "auto":
        pytest.skip("it chooses methods and their weights, which are no hyper-parameters")
    data = few_shot(noise=1.6)
    data = data._replace(y=np.where(np.arange(len(data.y)) < 15, data.y, -1))
    given = fitted(name, with_text, data, C="auto") if name == "linear_probe" else fitted(name, with_text, data)
    chosen = given.chosen()
    assert set(chosen) == set(given.choices) <= set(given.get_params())
    again = clone(given).set_params(**chosen)
    again.fit(data.X, data.y, text=data.text if with_text else None, **needs(given, data.X))
    assert again.chosen() == chosen
    scale = np.abs(given.scores(data.Xt)).max()
    np.testing.assert_allclose(again.scores(data.Xt), given.scores(data.Xt), atol=1e-5 * scale)


def test_one_seed_gives_the_same_bits(name):
    data = few_shot()
    first, second = (fitted(name).scores(data.Xt) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    once = fitted(name)
    np.testing.assert_array_equal(once.fit(data.X, data.y, text=data.text, validation=(data.Xv, data.yv),
                                           **needs(once, data.X)).scores(data.Xt), first)  # fmt: skip


def test_torch_in_torch_out_equal_to_numpy(name):
    data = few_shot()
    X, y, Xv, yv, Xt, text = (torch.from_numpy(data[i]) for i in (0, 1, 2, 3, 4, 6))
    method = quick(name)
    method.fit(
        X, y, text=text, validation=(Xv, yv), **{k: torch.from_numpy(v) for k, v in needs(method, data.X).items()}
    )
    expected = fitted(name)
    for function in ("scores", "decision_function", "predict_proba", "predict"):
        found = getattr(method, function)(Xt)
        assert isinstance(found, torch.Tensor)
        assert found.device == Xt.device
        np.testing.assert_allclose(found.numpy(), getattr(expected, function)(data.Xt), atol=1e-6)


def test_half_precision_is_computed_in_single(name):
    data = few_shot()
    half = data._replace(X=data.X.astype(np.float16), Xv=data.Xv.astype(np.float16), text=data.text.astype(np.float16))
    wide = half._replace(X=half.X.astype(np.float32), Xv=half.Xv.astype(np.float32), text=half.text.astype(np.float32))
    found, expected = fitted(name, data=half), fitted(name, data=wide)
    assert found.scores(data.Xt).dtype == np.float32
    np.testing.assert_array_equal(found.scores(data.Xt), expected.scores(data.Xt))


def test_unlabelled_rows_teach_a_labelled_method_nothing(name):
    """A method that learns from labels alone must not be moved by rows without one."""
    data = few_shot()
    extra = few_shot(seed=9)
    if not quick(name).needs_labels:
        pytest.skip("this method may learn from unlabelled images")
    more = data._replace(
        X=np.concatenate([data.X, extra.X]),
        y=np.concatenate([data.y, np.full(len(extra.X), -1)]),
        Xv=np.concatenate([data.Xv, extra.X]),
        yv=np.concatenate([data.yv, np.full(len(extra.X), -1)]),
    )
    np.testing.assert_array_equal(fitted(name, data=more).scores(data.Xt), fitted(name).scores(data.Xt))


def test_a_class_without_an_image_keeps_its_column(name):
    data = few_shot()
    seen = data.y != 2
    method = fitted(name, data=data._replace(X=data.X[seen], y=data.y[seen]))
    assert method.classes_.tolist() == [0, 1, 2, 3, 4]
    scores = method.scores(data.Xt)
    assert scores.shape == (len(data.Xt), 5)
    assert np.isfinite(scores).all()


def test_string_labels_come_back(name):
    data = few_shot()
    names = np.array(["gnu", "dog", "fox", "elk", "cat"])
    named = data._replace(y=names[data.y], yv=names[data.yv], text=ClassText(data.text, names))
    np.testing.assert_array_equal(fitted(name, data=named).predict(data.Xt), names[fitted(name).predict(data.Xt)])


def test_probabilities_are_the_softmax_of_the_scores_over_the_temperature(name):
    data = few_shot()
    method = fitted(name)
    probability = method.predict_proba(data.Xt)
    np.testing.assert_allclose(probability.sum(axis=1), 1, atol=1e-6)
    scores = method.scores(data.Xt).astype(np.float64) / method.temperature_
    ratio = np.exp(scores - scores.max(axis=1, keepdims=True))
    np.testing.assert_allclose(probability, ratio / ratio.sum(axis=1, keepdims=True), atol=1e-6)


def test_two_classes(name):
    data = few_shot(classes=2)
    method = fitted(name, data=data)
    decision = method.decision_function(data.Xt)
    assert decision.shape == (len(data.Xt),)
    np.testing.assert_array_equal(method.predict(data.Xt), (decision > 0).astype(int))


def test_fit_leaves_parameters_and_arguments_alone(name):
    data = few_shot()
    copies = data._replace(X=data.X.copy(), text=data.text.copy(), Xv=data.Xv.copy())
    method = quick(name)
    before = dict(method.get_params())
    method.fit(data.X, data.y, text=data.text, validation=(data.Xv, data.yv), **needs(method, data.X))
    assert method.get_params() == before
    for field in ("X", "text", "Xv"):
        np.testing.assert_array_equal(getattr(data, field), getattr(copies, field))
    assert not hasattr(clone(method), "diagnosis_")


def test_diagnosis_is_finite_numbers_and_names(name):
    def leaves(entry):
        return [leaf for value in entry.values() for leaf in leaves(value)] if isinstance(entry, dict) else [entry]

    found = [leaf for with_text in TEXT if with_text or not quick(name).needs_text
             for leaf in leaves(fitted(name, with_text).diagnosis_)]  # fmt: skip
    assert found
    assert all(isinstance(leaf, (str, bool, int, float)) and leaf == leaf for leaf in found)
    assert all(np.isfinite(leaf) for leaf in found if not isinstance(leaf, str))


def test_features_of_another_encoder_are_refused(name):
    data = few_shot()
    mine, other = (EncoderSpec(n, fingerprint=n * 20, dim=24) for n in ("a", "b"))
    names = tuple("abcde")
    method = quick(name)
    method.fit(
        Features(data.X, labels=data.y, class_names=names, spec=mine),
        text=ClassText(data.text, names, spec=mine),
        **needs(method, data.X),
    )
    with pytest.raises(EncoderMismatchError, match="Expected features of encoder 'a'"):
        method.predict(Features(data.Xt, spec=other))
    if not method.needs_anchor:
        with pytest.raises(EncoderMismatchError):
            method.fit(Features(data.X, labels=data.y, spec=mine), text=ClassText(data.text, names, spec=other))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_is_refused(name, bad):
    data = few_shot()
    for field in ("X", "text", "Xv"):
        array = getattr(data, field).copy()
        array[1, 2] = bad
        with pytest.raises(InputError, match=r"NaN|infinity"):
            fitted(name, data=data._replace(**{field: array}))
    spoiled = data.Xt.copy()
    spoiled[0, 0] = bad
    with pytest.raises(InputError, match=r"NaN|infinity"):
        fitted(name).predict(spoiled)


def test_widths_and_counts_that_do_not_fit_are_refused(name):
    data = few_shot()
    method = fitted(name)
    with pytest.raises(InputError, match="23 features"):
        method.predict(data.Xt[:, :23])
    with pytest.raises(InputError, match="23 features"):
        method.predict(torch.from_numpy(data.Xt[:, :23]))
    if not method.needs_anchor:
        with pytest.raises(InputError, match=r"width of X \(24\), got 23"):
            fitted(name, data=data._replace(text=data.text[:, :23]))
    with pytest.raises(InputError, match="one label a row"):
        fitted(name, data=data._replace(y=data.y[:-1]))
    with pytest.raises(InputError, match=r"0…3"):
        fitted(name, data=data._replace(text=data.text[:4]))


def test_every_ablation_is_a_change_of_its_own_hyper_parameters_and_fits(name):
    data = few_shot()
    for words, settings in type(quick(name)).ablations.items():
        assert words
        defaults = quick(name).get_params()
        assert settings.items() <= quick(name, **settings).get_params().items()
        assert any(defaults[key] != value for key, value in settings.items())
        assert np.isfinite(fitted(name, data=data, **settings).scores(data.Xt)).all()


def test_what_labels_and_text_change_is_what_the_class_says(name):
    data = few_shot()
    method = quick(name)
    if not method.takes_text:
        np.testing.assert_array_equal(fitted(name).scores(data.Xt), fitted(name, with_text=False).scores(data.Xt))
    if not method.needs_labels and not method.takes_labels:
        blind, other = data._replace(y=np.full_like(data.y, -1)), data._replace(y=np.roll(data.y, 1))
        np.testing.assert_array_equal(*(fitted(name, data=d).scores(data.Xt) for d in (blind, other)))
