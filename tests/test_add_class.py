"""A class added after the fit: text decides whether, the method which; nothing else changes."""

from __future__ import annotations

from copy import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from modalign import Classifier, CoOp, InputError, Items, adapt, load
from modalign.data.digits import load_digits
from modalign.methods import method_class
from modalign.methods.added.added_classes import CORRECTION, LOST, MOST, AddedClasses
from modalign.testing.subject import few_shot_problem

LEFT_OUT = 7
CALTECH = Path(__file__).parents[2] / "shared" / "data" / "clip-vitb32" / "caltech101.npz"


def without(items: Items, k: int) -> Items:
    names = tuple(name for i, name in enumerate(items.class_names) if i != k)
    kept = items.select(np.flatnonzero(items.labels != k))
    return replace(kept, labels=np.where(kept.labels > k, kept.labels - 1, kept.labels), class_names=names)


@pytest.fixture(scope="module")
def model() -> Classifier:
    return adapt(without(load_digits().select(range(120)), LEFT_OUT), method="gda", mirror=False)


@pytest.fixture(scope="module")
def added() -> tuple[AddedClasses, torch.Tensor]:
    """Four classes of a small problem, and the fifth added; the vectors to answer for."""
    X, y, _, _, Xt, _, text = map(torch.from_numpy, few_shot_problem())
    base = method_class("gda")().fit(X[y < 4], y[y < 4], text=text[:4])
    assert not isinstance(base, AddedClasses)
    unit_text = text / text.norm(dim=1, keepdim=True)
    return AddedClasses.of(base, 1.7, unit_text, list("abcde")), Xt  # type: ignore[arg-type]


def test_among_its_own_classes_the_method_decides_as_before(added: tuple[AddedClasses, torch.Tensor]) -> None:
    method, X = added
    own = (method.members_[0].scores(X) / 1.7).softmax(dim=1)
    probabilities = method.scores(X).softmax(dim=1)
    seen = probabilities[:, :4] / probabilities[:, :4].sum(dim=1, keepdim=True)
    assert torch.allclose(seen, own, atol=1e-5)


def test_without_a_correction_the_new_class_has_its_zero_shot_probability(
    added: tuple[AddedClasses, torch.Tensor],
) -> None:
    method, X = added
    method.corrections_, kept = torch.zeros(1), method.corrections_
    found = method.scores(X).softmax(dim=1)[:, 4]
    method.corrections_ = kept
    rows = X / X.norm(dim=1, keepdim=True)
    zero_shot = (method.logit_scale_ * rows @ method.prototypes_.T).softmax(dim=1)[:, 4]
    assert torch.allclose(found, zero_shot, atol=1e-5)


def test_two_classes_one_after_the_other_are_two_classes_at_once(added: tuple[AddedClasses, torch.Tensor]) -> None:
    method, X = added
    base = method.members_[0]
    more = torch.cat([method.prototypes_, torch.nn.functional.normalize(torch.ones(1, 24))])
    one_by_one = AddedClasses.of(method, 99.0, more, list("abcdef"))
    at_once = AddedClasses.of(base, 1.7, more, list("abcdef"))
    assert torch.equal(one_by_one.scores(X), at_once.scores(X))
    assert one_by_one.members_ == [base]


def test_images_raise_the_correction_within_its_limits(added: tuple[AddedClasses, torch.Tensor]) -> None:
    method, _ = added
    like_text, unlike = method.prototypes_[4:], method.prototypes_[:1]
    assert method.corrected(like_text).corrections_.tolist() == [CORRECTION]
    assert method.corrected(unlike).corrections_.tolist() == [MOST]
    assert method.corrections_.tolist() == [CORRECTION]


def test_a_bounded_correction_is_the_largest_that_gives_few_images_of_others_away(
    added: tuple[AddedClasses, torch.Tensor],
) -> None:
    method, X = added

    def given_away(one: AddedClasses, correction: float) -> int:
        one = copy(one)
        one.corrections_ = torch.tensor([correction])
        return int((one.scores(X).argmax(dim=1) == 4).sum())

    assert given_away(method, CORRECTION) > LOST * len(X)
    found = method.bounded(X)
    correction = float(found.corrections_[0])
    assert given_away(found, correction - 1e-4) <= LOST * len(X) < given_away(found, correction + 1e-4)
    assert method.bounded(method.prototypes_[:1]).corrections_.tolist() == [CORRECTION]  # never raised
    assert method.corrections_.tolist() == [CORRECTION]


