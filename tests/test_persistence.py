"""Saving: what comes back predicts the same, what is damaged is refused in a sentence, nothing is half-written."""

from __future__ import annotations

import contextlib
import json
import os
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modalign.core.errors import EncoderMismatchError, InputError, UnknownNameError
from modalign.core.features import EncoderSpec, Features
from modalign.methods import METHODS, method_class
from modalign.model.persistence import load_model, save_model
from modalign.model.persistence.models import FORMAT
from modalign.model.persistence.state import encode_parameters


def problem(seed: int = 0, n: int = 60, d: int = 12, classes: int = 3):
    rng = np.random.default_rng(seed)
    centers = rng.normal(size=(classes, d))
    y = np.arange(n) % classes
    X = (centers[y] + 0.3 * rng.normal(size=(n, d))).astype(np.float32)
    text = (centers + 0.2 * rng.normal(size=centers.shape)).astype(np.float32)
    return X, y, text


def fitted(name: str = "zero_shot", labels: np.ndarray | None = None):
    X, y, text = problem()
    cls = method_class(name)
    quick = {"steps": 30} if "steps" in cls().get_params() else {}
    method = cls(**quick)
    needs = {"clip_features": X} if cls.needs_clip_features else {}
    return method.fit(
        X,
        y if labels is None else labels[y],
        text=text,
        classes=labels,
        validation=(X[:9], y[:9]) if labels is None else None,
        **needs,
    ), X


@pytest.mark.parametrize("name", METHODS)
def test_what_comes_back_is_the_same_method(name: str, tmp_path: Path) -> None:
    method, X = fitted(name)
    again, classifier = load_model(save_model(tmp_path / "model", method))
    assert classifier is None
    assert type(again) is type(method)
    assert again.get_params() == method.get_params()
    np.testing.assert_array_equal(again.scores(X), method.scores(X))
    np.testing.assert_array_equal(again.predict(X), method.predict(X))
    assert json.dumps(again.diagnosis_) == json.dumps(load_model(tmp_path / "model")[0].diagnosis_)


def test_an_infinite_hyperparameter_survives(tmp_path: Path) -> None:
    X, _, text = problem()
    method = method_class("gpua")(rho=float("inf"), steps=2, marginals=[0.2, 0.3, 0.5]).fit(X, text=text)
    folder = save_model(tmp_path / "model", method)
    again, _ = load_model(folder)
    assert again.get_params() == method.get_params()
    assert "Infinity" not in (folder / FORMAT.file).read_text()


def test_labels_that_are_words_survive(tmp_path: Path) -> None:
    labels = np.array(["ä", "日本", "b c"])
    method, X = fitted(labels=labels)
    again, _ = load_model(save_model(tmp_path / "model", method))
    assert again.predict(X).tolist() == method.predict(X).tolist()
    assert again.class_names_ == labels.tolist()
    y = labels[problem()[1]]
    assert again.score(X, y) == method.score(X, y) > 0.9


def test_two_files_and_no_code_in_either(tmp_path: Path) -> None:
    folder = save_model(tmp_path / "model", fitted()[0])
    names = sorted(p.suffix for p in folder.iterdir())
    assert names == [".json", ".safetensors"]


def test_saving_again_replaces_and_leaves_no_litter(tmp_path: Path) -> None:
    method, X = fitted()
    folder = save_model(tmp_path / "model", method)
    other = method_class("zero_shot")().fit(-X, np.arange(60) % 3)
    save_model(folder, other)
    assert len(list(folder.iterdir())) == 2
    np.testing.assert_array_equal(load_model(folder)[0].scores(X), other.scores(X))


def test_a_death_between_weights_and_card_leaves_the_old_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    method, X = fitted()
    folder = save_model(tmp_path / "model", method)
    replace = os.replace

    def dies_at_the_card(source: Path, target: Path) -> None:
        if Path(target).name == FORMAT.file:
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(os, "replace", dies_at_the_card)
    with pytest.raises(KeyboardInterrupt):
        save_model(folder, method_class("zero_shot")().fit(-X, np.arange(60) % 3))
    monkeypatch.undo()
    np.testing.assert_array_equal(load_model(folder)[0].scores(X), method.scores(X))
    assert not list(folder.glob("*.tmp"))


def test_a_folder_with_other_files_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(InputError, match="holds other files"):
        save_model(tmp_path, fitted()[0])
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_an_unfitted_method_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="call fit first"):
        save_model(tmp_path / "model", method_class("zero_shot")())
    assert not (tmp_path / "model").exists()


