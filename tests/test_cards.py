"""A model whose card or weights are not what was saved is refused in a sentence, or answers exactly as it did."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load, save
from test_persistence import fitted

import modalign as ma
from modalign.core.errors import EncoderMismatchError, InputError, ModalignError
from modalign.data.digits import load_digits
from modalign.model.persistence import load_model, save_model
from modalign.model.persistence.models import FORMAT
from modalign.report.evaluation import save_evaluation_page

METHODS = ("zero_shot", "linear_probe", "cmm", "gpua", "tip_adapter_f", "cma")
VALUES = (None, True, False, 0, -1, 1, 3, 10**6, 2**62, 0.5, -1.5, 1e300, "", "x", "a/b", [], {}, [1], ["a", "a"])


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders of small models by method."""
    root = tmp_path_factory.mktemp("models")
    return {name: save_model(root / name, fitted(name)[0]) for name in METHODS}


@pytest.fixture(scope="module")
def classifiers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, ma.Classifier]]:
    """Folders of classifiers on vectors and inside an encoder, with their encoder."""
    root, digits = tmp_path_factory.mktemp("classifiers"), load_digits().select(range(60))
    encoder = ma.load_encoder("tiny", cache=False, dtype="float32")
    settings: dict[str, dict[str, Any]] = {"linear_probe": {}, "coop": {"epochs": 1}}
    made = {}
    for name, given in settings.items():
        model = ma.adapt(digits, encoder=encoder, method=name, **given)
        made[name] = model.save(root / name), model
    return made


@pytest.fixture
def altered(tmp_path: Path) -> Callable[..., Path]:
    """A copy of a model with a changed card and changed weights, sealed again as a forger would."""

    def change(folder: Path, edit: Callable[[dict, dict], object], *, sealed: bool = True, version: int = 2) -> Path:
        card = json.loads((folder / FORMAT.file).read_text())
        tensors = {name: array.copy() for name, array in load((folder / card["weights"]).read_bytes()).items()}
        edit(card, tensors)
        data = save(tensors)
        target = tmp_path / "altered"
        target.mkdir(exist_ok=True)
        if sealed and "weights" in card:
            card["weights"] = FORMAT.name_of(data)
        (target / str(card.get("weights", "none"))).write_bytes(data)
        if version == 1:
            card = {key: value for key, value in card.items() if key != "digest"} | {"format": "modalign-model/1"}
        elif sealed:
            card = json.loads(FORMAT.sealed({k: v for k, v in card.items() if k not in ("digest", "format")}))
        (target / FORMAT.file).write_text(json.dumps(card))
        return target

    return change


def places(content: Any, path: tuple = ()) -> Iterator[tuple]:
    """All places of a JSON value but its root; of long lists the beginning."""
    children = content.items() if isinstance(content, dict) else enumerate(content[:3])
    for key, value in children:
        yield (*path, key)
        if isinstance(value, (dict, list)):
            yield from places(value, (*path, key))


def mutate(rng: random.Random, card: dict) -> None:
    """One random change: an entry is removed, replaced, swapped with another, doubled or added."""
    place = rng.choice(list(places(card)))
    parent = card
    for key in place[:-1]:
        parent = parent[key]
    key, kind = place[-1], rng.randrange(5)
    if kind == 0:
        del parent[key]
    elif kind == 1 and isinstance(parent, list) and len(parent) > 1:
        parent[key], parent[-1] = parent[-1], parent[key]
    elif kind == 2 and isinstance(parent, dict):
        parent[rng.choice(["x", "extra_", "digest", "classes_", "__class__"])] = rng.choice(VALUES)
    elif isinstance(parent[key], (int, float)) and kind == 3:
        parent[key] = rng.choice([-parent[key], parent[key] + 1, parent[key] * 1e9])
    else:
        parent[key] = rng.choice(VALUES)