def test_held_out_images_of_the_other_classes_keep_their_answers(model: Classifier) -> None:
    """Images of the fit and of the new class are left out of those to check."""
    digits = load_digits()
    usual = model.add_class("nought", sentences="a photo of the digit zero.")
    kept = model.add_class("nought", sentences="a photo of the digit zero.", check=digits.select(range(900)))
    assert isinstance(kept.method, AddedClasses)
    assert isinstance(usual.method, AddedClasses)
    shares = [np.mean([name == "nought" for name in one.predict(digits.select(range(120, 900))).names])
              for one in (usual, kept)]  # fmt: skip
    assert shares[0] > 0.05
    assert shares[1] <= 0.011
    checked = kept.record["additions"]["nought"]["check"]
    assert checked["images"] == 900 - len(model.fitted_on)
    assert checked["taken"] <= LOST < checked["taken_before"]
    with pytest.warns(UserWarning, match=r"left out of check=…: \d+ images of 'seven', \d+ images of the fit"):
        named = model.add_class("seven", check=digits)  # where it is a class of its own
    assert (
        named.method.corrections_.tolist()
        == model.add_class("seven", check=without(digits, 7)).method.corrections_.tolist()
    )  # type: ignore[union-attr]
    sevens = digits.select(np.flatnonzero(digits.labels == 7)[-4:])
    unlabeled = replace(digits, labels=np.full(len(digits), -1))
    with pytest.warns(UserWarning, match=r"left out of check=…: 4 images of 'seven'"):
        model.add_class("seven", sevens, check=unlabeled)  # the given images are not of other classes
    for wrong in (digits.select(range(120)), digits.select(np.flatnonzero(digits.labels == 7))):
        with pytest.raises(InputError, match="not fitted on as check=…"):
            model.add_class("seven", check=wrong)


def test_what_the_images_do_not_show_is_said(model: Classifier) -> None:
    digits = load_digits()
    assert model.record["outcome"]["held_out"]
    with pytest.warns(UserWarning, match=r"0 of the 4 images given are answered as 'a cloud'; fit again"):
        more = model.add_class("a cloud", digits.select(np.flatnonzero(digits.labels == 3)[-4:]))
    assert more.record["outcome"] is None
    assert more.record["additions"] == {"a cloud": {"given": {"images": 4, "found": 0}}}
    assert "GDA with 1 added class on 'tiny'" in repr(more)
    with pytest.warns(UserWarning, match="at most 1 % of the images of other classes, which 18 images cannot test"):
        model.add_class("seven", check=without(digits.select(range(600, 620)), LEFT_OUT).select(range(18)))
    plain = Items(digits.ids[500:620], digits.blobs[500:620])
    with pytest.warns(UserWarning, match="other classes than 'seven': 120 images without a label"):
        model.add_class("seven", check=plain)


def test_a_digit_is_added_by_its_name(model: Classifier) -> None:
    test = load_digits().select(range(900, 1200))
    more = model.add_class("seven")
    assert more.class_names == (*model.class_names, "seven")
    assert model.class_names[-1] == "nine"
    before, after = model.evaluate(without(test, LEFT_OUT)), more.evaluate(test)
    seven = next(c for c in after.per_class if c.name == "seven")
    assert seven.accuracy is not None
    assert seven.accuracy > 0.9
    seen = (after.probabilities.argmax(axis=1) == after.labels)[after.labels != 9].mean()
    assert seen > before.accuracy.top1 - 0.01
    with pytest.raises(InputError, match=r"fit again with images of what was added \(seven\)"):
        more.predict(load_digits().select([0]), reject=0.05)
    assert more.rejection is None
    assert "added" in more.record["notes"][-1]


def test_it_is_saved_with_the_classes_it_was_given(model: Classifier, tmp_path: Path) -> None:
    sevens = load_digits().select(np.flatnonzero(load_digits().labels == 7)[:3])
    more = model.add_class("seven", sevens).add_class("letter", sentences="a handwritten letter")
    again = load(more.save(tmp_path / "model"))
    assert isinstance(again, Classifier)
    test = load_digits().select(range(900, 930))
    assert np.allclose(again.predict_proba(test), more.predict_proba(test), atol=1e-7)
    assert len(more.fitted_on - model.fitted_on) == 3
    assert again.record["sentences"][-1] == ["a handwritten letter"]


