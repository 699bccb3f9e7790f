"""Names decide, never positions: labels, features and class text in any order mean the same to every method."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from problems import few_shot, needs, quick
from sklearn.base import clone

from modalign.core.errors import InputError
from modalign.core.features import ClassText, Features
from modalign.methods import METHODS, method_class

NAMES = ("zebra", "ant", "cat", "bee", "yak")
DATA = few_shot()


def zero_shot(y: Any, text: Any, **more: Any):
    return method_class("zero_shot")().fit(DATA.X, y, text=text, **more)


def words(y: np.ndarray, names: tuple[str, ...] = NAMES) -> np.ndarray:
    return np.array(names)[y]


@pytest.mark.parametrize("name", METHODS)
def test_every_method_gives_the_same_answers_whatever_the_order_of_the_names(name: str) -> None:
    def fit(X: Any, y: Any, text: Any, validation: Any):
        method = quick(name)
        return method.fit(X, y, text=text, validation=validation, **needs(method, DATA.X))

    order = [3, 0, 4, 1, 2]
    text = ClassText(DATA.text, NAMES)
    shuffled = text.select([NAMES[k] for k in order])
    plain = fit(DATA.X, words(DATA.y), text, (DATA.Xv, words(DATA.yv)))
    by_name = fit(DATA.X, words(DATA.y), shuffled, (DATA.Xv, words(DATA.yv)))
    assert by_name.classes_.tolist() == by_name.class_names_ == list(shuffled.class_names)
    expected = plain.scores(DATA.Xt)
    tolerance = 1e-3 * np.abs(expected).max()  # solvers that stop at a tolerance see the classes in another order
    np.testing.assert_allclose(by_name.scores(DATA.Xt), expected[:, order], atol=tolerance)
    assert by_name.score(DATA.Xt, words(DATA.yt)) == pytest.approx(plain.score(DATA.Xt, words(DATA.yt)), abs=0.01)

    features = Features(DATA.X, labels=DATA.y, class_names=NAMES)
    other = tuple(reversed(NAMES))
    held_out = Features(DATA.Xv, labels=4 - DATA.yv, class_names=other)
    numbered = fit(features, None, shuffled, held_out)  # numbers are those of the features that were fitted on
    np.testing.assert_allclose(numbered.scores(DATA.Xt), expected, atol=tolerance)
    np.testing.assert_array_equal(numbered.predict(DATA.Xt), expected.argmax(1))
    right = numbered.score(DATA.Xt, DATA.yt)
    assert right == numbered.score(DATA.Xt, words(DATA.yt)) > 0.5
    assert right == numbered.score(Features(DATA.Xt, labels=4 - DATA.yt, class_names=other))


@given(order=st.permutations(range(7)), numerals=st.booleans(), array=st.booleans())
def test_word_labels_find_their_text_among_others_in_any_order(order, numerals: bool, array: bool) -> None:
    names = ("10", "9", "2", "33", "0", "1", "4") if numerals else (*NAMES, "elk", "fox")
    rng = np.random.default_rng(0)
    vectors = np.concatenate([DATA.text, rng.normal(size=(2, 24)).astype(np.float32)])[order]
    shuffled = tuple(names[k] for k in order)
    text = {"text": vectors, "classes": list(shuffled)} if array else {"text": ClassText(vectors, shuffled)}
    method = method_class("zero_shot")().fit(DATA.X, words(DATA.y, names), **text)
    assert tuple(method.classes_) == shuffled
    expected = zero_shot(DATA.y, vectors[np.argsort(order)])
    np.testing.assert_array_equal(method.predict(DATA.Xt), words(expected.predict(DATA.Xt), names))


@given(order=st.permutations(range(5)))
def test_features_are_matched_by_name_with_text_and_with_one_another(order) -> None:
    text = ClassText(DATA.text, NAMES)
    renamed = tuple(NAMES[k] for k in order)  # label i of these features is class order[i]
    place = np.argsort(order)
    features = Features(DATA.X, labels=place[DATA.y], class_names=renamed)
    method = method_class("zero_shot")().fit(features, text=text)
    assert method.class_names_ == list(renamed)
    expected = zero_shot(DATA.y, DATA.text).score(DATA.Xt, DATA.yt)
    assert method.score(DATA.Xt, place[DATA.yt]) == expected
    assert method.score(Features(DATA.Xt, labels=DATA.yt, class_names=NAMES)) == expected
    assert method.score(torch.from_numpy(DATA.Xt), words(DATA.yt)) == expected
    unseen = Features(DATA.Xt, labels=DATA.yt, class_names=(*NAMES, "emu"))
    assert method.score(unseen) == expected  # a name that no image has
    assert (method.predict(unseen) == method.predict(DATA.Xt)).all()


def test_classes_of_named_text_are_those_to_take() -> None:
    method = zero_shot(words(DATA.y % 2), ClassText(DATA.text, NAMES), classes=["ant", "yak", "zebra"])
    assert method.classes_.tolist() == ["ant", "yak", "zebra"]
    np.testing.assert_allclose(method.prototypes_, torch.from_numpy(DATA.text[[1, 4, 0]]), atol=1e-6)


def test_labels_that_are_numbers_index_rows_and_may_have_names() -> None:
    method = zero_shot(DATA.y, ClassText(DATA.text, NAMES))
    assert method.classes_.tolist() == [0, 1, 2, 3, 4]
    assert method.score(DATA.Xt, DATA.yt) == method.score(DATA.Xt, words(DATA.yt))
    assert zero_shot(DATA.y, DATA.text, classes=NAMES).class_names_ == list(NAMES)
    named = Features(DATA.X, labels=DATA.y, class_names=NAMES)
    assert method_class("zero_shot")().fit(named, text=DATA.text).class_names_ == list(NAMES)
    assert method_class("tip_adapter")().fit(named).class_names_ == list(NAMES)
    few = named.select(DATA.y % 2 == 0)
    only = method_class("tip_adapter")().fit(few)
    assert (only.classes_.tolist(), only.class_names_) == ([0, 2, 4], ["zebra", "cat", "yak"])
    assert only.score(DATA.Xt[DATA.yt == 2], words(DATA.yt)[DATA.yt == 2]) > 0.5


TEXT = ClassText(DATA.text, NAMES)


@pytest.mark.parametrize(
    ("y", "more", "message"),
    [
        (words(DATA.y), {"text": DATA.text}, r"names of the rows of text.*ClassText.*classes="),
        (words(DATA.y, ("zebra", "ant", "cat", "be", "yak")), {"text": TEXT}, r"5 class names, got 'be'.*mean 'bee'"),
        (words(DATA.y, ("Zebra", "ant", "cat", "bee", "yak")), {"text": TEXT}, "Did you mean 'zebra'"),
        (DATA.y.astype(str), {"text": TEXT}, "among the 5 class names, got '0'"),
        (DATA.y.astype(float), {"text": TEXT}, "integers.*or as class names, got float64"),
        (DATA.y > 2, {"text": TEXT}, "integers.*or as class names, got bool"),
        (DATA.y, {"text": ClassText(DATA.text, ("1", "0", "2", "3", "4"))}, "mean one class, got 0.*name of row 1"),
        (
            DATA.y,
            {"text": ClassText(DATA.text, ("01", "00", "2", "3", "4"))},
            "name of row 1; give.*such as '00'",
        ),
        (words(DATA.y).astype("S"), {"text": TEXT}, "integers or class names, got .S5"),
        (np.array([w.encode() for w in words(DATA.y)], object), {"text": TEXT}, "class names, got bytes"),
        (np.where(DATA.y == 1, -1, words(DATA.y).astype(object)), {"text": TEXT}, "of one kind.*got int and str"),
        (DATA.y + 0.5, {}, "Unknown label type"),
        (DATA.y, {"text": DATA.text, "classes": set(NAMES)}, "list of class names, got set"),
        (DATA.y, {"text": DATA.text, "classes": NAMES[:4]}, "each of the 5 rows of text, got 4"),
        (DATA.y, {"text": DATA.text, "classes": "abcde"}, "list of class names, got str"),
        (DATA.y, {"text": DATA.text, "classes": ["a"] * 5}, "once, got 'a' twice"),
        (DATA.y, {"classes": NAMES}, "together with text"),
        (words(DATA.y), {"text": TEXT, "classes": ["ant", "emu"]}, "got none for 'emu'"),
        (words(DATA.y), {"text": TEXT, "validation": (DATA.Xv, words(DATA.yv, ("x", *NAMES[1:])))}, "got 'x'"),
        (words(DATA.y), {"text": TEXT, "validation": (DATA.Xv, DATA.yv)}, "class names as in fit, got int64"),
        (DATA.y, {"text": DATA.text, "validation": DATA.Xv}, r"validation as \(X, y\)"),
        (np.where(DATA.y == 1, None, words(DATA.y)), {"text": TEXT}, "a label per row of X, got None at 1"),
        (np.where(DATA.y == 1, np.nan, DATA.y).astype(object), {}, "got nan at 1"),
        (np.where(DATA.y == 1, -1.0, DATA.y), {}, "-1 marks unlabeled images, got floats"),
        (DATA.y.astype("datetime64[s]"), {}, "integers or class names, got datetime64"),
        (DATA.y + 0j, {}, "integers or class names, got complex128"),
    ],
)
def test_what_names_cannot_decide_is_refused(y: Any, more: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        method_class("tip_adapter")().fit(DATA.X, y, **more)


@pytest.mark.parametrize("numbers", [False, True])
def test_labels_mean_the_same_in_every_kind_of_array(numbers: bool) -> None:
    y = DATA.y if numbers else words(DATA.y)
    kinds = [y.astype(object), y.tolist()]
    kinds += [y.astype(np.uint8), torch.as_tensor(y)] if numbers else [y.astype(np.dtypes.StringDType())]
    expected = zero_shot(y, TEXT)
    for same in kinds:
        found = zero_shot(same, TEXT)
        assert (found.classes_.tolist(), found.classes_.dtype) == (expected.classes_.tolist(), expected.classes_.dtype)
        np.testing.assert_array_equal(found.predict(DATA.Xt), expected.predict(DATA.Xt))
        assert found.score(DATA.X, same) == expected.score(DATA.X, y)


@pytest.mark.parametrize(
    ("names", "text", "message"),
    [
        (("zebra", "ant", "cat", "bee", "ox"), TEXT, "text for every class of the images, got none for 'ox'"),
        (NAMES, DATA.text[:4], "each of the 5 class names of X, got 4 rows without names"),
        (("A", "a", "c", "d", "e"), ClassText(DATA.text, ("a", "b", "c", "d", "e")), "write all class names alike"),
    ],
)
def test_features_whose_names_do_not_fit_the_text_are_refused(names, text, message: str) -> None:
    with pytest.raises(InputError, match=message):
        method_class("zero_shot")().fit(Features(DATA.X, labels=DATA.y, class_names=names), text=text)


def test_names_are_forgiven_case_and_blanks_where_both_sides_are_lists_of_names() -> None:
    features = Features(DATA.X, labels=DATA.y, class_names=("Grand_Piano", *NAMES[1:]))
    text = ClassText(DATA.text[::-1], (*reversed(NAMES[1:]), "grand piano"))
    method = method_class("zero_shot")().fit(features, text=text)
    assert method.class_names_ == list(features.class_names)
    assert method.score(DATA.Xt, DATA.yt) == zero_shot(DATA.y, DATA.text).score(DATA.Xt, DATA.yt)


def test_score_refuses_names_it_does_not_know_and_leaves_unlabeled_images_out() -> None:
    method = zero_shot(words(DATA.y), TEXT)
    with pytest.raises(InputError, match="Did you mean 'yak'"):
        method.score(DATA.Xt, words(DATA.yt, (*NAMES[:4], "yac")))
    with pytest.raises(InputError, match="class names as in fit"):
        method.score(DATA.Xt, DATA.yt)
    numbered = zero_shot(DATA.y, DATA.text)
    some = np.where(np.arange(len(DATA.yt)) < 50, DATA.yt, -1)
    assert numbered.score(DATA.Xt, some) == numbered.score(DATA.Xt[:50], DATA.yt[:50])
    with pytest.raises(InputError, match="labeled images to be tested on, got none"):
        numbered.score(DATA.Xt, np.full(len(DATA.yt), -1))
    weights = np.arange(len(some)) < 25
    assert numbered.score(DATA.Xt, some, sample_weight=weights) == numbered.score(DATA.Xt[:25], DATA.yt[:25])


def test_features_of_the_anchor_are_the_same_images() -> None:
    ids = tuple(f"{i}.png" for i in range(len(DATA.X)))
    given = Features(DATA.X, ids=ids)
    method_class("gpua")(steps=2).fit(given, text=DATA.text, clip_features=Features(DATA.X, ids=ids))
    method_class("gpua")(steps=2).fit(given, text=DATA.text, clip_features=Features(DATA.X))
    with pytest.raises(InputError, match="other ids"):
        method_class("gpua")(steps=2).fit(given, text=DATA.text, clip_features=Features(DATA.X, ids=ids[::-1]))


@pytest.mark.parametrize("name", METHODS)
def test_the_seed_that_was_used_is_known_and_gives_the_same_bits(name: str) -> None:
    method = quick(name, random_state=None)
    given = {"text": DATA.text, **needs(method, DATA.X)}
    method.fit(DATA.X, DATA.y, **given)
    assert method.random_state is None
    again = clone(method).set_params(random_state=method.random_state_).fit(DATA.X, DATA.y, **given)
    np.testing.assert_array_equal(again.scores(DATA.Xt), method.scores(DATA.Xt))