def test_features_of_another_encoder_are_refused(tmp_path: Path) -> None:
    X, y, _ = problem()
    spec = EncoderSpec("a", "f" * 64, X.shape[1])
    method = method_class("zero_shot")().fit(Features(X, labels=y, spec=spec))
    again, _ = load_model(save_model(tmp_path / "model", method))
    again.predict(Features(X, spec=EncoderSpec("renamed", "f" * 64, X.shape[1])))
    with pytest.raises(EncoderMismatchError, match="Expected features of encoder 'a'"):
        again.predict(Features(X, spec=EncoderSpec("a", "0" * 64, X.shape[1])))


def test_a_misspelt_folder_gets_the_nearest_model(tmp_path: Path) -> None:
    save_model(tmp_path / "my-model", fitted()[0])
    with pytest.raises(UnknownNameError, match="did you mean 'my-model'"):
        load_model(tmp_path / "my-modle")


def test_damaged_weights_are_refused_by_their_hash(tmp_path: Path) -> None:
    folder = save_model(tmp_path / "model", fitted()[0])
    weights = next(folder.glob("weights-*"))
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(bytes(data))
    with pytest.raises(InputError, match="do not match their hash"):
        load_model(folder)
    weights.unlink()
    with pytest.raises(InputError, match="Expected the weights of a model"):
        load_model(folder)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(position=st.integers(0, 10**6), replacement=st.binary(min_size=0, max_size=6))
def test_no_card_makes_loading_do_anything_but_load_or_refuse(
    position: int, replacement: bytes, tmp_path: Path
) -> None:
    folder = save_model(tmp_path / "model", fitted()[0])
    data = (folder / FORMAT.file).read_bytes()
    at = position % len(data)
    (folder / FORMAT.file).write_bytes(data[:at] + replacement + data[at + len(replacement) + 1 :])
    with contextlib.suppress(InputError):
        load_model(folder)


def test_a_path_among_the_hyper_parameters_keeps_its_owner_to_itself(tmp_path: Path) -> None:
    method, _ = fitted()
    method.aggregate = "/home/alice/secret/file.json"
    assert encode_parameters(method)["aggregate"] == "file.json"


def test_a_model_of_a_later_library_is_read_with_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    method, X = fitted()
    for theirs, newer in (("0.1.0", False), ("0.0.9", False), ("0.1.0+local", False), ("0.10.0", True), ("9", True)):
        monkeypatch.setattr("modalign.model.persistence.models.versions", lambda theirs=theirs: {"modalign": theirs})
        folder = save_model(tmp_path / "model", method)
        monkeypatch.setattr("modalign.model.persistence.models.versions", lambda: {"modalign": "0.1.0"})
        with pytest.warns(UserWarning, match=f"saved by modalign {theirs}") if newer else nullcontext():
            np.testing.assert_array_equal(load_model(folder)[0].scores(X), method.scores(X))


def as_first_saved(folder: Path, **parameters: object) -> Path:
    """The model with a card of the first format, and hyper-parameters that methods had then."""
    card = json.loads((folder / FORMAT.file).read_text())
    card["parameters"] |= parameters
    del card["digest"]
    (folder / FORMAT.file).write_text(json.dumps(card | {"format": "modalign-model/1"}))
    return folder


def test_hyper_parameters_that_are_no_more_do_not_keep_a_model_from_loading(tmp_path: Path) -> None:
    method, X = fitted("cmm")
    again, _ = load_model(as_first_saved(save_model(tmp_path / "model", method), checkpoints=24))
    np.testing.assert_array_equal(again.scores(X), method.scores(X))
    save_model(tmp_path / "again", again)
    with pytest.raises(InputError, match="Unknown hyper-parameter"):
        load_model(as_first_saved(save_model(tmp_path / "other", method), chekpoints=24))


def test_a_model_whose_method_computed_other_scores_is_refused(tmp_path: Path) -> None:
    folder = as_first_saved(save_model(tmp_path / "model", fitted("transclip")[0]))
    with pytest.raises(InputError, match=r"earlier version of modalign, whose 'transclip'.* fit it again\.$"):
        load_model(folder)


def test_a_planted_link_is_replaced_and_not_written_through(tmp_path: Path) -> None:
    method, X = fitted()
    folder = save_model(tmp_path / "model", method)
    weights = next(folder.glob("weights-*")).name
    victims = [tmp_path / "victim", tmp_path / "another"]
    for victim, name in zip(victims, (FORMAT.file, weights), strict=True):
        victim.write_bytes(b"precious")
        (folder / name).unlink()
        (folder / name).symlink_to(victim)
    save_model(folder, method)
    assert [victim.read_bytes() for victim in victims] == [b"precious"] * 2
    assert not any(path.is_symlink() for path in folder.iterdir())
    np.testing.assert_array_equal(load_model(folder)[0].scores(X), method.scores(X))


def test_a_path_that_no_folder_can_have_is_one_sentence() -> None:
    with pytest.raises(InputError, match=r"Expected a model folder, .* cannot be read"):
        load_model("n" * 300)