def test_prompts_are_given_the_text_of_all_classes() -> None:
    items = without(load_digits().select(range(40)), LEFT_OUT)
    model = adapt(items, method=CoOp(epochs=1, random_state=0), validation="none", mirror=False)
    more = model.add_class("seven")
    with pytest.raises(InputError, match="a method on vectors with check=…"):
        model.add_class("seven", check=items)
    assert more.predict_proba(load_digits().select([0])).shape == (1, 10)
    assert list(more.method.class_names_) == list(more.class_names)


def test_wrong_input_is_refused_in_one_sentence(model: Classifier) -> None:
    for name in ("Nine", "nine", " "):
        with pytest.raises(InputError, match="Expected"):
            model.add_class(name)
    with pytest.raises(InputError, match="alone"):
        model.add_class("seven", load_digits().select([0, 1]))
    with pytest.raises(InputError, match="not fitted"):
        AddedClasses().fit(np.eye(3), [0, 1, 2])
    with pytest.raises(InputError, match="sentences=… as a list"):
        model.add_class("seven", sentences=5)
    blind = adapt(load_digits().select(range(20)), method="linear_probe", encoder="tiny-vision", mirror=False)
    with pytest.raises(InputError, match="a text tower to add a class"):
        blind.add_class("letter")
    described = [[f"a {name} is round"] for name in model.class_names[:8]] + [["a ring"]]
    for told in ([["round"]] * 9, described):
        with pytest.raises(InputError, match="Expected sentences about 'seven'"):
            replace(model, record={**model.record, "sentences": told}).add_class("seven")


def test_images_that_are_not_used_or_were_used_otherwise_are_named(model: Classifier, tmp_path: Path) -> None:
    digits, broken = load_digits(), tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    seven, first = tmp_path / "seven.png", tmp_path / "first.png"
    seven.write_bytes(digits.read(int(np.flatnonzero(digits.labels == 7)[0])))
    first.write_bytes(digits.read(0))
    with pytest.warns(UserWarning, match="1 image of 'seven' cannot be decoded: 'broken.png'"):
        more = model.add_class(" seven ", [seven, broken])
    assert more.class_names[-1] == "seven"
    assert any("broken.png" in note for note in more.record["notes"])
    with pytest.warns(UserWarning, match="1 image of 'seven' was in the fit of the other classes"):
        model.add_class("seven", [seven, first])
    others = [digits.read(i) for i in np.flatnonzero(digits.labels != LEFT_OUT)[-3:]]
    with pytest.warns(UserWarning, match="2 images of check=… cannot be decoded: '3', '4'"):
        checked = model.add_class("seven", check=[*others, b"no picture", b"GIF89a"])
    assert checked.record["additions"]["seven"]["check"]["images"] == 3
    assert any("check=… cannot be decoded" in note for note in checked.record["notes"])


def test_sentences_follow_the_templates_of_the_fit(model: Classifier) -> None:
    """Also where a class is called as a word of its template, and behind a class that has sentences of its own."""
    names = ("photo", "light bulb", *model.class_names[2:])
    told = [[f"a photo of a {name}, a thing.", f"{name} photo"] for name in names]
    renamed = replace(model, class_names=names, record={**model.record, "sentences": told})
    more = renamed.add_class("letter_box")
    assert more.record["sentences"] == [*told, ["a photo of a letter box, a thing.", "letter box photo"]]
    again = renamed.add_class("letter", sentences="a sign").add_class("number")
    assert again.record["sentences"][-1] == ["a photo of a number, a thing.", "number photo"]
    assert model.add_class("letter", sentences="a sign").add_class("ape").record["sentences"][-1] == [
        "a photo of an ape."
    ]


@pytest.mark.skipif(not CALTECH.exists(), reason="needs ../shared/data/clip-vitb32/caltech101.npz")
def test_on_real_vectors_a_class_is_found_as_by_zero_shot() -> None:
    from bench.add_class import Left

    left = Left(CALTECH)
    trials = [left.trial("gda", c, 0, "val") for c in (3, 30)]
    for one in trials:
        assert np.mean(one["new_text"]) >= np.mean(one["zero_shot_new"]) - 0.05
        assert np.mean(one["seen_text"]) >= np.mean(one["seen_before"]) - 0.01
