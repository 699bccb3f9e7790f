"""What every method that learns inside an encoder answers for, found by name: fit, score, save, load, go on, refuse."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import modalign as ma
from modalign.core.errors import InputError
from modalign.data.digits import DIGIT_TEMPLATES, load_digits
from modalign.data.items import Items
from modalign.data.text.descriptions import sentences
from modalign.methods import TOWER_METHODS, method_class
from modalign.methods.contract.tower import TowerMethod, Towers
from modalign.testing import TOWER_LAWS, TowerSubject
from modalign.tune.steps import Stepper
from modalign.tune.training_precision import compare_precisions

QUICK = {"epochs": 2, "batch_size": 8, "augmentation": "center", "random_state": 1}
SMALL: dict[str, dict[str, Any]] = {"upl": {"prompts": 2, "n_ctx": 4}}


def quick(name: str, **settings: Any) -> TowerMethod:
    """A method at a size for tests."""
    return method_class(name)(**QUICK | SMALL.get(name, {}) | settings)


@pytest.fixture(scope="module")
def encoder():
    return ma.load_encoder("tiny", cache=False, dtype="float32")


@pytest.fixture(scope="module")
def digits() -> Items:
    items = load_digits()
    return items.select(np.concatenate([np.flatnonzero(items.labels == c)[:2] for c in range(10)]))


@pytest.fixture(scope="module")
def text(encoder, digits):
    return encoder.embed_texts(sentences(digits.class_names, DIGIT_TEMPLATES), class_names=digits.class_names)


@pytest.fixture(scope="module")
def fitted(encoder, digits, text):
    """Every method fitted once; tests do not modify it."""
    found: dict[str, TowerMethod] = {}

    def of(name: str) -> TowerMethod:
        if name not in found:
            found[name] = quick(name).fit(digits, text=text, encoder=encoder)
        return found[name]

    return of


named = pytest.mark.parametrize("name", list(TOWER_METHODS))


@named
def test_contract_of_tower_methods(name: str, encoder, digits, text, fitted) -> None:
    subject = TowerSubject(quick(name))
    vars(subject).update(encoder=encoder, items=digits, text=text, fitted=fitted(name))  # what these tests have already
    for law in TOWER_LAWS.values():
        law(subject)


@named
def test_it_learns_and_scores(name: str, encoder, digits: Items, text, fitted) -> None:
    method = fitted(name)
    scored = method.score_images(digits, encoder)
    assert scored.logits.shape == (20, 10)
    assert np.isfinite(scored.logits).all()
    assert scored.ids == digits.ids
    assert method.diagnosis_["trainable"] > 0
    assert np.isfinite(method.diagnosis_["loss"])
    half = method.score_images(digits.select(np.arange(7)), encoder, batch_size=3)
    np.testing.assert_allclose(half.logits, scored.logits[:7], atol=1e-4)


@named
def test_saved_it_is_small_and_loaded_it_gives_the_same_answers(
    name: str, encoder, digits: Items, fitted, tmp_path: Path
) -> None:
    from modalign.model.persistence import load_model, save_model

    folder = save_model(tmp_path / "model", fitted(name))
    assert sum(file.stat().st_size for file in folder.iterdir()) < 1_000_000
    again, _ = load_model(folder)
    expected = fitted(name).score_images(digits, encoder).logits
    np.testing.assert_array_equal(again.score_images(digits, encoder).logits, expected)


class Interrupted(Exception):
    pass


@pytest.mark.parametrize(("name", "half"), [*((name, False) for name in TOWER_METHODS), ("fair", True)])
def test_an_interrupted_training_ends_as_an_undisturbed_one(
    name: str, half: bool, encoder, digits: Items, text, fitted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = Stepper.step

    def stopped(self: Stepper, number: int, *rest: Any) -> None:
        if number == 4:  # within the second epoch: the newest checkpoint is that of the end of the first
            raise Interrupted
        step(self, number, *rest)

    settings = {"text": text, "encoder": encoder, "checkpoint": tmp_path / "state"}
    changes = {"training": {"precision": "bfloat16"}} if half else {}
    with monkeypatch.context() as patch:
        patch.setattr(Stepper, "step", stopped)
        with pytest.raises(Interrupted):
            quick(name, **changes).fit(digits, **settings)
    resumed = quick(name, **changes).fit(digits, **settings)
    whole = quick(name, **changes).fit(digits, text=text, encoder=encoder) if half else fitted(name)
    assert set(resumed.tensors_) == set(whole.tensors_)
    for tensor in whole.tensors_:
        assert torch.equal(resumed.tensors_[tensor], whole.tensors_[tensor]), tensor


@named
def test_a_precision_is_chosen_without_a_trace(name: str, encoder, digits: Items, text) -> None:
    method = quick(name)
    learner = method._learner(Towers.open(encoder, text), torch.Generator().manual_seed(0))
    data = method._batches(digits, encoder, 0)
    learner.begin(data)

    def tensors() -> dict[str, torch.Tensor]:
        return {key: value.clone() for key, value in (*learner.named_parameters(), *learner.named_buffers())}

    before = tensors()
    found = compare_precisions(learner, learner.loss, data, method._recipe(digits.labels))
    assert found["cosine"] > 0.5
    after = tensors()
    assert before.keys() == after.keys()
    assert [key for key, value in before.items() if not torch.equal(value, after[key])] == []


@named
def test_a_picture_that_cannot_be_decoded_is_left_out(
    name: str, encoder, digits: Items, text, fitted, tmp_path: Path
) -> None:
    for i in range(20):
        folder = tmp_path / digits.class_names[digits.labels[i]]
        folder.mkdir(exist_ok=True)
        digits.open(i).save(folder / f"{i}.png")
    (tmp_path / "zero" / "0.png").write_bytes(b"nothing")
    items = ma.load_items(tmp_path, classes=list(digits.class_names))
    method = quick(name, epochs=1).fit(items, text=text, encoder=encoder)
    assert method.diagnosis_["left_out"] == 1
    scored = fitted(name).score_images(items, encoder)
    assert len(scored.ids) == 19
    assert [q.id for q in scored.quarantined] == [i for i in items.ids if i.endswith("zero/0.png")]


@named
def test_wrong_inputs_are_refused_before_any_step(
    name: str, encoder, digits: Items, text, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modalign.methods.contract.tower.train", lambda *_, **__: pytest.fail("training began"))
    given = {"text": text, "encoder": encoder}
    if method_class(name).needs_labels:
        with pytest.raises(InputError, match="labeled images, got none"):
            quick(name).fit(digits, np.full(20, -1), **given)
    with pytest.raises(InputError, match="text tower"):
        quick(name).fit(digits, text=text, encoder=ma.load_encoder("tiny-vision", cache=False))
    with pytest.raises(InputError, match="epochs"):
        quick(name, epochs=0).fit(digits, **given)
    with pytest.raises(InputError, match="entries of a recipe"):
        quick(name, training={"epoch": 3}).fit(digits, **given)
    names = ("zero " * 80, *digits.class_names[1:])
    if name not in (
        "vpt",
        "fair",
        "lafter_like",
        "dpa_like",
        "reclip",
        "dam",
        "hpt",
    ):  # whose sentences are the user's own
        long = encoder.embed_texts([[f"{n:.20}."] for n in names], class_names=names)
        with pytest.raises(InputError, match="context"):
            quick(name).fit(replace(digits, class_names=names), text=long, encoder=encoder)


@named
def test_every_ablation_is_a_setting_of_the_method(name: str, encoder, digits: Items, text) -> None:
    for settings in method_class(name).ablations.values():
        method = quick(name, epochs=1, **settings)
        assert all(getattr(method, key) == value for key, value in settings.items())
        assert np.isfinite(method.fit(digits, text=text, encoder=encoder).diagnosis_["loss"])


@named
def test_the_loss_goes_down(name: str, encoder, digits: Items, text) -> None:
    """On the same pictures in whole batches, so that only the parameters differ between the epochs."""
    if not method_class(name).needs_labels:
        pytest.skip("its labels are its own and move with it")
    settings = {"batch_size": 20, "training": {"warmup": 0}}
    first, last = (
        quick(name, epochs=epochs, learning_rate=0.002, **settings)
        .fit(digits, text=text, encoder=encoder)
        .diagnosis_["loss"]
        for epochs in (1, 5)
    )
    assert last < first


@pytest.mark.parametrize("name", ["align", "coop", "maple"])
def test_prompts_go_over_to_other_classes(name: str, encoder, digits: Items, text, fitted) -> None:
    other = encoder.embed_texts([["a photo of a cat."], ["a photo of a dog."]], class_names=("cat", "dog"))
    method = fitted(name).for_classes(other, encoder)
    assert method.score_images(digits, encoder).logits.shape == (20, 2)
    assert fitted(name).score_images(digits, encoder).logits.shape == (20, 10)
    assert fitted(name).class_names_ == list(digits.class_names)


def test_prompts_of_single_classes_do_not(encoder, digits: Items, text) -> None:
    other = encoder.embed_texts([["a photo of a cat."], ["a photo of a dog."]], class_names=("cat", "dog"))
    method = quick("coop", class_specific_context=True, epochs=1).fit(digits, text=text, encoder=encoder)
    with pytest.raises(InputError, match="other classes"):
        method.for_classes(other, encoder)


@pytest.mark.parametrize("name", ["align", "cocoop"])
def test_a_classifier_keeps_it(name: str, encoder, digits: Items, tmp_path: Path) -> None:
    model = ma.adapt(
        load_digits().select(np.arange(60)), encoder=encoder, method=quick(name, epochs=1), shots=2,
        templates=DIGIT_TEMPLATES,
    )  # fmt: skip
    again = ma.load(model.save(tmp_path / "model"), encoder=encoder)
    np.testing.assert_array_equal(again.predict(digits).probabilities, model.predict(digits).probabilities)


@pytest.mark.parametrize("name", ["align", "cocoop"])
@pytest.mark.parametrize("saving", [{"gradient_checkpointing": True}, {"accumulate": 3}, {"precision": "bfloat16"}])
def test_saving_memory_changes_no_result(name: str, saving: dict, encoder, digits: Items, text) -> None:
    plain, saved = (
        quick(name, epochs=1, batch_size=20, training={"warmup": 0} | more).fit(digits, text=text, encoder=encoder)
        for more in ({}, saving)
    )
    tolerance = 2e-2 if "precision" in saving else 1e-5
    assert saved.diagnosis_["loss"] == pytest.approx(plain.diagnosis_["loss"], rel=tolerance)
    if "precision" not in saving:
        for key, value in plain.tensors_.items():
            torch.testing.assert_close(saved.tensors_[key], value, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("name", "dtype"), [("align", "bfloat16"), ("plot", "float16"), ("cocoop", "bfloat16")])
def test_half_precision_towers_are_learned_in(name: str, dtype: str, digits: Items) -> None:
    half, digits = ma.load_encoder("tiny", cache=False, dtype=dtype), digits.select(np.arange(0, 20, 4))
    text = half.embed_texts(sentences(digits.class_names, DIGIT_TEMPLATES), class_names=digits.class_names)
    method = quick(name, epochs=1).fit(digits, text=text, encoder=half)
    assert np.isfinite(method.score_images(digits, half).logits).all()
    assert all(value.dtype == torch.float32 for value in method.tensors_.values())


@named
def test_names_decide_which_class_is_which(name: str, encoder, digits: Items, text, fitted) -> None:
    """Text in another order and labels by name mean the same; scores follow the numbering of the images."""
    order = np.random.default_rng(0).permutation(10)
    shuffled = text.select([digits.class_names[k] for k in order])
    words = np.array(digits.class_names)[digits.labels]
    expected = fitted(name).score_images(digits, encoder).logits
    again = quick(name).fit(digits.unlabeled(), words, text=shuffled, encoder=encoder)
    assert again.class_names_ == list(digits.class_names)
    np.testing.assert_array_equal(again.score_images(digits, encoder).logits, expected)
    other = replace(digits, labels=np.argsort(order)[digits.labels], class_names=shuffled.class_names)
    scored = fitted(name).score_images(other, encoder)
    np.testing.assert_array_equal(scored.labels, digits.labels)
    np.testing.assert_array_equal(scored.logits, expected)


@named
def test_for_classes_goes_by_name(name: str, encoder, digits: Items, text, fitted) -> None:
    """Some of the fitted classes, in another order, keep what was learned of them; others have no share in it."""
    names = [digits.class_names[k] for k in (7, 2, 5)]
    some = fitted(name).for_classes(text.select(names), encoder)
    assert some.class_names_ == names
    everything = fitted(name).score_images(digits, encoder).logits
    found = some.score_images(digits, encoder).logits
    if name != "dam":  # which normalizes over the classes
        np.testing.assert_allclose(found, everything[:, [7, 2, 5]], atol=1e-3)
    strangers = encoder.embed_texts([[f"{n}."] for n in "abcdefghij"], class_names=tuple("abcdefghij"))
    if fitted(name)._class_axes():
        with pytest.raises(InputError, match=r"does not go with other classes.*got also 'a', 'b', 'c' and 7 more"):
            fitted(name).for_classes(strangers, encoder)
    else:
        assert np.isfinite(fitted(name).for_classes(strangers, encoder).score_images(digits, encoder).logits).all()


@named
def test_labels_of_other_kinds_are_refused(name: str, encoder, digits: Items, text) -> None:
    words = np.array(digits.class_names)[digits.labels]
    with pytest.raises(InputError, match="among the 10 class names, got 'nil'"):
        quick(name).fit(digits, np.where(words == "one", "nil", words), text=text, encoder=encoder)
    for wrong in (digits.labels.astype(float), digits.labels > 3):
        with pytest.raises(InputError, match="one whole number per image"):
            quick(name).fit(digits, wrong, text=text, encoder=encoder)


@named
def test_fit_leaves_the_hyper_parameters_alone(name: str, fitted) -> None:
    given = QUICK | {"training": {"optimizer": "sgd"}}
    method = quick(name, training=dict(given["training"]))
    before = copy.deepcopy(method.get_params())
    method._recipe(np.arange(3))
    assert method.get_params() == before
    assert {key: fitted(name).get_params()[key] for key in QUICK} == QUICK


def test_contexts_of_single_classes_go_with_their_classes(encoder, digits: Items, text) -> None:
    settings = {"class_specific_context": True, "n_ctx": 2, "epochs": 1, "learning_rate": 0.1}
    method = quick("coop", **settings).fit(digits, text=text, encoder=encoder)
    places = [7, 2, 5]
    some = method.for_classes(text.select([digits.class_names[i] for i in places]), encoder)
    expected = method.score_images(digits, encoder).logits[:, places]
    np.testing.assert_allclose(some.score_images(digits, encoder).logits, expected, rtol=1e-4)
