"""Laws of changes of the input that may or may not change the scores of a method."""

from __future__ import annotations

import numpy as np
import torch
from sklearn.base import clone

from modalign.testing.expectations import expect, expect_close, expect_equal
from modalign.testing.subject import Subject, few_shot_problem, needs


def renaming_the_classes_permutes_the_scores(subject: Subject) -> None:
    """With the classes in another order, the columns of the scores are in that order, also where folds are drawn."""
    data = subject.data
    new = np.array([3, 0, 4, 1, 2])  # class c becomes class new[c]
    text = np.empty_like(data.text)
    text[new] = data.text
    renamed = data._replace(y=new[data.y], yv=new[data.yv], yt=new[data.yt], text=text)
    cases = [(with_text, True) for with_text in subject.texts] + [(True, False)]  # folds are drawn without validation
    for with_text, validated in cases:
        known = subject.fitted(with_text) if validated else subject.fit(data, with_text=with_text, validated=False)
        scores = known.scores(data.Xt)
        permuted = subject.fit(renamed, with_text=with_text, validated=validated).scores(data.Xt)
        expect_close(
            permuted[:, new], scores, subject.tolerance * np.abs(scores).max(), "The order of the classes matters."
        )


def scores_do_not_depend_on_the_batch(subject: Subject) -> None:
    """The scores of an image do not depend on the images that are scored with it."""
    X, method = subject.data.Xt, subject.fitted()
    together = method.scores(X)
    alone = np.concatenate([method.scores(row[None]) for row in X[:25]])
    shuffled = np.random.default_rng(0).permutation(len(X))
    allowed = 1e-5 * np.abs(together).max()
    expect_close(alone, together[:25], allowed, "An image by itself gets other scores than in a batch.")
    expect_close(method.scores(X[shuffled]), together[shuffled], allowed, "Scores depend on the order of the images.")


def chosen_parameters_reproduce_the_model(subject: Subject) -> None:
    """``chosen()`` names the hyper-parameters in ``choices``; with its values, no validation images are needed."""
    data = few_shot_problem(noise=1.6)
    data = data._replace(y=np.where(np.arange(len(data.y)) < 15, data.y, -1))
    for with_text in subject.texts:
        given = subject.fit(data, with_text=with_text)
        chosen = given.chosen()
        expect(set(chosen) == set(given.choices), f"chosen() gives {sorted(chosen)}, choices are {given.choices}.")
        expect(set(chosen) <= set(given.get_params()), f"choices holds other names than hyper-parameters: {chosen}.")
        again = subject.fit(data, with_text=with_text, validated=False, **chosen)
        expect(again.chosen() == chosen, f"Set to {chosen}, the method chose {again.chosen()}.")
        scores = given.scores(data.Xt)
        expect_close(
            again.scores(data.Xt),
            scores,
            1e-5 * np.abs(scores).max(),
            "With the chosen hyper-parameters, the model differs.",
        )


def one_seed_gives_the_same_bits(subject: Subject) -> None:
    """Two fits to the same data with one seed are equal, also of one object that is fitted twice."""
    data, first = subject.data, subject.fitted().scores(subject.data.Xt)
    second = subject.fit(data)
    expect_equal(second.scores(data.Xt), first, "Two fits with one seed differ.")
    second.fit(data.X, data.y, text=data.text, validation=(data.Xv, data.yv), **needs(second, data.X))
    expect_equal(second.scores(data.Xt), first, "A second fit of one object differs from its first.")


def torch_in_torch_out_equal_to_numpy(subject: Subject) -> None:
    """Tensors give tensors on their device, with the numbers that arrays give."""
    data, expected = subject.data, subject.fitted()
    X, y, Xv, yv, Xt, _, text = map(torch.from_numpy, data)
    method = clone(subject.method)
    clip_features = {name: torch.from_numpy(rows) for name, rows in needs(method, data.X).items()}
    method.fit(X, y, text=text, validation=(Xv, yv), **clip_features)
    for function in ("scores", "decision_function", "predict_proba", "predict"):
        found = getattr(method, function)(Xt)
        expect(isinstance(found, torch.Tensor), f"{function} of a tensor gives a {type(found).__name__}.")
        expect(found.device == Xt.device, f"{function} returns a tensor on {found.device}.")
        expect_close(found, getattr(expected, function)(data.Xt), 1e-6, f"{function} of tensors and arrays differ.")


def half_precision_is_computed_in_single(subject: Subject) -> None:
    """Vectors in float16 are the same vectors in float32, and scores are float32."""
    data, fields = subject.data, ("X", "Xv", "text")
    half = data._replace(**{field: getattr(data, field).astype(np.float16) for field in fields})
    single = half._replace(**{field: getattr(half, field).astype(np.float32) for field in fields})
    found, expected = (subject.fit(given).scores(data.Xt) for given in (half, single))
    expect(found.dtype == np.float32, f"Scores are {found.dtype}.")
    expect_equal(found, expected, "A fit in float16 differs from one to the same numbers in float32.")


def unlabeled_rows_do_not_change_a_supervised_method(subject: Subject) -> None:
    """A method with ``needs_labels``, or without ``takes_unlabeled``, ignores unlabeled rows beside labeled ones."""
    if not subject.method.needs_labels and subject.method.takes_unlabeled:
        return
    data, extra = subject.data, few_shot_problem(seed=9).X
    none = np.full(len(extra), -1)
    more = data._replace(
        X=np.concatenate([data.X, extra]),
        y=np.concatenate([data.y, none]),
        Xv=np.concatenate([data.Xv, extra]),
        yv=np.concatenate([data.yv, none]),
    )
    expect_equal(
        subject.fit(more).scores(data.Xt),
        subject.fitted().scores(data.Xt),
        "Images without a label change the scores of a method that needs labels, or declares that it ignores them.",
    )


def labels_and_text_have_the_declared_effect(subject: Subject) -> None:
    """Without ``takes_text``, text changes nothing; without ``takes_labels`` and ``needs_labels``, labels do not."""
    data, method = subject.data, subject.method
    if not method.takes_text:
        with_text, without = (subject.fitted(given).scores(data.Xt) for given in (True, False))
        expect_equal(with_text, without, "takes_text is False, and text changes the scores.")
    if not method.needs_labels and not method.takes_labels:
        blind, other = data._replace(y=np.full_like(data.y, -1)), data._replace(y=np.roll(data.y, 1))
        unlabeled, labeled = (subject.fit(given).scores(data.Xt) for given in (blind, other))
        expect_equal(unlabeled, labeled, "takes_labels is False, and labels change the scores.")


def every_ablation_changes_its_own_hyper_parameters_and_fits(subject: Subject) -> None:
    """``ablations`` has, for each component by name, hyper-parameters that differ from the method's."""
    defaults = subject.method.get_params()
    for words, settings in type(subject.method).ablations.items():
        expect(words, "An ablation has no name.")
        found = clone(subject.method).set_params(**settings).get_params()
        expect(settings.items() <= found.items(), f"The ablation '{words}' does not set {settings}.")
        changed = any(defaults[key] != value for key, value in settings.items())
        expect(changed, f"The ablation '{words}' changes nothing.")
        scores = subject.fit(subject.data, **settings).scores(subject.data.Xt)
        expect(np.isfinite(scores).all(), f"The ablation '{words}' has scores that are not finite.")
