"""The contract of tower methods, on the smallest one there is: a context of learnable words, as CoOp has it."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

import modalign as ma
from modalign.core.errors import EncoderMismatchError, InputError
from modalign.data.digits import DIGIT_TEMPLATES, load_digits
from modalign.data.items import Items
from modalign.methods import OTHER_METHODS
from modalign.methods.contract.tower import Learner, TowerMethod, Towers, cosine_logits
from modalign.tune.prompts import Prompts


class Words(Learner):
    def __init__(self, towers: Towers, length: int, generator: torch.Generator) -> None:
        super().__init__(towers)
        self.prompts = Prompts(length, towers.text.width, generator=generator)
        self.sentences = towers.text.tokenize([f"{name}." for name in towers.class_names], slots=length)

    def classes(self) -> torch.Tensor:
        return self.towers.text(self.sentences, self.prompts.prompts()).pooled[0]

    def scores(self, pixels: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
        return cosine_logits(self.towers.vision(pixels).pooled[0], classes, self.towers.logit_scale)


class Context(TowerMethod):
    """Learnable words before the class name.

    Parameters
    ----------
    length : how many.
    """

    title = "Context"
    ablations: ClassVar[dict[str, dict[str, Any]]] = {}

    def __init__(
        self,
        *,
        length: int = 4,
        epochs: int = 3,
        batch_size: int = 16,
        learning_rate: float = 0.02,
        augmentation: str | list = "center",
        training: dict | None = None,
        random_state: int | None = None,
    ) -> None:
        self.length = length
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.augmentation = augmentation
        self.training = training
        self.random_state = random_state

    def _learner(self, towers: Towers, generator: torch.Generator) -> Words:
        return Words(towers, self.length, generator)


@pytest.fixture(scope="module")
def digits() -> Items:
    return load_digits().select(np.arange(80))


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """``Context`` is known by name here, so that it can be saved and loaded."""
    monkeypatch.setattr(OTHER_METHODS, "registered", {})
    ma.register_method("context", Context)


def test_it_learns_and_the_encoder_is_not_modified(encoder, digits: Items, text) -> None:
    before = copy.deepcopy(encoder.model.state_dict())
    method = Context(random_state=0, epochs=4).fit(digits, text=text, encoder=encoder, validation=digits)
    first = Context(random_state=0, epochs=1, learning_rate=0.0, training={"warmup": 0})
    first.fit(digits, text=text, encoder=encoder)
    assert method.diagnosis_["loss"] < first.diagnosis_["loss"]
    assert method.diagnosis_["trainable"] == 4 * encoder.model.config.text_config.hidden_size
    for name, value in encoder.model.state_dict().items():
        assert torch.equal(value, before[name])
    scored = method.score_images(digits, encoder)
    assert scored.logits.shape == (80, 10)
    assert method.diagnosis_["validation_accuracy"] == (scored.logits.argmax(axis=1) == digits.labels).mean()


def test_saved_and_loaded_it_gives_the_same_answers(encoder, digits: Items, tmp_path: Path) -> None:
    model = ma.adapt(digits, encoder=encoder, method=Context(epochs=1), shots=3, templates=DIGIT_TEMPLATES)
    folder = model.save(tmp_path / "model")
    again = ma.load(folder, encoder=encoder)
    np.testing.assert_array_equal(again.predict(digits).probabilities, model.predict(digits).probabilities)
    assert again.rejection == model.rejection
    assert sum(file.stat().st_size for file in folder.iterdir()) < 500_000
    assert again.evaluate(digits).accuracy.n == 80 - len(model.fitted_on)
    with pytest.raises(EncoderMismatchError):
        ma.load(folder, encoder="tiny-vision")


def test_a_finished_training_is_taken_from_its_checkpoint(encoder, digits: Items, text, tmp_path: Path) -> None:
    settings = {"text": text, "encoder": encoder, "checkpoint": tmp_path / "state"}
    once = Context(epochs=1, random_state=3).fit(digits, **settings)
    twice = Context(epochs=1, random_state=3).fit(digits, **settings)
    assert all(torch.equal(once.tensors_[name], twice.tensors_[name]) for name in once.tensors_)
    with pytest.raises(InputError):
        Context(epochs=1, random_state=4).fit(digits, **settings)
    with pytest.raises(InputError):
        Context(epochs=1, random_state=3, length=2).fit(digits, **settings)


def test_an_image_that_cannot_be_decoded_is_left_out(encoder, digits: Items, text, tmp_path: Path) -> None:
    for i in range(12):
        folder = tmp_path / digits.class_names[digits.labels[i]]
        folder.mkdir(exist_ok=True)
        digits.open(i).save(folder / f"{i}.png")
    (tmp_path / digits.class_names[digits.labels[3]] / "3.png").write_bytes(b"nothing")
    items = ma.load_items(tmp_path, classes=list(digits.class_names))
    method = Context(epochs=1).fit(items, text=text, encoder=encoder)
    assert method.diagnosis_["left_out"] == 1
    scored = method.score_images(items, encoder)
    assert len(scored.ids) == 11
    assert [q.id for q in scored.quarantined] == [items.ids[i] for i in range(12) if items.ids[i].endswith("/3.png")]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"labels": np.full(80, -1)}, "labeled images, got none"),
        ({"labels": np.full(80, 10)}, "labels in 0…9"),
        ({"labels": np.zeros(3, dtype=int)}, "one whole number per image"),
        ({"encoder": "tiny-vision"}, "text tower"),
        ({"method": {"length": 90}}, "prompt tokens"),
        ({"method": {"training": {"epoch": 3}}}, "entries of a recipe"),
        ({"method": {"training": {"optimizer": "lion"}}}, "optimizer to be one of"),
        ({"method": {"augmentation": "blur"}}, "augmentation"),
    ],
)
def test_wrong_inputs_are_refused_before_any_step(
    change: dict, sentence: str, encoder, digits, text, monkeypatch
) -> None:
    monkeypatch.setattr("modalign.methods.contract.tower.train", lambda *_, **__: pytest.fail("training began"))
    settings = {"labels": None, "text": text, "encoder": encoder} | {k: v for k, v in change.items() if k != "method"}
    if isinstance(settings["encoder"], str):
        settings["encoder"] = ma.load_encoder(settings["encoder"], cache=False)
    with pytest.raises(InputError, match=sentence):
        Context(**change.get("method", {})).fit(digits, **settings)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"clip_encoder": "tiny"}, "neither clip_encoder"),
        ({"encoder": "tiny-vision"}, "one CLIP encoder"),
        ({"encoder": "tiny-vision+tiny"}, "one CLIP encoder"),
        ({"method": "cmm", "checkpoint": "somewhere"}, "without checkpoints"),
    ],
)
def test_what_does_not_go_together_is_refused(change: dict, sentence: str, digits: Items) -> None:
    with pytest.raises(InputError, match=sentence):
        ma.adapt(digits, **{"method": Context()} | change)