@pytest.mark.parametrize("seed", range(60))
def test_a_card_that_was_changed_is_refused_or_means_the_same(
    seed: int, models: dict[str, Path], altered: Callable[..., Path]
) -> None:
    rng = random.Random(seed)
    folder = models[rng.choice(METHODS)]
    original = json.loads((folder / FORMAT.file).read_text())
    changed = altered(folder, lambda card, _: mutate(rng, card), sealed=False)
    if FORMAT.digest(json.loads((changed / FORMAT.file).read_text())) == FORMAT.digest(original):
        return  # the digest itself was changed, or nothing
    with pytest.raises(InputError):
        load_model(changed)


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("seed", range(120))
def test_a_forged_card_is_refused_or_gives_finite_scores(
    seed: int, version: int, models: dict[str, Path], altered: Callable[..., Path]
) -> None:
    rng = random.Random(seed)
    folder = models[rng.choice(METHODS)]

    def edit(card: dict, tensors: dict[str, np.ndarray]) -> None:
        if rng.random() < 0.6:
            mutate(rng, card)
            return
        name = rng.choice(sorted(tensors))
        array = tensors[name]
        changes = [
            lambda: array[:-1],
            lambda: array[..., :-1] if array.ndim > 1 else array[:0],
            lambda: np.concatenate([array, array]),
            lambda: array[None],
            lambda: array * np.float32(-1e38),
            lambda: array * np.nan,
            lambda: array.astype(np.int64),
            lambda: np.zeros_like(array),
        ]
        tensors[name] = np.ascontiguousarray(rng.choice(changes)())

    with np.errstate(all="ignore"):
        changed = altered(folder, edit, version=version)
    with suppress(ModalignError):
        method, _ = load_model(changed)
        X = np.random.default_rng(1).normal(size=(7, method.n_features_in_)).astype(np.float32)
        scores = method.scores(X)
        assert scores.shape == (7, len(method.classes_))
        assert np.isfinite(scores).all()
        assert set(method.predict(X)) <= set(method.classes_)


@pytest.mark.parametrize("name", ["linear_probe", "coop"])
@pytest.mark.parametrize("seed", range(30))
def test_a_forged_classifier_is_refused_or_gives_probabilities(
    seed: int, name: str, classifiers: dict, altered: Callable[..., Path], tmp_path: Path
) -> None:
    rng = random.Random(seed)
    folder, model = classifiers[name]

    def edit(card: dict, _: dict) -> None:
        mutate(rng, card["classifier"] if rng.random() < 0.7 else card["state"])

    digits = load_digits().select(range(60, 64))
    with suppress(ModalignError):
        again = ma.load(altered(folder, edit), encoder=model.encoder)
        found = again.predict(digits)
        assert found.probabilities.shape == (4, len(again.class_names))
        np.testing.assert_allclose(found.probabilities.sum(axis=1), 1, rtol=1e-6)
        assert all(prediction.name in again.class_names for prediction in found)
        repr(again), again._repr_html_()
        result = again.evaluate(digits, include_fitted=True)
        save_evaluation_page(again, result, tmp_path / "page.html")
        again.predict(digits, reject=0.3)


def of_classifier(**changes: Any) -> Callable[[dict, dict], None]:
    return lambda card, _: card["classifier"].update(changes)


def set_encoder(**changes: Any) -> Callable[[dict, dict], None]:
    return lambda card, _: card["classifier"]["encoder"].update(changes)


def edit_outcome(**changes: Any) -> Callable[[dict, dict], None]:
    return lambda card, _: card["classifier"]["record"]["outcome"].update(changes)


