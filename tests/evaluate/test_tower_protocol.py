"""Inside an encoder as outside: one test, no label, no name, no image lost silently."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import modalign as ma
from modalign.core.scored import Scored
from modalign.data.digits import DIGIT_TEMPLATES, load_digits
from modalign.data.splits.drawing import few_shot
from modalign.data.text.descriptions import sentences
from modalign.evaluate.runs import Run
from modalign.evaluate.tower_runs import nameless, run_in_tower


class Watched:
    """Predicts class 0 for every image that can be decoded, and records its inputs."""

    diagnosis_ = ()

    def fit(self, items, *, text, encoder):
        self.train = items
        return self

    def score_images(self, items, encoder) -> Scored:
        self.test = items
        seen = len(items) - 1  # the last one cannot be decoded
        return Scored(items.ids[:seen], items.labels[:seen], np.tile(np.eye(10)[:1], (seen, 1)))

    def get_params(self, deep: bool = True) -> dict[str, object]:
        return {}


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory):
    digits = load_digits().select(np.arange(200))
    encoder = ma.load_encoder("tiny", cache=tmp_path_factory.mktemp("cache"))
    return digits, encoder.embed_texts(sentences(digits.class_names, DIGIT_TEMPLATES), digits.class_names), encoder


@pytest.mark.parametrize("shots", [0, 3])
def test_labels_and_names_of_the_test_stay_hidden(given, shots: int, tmp_path: Path) -> None:
    digits, text, encoder = given
    split = few_shot(digits, shots, 1, test=0.5)
    method = Watched()
    run = run_in_tower("watched", method, digits, text, encoder, split, 1, shots=shots)
    assert (method.test.labels == -1).all()
    assert not set(method.test.ids) & set(digits.ids)
    assert (method.train.labels >= 0).all() == bool(shots)
    assert len(method.train) == (30 if shots else 200 - len(split.test))
    right = digits.labels[split.test] == 0
    right[-1] = False
    np.testing.assert_array_equal(run.correct, right)
    assert run.asked == 1
    again = Run.from_json(run.to_json())
    assert again == replace(run, correct=again.correct)


def test_nameless_keeps_the_pictures(given) -> None:
    digits, _, _ = given
    hidden = nameless(digits.select([5, 3]))
    assert hidden.read(0) == digits.read(5)
    assert hidden.ids == ("000000", "000001")


def test_a_comparison_runs_methods_inside_the_encoder_on_images(given, tmp_path: Path) -> None:
    digits, _, encoder = given
    record = tmp_path / "runs.jsonl"
    options = {
        "encoder": encoder, "methods": ["zero_shot", "vpt"], "shots": [0, 2], "seeds": 1, "ablations": False,
        "templates": DIGIT_TEMPLATES, "hyperparameters": {"vpt": {"epochs": 1}}, "record": record,
    }  # fmt: skip
    result = ma.compare(digits, **options)
    assert {(run.method, run.shots, run.n_train, run.n_unlabeled) for run in result.runs} == {
        ("zero_shot", 0, 0, len(digits) - result.n_test), ("vpt", 2, 20, 0),
    }  # fmt: skip
    assert not result.left_out
    assert [entry.method for entry in result.diagnostics] == ["zero_shot"]
    lines = record.read_bytes()
    again = ma.compare(digits, **options)
    assert record.read_bytes() == lines, "no run is repeated"
    assert again.runs == result.runs
    vectors = ma.compare(encoder.embed_images(digits), **(options | {"record": None}))
    assert [(entry.method, entry.reason) for entry in vectors.left_out] == [
        ("vpt", "learns inside an encoder and needs images, these are vectors")
    ]