def set_state(**changes: Any) -> Callable[[dict, dict], None]:
    plain = {name: {"kind": "plain", "value": value} for name, value in changes.items()}
    return lambda card, _: card["state"].update(plain)


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda card, _: card["classifier"]["class_names"].remove("one"), "9 class names for 10 columns"),
        (lambda card, _: card["classifier"]["class_names"].append("x"), "11 class names for 10 columns"),
        (of_classifier(class_names=["a"] * 10), "a class name twice"),
        (of_classifier(class_names="0123456789"), "not a list of names"),
        (of_classifier(temperature=0.0), "temperature is 0.0"),
        (of_classifier(temperature=-1), "temperature is -1"),
        (of_classifier(temperature=1e-320), "temperature is 1e-320"),
        (of_classifier(temperature="1"), "temperature is '1'"),
        (of_classifier(crops=-1), "number of crops"),
        (of_classifier(crops=10**9), "number of crops"),
        (of_classifier(fitted_on=["abc"]), "not one of hashes"),
        (of_classifier(fitted_on="0123456789abcdef"), "not one of hashes"),
        (of_classifier(record=[]), "record is invalid"),
        (of_classifier(record={"notes": "none"}), "record is invalid"),
        (of_classifier(record={"notes": [1]}), "record is invalid: the entry 'notes'"),
        (of_classifier(record={"shots": "all"}), "the entry 'shots'"),
        (of_classifier(record={"validation": {"labeled": "many"}}), "the entry 'labeled'"),
        (of_classifier(record={"validation": {"how": 3}}), "the entry 'how'"),
        (of_classifier(record={"outcome": {}}), "the entry 'outcome'"),
        (edit_outcome(chance="0.1"), "the entry 'outcome'"),
        (edit_outcome(held_out={"accuracy": 1.0}), "the entry 'outcome'"),
        (edit_outcome(class_sizes={"one": "three"}), "the entry 'class_sizes'"),
        (edit_outcome(estimate={"sizes": {}}), "the entry 'estimate'"),
        (set_state(temperature_=-1.0), "temperature is -1.0"),
        (set_state(temperature_=None), "temperature is None"),
        (set_state(class_names_=["one"]), "1 class names for 10 columns"),
        (set_state(C_=[1.0]), "C_ is out of range"),
        (of_classifier(rejection={"kind": "score"}), "rejection threshold"),
        (of_classifier(rejection={"kind": "mood", "reference": [0.5]}), "rejection threshold"),
        (of_classifier(rejection={"kind": "score", "reference": [0.6, 0.5]}), "rejection threshold"),
        (of_classifier(rejection={"kind": "score", "reference": [0.5], "caught": 2}), "rejection threshold"),
        (of_classifier(extra=1), "missing or unknown entries: extra"),
        (lambda card, _: card["classifier"].pop("temperature"), "missing or unknown entries: temperature"),
        (set_encoder(dim=7), "vectors of width 7"),
        (set_encoder(dim=0), "Expected the name, fingerprint"),
        (set_encoder(logit_scale=-5.0), "Expected the name, fingerprint"),
        (set_encoder(logit_scale=0), "Expected the name, fingerprint"),
        (set_encoder(name=3), "Expected the name, fingerprint"),
        (set_encoder(fingerprint="f" * 64), "another encoder than its method"),
        (lambda card, _: card.update(method="linear_prob"), "did you mean 'linear_probe'"),
        (lambda card, _: card["parameters"].update(no_such=1), "no_such"),
        (lambda card, _: card["parameters"].update(C=-1.0), "expected"),
        (lambda card, _: card["state"].update(fit={"kind": "plain", "value": 1}), "'fit' is not understood"),
        (lambda card, _: card["state"].update(classes_={"kind": "code"}), "'classes_' is not understood"),
        (lambda card, _: card["state"].update(other_={"kind": "tensor"}), "weights lack 'other_'"),
        (lambda card, _: card["state"].pop("coef_"), "'coef_', which the card does not name"),
        (lambda card, _: card["state"].pop("diagnosis_"), "diagnosis"),
        (lambda card, _: card["state"].pop("encoder_"), "encoder of its training vectors"),
        (of_classifier(validated_on=["0" * 16]), "validation images are not among its images"),
        (lambda card, _: card["state"]["n_features_in_"].update(value=3), "encoder does not make vectors"),
        (lambda _, tensors: tensors["coef_"].__setitem__((0, 0), np.nan), "'coef_' hold NaN"),
        (lambda _, tensors: tensors.update(coef_=tensors["coef_"][:, 1:].copy()), "do not fit each other"),
        (lambda _, tensors: tensors.update(coef_=tensors["coef_"][1:].copy()), "do not fit each other|scores of shape"),
        (lambda _, tensors: tensors.update(classes_=np.zeros(10, int)), "a class twice"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(
    edit: Callable, words: str, version: int, classifiers: dict, altered: Callable[..., Path]
) -> None:
    folder, model = classifiers["linear_probe"]
    with pytest.raises(InputError, match=words):
        ma.load(altered(folder, edit, version=version), encoder=model.encoder)


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda card, _: [], "Expected a card of format"),
        (lambda card, _: card | {"format": "modalign-model/3"}, r"reads up to 2; update modalign"),
        (lambda card, _: card | {"format": "modalign-model/0"}, "Expected a card of format"),
        (lambda card, _: card | {"format": "modalign-model/1"}, "missing or unknown entries: digest"),
        (lambda card, _: {k: v for k, v in card.items() if k != "state"}, "missing or unknown entries: state"),
        (lambda card, _: card | {"execute": "rm"}, "missing or unknown entries: execute"),
        (lambda card, _: card | {"state": []}, "wrong type list"),
        (lambda card, _: card | {"weights": "../weights.safetensors"}, "outside its folder"),
        (lambda card, names: card | {"classifier": card["classifier"] | {"class_names": names}}, "match its digest"),
    ],
)
def test_a_wrong_card_is_one_clear_sentence(edit: Callable, words: str, classifiers: dict, tmp_path: Path) -> None:
    folder, _ = classifiers["linear_probe"]
    card = json.loads((folder / FORMAT.file).read_text())
    (tmp_path / FORMAT.file).write_text(json.dumps(edit(copy.deepcopy(card), [str(k) for k in range(1, 11)])))
    with pytest.raises(InputError, match=words):
        load_model(tmp_path)


@pytest.mark.parametrize("name", ["linear_probe", "coop"])
def test_a_model_of_the_first_format_is_read(name: str, classifiers: dict, altered: Callable[..., Path]) -> None:
    folder, model = classifiers[name]

    def older(card: dict, _: dict) -> None:
        card["state"].pop("logit_scale_", None)
        card["classifier"]["encoder"]["name"] = "/somewhere/else"

    again = ma.load(altered(folder, older, version=1), encoder=model.encoder)
    digits = load_digits().select(range(60, 80))
    np.testing.assert_array_equal(again.predict(digits).probabilities, model.predict(digits).probabilities)


def test_a_method_that_was_saved_without_a_temperature_has_none(
    models: dict[str, Path], altered: Callable[..., Path]
) -> None:
    method, _ = load_model(altered(models["cmm"], lambda card, _: card["state"].pop("temperature_"), version=1))
    X = np.random.default_rng(0).normal(size=(3, method.n_features_in_))
    np.testing.assert_allclose(method.predict_proba(X).sum(1), 1, rtol=1e-5)


def test_the_name_of_the_encoder_is_for_people(
    classifiers: dict, altered: Callable[..., Path], no_network: list
) -> None:
    folder, model = classifiers["linear_probe"]
    renamed = altered(folder, set_encoder(name="some-stranger/clip"), sealed=False)
    with pytest.raises(ModalignError, match=r"'some-stranger/clip' .* on this machine, .* give encoder="):
        ma.load(renamed)
    assert ma.load(renamed, encoder="tiny").class_names == model.class_names
    with pytest.raises(EncoderMismatchError):
        ma.load(renamed, encoder="tiny-vision")


def test_what_could_not_be_loaded_is_not_saved(classifiers: dict, tmp_path: Path) -> None:
    model = copy.copy(classifiers["linear_probe"][1])
    for name, value in (("class_names", ("a", "b")), ("temperature", 0.0), ("crops", -1)):
        with pytest.raises(InputError):
            replace(model, **{name: value}).save(tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_classes_are_renamed_by_loading_and_saving(classifiers: dict, tmp_path: Path) -> None:
    folder, _ = classifiers["linear_probe"]
    model = ma.load(folder, encoder="tiny")
    model.class_names = tuple("abcdefghij")
    assert ma.load(model.save(tmp_path / "renamed"), encoder="tiny").class_names == tuple("abcdefghij")
